"""The figures of what was read, and the files of a run that show it."""

import collections
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from experiments.datasets import Splits
from experiments.datasets.ink import Ink
from experiments.handwriting_recognition.data import Source, infeasible
from experiments.handwriting_recognition.model import frames_of
from experiments.handwriting_recognition.reading import errors
from lstmjax.training.batching import PairBatches


def figures(
    part: str, source: Source, inks: Sequence[Ink], texts: Sequence[str], seen: Collection[str] | None = None
) -> dict[str, float]:
    """Error rates of a split, of its words that are not ``seen``, and of its writers.

    Single characters have an accuracy in their place: all, and the lowest of a writer.
    """
    labels = [ink.label for ink in inks]
    total = errors(labels, texts)
    by_writer = collections.defaultdict(list)
    for ink, text in zip(inks, texts, strict=True):
        by_writer[ink.writer].append((ink.label, text))
    rates = [errors(*zip(*pairs, strict=True)).cer for pairs in by_writer.values()]
    if source.whole:
        return {f"{part}_accuracy": 1 - total.wer, f"{part}_accuracy_worst_writer": 1 - max(rates)}
    found = {f"{part}_cer": total.cer, f"{part}_wer": total.wer}
    found |= {f"{part}_cer_median_writer": float(np.median(rates)), f"{part}_cer_worst_writer": max(rates)}
    if seen is not None:
        unseen = [pair for pair in zip(labels, texts, strict=True) if pair[0] not in seen]
        rate = errors(*zip(*unseen, strict=True)) if unseen else errors([], [])
        found |= {f"{part}_cer_unseen": rate.cer, f"{part}_wer_unseen": rate.wer}
        found[f"{part}_words_unseen"] = float(len(unseen))
    return found


def write_infeasible(
    source: Source, parts: Splits[Ink], batches: Sequence[PairBatches], folder: Path
) -> dict[str, float]:
    """Say which inks have too few frames for their labels, in ``infeasible.txt``; returns their numbers.

    In training they have no loss, since there is none; in a test they are read as all others, and are wrong.
    """
    if source.whole:
        return {}
    counts, lines = {}, []
    for name, inks, batch in zip(Splits._fields, parts, batches, strict=True):
        found = infeasible(batch)
        counts[f"{name}_infeasible"] = float(len(found))
        for place in found:
            ink, number = inks[place], frames_of(len(batch.sources[place]))
            lines.append(f"{name}\t{ink.writer}\t{ink.label}\t{number} frames\n")
    (folder / "infeasible.txt").write_text("".join(lines), "utf-8")
    print("".join(["inks with too few frames for their labels:\n", *lines]), end="", flush=True)
    return counts


def write_texts(inks: Sequence[Ink], texts: Sequence[str], folder: Path) -> None:
    """Write writer, label and what was read, an ink a line, to ``read.tsv``."""
    lines = [f"{ink.writer}\t{ink.label}\t{text}\n" for ink, text in zip(inks, texts, strict=True)]
    (folder / "read.tsv").write_text("".join(lines), "utf-8")
