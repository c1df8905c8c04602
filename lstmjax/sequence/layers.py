"""The layer interface, and stacks of layers.

A cell is stepped; a *layer* needs whole sequences, and so has ``apply`` in place of ``step``. Code that
accepts either runs it with `lstmjax.unroll`.
"""

import abc
import dataclasses
from typing import Any, Unpack

import jax
from jaxtyping import Bool, Float, Integer

from lstmjax.cells.cell import Cell, kind_of
from lstmjax.sequence.unroll import Options, unroll
from lstmjax.types import Array, DTypeLike, Key, Params, State


class Layer(abc.ABC):
    """A recurrent network over whole sequences: static hyperparameters and three pure functions.

    Like cells, layers are frozen dataclasses that pass through ``jax.jit`` as pytrees without leaves.

    Example:
      >>> import lstmjax
      >>> layer = lstmjax.bidirectional(lstmjax.lstm(3, 4), lstmjax.lstm(3, 4))
      >>> isinstance(layer, Layer), layer.output_size
      (True, 8)
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        jax.tree_util.register_static(cls)

    @property
    @abc.abstractmethod
    def features(self) -> int:
        """Size of an input vector."""

    @property
    @abc.abstractmethod
    def output_size(self) -> int:
        """Size of an output vector."""

    @property
    @abc.abstractmethod
    def input_dtype(self) -> DTypeLike:
        """The dtype that inputs must have."""

    @abc.abstractmethod
    def init(self, key: Key) -> Params:
        """Fresh parameters, a pytree of arrays."""

    @abc.abstractmethod
    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> State:
        """The state before the first step, a pytree of arrays ``[*batch_shape, ...]``."""

    @abc.abstractmethod
    def apply(
        self,
        params: Params,
        inputs: Float[Array, "*sequence features"],
        state: State | None = None,
        lengths: Integer[Array, "*batch"] | None = None,
        resets: Bool[Array, "*sequence"] | None = None,
        reverse: bool = False,
        **options: Unpack[Options],
    ) -> tuple[State, Float[jax.Array, "*sequence output"]]:
        """Run over sequences; arguments, results and errors are those of `lstmjax.unroll`."""

    def sample(self, key: Key, params: Params, batch_shape: tuple[int, ...] = ()) -> Params:
        """Parameters with the noise of all cells drawn, see `lstmjax.Cell.sample`."""
        return params


@dataclasses.dataclass(frozen=True)
class Layers(Layer):
    """A stack of cells and layers; made by `layers`."""

    parts: tuple[Cell | Layer, ...]

    def __post_init__(self) -> None:
        if not self.parts:
            raise ValueError("layers: give at least one cell or layer.")
        for number, part in enumerate(self.parts):
            if not isinstance(part, Cell | Layer):
                raise TypeError(f"layers: part {number} must be a cell or a layer, got {kind_of(part)}.")
        for number, (below, above) in enumerate(zip(self.parts, self.parts[1:], strict=False)):
            if below.output_size != above.features:
                raise ValueError(
                    f"layers: part {number} puts out {below.output_size} features, but part {number + 1} "
                    f"takes {above.features}."
                )

    @property
    def features(self) -> int:
        """Size of an input vector: that of the lowest part."""
        return self.parts[0].features

    @property
    def output_size(self) -> int:
        """Size of an output vector: that of the highest part."""
        return self.parts[-1].output_size

    @property
    def input_dtype(self) -> DTypeLike:
        """The dtype of the inputs: that of the lowest part."""
        return self.parts[0].input_dtype

    def init(self, key: Key) -> tuple[Params, ...]:
        """Parameters of every part, lowest first."""
        keys = jax.random.split(key, len(self.parts))
        return tuple(part.init(k) for part, k in zip(self.parts, keys, strict=True))

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> tuple[State, ...]:
        """States of every part, lowest first."""
        return tuple(part.initial_state(batch_shape) for part in self.parts)

    def sample(self, key: Key, params: Params, batch_shape: tuple[int, ...] = ()) -> tuple[Params, ...]:
        """Parameters with the noise of every part drawn."""
        keys = jax.random.split(key, len(self.parts))
        parts = zip(self.parts, keys, params, strict=True)
        return tuple(part.sample(k, own, batch_shape) for part, k, own in parts)

    def apply(
        self,
        params: tuple[Params, ...],
        inputs: Float[Array, "*sequence features"],
        state: tuple[State, ...] | None = None,
        lengths: Integer[Array, "*batch"] | None = None,
        resets: Bool[Array, "*sequence"] | None = None,
        reverse: bool = False,
        **options: Unpack[Options],
    ) -> tuple[tuple[State, ...], Float[jax.Array, "*sequence output"]]:
        """Run the parts in order, each on the outputs of the part below.

        Arguments, results and errors are those of `lstmjax.unroll`; parameters and states are tuples with
        one entry for each part.
        """
        none: Any = (None,) * len(self.parts)
        before = none if state is None else state
        initial: Any = options.get("initial_state")
        initial = none if initial is None else initial
        for name, entries in (("params", params), ("state", before), ("initial_state", initial)):
            if not isinstance(entries, tuple) or len(entries) != len(self.parts):
                raise TypeError(
                    f"{name} of layers must be a tuple with one entry for each of their "
                    f"{len(self.parts)} parts, got {jax.tree.structure(entries)}."
                )
        after = []
        outputs: Any = inputs
        for part, own, part_state, start in zip(self.parts, params, before, initial, strict=True):
            arguments = (outputs, part_state, lengths, resets, reverse)
            new, outputs = unroll(part, own, *arguments, **{**options, "initial_state": start})
            after.append(new)
        return tuple(after), outputs


def layers(*parts: Cell | Layer) -> Layers:
    r"""A stack of cells and layers, as one layer: :math:`x^{(l+1)}_{1:T} = y^{(l)}_{1:T}`.

    Each part runs over the whole sequence before the next begins, so parts may be bidirectional. For cells
    alone, prefer `lstmjax.stack`, which can be stepped.

    Raises:
      ValueError: no part is given, or the sizes of two neighbours differ.

    Source: deep bidirectional LSTMs: Graves, Jaitly and Mohamed 2013 (ASRU).

    Example:
      >>> import lstmjax
      >>> both = lambda features: lstmjax.bidirectional(lstmjax.lstm(features, 4), lstmjax.lstm(features, 4))
      >>> deep = layers(both(3), both(8), lstmjax.lstm(8, 2))
      >>> state, outputs = deep.apply(deep.init(jax.random.key(0)), jax.numpy.ones((2, 5, 3)))
      >>> outputs.shape
      (2, 5, 2)
    """
    return Layers(tuple(parts))
