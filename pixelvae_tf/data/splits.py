"""Which split an image belongs to: by the folder that it lies in or, if no folder says so, by a hash of its path.

A split that is taken for another, or not seen, trains on the images that the model is tested on. So a name is taken
only if it is plain, and where names speak of splits without being plain nothing is read.
"""

import collections
import hashlib
import os
import re
from collections.abc import Iterable

SPLITS = ("train", "validation", "test")
# The split by the name of a subfolder.
SUBFOLDERS = {"train": "train", "validation": "validation", "valid": "validation", "val": "validation", "test": "test"}
SUBFOLDERS |= {"imagestr": "train", "imagests": "test"}  # nnU-Net's
# Words in names, and the split that they indicate; "doubtful" could be several.
WORDS = {
    **SUBFOLDERS,
    **{"training": "train", "trn": "train", "dev": "validation", "testing": "test", "tst": "test"},
    **dict.fromkeys(("eval", "evaluation", "trainval", "holdout", "heldout", "development"), "doubtful"),
}
# Neutral words beside them, as in "train_images".
NEUTRAL = {"images", "image", "imgs", "img", "photos", "photo", "pictures", "files"}
NEUTRAL |= {"set", "data", "dataset", "split", "dir", "folder", "jpg", "jpeg", "png", "x"}
GLUED = re.compile(rf"({'|'.join(sorted(WORDS, key=len, reverse=True))})({'|'.join(sorted(NEUTRAL, reverse=True))})")
# Words that are none of these where they stand alone (a language is "tr"), but are in two names that differ in them.
SHORT = {"tr": "train", "va": "validation", "te": "test", "ts": "test"}
# Parts of words that speak of splits where two names differ in them alone, as "mytrain" and "mytest".
PARTS = ("training", "train", "validation", "valid", "val", "testing", "test")
EXPECTED = "train, validation (or val) and test, with a year or a word such as `images` beside it, one folder a split"


def split_of(path: str) -> str:
    """The split of an image in no split's folder, by its path: it stays there when other images come or go."""
    return {0: "validation", 1: "test"}.get(hashlib.sha256(os.fsencode(path)).digest()[0] % 20, "train")


def words_of(name: str) -> list[str]:
    """The words and numbers of a name in lower case: "trainA" has two, and so has "testset"."""
    words = [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_A-Za-z]+|\d+", name)]
    glued = (GLUED.fullmatch(word) for word in words)
    return [part for word, two in zip(words, glued, strict=True) for part in (two.groups() if two else (word,))]


def spoken_of(name: str) -> set[str]:
    """The splits that a name speaks of, plainly or not."""
    return {WORDS[word] for word in (*words_of(name), name.lower()) if word in WORDS}


def plain_split(name: str) -> str | None:
    """The split that a name plainly means, such as "train2017" or "test_images"; None if it means none, or may not."""
    if name.lower() in SUBFOLDERS:
        return SUBFOLDERS[name.lower()]
    words = words_of(name)
    of_splits = [word for word in words if word in WORDS]
    others = [word for word in words if word not in WORDS and word not in NEUTRAL and not word.isdecimal()]
    if len(of_splits) != 1 or others or WORDS[of_splits[0]] not in SPLITS:
        return None
    return WORDS[of_splits[0]]


def pairs(names: Iterable[str]) -> set[str]:
    """The names that differ in the split alone, such as "Xtrain" and "Xtest", or "trains" and "tests"."""
    alike = collections.defaultdict(set)
    for name in names:
        for part in PARTS:
            before, separator, behind = name.lower().rpartition(part)
            if separator:
                alike[before, behind].add((WORDS[part], name))
        words = words_of(name)
        for index, word in enumerate(words):
            if word in SHORT:
                alike[" ".join(words[:index]), " ".join(words[index + 1 :])].add((SHORT[word], name))
    return {name for group in alike.values() if len({split for split, _ in group}) > 1 for _, name in group}


def folders_of_splits(folders: Iterable[str], name: str) -> dict[str, str]:
    """Which subfolders are splits.

    Args:
      folders: names of the subfolders that hold images.
      name: what the message calls the folder around them.

    Returns:
      Subfolder -> split; empty if no name speaks of one.

    Raises:
      ValueError: if names speak of splits, and not plainly.
    """
    folders = set(folders)
    speaking = sorted({folder for folder in folders if spoken_of(folder)} | pairs(folders))
    few = 2 * len(speaking) < len(folders)
    exact = {folder: SUBFOLDERS[folder.lower()] for folder in speaking if folder.lower() in SUBFOLDERS}
    if few and len(speaking) == 1 and plain_split(speaking[0]) == "train":
        raise ValueError(
            f"{name} must have other splits beside {speaking[0]!a}, or, if that is a class, another name for it, such "
            f"as 'trains'. Received: {len(folders) - 1} other subfolders, none of them a split. Rename it, or move them"
        )
    if len(exact) == len(speaking):
        return exact
    plain = {folder: split for folder in speaking if (split := plain_split(folder))}
    if few and not plain and set().union(*map(spoken_of, speaking)) == {"train"}:
        return {}  # Classes, as "freight_train" and "train_station": nothing that is to be tested on is among them.
    if len(set(plain.values())) < len(speaking):
        raise ValueError(
            f"{name} must have subfolders that are plainly named after splits ({EXPECTED}), or none whose names look "
            f"like splits. Received: {', '.join(map(ascii, speaking))}. Rename them"
        )
    return plain


def _deeper_splits(paths: list[str]) -> dict[str, str]:
    """The names of folders below the first that plainly mean a split, and which; sorted."""
    names = sorted({part for path in paths for part in path.split("/")[1:-1]})
    return {name: split for name in names if (split := plain_split(name))}


def check_train(paths: list[str], name: str) -> None:
    """Checks that what is to be trained on is not another split as well.

    Args:
      paths: the images of the folder for training.
      name: what the message calls the folder around it.

    Raises:
      ValueError: if a folder in there is plainly the split for validation or test.
    """
    deeper = _deeper_splits(paths)
    # "train" is a class of some data sets.
    if others := [part for part, split in deeper.items() if split != "train"]:
        raise ValueError(
            f"{name} must have the splits as its own subfolders ({EXPECTED}). "
            f"Received: folders called {', '.join(map(ascii, others))} in the one for training"
        )


def check_hashed(paths: list[str], name: str) -> list[str]:
    """Looks for splits in what is about to be spread over the splits by a hash.

    Args:
      paths: the images.
      name: what the message calls the folder.

    Returns:
      The names of deeper folders that may be the split for training, where no other is spoken of.

    Raises:
      ValueError: if a deeper folder is plainly a split that is not for training, or most of the files speak of several.
    """
    deeper = _deeper_splits(paths)
    names = (words_of(path.rpartition("/")[2]) for path in paths)
    first_words = collections.Counter(words[0] for words in names)  # the last is that of the format
    of_files = {word: number for word, number in first_words.items() if word in WORDS}
    mixed = len({WORDS[word] for word in of_files}) > 1 and 2 * sum(of_files.values()) > len(paths)
    if mixed or set(deeper.values()) - {"train"}:
        what = "files" if mixed else "folders deeper inside"
        examples = ", ".join(map(ascii, sorted(of_files) if mixed else deeper))
        raise ValueError(
            f"{name} must have the splits as its own subfolders ({EXPECTED}): a hash of each path would mix them. "
            f"Received: {what} that are called {examples}"
        )
    return list(deeper)
