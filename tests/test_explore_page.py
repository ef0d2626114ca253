"""The page of pixelvae-explore in Chromium: what is chosen gives the model's own pixels; nothing leaves the machine.

`apt-get install chromium` (or any Chromium or Chrome on the path) lets these run.
"""

import base64
import io
import json
import pathlib
import re
import shutil
import socket
import threading
import urllib.error
import urllib.request
from unittest import mock

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Locator, Page, expect, sync_playwright

from pixelvae_tf import pictures
from pixelvae_tf.export import client, local
from pixelvae_tf.export.explore import levels, masks, opening, serving, uploads
from pixelvae_tf.export.explore.preparation import Preparation
from pixelvae_tf.interpolation import interpolate

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
if CHROMIUM is None:
    pytest.skip("no Chromium on the path: apt-get install chromium", allow_module_level=True)

MODEL = "gated_pixel_vae"
TABS = ("Samples", "Latents", "Levels", "Your image", "Complete", "About")
LAPTOP, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
expect.set_options(timeout=15_000)


@pytest.fixture(scope="module")
def asked() -> list[str]:
    """Addresses of other machines that this process or the browser asked, all of which are refused."""
    return []


@pytest.fixture(scope="module", autouse=True)
def _no_other_machine(asked):
    def refuse(connect):
        def checked(self, address):
            host = address[0] if isinstance(address, tuple) else ""
            if host not in ("", "localhost", "127.0.0.1", "::1"):
                asked.append(f"socket to {address}")
                raise OSError("no other machine")
            return connect(self, address)

        return checked

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse(socket.socket.connect))
        patch.setattr(socket.socket, "connect_ex", refuse(socket.socket.connect_ex))
        yield


@pytest.fixture(scope="module")
def explored(export):
    return opening.saved_model(export(MODEL).path)


@pytest.fixture(scope="module")
def model(export):
    return export(MODEL).model


@pytest.fixture(scope="module")
def address(explored):
    with serving.served(explored, Preparation(explored)) as where:
        yield where


@pytest.fixture(scope="module")
def context(asked):
    """A browser; its pages share what it keeps of files, and nothing else."""

    def note(request):
        if not re.match(r"(https?|wss?)://127\.0\.0\.1[:/]|data:|blob:", request.url):
            asked.append(request.url)

    with sync_playwright() as playwright:
        # The resolver knows no name: what the page's own policy lets through fails there. (A route that refuses would
        # turn the browser's cache off, and each page would compile its scripts anew.)
        arguments = ["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        opened = browser.new_context(reduced_motion="reduce")
        opened.on("request", note)
        yield opened
        browser.close()


@pytest.fixture
def new_page(context, asked):
    """Opens an address in a page of its own."""
    pages = []

    def open_page(where: str, color_scheme: str = "light", viewport: dict = LAPTOP) -> Page:
        page = context.new_page()
        pages.append(page)
        page.emulate_media(color_scheme=color_scheme)
        page.set_viewport_size(viewport)
        page.on("console", lambda message: "Content Security Policy" in message.text and asked.append(message.text))
        page.goto(where)
        expect(link_of(page)).to_have_attribute("href", re.compile("tab="))  # its choices are there
        return page

    yield open_page
    for page in pages:
        page.close()


def link_of(page: Page) -> Locator:
    return page.get_by_role("link", name="Link to what is shown")


def decoded(page: Page, name: str) -> np.ndarray:
    """The pixels of the one picture in sight whose text for screen readers is `name`."""
    picture = page.locator(f"img[alt='{name}']:visible").last
    expect(picture).to_be_visible()
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(picture.get_attribute("src").partition(",")[2]))))


def answer(explored, signature: str, **inputs) -> dict[str, np.ndarray]:
    """What the SavedModel answers; that it answers as the model does is shown by test_export.py."""
    return explored.model.predict(signature, inputs)


def as_shown(explored, image) -> np.ndarray:
    return pictures.to_uint8_picture(np.asarray(image), explored.facts.num_values)[..., 0]


def type_in(page: Page, label: str, value: object) -> None:
    page.get_by_label(label, exact=True).locator("visible=true").first.fill(str(value))
    page.keyboard.press("Tab")


def saved_of(page: Page) -> dict[str, np.ndarray]:
    """What "Save PNG" saves, of all grids in sight, by the names of the files."""
    links = [
        (link.get_attribute("download"), link.get_attribute("href")) for link in page.locator(".save:visible").all()
    ]
    return {name: np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))) for name, url in links}


def check_python(page: Page, explored, folder: pathlib.Path) -> None:
    """Runs the lines that a tab gives: they write all that its links save, but for what a heat map shows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(local, "SavedModel", lambda path: explored.model)  # loaded already
        exec(compile(page.locator("#python pre").text_content(), "python", "exec"), {})
    saved = saved_of(page)
    saved.pop("likelihood_map.png", None)
    assert saved
    for name, pixels in saved.items():
        np.testing.assert_array_equal(np.asarray(Image.open(folder / name)), pixels, err_msg=name)


def test_a_seed_that_is_typed_gives_its_samples(new_page, address, explored):
    page = new_page(address)
    type_in(page, "Seed of the first image", 40)
    page.get_by_label("number input for Temperature").first.fill("0.5")
    page.keyboard.press("Tab")
    images = answer(explored, "sample", seed=range(40, 56), temperature=[0.5] * 16)["images"]
    for index in (0, 15):
        name = f"sample of seed {40 + index}, temperature 0.5"
        np.testing.assert_array_equal(decoded(page, name), as_shown(explored, images[index]))


def test_by_keyboard_a_sample_is_taken_and_its_latents_moved(new_page, address, explored, model):
    page = new_page(address)
    page.locator("button:has(img[alt='sample of seed 3, temperature 1'])").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#strip")).to_contain_text("sample of seed 3, temperature 1")
    page.get_by_role("tab", name="Samples").focus()
    page.keyboard.press("Tab")  # the next tab
    page.keyboard.press("Enter")
    slider = page.locator(".sliders input[type=range]:visible").first
    named = re.compile(r"z1\[(\d+)\], [\d.]+ nats")
    expect(slider).to_have_attribute("aria-label", named)
    unit = int(named.search(slider.get_attribute("aria-label"))[1])
    slider.focus()
    before = float(slider.input_value())
    page.keyboard.press("PageUp")
    value = float(slider.input_value())
    assert value > before
    expect(link_of(page)).to_have_attribute("href", re.compile(rf"moves={unit}_{value:g}"))
    z1 = model.sample_prior([3])[0].numpy()
    z1[0, unit] = value
    expected = answer(explored, "decode", z1=z1, seed=[3], temperature=[1.0])["images"][0]
    np.testing.assert_array_equal(decoded(page, "image of these latents"), as_shown(explored, expected))
    page.get_by_text("As Python").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_label("As Python")).to_contain_text(f"z1[0, {unit}] = ")


def test_a_mask_that_is_painted_is_kept(new_page, address, explored):
    page = new_page(f"{address}#tab=complete&image=2_1.0")
    page.get_by_role("button", name="everything").click()
    canvas = page.locator(".brush canvas")
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.2, box["y"] + box["height"] * 0.5)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.8, box["y"] + box["height"] * 0.5, steps=3)
    page.mouse.up()
    link = link_of(page)
    height, width, _ = explored.facts.image_shape
    expect(link).to_have_attribute("href", re.compile(r"mask=(?!f+0*&)[0-9a-f]+&"))
    mask = masks.read(re.search(r"mask=([0-9a-f]+)", link.get_attribute("href"))[1], height, width)[..., 0]
    assert mask.all(axis=1).any() and not mask[height // 2, width // 4 : -width // 4].any()
    images = answer(explored, "sample", seed=[2], temperature=[1.0])["images"]
    noise = {"seed": [0], "temperature": [1.0], "mask": mask[None, ..., None]}
    expected = answer(explored, "complete", images=images, **noise)["images"][0]
    page.wait_for_timeout(500)
    completed = decoded(page, "completion of seed 0")
    np.testing.assert_array_equal(completed, as_shown(explored, expected))
    np.testing.assert_array_equal(completed[mask > 0], as_shown(explored, images[0])[mask > 0])
    # By keyboard: the pixel at the cursor, and what it is now is said.
    canvas.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press(" ")
    expect(page.locator(".brush [role=status]")).to_have_text("row 1, column 2: erased")


def test_an_upload_is_measured_and_its_link_restores_the_page(new_page, address, explored, tmp_path):
    page = new_page(f"{address}#tab=your_image&measured=4")
    height, width, _ = explored.facts.image_shape
    values = np.random.default_rng(0).integers(0, explored.facts.num_values, (height, width, 1), np.uint8)
    pictures.write_png(tmp_path / "mine.png", pictures.to_uint8_picture(values, explored.facts.num_values))
    page.locator("input[type=file]").set_input_files(tmp_path / "mine.png")
    expect(page.locator("#strip")).to_contain_text("image that was given")
    log_prob = answer(explored, "log_prob", images=values[None], seed=[4])["log_prob"][0]
    expect(page.locator(".tables")).to_contain_text(f"{log_prob:.3f} nats")
    expect(link_of(page)).to_have_attribute("href", re.compile(r"image=\*"))
    link = link_of(page).get_attribute("href")
    page.wait_for_function("link => location.href === link", arg=link)

    def everything(of: Page):
        return [image.get_attribute("src") for image in of.locator("img:visible").all()], of.locator(
            ".tables"
        ).inner_html()

    other = new_page(link)
    expect(other.locator(".tables")).to_contain_text(f"{log_prob:.3f} nats")
    expect(other.locator("img[alt='reconstruction of seed 9']")).to_be_visible()
    expect(other.locator("#strip figure")).to_have_count(2)
    assert everything(other) == everything(page)


def test_a_sample_that_is_clicked_on_goes_to_the_other_tabs(new_page, address, explored, model, tmp_path):
    page = new_page(f"{address}#steps=3")
    page.locator("button:has(img[alt='sample of seed 5, temperature 1'])").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="Save PNG").click()
    assert download.value.suggested_filename == "samples_1.png"
    np.testing.assert_array_equal(np.asarray(Image.open(download.value.path())), saved_of(page)["samples_1.png"])
    check_python(page, explored, tmp_path)
    z1 = model.sample_prior([5])[0].numpy()
    drawn = answer(explored, "sample", seed=[0, 5], temperature=[1.0, 1.0])["images"]
    ends = answer(explored, "encode", images=drawn)["z1_mean"]

    page.get_by_role("tab", name="Latents").click()
    swept = page.locator("img[alt$=', swept: +3']")
    expect(swept).to_be_visible()
    name = swept.get_attribute("alt").removesuffix("+3")
    moved = z1.repeat(2, axis=0)
    moved[:, int(re.match(r"z1\[(\d+)\]", name)[1])] = -3.0, 3.0
    images = answer(explored, "decode", z1=moved, seed=[5, 5], temperature=[1.0, 1.0])["images"]
    for value, image in zip(("-3", "+3"), images, strict=True):
        np.testing.assert_array_equal(decoded(page, f"{name}{value}"), as_shown(explored, image))
    (between,) = interpolate(ends[:1], ends[1:], 3)
    images = answer(explored, "decode", z1=between, seed=[5] * 3, temperature=[1.0] * 3)["images"]
    for share, image in zip(("0%", "50%", "100%"), images, strict=True):
        shown = decoded(page, f"From the image at hand before to this one: {share}")
        np.testing.assert_array_equal(shown, as_shown(explored, image))
    check_python(page, explored, tmp_path)

    page.get_by_role("tab", name="Levels").click()
    new = 5 + levels.MOST + 1
    redrawn = decoded(page, f"sample of seeds 5, {new}, temperature 1")
    expected = answer(explored, "sample_by_level", seed_z1=[5], seed_pixels=[new], temperature=[1.0])["images"][0]
    np.testing.assert_array_equal(redrawn, as_shown(explored, expected))
    expect(page.locator("#python pre")).to_contain_text("levels.png")
    check_python(page, explored, tmp_path)

    page.get_by_role("tab", name="Complete").click()
    page.get_by_label("number input for Rounds of encoding and filling in").fill("1")
    page.keyboard.press("Tab")
    expect(page.locator("#python pre")).to_contain_text("'rounds': [1] * 8")
    height, width, _ = explored.facts.image_shape
    noise = {"seed": [0], "temperature": [1.0], "mask": pictures.halves(height, width)["top"][None]}
    expected = answer(explored, "complete_in_rounds", images=drawn[1:], rounds=[1], **noise)["images"]
    page.wait_for_function("!document.querySelector('.pending')")
    np.testing.assert_array_equal(decoded(page, "completion of seed 0"), as_shown(explored, expected[0]))
    check_python(page, explored, tmp_path)

    page.get_by_role("tab", name="Your image").click()
    expect(page.locator("#python pre")).to_contain_text("reconstructions.png")
    check_python(page, explored, tmp_path)


def test_a_newer_choice_ends_what_is_being_drawn(new_page, address, explored, monkeypatch):
    begun, go_on, drawn, predict = threading.Event(), threading.Event(), [], explored.model.predict

    def slow(name, inputs):
        drawn.append(int(inputs["seed"][0]))
        if drawn[-1] == 1000:
            begun.set()
            go_on.wait(20)
        return predict(name, inputs)

    page = new_page(f"{address}#number=64")
    expect(page.locator("img[alt='sample of seed 63, temperature 1']")).to_be_visible()
    monkeypatch.setattr(explored.model, "predict", slow)
    type_in(page, "Seed of the first image", 1000)
    assert begun.wait(20)
    type_in(page, "Seed of the first image", 2000)
    expect(page.locator("img[alt='sample of seed 2063, temperature 1']")).to_be_visible()
    go_on.set()
    page.wait_for_timeout(500)
    assert [seed for seed in drawn if seed < 2000] == [1000], "of the 64 the first sixteen alone"
    expect(page.locator("img[alt='sample of seed 1000, temperature 1']")).to_have_count(0)


def test_two_pages_do_not_disturb_each_other(new_page, address):
    first, second = new_page(address), new_page(address)
    first.locator("button:has(img[alt='sample of seed 5, temperature 1'])").click()
    expect(first.locator("#strip")).to_contain_text("sample of seed 5")
    type_in(first, "Seed of the first image", 90)
    expect(first.locator("img[alt='sample of seed 90, temperature 1']")).to_be_visible()
    expect(second.locator("#strip")).to_contain_text("sample of seed 0")
    expect(second.locator("img[alt='sample of seed 15, temperature 1']")).to_be_visible()


def test_what_cannot_be_read_is_said_in_the_page(new_page, address, tmp_path):
    page = new_page(f"{address}#tab=your_image")
    (tmp_path / "notes.txt").write_text("not a picture")
    page.locator("input[type=file]").set_input_files(tmp_path / "notes.txt")
    expect(page.locator("body")).to_contain_text("notes.txt. Only image allowed")
    (tmp_path / "notes.png").write_text("not a picture")
    page.locator("input[type=file]").set_input_files(tmp_path / "notes.png")
    expect(page.locator("body")).to_contain_text("image must be a picture file. Received: 'notes.png'")


def test_a_model_that_went_away_is_said_in_the_page(new_page, address, explored, export, monkeypatch, tmp_path):
    page = new_page(address)
    expect(page.locator("img[alt='sample of seed 15, temperature 1']")).to_be_visible()
    expect(page.locator("#status .message")).to_have_count(0)
    with monkeypatch.context() as patch:
        refused = client.ServerError("server must be the host:port of one that answers. Received: 'there:1'")
        patch.setattr(explored.model, "predict", mock.Mock(side_effect=refused))
        type_in(page, "Seed of the first image", 7000)
        expect(page.locator("body")).to_contain_text(str(refused))
    shutil.copytree(export(MODEL).path, tmp_path / "1")
    gone = opening.saved_model(tmp_path / "1")
    shutil.rmtree(tmp_path / "1")
    with serving.served(gone, Preparation(gone)) as of_gone:
        page = new_page(of_gone)
        expect(page.get_by_role("alert").first).to_contain_text("saved_model must be whole. Received: ")


@pytest.mark.parametrize(
    # On a phone the tab on the screen and the first are in sight, the others behind a button.
    ("scheme", "viewport", "tabs"),
    [
        ("light", LAPTOP, TABS),
        ("dark", PHONE, ("Complete", "Samples")),
        # An audit takes two seconds, and the colours of these tabs are those of the others.
        pytest.param("dark", LAPTOP, TABS, marks=pytest.mark.slow),
    ],
)
def test_axe_finds_no_serious_fault_and_there_is_room(new_page, address, scheme, viewport, tabs):
    page = new_page(f"{address}#tab={tabs[0].lower()}", scheme, viewport)
    for tab in tabs:
        page.get_by_role("tab", name=tab, exact=True).click()
        page.wait_for_timeout(500)
        page.wait_for_function("!document.querySelector('.pending')")
        faults = Axe().run(page).response["violations"]
        serious = {
            fault["id"]: [node["html"] for node in fault["nodes"]]
            for fault in faults
            if fault["impact"] in ("serious", "critical")
        }
        assert not serious, f"{tab}: {json.dumps(serious, indent=1)[:3000]}"
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), tab


def _status(url: str, **headers) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_nothing_is_read_that_was_not_uploaded(address, tmp_path):
    secret = tmp_path / "secret.png"
    pictures.write_png(secret, np.zeros((8, 8, 1), np.uint8))
    for path in (secret, pathlib.Path(uploads.__file__), "/etc/passwd", "../../etc/passwd"):
        assert _status(f"{address}gradio_api/file={path}") in (400, 403, 404)
    # Another website, whose name leads here.
    assert _status(address, Host="elsewhere.example") == 400
    with urllib.request.urlopen(address) as answer:
        assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
        config = json.loads(re.search(r"window.gradio_config = (\{.*?\});</script>", answer.read().decode())[1])
    upload = next(
        each
        for each in config["dependencies"]
        if each["targets"] and each["targets"][0][1] == "upload" and each["backend_fn"]
    )
    forged = [
        {"path": str(secret), "meta": {"_type": "gradio.FileData"}} if index else "0_1.0"
        for index in range(len(upload["inputs"]))
    ]
    body = {"fn_index": upload["id"], "data": forged, "session_hash": "forged", "event_data": None}
    request = urllib.request.Request(
        f"{address}gradio_api/queue/join", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    urllib.request.urlopen(request).close()
    with urllib.request.urlopen(f"{address}gradio_api/queue/data?session_hash=forged") as answer:
        said = answer.read().decode()
    assert '"success":false' in said and secret.exists(), said


def test_what_was_uploaded_is_gone_at_the_end(explored, monkeypatch):
    kept = []
    real = serving.tempfile.TemporaryDirectory
    monkeypatch.setattr(
        serving.tempfile, "TemporaryDirectory", lambda **options: kept.append(real(**options)) or kept[0]
    )
    with serving.served(explored, Preparation(explored)) as where:
        body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\nabc\r\n--x--\r\n'
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        with urllib.request.urlopen(urllib.request.Request(f"{where}gradio_api/upload", body, headers)) as answer:
            (path,) = json.load(answer)
        assert pathlib.Path(path).is_relative_to(kept[0].name) and pathlib.Path(path).read_bytes() == b"abc"
        large = body.replace(b"abc", bytes(uploads.MAX_BYTES + 1))
        with pytest.raises(urllib.error.HTTPError, match=r"413|400"):
            urllib.request.urlopen(urllib.request.Request(f"{where}gradio_api/upload", large, headers))
    assert not pathlib.Path(kept[0].name).exists()


def test_no_other_machine_was_asked(asked):
    """The last test of the file: of all before it."""
    assert asked == []
