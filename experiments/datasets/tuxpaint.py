"""Stamps of Tux Paint: small pictures of cut-out things on white, with one English caption each.

Stamps of the same caption, such as two frogs, are in one split; of the captions in alphabetical order, every
tenth is of the test split, and the one after it of the validation split. Licence: GPL-2+.
"""

from pathlib import Path

from experiments.datasets import Splits
from experiments.datasets.captioned import Captioned, check_captions, picture
from experiments.datasets.files import DataError, DataFile, fetch, member, reading, unarchive

STAMPS = DataFile(
    "tuxpaint",
    "stamps-96px.zip",
    "https://sourceforge.net/projects/tuxpaint/files/tuxpaint-stamps",
    "6043eef79cf060d685af67c39a979bf0935b20d38544dae62255f1c70a4cec13",
)
"""Made from the stamps of the address, scaled to 96 pixels, to be put into the folder by hand."""

SIDE = 72


def load(data_dir: str | Path | None = None) -> Splits[Captioned]:
    """Load the stamps; raise DataError if the file is missing or damaged."""
    path = fetch(STAMPS, data_dir)
    contents = unarchive(path, r".*\.(jpg|txt)")
    stamps = []
    with reading(path) as place:
        for name in sorted(contents):
            if name.endswith(".jpg"):
                place.text = name
                about = member(contents, f"{name.removesuffix('.jpg')}.txt").decode("utf-8")
                captions = check_captions(f"{path}, {name}", tuple(about.splitlines()[:1]))
                stamps.append(Captioned(name, picture(contents[name], SIDE), captions))
    if not stamps:
        raise DataError(f"{path} has no stamps. Put the right file in its place.")
    numbers = {captions: number for number, captions in enumerate(sorted({each.captions for each in stamps}))}
    parts: tuple[list[Captioned], ...] = ([], [], [])
    for each in stamps:
        parts[{0: 2, 1: 1}.get(numbers[each.captions] % 10, 0)].append(each)
    return Splits(*map(tuple, parts))
