"""The network: features of the path, bidirectional LSTMs, and a label for each frame or one for the whole."""

import functools
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Float, Int

import lstmjax
from lstmjax.nnx import Functional, Recurrent, functional
from lstmjax.types import Array, Key

FEATURES = 9
"""Features of a point, see `features`."""


class Architecture(NamedTuple):
    """The hyperparameters of a network."""

    classes: int
    """With CTC, class 0 is the blank."""
    first: int
    """Units of an LSTM of the first layer."""
    hidden: int
    """Units of an LSTM of the other layers."""
    layers: int
    dropout: float
    """Dropout rate on outputs of layers, one mask for all frames of an ink."""
    whole: bool
    """One label for the whole ink, in place of a label for each frame."""


class Reader(nnx.Module):
    r"""Bidirectional LSTMs over frames of two points, and a linear layer.

    .. math::
        h^1_t &= BLSTM([f_{2t}, f_{2t+1}]), \quad h^2_t = BLSTM([h^1_{2t}, h^1_{2t+1}]), \quad
        h^{k+1}_t = BLSTM(h^k_t) \\
        y_t &= W h^K_t + b

    After the first layer two frames become one, so that a label has four points. With ``whole``, the mean of
    the last outputs is read out in place of each.

    Args:
      architecture: the hyperparameters.
      rngs: the stream ``params`` initializes the parameters.

    Source: Graves et al. 2009 (IEEE TPAMI 31(5)), with one layer; two, and halved frames, are ours.
    """

    def __init__(self, architecture: Architecture, *, rngs: nnx.Rngs) -> None:
        hidden = [architecture.first, *[architecture.hidden] * (architecture.layers - 1)]
        inputs = [
            2 * FEATURES,
            4 * architecture.first,
            *[2 * architecture.hidden] * (architecture.layers - 1),
        ]
        cells = [
            lstmjax.dropout(lstmjax.lstm(*sizes), outputs=architecture.dropout)
            for sizes in zip(inputs, hidden, strict=False)
        ]
        self.layers = nnx.List([Recurrent(lstmjax.bidirectional(cell, cell), rngs=rngs) for cell in cells])
        self.readout = nnx.Linear(inputs[architecture.layers], architecture.classes, rngs=rngs)
        self.whole = architecture.whole

    def __call__(
        self,
        path: Float[Array, "batch points 3"],
        lengths: Int[Array, " batch"],
        key: Key | None = None,
    ) -> Float[jax.Array, "batch ... classes"]:
        """Logits of frames, ``[batch, frames(points), classes]``, or of inks; with dropout if there is a key.

        Undefined beyond `frames` of the lengths.
        """
        keys = itertools.repeat(None) if key is None else iter(jax.random.split(key, len(self.layers)))
        values, lengths = halve(features(path, lengths)), (lengths + 1) // 2
        for number, layer in enumerate(self.layers):
            _, values = layer(values, lengths=lengths, key=next(keys))
            if number == 0:
                values, lengths = halve(values), (lengths + 1) // 2
        if self.whole:
            values = values.sum(axis=1) / jnp.maximum(lengths, 1)[:, None]
        return self.readout(values)


@functools.cache
def make_model(architecture: Architecture) -> Functional:
    """The network as pure functions, made once for equal hyperparameters."""
    return functional(functools.partial(Reader, architecture))


def frames(lengths: Int[Array, " batch"]) -> Int[Array, " batch"]:
    """Numbers of frames with logits, of paths with so many points."""
    return (lengths + 3) // 4


def frames_of(points: int) -> int:
    """The number of frames of one path."""
    return (points + 3) // 4


def halve(values: Float[Array, "batch time features"]) -> Float[jax.Array, "batch half double"]:
    """Concatenate each two frames; a single last one is filled up with zeros."""
    batch, time, features = values.shape
    padded = jnp.pad(values, ((0, 0), (0, time % 2), (0, 0)))
    return padded.reshape(batch, (time + 1) // 2, 2 * features)


def features(
    path: Float[Array, "batch points 3"], lengths: Int[Array, " batch"]
) -> Float[jax.Array, "batch points features"]:
    """What the network sees of each point; zero beyond the lengths.

    The step from the point before, twice: within a stroke and across a lift of the pen, the other being 0;
    sine and cosine of its direction; y; whether the pen was lifted before, and whether it is after the point.
    Steps within strokes are in units of 0.3, as they are resampled; others in standard deviations of y.
    """
    path = jnp.asarray(path)
    first, there = path[..., 2:], jnp.arange(path.shape[1])[:, None] < lengths[:, None, None]
    step = jnp.diff(path[..., :2], axis=1, prepend=path[:, :1, :2])
    distance = jnp.sqrt((step**2).sum(axis=-1, keepdims=True) + 1e-6)
    ends = jnp.concatenate([first[:, 1:], jnp.zeros_like(first[:, :1])], axis=1)
    ends = jnp.where(jnp.arange(path.shape[1])[:, None] == lengths[:, None, None] - 1, 1, ends)
    parts = [step * (1 - first) / 0.3, step * first, step / distance, path[..., 1:2], first, ends]
    return jnp.where(there, jnp.concatenate(parts, axis=-1), 0)
