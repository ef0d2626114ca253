"""Keras must run on TensorFlow, whatever the environment or keras.json says."""

import functools


class WrongBackend(ImportError):
    """Keras runs on something else; the message says what to set."""


@functools.cache
def check() -> None:
    """Raises a `WrongBackend`, unless Keras runs on TensorFlow. Imports both."""
    try:
        import keras

        backend = keras.config.backend()
    except Exception as error:  # the backend's package is missing, or keras.json is damaged
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        if isinstance(error, ImportError) and "tensorflow" in reason:  # it is missing, or does not fit into memory
            raise WrongBackend(f"TensorFlow must be importable, in enough memory. Received: {reason}") from error
    else:
        if backend == "tensorflow":
            return
        reason = f"the backend {backend}"
    raise WrongBackend(
        "Keras must run on TensorFlow: set KERAS_BACKEND=tensorflow in the environment, and mend or remove keras.json "
        f"in KERAS_HOME or ~/.keras if it is damaged. Received: {reason}"
    )
