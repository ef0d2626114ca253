"""The codec: rounding that two machines agree on, files that give back every image or say why not."""

import base64
import concurrent.futures
import contextlib
import dataclasses
import io
import json
import math
import sys
import time
import tracemalloc
import zlib
from unittest import mock

import hypothesis
import numpy as np
import picture_bytes
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from codec_models import CLASSES, EXACT, LATENTS, PlainNetworks, networks_of
from family import labels_for, make_model
from hypothesis import strategies as st
from PIL import Image

from pixelvae_tf import codec, console, distributions
from pixelvae_tf.codec import chunks, front, rounding, sites, waves
from pixelvae_tf.codec import images as images_lib
from pixelvae_tf.codec import jobs as codec_jobs
from pixelvae_tf.codec.functions import functions, parameters
from pixelvae_tf.codec.functions import tree as tree_of
from pixelvae_tf.codec.stack import Stack

pytest.importorskip("constriction")
OPTIONS = codec.Options(images_per_chunk=7, lanes=4, checksums=False)
FEW = hypothesis.settings(max_examples=60, deadline=None)


@pytest.fixture(autouse=True)
def _no_image_is_cheaper_as_it_is(monkeypatch):
    monkeypatch.setattr(waves, "raw_bits", lambda config: math.inf)


def _images(number, config=LATENTS, seed=0):
    return np.random.default_rng(seed).integers(0, config.num_values, (number, *config.image_shape)).astype(np.uint8)


# Rounding


@pytest.mark.parametrize("half", [rounding.COARSE, rounding.FINE])
def test_probabilities_are_those_of_the_logits_that_round_to_them(half):
    counts = rounding.probabilities(half)
    assert (np.diff(counts) >= 0).all() and counts[0] >= 1 and counts[-1] < rounding.TOTAL
    np.testing.assert_array_equal(counts + counts[::-1], rounding.TOTAL)
    inner = (counts > 500) & (counts < rounding.TOTAL - 500)  # of fewer, half a count is much
    logits = np.log(counts / (rounding.TOTAL - counts))
    np.testing.assert_allclose(
        rounding.coordinate(logits, half)[0][inner], np.arange(-half, half + 1)[inner], atol=0.02
    )


def test_rounding_a_logit_costs_little():
    logits = np.linspace(-9, 9, 4001)
    index = rounding.index_of(rounding.Encoder(), logits, rounding.COARSE, 0.0, np.arange(4001))
    used, true = rounding.probabilities(rounding.COARSE)[index] / rounding.TOTAL, 1.0 / (1.0 + np.exp(-logits))
    divergence = true * np.log(true / used) + (1 - true) * np.log((1 - true) / (1 - used))
    entropy = -true * np.log(true) - (1 - true) * np.log(1 - true)
    # Near 0 steps are 0.09 wide: a divergence of 0.09**2 / 24 / 4 on average, of an entropy of 0.69.
    assert divergence.sum() / entropy.sum() < 1e-3


@FEW
@hypothesis.given(st.dictionaries(st.integers(0, 2**60), st.integers(0, 1), max_size=40))
def test_a_table_gives_back_its_bits_for_about_a_bit_each(bits):
    table = rounding.Table.of(bits)
    assert {place: table[place] for place in bits} == bits
    # Each further bit fails with half the probability of the one before.
    assert sum(width for width, _ in table.buckets) <= len(bits) + 20


def test_a_table_of_many_places_is_made_of_several(monkeypatch):
    monkeypatch.setattr(rounding, "BUCKET", 16)
    bits = {place * 7: place % 3 % 2 for place in range(100)}
    table = rounding.Table.of(bits)
    assert len(table.buckets) == 7 and {place: table[place] for place in bits} == bits


# Once in thousands of draws none lies near enough.
@hypothesis.settings(FEW, derandomize=True)
@hypothesis.given(st.integers(0, 2**32 - 1), st.sampled_from([1e-6, 1e-3, 0.1]))
def test_a_decoder_rounds_as_the_encoder_did(seed, tolerance):
    random = np.random.default_rng(seed)
    # Near boundaries and anywhere.
    x = np.concatenate([random.integers(-5, 5, 50) + 0.5 + random.normal(size=50) * tolerance, random.normal(size=50)])
    places = random.permutation(100)
    encoder = rounding.Encoder()
    encoded = encoder.round(x, tolerance, places)
    other = x + 0.99 * tolerance * random.uniform(-1, 1, 100)
    decoded = rounding.Decoder(rounding.Table.of(encoder.bits)).round(other, tolerance, places)
    np.testing.assert_array_equal(decoded, encoded)
    assert (np.floor(other + 0.5) != encoded).any(), "some lie so near that rounding alone would differ"


def _pop(state, words, counts):
    """An asymmetric numeral system in integers, as docs/codec.md writes it: a binary choice off the stack."""
    slot, zero = state % 2**24, 2**24 - counts
    bit = int(slot >= zero)
    state = (counts if bit else zero) * (state >> 24) + slot - (zero if bit else 0)
    if state < 2**32 and words:
        state = (state << 32) | words.pop()
    return bit, state


def test_a_stack_is_the_one_that_the_page_specifies():
    random, counts = np.random.default_rng(0), rounding.probabilities(rounding.FINE)
    counts = np.concatenate([counts, counts])
    bits = (random.uniform(size=len(counts)) < counts / rounding.TOTAL).astype(np.int64)
    stack = Stack()
    stack.push_uniform(np.arange(8), 256)
    stack.push_bits(bits, counts)
    words = [int(word) for word in stack.words()]
    state = words.pop()
    while state < 2**32 and words:
        state = (state << 32) | words.pop()
    popped = []
    for count in counts.tolist():
        bit, state = _pop(state, words, count)
        popped.append(bit)
    assert popped == bits.tolist()
    np.testing.assert_array_equal(Stack(stack.words()).pop_bits(counts), bits)


def test_integers_of_any_size_come_back():
    stack, values = Stack(), [0, 1, 127, 128, 16383, 2**40 + 5]
    for value in reversed(values):
        stack.push_integer(value)
    stack.push_long(0b1011, 4)
    assert stack.pop_long(4) == 0b1011
    assert [stack.pop_integer() for _ in values] == values and not stack.num_bits


# Trees


class BinomialSite(distributions.ChannelwiseSite):
    """A site of a user's own."""

    def __init__(self, num_values, channels):
        super().__init__(channels, 1)
        self.num_values = num_values

    def channel_distribution(self, params, temperature=1.0):
        heads = tfp.distributions.Binomial(self.num_values - 1.0, logits=self.split(params))
        return tfp.distributions.Categorical(probs=heads.prob(tf.range(float(self.num_values))), dtype=self.dtype)

    def transform(self, params, noise, temperature=1.0):
        raise NotImplementedError


def _cost(tree, params, value):
    writer = waves.Writer(len(params))
    tree.walk(params, 0.0, rounding.Encoder(), sites.Places(0), writer.chooser(value, tree.depth))
    return writer.exact * math.log(2.0), writer.cost * math.log(2.0)


@pytest.mark.parametrize(
    ("site", "tree", "slack"),
    [
        (distributions.BernoulliSite(2), sites.Categorical(2), 1e-5),
        (distributions.CategoricalSite(5, 2), sites.Categorical(5), 1e-5),
        (distributions.CategoricalSite(256), sites.Categorical(256), 1e-5),
        (BinomialSite(5, 2), sites.Categorical(5), 1e-5),
        (distributions.LogisticMixtureSite(5, 3, 4), sites.LogisticMixture(5, 3, 4), 1e-4),
        (distributions.LogisticMixtureSite(256, 1, 2), sites.LogisticMixture(256, 1, 2), 1e-3),
        # Its mean and its scale are rounded: by 1/32 of a standard deviation at most, and 3%.
        (distributions.QuantizedNormalSite(8, 2), sites.Gaussian(8, 0.5, 1.0), 0.1),
        (distributions.QuantizedNormalSite(5, 2), sites.Gaussian(5, 0.5, 1.0), 0.1),
    ],
    ids=lambda part: getattr(type(part), "__name__", ""),
)
def test_a_walk_has_the_probability_of_the_value_that_it_leads_to(site, tree, slack):
    random = np.random.default_rng(0)
    raw = tf.constant(random.normal(size=(64, site.units)), tf.float32)
    value = random.integers(0, site.num_values, (64, site.channels))
    assert type(tree_of(site)) is type(tree) and vars(tree_of(site)) == vars(tree)
    exact, rounded = _cost(tree, parameters(site, raw).numpy(), value)
    expected = -site.distribution(raw).log_prob(value).numpy()
    np.testing.assert_allclose(exact, expected, atol=slack, rtol=slack)
    assert np.abs(exact - rounded).max() > 0.0
    likely = exact < 8.0  # what is all but impossible costs less than that
    np.testing.assert_allclose(rounded[likely].mean(), exact[likely].mean(), rtol=0.05)


def test_all_values_of_a_walk_have_a_total_of_1():
    tree, params = sites.Categorical(5), np.random.default_rng(0).normal(size=(1, 1, 5)).repeat(5, axis=0)
    _, rounded = _cost(tree, params, np.arange(5)[:, None])
    assert np.exp(-rounded).sum() == pytest.approx(1.0, abs=1e-6)


# Files


@pytest.mark.parametrize("config", [LATENTS, EXACT, CLASSES], ids=["latents", "exact", "classes"])
@pytest.mark.parametrize("checksums", [False, True])
@pytest.mark.parametrize("number", [0, 1, 23])
def test_a_file_gives_every_image_back(config, checksums, number):
    networks, images = PlainNetworks(config), _images(number)
    labels = np.arange(number) % 3 if config.num_classes else None
    options = dataclasses.replace(OPTIONS, checksums=checksums)
    made = codec.compress(networks, images, labels, options)
    assert made.statistics.images == number and made.statistics.payload + made.overhead == len(made.content)
    decoded, decoded_labels = codec.decompress(networks, made.content)
    np.testing.assert_array_equal(decoded, images)
    assert (decoded_labels is None) == (labels is None)
    if labels is not None:
        np.testing.assert_array_equal(decoded_labels, labels)


# Six images by the first version of the format, in base 64.
STORED = (
    "UElYVkFFQwGXAAAAeyJmaW5nZXJwcmludCI6InBsYWluIiwiZHR5cGUiOiIiLCJtb2RlbCI6InBsYWluIiwiZGF0YSI6InRlc3QiLCJzaGFwZSI6"
    "WzMsNCwyXSwidmFsdWVzIjo1LCJsYW5lcyI6NCwidG9sZXJhbmNlIjo0ZS0wNiwibGF0ZW50X2JpdHMiOls2XSwiY2hlY2tzdW1zIjoxfQEAAAAG"
    "AAAAJAAAALAaYekhP645ACci5FsOcyy5FVuAjMGHG7K55/lOsO11nIFMyo4yUbGs0iQygcH+bv2krFx80gAzVJsW9c9ZHIQcuv+/uKBQ3ZHAAEHo"
    "hwVFwcIjWpjA+F7+rxfD2+U+5bW2CLT90c+fJ5H+N07mVajFtfZCLny15JROUz7N2TUiN49Oprg+pk7hbgbfFC4BAgEAAAIEuQgA"
)


def test_a_file_of_an_earlier_version_gives_its_images_back():
    """Users keep files: a format that changes needs another number, and a reader of this one."""
    decoded, _ = codec.decompress(PlainNetworks(), base64.b64decode(STORED))
    np.testing.assert_array_equal(decoded, _images(6))


@pytest.mark.parametrize("config", [LATENTS, EXACT], ids=["latents", "exact"])
def test_a_file_takes_what_its_model_says(config):
    """Values drawn from the model, whose cost is their entropy; latents give their bits back."""
    networks, number = PlainNetworks(config), 40
    stack = Stack(np.random.default_rng(0).integers(0, 2**32, 6000, np.uint32))
    settings = waves.Settings(8, 0.0, (6,) * len(config.levels), False)
    parts = []
    for wave in range(number):  # what random bits decode to is a sample
        decoder = rounding.Decoder(rounding.Table([]))
        parts.append(waves.pop(waves.Wave(networks, settings, wave, 8, decoder), stack)[0])
    options = dataclasses.replace(OPTIONS, images_per_chunk=999, lanes=8)
    spent = codec.compress(networks, np.concatenate(parts), None, options).statistics
    net, overhead = spent.pixels + spent.priors - spent.posteriors, spent.table + spent.digest + spent.other
    # Rounded logits are about 1e-3 off in what they cost. The latents of the plain networks are not those that made the
    # images: there are values that cost more than the 18 bits at which a choice ends.
    assert net == pytest.approx(spent.exact, rel=0.02 if config.levels else 2e-3)
    assert 8 * spent.payload == pytest.approx(net + overhead, rel=1e-4)
    assert overhead < 0.05 * net
    # Three latents a standard deviation of about 0.1 in bins of 1/64: some 5 bits each.
    assert spent.posteriors == pytest.approx(8 * number * 3 * 4.7 if config.levels else 0.0, rel=0.2)


@hypothesis.settings(max_examples=20, deadline=None)
@hypothesis.given(st.integers(0, 2**32 - 1))
def test_noise_within_the_tolerance_changes_nothing(seed):
    images = _images(9, seed=seed)
    options = dataclasses.replace(OPTIONS, tolerance=1e-3, verify=False)
    content = codec.compress(PlainNetworks(), images, None, options).content
    np.testing.assert_array_equal(codec.decompress(PlainNetworks(noise=4e-4), content)[0], images)


def test_noise_beyond_it_is_found_out():
    images = _images(14)
    content = codec.compress(PlainNetworks(), images, None, dataclasses.replace(OPTIONS, verify=False)).content
    for noise in (0.1, 1.0):
        with pytest.raises(codec.DamagedError, match=r"chunk 0 \(images 0..6\): .*; chunk 1 \(images 7..13\)"):
            codec.decompress(PlainNetworks(noise=noise), content)


def test_images_are_held_against_their_digest():
    with mock.patch.object(chunks, "digest_of", lambda images, labels, number: np.arange(number)):
        content = codec.compress(PlainNetworks(), _images(5), None, dataclasses.replace(OPTIONS, verify=False)).content
    with pytest.raises(codec.DamagedError, match=r"chunk 0 .*: its images are not those that were coded"):
        codec.decompress(PlainNetworks(), content)


def test_images_are_held_against_checksums_of_their_own():
    with mock.patch.object(waves, "_checksums", lambda images: np.zeros(2 * len(images), np.int64)):
        options = dataclasses.replace(OPTIONS, verify=False, checksums=True)
        content = codec.compress(PlainNetworks(), _images(5), None, options).content
    with pytest.raises(codec.DamagedError, match=r"chunk 0 .*: an image is not the one that was coded"):
        codec.decompress(PlainNetworks(), content, [4])


def test_what_would_not_decode_is_stored_as_it_is():
    images = _images(14)
    options = dataclasses.replace(OPTIONS, tolerance=0.0)
    made = codec.compress(PlainNetworks(noise=1e-2), images, None, options)
    assert made.statistics.raw == 14
    np.testing.assert_array_equal(codec.decompress(PlainNetworks(noise=0.5), made.content)[0], images)


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_images_that_the_model_cannot_code_are_stored_as_they_are(broken):
    class Broken(PlainNetworks):
        def posterior(self, images):
            (params,) = super().posterior(images)
            params[images.reshape(len(images), -1)[:, 0] == 4] = broken
            return [params]

    images = _images(12)
    images[:, 0, 0, 0] = np.arange(12) % 5
    made = codec.compress(Broken(), images, None, dataclasses.replace(OPTIONS, images_per_chunk=12))
    assert made.statistics.raw >= 2
    np.testing.assert_array_equal(codec.decompress(Broken(), made.content)[0], images)


def test_a_model_that_is_wrong_costs_little_more_than_the_values(monkeypatch):
    monkeypatch.undo()
    images = _images(50)
    made = codec.compress(PlainNetworks(EXACT, scale=60.0), images, None, codec.Options())
    # Each place takes a byte.
    assert made.statistics.raw > 0
    assert 8 * made.statistics.payload < 50 * (waves.raw_bits(EXACT) + 8) + 128
    np.testing.assert_array_equal(codec.decompress(PlainNetworks(EXACT, scale=60.0), made.content)[0], images)


@pytest.mark.parametrize("checksums", [False, True])
def test_single_images_are_had_from_their_chunks_alone(checksums):
    images = _images(23)
    content = bytearray(
        codec.compress(PlainNetworks(), images, None, dataclasses.replace(OPTIONS, checksums=checksums)).content
    )
    content[-1] ^= 1  # the last chunk
    for only in ([3], [13, 0, 13], []):
        decoded, _ = codec.decompress(PlainNetworks(), bytes(content), only)
        np.testing.assert_array_equal(decoded, images[only])
    with pytest.raises(codec.DamagedError, match=r"chunk 3 \(images 21..22\): its bytes are not those"):
        codec.decompress(PlainNetworks(), bytes(content), [22])
    with pytest.raises(ValueError, match=r"only must be places in 0..22. Received: 23..23"):
        codec.decompress(PlainNetworks(), bytes(content), [23])


def test_with_checksums_of_their_own_the_first_images_come_without_the_others():
    images, told = _images(7), []
    content = codec.compress(PlainNetworks(), images, None, dataclasses.replace(OPTIONS, checksums=True)).content
    codec.decompress(PlainNetworks(), content, [0], progress=lambda done, total: told.append(done))
    assert 0 < told[-1] < 7


def test_an_image_that_is_stored_as_it_is_comes_without_the_others():
    class Broken(PlainNetworks):
        def posterior(self, images):
            return [np.where(images.reshape(len(images), -1)[:, :1, None] == 4, np.nan, *super().posterior(images))]

    images = _images(7)
    images[:, 0, 0, 0] = [4, 0, 1, 2, 4, 0, 4]
    content = codec.compress(Broken(), images, None, dataclasses.replace(OPTIONS, checksums=True)).content
    for only in ([0], [4], [6], [6, 1]):
        np.testing.assert_array_equal(codec.decompress(Broken(), content, only)[0], images[only])


@pytest.mark.parametrize(("jobs", "tasks", "places"), [(1, 3, 1), (2, 3, 2), (8, 2, 2), (8, 1, 1), (8, 0, 0)])
def test_chunks_at_a_time_are_done_elsewhere_and_come_in_order(jobs, tasks, places, monkeypatch):
    """By threads, which need no TensorFlow of their own; test_codec_commands.py has processes."""
    begun, told = [], []

    def threads(number, context, start, arguments):
        begun.append((number, context.get_start_method()))
        return concurrent.futures.ThreadPoolExecutor(number, initializer=start, initargs=arguments)

    def work(networks, number, count):
        count(number)
        return networks, number

    monkeypatch.setattr(concurrent.futures, "ProcessPoolExecutor", threads)
    made = codec_jobs.run(work, "model", [(number,) for number in range(tasks)], jobs, told.append)
    assert made == [("model", number) for number in range(tasks)] and told == list(range(tasks))
    assert begun == ([(places, "spawn")] if places > 1 else [])


@pytest.mark.parametrize(
    ("networks", "message"),
    [
        (
            PlainNetworks(fingerprint="other"),
            "saved_model must be the one that made the file, 'plain' of fingerprint 'plain'",
        ),
        (PlainNetworks(EXACT), "input must be of images"),
    ],
)
def test_another_models_file_is_refused(networks, message):
    content = codec.compress(PlainNetworks(), _images(3), None, OPTIONS).content
    with pytest.raises(ValueError, match=message):
        codec.decompress(networks, content)


def test_another_precisions_file_is_refused():
    """Whose numbers are others; an export of an earlier version did not say, and is taken."""
    networks, other = PlainNetworks(), PlainNetworks()
    earlier = codec.compress(networks, _images(3), None, OPTIONS).content
    networks.card["dtype"], other.card["dtype"] = "float32", "mixed_bfloat16"
    content = codec.compress(networks, _images(3), None, OPTIONS).content
    for made in (earlier, content):
        np.testing.assert_array_equal(codec.decompress(networks, made)[0], _images(3))
    with pytest.raises(ValueError, match=r"precision that the file was made with, 'float32'.*'mixed_bfloat16'"):
        codec.decompress(other, content)


def _sleep(networks, seconds, count):
    time.sleep(seconds)
    count(1)


def test_nobody_waits_for_a_process_after_an_interruption():
    def interrupt(number):
        raise KeyboardInterrupt

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        codec_jobs.run(_sleep, "model", [(0,), (600,)], 2, interrupt)
    assert time.monotonic() - start < 300  # seconds, for two processes to start


def test_a_process_that_ends_too_early_is_named(monkeypatch):
    def broken(*_):
        raise concurrent.futures.process.BrokenProcessPool("A process in the process pool was terminated abruptly")

    monkeypatch.setattr(concurrent.futures, "ProcessPoolExecutor", broken)
    with pytest.raises(ValueError, match=r"jobs must be processes that .*Received: 2, of which one ended"):
        codec_jobs.run(print, "model", [(1,), (2,)], 2, print)


def test_without_its_package_the_codec_blames_no_file(monkeypatch):
    monkeypatch.setitem(sys.modules, "constriction", None)
    with pytest.raises(ValueError, match=r"^the codec needs constriction"):
        codec.decompress(PlainNetworks(), CONTENT)


def test_images_that_are_not_the_models_are_refused(monkeypatch):
    with pytest.raises(ValueError, match=r"images must be integer pixel values 0\.\.4"):
        codec.compress(PlainNetworks(), _images(3) + 2)
    for labels, message in ((None, "Received: none"), (np.array([0, 3]), "labels must be in 0..2. Received: 0..3")):
        with pytest.raises(ValueError, match=message):
            codec.compress(PlainNetworks(CLASSES), _images(2), labels)
    monkeypatch.setattr(front, "MAX_CHUNKS", 2)  # of which a reader would refuse more
    with pytest.raises(ValueError, match=r"images_per_chunk must make at most 2 chunks of 3 images. Received: 1"):
        codec.compress(PlainNetworks(), _images(3), options=codec.Options(images_per_chunk=1))
    with pytest.raises(ValueError, match=r"lanes must be in 1\.\.65536. Received: 0"):
        codec.Options(lanes=0)


def test_places_of_all_waves_of_a_chunk_are_numbers_of_63_bits():
    """An image may be a wave; a file of another writer with more is refused."""
    settings, most = waves.Settings(8, 0.0, (6,), False), waves.MAX_WAVES
    decoder = rounding.Decoder(rounding.Table([]))
    last = waves.Wave(PlainNetworks(), settings, most - 1, 1, decoder)._places(waves._KINDS - 1)
    assert last.take((2,)).dtype == np.int64 and last.next + waves._PLACES_OF_KIND - 2 <= 2**63
    with pytest.raises(codec.DamagedError, match=f"it has more than {most} waves"):
        waves.Wave(PlainNetworks(), settings, most, 1, decoder)
    with pytest.raises(ValueError, match=f"images_per_chunk must be in 1..{most}. Received: {most + 1}"):
        codec.Options(images_per_chunk=most + 1)


with mock.patch.object(waves, "raw_bits", lambda config: math.inf):
    CONTENT = codec.compress(
        PlainNetworks(), _images(12), None, dataclasses.replace(OPTIONS, images_per_chunk=5)
    ).content


def _decodes_or_refuses(content):
    try:
        decoded, _ = codec.decompress(PlainNetworks(), content)
    except ValueError as error:
        assert str(error).startswith("input must")
    else:
        np.testing.assert_array_equal(decoded, _images(12))


@hypothesis.settings(max_examples=300, deadline=None)
@hypothesis.given(st.integers(0, len(CONTENT) - 1), st.binary(max_size=6), st.integers(0, 6))
def test_a_damaged_file_is_refused(place, new, removed):
    _decodes_or_refuses(CONTENT[:place] + new + CONTENT[place + removed :])


@pytest.mark.parametrize("length", range(0, len(CONTENT), 7))
def test_a_truncated_file_is_refused(length):
    with pytest.raises(ValueError, match="input must be"):
        codec.decompress(PlainNetworks(), CONTENT[:length])


def _resealed(index, header, words):
    """A file whose checksums are right, whatever is in it."""
    table = np.array(index, front.ENTRY)
    start = front.MAGIC + len(header).to_bytes(4, "little") + header
    start += len(table).to_bytes(4, "little") + table.tobytes()
    return start + zlib.crc32(start).to_bytes(4, "little") + words


def _stop_at_100(done: int, total: int) -> None:
    if done >= 100:
        pytest.fail(f"it decodes on: {done} of {total}")


@contextlib.contextmanager
def _memory_of_at_most(most: int):
    """Of Python and NumPy, in bytes."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()


def test_what_stands_behind_the_last_chunk_is_refused():
    with pytest.raises(ValueError, match="input must be whole"):
        codec.decompress(PlainNetworks(), CONTENT + bytes(4))


@pytest.mark.parametrize(
    ("integers", "message"),
    [
        # In the order in which they are pushed: words of the digest, buckets, runs of waves, raw images.
        ((chunks.DIGEST_WORDS, 0, 2**17, 8, 1, 0), "it ends before its images do"),
        ((chunks.DIGEST_WORDS, 0, 2**18, 4, 1, 0), "it has more than 131072 waves"),
        ((chunks.DIGEST_WORDS, 2**60, 2**18, 4, 1, 0), "its tables are longer than it"),
        # Buckets of no bits, beyond the last of which an empty stack gives zeros.
        ((127, 7, 0, 0, 0, 0, 30, 2**18, 4, 1, 0), "its tables are longer than it"),
        ((1, 0, 2**18, 4, 1, 0), "its digest has 1 words"),
        ((chunks.DIGEST_WORDS, 0, 2**60, 4, 1, 0), "its waves are not of its images"),
        ((2**60, 0), "its waves are not of its images"),
        ((2**60,), "it has 1152921504606846976 raw images of 1048576"),
    ],
)
def test_counts_that_lie_cost_neither_time_nor_memory(integers, message):
    stack = Stack()
    for integer in integers:
        stack.push_integer(integer)
    words = stack.words().astype("<u4").tobytes()
    header = json.dumps({**front.read_layout(CONTENT).header, "lanes": 8}).encode()
    entry = (2**20, len(words) // 4, zlib.crc32(words))
    content = _resealed([entry], header, words)
    # 8 bytes a few times for each of the 2**20 images.
    with _memory_of_at_most(2**26), pytest.raises(codec.DamagedError, match=message):
        codec.decompress(PlainNetworks(), content, progress=_stop_at_100)
    empty = (2**20, 0, 0)
    with pytest.raises(ValueError, match=r"input must have at most 16777216 images\. Received: 20971520"):
        codec.decompress(PlainNetworks(), _resealed([empty] * 20, header, b""))


BOMBS = {
    "lists": b"[" * front.MAX_HEADER,
    "digits": b'{"lanes":%s}' % (b"9" * 60000),
    "keys": json.dumps({str(key): key for key in range(4000)}).encode(),
    "escapes": json.dumps({"shape": [], "fingerprint": "\x1b[2J" * 5000, "latent_bits": []}).encode(),
    "bytes": bytes(1000),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_header_that_lies_is_refused_in_a_line(bomb):
    expected = "input must have a header that this version knows"
    with _memory_of_at_most(2**23), pytest.raises(ValueError, match=expected) as caught:
        codec.decompress(PlainNetworks(), _resealed([], BOMBS[bomb], b""))
    assert len(str(caught.value)) < 500 and str(caught.value).isprintable()


def test_what_a_header_says_of_its_model_is_clipped_and_escaped():
    header = {**front.read_layout(CONTENT).header, "fingerprint": "\x1b[2J" * 5000, "model": ["\n" * 5000]}
    with pytest.raises(ValueError, match="saved_model must be the one that made the file") as caught:
        codec.decompress(PlainNetworks(), _resealed([], json.dumps(header).encode(), b""))
    assert len(str(caught.value)) < 500 and str(caught.value).isprintable()


@hypothesis.settings(max_examples=300, deadline=None)
@hypothesis.given(st.data())
def test_a_hostile_file_is_refused(data):
    """Checksums that are right over words, counts and a header that lie."""
    layout = front.read_layout(CONTENT)
    header = dict(layout.header)
    if data.draw(st.booleans()):
        numbers = st.sampled_from([0, -1, 1, 2**16, 2**40, 1e300, None, "x", [], [2**30], [0, 1]])
        header[data.draw(st.sampled_from(sorted(header)))] = data.draw(numbers)
    words = bytearray(CONTENT[layout.start :])
    for _ in range(data.draw(st.integers(0, 3))):
        words[data.draw(st.integers(0, len(words) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        words = bytearray(data.draw(st.binary(max_size=40)))
        words += bytes(-len(words) % 4)
    count = data.draw(st.sampled_from([1, 5, 12, 2**20]))
    entry = (count, len(words) // 4, zlib.crc32(words))
    content = _resealed([entry], json.dumps(header).encode(), bytes(words))
    try:
        codec.decompress(PlainNetworks(), content)
    except ValueError as error:
        assert str(error).startswith(("input must", "saved_model must"))
    else:
        assert not data, "no such file decodes"


# Real networks


def test_what_the_codec_cannot_go_through_has_no_functions():
    """Unless it is ours: an export has all else then, and the codec says what it lacks."""
    site = mock.Mock(spec=distributions.Site)
    assert functions(mock.Mock(site=site, config=EXACT)) == {}
    turned = dataclasses.replace(EXACT, orders=("rotate_180",))
    assert functions(mock.Mock(site=distributions.BernoulliSite(), config=turned)) == {}
    with pytest.raises(ValueError, match="those without raster order, or with a likelihood of your own"):
        codec.Networks(mock.Mock(spec=[]), {}, EXACT)


@pytest.mark.parametrize(
    "name",
    [
        *("gated_pixel_cnn_embedded", "pixel_vae_classes", "gated_pixel_cnn_mixture"),
        *("gated_pixel_vae_orders", "hierarchy", "hierarchy_independent_pixels"),
        pytest.param("pixel_cnn_pp_binary", marks=pytest.mark.slow),
    ],
)
def test_a_model_of_the_family_codes_its_images(name):
    model = make_model(name)
    networks, labels = networks_of(model), labels_for(model, 6)
    images = model.sample(6, labels=labels).numpy().astype(np.uint8)
    labels = None if labels is None else labels.numpy()
    made = codec.compress(networks, images, labels, codec.Options(verify=False))
    decoded, decoded_labels = codec.decompress(networks, made.content)
    np.testing.assert_array_equal(decoded, images)
    assert made.statistics.raw == 0 and (labels is None or (decoded_labels == labels).all())
    if not model.num_levels:
        grid = model.likelihood([], labels=labels)
        # What rounding costs is 1e-3 of it on average.
        expected = -grid.log_prob(images).numpy().sum() / math.log(2.0)
        assert made.statistics.exact == pytest.approx(expected, rel=1e-5)
        assert made.statistics.pixels == pytest.approx(expected, rel=0.02)


# What users name


def test_orders_are_coded_by_raster_order():
    model = make_model(dataclasses.replace(EXACT, orders=("raster", "rotate_180")))
    images = model.sample(6).numpy().astype(np.uint8)
    made = codec.compress(networks_of(model), images, None, codec.Options(verify=False))
    np.testing.assert_array_equal(codec.decompress(networks_of(model), made.content)[0], images)
    params = model.network(images.astype(np.int32), context=tf.tile([[1.0, 0.0]], (6, 1)))
    nats = -tf.reduce_sum(model.site.distribution(params).log_prob(images.astype(np.int32)))
    assert made.statistics.exact == pytest.approx(float(nats) / math.log(2.0), rel=1e-5)


def test_images_are_written_all_or_none(tmp_path):
    def interrupted():
        yield from _images(2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        images_lib.write(tmp_path, interrupted(), np.arange(3), range(3))
    assert not list(tmp_path.glob("*.png")) and not list(tmp_path.glob("*.npy"))
    console.check_folder(str(tmp_path))  # so that the same command goes
    images_lib.write(tmp_path, iter(_images(3)), np.arange(3), range(3))
    assert {path.name for path in tmp_path.iterdir()} == {"labels.npy", *(f"{place:07d}.png" for place in range(3))}


def test_a_folder_is_read_as_it_is_or_not_at_all(tmp_path):
    config = dataclasses.replace(EXACT, image_shape=(3, 4, 1))
    images = _images(3, config)
    from pixelvae_tf.pictures import to_uint8_picture

    images_lib.write(tmp_path / "out", to_uint8_picture(images, 5), None, [0, 1, 2])
    read, labels = images_lib.read(str(tmp_path / "out"), config)
    np.testing.assert_array_equal(read, images)
    assert labels is None
    images_lib.write(tmp_path / "out", to_uint8_picture(images, 5) ^ 1, None, [0, 1, 2])
    with pytest.raises(ValueError, match=r"of 5 values in 0\.\.255"):
        images_lib.read(str(tmp_path / "out"), config)
    with pytest.raises(ValueError, match=r"files of 4x4 pixels, mode L. Received: '0000000.png', 4x3"):
        images_lib.read(str(tmp_path / "out"), dataclasses.replace(EXACT, image_shape=(4, 4, 1)))


@pytest.mark.parametrize(
    ("name", "content", "lost"),
    [
        ("deep.png", lambda: picture_bytes.png(16, 2, bytes(4 * 6)), "16 bits a channel"),
        ("deep.ppm", lambda: b"P6 4 4 65535\n" + bytes(96), "16 bits a channel"),
        ("clear.png", lambda: _png_of(transparency=(0, 0, 0)), "a transparent colour"),
        ("moving.png", lambda: _png_of(save_all=True, append_images=[Image.new("RGB", (4, 4), "red")]), "2 pictures"),
    ],
)
def test_what_pillow_would_leave_out_is_refused(tmp_path, name, content, lost):
    (tmp_path / name).write_bytes(content())
    config = dataclasses.replace(EXACT, image_shape=(4, 4, 3))
    with pytest.raises(ValueError, match=f"mode RGB and nothing else. Received: '{name}', with {lost}"):
        images_lib.read(str(tmp_path), config)


def _png_of(**options):
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "PNG", **options)
    return buffer.getvalue()


def test_a_file_of_numbers_is_read_with_its_labels(tmp_path):
    images_lib.write(tmp_path, _images(3), np.arange(3), None)
    read, labels = images_lib.read(f"{tmp_path}/images.npy", CLASSES, labels=f"{tmp_path}/labels.npy")
    np.testing.assert_array_equal(read, _images(3))
    np.testing.assert_array_equal(labels, np.arange(3))
    (tmp_path / "zip.npy").write_bytes(b"PK\x03\x04 cut off")
    (tmp_path / "images.npy").write_bytes(b"no numbers")
    for name, message in (
        (f"{tmp_path}/zip.npy", "must be a .npy file of numbers"),
        (f"{tmp_path}/images.npy", "must be a .npy file of numbers"),
        ("nothing", "as digits/test"),
    ):
        with pytest.raises(ValueError, match=message):
            images_lib.read(name, CLASSES)
    with pytest.raises(ValueError, match="labels must be left out for a model without classes"):
        images_lib.read("digits/test", EXACT, labels=f"{tmp_path}/labels.npy")
    images_lib.write(tmp_path, _images(3), None, None)
    with pytest.raises(ValueError, match=r"data_dir must be left out for images of no data set. Received: 'there'"):
        images_lib.read(f"{tmp_path}/images.npy", EXACT, "there")
