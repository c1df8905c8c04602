"""Cross entropy and Bernoulli losses of masked sequences, see `lstmjax.losses`."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Bool, Float, Integer, Num

from lstmjax.losses.vocabulary import classes_of
from lstmjax.types import Array


def bernoulli(
    logits: Float[Array, "*batch features"],
    targets: Num[Array, "*batch features"] | Bool[Array, "*batch features"],
    mask: Bool[Array, "*batch"] | None = None,
) -> Float[jax.Array, "*batch"]:
    r"""Negative log-likelihood of binary vectors under independent Bernoulli variables.

    :math:`-\sum_k y_k \log \sigma(l_k) + (1 - y_k) \log (1 - \sigma(l_k))`

    Args:
      logits: ``[..., features]``.
      targets: ``[..., features]`` of 0 and 1.
      mask: ``[...]``, true at valid positions; by default all.

    Returns:
      ``[...]`` in nats, of the dtype of the logits.

    Raises:
      ValueError: shapes differ.
    """
    _check_shape("targets", targets, logits.shape)
    logits, targets = _valid(logits, mask), targets.astype(logits.dtype)
    losses = optax.losses.sigmoid_binary_cross_entropy(logits, targets).sum(axis=-1)
    return _masked(losses, mask)


def cross_entropy(
    logits: Float[Array, "*batch classes"],
    labels: Integer[Array, "*batch"],
    mask: Bool[Array, "*batch"] | None = None,
) -> Float[jax.Array, "*batch"]:
    r"""Negative log-likelihood of class labels: :math:`-l_y + \log \sum_k \exp l_k`.

    Args:
      logits: ``[..., classes]``.
      labels: integers ``[...]`` in ``0..classes - 1`` at valid positions, anything at others; the loss of a
        valid position with any other label is NaN.
      mask: ``[...]``, true at valid positions; by default all.

    Returns:
      ``[...]`` in nats, of the dtype of the logits.

    Raises:
      ValueError: shapes differ.
    """
    _check_shape("labels", labels, logits.shape[:-1])
    logits = _valid(logits, mask)
    labels = jnp.asarray(labels) if mask is None else jnp.where(mask, labels, jnp.zeros_like(labels))
    classes = classes_of(labels, logits.shape[-1])  # beyond the classes, the logit that is taken is NaN
    losses = optax.losses.softmax_cross_entropy_with_integer_labels(logits, classes)
    return _masked(losses, mask)


def _check_shape(name: str, array: Array, shape: tuple[int, ...]) -> None:
    if jnp.shape(array) != shape:
        raise ValueError(f"{name} must have shape {shape} to fit the logits, got {jnp.shape(array)}.")


def _valid(logits: Array, mask: Array | None) -> jax.Array:
    if mask is None:
        return jnp.asarray(logits)
    _check_shape("mask", mask, logits.shape[:-1])
    if mask.dtype != jnp.bool_:
        raise TypeError(f"mask must be boolean, got {mask.dtype}: use mask != 0.")
    return jnp.where(mask[..., None], logits, jnp.zeros_like(logits))


def _masked(losses: jax.Array, mask: Array | None) -> jax.Array:
    return losses if mask is None else jnp.where(mask, losses, jnp.zeros_like(losses))
