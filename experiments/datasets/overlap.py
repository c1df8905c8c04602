"""Which protein sequences of a test set have a close relative in a training set.

Two chains of similar sequence have similar structures, so that a test chain with a relative in the training
set measures memory. The usual line is 30 per cent of identical residues over 80: that is 5 points above
the curve of Sander & Schneider 1991 (doi:10.1002/prot.340090107), over which chains are of one structure.

An `Overlap` is a local alignment (Smith & Waterman) with BLOSUM62 and gaps of 11 + length, as blastp's, where

    identity    identical / aligned residues, gaps not counted, is at least the one asked for
    length      aligned residues are at least 80, or half of the shorter sequence
    chance      at most 0.001 such alignments are expected by chance (Karlin & Altschul 1990)

Not all pairs are aligned. Of each test sequence it is the eight training sequences that have the best stretch
in common with it without gaps, near two words of three residues in common that stand equally far apart in
both (as in BLAST; Altschul et al. 1997, doi:10.1093/nar/25.17.3389). That misses few: of the 432 chains of
CB513 it finds a relative for 115 in FLIP at 30 per cent, and aligning the hundreds that share most words
finds one for a single other chain, at 35 per cent for none. Nothing is drawn at random.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from Bio.Align import PairwiseAligner, substitution_matrices

IDENTITY = 0.3
"""The share of identical residues from which a test chain counts as seen."""
LONG = 80
"""How many aligned residues are enough, whatever the lengths of the sequences."""
CHANCE = 1e-3
"""How many alignments as good may be expected by chance."""

_LETTERS = "ARNDCQEGHILKMFPSTVWY"  # standard amino acids; any other is X
_UNKNOWN, _END = 20, 21  # codes of X, and of what lies between two sequences
_WORD = 3  # residues
_NEAR = 40  # how far apart, at most, two words stand
_BEFORE, _WINDOW = 24, 48  # residues before the second word, and in all, that are searched for a stretch
_CANDIDATES = 8  # how many sequences are aligned
_SHIFT = 16  # bits of a place within a test sequence
_BLOCK = 1024  # pairs of words at a time
_LAMBDA, _K = 0.267, 0.041  # of BLOSUM62 with gaps of 11 + length, from blastp


class Overlap(NamedTuple):
    """A test sequence and the training sequence that is closest to it."""

    test: int
    """Its place among the test sequences."""
    training: int
    """The place of the closest one among the training sequences."""
    identity: float
    """Identical / aligned residues."""
    length: int
    """Aligned residues."""
    kind: str
    """``exact``: the same; ``contained``: one is a part of the other; ``aligned``: similar."""


def overlaps(tests: Sequence[str], trainings: Sequence[str], identity: float = IDENTITY) -> list[Overlap]:
    """Of each test sequence that has an overlap with training sequences, the one of most identity.

    Args:
        tests: sequences of one-letter codes in upper case; what is no standard amino acid counts as X.
        trainings: the same.
        identity: the least share of identical residues, between 0 and 1.

    Example:
        >>> chain = "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQ"
        >>> overlaps(["GGSGGSGGSGGSGGSGGSGG", chain], ["WWWWHHHHWWWWHHHH", "AA" + chain])
        [Overlap(test=1, training=1, identity=1.0, length=33, kind='contained')]
    """
    if not tests or not trainings:
        return []
    words = _Words(trainings, margin=max(map(len, tests)))
    aligner = PairwiseAligner(scoring="blastp", mode="local")
    closest: dict[str, Overlap | None] = {}
    found = []
    for place, test in enumerate(tests):
        if test not in closest:
            compared = (_compare(aligner, test, words, training) for training in words.candidates(test))
            fitting = [each for each in compared if each is not None and each.identity >= identity]
            closest[test] = max(
                fitting, key=lambda each: (each.identity, each.length, -each.training), default=None
            )
        overlap = closest[test]
        if overlap is not None:
            found.append(overlap._replace(test=place))
    return found


class _Words:
    """Training sequences one after the other, and where each word of three residues stands in them."""

    def __init__(self, sequences: Sequence[str], margin: int) -> None:
        self.sequences = sequences
        self.residues = sum(map(len, sequences))
        matrix = substitution_matrices.load("BLOSUM62")
        self._scores = np.full((_END + 1, _END + 1), -500, np.int16)
        letters = _LETTERS + "X"
        self._scores[:_END, :_END] = [[matrix[one][other] for other in letters] for one in letters]
        ends = np.full(margin + _WINDOW, _END, np.int8)
        joined = "*".join(sequences) + "*"
        self._codes = np.concatenate([ends, _encode(joined), ends])
        self._chain = np.repeat(np.arange(len(sequences)), [len(each) + 1 for each in sequences])
        self._margin = len(ends)
        at, words = _words(self._codes)
        order = np.argsort(words, kind="stable")
        self._places = at[order]
        self._first = np.searchsorted(words[order], np.arange(_UNKNOWN**_WORD + 1))

    def candidates(self, test: str) -> list[int]:
        """The places of the training sequences that have the best stretches in common with a test."""
        codes = _encode(test)
        diagonals, seconds = self._pairs(codes)
        ends = np.full(_WINDOW, _END, np.int8)
        padded = np.concatenate([ends[:_BEFORE], codes, ends])
        stretches, places = [np.zeros(0, np.int16)], [np.zeros(0, np.int64)]
        for start in range(0, len(diagonals), _BLOCK):
            diagonal = diagonals[start : start + _BLOCK, None]
            window = seconds[start : start + _BLOCK, None] + np.arange(_WINDOW)
            scores = self._scores[padded[window], self._codes[diagonal + window - _BEFORE]]
            sums = np.cumsum(scores, axis=1, dtype=np.int16)
            gains = sums - np.minimum.accumulate(np.minimum(sums - scores, 0), axis=1)
            last = gains.argmax(axis=1)[:, None]
            stretches.append(np.take_along_axis(gains, last, axis=1)[:, 0])
            places.append((diagonal + np.take_along_axis(window, last, axis=1) - _BEFORE)[:, 0])
        chains = self._chain[np.concatenate(places) - self._margin]
        ranked = chains[np.lexsort((chains, -np.concatenate(stretches)))]
        return list(dict.fromkeys(ranked.tolist()))[:_CANDIDATES]

    def _pairs(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pairs of words in common: how far the two sequences are apart, and where the second begins."""
        at, words = _words(codes)
        counts = self._first[words + 1] - self._first[words]
        before = np.cumsum(counts) - counts
        hits = np.repeat(self._first[words] - before, counts) + np.arange(counts.sum())
        places = np.repeat(at, counts)
        shared = np.sort((self._places[hits] - places << _SHIFT) + places)
        seconds = shared[1:][np.diff(shared) <= _NEAR]
        return seconds >> _SHIFT, seconds & (1 << _SHIFT) - 1


def _encode(sequence: str) -> np.ndarray:
    table = np.full(128, _UNKNOWN, np.int8)
    table[ord("*")] = _END
    table[np.frombuffer(_LETTERS.encode(), np.uint8)] = np.arange(len(_LETTERS))
    return table[np.frombuffer(sequence.encode("ascii"), np.uint8)]


def _words(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where words of standard amino acids begin, and their numbers."""
    windows = np.lib.stride_tricks.sliding_window_view(codes, min(_WORD, len(codes)))
    at = np.flatnonzero((windows < _UNKNOWN).all(axis=1)) if len(codes) >= _WORD else np.arange(0)
    return at, windows[at].astype(np.int64) @ _UNKNOWN ** np.arange(windows.shape[1])


def _compare(aligner: PairwiseAligner, test: str, words: _Words, training: int) -> Overlap | None:
    """The overlap of two sequences, of whatever identity, or None if they have none."""
    other = words.sequences[training]
    if test in other or other in test:
        kind = "exact" if test == other else "contained"
        return Overlap(0, training, 1.0, min(len(test), len(other)), kind)
    query, target = _standard(test), _standard(other)
    score = aligner.score(query, target)
    if _K * len(test) * words.residues * math.exp(-_LAMBDA * score) > CHANCE:
        return None
    blocks: Iterable[tuple[tuple[int, int], tuple[int, int]]] = zip(
        *aligner.align(query, target)[0].aligned, strict=True
    )
    pairs = [
        pair
        for (start, stop), (begin, end) in blocks
        for pair in zip(query[start:stop], target[begin:end], strict=True)
    ]
    if len(pairs) < min(LONG, min(len(test), len(other)) / 2):
        return None
    same = sum(one == another != "X" for one, another in pairs)
    return Overlap(0, training, same / len(pairs), len(pairs), "aligned")


def _standard(sequence: str) -> str:
    return "".join(letter if letter in _LETTERS else "X" for letter in sequence)
