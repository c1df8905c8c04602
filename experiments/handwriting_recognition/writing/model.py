"""The network that writes: LSTMs that look at the text through a window, and a mixture density."""

import functools
import string
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Float, Int

import lstmjax
from experiments.datasets.files import DataError
from experiments.handwriting_recognition.writing.path import FEATURES
from lstmjax import attention
from lstmjax.attention import Memory
from lstmjax.losses import mixture_density
from lstmjax.nnx import Functional, Holder, Recurrent, functional
from lstmjax.types import Array, State

CHARACTERS = ' "' + string.ascii_letters
"""The characters of texts; number 0, the space, stands between words."""

POINTS_PER_LETTER = 7
"""Roughly; where the window's movement begins."""


class Architecture(NamedTuple):
    """The hyperparameters of a network."""

    hidden: int
    """Units of each of the two LSTMs."""
    components: int
    """Gaussians of a step."""
    windows: int
    """Gaussians of the window."""


class WriterState(NamedTuple):
    """What is carried from one point to the next."""

    first: State
    second: State
    kappa: jax.Array
    """``[batch, windows]``: where the windows are."""
    seen: jax.Array
    """``[batch, characters]``: what they see of the text."""


class Written(NamedTuple):
    """What the network says after a point."""

    outputs: jax.Array
    """``[..., 6 * components + 1]``: of the mixture density of the next step."""
    stop: jax.Array
    """``[...]``: the logit of the word's end, once a stroke has ended."""


_Carry = tuple[State, jax.Array, jax.Array]
"""The state of the first LSTM, where the windows are, and what they see."""


class Writer(nnx.Module):
    r"""Two LSTMs, the first of which moves a window over the text.

    .. math::
       h^1_t &= LSTM([x_t, w_{t-1}]), \quad w_t = \sum_u a_u(h^1_t)\, c_u, \quad
       h^2_t = LSTM([x_t, h^1_t, w_t]) \\
       [\hat y_t, s_t] &= W [h^1_t, h^2_t] + b

    with the steps x, the characters c (one-hot) and the window a of `lstmjax.attention.graves_window`.

    Args:
      architecture: the hyperparameters.
      rngs: the stream ``params`` initializes the parameters.

    Source: Graves 2013 (arXiv:1308.0850, section 5), with three LSTMs of 400; the logit s of the word's end,
    which the paper reads off the window, is ours.
    """

    def __init__(self, architecture: Architecture, *, rngs: nnx.Rngs) -> None:
        hidden, characters = architecture.hidden, len(CHARACTERS)
        look = attention.graves_window(hidden, characters, architecture.windows, stride=1 / POINTS_PER_LETTER)
        self.first = Recurrent(lstmjax.lstm(FEATURES + characters, hidden), rngs=rngs)
        self.window = Holder(look, rngs=rngs)
        self.second = Recurrent(lstmjax.lstm(FEATURES + hidden + characters, hidden), rngs=rngs)
        self.readout = nnx.Linear(2 * hidden, mixture_density.size(architecture.components) + 1, rngs=rngs)

    def prepare(self, text: Int[Array, "batch letters"], lengths: Int[Array, " batch"]) -> Memory:
        """The text as the window's memory."""
        characters = jax.nn.one_hot(text, len(CHARACTERS))
        memory: Memory = self.window.cell.prepare(self.window.values, characters, lengths)
        return memory

    def start(self, memory: Memory) -> WriterState:
        """The state before the first point."""
        batch, _ = memory.mask.shape
        return WriterState(
            self.first.initial_state((batch,)),
            self.second.initial_state((batch,)),
            self.window.cell.initial_state(memory),
            jnp.zeros((batch, len(CHARACTERS))),
        )

    def step(
        self, memory: Memory, state: WriterState, point: Float[Array, "batch 4"]
    ) -> tuple[WriterState, Written, Float[jax.Array, "batch letters"]]:
        """Advance by one point; also the weights of the window."""
        (first, kappa, seen), hidden, weights = self._look(
            memory, (state.first, state.kappa, state.seen), point
        )
        second, outputs = self.second.step(state.second, jnp.concatenate([point, hidden, seen], axis=-1))
        return WriterState(first, second, kappa, seen), self._written(hidden, outputs), weights

    def __call__(
        self, memory: Memory, path: Float[Array, "batch points 4"], lengths: Int[Array, " batch"]
    ) -> Written:
        """What the network says after each point; undefined beyond the lengths."""

        def look(carry: _Carry, point: jax.Array) -> tuple[_Carry, tuple[jax.Array, jax.Array]]:
            carry, hidden, _ = self._look(memory, carry, point)
            return carry, (hidden, carry[-1])

        start = self.start(memory)
        _, (hidden, seen) = jax.lax.scan(
            look, (start.first, start.kappa, start.seen), jnp.moveaxis(jnp.asarray(path), 1, 0)
        )
        hidden, seen = jnp.moveaxis(hidden, 0, 1), jnp.moveaxis(seen, 0, 1)
        _, outputs = self.second(jnp.concatenate([path, hidden, seen], axis=-1), lengths=lengths)
        return self._written(hidden, outputs)

    def _look(self, memory: Memory, carry: _Carry, point: Array) -> tuple[_Carry, jax.Array, jax.Array]:
        """The first LSTM and the window: what is carried, the LSTM's output, and the window's weights."""
        first, kappa, seen = carry
        first, hidden = self.first.step(first, jnp.concatenate([point, seen], axis=-1))
        glimpse, kappa = self.window.cell.attend(self.window.values, memory, hidden, kappa)
        return (first, kappa, glimpse.context), hidden, glimpse.weights

    def _written(self, first: jax.Array, second: jax.Array) -> Written:
        outputs = self.readout(jnp.concatenate([first, second], axis=-1))
        return Written(outputs[..., :-1], outputs[..., -1])


@functools.cache
def make_model(architecture: Architecture) -> Functional:
    """The network as pure functions, made once for equal hyperparameters."""
    return functional(functools.partial(Writer, architecture))


def encode(text: str) -> np.ndarray:
    """The numbers of characters, int32 ``[letters]``.

    Raises:
      DataError: the text is empty, or has a character that no network has seen.
    """
    unknown = "".join(sorted(set(text) - set(CHARACTERS)))
    if unknown or not text.strip():
        what = f"has {unknown!r}" if unknown else "is empty"
        raise DataError(f"the text {what}: the network can write the letters a to z and A to Z.")
    return np.array([CHARACTERS.index(character) for character in text], np.int32)


def decode(numbers: Sequence[int]) -> str:
    """The text of numbers of characters."""
    return "".join(CHARACTERS[number] for number in numbers)
