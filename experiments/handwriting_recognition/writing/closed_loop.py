"""The closed loop: a recogniser reads real ink, and ink that a network wrote of the same texts."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np

from experiments.datasets.ink import Ink
from experiments.handwriting_recognition import data, reading
from experiments.handwriting_recognition import task as recognition
from experiments.handwriting_recognition.config import Config
from experiments.handwriting_recognition.reading import Errors
from experiments.handwriting_recognition.writing import path, sampling
from experiments.handwriting_recognition.writing.path import Word
from experiments.handwriting_recognition.writing.task import Saved, pairs

BATCH = 64
"""Words that are written together."""


class Read(NamedTuple):
    """Inks, and what a recogniser made of them."""

    inks: Sequence[Ink]
    texts: Sequence[str]

    @property
    def errors(self) -> Errors:
        """The error rates."""
        return reading.errors([ink.label for ink in self.inks], self.texts)


def read(reader: recognition.Saved, inks: Sequence[Ink]) -> Read:
    """Read inks by the best path of CTC."""
    batches = data.make_batches(reader.config, inks)
    return Read(inks, reading.read(data.SOURCES["words"], reader.model, reader.params, batches))


def choose(inks: Sequence[Ink], words: int, seed: int) -> list[tuple[Ink, Ink]]:
    """Pairs of different words of one writer: the first gives the style, the second is written and read."""
    known = [Word(str(number), np.zeros((1, path.FEATURES)), ink.writer) for number, ink in enumerate(inks)]
    chosen = pairs(known, seed)
    order = np.random.default_rng(seed).permutation(len(chosen))[:words]
    both = [tuple(inks[int(word.text)] for word in chosen[place]) for place in order]
    return [(style, ink) for style, ink in both]


def write_all(
    writer: Saved, texts: Sequence[str], bias: float, seed: int, style: Sequence[Word] = ()
) -> list[sampling.Sample]:
    """Write words in batches of similar lengths; the last batch is filled up, so that few are compiled."""
    order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
    samples: dict[int, sampling.Sample] = {}
    for count, places in enumerate(_batches(order)):
        key = jax.random.fold_in(jax.random.key(seed), count)
        hands = [style[place] for place in places] if style else ()
        own = [texts[place] for place in places]
        written = sampling.write(writer.model, writer.params, own, key, bias, hands)
        samples |= dict(zip(places, written, strict=True))
    return [samples[number] for number in range(len(texts))]


def _batches(order: Sequence[int]) -> Iterator[list[int]]:
    for start in range(0, len(order), BATCH):
        batch = list(order[start : start + BATCH])
        yield batch + [batch[-1]] * (BATCH - len(batch))


def deviations(inks: Sequence[Ink], config: Config) -> dict[str, float]:
    """The standard deviations of the steps of inks in x and y: the unit of the paper's figures, in ours."""
    paths = [word.path[1:, :2] for word in path.words(inks, config.tolerance)]
    x, y = np.concatenate(paths).std(axis=0)
    return {"train_step_deviation_x": float(x), "train_step_deviation_y": float(y)}


def compare(
    writer: Saved,
    reader: recognition.Saved,
    chosen: Sequence[tuple[Ink, Ink]],
    biases: Sequence[float],
    seed: int,
) -> dict[str, Read]:
    """Real ink, the same with simplified strokes, and written ink by bias, without and with style."""
    real = [ink for _, ink in chosen]
    texts = [ink.label for ink in real]
    words = path.words([style for style, _ in chosen] + real, writer.config.tolerance)
    styles, simplified = words[: len(real)], words[len(real) :]
    found = {"real": read(reader, real), "simplified": read(reader, [path.ink(word) for word in simplified])}
    for bias in biases:
        for name, style in (("written", ()), ("primed", styles)):
            samples = write_all(writer, texts, bias, seed, style)
            found[f"{name}_{bias:g}"] = read(reader, [path.ink(each.word) for each in samples])
    return found
