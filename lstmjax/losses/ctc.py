"""Connectionist temporal classification; public in `lstmjax.losses`."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Bool, Float, Integer

from lstmjax.checks import check_frames
from lstmjax.types import Array, at_least_float32


def ctc(
    logits: Float[Array, "*batch time classes"],
    lengths: Integer[Array, "*batch"],
    labels: Integer[Array, "*batch labels"],
    label_lengths: Integer[Array, "*batch"],
    blank: int = 0,
) -> Float[jax.Array, "*batch"]:
    r"""Negative log-likelihood of label sequences, summed over their alignments with the frames.

    .. math:: -\log \sum_{\pi \in B^{-1}(y)} \prod_t p_t(\pi_t)

    where B removes repetitions, then blanks. `optax.ctc_loss` computes it. Frames and labels beyond the
    lengths, NaN included, have no influence on any loss or gradient.

    Args:
      logits: ``[..., time, classes]``.
      lengths: integers ``[...]``: number of valid frames of each row.
      labels: integers ``[..., labels]`` in ``0..classes - 1`` without the blank; a row with any other among
        its valid labels has a loss of NaN.
      label_lengths: integers ``[...]``: number of valid labels of each row.
      blank: the class that stands for no label.

    Returns:
      ``[...]`` in nats, at least float32. It is infinite, with a gradient of zero, where a row has too few
      frames for its labels; `ctc_feasible` tells which, so that a mean can be taken over the others.

    Raises:
      ValueError: shapes differ, or ``blank`` is not a class.

    Source: Graves et al. 2006, "Connectionist Temporal Classification", equations 3 to 8.

    Example:
      >>> labels, one = jnp.array([1, 2]), jnp.array(2)
      >>> [f"{ctc(jnp.zeros((time, 3)), jnp.array(time), labels, one):.3f}" for time in (1, 2, 3)]
      ['inf', '2.197', '1.686']
    """
    check_frames("ctc", logits, blank, lengths, labels, label_lengths)
    *batch, time, classes = logits.shape
    valid = jnp.arange(time) < lengths[..., None]
    labelled = jnp.arange(labels.shape[-1]) < label_lengths[..., None]
    unusable = labelled & ((labels < 0) | (labels >= classes) | (labels == blank))
    feasible = ctc_feasible(lengths, labels, label_lengths)
    logits = jnp.where(valid[..., None], logits.astype(at_least_float32(logits.dtype)), 0)
    # optax takes one batch dimension and at least one frame.
    extra = [(0, 0)] * len(batch)
    logits = jnp.pad(logits, [*extra, (0, 1), (0, 0)]).reshape(-1, time + 1, classes)
    padding = 1 - jnp.pad(valid, [*extra, (0, 1)]).reshape(-1, time + 1).astype(logits.dtype)
    labels = jnp.where(labelled & ~unusable, labels, 0).reshape(-1, labels.shape[-1])
    label_padding = 1 - labelled.reshape(labels.shape).astype(logits.dtype)
    losses = optax.ctc_loss(logits, padding, labels, label_padding, blank_id=blank).reshape(batch)
    losses = jnp.where(feasible, losses, jnp.inf)
    return jnp.where(unusable.any(axis=-1), jnp.nan, losses)


def ctc_feasible(
    lengths: Integer[Array, "*batch"],
    labels: Integer[Array, "*batch labels"],
    label_lengths: Integer[Array, "*batch"],
) -> Bool[jax.Array, "*batch"]:
    """Whether rows have frames enough: one for each label, and one more between two equal ones.

    Example:
      >>> ctc_feasible(jnp.array([2, 2]), jnp.array([[1, 2], [1, 1]]), jnp.array([2, 2])).tolist()
      [True, False]
    """
    inner = jnp.arange(1, labels.shape[-1]) < label_lengths[..., None]
    repeated = (inner & (labels[..., 1:] == labels[..., :-1])).sum(axis=-1)
    return jnp.asarray(lengths >= label_lengths + repeated)
