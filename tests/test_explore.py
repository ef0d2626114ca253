"""What the page of pixelvae-explore shows, without a browser: the tabs' pictures, links, lines of Python, refusals."""

import base64
import copy
import dataclasses
import html
import io
import pathlib
import re
import threading
import zlib

import gradio
import numpy as np
import picture_bytes
import pytest
import servers
from PIL import Image

from pixelvae_tf import bounds, pictures
from pixelvae_tf.export import client, local
from pixelvae_tf.export.explore import (
    as_python,
    choices,
    complete,
    explored_model,
    latents,
    levels,
    markup,
    masks,
    opening,
    origins,
    page,
    samples,
    serving,
    units,
    uploads,
    wiring,
    your_image,
)
from pixelvae_tf.export.explore.preparation import Preparation

VECTOR, GRID, WITHOUT = "gated_pixel_vae", "three_levels_and_classes", "at_most_2"


@pytest.fixture(scope="module")
def models(export):
    """From the name of an export to the model that the page would be of, and the model itself."""
    made = {}

    def make(name):
        if name not in made:
            exported = export(name)
            made[name] = opening.saved_model(exported.path), exported.model
        return made[name]

    return make


def shown(markup_text: str) -> list[np.ndarray]:
    """The pictures of the page, uint8 [H, W]."""
    urls = re.findall(r'<img src="data:image/png;base64,([^"]+)"', markup_text)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(url)))) for url in urls]


def as_shown(explored, images) -> np.ndarray:
    """What the page makes of pixel values [N, H, W, 1]."""
    return pictures.to_uint8_picture(np.asarray(images), explored.facts.num_values)[..., 0]


def run_script(script: str, monkeypatch, folder, explored=None) -> None:
    """Runs lines of Python; with a model that is loaded already, for that which they load."""
    monkeypatch.chdir(folder)
    if explored:
        assert f"local.SavedModel({str(explored.model.path)!r})" in script
        monkeypatch.setattr(local, "SavedModel", lambda path: explored.model)
    exec(compile(script, "script", "exec"), {})


def test_samples_are_those_of_their_seeds_also_beside_another_temperature(models, monkeypatch, tmp_path):
    explored, model = models(VECTOR)
    *_, (grids, script) = samples.draw(explored, 5, 3, 1.0, None, 0.5)
    expected = [model.sample([5, 6, 7], temperature) for temperature in (1.0, 0.5)]
    np.testing.assert_array_equal(shown(grids), as_shown(explored, np.concatenate(expected)))
    assert 'data-value="6_0.5"' in grids and "sample of seed 7, temperature 0.5" in grids
    run_script(script, monkeypatch, tmp_path)
    for index, images in enumerate(expected, start=1):
        tiled = pictures.tile(images.numpy(), explored.facts.num_values, 2, markup.SAVED_SCALE)
        np.testing.assert_array_equal(Image.open(tmp_path / f"samples_{index}.png"), tiled[..., 0])
    saved = re.search(r'download="samples_1.png" href="data:image/png;base64,([^"]+)"', grids)[1]
    np.testing.assert_array_equal(Image.open(io.BytesIO(base64.b64decode(saved))), Image.open("samples_1.png"))


def test_a_large_grid_comes_in_parts_of_which_the_first_is_a_batch(models):
    explored, _ = models(VECTOR)
    numbers = [len(shown(grids)) for grids, _ in samples.draw(explored, 100, 40, 1.0, None, None)]
    assert numbers == [16, 32, 40]


def test_classes_are_drawn_each_in_turn_or_one(models):
    explored, model = models(GRID)
    *_, (grids, _) = samples.draw(explored, 0, 6, 1.0, wiring.EACH_IN_TURN, None)
    np.testing.assert_array_equal(shown(grids), as_shown(explored, model.sample(6, labels=[0, 1, 2] * 2)))
    assert "--columns:3" in grids
    *_, (grids, _) = samples.draw(explored, 0, 2, 1.0, 2, None)
    np.testing.assert_array_equal(shown(grids), as_shown(explored, model.sample(2, labels=[2, 2])))


def test_a_unit_that_is_moved_gives_the_pixels_of_decode(models, monkeypatch, tmp_path):
    explored, model = models(VECTOR)
    image = explored.image(origins.Drawn((7, 7), 0.8))
    unit, still = units.ranked(explored, 0)[:2]
    values = [1.5, units.position(explored, image, still)]
    moved = units.MovedImage(image, {}, explored_model.Noise(9, 0.7))
    moved = moved._replace(moves=units.with_sliders(explored, moved, [unit, still], values))
    assert moved.moves == {unit: 1.5}  # a slider that was not touched leaves its unit as it is
    z1 = model.sample_prior([7], 0.8)[0].numpy()
    z1[0, unit] = 1.5
    expected = as_shown(explored, model.decode([z1], [9], 0.7))
    np.testing.assert_array_equal(shown(latents.draw(explored, moved)), expected)
    swept = z1.repeat(len(latents.SWEEP), axis=0)
    swept[:, still] = latents.SWEEP
    row = as_shown(explored, model.decode([swept], [9] * len(swept), 0.7))
    np.testing.assert_array_equal(shown(latents.draw_sweep(explored, moved, still)), row)
    other = explored.image(origins.given(np.full(explored.facts.image_shape, 1)))
    between = shown(latents.draw_between(explored, other, moved, 3))
    facts = explored.facts
    for max_batch in (facts.max_batch, 4, 1):  # of models that take fewer at once than a row has, and one alone
        monkeypatch.setattr(explored, "facts", dataclasses.replace(facts, max_batch=max_batch))
        script = as_python.script(explored, *latents.script_parts(explored, moved, still, other, 3))
        assert (f", {max_batch})" in script) == ("model.predict(" not in script) == (max_batch < facts.max_batch)
        run_script(script, monkeypatch, tmp_path, explored)
        for name, images in {"latents": expected, "sweep": row, "between": between}.items():
            tiled = pictures.tile(np.stack(images)[..., None], 256, len(images), markup.SAVED_SCALE)
            np.testing.assert_array_equal(Image.open(tmp_path / f"{name}.png"), tiled[..., 0], err_msg=name)
    ends = model.decode(
        [np.concatenate([model.encode(np.stack([each.pixels]))["z1_mean"] for each in (other, image)])], [9, 9], 0.7
    )
    np.testing.assert_array_equal(between[::2], as_shown(explored, ends))


def test_units_are_ordered_by_what_they_tell_of_samples(models):
    explored, model = models(VECTOR)
    images = model.sample(explored_model.NUM_MEASURED)
    kl = model.posterior(images)[0].kl_divergence(model.prior(0))
    # The sum over units is the divergence of the whole; float32 sums of a few terms.
    np.testing.assert_allclose(explored.units().nats.sum(), np.mean(kl), rtol=1e-4)
    ranked = units.ranked(explored, 0)
    nats = explored.units().nats[ranked]
    assert (np.diff(nats) <= 0).all() and nats[0] == explored.units().nats.max()
    assert units.unit_name(explored, ranked[0]) == f"z1[{ranked[0]}], {nats[0]:.1f} nats"


def test_units_of_a_location_are_in_standard_deviations_of_a_prior_that_is_learnt(models):
    explored, model = models(GRID)
    measured, (rows, columns, dim) = explored.units(), explored.facts.latent_shape
    drawn = np.stack(model.sample_prior(explored_model.NUM_MEASURED)[0])
    np.testing.assert_allclose(measured.mean, drawn.mean(axis=0), rtol=1e-4, atol=1e-5)
    place = rows * columns - 1
    ranked = units.ranked(explored, place)
    assert set(ranked) <= set(range(place * dim, (place + 1) * dim))
    image = explored.image(origins.Drawn((0,) * 4))._replace(z1=drawn[0])
    moved = units.MovedImage(image, {ranked[0]: -2.0}, explored_model.Noise(0, 1.0)).z1(explored)
    changed = np.flatnonzero(moved != drawn[0])
    np.testing.assert_array_equal(changed, ranked[:1])
    expected = measured.mean.flat[ranked[0]] - 2 * measured.stddev.flat[ranked[0]]
    np.testing.assert_allclose(moved.flat[ranked[0]], expected, rtol=1e-6)
    assert f"z1[{rows - 1}, {columns - 1}, {ranked[0] % dim}]" in units.unit_name(explored, ranked[0])


def test_noise_that_is_redrawn_changes_along_a_row_and_the_rest_is_held(models, monkeypatch, tmp_path):
    explored, model = models(GRID)
    assert levels.parts(explored) == ["z3", "z2", "z1", "pixels"]
    held = origins.Drawn((3, 3, 3, 3), 0.9, 1)
    said, row, script = levels.draw(explored, held, ["z2", "pixels"], 3, 1)
    assert "sample of seed 3, temperature 0.9, class 1" in said
    new = [3, *(3 + levels.MOST + index for index in (1, 2))]
    fixed = [3] * 3
    expected = model.sample(new, 0.9, labels=[1] * 3, level_seeds=[fixed, new, fixed])
    np.testing.assert_array_equal(shown(row), as_shown(explored, expected))
    assert shown(levels.draw(explored, held, ["z2", "pixels"], 2, 2)[1])[1].tolist() != shown(row)[1].tolist()
    run_script(script, monkeypatch, tmp_path, explored)
    tiled = pictures.tile(expected.numpy(), explored.facts.num_values, 3, markup.SAVED_SCALE)
    np.testing.assert_array_equal(Image.open(tmp_path / "levels.png"), tiled[..., 0])
    given = origins.given(np.zeros(explored.facts.image_shape), 2)
    assert "not drawn from noise" in levels.draw(explored, given, [], 2, 1)[0]


def test_an_image_is_measured_as_log_prob_does(models, tmp_path, monkeypatch, capsys):
    explored, model = models(GRID)
    facts = explored.facts
    pixels = np.random.default_rng(0).integers(0, facts.num_values, facts.image_shape, np.uint8)
    image = explored.image(origins.given(pixels, 2))
    pictures_html, numbers, script = your_image.draw(explored, image, 4, 0.8, 2)
    parts = bounds.elbo(model, pixels[None], [4], labels=[2])
    log_prob = parts.log_prob[0]
    # What is printed is rounded to 0.001, of a number that another graph sums in another order.
    assert float(re.search(r"at least</th><td>(-?[\d.]+) nats", numbers)[1]) == pytest.approx(float(log_prob), abs=2e-3)
    for level, nats in enumerate(parts.kl_nats[0], start=1):
        said = float(re.search(rf"KL of z{level}</th><td>(-?[\d.]+) nats", numbers)[1])
        assert said == pytest.approx(float(nats), abs=2e-3)
    assert re.search(r"bound</th><td>([\d.]+) nats", numbers)[1] == f"{-log_prob:.2f}"
    z1 = model.encode(pixels[None])["z1_mean"]
    drawn = model.decode([np.repeat(z1, 2, axis=0)], [4, 5], 0.8, labels=[2, 2])
    # Behind the image and its map.
    np.testing.assert_array_equal(shown(pictures_html)[2:], as_shown(explored, drawn))
    np.testing.assert_array_equal(shown(pictures_html)[0][..., 0], as_shown(explored, pixels[None])[0])
    run_script(script, monkeypatch, tmp_path, explored)
    assert float(capsys.readouterr().out) == pytest.approx(float(log_prob), rel=1e-5)
    tiled = pictures.tile(drawn.numpy(), facts.num_values, 2, markup.SAVED_SCALE)
    np.testing.assert_array_equal(Image.open(tmp_path / "reconstructions.png"), tiled[..., 0])


def test_a_mask_is_kept_and_the_rest_completed(models, monkeypatch, tmp_path):
    explored, model = models(VECTOR)
    height, width, _ = explored.facts.image_shape
    mask = np.random.default_rng(1).integers(0, 2, (height, width, 1), np.uint8)
    text = masks.write(mask)
    np.testing.assert_array_equal(masks.read(text, height, width), mask)
    image = explored.image(origins.Drawn((2, 2)))
    noise, of_all = explored_model.Noise(5, 0.9), [each[None].repeat(3, axis=0) for each in (image.pixels, mask)]
    grid, script = complete.draw(explored, image, text, 3, noise, 2)
    expected = model.complete(*of_all, [5, 6, 7], 0.9, 2)
    # Of an export of an earlier version, the rounds that it has.
    facts = dataclasses.replace(explored.facts, rounds=None)
    earlier = explored_model.ExploredModel(explored.model, facts, "", ("", ""))
    of_export = shown(complete.draw(earlier, image, text, 3, noise, 2)[0])
    np.testing.assert_array_equal(of_export, as_shown(explored, model.complete(*of_all, [5, 6, 7], 0.9)))
    np.testing.assert_array_equal(shown(grid), as_shown(explored, expected))
    kept = np.broadcast_to(mask[..., 0], (3, height, width)) > 0
    np.testing.assert_array_equal(np.stack(shown(grid))[kept], as_shown(explored, [image.pixels] * 3)[kept])
    run_script(script, monkeypatch, tmp_path, explored)
    tiled = pictures.tile(expected.numpy(), explored.facts.num_values, 3, markup.SAVED_SCALE)
    np.testing.assert_array_equal(Image.open(tmp_path / "completions.png"), tiled[..., 0])


def test_a_model_without_latents_has_fewer_tabs_and_small_batches(models):
    explored, model = models(WITHOUT)
    assert [tab.ID for tab in page.tabs_of(explored)] == ["samples", "your_image", "complete", "about"]
    *_, (grids, _) = samples.draw(explored, 0, 5, 1.0, None, None)  # batches of 2
    np.testing.assert_array_equal(shown(grids), as_shown(explored, model.sample(5)))
    _, numbers, _ = your_image.draw(explored, explored.image(origins.Drawn((0,))), 0, 1.0, 2)
    assert "log p(x)</th>" in numbers and "KL" not in numbers


@pytest.mark.parametrize("max_batch", [1, 2, 3, 5])
def test_a_page_of_a_model_of_small_batches_can_be_made(models, max_batch):
    """It offers as many images as any, in batches; Gradio refuses a slider that starts beyond its end."""
    explored = copy.copy(models(GRID)[0])
    explored.facts = dataclasses.replace(explored.facts, max_batch=max_batch)
    blocks = page.build(explored, Preparation(explored))
    sliders = [block for block in blocks.blocks.values() if isinstance(block, gradio.Slider)]
    assert sliders and all(slider.minimum <= slider.value <= slider.maximum for slider in sliders)
    number = {(slider.maximum, slider.value) for slider in sliders if slider.label == "Images"}
    assert number >= {(explored_model.MOST_IMAGES, 16)}


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("[::1]", True), ("0.0.0.0", False), ("::", False)],
)
def test_the_machine_alone_is_known_by_its_addresses(host, loopback):
    assert serving.is_loopback(host) == loopback


@pytest.mark.parametrize("name", [VECTOR, GRID, WITHOUT])
def test_a_server_tells_what_the_page_has_to_know(models, name):
    explored, _ = models(name)
    facts = explored.facts
    with servers.serve_rest({"shown": servers.Model(explored.model.path)}) as address:
        served = opening.server(address, "shown", 30.0)
        of_server = served.facts
        assert of_server.num_classes == (None if facts.num_classes else 0)
        for field in ("image_shape", "num_values", "latent_shape", "num_levels", "rounds"):
            assert getattr(of_server, field) == getattr(facts, field), field
        assert of_server.max_batch == min(explored_model.BATCH, facts.max_batch)
        origin = origins.Drawn((3,) * (facts.num_levels + 1), 0.9, 0 if facts.num_classes else None)
        ours, theirs = explored.image(origin), served.image(origin)
        np.testing.assert_array_equal(theirs.pixels, ours.pixels)
        np.testing.assert_array_equal(theirs.z1, ours.z1)  # JSON has all digits of a float32
        more = [
            dataclasses.replace(origin, seeds=(seed,) * len(origin.seeds)) for seed in range(of_server.max_batch + 1)
        ]
        pixels = [[image.pixels for image in model.draw(more)] for model in (served, explored)]
        np.testing.assert_array_equal(*pixels)
    with pytest.raises(client.ServerError, match="server must be the host:port of one that answers"):
        served.image(origins.Drawn((4,) * (facts.num_levels + 1)))


@pytest.mark.parametrize(
    ("origin", "text"),
    [
        (origins.Drawn((7, 7), 0.8), "7_0.8"),
        (origins.Drawn((-7, 2**53 - 1), 1.0, 3), "-7.9007199254740991_1.0*3"),
        (origins.Given(b"\0\1\2\3"), None),
        (origins.Given(b"\0\1\2\3", 12), None),
    ],
)
def test_an_origin_is_read_as_it_was_written(origin, text):
    assert text in (None, str(origin))
    assert origins.parse(str(origin), 2, 4) == origin
    assert re.fullmatch(r"[\w.*=-]+", str(origin))  # what an address holds as it is


BOMB = base64.urlsafe_b64encode(zlib.compress(bytes(10**7), 9)).decode()


@pytest.mark.parametrize(
    "text", ["", "7", "7_9.5", "1.2.3_1.0", "7_0.01", f"{2**53}_1.0", "*", "*AAAA", "*eJw=*1*2", f"*{BOMB}", "7_nan"]
)
def test_an_origin_that_nobody_wrote_is_refused(text):
    with pytest.raises(ValueError, match="image must be one that this page made a link of"):
        origins.parse(text, 2, 4)


def test_moves_and_masks_of_a_link_are_checked():
    assert units.read_moves(units.write_moves({3: 1.5, 0: -2.0}), 4) == {0: -2.0, 3: 1.5}
    for text in ("4_1.0", "0_4.5", "0_nan", "x"):
        with pytest.raises(ValueError, match=r"moves must be|could not convert|invalid literal"):
            units.read_moves(text, 4)
    for text in ("", "ff", "zz" * 8):
        with pytest.raises(ValueError, match="mask must be 16 hexadecimal digits for 8x8 pixels"):
            masks.read(text, 8, 8)


def test_a_link_restores_its_choices_and_passes_over_what_is_wrong(models):
    explored, _ = models(GRID)
    blocks = page.build(explored, Preparation(explored))
    restore = next(function for function in blocks.fns.values() if function.name == "restore")
    names = [component.value for component in restore.inputs]
    assert names == [""]
    values = restore.fn(
        "#seed=7&temperature=0.5&compared=true&tab=levels&redrawn=z3%2Cz1&steps=99&label=2&image=nothing"
    )
    *chosen, tabs = values
    assert tabs.selected == chosen[-1] == "levels"
    assert 7 in chosen and 0.5 in chosen and True in chosen and ["z3", "z1"] in chosen
    assert "0_1.0" in chosen and "nothing" not in chosen and 99 not in chosen
    assert restore.fn("")[-2] == "samples"
    assert [] in restore.fn("#redrawn="), "nothing is redrawn, which is a choice too"
    assert restore.fn("#" + "&".join(f"x{number}=1" for number in range(999)))[-2] == "samples"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (VECTOR, "Rounds cannot be chosen: this export was made before they could be. Export the model again."),
        (WITHOUT, "Rounds cannot be chosen: without latents there are none."),
    ],
)
def test_where_rounds_cannot_be_chosen_the_page_says_why(models, name, said):
    explored, _ = models(name)
    facts = dataclasses.replace(explored.facts, rounds=None)
    without = explored_model.ExploredModel(explored.model, facts, "", ("", ""))
    blocks = page.build(without, Preparation(without))
    assert said in [block.value for block in blocks.blocks.values() if isinstance(block, gradio.Markdown)]
    shown = [block.label for block in blocks.blocks.values() if isinstance(block, gradio.Slider) and block.visible]
    assert "Completions" in shown and "Rounds of encoding and filling in" not in shown


def test_choices_read_what_javascript_writes():
    read = choices.some_of("a", "b")
    assert (read("b,a"), read(""), choices.one_of(True, False)("false")) == (["a", "b"], [], False)
    for reader, text in (
        (read, "c"),
        (choices.whole(0, 3), "4"),
        (choices.number(0, 1), "nan"),
        (choices.one_of(1), "x"),
    ):
        with pytest.raises(ValueError):
            reader(text)


def test_a_newer_choice_replaces_what_is_being_drawn(models):
    explored, _ = models(VECTOR)
    begun, go_on, drawn = threading.Event(), threading.Event(), []

    def slow(number):
        for part in range(3):
            drawn.append((number, part))
            begun.set()
            if number == 1:
                go_on.wait(10)
            yield part

    with gradio.Blocks():
        shown_page = wiring.Page(explored)
        shown_page.draws("tab", slow, [], [gradio.HTML()], [])
    draw, turns, first = shown_page._draws[0][0], {}, []
    thread = threading.Thread(target=lambda: first.extend(draw(turns, "tab", 1)))
    thread.start()
    begun.wait(10)
    assert list(draw({}, "tab", 3)) == [0, 1, 2]  # of another browser tab
    assert list(draw(turns, "tab", 2)) == [0, 1, 2]
    go_on.set()
    thread.join(10)
    assert first == [gradio.skip()] and (1, 1) not in drawn
    assert list(draw(turns, "another", 4)) == [gradio.skip()]


def test_an_error_is_said_in_the_page(models):
    explored, _ = models(VECTOR)

    def failing():
        raise client.ServerError("server must be there")

    with gradio.Blocks():
        shown_page = wiring.Page(explored)
        shown_page.draws("tab", failing, [], [gradio.HTML()], [])
    with pytest.raises(gradio.Error, match="server must be there"):
        list(shown_page._draws[0][0]({}, "tab"))


def _png(path: pathlib.Path, width: int, height: int) -> pathlib.Path:
    """A PNG whose head says that it is so large."""
    Image.new("1", (8, 8)).save(path)
    content = bytearray(path.read_bytes())
    content[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    path.write_bytes(content)
    return path


def test_an_upload_is_read_as_training_reads_it_and_is_gone_then(models, tmp_path):
    explored, _ = models(VECTOR)
    height, width, _ = explored.facts.image_shape
    path = tmp_path / "photo.png"
    grey = np.random.default_rng(0).integers(0, 256, (2 * height, 2 * width + 6), np.uint8)
    Image.fromarray(grey).save(path)
    read = uploads.read_and_remove(path, explored.facts)
    square = grey[:, 3:-3].reshape(height, 2, width, 2).mean(axis=(1, 3))
    expected = pictures.to_pixel_values(np.rint(square), explored.facts.num_values)
    # Means at .5 are rounded one way or the other, which changes a value at a border alone.
    assert np.abs(read[..., 0].astype(int) - expected).max() <= 1 and (read[..., 0] == expected).mean() > 0.9
    assert not path.exists()


def test_what_is_no_image_or_too_large_is_refused_by_name(models, tmp_path, monkeypatch):
    explored, _ = models(VECTOR)
    text = tmp_path / "text.png"
    text.write_text("no picture")
    cases = [(text, "image must be a picture file. Received: 'text.png', which cannot be read: UnidentifiedImageError")]
    cases += [(_png(tmp_path / "bomb.png", 2**16, 2**16), "image must be no decompression bomb. Received: 'bomb.png'")]
    cases += [(_png(tmp_path / "large.png", 2**13, 2**14), "image must have at most 67108864 pixels")]
    damaged = _png(tmp_path / "note.png", 2**13, 2**14).read_bytes()  # Pillow does not open such a note
    note = picture_bytes.chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2**27)))
    (tmp_path / "note.png").write_bytes(damaged[:33] + note + damaged[33:])
    cases += [(tmp_path / "note.png", "image must have at most 67108864 pixels")]
    for path, message in cases:
        with pytest.raises(ValueError, match=re.escape(message)):
            uploads.read_and_remove(path, explored.facts)
        assert not path.exists()
    monkeypatch.setattr(uploads, "MAX_BYTES", 10)
    with pytest.raises(ValueError, match="image must have at most 10 bytes"):
        uploads.read(_png(tmp_path / "bytes.png", 8, 8), explored.facts)
    with pytest.raises(ValueError, match="image can be read from files only for models of square images"):
        uploads.read(tmp_path / "bytes.png", models(GRID)[0].facts)


def test_preparation_calls_everything_once_and_says_what_failed(models):
    explored, _ = models(GRID)
    preparation = Preparation(explored)
    messages = list(preparation.messages())
    assert messages[-1] == "" and re.search(r"Preparing \w+, [1-6] of 6", messages[0])
    assert explored._called >= {"sample", "sample_by_level", "encode", "decode", "complete_in_rounds", "log_prob"}
    failing = Preparation(explored, before=lambda: 1 / 0)
    assert 'role="alert">division by zero' in list(failing.messages())[-1]
    failing._before = lambda: None  # a server that came back
    assert list(failing.messages())[-1] == ""


def test_markup_escapes_what_it_is_given():
    hostile = '"><script>alert(1)</script>'
    picture = markup.Picture(np.zeros((2, 2, 1), np.uint8), hostile, hostile, hostile)
    made = [markup.grid([picture], 1, hostile, hostile), markup.table([[hostile, hostile]], hostile)]
    made += [markup.bars([(hostile, 1.0)], "nats", hostile), markup.message(hostile)]
    for text in made:
        assert "<script" not in text and html.escape(hostile) in text
    assert markup.title("<b>a_b/c") == "&lt;b&gt;a_<wbr>b/<wbr>c"
