"""Noise: known answers, the same numbers on every path, and numbers that look random."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from pixelvae_tf import noise
from pixelvae_tf.limits import MAX_DRAWS

PIXELS = noise.Kind.PIXELS


def _words(*values):
    return tuple(tf.constant(value, tf.uint32) for value in values)


@pytest.mark.parametrize(
    ("key", "counter", "expected"),
    [
        # Known answers of Random123 1.09, threefry2x32 with 20 rounds.
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_threefry_known_answers(key, counter, expected):
    assert tuple(int(word) for word in noise.threefry(_words(*key), _words(*counter))) == expected


def test_a_seed_is_the_same_noise_in_every_version():
    """What users keep are seeds: of samples, of evaluations, of runs that go on."""
    seeds = tf.constant([0, -1], tf.int64)
    uniform = noise.uniform(seeds, noise.stream(PIXELS, 1, 2), (2,))
    normal = noise.normal(seeds, noise.stream(noise.Kind.POSTERIOR, 0, 3), (2,))
    np.testing.assert_array_equal(uniform, np.float32([[0.5229724, 0.91639084], [0.84749466, 0.3595584]]))
    np.testing.assert_allclose(normal, [[0.80159, -0.8404719], [-1.1304401, 0.8483006]], rtol=1e-6)
    assert noise.derive_seeds(5, tf.range(2)).numpy().tolist() == [-5391605934710474111, -8585771545005363675]
    assert noise.image_seeds(tf.constant([[[[1], [0]]]], tf.uint8)).numpy().tolist() == [7229662915340153571]


SEEDS = tf.constant([0, 1, -1, 2**62, -(2**63)], tf.int64)


NORMAL = 3  # the place of the only numbers that may round, in what `_draw` gives


def _draw(seeds):
    stream = noise.stream(PIXELS, level=1, draw=3)
    return (
        *noise.bits(seeds, stream, 35),
        noise.uniform(seeds, stream, (5, 7)),
        noise.normal(seeds, stream, (5, 7)),
        noise.derive_seeds(9, seeds),
    )


@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "xla"])
def test_graph_and_xla_equal_eager(jit_compile):
    compiled = tf.function(_draw, jit_compile=jit_compile)(SEEDS)
    _assert_same(_draw(SEEDS), compiled)


def _assert_same(first, second):
    """Equal bit for bit, but normals to 1e-6: log and cos may round differently in the last bits."""
    for place, (a, b) in enumerate(zip(first, second, strict=True)):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6 if place == NORMAL else 0)


def test_an_image_does_not_depend_on_its_batch():
    together = _draw(SEEDS)
    for i in range(len(SEEDS)):
        _assert_same([numbers[i : i + 1] for numbers in together], _draw(SEEDS[i : i + 1]))


def test_replicas_draw_the_same():
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    outcome = strategy.run(tf.function(lambda: _draw(SEEDS)))
    replicas = zip(*(strategy.experimental_local_results(values) for values in outcome), strict=True)
    for replica in replicas:
        _assert_same(replica, _draw(SEEDS))


def test_streams_do_not_collide():
    names = [
        int(noise.stream(kind, level, draw))
        for kind in noise.Kind
        for level in (0, 1, noise.MAX_LEVELS - 1)
        for draw in (0, 1, MAX_DRAWS - 1)
    ]
    assert len(set(names)) == len(names)
    assert int(noise.stream(PIXELS, 2, tf.constant(5))) == int(noise.stream(PIXELS, 2, 5))
    with pytest.raises(ValueError, match="level must be"):
        noise.stream(PIXELS, noise.MAX_LEVELS)
    with pytest.raises(ValueError, match="draw must be"):
        noise.stream(PIXELS, 0, MAX_DRAWS)
    with pytest.raises(ValueError, match="draw must be"):
        noise.stream(PIXELS, 0, np.int64(-1))


def _sequences(draw):
    """The same kind of numbers along every axis that a counter has, 20,000 each: {axis: [a, b]}."""
    number = 20_000
    seeds = tf.range(1000, dtype=tf.int64)
    first = noise.stream(PIXELS)
    grid = draw(seeds, first, (21,)).numpy()
    return {
        "sites": draw(tf.constant([7], tf.int64), first, (number,)).numpy().reshape(2, -1),
        "neighbouring sites": np.stack([grid[:, :-1].ravel(), grid[:, 1:].ravel()]),
        "neighbouring seeds": np.stack([grid[:-1].ravel(), grid[1:].ravel()])[:, :number],
        "streams": np.stack(
            [draw(seeds, noise.stream(kind), (20,)).numpy().ravel() for kind in (PIXELS, noise.Kind.PRIOR)]
        ),
        "levels": np.stack([draw(seeds, noise.stream(PIXELS, level), (20,)).numpy().ravel() for level in (0, 1)]),
        "draws": np.stack([draw(seeds, noise.stream(PIXELS, 0, k), (20,)).numpy().ravel() for k in (0, 1)]),
        # Channels are the fastest axis of an image's sites.
        "channels": draw(seeds, first, (4, 5, 3)).numpy()[..., :2].reshape(-1, 2).T,
    }


@pytest.mark.parametrize(("draw", "cdf"), [(noise.uniform, "uniform"), (noise.normal, "norm")])
def test_numbers_are_distributed_and_independent(draw, cdf):
    for axis, pair in _sequences(draw).items():
        for side in pair:
            # 28 such tests: 1e-5 each makes a false alarm unlikely (and the seeds are fixed).
            assert stats.kstest(side, cdf).pvalue > 1e-5, axis
        # A correlation of n independent pairs has a standard deviation of 1/sqrt(n); five of them.
        assert abs(np.corrcoef(pair)[0, 1]) < 5 / np.sqrt(pair.shape[1]), axis


def test_uniforms_lie_strictly_inside_and_normals_are_bounded():
    words = tf.constant([0, 2**32 - 1], tf.uint32)
    low, high = noise._open_interval(words).numpy()
    assert low > 0 and high < 1
    # sqrt(-2 ln 2**-24) = 5.77.
    assert np.abs(noise.normal(tf.range(2000, dtype=tf.int64), noise.stream(PIXELS), (100,))).max() < 5.8


def test_derived_seeds_are_distinct():
    seeds = noise.derive_seeds(0, tf.range(100_000, dtype=tf.int64)).numpy()
    # Among 1e5 random 64-bit numbers a repetition has a probability of 3e-10.
    assert len(np.unique(seeds)) == len(seeds)
    assert (seeds[:5] != noise.derive_seeds(1, tf.range(5, dtype=tf.int64)).numpy()).all()


def test_an_images_own_seed_depends_on_each_pixel_and_its_place():
    image = np.arange(12).reshape(1, 2, 3, 2)
    others = [image.copy(), image[:, ::-1], image[:, :, ::-1], image[..., ::-1]]
    others[0][0, 1, 2, 1] += 1
    seeds = noise.image_seeds(tf.constant(np.concatenate([image, *others]))).numpy()
    assert len(set(seeds)) == 5
    np.testing.assert_array_equal(noise.image_seeds(tf.constant(image)), seeds[:1])
