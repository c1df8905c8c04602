"""Styles: words that real writers wrote, after which a network goes on in their hand."""

import json
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from experiments.datasets.files import DataError, read_bytes, reading
from experiments.handwriting_recognition import ink_files
from experiments.handwriting_recognition.writing import path as paths
from experiments.handwriting_recognition.writing.model import encode
from experiments.handwriting_recognition.writing.path import FEATURES, Word
from experiments.handwriting_recognition.writing.task import losses
from lstmjax.nnx import Functional
from lstmjax.training.batching import PairBatches
from lstmjax.types import Params

FILE = "styles.json"
"""Of a model's folder: a list of texts with steps and writers."""

STYLES = 8

FARTHEST = 1e3
"""Longer steps are of no word; the unit is the length of a letter."""


def choose(model: Functional, params: Params, batches: PairBatches, words: Sequence[Word]) -> list[Word]:
    """Of eight writers at equal distances in the list of writers, the word that is likeliest for each point.

    Words of 5 to 9 letters, of writers with at least ten of them if there are such writers.
    """
    score = jax.jit(lambda batch: losses(model.bind(params), batch).scored.sum(axis=1))
    found: dict[str, list[tuple[float, int]]] = {}
    for batch in batches.once():
        totals = np.asarray(score(batch)) / np.maximum(batch.source.lengths, 1)
        for item, total in zip(batch.items, totals, strict=True):
            if item >= 0 and 5 <= len(words[item].text) <= 9:
                found.setdefault(words[item].writer, []).append((float(total), int(item)))
    writers = sorted(writer for writer, own in found.items() if len(own) >= 10) or sorted(found)
    places = {round(place) for place in np.linspace(0, len(writers) - 1, STYLES)} if writers else set()
    return [words[min(found[writers[place]])[1]] for place in sorted(places)]


def save(folder: Path, words: Sequence[Word]) -> None:
    """Write styles into a model's folder."""
    styles = [
        {"text": word.text, "writer": word.writer, "path": np.round(word.path, 4).tolist()} for word in words
    ]
    (folder / FILE).write_text(json.dumps(styles), encoding="utf-8")


def load(folder: Path) -> list[Word]:
    """The styles of a model's folder.

    Raises:
      DataError: they cannot be read.
    """
    content = read_bytes(folder / FILE)
    with reading(folder / FILE, KeyError, TypeError) as place:
        words = []
        for number, each in enumerate(json.loads(content)):
            place.text = f"style {number}"
            path = np.array(each["path"], np.float64).reshape(-1, FEATURES)
            if not len(path) or not (np.abs(path) < FARTHEST).all():
                raise ValueError("its path has no steps, or some that are too long")
            words.append(Word(str(each["text"]), path.astype(np.float32), str(each["writer"])))
    return words


def find(folder: Path, style: str, tolerance: float) -> Word | None:
    """The style that a user names: a number of those of a model's folder, or a file with an ink and its text.

    Args:
      folder: the folder of the model.
      style: a number from 1, 0 for none, or a path.
      tolerance: as for `paths.words`.

    Raises:
      DataError: there is none of this number, or the file has no ink with a text that can be written.
    """
    if style.isdecimal():
        number = int(style)
        if number == 0:
            return None
        known = load(folder)
        if number > len(known):
            raise DataError(f"--style must be a file, or a number from 0 to {len(known)}, got {number}.")
        return known[number - 1]
    inks = [ink for ink in ink_files.read(Path(style)) if ink.label]
    if not inks:
        raise DataError(f"{style} does not say what was written: a style needs its text, such as a label.")
    encode(inks[0].label)
    (word,) = paths.words(inks[:1], tolerance, rounded=False)
    return word
