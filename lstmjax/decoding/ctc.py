"""Decoding and alignment of connectionist temporal classification; public in `lstmjax.decoding`.

Source: Graves et al. 2006, "Connectionist Temporal Classification".
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float, Integer

from lstmjax.checks import check_frames, check_sizes
from lstmjax.decoding.beam_search import Hypotheses
from lstmjax.decoding.core import log_probabilities
from lstmjax.decoding.language import Automaton
from lstmjax.types import Array


def ctc_greedy(
    logits: Float[Array, "*batch time classes"], lengths: Integer[Array, "*batch"], blank: int = 0
) -> tuple[Integer[jax.Array, "*batch time"], Integer[jax.Array, "*batch"]]:
    """Best path decoding: the likeliest class of each frame, without repetitions, then without blanks.

    Args:
      logits: ``[..., time, classes]``.
      lengths: integers ``[...]``: number of valid frames.
      blank: the class that stands for no label.

    Returns:
      Labels, int32 ``[..., time]`` padded with the blank, and their number, int32 ``[...]``.

    Raises:
      ValueError: shapes differ, or ``blank`` is not a class.

    Example:
      >>> labels, number = ctc_greedy(jax.nn.one_hot(jnp.array([1, 1, 0, 1, 2]), 3), jnp.array(5))
      >>> labels.tolist(), int(number)
      ([1, 1, 2, 0, 0], 3)
    """
    check_frames("ctc_greedy", logits, blank, lengths)
    best = logits.argmax(axis=-1).astype(jnp.int32)
    time = jnp.arange(best.shape[-1])
    best = jnp.where(time < lengths[..., None], best, blank)
    before = jnp.concatenate([jnp.full_like(best[..., :1], blank), best[..., :-1]], axis=-1)
    kept = (best != blank) & (best != before)
    order = jnp.argsort(~kept, axis=-1, stable=True)
    labels = jnp.take_along_axis(jnp.where(kept, best, blank), order, axis=-1)
    return labels, kept.sum(axis=-1, dtype=jnp.int32)


def ctc_align(
    logits: Float[Array, "*batch time classes"],
    lengths: Integer[Array, "*batch"],
    labels: Integer[Array, "*batch labels"],
    label_lengths: Integer[Array, "*batch"],
    blank: int = 0,
) -> Integer[jax.Array, "*batch time"]:
    """The likeliest alignment of given labels with the frames, by the algorithm of Viterbi.

    Args:
      logits: ``[..., time, classes]``.
      lengths: integers ``[...]``: number of valid frames.
      labels: integers ``[..., labels]`` in ``0..classes - 1`` without the blank.
      label_lengths: integers ``[...]``: number of valid labels.
      blank: the class that stands for no label.

    Returns:
      int32 ``[..., time]``: the index of the label that a frame belongs to; -1 for blanks, frames beyond the
      length, and all frames of rows that are not `lstmjax.losses.ctc_feasible`.

    Raises:
      ValueError: shapes differ, or ``blank`` is not a class.

    Example:
      >>> logits = 5 * jax.nn.one_hot(jnp.array([0, 1, 1, 0, 2]), 3)
      >>> ctc_align(logits, jnp.array(5), jnp.array([1, 2]), jnp.array(2)).tolist()
      [-1, 0, 0, -1, 1]
    """
    check_frames("ctc_align", logits, blank, lengths, labels, label_lengths)

    def align(logits: jax.Array, length: Array, labels: jax.Array, number: Array) -> jax.Array:
        # States are blank, label 0, blank, label 1, ..., blank; a step moves on by 0, 1 or 2 of them.
        states = jnp.full(2 * labels.shape[0] + 1, blank, jnp.int32).at[1::2].set(labels)
        place = jnp.arange(states.shape[0])
        skips = (place >= 2) & (states != blank) & (states != jnp.roll(states, 2))
        emitted = log_probabilities(logits)[:, states]
        first = jnp.where(place == 0, 0.0, -jnp.inf).astype(emitted.dtype)

        def advance(scores: jax.Array, frame: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            emitted, t = frame
            moved = jnp.where(place >= 1, jnp.roll(scores, 1), -jnp.inf)
            skipped = jnp.where(skips, jnp.roll(scores, 2), -jnp.inf)
            # The first frame may also lie in state 1, as if it came from the blank before it.
            choices = jnp.stack([scores, moved, skipped])
            came = jnp.where(t < length, choices.argmax(axis=0), 0)
            return jnp.where(t < length, choices.max(axis=0) + emitted, scores), came

        scores, came = jax.lax.scan(advance, first, (emitted, jnp.arange(len(emitted))))
        ends = jnp.where((place == 2 * number) | (place == 2 * number - 1), scores, -jnp.inf)

        def back(state: jax.Array, frame: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            came, t = frame
            label = jnp.where((state % 2 == 1) & (t < length), state // 2, -1)
            return state - came[state], label

        last = ends.argmax().astype(jnp.int32)
        _, aligned = jax.lax.scan(back, last, (came, jnp.arange(len(came))), reverse=True)
        return jnp.where(ends.max() > -jnp.inf, aligned, -1).astype(jnp.int32)

    return _over_rows(align, logits, lengths, labels, label_lengths)


class _Beams(NamedTuple):
    """Prefixes of one row; empty places have log-probabilities of minus infinity."""

    labels: jax.Array
    lengths: jax.Array
    blank: jax.Array
    """log-probability of the alignments that end with a blank."""
    label: jax.Array
    """log-probability of those that end with the last label."""
    state: jax.Array
    language: jax.Array
    """The score of the language model so far, weighted."""


def ctc_beam_search(
    logits: Float[Array, "*batch time classes"],
    lengths: Integer[Array, "*batch"],
    beams: int,
    max_length: int,
    blank: int = 0,
    language: Automaton | None = None,
    language_weight: float | Float[Array, ""] = 1.0,
    label_bonus: float | Float[Array, ""] = 0.0,
) -> Hypotheses:
    r"""Prefix beam search: the likeliest label sequences, each summed over its alignments.

    .. math:: \mathrm{score}(y) = \log p_\mathrm{CTC}(y | x) + \alpha \log p_\mathrm{LM}(y) + \beta |y|

    At each frame every prefix stays as it is or grows by one label; equal prefixes are merged, and the
    ``beams`` with the highest scores are kept. With as many beams as there are prefixes it is exact.

    Args:
      logits: ``[..., time, classes]``.
      lengths: integers ``[...]``: number of valid frames.
      beams: number of prefixes kept.
      max_length: the largest number of labels.
      blank: the class that stands for no label.
      language: a language model over the same classes; by default every sequence is equally likely.
      language_weight: alpha; what is impossible by the language model stays so with any weight. It may be
        traced, so that other values need no compilation, and so may beta.
      label_bonus: beta, which offsets that a language model prefers few labels.

    Returns:
      `Hypotheses` with arrays ``[..., beams, max_length]`` and ``[..., beams]``, padded with the blank.

    Raises:
      ValueError: shapes differ, ``blank`` is not a class, ``beams`` or ``max_length`` is not positive, the
        weight is negative, or the language model has another number of classes.

    Source: Hannun et al. 2014 (arXiv:1408.2873, algorithm 1).

    Example:
      >>> probabilities = jnp.array([[0.6, 0.4], [0.6, 0.4]])
      >>> found = ctc_beam_search(jnp.log(probabilities), jnp.array(2), beams=3, max_length=2)
      >>> found.tokens.tolist(), [f"{p:.2f}" for p in jnp.exp(found.log_probs)]
      ([[1, 0], [0, 0], [0, 0]], ['0.64', '0.36', '0.00'])
    """
    check_frames("ctc_beam_search", logits, blank, lengths)
    check_sizes("ctc_beam_search", beams=beams, max_length=max_length)
    classes = logits.shape[-1]
    if language is None:
        language = Automaton(jnp.zeros((1, classes), jnp.int32), jnp.zeros((1, classes)), jnp.zeros(1))
    if (isinstance(language_weight, int | float) and not language_weight >= 0) or language.log_probs.shape[
        -1
    ] != classes:
        raise ValueError(
            f"ctc_beam_search: language_weight must not be negative, got {language_weight}, and the language "
            f"model must have {classes} classes, got {language.log_probs.shape[-1]}."
        )
    dtype = jnp.promote_types(logits.dtype, jnp.float32)
    next_state = jnp.asarray(language.next_state)
    gains = _weigh(language.log_probs, language_weight, dtype) + label_bonus
    final = _weigh(language.final, language_weight, dtype)

    def search(logits: jax.Array, length: Array) -> Hypotheses:
        def advance(kept: _Beams, frame: tuple[jax.Array, jax.Array]) -> tuple[_Beams, None]:
            log_probs, t = frame
            grown = _grow(kept, log_probs, next_state, gains, blank)
            return jax.tree.map(lambda new, old: jnp.where(t < length, new, old), grown, kept), None

        impossible = jnp.full(beams, -jnp.inf, dtype)
        start = _Beams(
            labels=jnp.full((beams, max_length), blank, jnp.int32),
            lengths=jnp.zeros(beams, jnp.int32),
            blank=impossible.at[0].set(0),
            label=impossible,
            state=jnp.zeros(beams, jnp.int32),
            language=jnp.zeros(beams, dtype),
        )
        frames = log_probabilities(logits), jnp.arange(logits.shape[0])
        kept, _ = jax.lax.scan(advance, start, frames)
        log_probs = jnp.logaddexp(kept.blank, kept.label)
        scores = log_probs + kept.language + final[kept.state]
        scores, order = jax.lax.top_k(scores, beams)
        log_probs = jnp.where(scores > -jnp.inf, log_probs[order], -jnp.inf)
        found = (scores > -jnp.inf)[:, None]
        labels = jnp.where(found, kept.labels[order], blank)
        return Hypotheses(labels, jnp.where(found[:, 0], kept.lengths[order], 0), log_probs, scores)

    return _over_rows(search, logits, lengths)


def _grow(kept: _Beams, log_probs: jax.Array, next_state: jax.Array, gains: jax.Array, blank: int) -> _Beams:
    """The best prefixes after one more frame."""
    beams, max_length = kept.labels.shape
    classes = log_probs.shape[0]
    place = jnp.arange(max_length)
    last = jnp.where(kept.lengths > 0, kept.labels[jnp.arange(beams), kept.lengths - 1], blank)
    total = jnp.logaddexp(kept.blank, kept.label)
    # A label that repeats the last one is a new one only after a blank.
    repeats = jnp.arange(classes) == last[:, None]
    extended = log_probs + jnp.where(repeats, kept.blank[:, None], total[:, None])
    extended = extended.at[:, blank].set(-jnp.inf)
    extended = jnp.where((kept.lengths < max_length)[:, None], extended, -jnp.inf)
    # Where an extended prefix is kept already, its probability belongs there.
    shortened = jnp.where(place == kept.lengths[:, None] - 1, blank, kept.labels)
    parents = (kept.labels[:, None] == shortened[None]).all(axis=-1)
    parents &= kept.lengths[:, None] + 1 == kept.lengths
    parents &= (total > -jnp.inf)[None]  # an empty place is no prefix
    gained = jax.nn.logsumexp(jnp.where(parents, extended[:, last], -jnp.inf), axis=0)
    again = jnp.where(kept.lengths > 0, kept.label + log_probs[last], -jnp.inf)
    label = jnp.logaddexp(again, gained)
    merged = (parents[:, :, None] & (jnp.arange(classes) == last[:, None])[None]).any(axis=1)
    extended = jnp.where(merged, -jnp.inf, extended)
    # Scores of prefixes that stay, then of those that grow.
    stays = jnp.logaddexp(total + log_probs[blank], label) + kept.language
    grows = extended + kept.language[:, None] + gains[kept.state]
    _, best = jax.lax.top_k(jnp.concatenate([stays, grows.reshape(-1)]), beams)
    grew, source = best >= beams, jnp.where(best < beams, best, (best - beams) // classes)
    new = jnp.where(grew, (best - beams) % classes, blank)
    before, at_end = kept.lengths[source], place == kept.lengths[source][:, None]
    return _Beams(
        labels=jnp.where(grew[:, None] & at_end, new[:, None], kept.labels[source]),
        lengths=before + grew,
        blank=jnp.where(grew, -jnp.inf, (total + log_probs[blank])[source]),
        label=jnp.where(grew, extended[source, new], label[source]),
        state=jnp.where(grew, next_state[kept.state[source], new], kept.state[source]),
        language=kept.language[source] + jnp.where(grew, gains[kept.state[source], new], 0),
    )


def _weigh(log_probs: Array, weight: float | Array, dtype: Any) -> jax.Array:
    log_probs = jnp.asarray(log_probs, dtype)
    return jnp.where(log_probs > -jnp.inf, weight * jnp.maximum(log_probs, jnp.finfo(dtype).min), -jnp.inf)


def _over_rows(function: Any, *arrays: Array) -> Any:
    """Map a function of one row over all batch dimensions."""
    for _ in range(jnp.ndim(arrays[1])):
        function = jax.vmap(function)
    return function(*arrays)
