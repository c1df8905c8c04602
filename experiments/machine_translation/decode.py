"""Translation of whole texts."""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from experiments.common.text.subwords import Subwords
from experiments.machine_translation import report
from experiments.machine_translation.data import Bitext, Vocabularies
from experiments.machine_translation.model import Search, alignments, translate
from lstmjax.nnx import Functional
from lstmjax.training.batching import pad
from lstmjax.training.record import read_json
from lstmjax.types import Params

LENGTH_PENALTIES = (0.6, 0.8, 1.0, 1.2, 1.4)
"""Candidates for the length penalty."""


class Saved(NamedTuple):
    """A model with its config, vocabularies and parameters."""

    vocabularies: Vocabularies
    model: Functional
    params: Params


SEARCH = "search.json"
"""File in a model's folder: the beam search settings that were best on the validation set."""


def save_search(folder: Path, search: Search) -> None:
    """Write the chosen search settings."""
    (folder / SEARCH).write_text(json.dumps(dataclasses.asdict(search)) + "\n", "utf-8")


def load_search(folder: Path) -> Search:
    """Read what `save_search` wrote."""
    return Search(**read_json(folder / SEARCH))


ROWS = 32
"""Sentences that are translated in one batch."""


LONGEST = 128
"""Maximum length in subwords of a source that is translated as a whole; longer ones are cut at spaces."""


def translate_all(saved: Saved, texts: Sequence[str], search: Search, rows: int = ROWS) -> list[str]:
    """Translations of texts, in their order; that of an empty text is empty.

    Sources are padded to powers of two and batches are filled up, so that few shapes are compiled. A text of
    more than `LONGEST` subwords is cut at spaces into as few parts as possible; each is translated by itself.
    """
    parts = [
        (number, part) for number, text in enumerate(texts) for part in cut(saved.vocabularies.source, text)
    ]
    order = sorted(range(len(parts)), key=lambda index: len(parts[index][1]))
    found = {}
    for start in range(0, len(order), rows):
        chosen = order[start : start + rows]
        sources = [parts[index][1] for index in chosen]
        time = max(8, 1 << (max(map(len, sources)) - 1).bit_length())
        source = pad(sources, time, rows)
        tokens, _ = translate(saved.model, saved.params, *source, search, max_length=2 * time)
        for index, row in zip(chosen, np.asarray(tokens), strict=False):
            found[index] = saved.vocabularies.target.decode(row)
    whole: list[list[str]] = [[] for _ in texts]
    for index, (number, _) in enumerate(parts):
        whole[number].append(found[index])
    return [" ".join(pieces) for pieces in whole]


def cut(subwords: Subwords, text: str) -> Iterator[Int[np.ndarray, " pieces"]]:
    """The subwords of a text; several parts for a long text, none for an empty one.

    Parts end at spaces; a word of more than `LONGEST` subwords is cut between characters.
    """
    words = text.split()
    if not words:
        return
    encoded = subwords.encode(text)
    if len(encoded) <= LONGEST:
        yield encoded
    elif len(words) > 1:
        middle = len(words) // 2
        yield from cut(subwords, " ".join(words[:middle]))
        yield from cut(subwords, " ".join(words[middle:]))
    else:
        yield from cut(subwords, text.strip()[: len(text.strip()) // 2])
        yield from cut(subwords, text.strip()[len(text.strip()) // 2 :])


PICTURES = 4
"""Number of sentences of the validation set whose attention weights are plotted."""


def write_attention(saved: Saved, texts: Bitext, folder: Path) -> None:
    """``attention-N.png``: attention weights of the translations of sentences of the validation set."""
    source_words, target_words = saved.vocabularies
    for number, text in enumerate(texts.sources[:PICTURES], start=1):
        source = source_words.encode(text)
        target = target_words.encode(translate_all(saved, [text], Search())[0])
        lengths = np.array([len(source)])
        (weights,) = alignments(saved.model, saved.params, source[None], lengths, target[None])
        names = source_words.pieces(source), target_words.pieces(target)
        report.draw_attention(np.asarray(weights), *names, folder / f"attention-{number}.png")
