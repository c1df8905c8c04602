"""Figures of a saved network of words: with language models, and adapted to writers."""

import collections
import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.datasets import Splits
from experiments.datasets.ink import Ink
from experiments.handwriting_recognition import language
from experiments.handwriting_recognition.adaptation import adapt
from experiments.handwriting_recognition.data import SOURCES, load, make_batches
from experiments.handwriting_recognition.reading import Beam, errors, read, search
from experiments.handwriting_recognition.task import Saved

WEIGHTS, BONUSES = (0.25, 0.5, 0.75), (0.0, 0.75, 1.5)
"""Of the character model, of which the best on the first `TUNED` words of the validation split are taken."""

TUNED = 800
BEAMS = 16
ADAPTED = 50
"""Words of a writer that a network is adapted to."""


def load_parts(saved: Saved, data_dir: Path | None, limit: int = 0) -> Splits[Ink]:
    """The splits that a network was trained and tested on."""
    parts = load(dataclasses.replace(saved.config, data_dir=data_dir, limit=0))
    return Splits(parts.train, *(part[: limit or None] for part in parts[1:]))


def with_language(saved: Saved, data_dir: Path | None, limit: int = 0) -> dict[str, float]:
    """Error rates of the test split by the best path, by the beam search, and with language models.

    ``beam`` has no language model; ``ngram`` one of letters, of the different words of the training split;
    ``lexicon`` the list of the different words of all splits, so that no word is unknown.
    """
    source, parts = SOURCES[saved.config.task], load_parts(saved, data_dir, limit)
    train = {ink.label for ink in parts.train}
    letters = language.character_model(source, sorted(train))
    listed = language.word_list(source, sorted({ink.label for part in parts for ink in part}))

    def texts(inks: Sequence[Ink], beam: Beam) -> list[str]:
        batches = make_batches(saved.config, inks)
        # A list of words may have none that begins as any of the beams does.
        read_by_beam = search(source, saved.model, saved.params, batches, beam)
        return [found[0][0] if found else "" for found in read_by_beam]

    tuned = spread(parts.valid, TUNED)

    def rate(beam: Beam) -> float:
        return errors([ink.label for ink in tuned], texts(tuned, beam)).cer

    grid = [Beam(BEAMS, letters, *settings) for settings in itertools.product(WEIGHTS, BONUSES)]
    best = min(grid, key=rate)
    greedy = read(source, saved.model, saved.params, make_batches(saved.config, parts.test))
    read_by = {
        "": greedy,
        "_beam": texts(parts.test, Beam(BEAMS)),
        "_ngram": texts(parts.test, best),
        "_lexicon": texts(parts.test, Beam(BEAMS, listed)),
    }
    figures = {"ngram_weight": best.weight, "ngram_bonus": best.bonus}
    unseen = np.array([ink.label not in train for ink in parts.test])
    labels = np.array([ink.label for ink in parts.test])
    for name, found in read_by.items():
        rates, new = errors(labels.tolist(), found), np.array(found)[unseen].tolist()
        figures |= {f"test_cer{name}": rates.cer, f"test_wer{name}": rates.wer}
        rates = errors(labels[unseen].tolist(), new)
        figures |= {f"test_cer_unseen{name}": rates.cer, f"test_wer_unseen{name}": rates.wer}
    return figures


def spread(inks: Sequence[Ink], number: int) -> Sequence[Ink]:
    """About so many inks, evenly spread over all."""
    return inks[:: max(len(inks) // number, 1)]


def by_writer(inks: Sequence[Ink]) -> dict[str, list[Ink]]:
    """Inks by their writers."""
    found = collections.defaultdict(list)
    for ink in inks:
        found[ink.writer].append(ink)
    return dict(found)


def with_adaptation(
    saved: Saved, data_dir: Path | None, writers: int = 0, part: str = "test", **settings: float
) -> dict[str, float]:
    """Error rates of writers of 100 words or more before and after adaptation to the first `ADAPTED`.

    The words adapted to are in neither rate.
    """
    source, inks = SOURCES[saved.config.task], getattr(load_parts(saved, data_dir), part)
    chosen = [own for own in by_writer(inks).values() if len(own) >= 2 * ADAPTED][: writers or None]
    pairs: dict[str, list[tuple[list[str], list[str]]]] = {"before": [], "after": []}
    for own in chosen:
        known, rest = own[:ADAPTED], own[ADAPTED:]
        networks = {"before": saved, "after": adapt(saved, known, **settings)}  # type: ignore[arg-type]
        batches = make_batches(saved.config, rest, buckets=1)
        for name, network in networks.items():
            texts = read(source, network.model, network.params, batches)
            pairs[name].append(([ink.label for ink in rest], texts))
    rates = {name: np.array([errors(*pair).cer for pair in found]) for name, found in pairs.items()}
    figures = {f"{part}_adaptation_writers": float(len(chosen))}
    for name, found in pairs.items():
        labels, texts = (list(itertools.chain(*each)) for each in zip(*found, strict=True))
        figures[f"{part}_cer_{name}_adaptation"] = errors(labels, texts).cer
    figures[f"{part}_adaptation_better"] = float((rates["after"] < rates["before"]).mean())
    return figures


def right_and_wrong(saved: Saved, inks: Sequence[Ink]) -> dict[str, list[tuple[Ink, str]]]:
    """For pictures: the first misread ink of each writer with what was read, and the first right one."""
    source = SOURCES[saved.config.task]
    texts = read(source, saved.model, saved.params, make_batches(saved.config, inks))
    found: dict[str, dict[str, tuple[Ink, str]]] = {"errors.png": {}, "words.png": {}}
    for ink, text in zip(inks, texts, strict=True):
        name = "words.png" if text == ink.label else "errors.png"
        found[name].setdefault(ink.writer, (ink, text))
    return {name: list(own.values()) for name, own in found.items()}
