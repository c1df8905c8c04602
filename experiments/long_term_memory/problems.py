"""The problems: what a network reads, what it is asked, and when it counts as solved.

Each is drawn from a random generator, which is a function of seed, model and step. No sequence is drawn
twice, so what the criterion looks at, the answers to a sequence before it is trained on, are answers to a new
one.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.long_term_memory import grammar, spikes
from lstmjax.types import Array


class Sequences(NamedTuple):
    """A batch of sequences."""

    inputs: Array
    """float32 [batch, time, features]."""
    lengths: Array
    """int32 [batch]."""
    targets: Array
    """float32 [batch, time, outputs]: values, or probabilities of classes or symbols."""
    legal: Array
    """bool [batch, time, outputs]: the symbols that may come next, of which the target is one."""
    asked: Array
    """bool [batch, time]: the steps at which there is a target."""


class Answers(NamedTuple):
    """How outputs of a network are read, each at every step, ``[..., time]``."""

    loss: jax.Array
    """What is minimised."""
    error: jax.Array
    """The largest absolute error of an output."""
    right: jax.Array
    """Whether the answer counts as correct."""


@dataclasses.dataclass(frozen=True)
class Criterion:
    """When a problem is solved: what is asked of the most recent sequences, each before it is trained on."""

    recent: int
    """The number of sequences."""
    wrong: int = 0
    """How many of them may be wrong at most."""
    error: float = float("inf")
    """Their mean error must be below it."""


@dataclasses.dataclass(frozen=True)
class Problem:
    """A problem of the literature."""

    title: str
    features: int
    outputs: int
    draw: Callable[[np.random.Generator, int], Sequences]
    """Draws a batch of so many sequences."""
    read: Callable[[jax.Array, Sequences], Answers]
    criterion: Criterion


def values(tolerance: float) -> Callable[[jax.Array, Sequences], Answers]:
    """Outputs are values: squared error; an answer is right within the tolerance."""

    def read(outputs: jax.Array, batch: Sequences) -> Answers:
        error = jnp.abs(outputs - batch.targets).max(axis=-1)
        return Answers(jnp.square(outputs - batch.targets).sum(axis=-1), error, error < tolerance)

    return read


def classes(tolerance: float) -> Callable[[jax.Array, Sequences], Answers]:
    """Outputs are logits of classes: cross entropy; an answer is right if all probabilities are within the
    tolerance of 0 and 1."""

    def read(outputs: jax.Array, batch: Sequences) -> Answers:
        error = jnp.abs(jax.nn.softmax(outputs) - batch.targets).max(axis=-1)
        return Answers(_cross_entropy(outputs, batch), error, error < tolerance)

    return read


def symbols(outputs: jax.Array, batch: Sequences) -> Answers:
    """Outputs are logits of the next symbol: cross entropy; an answer is right if all symbols that may come
    next have larger outputs than all others."""
    least = jnp.where(batch.legal, outputs, jnp.inf).min(axis=-1)
    most = jnp.where(batch.legal, -jnp.inf, outputs).max(axis=-1)
    error = jnp.abs(jax.nn.softmax(outputs) - batch.targets).max(axis=-1)
    return Answers(_cross_entropy(outputs, batch), error, least > most)


def _cross_entropy(outputs: jax.Array, batch: Sequences) -> jax.Array:
    return -(batch.targets * jax.nn.log_softmax(outputs)).sum(axis=-1)


def adding(length: int) -> Problem:
    """Two of the numbers are marked: their sum, to within 0.04 of its range (experiment 4 of 1997)."""
    draw = _marked(length, low=-1.0, first=0.0, target=lambda one, other: 0.5 + (one + other) / 4)
    return Problem(f"adding, T = {length}", 2, 1, draw, values(0.04), Criterion(2000, error=0.01))


def multiplication(length: int) -> Problem:
    """Two of the numbers are marked: their product (experiment 5 of 1997, with n_seq = 13)."""
    draw = _marked(length, low=0.0, first=1.0, target=lambda one, other: one * other)
    return Problem(f"multiplication, T = {length}", 2, 1, draw, values(0.04), Criterion(2000, wrong=12))


def _marked(
    length: int, low: float, first: float, target: Callable[..., np.ndarray]
) -> Callable[..., Sequences]:
    """Numbers in [low, 1], two of them marked by 1: one of the first ten, one of the first T/2 - 1 others.

    The first and the last element have the marker -1. If the first is chosen, it counts as ``first``.
    """

    def draw(rng: np.random.Generator, rows: int) -> Sequences:
        lengths = rng.integers(length, length + length // 10 + 1, rows)
        every, inputs = np.arange(rows), np.zeros((rows, length + length // 10, 2), np.float32)
        inputs[..., 0] = rng.uniform(low, 1, inputs.shape[:2])
        one = rng.integers(0, min(10, length // 2 - 1), rows)
        other = rng.integers(0, length // 2 - 1, rows)
        other += other >= one  # of those that are not marked yet
        numbers = np.where(np.arange(inputs.shape[1]) == 0, first, inputs[..., 0])
        inputs[every, one, 1] = inputs[every, other, 1] = 1
        inputs[:, 0, 1] = inputs[every, lengths - 1, 1] = -1
        return _at_the_end(inputs, lengths, target(numbers[every, one], numbers[every, other])[:, None])

    return draw


def temporal_order(places: tuple[tuple[int, int], ...]) -> Problem:
    """X or Y at each of some places among distractors: which, in order? (experiments 6a and 6b of 1997)

    Args:
      places: the first and the last step at which each of them may be, counted from 0.
    """
    count = len(places)

    def draw(rng: np.random.Generator, rows: int) -> Sequences:
        lengths, every = rng.integers(100, 111, rows), np.arange(rows)
        read = rng.integers(0, 4, (rows, 110))  # a, b, c, d; then X, Y, E, B
        bits = rng.integers(0, 2, (rows, count))
        for place, (first, last) in enumerate(places):
            read[every, rng.integers(first, last + 1, rows)] = 4 + bits[:, place]
        read[:, 0], read[every, lengths - 1] = 6, 7
        number = bits @ (1 << np.arange(count)[::-1])
        return _at_the_end(_one_hot(read, 8), lengths, _one_hot(number, 2**count))

    title = f"temporal order of {count}"
    return Problem(title, 8, 2**count, draw, classes(0.3), Criterion(2000, error=0.1))


def two_sequence(length: int, noisy: bool = False) -> Problem:
    """Do the first three elements say 1 or -1? Noise follows, on the same line (experiment 3a of 1997).

    Args:
      length: T.
      noisy: whether there is noise on these three, too (experiment 3b).
    """

    def draw(rng: np.random.Generator, rows: int) -> Sequences:
        lengths = rng.integers(length, length + length // 10 + 1, rows)
        inputs = rng.normal(0, np.sqrt(0.2), (rows, length + length // 10, 1)).astype(np.float32)
        which = rng.integers(0, 2, rows)
        inputs[:, :3, 0] = (2 * which - 1)[:, None] + noisy * inputs[:, :3, 0]
        return _at_the_end(inputs, lengths, which[:, None])

    title = f"two sequences{', noisy' if noisy else ''}, T = {length}"
    criterion = Criterion(256, wrong=5, error=0.04) if noisy else Criterion(256, error=0.01)
    return Problem(title, 1, 1, draw, values(0.2), criterion)


def copy_memory(length: int) -> Problem:
    """Ten symbols of eight kinds, T - 1 blanks, a delimiter, and the ten again (Arjovsky et al. 2016)."""
    blank, delimiter, symbols_read = 8, 9, 10

    def draw(rng: np.random.Generator, rows: int) -> Sequences:
        read = np.full((rows, length + 2 * symbols_read), blank)
        target = read.copy()
        read[:, :symbols_read] = rng.integers(0, 8, (rows, symbols_read))
        read[:, length + symbols_read - 1] = delimiter
        target[:, -symbols_read:] = read[:, :symbols_read]
        asked = np.ones(read.shape, bool)
        lengths = np.full(rows, read.shape[1], np.int32)
        one_hot = _one_hot(target, 9)
        return Sequences(_one_hot(read, 10), lengths, one_hot, one_hot > 0, asked)

    return Problem(f"copy memory, T = {length}", 10, 9, draw, symbols, Criterion(2000))


REBER = grammar.embedded()
LONGEST = 40
"""Longer strings of the embedded Reber grammar, fewer than one in a thousand, are drawn again."""


def reber() -> Problem:
    """The next symbol of a string of the embedded Reber grammar (experiment 1 of 1997)."""

    def draw(rng: np.random.Generator, rows: int) -> Sequences:
        read, nodes = REBER.walk(rng, 2 * rows, LONGEST)
        kept = np.flatnonzero((nodes == 0).any(axis=1))[:rows]
        lengths = (nodes[kept] == 0).argmax(axis=1)  # without the last symbol, which is only a target
        return _predicting(read[kept], nodes[kept], lengths)

    count = len(grammar.SYMBOLS)
    return Problem("embedded Reber grammar", count, count, draw, symbols, Criterion(512))


def continual_reber(length: int) -> Problem:
    """The next symbol of a stream of such strings, which nothing divides (Gers et al. 2000)."""

    def draw(rng: np.random.Generator, rows: int) -> Sequences:
        return _predicting(*REBER.walk(rng, rows, length + 1), np.full(rows, length))

    count = len(grammar.SYMBOLS)
    title = f"continual embedded Reber grammar, streams of {length}"
    return Problem(title, count, count, draw, symbols, Criterion(1000))


def _predicting(read: np.ndarray, nodes: np.ndarray, lengths: np.ndarray) -> Sequences:
    """Symbols of the Reber grammar, and after each the next."""
    one_hot, legal = _one_hot(read, len(grammar.SYMBOLS)), REBER.legal[nodes]
    asked = np.arange(read.shape[1] - 1) < lengths[:, None]
    return Sequences(one_hot[:, :-1], lengths.astype(np.int32), one_hot[:, 1:], legal[:, :-1], asked)


def counting(most: int = 10) -> Problem:
    """The next symbol of S a^n b^n c^n T: how many were there? (Gers and Schmidhuber 2001)"""
    start, a, b, c, end = range(5)

    def draw(rng: np.random.Generator, rows: int) -> Sequences:
        n = rng.integers(1, most + 1, rows)[:, None]
        step = np.arange(3 * most + 2)
        read = np.select([step == 0, step <= n, step <= 2 * n, step <= 3 * n], [start, a, b, c], end)
        one_hot = _one_hot(read, 5)
        legal = one_hot[:, 1:] > 0
        legal[..., b] |= read[:, :-1] == a  # after an a, both an a and a b may follow
        legal[..., a] |= read[:, :-1] == a
        lengths = (3 * n[:, 0] + 1).astype(np.int32)
        return Sequences(one_hot[:, :-1], lengths, one_hot[:, 1:], legal, step[:-1] < lengths[:, None])

    return Problem(f"counting, n up to {most}", 5, 5, draw, symbols, Criterion(1000))


def timing(length: int) -> Problem:
    """At each spike of a train: came it F or F + 1 steps after the last one? (task MSD of 2002)"""

    def draw(rng: np.random.Generator, rows: int) -> Sequences:
        trains = spikes.draw(rng, rows, length, length // 10)
        return _stream(trains.spikes, trains.before, asked=trains.spikes)

    title = f"measuring spike delays, F = {length // 10}"
    return Problem(title, 1, 1, draw, values(0.49), _thousand_spikes(length))


def timed_spikes(length: int) -> Problem:
    """A train of spikes, of which only the delays I are read: a spike in F + I steps (task GTS of 2002)."""

    def draw(rng: np.random.Generator, rows: int) -> Sequences:
        trains = spikes.draw(rng, rows, length, length // 10)
        return _stream(trains.ahead, trains.spikes, asked=np.ones((rows, length), bool))

    title = f"generating timed spikes, F = {length // 10}"
    return Problem(title, 1, 1, draw, values(0.49), _thousand_spikes(length))


def _thousand_spikes(length: int) -> Criterion:
    """As many streams without an error as have a thousand spikes at least, the paper's test."""
    return Criterion(-(-1000 // (length // (length // 10 + 1))))


def _stream(inputs: np.ndarray, targets: np.ndarray, asked: np.ndarray) -> Sequences:
    """Sequences of one input and one output, all as long as the arrays ``[rows, time]``."""
    lengths = np.full(len(inputs), inputs.shape[1], np.int32)
    read, target = (array[..., None].astype(np.float32) for array in (inputs, targets))
    return Sequences(read, lengths, target, target > 0, asked)


def _one_hot(numbers: np.ndarray, count: int) -> np.ndarray:
    return np.eye(count, dtype=np.float32)[numbers]


def _at_the_end(inputs: np.ndarray, lengths: np.ndarray, target: np.ndarray) -> Sequences:
    """Sequences with one target each, at their last step; values beyond their lengths are 0."""
    step = np.arange(inputs.shape[1])
    inputs = inputs * (step < lengths[:, None])[..., None]
    asked = step == lengths[:, None] - 1
    targets = np.where(asked[..., None], target[:, None], 0).astype(np.float32)
    return Sequences(inputs, lengths.astype(np.int32), targets, targets > 0, asked)


PROBLEMS: dict[str, Callable[[int], Problem]] = {
    "adding": adding,
    "multiplication": multiplication,
    "temporal-order-2": lambda length: temporal_order(((10, 20), (50, 60))),
    "temporal-order-3": lambda length: temporal_order(((10, 20), (33, 43), (66, 76))),
    "two-sequence": two_sequence,
    "two-sequence-noisy": functools.partial(two_sequence, noisy=True),
    "copy": copy_memory,
    "reber": lambda length: reber(),
    "continual-reber": continual_reber,
    "counting": lambda length: counting(),
    "timing": timing,
    "timed-spikes": timed_spikes,
}
"""The problems by name; each takes the length T, which some have no use for."""
