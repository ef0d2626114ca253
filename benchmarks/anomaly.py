r"""Anomaly scores of a SavedModel: how well they tell other images from its own, and where a patch is another image's.

    python benchmarks/anomaly.py --saved_model=models/mnist --background=models/mnist_background \
      --data=binarized_mnist --data_dir=DATA --against=digits,inverted,shifted,rotated,letters,noise
    python benchmarks/anomaly.py --saved_model=models/cifar10 --data=cifar10 --against=textures,tfds:svhn_cropped
    python benchmarks/anomaly.py --saved_model=models/mnist --data=binarized_mnist --patches=300 [--vae=models/vae]

Prints Markdown. AUROC: the probability that an image of the other set is odder than one of the model's own test set;
0.5 is chance, and below it the score prefers the other set. In brackets 95% intervals after DeLong, DeLong and
Clarke-Pearson (1988). Typicality's mean is that of as many validation images.

With --patches, a square of 4 to 8 pixels of a test image is replaced by what another test image has there (where a
quarter of it differs), and pixel-AUROC asks whether the map is higher inside: the mean over images, with 95% intervals
from its standard error. Beside the maps stands the reconstruction error |x - x'|, x' the likeliest image that
the decoder makes of the posterior's mean, of the model and of --vae.

Other sets are brought to the model's size; for a binary model, to black and white at half. --against takes
`inverted`, `shifted` (by a quarter of the image, round its edges), `rotated` (by 90 degrees), `noise` (uniform),
`digits` (scikit-learn's), `letters` (Pillow's font), `textures` (stripes, checks, gradients and blurred noise),
`class:N` (of the data set's own test images, for a model without it), `folder:DIR` and `tfds:NAME`.
"""

import pathlib

import numpy as np
from absl import app, flags
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from scipy import ndimage, stats
from sklearn import metrics

from pixelvae_tf import config as config_lib
from pixelvae_tf import data, heat_maps, pictures, scores
from pixelvae_tf.export import local, scoring
from pixelvae_tf.export import scorer as scorer_lib

_SAVED_MODEL = flags.DEFINE_string("saved_model", None, "The model.", required=True)
_BACKGROUND = flags.DEFINE_string("background", None, "A background model.")
_VAE = flags.DEFINE_string("vae", None, "A VAE to compare with, with --patches.")
_DATA = flags.DEFINE_string(
    "data", None, "The model's data set, its own images; tfds:NAME for any of TFDS.", required=True
)
_DATA_DIR = flags.DEFINE_string("data_dir", "", "TFDS' data directory.")
_EXCLUDE = flags.DEFINE_list("exclude_labels", [], "Classes that the model was trained without.")
_AGAINST = flags.DEFINE_list("against", [], "The other sets.")
_NUM_IMAGES = flags.DEFINE_integer("num_images", 1000, "Of each set, at most.", 20, 10**6)
_PATCHES = flags.DEFINE_integer("patches", 0, "How many images get a patch of another.", 0, 10**6)
_PICTURE = flags.DEFINE_string("picture", None, "A PNG of the first images with patches and their maps.")
LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZabdefghkmnpqrtyßæø#%&@?!+*=<>{}[]"


def auroc(odd: np.ndarray, own: np.ndarray) -> tuple[float, float, float]:
    """The area under the ROC curve, with its 95% interval after DeLong et al. (1988).

    Args:
      odd, own: scores of the images that should have high ones, and low ones.

    Returns:
      The area, and the ends of its interval.
    """
    area = metrics.roc_auc_score(np.r_[np.ones(len(odd)), np.zeros(len(own))], np.r_[odd, own])
    together = stats.rankdata(np.r_[odd, own])
    # The share of the others that each image stands above.
    of_odd = (together[: len(odd)] - stats.rankdata(odd)) / len(own)
    of_own = 1 - (together[len(odd) :] - stats.rankdata(own)) / len(odd)
    half = 1.96 * np.sqrt(of_odd.var(ddof=1) / len(odd) + of_own.var(ddof=1) / len(own))
    return area, max(area - half, 0.0), min(area + half, 1.0)


def _some(images: np.ndarray, number: int) -> np.ndarray:
    """A draw without replacement; files may be sorted."""
    order = np.random.default_rng(0).permutation(len(images))
    return images[order[:number]]


def fitted(images: np.ndarray, model: config_lib.ModelConfig) -> np.ndarray:
    """Pictures uint8 [N, H, W, C] of 0..255 at a model's size and with its values."""
    height, width, channels = model.image_shape
    found = []
    for image in images:
        picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
        picture = picture.convert("L" if channels == 1 else "RGB").resize((width, height), Image.Resampling.BILINEAR)
        found.append(np.asarray(picture).reshape(height, width, channels))
    return pictures.to_pixel_values(np.stack(found), model.num_values)


def letters(number: int, side: int) -> np.ndarray:
    """White letters on black: of any size from half to nine tenths of the image, turned by up to 20 degrees."""
    generator, found = np.random.default_rng(1), []
    for _ in range(number):
        canvas = Image.new("L", (4 * side, 4 * side))
        font = ImageFont.load_default(4 * side * generator.uniform(0.5, 0.9))
        letter = LETTERS[generator.integers(len(LETTERS))]
        ImageDraw.Draw(canvas).text((2 * side, 2 * side), letter, 255, font, anchor="mm", stroke_width=side // 12)
        canvas = canvas.rotate(generator.uniform(-20, 20), Image.Resampling.BILINEAR)
        found.append(np.asarray(canvas.resize((side, side), Image.Resampling.BOX)))
    return np.stack(found)[..., None]


def textures(number: int, side: int) -> np.ndarray:
    """Stripes, checks, gradients and blurred noise in two colours each, as many of each kind."""
    generator, found = np.random.default_rng(2), []
    row, column = np.indices((side, side)) / side
    for index in range(number):
        angle, frequency = generator.uniform(0, np.pi), generator.uniform(2, 8)
        along, across = row * np.sin(angle) + column * np.cos(angle), row * np.cos(angle) - column * np.sin(angle)
        blurred = Image.fromarray(generator.integers(0, 256, (side, side), dtype=np.uint8))
        blurred = np.asarray(blurred.filter(ImageFilter.GaussianBlur(generator.uniform(1, 4))), np.float64)
        share = [
            0.5 + 0.5 * np.sin(2 * np.pi * frequency * along),
            (np.sin(2 * np.pi * frequency * along) * np.sin(2 * np.pi * frequency * across) > 0).astype(np.float64),
            (along - along.min()) / np.ptp(along),
            (blurred - blurred.min()) / max(np.ptp(blurred), 1),
        ][index % 4][..., None]
        first, second = generator.integers(0, 256, (2, 3))
        found.append(np.rint(first + share * (second - first)).astype(np.uint8))
    return np.stack(found)


def of_tfds(name: str, split: str, number: int) -> list[np.ndarray]:
    """The first images of a set of TFDS, as they are."""
    import tensorflow_datasets as tfds

    read = tfds.load(name, split=split, data_dir=_DATA_DIR.value or None, download=not _DATA_DIR.value)
    return [example["image"] for example in tfds.as_numpy(read.take(number))]


def own_images(split: str, model: config_lib.ModelConfig) -> np.ndarray:
    """The images of a split of the model's own set, as `--data` names it."""
    kind, _, what = _DATA.value.partition(":")
    if kind == "tfds":  # which may have no validation images: the last of those for training
        number = _NUM_IMAGES.value
        return fitted(of_tfds(what, "test" if split == "test" else f"train[-{number}:]", number), model)
    excluded = tuple(map(int, _EXCLUDE.value))
    config = config_lib.DataConfig(_DATA.value, _DATA_DIR.value, exclude_labels=excluded)
    return data.load(config, split, model.image_shape).images


def other_set(name: str, own: np.ndarray, model: config_lib.ModelConfig, number: int) -> np.ndarray:
    """The images of another set, as `--against` names it."""
    kind, _, what = name.partition(":")
    height, width, _ = model.image_shape
    if kind == "inverted":
        return model.num_values - 1 - own
    if kind == "shifted":
        return np.roll(own, (height // 4, width // 4), axis=(1, 2))
    if kind == "rotated":
        return np.rot90(own, axes=(1, 2))
    if kind == "noise":
        return np.random.default_rng(3).integers(0, model.num_values, own.shape, dtype=np.uint8)
    if kind == "letters":
        return fitted(letters(number, max(height, 28)), model)
    if kind == "textures":
        return fitted(textures(number, height), model)
    if kind == "digits":
        every = [data.load(config_lib.DataConfig("digits"), split).images for split in ("train", "validation", "test")]
        return fitted(_some(np.concatenate(every), number), model)
    if kind == "class":
        test = data.load(config_lib.DataConfig(_DATA.value, _DATA_DIR.value), "test")
        return _some(test.images[test.labels == int(what)], number)
    if kind == "folder":
        paths = _some(np.array(scoring.list_files(pathlib.Path(what), "against")), number)
        reads = [scorer_lib.read(what, path, model) for path in paths]
        return np.stack([read.pixels for read in reads if read.pixels is not None])
    if kind == "tfds":
        return fitted(of_tfds(what, "test", number), model)
    raise SystemExit(f"anomaly: against must be one of those that --help lists. Received: {name!r}")


def all_scores(scorer: scorer_lib.Scorer, images: np.ndarray, mean: float | None = None) -> dict[str, np.ndarray]:
    """Every score of images [N, H, W, C], a batch at a time; without `mean` no typicality."""
    size = scorer.batch_size
    batches = [scorer.table(images[start : start + size]) for start in range(0, len(images), size)]
    found = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
    if mean is not None:
        found["typicality_nats"] = scores.typicality(found["bound_nats"], mean)
    return found


def print_table(scorer: scorer_lib.Scorer, own: np.ndarray, validation: np.ndarray) -> None:
    """AUROC of every score, a line a set."""
    mean = all_scores(scorer, validation)["bound_nats"].mean()
    of_own = all_scores(scorer, own, mean)
    titles = [name.removesuffix("_nats").replace("_", " ") for name in of_own]
    print(f"| {_DATA.value} against | mean bound, nats | {' | '.join(titles)} |")
    print("|---" * (2 + len(titles)) + "|")
    print(f"| itself | {of_own['bound_nats'].mean():.1f} |{' |' * len(titles)}")
    for name in _AGAINST.value:
        images = other_set(name, own, scorer.model.config.model, len(own))
        found = all_scores(scorer, images, mean)
        cells = ["{:.3f} ({:.3f}-{:.3f})".format(*auroc(found[score], of_own[score])) for score in of_own]
        print(f"| {name} ({len(images)}) | {found['bound_nats'].mean():.1f} | {' | '.join(cells)} |", flush=True)


def patched(images: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images with a square of 4 to 8 pixels of another one, of which a quarter differs.

    Returns:
      The images that got one, as they were; with it; and where it is, bool [N, H, W].
    """
    generator, found = np.random.default_rng(4), []
    for image, other in zip(images, others, strict=True):
        for _ in range(100):
            side = generator.integers(4, 9)
            top, left = (generator.integers(0, size - side + 1) for size in image.shape[:2])
            place = np.s_[top : top + side, left : left + side]
            if (image[place] != other[place]).any(axis=-1).mean() >= 0.25:
                changed, mask = image.copy(), np.zeros(image.shape[:2], bool)
                changed[place], mask[place] = other[place], True
                found.append((image, changed, mask))
                break
    return tuple(map(np.stack, zip(*found, strict=True)))


def reconstruction_error(model: local.SavedModel, images: np.ndarray) -> np.ndarray:
    """|x - x'| summed over channels [N, H, W], x' the likeliest image of the posterior's mean."""
    errors = []
    for start in range(0, len(images), model.max_batch):
        batch = images[start : start + model.max_batch]
        z1 = model.predict("encode", {"images": batch})["z1_mean"]
        greedy = {"seed": np.zeros(len(batch), np.int64), "temperature": np.full(len(batch), 1e-6)}
        made = model.predict("decode", {"z1": z1, **greedy})["images"]
        errors.append(np.abs(batch.astype(np.int64) - made).sum(axis=-1))
    return np.concatenate(errors)


def print_patches(scorer: scorer_lib.Scorer, own: np.ndarray, others: np.ndarray) -> None:
    """Pixel-AUROC of every map."""
    before, images, masks = patched(own, others)
    maps = dict(zip(("nats of each pixel", "the same less the background's"), scorer.maps(images), strict=False))
    if scorer.model.config.model.levels:
        maps["the model's reconstruction error"] = reconstruction_error(scorer.model, images)
    if _VAE.value:
        vae = scorer_lib.Scorer(local.SavedModel(_VAE.value))
        (maps["a VAE's nats of each pixel"],) = vae.maps(images)
        maps["the VAE's reconstruction error"] = reconstruction_error(vae.model, images)
    print(f"| map, {len(images)} images of {_DATA.value} with a patch of another | pixel-AUROC | averaged over 5x5 |")
    print("|---|---|---|")
    for name, values in maps.items():
        cells = []
        for shown in (values, ndimage.uniform_filter(values.astype(np.float64), (1, 5, 5), mode="nearest")):
            areas = [metrics.roc_auc_score(mask.ravel(), x.ravel()) for mask, x in zip(masks, shown, strict=True)]
            half = 1.96 * np.std(areas, ddof=1) / np.sqrt(len(areas))
            cells.append(f"{np.mean(areas):.3f} ({np.mean(areas) - half:.3f}-{np.mean(areas) + half:.3f})")
        print(f"| {name} | {' | '.join(cells)} |")
    if _PICTURE.value:
        number = min(8, len(images))
        captions = [""] * number
        rows = [
            heat_maps.Row(
                "test images: image, nats of each pixel", captions, before[:number], scorer.maps(before[:number])[:1]
            ),
            heat_maps.Row("with a patch of another", captions, images[:number], [maps["nats of each pixel"][:number]]),
            heat_maps.Row("where the patch is", captions, images[:number], [4.0 * masks[:number]]),
        ]
        pictures.write_png(_PICTURE.value, heat_maps.draw(rows, scorer.num_values))


def main(argv: list[str]) -> None:
    """Prints what is asked for."""
    del argv
    background = local.SavedModel(_BACKGROUND.value) if _BACKGROUND.value else None
    scorer = scorer_lib.Scorer(local.SavedModel(_SAVED_MODEL.value), background)
    validation, test = (own_images(split, scorer.model.config.model) for split in ("validation", "test"))
    if _AGAINST.value:
        print_table(scorer, _some(test, _NUM_IMAGES.value), _some(validation, _NUM_IMAGES.value))
    if _PATCHES.value:
        some = _some(test, 2 * _PATCHES.value)
        half = len(some) // 2
        print_patches(scorer, some[:half], some[half : 2 * half])


if __name__ == "__main__":
    app.run(main)
