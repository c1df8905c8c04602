"""Sentences with their translations: Multi30k and Tatoeba.

Numbers of pairs; Tatoeba is split by a hash:

    name               train     valid    test     languages
    multi30k            29,000   1,014    1,000    English, German, French: test 2016 of flickr
    multi30k-2017       29,000   1,014    1,000    the same, with test 2017 of flickr
    tatoeba-spa        138,105   1,399    1,364    English, Spanish
    tatoeba-fra        139,831   1,458    1,498    English, French

Multi30k (Elliott et al. 2016, arXiv:1605.00459; French: Elliott et al. 2017) are descriptions of photographs
and their translations by professionals, task 1, raw text. Licence: CC BY-NC-SA 4.0. Tatoeba are sentences of
learners and their translations by volunteers, as packed by manythings.org, where one sentence often has many
translations. Licence: CC BY 2.0 FR. It has no official split: sentences are assigned by the SHA-256 of the
English one, so that all its translations are in one split: 1 per cent to valid and to test each.

A published text file may also be in its folder packed by xz, with `.xz` added to its name.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from experiments.datasets import Splits
from experiments.datasets.files import (
    DataError,
    DataFile,
    fetch,
    member,
    read_bytes,
    read_text,
    reading,
    unarchive,
    unknown_name,
    unpack,
)

Translated = dict[str, str]
"""A sentence in several languages, by their two-letter codes."""

_MULTI30K = "https://github.com/multi30k/dataset/raw/master/data/task1/raw"
_LANGUAGES = ("en", "de", "fr")
_SHA256 = {
    ("train", "en"): "d79cfa999dd4c51d2cb42499b6796d5a882c3a8a961923c25a898c90f8bbd56f",
    ("train", "de"): "726e39b2fa9eb9ffb6dc763fb35a179f80fae06ffc5d28b6ace5faa883de28a6",
    ("train", "fr"): "622e75069e9f4c577425c4f277116ce66e63a2401c0a2312d90073cb12379a3c",
    ("val", "en"): "14f7d25ddd868909a9213e361768460edcacdd6ab9d1e77b92560dc10c10dc28",
    ("val", "de"): "f0cba2f995189cf5770f29a8a9a537a3ad3f51657ad873405082ff6863a5e75a",
    ("val", "fr"): "ca3106f1a72390591d25f6c45cb4cd39dec4cd3f123e099748a3ce5256c160e9",
    ("test_2016_flickr", "en"): "611d361c6334bc7246101d48097c13cf5c4413c5befc793cc629934359d532d9",
    ("test_2016_flickr", "de"): "9204244e408ccb38d2a55cfcd344df15005fc42a07a6e55ca6c52b6ababb8cc8",
    ("test_2016_flickr", "fr"): "6d326e188d259fb1d04ac19eae3af956559b3a0b93d7635e56c90987c40c8b90",
    ("test_2017_flickr", "en"): "76a444ee25172e72695cddb13ae4a3bda59430617be88e0bb46b60504f054074",
    ("test_2017_flickr", "de"): "a2c89666db00c495cd8513b9d708d5a3acc205d7de312ef2bf5fb7ebc1540aee",
    ("test_2017_flickr", "fr"): "3ba671ceb2299f3304ffafefea7a833d08632fbaf0ba18546f8a2ec2391af496",
}
SPANISH = DataFile(
    "tatoeba",
    "spa-eng.tsv",
    "https://www.manythings.org/anki/spa-eng.zip",
    "4b3deb9213d6192e5f6f77c5a57c7f82ae94434b9e2a783aa2e5247a9fb24a2f",
    xz="9642e71eb6c7edc9bc61dd68298bb40093d18a24264d08a4f8767f4e82ab74b1",
)
FRENCH = DataFile(
    "tatoeba",
    "fra-eng.zip",
    "https://www.manythings.org/anki/fra-eng.zip",
    "16c4f7d0df9e7c5e6c54cdb0447f3f4a18a55052ff5e2e0b27dd4a06c0e49d04",
)


def load(name: str, data_dir: str | Path | None = None) -> Splits[Translated]:
    """Load the sentences of `name`, each with its translations.

    Raises:
        DataError: the name is unknown, or a file is missing, damaged or holds something else.
    """
    if name in ("multi30k", "multi30k-2017"):
        parts = ("train", "val", f"test_{name.partition('-')[2] or 2016}_flickr")
        return Splits(*(multi30k(part, data_dir) for part in parts))
    if name == "tatoeba-spa":
        return split_by_hash(pairs(read_text(SPANISH, data_dir), "es", SPANISH.name))
    if name == "tatoeba-fra":
        path = fetch(FRENCH, data_dir)
        files = unarchive(path, "fra.txt")
        with reading(path) as place:
            place.text = "fra.txt"
            text = member(files, "fra.txt").decode("utf-8")
        return split_by_hash(pairs(text, "fr", f"{FRENCH.name}/fra.txt"))
    raise unknown_name("set of translations", name, NAMES)


NAMES = ("multi30k", "multi30k-2017", "tatoeba-spa", "tatoeba-fra")


def multi30k_file(part: str, language: str) -> DataFile:
    """The published file of a split (train, val, test_2016_flickr, test_2017_flickr) in a language."""
    name = f"{part}.{language}.gz"
    return DataFile("multi30k", name, f"{_MULTI30K}/{name}", _SHA256[part, language])


def multi30k(part: str, data_dir: str | Path | None = None) -> tuple[Translated, ...]:
    """Load one split of Multi30k (train, val, test_2016_flickr, test_2017_flickr).

    Raises:
        DataError: a file is missing or damaged, or the languages differ in their number of lines.
    """
    columns = []
    for language in _LANGUAGES:
        path = fetch(multi30k_file(part, language), data_dir)
        packed = read_bytes(path)
        with reading(path):
            text = unpack(packed).decode("utf-8")
        columns.append([line.strip() for line in text.removesuffix("\n").split("\n")])
        if not all(columns[-1]):
            raise DataError(f"{path}, line {columns[-1].index('') + 1} is empty. Put the right file there.")
    if len({len(column) for column in columns}) > 1:
        raise DataError(
            f"{', '.join(multi30k_file(part, each).name for each in _LANGUAGES)} of multi30k have "
            f"{[len(column) for column in columns]} lines, where all should have as many."
        )
    return tuple(dict(zip(_LANGUAGES, lines, strict=True)) for lines in zip(*columns, strict=True))


def pairs(text: str, language: str, name: str) -> tuple[Translated, ...]:
    """The lines of a text: English, a tab, and a translation into ``language``.

    Raises:
        DataError: a line has another format.
    """
    found = []
    for number, line in enumerate(text.removesuffix("\n").split("\n"), start=1):
        columns = line.split("\t")
        if len(columns) != 2 or not all(column.strip() for column in columns):
            raise DataError(
                f"{name}, line {number}: not two sentences with a tab between them: {line[:80]!r}."
            )
        found.append({"en": columns[0].strip(), language: columns[1].strip()})
    return tuple(found)


def split_by_hash(sentences: Iterable[Translated]) -> Splits[Translated]:
    """Assign one per cent to valid and to test each, by the SHA-256 of the English sentence."""
    parts: tuple[list[Translated], ...] = ([], [], [])
    for sentence in sentences:
        number = int.from_bytes(hashlib.sha256(sentence["en"].encode()).digest()[:8]) % 100
        parts[{0: 1, 1: 2}.get(number, 0)].append(sentence)
    return Splits(*map(tuple, parts))
