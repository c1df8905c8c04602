"""From text to phones: what is said for numbers and signs, and the phones of eSpeak NG.

The phones are those of American English in the International Phonetic Alphabet, by phonemizer (Bernard and
Titeux 2021, Journal of Open Source Software 6(68)). Diphthongs are one phone; what eSpeak NG joins beyond
them is taken apart, and rare phones are taken for others.
"""
# ruff: noqa: RUF001 (letters of the phonetic alphabet)

import functools
import re
from typing import Any, NamedTuple

from experiments.datasets.files import DataError

PAUSE = "_"
"""The phone of silence."""

APART = {
    **{vowel + "ɹ": (vowel, "ɹ") for vowel in ("ɔː", "oː", "ɑː", "ʊ", "ɪ", "ɛ")},
    "əl": ("ə", "l"),
    "iə": ("i", "ə"),
    "aɪə": ("aɪ", "ə"),
    "aɪɚ": ("aɪ", "ɚ"),
    "n̩": ("ə", "n"),
}
"""What is two phones."""

SAME = {"ɐ": "ə", "ᵻ": "ɪ", "ɔ": "ɔː", "oː": "ɔː", "ʔ": "t", "ɬ": "l", "x": "k", "ɑ̃": "ɑː", "r": "ɹ"}
"""Phones that are too rare to learn, or differ by convention, with what stands for them."""

PHONES = (
    *("iː", "i", "ɪ", "eɪ", "ɛ", "æ", "ɑː", "ɔː", "oʊ", "ʊ", "uː", "ʌ", "ə", "ɜː", "ɚ", "aɪ", "aʊ", "ɔɪ"),
    *("p", "b", "t", "d", "k", "ɡ", "tʃ", "dʒ", "ɾ", "f", "v", "θ", "ð", "s", "z", "ʃ", "ʒ", "h"),
    *("m", "n", "ŋ", "l", "ɹ", "j", "w"),
)
"""The phones, vowels first; `PAUSE` is none of them."""

RESPELLED = {
    "digits_a-m": "eigh m",
    "phonetic_x_p": "x ray",
    "letters_exclaimation-point": "exclamation point",
    "spy-iax": "i eigh x",
    "spy-iax2": "i eigh x",
}
"""Transcripts, by the names of the prompts, of which eSpeak NG would not make what is said."""

SIGNS = {
    "*": " star ",
    "#": " pound ",
    "&": " and ",
    "%": " percent ",
    "@": " at ",
    "$": " dollar ",
    "+": " plus ",
}


class Phone(NamedTuple):
    """A phone as it stands in a text."""

    symbol: str
    stress: int = 0
    """Of its vowel: 0 without, 1 secondary, 2 primary."""
    starts: bool = False
    """Whether a word begins with it."""
    mark: str = ""
    """The punctuation mark before it, of ``,.?``, for the first phone after one."""


def spoken(text: str) -> str:
    """A text without remarks in brackets, its signs and long numbers in words and single digits."""
    text = re.sub(r"\[.*?\]|\(.*?\)|<.*?>", " ", text)
    for sign, word in SIGNS.items():
        text = text.replace(sign, word)
    text = re.sub(r"(?<=[a-z])\.(?=[a-z])", " dot ", text)
    text = re.sub(r"\b([A-Z])\.(?=[A-Z]\b)", r"\1 ", text)
    text = re.sub(r"\b\d{4,}\b", lambda number: " ".join(number[0]), text)
    return re.sub(r"\s+", " ", text).strip()


def phones(text: str) -> list[Phone]:
    """The phones of a text, without pauses.

    Raises:
      DataError: phonemizer or eSpeak NG is not installed, or there is nothing to say.
    """
    found: list[Phone] = []
    for clause, mark in _clauses(spoken(text)):
        own = _clause(clause)
        if own and found:
            own[0] = own[0]._replace(mark=mark)
        found += own
    if not found:
        raise DataError(f"there is nothing to say in {text!r}.")
    return found


def _clauses(text: str) -> list[tuple[str, str]]:
    """The parts of a text between punctuation marks, each with the mark before it."""
    parts = re.split(r"(\.\.\.|[.,;:!?…—]+(?=\s|$))", text)
    marks = ["", *(_mark(mark) for mark in parts[1::2])]
    return [(part, mark) for part, mark in zip(parts[::2], marks, strict=True) if re.search(r"\w", part)]


def _mark(mark: str) -> str:
    return "?" if "?" in mark else "." if mark[0] in ".!" and mark != "..." else ","


def _clause(text: str) -> list[Phone]:
    found = []
    for word in _backend().phonemize([text], separator=_separator(), strip=True)[0].split("|"):
        starts, stress = True, 0
        for raw in word.split():
            stress = {"ˈ": 2, "ˌ": 1}.get(raw[0], 0)
            symbol = raw.lstrip("ˈˌ")
            for part in APART.get(symbol, (symbol,)):
                part = SAME.get(part, part)
                if part not in PHONES:
                    raise DataError(f"the phone {part!r} of {text!r} is not among those of American English.")
                found.append(Phone(part, stress if part in PHONES[:18] else 0, starts))
                starts = False
    return found


@functools.cache
def _backend() -> Any:
    """American English of eSpeak NG, from the library that comes as a package."""
    try:
        import espeakng_loader  # noqa: PLC0415
        from phonemizer.backend import EspeakBackend  # noqa: PLC0415
        from phonemizer.backend.espeak.wrapper import EspeakWrapper  # noqa: PLC0415
    except ImportError as error:
        raise DataError(f"{error}: pip install .[speech] has what makes phones of text.") from error
    EspeakWrapper.set_library(espeakng_loader.get_library_path())
    EspeakWrapper.set_data_path(espeakng_loader.get_data_path())
    return EspeakBackend("en-us", with_stress=True, language_switch="remove-flags")


def _separator() -> Any:
    from phonemizer.separator import Separator  # noqa: PLC0415

    return Separator(phone=" ", word="|")
