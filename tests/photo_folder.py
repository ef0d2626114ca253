"""A folder of pictures of all kinds."""

import os
import pathlib

import numpy as np
from PIL import Image

SIDE = 8
# What may become of a file of images meanwhile.
HARMS = {
    "noise": lambda file: file.write_bytes(bytes(file.stat().st_size)),
    "torn": lambda file: os.truncate(file, 150),
    "missing": pathlib.Path.unlink,
}


def picture(seed, size=(40, 30)):
    """Smooth noise: pictures that no perceptual hash takes for each other."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3)).astype(np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def make_photos(root: pathlib.Path) -> pathlib.Path:
    """Twelve images of all kinds in three splits, one of them twice, and files that are none."""
    for split, seeds in (("train", range(8)), ("val", range(8, 10)), ("test", range(10, 12))):
        (root / split / "deep").mkdir(parents=True)
        for seed in seeds:
            picture(seed).save(root / split / "deep" / f"{seed:02d}.png")
    picture(3).convert("L").save(root / "train" / "grey.JPG")
    picture(20).convert("CMYK").save(root / "train" / "cmyk.jpeg")
    picture(21).convert("RGBA").save(root / "train" / "alpha.png")
    picture(10, (80, 60)).save(root / "train" / "again.jpg", quality=60)  # 10 is in test
    (root / "train" / "torn.jpg").write_bytes((root / "train" / "again.jpg").read_bytes()[:300])
    (root / "train" / "notes.txt").write_text("no image")
    (root / "train" / "empty.png").write_bytes(b"")
    return root


def make_animals(root: pathlib.Path) -> pathlib.Path:
    """Five cats and three dogs for training, one each for validation and test."""
    for split, numbers in (("train", {"cat": 5, "dog": 3}), ("val", {"dog": 1, "cat": 1}), ("test", {"dog": 1})):
        for seed, (name, number) in enumerate(numbers.items()):
            (root / split / name / "deep").mkdir(parents=True)
            for index in range(number):
                place = root / split / name / ("deep" if index % 2 else "")
                picture([len(split), seed, index]).save(place / f"{index}.png")
    return root
