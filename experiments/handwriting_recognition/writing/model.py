"""The network that writes: LSTMs that look at the text through a window, and a mixture density."""

import dataclasses
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
from lstmjax.attention import GravesWindow, Memory
from lstmjax.attention.location import WindowParams
from lstmjax.losses import mixture_density
from lstmjax.nnx import Functional, Holder, Recurrent, functional
from lstmjax.types import Array, State

CHARACTERS = ' "' + string.ascii_letters
"""The characters of texts; number 0, the space, stands between words."""

POINTS_PER_LETTER = 7
"""Roughly."""


@dataclasses.dataclass(frozen=True, repr=False)
class InkWindow(GravesWindow):
    r"""A window that moves with the ink: :math:`\kappa = \kappa' + r \exp \hat\kappa`, for steps of length r.

    Its state is :math:`(\kappa, r)`; who calls it sets r. In letters of ink a word is as long as its text, so
    the window is about where it should be before anything is learned.
    """

    def initial_state(self, memory: Memory) -> State:
        """Before the first letter, and no step."""
        kappa = super().initial_state(memory)
        return kappa, jnp.zeros_like(kappa[..., :1])

    def weigh(
        self, params: WindowParams, memory: Memory, query: Array, state: State
    ) -> tuple[Float[jax.Array, "*batch time"], State]:
        """The sum of the windows at each position, and their new locations."""
        kappa, ink = state
        importance, narrowness, movement = self.outputs(params, query)
        kappa = kappa + ink * movement
        return self.sum_of_windows(memory, importance, narrowness, kappa + 0.5), (kappa, ink)


class Architecture(NamedTuple):
    """The hyperparameters of a network."""

    hidden: int
    """Units of each of the two LSTMs."""
    components: int
    """Gaussians of a step."""
    windows: int
    """Gaussians of the window."""


class LookingState(NamedTuple):
    """What the first LSTM and the window carry from one point to the next."""

    first: State
    """Of the LSTM."""
    kappa: jax.Array
    """``[batch, windows]``: where the windows are, in letters before the current one."""
    seen: jax.Array
    """``[batch, characters]``: what they see of the text."""
    pen_up: jax.Array
    """``[batch, 1]``: whether the pen is up, so that the next step leaves no ink."""


class WriterState(NamedTuple):
    """What is carried from one point to the next."""

    looking: LookingState
    second: State


class Written(NamedTuple):
    """What the network says after a point."""

    outputs: jax.Array
    """``[..., 6 * components + 1]``: of the mixture density of the next step."""
    stop: jax.Array
    """``[...]``: the logit of the word's end, once a stroke has ended."""


class Writer(nnx.Module):
    r"""Two LSTMs, the first of which moves a window over the text.

    .. math::
       h^1_t &= LSTM([x_t, w_{t-1}]), \quad w_t = \sum_u a_u(h^1_t)\, c_u, \quad
       h^2_t = LSTM([x_t, h^1_t, w_t]) \\
       [\hat y_t, s_t] &= W [h^1_t, h^2_t] + b

    with the steps x, the characters c (one-hot) and the window a, an `InkWindow`.

    Args:
      architecture: the hyperparameters.
      rngs: the stream ``params`` initializes the parameters.

    Source: Graves 2013 (arXiv:1308.0850, section 5), with three LSTMs of 400. Ours are the pace of the window
    and the logit s of the end of the word, which the paper reads off the window.
    """

    def __init__(self, architecture: Architecture, *, rngs: nnx.Rngs) -> None:
        hidden, characters = architecture.hidden, len(CHARACTERS)
        look = InkWindow(hidden, characters, architecture.windows)
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
        kappa, ink = self.window.cell.initial_state(memory)
        seen = jnp.zeros((batch, len(CHARACTERS)), kappa.dtype)
        # The first point begins a word, which moves the windows by one, as the space before later words.
        looking = LookingState(self.first.initial_state((batch,)), kappa - 1, seen, jnp.ones_like(ink))
        return WriterState(looking, self.second.initial_state((batch,)))

    def step(
        self, memory: Memory, state: WriterState, point: Float[Array, "batch 4"]
    ) -> tuple[WriterState, Written, Float[jax.Array, "batch letters"]]:
        """Advance by one point; also the weights of the window."""
        looking, hidden, weights = self._look(memory, state.looking, point)
        inputs = jnp.concatenate([point, hidden, looking.seen], axis=-1)
        second, outputs = self.second.step(state.second, inputs)
        return WriterState(looking, second), self._written(hidden, outputs), weights

    def __call__(
        self, memory: Memory, path: Float[Array, "batch points 4"], lengths: Int[Array, " batch"]
    ) -> Written:
        """What the network says after each point; undefined beyond the lengths."""

        def look(state: LookingState, point: jax.Array) -> tuple[LookingState, tuple[jax.Array, jax.Array]]:
            state, hidden, _ = self._look(memory, state, point)
            return state, (hidden, state.seen)

        points = jnp.moveaxis(jnp.asarray(path), 1, 0)
        _, (hidden, seen) = jax.lax.scan(look, self.start(memory).looking, points)
        hidden, seen = jnp.moveaxis(hidden, 0, 1), jnp.moveaxis(seen, 0, 1)
        _, outputs = self.second(jnp.concatenate([path, hidden, seen], axis=-1), lengths=lengths)
        return self._written(hidden, outputs)

    def _look(
        self, memory: Memory, state: LookingState, point: Array
    ) -> tuple[LookingState, jax.Array, jax.Array]:
        """The first LSTM and the window: what is carried, the LSTM's output, and the window's weights."""
        point = jnp.asarray(point)
        begins = point[:, 3:]
        first, hidden = self.first.step(state.first, jnp.concatenate([point, state.seen], axis=-1))
        length = jnp.sqrt((point[:, :2] ** 2).sum(axis=-1, keepdims=True) + 1e-12)
        ink = length * (1 - state.pen_up) * (1 - begins)
        looking = state.kappa + begins, ink
        glimpse, (kappa, _) = self.window.cell.attend(self.window.values, memory, hidden, looking)
        return LookingState(first, kappa, glimpse.context, point[:, 2:3]), hidden, glimpse.weights

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
