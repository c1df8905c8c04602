"""Finds the protein sequences of a test set that have a close relative in a training set.

Two chains of similar sequence have similar structures, so a test chain with a relative in the training set
measures memorization. The usual threshold is 30 per cent of identical residues over 80 aligned ones: 5 points
above the curve of Sander & Schneider 1991 (doi:10.1002/prot.340090107), above which structures are the same.

Relatives are searched by phmmer (HMMER3; Eddy 2011, doi:10.1371/journal.pcbi.1002195). An `Overlap` is one of
its alignments in which

    identity    identical / aligned residues, gaps not counted, is at least the requested threshold
    length      aligned residues are at least 80, or half of the shorter sequence
    chance      at most 0.001 such alignments are expected by chance

or, among its hits, a sequence that is the same as the other or a part of it.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pyhmmer import easel, hmmer, plan7

IDENTITY = 0.3
"""Fraction of identical residues from which a test chain counts as overlapping."""
LONG = 80
"""Number of aligned residues that is sufficient, whatever the lengths of the sequences."""
CHANCE = 1e-3
"""Maximum expected number of equally good alignments by chance (E-value)."""


class Overlap(NamedTuple):
    """A test sequence and the training sequence that is closest to it."""

    test: int
    """Index of the test sequence."""
    training: int
    """Index of the closest training sequence."""
    identity: float
    """Identical / aligned residues."""
    length: int
    """Aligned residues."""
    kind: str
    """``exact``: the same; ``contained``: one is a part of the other; ``aligned``: similar."""


def overlaps(tests: Sequence[str], trainings: Sequence[str], identity: float = IDENTITY) -> list[Overlap]:
    """For each test sequence that overlaps with training sequences, the overlap of highest identity.

    Args:
        tests: sequences of one-letter codes in upper case; X is an unknown amino acid.
        trainings: the training sequences, in the same form.
        identity: the minimum fraction of identical residues, between 0 and 1.

    Example:
        >>> chain = "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQ"
        >>> overlaps(["GGSGGSGGSGGSGGSGGSGG", chain], ["WWWWHHHHWWWWHHHH", "AA" + chain])
        [Overlap(test=1, training=1, identity=1.0, length=33, kind='contained')]
    """
    places: dict[str, list[int]] = {}
    for place, test in enumerate(tests):
        places.setdefault(test, []).append(place)
    distinct = [test for test in places if test.strip("X")]
    found = []
    for test, aligned in zip(distinct, _aligned(distinct, trainings), strict=True):
        similar = [each for each in aligned if each.identity >= identity]
        if similar:
            closest = max(similar, key=lambda each: (each.identity, each.length, -each.training))
            found += [closest._replace(test=place) for place in places[test]]
    return sorted(found)


def _aligned(tests: Sequence[str], trainings: Sequence[str]) -> Iterator[list[Overlap]]:
    """For each test sequence, the alignments of sufficient length and significance, of any identity."""
    queries, targets = (_digital([each or "X" for each in side]) for side in (tests, trainings))
    if not queries or not targets:
        yield from ([] for _ in tests)
        return
    for test, hits in zip(tests, hmmer.phmmer(queries, targets, cpus=1, E=CHANCE), strict=True):
        overlaps = []
        for hit in hits:
            training = int(hit.name)
            other, shorter = trainings[training], min(len(test), len(trainings[training]))
            if test in other or other in test:
                kind = "exact" if test == other else "contained"
                overlaps.append(Overlap(0, training, 1.0, shorter, kind))
                continue
            for domain in hit.domains:
                pairs = _pairs(domain.alignment)
                if domain.i_evalue <= CHANCE and len(pairs) >= min(LONG, shorter / 2):
                    same = sum(one == another != "X" for one, another in pairs)
                    overlaps.append(Overlap(0, training, same / len(pairs), len(pairs), "aligned"))
        yield overlaps


def _digital(sequences: Sequence[str]) -> easel.DigitalSequenceBlock:
    """Sequences in HMMER's digital form, named by their indices."""
    alphabet = easel.Alphabet.amino()
    texts = [easel.TextSequence(name=str(place), sequence=each) for place, each in enumerate(sequences)]
    return easel.DigitalSequenceBlock(alphabet, [text.digitize(alphabet) for text in texts])


def _pairs(alignment: plan7.Alignment) -> list[tuple[str, str]]:
    """The pairs of aligned residues, without gaps."""
    sides = zip(alignment.hmm_sequence.upper(), alignment.target_sequence.upper(), strict=True)
    return [(one, other) for one, other in sides if one.isalpha() and other.isalpha()]
