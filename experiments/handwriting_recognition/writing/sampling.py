"""Writing: steps of the pen, drawn one after the other, perhaps in the hand of a word that was read."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.handwriting_recognition.writing.model import (
    POINTS_PER_LETTER,
    Writer,
    WriterState,
    Written,
    encode,
)
from experiments.handwriting_recognition.writing.path import FEATURES, Word
from lstmjax.attention import Memory
from lstmjax.losses import mixture_density
from lstmjax.nnx import Functional
from lstmjax.training.batching import Padded, pad
from lstmjax.types import Key, Params

MOST_POINTS_PER_LETTER = 5 * POINTS_PER_LETTER
"""A word that has not ended after so many points for each letter, and three letters more, is cut off."""

ROUND = 16
"""Lengths are rounded up to multiples of this, so that few are compiled."""


class Sample(NamedTuple):
    """A word that a network wrote."""

    word: Word
    ended: bool
    """Whether the network ended it; else it was cut off."""
    letters: np.ndarray
    """int32 ``[points]``: the letter of the text that the window sees most of, at each point."""


def write(
    model: Functional,
    params: Params,
    texts: Sequence[str],
    key: Key,
    bias: float = 0.0,
    style: Sequence[Word] = (),
) -> list[Sample]:
    r"""Draw a path for each text.

    With a style, the network first reads the path of another word, its text being in front of the one to
    write (Graves 2013, section 5.5). The bias b acts on the steps as in
    `lstmjax.losses.mixture_density.mixture`, and on the end of the word: its logit is multiplied by 1 + b.

    Args:
      model: the network.
      params: its parameters.
      texts: words without spaces, at least one.
      key: random key; a word depends on it, on its place among the texts, and on nothing else.
      bias: b, at least 0; higher values write neater, more alike words.
      style: a word for each text, or none at all.

    Raises:
      DataError: a text cannot be written.
    """
    items = [f"{word.text} {text}" for word, text in zip(style, texts, strict=True)] if style else texts
    numbers = pad([encode(item) for item in items], _rounded(max(map(len, items))))
    given = [word.path for word in style] or [np.zeros((0, FEATURES), np.float32) for _ in texts]
    prime = pad(given, 4 * _rounded(-(-max(map(len, given)) // 4)))
    most = np.array([MOST_POINTS_PER_LETTER * (len(text) + 3) for text in texts], np.int32)
    buffer = MOST_POINTS_PER_LETTER * (_rounded(max(map(len, texts))) + 3)
    written = _write(model, params, numbers, prime, most, key, jnp.float32(bias), buffer)
    paths, seen, points, ended = jax.device_get(written)
    hands: list[Word | None] = list(style) or [None] * len(texts)
    return [_sample(*each) for each in zip(texts, hands, paths, seen, points, ended, strict=True)]


def _rounded(length: int) -> int:
    return -(-length // ROUND) * ROUND


def _sample(
    text: str, style: Word | None, path: np.ndarray, seen: np.ndarray, points: int, ended: bool
) -> Sample:
    path = path[:points].copy()
    path[-1, 2] = 1
    before = len(style.text) + 1 if style else 0
    letters = np.clip(seen[:points] - before, 0, len(text) - 1)
    return Sample(Word(text, path, style.writer if style else ""), bool(ended), letters)


class _Writing(NamedTuple):
    """The carry of the loop over points."""

    number: jax.Array
    state: WriterState
    point: jax.Array
    """``[batch, 4]``: the last one."""
    points: jax.Array
    """int32 ``[batch]``: the number of points so far."""
    ended: jax.Array
    """Booleans ``[batch]``."""
    paths: jax.Array
    """``[batch, buffer, 4]``."""
    seen: jax.Array
    """int32 ``[batch, buffer]``: the letter that the window sees most of."""


@functools.partial(jax.jit, static_argnames=("model", "buffer"))
def _write(
    model: Functional,
    params: Params,
    text: Padded,
    prime: Padded,
    most: jax.Array,
    key: Key,
    bias: jax.Array,
    buffer: int,
) -> tuple[jax.Array, ...]:
    """Paths, letters, numbers of points, and whether words have ended."""
    module: Writer = model.bind(params)
    memory = module.prepare(text.values, text.lengths)
    rows = jnp.arange(len(most))

    def is_open(carry: _Writing) -> jax.Array:
        return ~carry.ended & (carry.points < most)

    def body(carry: _Writing) -> _Writing:
        points = carry.points + is_open(carry)
        paths = carry.paths.at[:, carry.number].set(carry.point)
        state, written, weights = module.step(memory, carry.state, carry.point)
        seen = carry.seen.at[:, carry.number].set(weights.argmax(axis=-1))
        keys = jax.vmap(lambda row: jax.random.fold_in(jax.random.fold_in(key, row), carry.number))(rows)
        point, stops = jax.vmap(functools.partial(_draw, bias))(keys, written)
        ended = carry.ended | (is_open(carry) & (carry.point[:, 2] > 0) & stops)
        return _Writing(carry.number + 1, state, point, points, ended, paths, seen)

    start = _Writing(
        number=jnp.int32(0),
        state=_read(module, memory, prime),
        point=jnp.zeros((len(rows), FEATURES)).at[:, 3].set(1),
        points=jnp.zeros(len(rows), jnp.int32),
        ended=jnp.zeros(len(rows), bool),
        paths=jnp.zeros((len(rows), buffer, FEATURES)),
        seen=jnp.zeros((len(rows), buffer), jnp.int32),
    )
    carry = jax.lax.while_loop(lambda carry: is_open(carry).any(), body, start)
    return carry.paths, carry.seen, carry.points, carry.ended


def _read(module: Writer, memory: Memory, prime: Padded) -> WriterState:
    """The state after a path was read; rows whose path is shorter keep theirs."""

    def body(state: WriterState, each: tuple[jax.Array, jax.Array]) -> tuple[WriterState, None]:
        number, point = each
        after, _, _ = module.step(memory, state, point)
        going = number < jnp.asarray(prime.lengths)

        def choose(new: jax.Array, old: jax.Array) -> jax.Array:
            return jnp.where(going.reshape(-1, *[1] * (new.ndim - 1)), new, old)

        return jax.tree.map(choose, after, state), None

    points = jnp.moveaxis(jnp.asarray(prime.values), 1, 0)
    state, _ = jax.lax.scan(body, module.start(memory), (jnp.arange(len(points)), points))
    return state


def _draw(bias: jax.Array, key: Key, written: Written) -> tuple[jax.Array, jax.Array]:
    """The next point ``[4]``, and whether the word ends before it, should a stroke."""
    of_step, of_stop = jax.random.split(key)
    step = mixture_density.sample(of_step, written.outputs, bias)
    stops = jax.random.bernoulli(of_stop, jax.nn.sigmoid((1 + bias) * written.stop))
    return jnp.append(step, 0), stops
