"""pixelvae-compress and pixelvae-decompress, each in a process of its own, with a SavedModel alone."""

import numpy as np
import pytest
from commands import run_command

from pixelvae_tf.codec import front
from pixelvae_tf.codec import images as images_lib

pytest.importorskip("constriction")
COMPRESS, DECOMPRESS = "export.compress_main", "export.decompress_main"


@pytest.fixture(scope="module")
def exported(export):
    return export("gated_pixel_vae")


def test_what_one_process_compresses_another_decompresses(exported, tmp_path):
    file = tmp_path / "images.pvc"
    images = exported.model.sample(20).numpy().astype(np.uint8)
    np.save(tmp_path / "images.npy", images)
    arguments = [f"--saved_model={exported.path.parent}", f"--images={tmp_path}/images.npy", f"--output={file}"]
    options = ["--images_per_chunk=12", "--lanes=4", "--tolerance=1e-5", "--checksums", "--noverify"]
    status, out, errors = run_command(COMPRESS, *arguments, *options, TF_NUM_INTRAOP_THREADS="1")
    assert status == 0, errors
    header = front.read_layout(file.read_bytes()).header
    assert [header[name] for name in ("lanes", "tolerance", "checksums")] == [4, 1e-5, True]
    assert out.startswith("compressed: 20 images") and f"{file.stat().st_size} bytes" in out
    of_model = [f"--saved_model={exported.path}", f"--input={file}"]
    status, out, errors = run_command(DECOMPRESS, *of_model, f"--output={tmp_path}/all", TF_NUM_INTRAOP_THREADS="2")
    assert status == 0, errors
    assert out == f"decompressed: 20 images, {tmp_path}/all\n" and "image 20/20" in errors
    np.testing.assert_array_equal(np.load(tmp_path / "all" / "images.npy"), images)
    some = [f"--output={tmp_path}/some", "--only=3,17", "--format=png"]
    status, out, errors = run_command(DECOMPRESS, *of_model, *some, TF_ENABLE_ONEDNN_OPTS="0")
    assert status == 0, errors
    assert sorted(path.name for path in (tmp_path / "some").iterdir()) == ["0000003.png", "0000017.png"]
    read, _ = images_lib.read(str(tmp_path / "some"), exported.model.config)
    np.testing.assert_array_equal(read, images[[3, 17]])


@pytest.mark.slow  # TensorFlow is imported in six processes
def test_chunks_at_a_time_make_the_same_file(exported, tmp_path):
    images = exported.model.sample(20).numpy().astype(np.uint8)
    np.save(tmp_path / "images.npy", images)
    for jobs in (1, 2):
        made = [f"--images={tmp_path}/images.npy", "--images_per_chunk=12", f"--output={tmp_path}/{jobs}.pvc"]
        status, _, errors = run_command(COMPRESS, f"--saved_model={exported.path}", *made, f"--jobs={jobs}")
        assert status == 0 and "image 40/40" in errors, errors
    assert (tmp_path / "1.pvc").read_bytes() == (tmp_path / "2.pvc").read_bytes()
    decoded = [f"--input={tmp_path}/2.pvc", f"--output={tmp_path}/all", "--jobs=2"]
    status, _, errors = run_command(DECOMPRESS, f"--saved_model={exported.path}", *decoded)
    assert status == 0, errors
    np.testing.assert_array_equal(np.load(tmp_path / "all" / "images.npy"), images)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only="], "pixelvae-decompress: only must be places with commas between them, as 3,17. Received: "),
        (["--only=3,x"], "pixelvae-decompress: only must be places with commas between them, as 3,17. Received: 3,x"),
        ([], "pixelvae-decompress: input must be a file of pixelvae-compress. Received: another kind of file"),
        (["--input=/dev/zero"], "pixelvae-decompress: input must be a file. Received: '/dev/zero'"),
        (
            ["--output=/dev/null/out"],
            "output must be a directory that can be written. Received: '/dev/null/out': [Errno 20]",
        ),
    ],
)
def test_what_is_no_file_of_ours_is_refused(exported, tmp_path, arguments, message):
    (tmp_path / "input").write_bytes(b"no file of ours, but long enough")
    places = [
        f"--input={tmp_path}/input",
        f"--output={tmp_path}/out",
        f"--saved_model={exported.path}",
    ]
    status, _, errors = run_command(DECOMPRESS, *places, *arguments)
    assert status not in (0, None) and message in errors and "Traceback" not in errors
    assert not (tmp_path / "out").exists()


def test_a_compressed_file_does_not_become_one_of_the_images(tmp_path):
    places = [f"--images={tmp_path}", f"--output={tmp_path}/a.png", "--saved_model=not/looked/at"]
    status, _, errors = run_command(COMPRESS, *places)
    assert status == 1 and "pixelvae-compress: output must not lie in images" in errors


@pytest.mark.parametrize("where", ["nowhere/images.pvc", "images.npy"])
def test_what_cannot_be_written_is_said_before_anything_is_coded(tmp_path, where):
    np.save(tmp_path / "images.npy", np.zeros((1, 8, 8, 1), np.uint8))
    before = (tmp_path / "images.npy").read_bytes()
    places = [f"--images={tmp_path}/images.npy", f"--output={tmp_path}/{where}", "--saved_model=not/looked/at"]
    status, _, errors = run_command(COMPRESS, *places)
    assert (
        status == 1 and "pixelvae-compress: output must" in errors and (tmp_path / "images.npy").read_bytes() == before
    )
    if where == "images.npy":
        status, _, errors = run_command(DECOMPRESS, f"--input={tmp_path}/{where}", f"--output={tmp_path}", places[-1])
        assert status == 1 and "pixelvae-decompress: output must be a new or empty directory" in errors
