r"""Weights of 8 bits for inference: a quarter of the memory and of the file, at a known error.

A quantized cell is a wrapper: it makes its kernels floating point again once per sequence, and runs the cell
in it by whichever backend that has. Stacks, wrappers, layers, `lstmjax.save` and `lstmjax.export` take it
like any other cell.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lstmjax.cells.cell import Cell, check_cell, check_params, shapes_of_params
from lstmjax.sequence.bidirectional import Bidirectional, Directions
from lstmjax.sequence.layers import Layer, Layers
from lstmjax.types import Array, Key, Params, at_least_float32
from lstmjax.wrappers.wrapper import Pointwise


class Int8(NamedTuple):
    """Matrices whose entries are 8-bit integers times the scale of their column."""

    values: Array
    """int8 ``[..., inputs, units]``, in -127..127."""
    scale: Array
    """``[..., 1, units]``, at least float32: the largest magnitude of each column, divided by 127."""


@dataclasses.dataclass(frozen=True, repr=False)
class Quantized(Pointwise):
    """A cell whose matrices are `Int8`; made by `quantize`. It has no noise: it is for inference."""

    def __post_init__(self) -> None:
        check_cell("quantize", self.cell)
        if isinstance(self.cell, Quantized):
            raise TypeError(f"quantize: {self.cell} is quantized already.")

    def init(self, key: Key) -> Params:
        """Quantized parameters of the inner cell."""
        return jax.tree_util.tree_map_with_path(_rounded, self.cell.init(key))

    def sample(self, key: Key, params: Params, batch_shape: tuple[int, ...] = ()) -> Params:
        """The parameters: no noise."""
        return params

    def plain(self, params: Params) -> Params:
        """The parameters."""
        return params

    def split(self, params: Params, batch_shape: tuple[int, ...]) -> tuple[Params, None]:
        """Parameters of the inner cell in floating point."""
        return jax.tree.map(_restored, shapes_of_params(self.cell), params), None

    def after(self, own: None, inputs: jax.Array, outputs: jax.Array) -> jax.Array:
        """The outputs of the inner cell."""
        return outputs


def quantize(cell: Cell | Layer, params: Params) -> tuple[Cell | Layer, Params]:
    r"""A cell or layer with matrices of 8 bits, for inference.

    .. math:: \tilde w_{ij} = s_j \, \mathrm{round}(w_{ij} / s_j), \quad s_j = \max_i |w_{ij}| / 127

    The rows i of a matrix are its inputs, the columns j its units. So each weight is off by at most
    :math:`s_j / 2`, 0.4 % of the largest of its column. Biases, peepholes, normalizations stay as they are.

    Args:
      cell: any cell, or a layer of such.
      params: its parameters; noise is left out.

    Returns:
      `Quantized` around the cell, or around each cell of a layer, and parameters with an `Int8` in place of
      each matrix. They hold integers, so there is no gradient by them; that by inputs and state is there.

    Raises:
      ValueError: a parameter has another shape than the cell makes, or is not finite.
      TypeError: ``cell`` is no cell or layer, or is quantized already, or the parameters are not its own.

    Source: Jacob et al. 2018 (arXiv:1712.05877), symmetric, with a scale for each output.

    Example:
      >>> import lstmjax
      >>> cell = lstmjax.lstm(64, 128)
      >>> small, weights = quantize(cell, cell.init(jax.random.key(0)))
      >>> weights.kernel.values.dtype, weights.kernel.scale.shape, weights.bias.dtype
      (dtype('int8'), (1, 512), dtype('float32'))
      >>> lstmjax.unroll(small, weights, jnp.ones((2, 5, 64)))[1].shape
      (2, 5, 128)
    """
    if isinstance(cell, Bidirectional):
        if not isinstance(params, Directions):
            raise TypeError(
                f"quantize: params of a bidirectional layer must be Directions, got {type(params).__name__}."
            )
        forward, of_forward = _quantize(cell.forward, params.forward)
        backward, of_backward = _quantize(cell.backward, params.backward)
        return Bidirectional(forward, backward), Directions(of_forward, of_backward)
    if isinstance(cell, Layers):
        if not isinstance(params, tuple) or len(params) != len(cell.parts):
            raise TypeError(f"quantize: params must be a tuple with one entry for each part of {cell}.")
        parts = [quantize(part, of_part) for part, of_part in zip(cell.parts, params, strict=True)]
        return Layers(tuple(part for part, _ in parts)), tuple(of_part for _, of_part in parts)
    return _quantize(cell, params)


def _quantize(cell: Any, params: Params) -> tuple[Quantized, Params]:
    """`quantize` for a cell."""
    small = Quantized(cell)
    check_params(cell, params)
    params = cell.plain(params)
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if not isinstance(leaf, jax.core.Tracer) and not np.isfinite(np.asarray(leaf, np.float32)).all():
            raise ValueError(f"quantize: params{jax.tree_util.keystr(path)} is not finite.")
    return small, jax.tree_util.tree_map_with_path(_rounded, params)


def _rounded(path: tuple[Any, ...], leaf: Array) -> Array | Int8:
    """A leaf of parameters, as `Int8` if it is a matrix: it has rows, and is no peephole of images."""
    if leaf.ndim < 2 or "peepholes" in jax.tree_util.keystr(path[-1:]):
        return leaf
    wide = jnp.asarray(leaf, at_least_float32(leaf.dtype))
    scale = jnp.abs(wide).max(axis=-2, keepdims=True) / 127
    values = jnp.round(wide / jnp.where(scale == 0, 1, scale))
    return Int8(values.astype(jnp.int8), scale)


def _restored(shape: jax.ShapeDtypeStruct, leaf: Array | Int8) -> Array:
    """A leaf of parameters in floating point."""
    if not isinstance(leaf, Int8):
        return leaf
    return (leaf.values.astype(leaf.scale.dtype) * leaf.scale).astype(shape.dtype)
