"""Profiles from alignments in A3M: what the columns say, and what is refused."""

import numpy as np
import pytest

from experiments.datasets import DataError
from experiments.datasets.chains import AMINO_ACIDS
from experiments.protein_structure import profiles


def of(text, sequence):
    return profiles.read(text.splitlines(), "some.a3m", sequence)


def share(row, letter):
    return row[AMINO_ACIDS.index(letter)]


def test_a_sequence_alone_is_its_own_profile():
    found = of(">a\nACX", "ACX")
    assert found.shape == (3, 20)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found.argmax(axis=1)[:2], [0, 1])
    np.testing.assert_array_equal(found.sum(axis=1), [1, 1, 0])


def test_insertions_and_gaps_are_left_out():
    plain = of(">a\nACDE\n>b\nACEE\n", "ACDE")
    np.testing.assert_array_equal(plain, of(">a\nACDE\n>b\nA\nkkC..EEm\n", "ACDE"))
    gaps = of(">a\nACDE\n>b\n--EE\n", "ACDE")
    assert share(gaps[0], "A") == 1
    assert 0 < share(gaps[2], "E") < 1


def test_records_of_structure_are_no_relatives():
    text = ">a\nACD\n>b\nACE\n"
    np.testing.assert_array_equal(
        of(f">ss_pred PSIPRED\nCCH\n{text}>Consensus\nWWW\n", "ACD"), of(text, "ACD")
    )


def test_many_of_a_kind_count_as_few():
    # By counting, E would have three quarters of the column; by position it shares it with D.
    found = of(">a\nD\n>b\nE\n>c\nE\n>d\nE\n", "D")
    assert share(found[0], "D") == share(found[0], "E") == 0.5


def test_weights_add_up_to_one_whatever_gaps_there_are():
    random = np.random.default_rng(0)
    aligned = random.integers(-1, 20, (9, 30))
    np.testing.assert_allclose(profiles.weights(aligned).sum(), 1)
    assert not profiles.weights(np.full((2, 3), -1)).any()


def test_a_sequence_that_is_there_twice_shares_the_weight_that_it_had_alone():
    # It has amino acids of its own; of those that others have too, two would have a larger share.
    aligned = np.random.default_rng(0).integers(1, 20, (9, 30))
    aligned[0] = 0
    doubled = profiles.weights(np.concatenate([aligned, aligned[:1]]))
    assert doubled[0] == doubled[-1]
    np.testing.assert_allclose(doubled[0] + doubled[-1], profiles.weights(aligned)[0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the first record"),
        (">a\nACE\n", "the first record"),
        (">a\nACD\n>b c\nAC\n", "line 3: 'b c' has 2 columns; .* each of the 3 residues"),
        (">a\nACD\n>b\nA7D\n", "has '7'"),
        ("ACD\n", "text before the first record"),
    ],
)
def test_what_is_no_alignment_is_refused(text, message):
    with pytest.raises(DataError, match=message):
        of(text, "ACD")
