"""Flickr8k (Hodosh, Young and Hockenmaier 2013): photographs of people and animals with five captions each.

The splits are the official ones, 6,000 / 1,000 / 1,000 photographs; only those at hand are used. They are in
the folder ``Flicker8k_Dataset`` (spelt as it was published) or, for the first 1,000 by name, in a tar:

    train   valid   test
    753     113     125

The publishers ask for a form to be filled in; the zips of the address have the same files, to be unpacked by
hand. Rights in the photographs are with their owners; research use.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from experiments.datasets import Splits
from experiments.datasets.captioned import Captioned, check_captions, picture, read_picture
from experiments.datasets.files import DataError, DataFile, data_folder, fetch, read_text, reading, unarchive

_ADDRESS = "https://github.com/jbrownlee/Datasets/releases/download/Flickr8k/Flickr8k_text.zip"


def _file(name: str, sha256: str, xz: str = "") -> DataFile:
    return DataFile("flickr8k", name, _ADDRESS, sha256, xz=xz)


CAPTIONS = _file(
    "Flickr8k.token.txt",
    "9b8608b02da9040581f1e3d4c8738db1fb6f63314342100432adc3962f77d71a",
    "a46f7d910253de5473f7e0ea391035533dfcecc3fb0e266b4c5f918155f9735e",
)
LISTS = Splits(
    (
        _file(
            "Flickr_8k.trainImages.txt",
            "e330ddd5156a4c2d2e2b67bc587e70e588f2d132bd8a10dc54dcb71e58115d8e",
            "131ffb1bb8d1ed24e90c92190052d8b4c058480f50fa719bf4cc8d1bbb7d5b19",
        ),
    ),
    (
        _file(
            "Flickr_8k.devImages.txt",
            "18ba829f47f6df1cb830bf7f0506e2ddf333818925299babbd1bbcaf50fdc504",
            "4050a63f15392259bc68ecd73ae18fbc906c38501092b78c8a7e3cb604244f7e",
        ),
    ),
    (
        _file(
            "Flickr_8k.testImages.txt",
            "c0924146c131458ceba45da59670fe9520eadce1e5cafffa16a817672a9b1f17",
            "a852326d30eacc0a65b9da2491d581157d0a65aef15a4be95d0787a8c710253c",
        ),
    ),
)
FIRST = _file(
    "flickr8k_first1000_images.tar", "2fee445f1abf391b7d7bd9a36e5fac7eb089e8622bc604170e9384d6b140954b"
)

FOLDER = "Flicker8k_Dataset"
"""The folder of the full set."""

SIDE = 72
"""Pixels of a side: 8 more than a model sees, which are cropped at random in training."""


def load(data_dir: str | Path | None = None) -> Splits[Captioned]:
    """Load the photographs at hand; raise `DataError` if a file is missing or damaged."""
    captions = parse_captions(read_text(CAPTIONS, data_dir))
    pictures = _pictures(data_dir)
    found = Splits(
        *(
            tuple(
                Captioned(
                    name, pictures[name], check_captions(f"{CAPTIONS.name}, {name}", captions.get(name, ()))
                )
                for name in read_text(file, data_dir).split()
                if name in pictures
            )
            for (file,) in LISTS
        )
    )
    if not all(found):
        raise DataError(
            f"{data_folder(data_dir) / 'flickr8k'}: a split has no photograph at hand. Put all of them there."
        )
    return found


def parse_captions(text: str) -> Mapping[str, tuple[str, ...]]:
    """The captions of each photograph, from lines ``name#number<tab>caption``."""
    found: dict[str, tuple[str, ...]] = {}
    with reading(CAPTIONS.name) as place:
        for number, line in enumerate(text.splitlines(), start=1):
            place.text = f"line {number}"
            item, caption = line.split("\t")
            name = item.rpartition("#")[0]
            found[name] = (*found.get(name, ()), caption)
    return found


def _pictures(data_dir: str | Path | None) -> dict[str, np.ndarray]:
    """The photographs at hand, by name."""
    folder = data_folder(data_dir) / "flickr8k" / FOLDER
    if folder.is_dir():
        return {path.name: read_picture(path, SIDE) for path in sorted(folder.glob("*.jpg"))}
    path = fetch(FIRST, data_dir)
    pictures = {}
    with reading(path) as place:
        for name, content in unarchive(path, r"images/[^/]*\.jpg").items():
            place.text = name
            pictures[name.rpartition("/")[2]] = picture(content, SIDE)
    return pictures
