"""Conversion of parameters to and from cuDNN's flat weights."""

import math

import numpy as np

from lstmjax.cells.cell import Cell
from lstmjax.checks import check_sizes
from lstmjax.convert.formats import FORMATS, as_numpy, read, write
from lstmjax.convert.structure import Converted, alike, build
from lstmjax.sequence.layers import Layer
from lstmjax.types import Array, Params


def from_cudnn(
    weights: Array, features: int, hidden: int, layers: int = 1, bidirectional: bool = False
) -> Converted:
    """Convert cuDNN's flat weights, in the layout of ``jax.experimental.rnn``.

    First come W and R of each layer and direction, ``[4H, D]`` and ``[4H, H]``; then the two biases ``[4H]``
    of each layer and direction, which are added.

    Args:
      weights: ``[count]``.
      features: size of an input vector, D.
      hidden: size of the hidden state, H.
      layers: number of layers.
      bidirectional: whether each layer has two directions.

    Raises:
      ValueError: the number of weights does not fit, or a size is not a positive integer.

    Example:
      >>> import jax, lstmjax
      >>> cell = lstmjax.lstm(3, 4)
      >>> weights = to_cudnn(cell, cell.init(jax.random.key(0)))
      >>> weights.shape, from_cudnn(weights, 3, 4)[0] == cell
      ((144,), True)
    """
    check_sizes("from_cudnn", features=features, hidden=hidden, layers=layers)
    flat, directions = as_numpy("from_cudnn", weights), 1 + bool(bidirectional)
    sizes = [features, *[directions * hidden] * (layers - 1)]
    shapes: list[tuple[int, ...]] = [
        (4 * hidden, side) for size in sizes for _ in range(directions) for side in (size, hidden)
    ]
    shapes += [(4 * hidden,)] * (2 * layers * directions)
    counts = [math.prod(shape) for shape in shapes]
    if flat.shape != (sum(counts),):
        raise ValueError(
            f"from_cudnn: {layers} layers, features={features}, hidden={hidden} and {directions} directions "
            f"have weights of shape ({sum(counts)},), got {flat.shape}."
        )
    parts = np.split(flat, np.cumsum(counts)[:-1])
    arrays = iter(part.reshape(shape) for part, shape in zip(parts, shapes, strict=True))
    kernels = [[(next(arrays), next(arrays)) for _ in range(directions)] for _ in range(layers)]
    biases = [[(next(arrays), next(arrays)) for _ in range(directions)] for _ in range(layers)]
    return build(
        [
            [read("from_cudnn", FORMATS["cudnn"], *k, *b) for k, b in zip(ks, bs, strict=True)]
            for ks, bs in zip(kernels, biases, strict=True)
        ]
    )


def to_cudnn(layer: Cell | Layer, params: Params) -> np.ndarray:
    """Flat weights ``[count]`` for cuDNN, as `from_cudnn` describes them; the second biases are zero.

    The layout has no place for cells without biases: for ``bias=False``, both are zero.

    Raises:
      ValueError: cuDNN has no such LSTM: other cells, or layers that differ in size or direction.
      TypeError: the parameters are not those of the layer.
    """
    entries = [entry for ways in alike("to_cudnn", FORMATS["cudnn"], layer, params) for entry in ways]
    arrays = [write(FORMATS["cudnn"], cell, of_cell) for cell, of_cell in entries]
    kernels = [kernel.ravel() for one in arrays for kernel in (one.kernel, one.recurrent_kernel)]
    return np.concatenate([*kernels, *(bias for one in arrays for bias in one.biases)])
