"""Ours beside TensorFlow Probability and PyTorch: equal models, equal batches, in turns.

    python benchmarks/peers.py --torch_python=ENVIRONMENT/bin/python
    python benchmarks/peers.py --peers=tfp --calls=step

- torch: the 12-layer `binarized_mnist/gated_pixel_vae_no_upsampling` beside the same model in PyTorch (torch_peer.py:
  cropped kernels, channels last, fused Adam; with torch.compile, and in bfloat16). Both start with the same weights and
  must make the same of an image. A training step of ours is the trainer's: Adam, the gradients' norms, the weights'
  average and the input too. A sample has a pass a pixel (a few of them), or the best cache of each.
- tfp: PixelCNN++ beside `tfp.distributions.PixelCNN` of the same blocks, filters, resolutions, mixtures and dropout.
  Theirs has no cache; a sample takes a minute.

Each has a process of its own, all are asked for the same call in turns, and what is printed is the shortest time on the
clock and the median of the processor's, of all threads. PyTorch is installed where you like, say by
`python -m venv DIR` and `DIR/bin/pip install torch numpy`.
"""

import pathlib
import statistics
import sys
import tempfile
from collections.abc import Callable

import numpy as np
import turns
from absl import app, flags

from pixelvae_tf.config import Config, ModelConfig, PixelCNNPPConfig

_PEERS = flags.DEFINE_multi_enum("peers", ["torch", "tfp"], ["torch", "tfp"], "What is compared with.")
_TORCH_PYTHON = flags.DEFINE_string("torch_python", "", "Python of an environment that has PyTorch and NumPy.")
_BATCH = flags.DEFINE_integer("batch", 100, "Images of a step and of a forward pass of the 12-layer model.", 1)
_SAMPLES = flags.DEFINE_integer("samples", 16, "Images of a sample, and of everything of PixelCNN++.", 1)
_CALLS = flags.DEFINE_string("calls", "", "Time calls whose name has this text alone; all if it is empty.")
_REPEATS = flags.DEFINE_integer("repeats", 7, "Timed calls of each.", 1)
_SECONDS = flags.DEFINE_integer("seconds", 60, "No further calls of a kind after so many seconds.", 1)
_WORKER = flags.DEFINE_enum("worker", None, ["float32", "mixed_bfloat16", "pixel_cnn_pp", "tfp"], "Be such a process.")
MODEL = "binarized_mnist/gated_pixel_vae_no_upsampling"
ORACLE_PIXELS = 8
CHECKED = 8  # images that both models are checked on

# 2 blocks a resolution, 3 resolutions, 32 filters; a mixture of 5.
PP = PixelCNNPPConfig(num_blocks=2, num_scales=3, filters=32, dropout=0.5)
PP_MIXTURES, PP_SHAPE = 5, (28, 28, 1)


def pixel_cnn_pp(image_shape: tuple[int, int, int]) -> ModelConfig:
    """Our PixelCNN++ for images (H, W, C) of 256 values."""
    return ModelConfig(image_shape, 256, [], PP, likelihood="logistic_mixture", num_mixtures=PP_MIXTURES)


def tfp_pixel_cnn(image_shape: tuple[int, int, int]):
    """Theirs, of the same blocks, filters, resolutions, mixtures and dropout."""
    import tensorflow_probability as tfp

    return tfp.distributions.PixelCNN(
        image_shape=image_shape,
        num_resnet=PP.num_blocks,
        num_hierarchies=PP.num_scales,
        num_filters=PP.filters,
        num_logistic_mix=PP_MIXTURES,
        dropout_p=PP.dropout,
        use_data_init=False,
    )


def trainer_step(config: Config, batch: int) -> tuple[object, Callable[[], object]]:
    """A model of ours and its whole training step on noise."""
    import tensorflow as tf

    from pixelvae_tf import data
    from pixelvae_tf.train import steps, trainer

    config.train.batch_size = batch
    strategy = trainer.make_strategy("one_device")
    with strategy.scope():
        state = steps.TrainState(config)
    shape, num_values = config.model.image_shape, config.model.num_values
    noise = np.random.default_rng(0).integers(0, num_values, (10 * batch, *shape), np.uint8)
    images = data.ImageSet(noise, None, "noise", num_values, "none")
    batches = strategy.distribute_datasets_from_function(
        lambda context: data.training_batches(images, batch, 0, input_context=context)
    )
    loop, iterator = steps.make_training_loop(strategy, state, config), iter(batches)
    return state.model, lambda: loop(iterator, tf.constant(1)).loss_nats.numpy()


def serve_ours(dtype: str) -> None:
    """The calls of the 12-layer model."""
    import tensorflow as tf

    from pixelvae_tf import noise, presets, pretrained, sampling, xla

    config = presets.get(MODEL)
    config.train.dtype = dtype
    model, step = trainer_step(config, _BATCH.value)
    model.set_weights(pretrained.load(MODEL)[0].get_weights())  # how often "rows" repeats depends on them
    rng = np.random.default_rng(0)
    images = tf.constant(rng.integers(0, 2, (_BATCH.value, *config.model.image_shape), np.uint8))
    z = tf.constant(rng.normal(size=(_BATCH.value, *config.model.levels[0].shape)), tf.float32)
    seeds = tf.range(_SAMPLES.value, dtype=tf.int64)

    def log_prob(z, images):
        return model.likelihood([z]).log_prob(images)

    # As PyTorch's: the latents and the noise are there, and what is timed is the passes.
    latents = model.sample_prior(seeds)
    numbers = model.likelihood(latents).noise(seeds, noise.stream(noise.Kind.PIXELS))

    def few_pixels(latents, numbers):
        autoregression = sampling.Autoregression(model.network, model.site, model.context(latents))
        return sampling.oracle(autoregression, numbers, num_locations=ORACLE_PIXELS)

    passes, compiled_pass = tf.function(log_prob), xla.compiled(log_prob)
    sample, compiled_sample, oracle = tf.function(model.sample), xla.compiled(model.sample), tf.function(few_pixels)
    calls = {
        f"training step of {_BATCH.value}": step,
        f"forward pass of {_BATCH.value}": lambda: passes(z, images).numpy(),
        f"forward pass of {_BATCH.value}, XLA": lambda: compiled_pass(z, images).numpy(),
    }
    if dtype == "float32":
        calls[f"{ORACLE_PIXELS} pixels of {_SAMPLES.value}, a pass each"] = lambda: oracle(latents, numbers).numpy()
        calls[f"sample of {_SAMPLES.value}"] = lambda: sample(seeds).numpy()
        calls[f"sample of {_SAMPLES.value}, XLA"] = lambda: compiled_sample(seeds).numpy()
    turns.serve(calls, weights=model.count_params(), version=f"TensorFlow {tf.__version__}")


def serve_pixel_cnn_pp() -> None:
    """The calls of our PixelCNN++."""
    import tensorflow as tf

    model, step = trainer_step(Config(model=pixel_cnn_pp(PP_SHAPE)), _SAMPLES.value)
    seeds, sample = tf.range(_SAMPLES.value, dtype=tf.int64), tf.function(model.sample)
    calls = {f"training step of {_SAMPLES.value}": step, f"sample of {_SAMPLES.value}": lambda: sample(seeds).numpy()}
    turns.serve(calls, weights=model.count_params(), version=f"TensorFlow {tf.__version__}")


def serve_tfp() -> None:
    """The calls of TFP's."""
    import tensorflow as tf
    import tensorflow_probability as tfp

    model = tfp_pixel_cnn(PP_SHAPE)
    variables = list(model.trainable_variables)
    images = tf.constant(np.random.default_rng(0).integers(0, 256, (_SAMPLES.value, *PP_SHAPE)), tf.float32)
    moments = [[tf.Variable(tf.zeros_like(variable)) for variable in variables] for _ in range(2)]

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = -tf.reduce_mean(model.log_prob(images, training=True))
        for variable, gradient, m, v in zip(variables, tape.gradient(loss, variables), *moments, strict=True):
            if gradient is not None:
                tf.raw_ops.ResourceApplyAdam(
                    var=variable.handle,
                    m=m.handle,
                    v=v.handle,
                    beta1_power=0.9,
                    beta2_power=0.999,
                    lr=1e-4,
                    beta1=0.9,
                    beta2=0.999,
                    epsilon=1e-7,
                    grad=gradient,
                )
        return loss

    sample = tf.function(lambda: model.sample(_SAMPLES.value, seed=1))
    calls = {
        f"training step of {_SAMPLES.value}": lambda: step().numpy(),
        f"sample of {_SAMPLES.value}": lambda: sample().numpy(),
    }
    weights = sum(int(tf.size(variable)) for variable in variables)
    turns.serve(calls, weights=weights, version=f"TensorFlow Probability {tfp.__version__}")


def write_model(path: pathlib.Path) -> None:
    """Leaves in an .npz our weights and what they make of a few images."""
    import tensorflow as tf

    from pixelvae_tf import pretrained, runs

    model = pretrained.load(MODEL)[0]
    images = tf.constant(np.random.default_rng(0).integers(0, 2, (CHECKED, *model.config.image_shape), np.uint8))
    mean = model.posterior(images)[0].mean()
    log_prob = model.likelihood([mean]).log_prob(images)
    weights = {name: variable.numpy() for name, variable in runs.weights_of(model).items()}
    np.savez(path, **weights, images=images, z=mean, mean=mean, log_prob=log_prob)


def start_ours(kind: str) -> turns.Worker:
    """A process that serves one of ours, or TFP's."""
    given = [f"--batch={_BATCH.value}", f"--samples={_SAMPLES.value}"]
    return turns.Worker([sys.executable, __file__, f"--worker={kind}", *given], TF_CPP_MIN_LOG_LEVEL="3")


def report(workers: dict[str, turns.Worker]) -> None:
    """Prints a table of all calls of the workers, those that differ in ", XLA" alone together."""
    for name, worker in workers.items():
        print(f"{name}: {worker.facts['weights']:,} weights, {worker.facts['version']}")
    calls = dict.fromkeys(name for worker in workers.values() for name in worker.facts["calls"])
    for call in (call for call in calls if _CALLS.value in call and not call.endswith(", XLA")):
        times = turns.compare(workers, call, _REPEATS.value, _SECONDS.value)
        compiled = turns.compare(workers, f"{call}, XLA", _REPEATS.value, _SECONDS.value)
        times |= {f"{name}, XLA": taken for name, taken in compiled.items()}
        best = min(min(t.wall for t in taken) for name, taken in times.items() if name.startswith("ours"))
        print(f"\n{call:40}{'seconds':>10}{'CPU s':>10}{'of our best':>13}")
        for name, taken in times.items():
            wall, cpu = min(t.wall for t in taken), statistics.median(t.cpu for t in taken)
            print(f"  {name:38}{wall:10.4f}{cpu:10.4f}{wall / best:13.2f}", flush=True)
    for worker in workers.values():
        worker.close()


def main(argv: list[str]) -> None:
    """Serves, or compares."""
    del argv
    if _WORKER.value:
        {"pixel_cnn_pp": serve_pixel_cnn_pp, "tfp": serve_tfp}.get(_WORKER.value, lambda: serve_ours(_WORKER.value))()
        return
    import machine

    print(machine.describe())
    if "torch" in _PEERS.value:
        if not _TORCH_PYTHON.value:
            raise app.UsageError("--torch_python=PATH is required for torch; --peers=tfp leaves it out")
        print(f"\n{MODEL}")
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "model.npz")
            write_model(path)
            script = pathlib.Path(__file__).with_name("torch_peer.py")
            command = [_TORCH_PYTHON.value, str(script), str(path), str(_BATCH.value), str(_SAMPLES.value)]
            report(
                {
                    "ours": start_ours("float32"),
                    "ours, bfloat16": start_ours("mixed_bfloat16"),
                    "PyTorch": turns.Worker(command),
                    "PyTorch, bfloat16": turns.Worker([*command, "--bfloat16"]),
                    "PyTorch, compiled": turns.Worker([*command, "--compile"]),
                    "PyTorch, compiled, bfloat16": turns.Worker([*command, "--compile", "--bfloat16"]),
                }
            )
    if "tfp" in _PEERS.value:
        print(f"\nPixelCNN++ of {PP_SHAPE}")
        report({"ours": start_ours("pixel_cnn_pp"), "tfp.distributions.PixelCNN": start_ours("tfp")})


if __name__ == "__main__":
    app.run(main)
