"""Metrics of predicted secondary structure: confusion matrix, precision and recall by state, segment overlap.

Undefined values are NaN, not 0: the precision of a state that was never predicted, the recall and the overlap
of one that never occurs. All metrics are fractions from 0 to 1; `table` has them in per cent.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from experiments.common import tables
from experiments.datasets.chains import REDUCTION


def reduce(states: str) -> str:
    """Reduce eight states to three; other letters are left as they are."""
    return "".join(REDUCTION.get(state, state) for state in states)


def confusion(
    true: Sequence[str],
    predicted: Sequence[str],
    valid: Sequence[Bool[np.ndarray, " residues"]],
    states: str,
) -> Int[np.ndarray, "true predicted"]:
    """The confusion matrix: the number of residues of each true state with each predicted state.

    Args:
      true: the states of each chain, a letter for each residue.
      predicted: the predicted states, in the same form.
      valid: masks of the residues that count; the letters of the others are ignored.
      states: the letters, in the order of rows and columns.

    Raises:
      ValueError: lengths differ, or a residue that counts has a letter that is none of ``states``.
    """
    counts = np.zeros((len(states), len(states)), np.int64)
    for chain in zip(true, predicted, valid, strict=True):
        own, other = (_numbers(side, states, chain[2]) for side in chain[:2])
        np.add.at(counts, (own[chain[2]], other[chain[2]]), 1)
    return counts


def accuracy(confusion: Int[np.ndarray, "true predicted"]) -> float:
    """The fraction of correctly predicted residues, Q8 or Q3; NaN if there are none."""
    return float(_share(np.trace(confusion), confusion.sum()))


def precision_and_recall(
    confusion: Int[np.ndarray, "true predicted"],
) -> tuple[Float[np.ndarray, " states"], Float[np.ndarray, " states"]]:
    """Precision and recall of each state.

    The precision of a state that was never predicted and the recall of one that never occurs are NaN.
    """
    right = np.diag(confusion)
    return _share(right, confusion.sum(axis=0)), _share(right, confusion.sum(axis=1))


class SOV(NamedTuple):
    """The segment overlap of a chain, or of several combined: a sum and its normalization for each state."""

    sums: Float[np.ndarray, " states"]
    norms: Float[np.ndarray, " states"]
    """N(i): 0 for a state that does not occur."""

    @property
    def by_state(self) -> Float[np.ndarray, " states"]:
        """The overlap of each state, from 0 to 1; NaN for a state that does not occur."""
        return _share(self.sums, self.norms)

    @property
    def total(self) -> float:
        """The overlap over all states, from 0 to 1; NaN for a chain with no residue that counts."""
        return float(_share(self.sums.sum(), self.norms.sum()))


def segment_overlap(
    true: str, predicted: str, states: str, valid: Bool[np.ndarray, " residues"] | None = None
) -> SOV:
    """The segment overlap measure SOV of Zemla et al. 1999 (Proteins 34:220-223).

    A segment is an unbroken run of one state. For state i, over the pairs of a true segment s1 and a
    predicted segment s2 of this state that have a residue in common, and with N(i) the sum of len(s1) over
    all pairs, and over the true segments that are in no pair::

        SOV(i) = 1 / N(i) * sum (minOV + delta) / maxOV * len(s1)
        delta  = min(maxOV - minOV, minOV, floor(len(s1) / 2), floor(len(s2) / 2))

    where minOV is the number of residues in both segments and maxOV that in either. A true segment in two
    pairs counts twice in the norm, so that a helix predicted in parts has a lower SOV than a complete one.

    Args:
      true: the states of a chain, a letter for each residue.
      predicted: the predicted states, in the same form.
      states: the letters, in the order of the result.
      valid: mask of the residues that count. One that does not count breaks true and predicted segments, as
        the end of a chain does; by default all count.

    Raises:
      ValueError: lengths differ, or a residue that counts has a letter that is none of ``states``.
    """
    counts = np.ones(len(true), bool) if valid is None else valid
    own, other = (_numbers(side, states, counts) for side in (true, predicted))
    (own_segment, own_length), (other_segment, other_length) = map(_segments, (own, other))
    state = np.zeros(len(own_length), np.int64)
    state[own_segment] = own

    # Two segments overlap where true and predicted states agree; the overlap is the number of such residues.
    agree = (own == other) & counts
    pairs, shared = np.unique(
        own_segment[agree] * len(other_length) + other_segment[agree], return_counts=True
    )
    first, second = np.divmod(pairs, max(len(other_length), 1))
    length, length_of_second = own_length[first], other_length[second]
    either = length + length_of_second - shared
    delta = np.minimum.reduce([either - shared, shared, length // 2, length_of_second // 2])
    alone = np.setdiff1d(own_segment[counts], first)

    def by_state(segments: Int[np.ndarray, " any"], values: Float[np.ndarray, " any"]) -> np.ndarray:
        return np.bincount(state[segments], values, len(states))

    sums = by_state(first, (shared + delta) / either * length)
    return SOV(sums, by_state(first, length) + by_state(alone, own_length[alone]))


def mean_over_chains(chains: Sequence[SOV]) -> tuple[Float[np.ndarray, " states"], float]:
    """The mean SOV over chains for each state, and over all states, as usually reported for a test set.

    A state's mean is over the chains in which it occurs; it is NaN if there are none. There must be a chain.
    """
    values = np.array([[*chain.by_state, chain.total] for chain in chains])
    means = _share(np.nansum(values, axis=0), np.sum(~np.isnan(values), axis=0))
    return means[:-1], float(means[-1])


class Scores(NamedTuple):
    """Counts from which the metrics are computed."""

    states: str
    """The letters of the states."""
    confusion: Int[np.ndarray, "true predicted"]
    """The confusion matrix."""
    overlaps: list[SOV]
    """The segment overlap of each chain."""


def score(
    true: Sequence[str],
    predicted: Sequence[str],
    valid: Sequence[Bool[np.ndarray, " residues"]],
    states: str,
) -> Scores:
    """Confusion matrix and overlaps of chains; arguments and errors are those of `confusion`."""
    chains = zip(true, predicted, valid, strict=True)
    overlaps = [segment_overlap(own, other, states, counts) for own, other, counts in chains]
    return Scores(states, confusion(true, predicted, valid, states), overlaps)


def known(states: str, valid: Bool[np.ndarray, " residues"], otherwise: str) -> str:
    """The states of valid residues, and a placeholder for the others."""
    return "".join(state if counts else otherwise for state, counts in zip(states, valid, strict=True))


def table(scores: Scores) -> str:
    """Precision, recall, residues and the mean SOV over chains, state by state, in Markdown.

    Over all states, precision and recall are both the accuracy. Undefined values are ``n/a``.
    """
    states, confusion, overlaps = scores
    precision, recall = precision_and_recall(confusion)
    overlap, total = mean_over_chains(overlaps)
    support, right = confusion.sum(axis=1), accuracy(confusion)
    rows = [["state", "precision, %", "recall, %", "SOV, %", "residues", "predicted"]]
    columns = zip(states, precision, recall, overlap, support, confusion.sum(axis=0), strict=True)
    for state, *shares, residues, predicted in columns:
        rows.append([state, *map(_per_cent, shares), f"{residues:,}", f"{predicted:,}"])
    shares = [right, right, total]
    residues = f"{confusion.sum():,}"
    return tables.table([*rows, ["**all**", *map(_per_cent, shares), residues, residues]])


def _per_cent(share: float) -> str:
    return "n/a" if np.isnan(share) else f"{100 * share:.1f}"


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """A quotient that is NaN if the divisor is 0, without a warning."""
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=np.asarray(whole) != 0)


def _numbers(text: str, states: str, valid: Bool[np.ndarray, " residues"]) -> Int[np.ndarray, " residues"]:
    """Letters as indices in ``states``; -1 where they do not count."""
    if len(text) != len(valid):
        raise ValueError(f"{len(text)} states for {len(valid)} residues: one for each is needed.")
    numbers = np.array([states.find(letter) for letter in text], np.int64)
    unknown = sorted({text[place] for place in np.flatnonzero(valid & (numbers < 0))})
    if unknown:
        raise ValueError(f"{', '.join(map(repr, unknown))} is none of the states {states}.")
    return np.where(valid, numbers, -1)


def _segments(
    numbers: Int[np.ndarray, " residues"],
) -> tuple[Int[np.ndarray, " residues"], Int[np.ndarray, " segments"]]:
    """The index of each residue's segment, and the lengths of segments."""
    segment = np.cumsum(np.diff(numbers, prepend=numbers[:1]) != 0)
    return segment, np.bincount(segment)
