"""What the measurements of the docs stand on: counted work, kept outcomes, the end of a training."""

import json

import numpy as np
import pytest
import tensorflow as tf
from absl import app
from scripts import ROOT, load_script

from pixelvae_tf import bounds
from pixelvae_tf.config import LevelConfig, MaskedResidualConfig, ModelConfig
from pixelvae_tf.layers.context import ContextProjection
from pixelvae_tf.models import PixelVAE

SCRIPTS = [path for path in sorted((ROOT / "benchmarks").rglob("*.py")) if path.stem != "torch_peer"]  # wants PyTorch


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_every_script_can_be_begun(path):
    """Nobody runs most of them for months: here their imports, flags and constants are seen to be whole."""
    assert load_script(path.relative_to(ROOT)).__doc__


def _flops(function, *shapes):
    work = load_script("benchmarks/roofline.py").work_of(
        tf.function(function).get_concrete_function(*(tf.TensorSpec(shape) for shape in shapes))
    )
    return {operation.kind: operation for operation in work.operations if operation.flops}


def test_the_work_of_a_product_is_counted():
    (product,) = _flops(tf.matmul, (2, 3), (3, 5)).values()
    assert product.flops == 2 * 2 * 3 * 5
    assert product.bytes == 4 * (2 * 3 + 3 * 5 + 2 * 5) and product.output_bytes == 4 * 2 * 5


def test_a_convolutions_gradients_cost_as_much_as_it():
    def gradients(x, kernel):
        with tf.GradientTape() as tape:
            tape.watch([x, kernel])
            y = tf.nn.conv2d(x, kernel, 1, "SAME")
        return tape.gradient(y, [x, kernel])

    counted = _flops(gradients, (2, 8, 8, 3), (5, 5, 3, 4))
    assert {kind: operation.flops for kind, operation in counted.items()} == dict.fromkeys(
        ["Conv2D", "Conv2DBackpropInput", "Conv2DBackpropFilter"], 2 * (2 * 8 * 8 * 4) * (5 * 5 * 3)
    )


def test_outcomes_of_other_options_are_passed_over(tmp_path):
    short_runs = load_script("benchmarks/short_runs.py")
    path = str(tmp_path / "outcomes.jsonl")

    def report(bound):
        return {"bound_nats": bound, "kl_nats": [1.0], "usage_latents_nats": [2.0], "weights": 7}

    for rate, bound in ((1e-3, 10.0), (1e-2, 5.0)):
        outcomes = short_runs.Outcomes(path, 2, rate=rate)
        assert not outcomes.has(0, model="one")
        for seed in (1, 0):
            outcomes.add(seed, {100: report(bound + 2 * seed)}, model="one")
    again = short_runs.Outcomes(path, 2, rate=1e-3)
    assert again.has(1, model="one") and not again.has(1, model="two") and not again.has(2, model="one")
    assert again.bounds(("model",)) == {("one", 100): [10.0, 12.0]}
    assert [line["seed"] for line in short_runs.Outcomes(path, 1, rate=1e-3).lines] == [0]  # further seeds do not count
    assert short_runs.mean_and_error([10.0, 12.0]) == "11 ± 1"  # the deviation is 1.41, over the root of two


@pytest.mark.parametrize(
    ("bounds", "paper", "finished"),
    [
        ([], 80.0, False),
        ([90.0, 79.0], 80.0, True),
        ([90.0, 79.0], None, False),
        ([90.0, 85.0, 84.0, 83.0], 80.0, False),
        ([90.0, *[85.0] * 50], 80.0, True),
        ([90.0, *[85.0] * 50], None, True),
    ],
)
def test_a_row_of_the_table_ends_at_its_number_or_where_it_stands_still(bounds, paper, finished):
    assert load_script("benchmarks/table1.py").is_finished(bounds, paper) == finished


def test_a_mixture_of_distributions_is_one():
    of_each = np.random.default_rng(0).dirichlet(np.ones(7), size=3)  # three models' probabilities of seven images
    mixed = np.exp(-load_script("benchmarks/mixture.py").mix(-np.log(of_each)))
    np.testing.assert_allclose(mixed, of_each.mean(axis=0))
    assert abs(mixed.sum() - 1) < 1e-12  # rounding of seven numbers


def test_only_models_of_the_same_images_are_mixed(tmp_path, capsys):
    exact = "image,bound_nats\n0,3\n1,5\n"
    sampled = "image,bound_nats,importance_weighted_nats\n0,80,3\n1,90,5\n"
    for name, table, files, samples in (("a", exact, 1, 0), ("b", sampled, 1, 50), ("c", exact, 2, 0), ("d", "", 1, 0)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "bounds.csv").write_text(table)
        identity = {"data": "a set", "files": files, "importance_samples": samples}
        report = {"data": f"files {files}", "exact": table is exact, "identity": identity}
        (tmp_path / name / "report.json").write_text(json.dumps(report))
    main = load_script("benchmarks/mixture.py").main
    main(["mixture", str(tmp_path / "a"), str(tmp_path / "b")])
    assert "**4.00 ± 1.00**" in capsys.readouterr().out  # of two models that agree
    with pytest.raises(app.UsageError, match=r"same images. Received: files 1 in .*a, files 2 in .*c"):
        main(["mixture", str(tmp_path / "a"), str(tmp_path / "c")])
    with pytest.raises(app.UsageError, match=r"negative ELBO alone, in .*d"):
        main(["mixture", str(tmp_path / "a"), str(tmp_path / "d")])


@pytest.mark.parametrize("start", ["noise", "ordered", "as it is", "one table", "one for all"])
def test_a_start_is_what_it_is_called(start):
    config = ModelConfig(
        (4, 4, 3),
        8,
        [LevelConfig(dim=2, filters=(4,), upsampling=True)],
        MaskedResidualConfig(num_layers=1, filters=6, first_kernel_size=3, embedding_dim=4),
    )
    images = np.random.default_rng(0).integers(0, 8, (2, 4, 4, 3))
    with load_script("benchmarks/start.py").start_from(start):
        model = PixelVAE(config)
        table = model.network.layers[0].table
        assert table.shape[0] == (1 if start.startswith("one") else 3)
        assert bool((np.diff(table.numpy()[..., 0]) > 0).all()) is (start != "noise")
        gains = [np.abs(part.g).max() for part in model._flatten_layers() if isinstance(part, ContextProjection)]
        assert gains and all((gain > 0) == (start in ("noise", "ordered")) for gain in gains)
        assert np.isfinite(bounds.elbo(model, images).bound_nats).all()
        before = model.encode(images)["z1_mean"].numpy()
        table.assign(-table)
        assert np.array_equal(model.encode(images)["z1_mean"], before) is (start != "one for all")
