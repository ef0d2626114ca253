"""Keras must run on TensorFlow, whatever the environment or keras.json says."""


def _refusal() -> str | None:
    """What is wrong with Keras here; None if it runs on TensorFlow."""
    try:
        import keras

        backend = keras.config.backend()
    except Exception as error:  # the backend's package is missing, or keras.json is damaged
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
    else:
        if backend == "tensorflow":
            return None
        reason = f"the backend {backend}"
    return (
        "Keras must run on TensorFlow: set KERAS_BACKEND=tensorflow in the environment, and mend or remove keras.json "
        f"in KERAS_HOME or ~/.keras if it is damaged. Received: {reason}"
    )


REFUSAL = _refusal()


def check() -> None:
    """Raises an ImportError that says what to set, unless Keras runs on TensorFlow."""
    if REFUSAL is not None:
        raise ImportError(REFUSAL)
