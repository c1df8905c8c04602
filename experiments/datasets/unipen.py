r"""UNIPEN, train_r01_v07: online handwriting that 40 institutes gave, words, lower-case letters and digits.

Guyon, Schomaker, Plamondon, Liberman and Janet 1994 (12th ICPR). Licence: CC BY 4.0. The files read here are
extracts of its categories 6 (words without digits and signs), 1c and 1a, as arrays; they are not published
themselves, and they have 75,098 of the 75,529 words that the page of the collection counts.

Splits are by writer, since a network that knows a hand reads it better. The collection names files and not
writers: `writer_of` reads the writer off the name of the file. Where names do not tell writers apart (anj,
att, pcl, rim, tos, ibm0), all files of the donor count as one writer; writers whose short names may be of one
person (hpb, hpp and sta: the same first two initials; lex: the same first four letters) are in one part.
`unipen_writers.txt` lists the part of each writer, drawn once for each donor: about a twentieth of the words
for validation, a tenth for testing. It is the same for words, letters and digits, so that a writer is in one
part of all three. No split was published, so figures stand with this one.

    inks (writers)      train           valid         test          BAD
    unipen-words        61,963 (307)    4,439 (19)    7,895 (37)    801
    unipen-lowercase    52,999 (168)    3,293 (17)    5,068 (23)      0
    unipen-digits       13,718 (151)      575 (16)    1,660 (20)      0

Of the words, 801 are of quality BAD, 714 of them from one donor. They are in no part; `load_bad` gives those
of a part's writers. A ``\"`` of a label is a quotation mark, which is in the ink of 45 words.
"""

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import numpy as np

from experiments.datasets import Splits
from experiments.datasets.arrays import bounds_of, check_arrays, read_arrays
from experiments.datasets.files import DataError, DataFile, data_folder, fetch, reading, unknown_name
from experiments.datasets.ink import Ink

UNIPEN = "http://unipen.nici.ru.nl/cdroms/"
"""The page of the collection."""

FILES = {
    name: DataFile("unipen", file, UNIPEN, sha256)
    for name, file, sha256 in (
        ("words", "unipen_6_words.npz", "2d4b9f10cb3f04634afec9bfa569119f11ce7e3c978fc2f07714e48aeb58ed3e"),
        (
            "lowercase",
            "unipen_1c_lowercase.npz",
            "220e5ff65f895f9d50a6581f47ad70fa0e7419ba14c630fa4b1c1a6c343ad084",
        ),
        (
            "digits",
            "unipen_1a_digits.npz",
            "7cd6add3b0fb46ee9b36d81671faf9ec09d29810b080151fa99573054d4a9dec",
        ),
    )
}

_LARGEST = 128 << 20  # bytes of all arrays of a file
_QUALITIES = {"GOOD", "OK", "BAD", "?"}

WRITERS = Path(__file__).with_name("unipen_writers.txt")
"""Lines of a writer and a part: train, valid or test."""

_RULES = (
    (r"ap[a-ep]/ap[a-ep](\d\d)/", "ap-{}"),
    (r"(?:hpb|hpp|sta)/\w+/hpb\d-?([a-z]+)", "hp-{}"),
    (r"ce[abc]/(\w+)\.dat", "ce-{}"),
    (r"ce[de]/([a-z]+-?\d+)", "ce-{}"),
    (r"sie/\w+/([a-z]{2})", "sie-{}"),
    (r"art/art(\d\d)", "art-{}"),
    (r"imp/imp0/imp(\d+)", "imp-{}"),
    (r"imp/imp1/imp50*(\d+)", "imp-{}"),
    (r"kar/kar\d/(\w+)\.dat", "kar-{}"),
    (r"lou/lou\d/([a-z]+_[a-z]+)", "lou-{}"),
    (r"nic/([a-z]+)/", "nic-{}"),
    (r"pri/pri\d/(\d+)\.", "pri-{}"),
    (r"(anj|att|pcl|rim|tos)/", "{}"),
    (r"(ibm)/ibm0/", "{}"),
    (r"([a-z]{3})/(?:[a-z]{3}\d/)?(\d*[a-z]+)", "{}-{}"),
)
"""Patterns of file names, and the writer; the first that matches counts."""


def writer_of(file: str) -> str:
    """The writer of a file of the collection, such as ``hp-aeb`` for ``sta/sta0/hpb0-aeb.dat``.

    Raises:
        ValueError: no rule fits the name.
    """
    for pattern, writer in _RULES:
        if matched := re.match(pattern, file):
            return writer.format(*matched.groups())
    raise ValueError(f"{file!r} does not tell who wrote it: its name is none of this collection's")


@cache
def parts() -> dict[str, str]:
    """The part (train, valid or test) of each writer."""
    return dict(line.split() for line in WRITERS.read_text("utf-8").splitlines())


def load(name: str, data_dir: str | Path | None = None) -> Splits[Ink]:
    """Load words, lowercase or digits, without the inks of quality BAD.

    Raises:
        DataError: the name is unknown, or the file is missing, damaged or holds something else.
    """
    return _split(ink for ink in inks(name, data_dir) if ink.quality != "BAD")


def load_bad(name: str, data_dir: str | Path | None = None) -> Splits[Ink]:
    """Load the inks of quality BAD, which are in no part of `load`, in the parts of their writers.

    Raises:
        DataError: as `load`.
    """
    return _split(ink for ink in inks(name, data_dir) if ink.quality == "BAD")


def inks(name: str, data_dir: str | Path | None = None) -> tuple[Ink, ...]:
    """All inks of a file, in its order.

    Raises:
        DataError: as `load`.
    """
    if name not in FILES:
        raise unknown_name("part of UNIPEN", name, FILES)
    file = FILES[name]
    folder = data_folder(data_dir) / file.dataset
    if not (folder / file.name).exists():
        raise DataError(
            f"{file.name} is not in {folder}, and it cannot be downloaded: it is an extract, not published "
            f"itself, of the collection that {file.url} describes. Put the file there, or take pendigits."
        )
    return inks_of_arrays(read_arrays(fetch(file, data_dir), _LARGEST), file.name)


def inks_of_arrays(arrays: dict[str, np.ndarray], name: str) -> tuple[Ink, ...]:
    """The inks of arrays in which all points are concatenated.

    Args:
        arrays: ``dxy`` int16 [points, 2], the first point of an ink and then steps; ``pen_up`` [points];
            ``offsets`` [inks + 1], where inks begin and end; ``labels``, ``quality``, ``source_id`` [inks];
            ``source_files``, the names that source_id counts.
        name: name of the file, for errors.

    Raises:
        DataError: an array is missing or does not fit the others, or an ink does not end with the pen up.
    """
    check_arrays(
        arrays,
        {
            **{"dxy": ("i", 2), "pen_up": ("i", 1), "offsets": ("i", 1), "source_id": ("i", 1)},
            **{"labels": ("U", 1), "quality": ("U", 1), "source_files": ("U", 1)},
        },
        name,
    )
    pen_up = arrays["pen_up"].astype(bool)
    labels, quality, source = (arrays[each].tolist() for each in ("labels", "quality", "source_id"))
    points = len(arrays["dxy"])
    if arrays["dxy"].shape != (points, 2) or len(pen_up) != points:
        raise DataError(f"{name}: there are {points} steps and {len(pen_up)} states of the pen.")
    count = len(arrays["offsets"]) - 1
    if {len(labels), len(quality), len(source)} != {count}:
        raise DataError(f"{name}: labels, qualities and sources are not of {count} inks.")
    bounds = bounds_of(arrays["offsets"], points, name)
    if not pen_up[[end - 1 for end in bounds[1:]]].all():
        raise DataError(f"{name}: an ink does not end where the pen is lifted.")
    with reading(name) as place:
        place.text = "source_files"
        writers = [writer_of(file) for file in arrays["source_files"].tolist()]
    if not all(0 <= each < len(writers) for each in source) or not set(quality) <= _QUALITIES:
        raise DataError(f"{name}: a source is none of its {len(writers)} files, or a quality is unknown.")
    if unknown := set(writers) - set(parts()):
        raise DataError(
            f"{name}: the writer {min(unknown)!r} is in no part. Put the right file in its place."
        )
    return tuple(
        Ink(
            label.replace('\\"', '"'),
            np.cumsum(arrays["dxy"][start:end], axis=0, dtype=np.int64).astype(np.float32),
            pen_up[start:end],
            writers[source_id],
            judged,
        )
        for label, judged, source_id, start, end in zip(
            labels, quality, source, bounds[:-1], bounds[1:], strict=True
        )
    )


def _split(inks: Iterable[Ink]) -> Splits[Ink]:
    found: dict[str, list[Ink]] = {part: [] for part in Splits._fields}
    for ink in inks:
        found[parts()[ink.writer]].append(ink)
    return Splits(*map(tuple, found.values()))
