"""oneDNN on and off, in turns: the training step, and what a request costs.

    python benchmarks/onednn.py [--model=PRETRAINED] [--isa=AVX2]

Each setting has a process of its own (turns.py). Printed are CPU milliseconds, medians of --repeats calls.
--isa limits the instructions of oneDNN, and of the products that TensorFlow's own kernels take from it, to those of a
processor without AVX-512.
"""

import statistics
import sys
from collections.abc import Callable

import turns
from absl import app, flags

_MODEL = flags.DEFINE_string("model", "binarized_mnist/gated_pixel_vae_no_upsampling", "Weights of the package.")
_ISA = flags.DEFINE_string("isa", "", "ONEDNN_MAX_CPU_ISA.")
_REPEATS = flags.DEFINE_integer("repeats", 9, "Timed calls.", lower_bound=1)
_WORKER = flags.DEFINE_bool("worker", False, "Be one of the processes.")
SETTINGS = {"on": "1", "off": "0"}
REQUESTS, BATCHES = (1, 16, 64), (25, 100)


def make_calls(name: str) -> dict[str, Callable[[], object]]:
    """What is measured, by name."""
    import numpy as np
    import tensorflow as tf

    from pixelvae_tf import bounds, pretrained

    model = pretrained.load(name)[0]
    variables = [variable.value for variable in model.trainable_variables]
    calls = {}

    def images_of(batch: int) -> tf.Tensor:
        shape = (batch, *model.config.image_shape)
        return tf.constant(np.random.default_rng(0).integers(0, model.config.num_values, shape, np.uint8))

    @tf.function(autograph=False)
    def log_prob(latents, images):
        return model.likelihood(latents).log_prob(images)

    @tf.function(autograph=False)
    def step(images, seeds):
        with tf.GradientTape() as tape:
            parts = bounds.elbo(model, images, seeds, dropout_seed=tf.constant([1, 2]))
            loss = tf.reduce_mean(parts.bound_nats)
        for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
            variable.assign_sub(1e-9 * tf.convert_to_tensor(gradient))
        return loss

    for batch in REQUESTS:
        seeds, images = tf.range(batch, dtype=tf.int64), images_of(batch)
        latents = [tf.constant(z) for z in model.sample_prior(seeds)]
        sample = tf.function(model.sample, autograph=False)
        calls[f"log_prob of {batch}"] = lambda latents=latents, images=images: log_prob(latents, images)
        calls[f"sample of {batch}"] = lambda sample=sample, seeds=seeds: sample(seeds)
    for batch in BATCHES:
        seeds, images = tf.range(batch, dtype=tf.int64), images_of(batch)
        calls[f"training step of {batch}"] = lambda images=images, seeds=seeds: step(images, seeds)
    return calls


def main(argv: list[str]) -> None:
    """Serves, or asks in turn and prints the table."""
    if _WORKER.value:
        turns.serve({name: lambda call=call: call().numpy() for name, call in make_calls(_MODEL.value).items()})
        return
    isa = {"ONEDNN_MAX_CPU_ISA": _ISA.value} if _ISA.value else {}
    command = [sys.executable, *argv[:1], f"--model={_MODEL.value}", "--worker"]
    workers = {
        name: turns.Worker(command, TF_ENABLE_ONEDNN_OPTS=value, TF_CPP_MIN_LOG_LEVEL="3", **isa)
        for name, value in SETTINGS.items()
    }
    print(f"{_MODEL.value}, {_ISA.value or 'all instructions'}\n{'CPU ms, oneDNN':24}{'on':>9}{'off':>9}{'on/off':>9}")
    for call in workers["on"].facts["calls"]:
        times = turns.compare(workers, call, _REPEATS.value)
        on, off = (statistics.median(t.cpu for t in times[name]) for name in SETTINGS)
        print(f"{call:24}{on * 1e3:9.1f}{off * 1e3:9.1f}{on / off:9.2f}", flush=True)
    for worker in workers.values():
        worker.close()


if __name__ == "__main__":
    app.run(main)
