"""The alignment of the prompts: its file, its phrases, and how the aligner fills it."""
# ruff: noqa: RUF001 (letters of the phonetic alphabet)

import numpy as np
import pytest

from experiments import datasets
from experiments.datasets import DataError
from experiments.speech_synthesis import aligner, alignment
from experiments.speech_synthesis.alignment import LONGEST_PAUSE, STEP, Timed
from experiments.speech_synthesis.linguistics import CONTEXT, NUMBERS, SYMBOLS, describe
from experiments.speech_synthesis.text import PAUSE, Phone

LINE = "hi\t_:20 |h:7 aɪ2:9 _:9 ,|b:5 iː:6 _:40 ?|h:3 iː1:4 _:2\n"


@pytest.fixture
def timed(tmp_path):
    (tmp_path / "a.tsv").write_text(LINE, "utf-8")
    return alignment.read(tmp_path / "a.tsv")["hi"]


def test_what_is_read_is_written_again(timed, tmp_path):
    assert timed[1] == Timed(Phone("h", 0, True), 7)
    assert timed[7] == Timed(Phone("h", 0, True, "?"), 3)
    alignment.write(tmp_path / "b.tsv", [("hi", timed)])
    assert (tmp_path / "b.tsv").read_text("utf-8") == LINE


@pytest.mark.parametrize("tokens", ["", "h", "h:0", "qq:3", "_:1 h:x"])
def test_a_malformed_line_is_named(tmp_path, tokens):
    (tmp_path / "a.tsv").write_text(f"{LINE}b\t{tokens}\n", "utf-8")
    with pytest.raises(DataError, match=r"a.tsv, line 2"):
        alignment.read(tmp_path / "a.tsv")
    with pytest.raises(DataError, match=r"none.tsv cannot be read"):
        alignment.read(tmp_path / "none.tsv")


def test_phrases_are_cut_in_the_middle_of_pauses(timed):
    one, two, three = alignment.phrases(timed)
    assert (one.steps, one.start, one.end) == ((LONGEST_PAUSE, 7, 9, 5), 5, ",")
    assert (two.steps, two.start, two.end) == ((4, 5, 6, LONGEST_PAUSE), 41, "?")
    assert (three.steps, three.start, three.end) == ((LONGEST_PAUSE, 3, 4, 2), 81, ".")
    assert three.start + sum(three.steps) == sum(each.steps for each in timed)
    assert all(phrase.phones[0].symbol == phrase.phones[-1].symbol == PAUSE for phrase in (one, two, three))


def test_phones_are_described_with_their_neighbours(timed):
    phrase = alignment.phrases(timed)[0]
    found = describe(phrase.phones, phrase.end)
    assert found.shape == (4, CONTEXT + NUMBERS)
    numbers = [SYMBOLS.index(symbol) for symbol in (PAUSE, "h", "aɪ", PAUSE)]
    assert found[1, :CONTEXT].tolist() == [0, *numbers]
    assert found[2, CONTEXT : 2 * CONTEXT].tolist() == [0, 0, 1, 0, 0]
    assert found[:, 2 * CONTEXT].tolist() == [1, 1, 0, 1]
    np.testing.assert_allclose(np.expm1(found[1:3, 2 * CONTEXT + 1]), [0, 1], atol=1e-6)
    assert found[0, -3:].tolist() == [0, 1, 0]


def heard(owner, quiet, starts):
    phones = [Phone("h", starts=start) for start in starts]
    return aligner.Heard(np.zeros((len(owner), 1)), np.array(quiet), phones)


def test_blanks_go_to_the_phones_beside_them_and_quiet_ones_between_words_are_pauses():
    owner = np.array([-1, -1, 0, -1, -1, -1, -1, 1, *[-1] * 12, 2, -1, -1])
    loud = heard(owner, [False] * len(owner), [True, False, True])
    assert aligner.filled(owner, loud).tolist() == [-1, *[0] * 4, *[1] * 9, *[2] * 8, -1]
    quiet = heard(owner, [True] * len(owner), [True, False, True])
    assert aligner.filled(owner, quiet).tolist() == [-1, -1, 0, 0, 0, 1, 1, 1, *[-1] * 12, 2, -1, -1]
    inside = heard(owner, [True] * len(owner), [True, False, False])
    assert aligner.filled(owner, inside).tolist() == [-1, -1, 0, 0, 0, *[1] * 9, *[2] * 7, -1, -1]


def test_the_alignment_is_of_the_prompts():
    try:
        prompts = [prompt for part in datasets.load("asterisk-en") for prompt in part]
    except DataError as error:
        pytest.skip(str(error))
    found = alignment.read()
    lengths = {each.name: len(each.samples) // STEP for each in prompts}
    assert found.keys() <= lengths.keys()
    assert len(found) > 0.95 * len(lengths)
    for name, timed in found.items():
        assert sum(each.steps for each in timed) == lengths[name]
        assert timed[0].phone.symbol == timed[-1].phone.symbol == PAUSE
    steps = [each.steps for timed in found.values() for each in timed if each.phone.symbol != PAUSE]
    assert 6 < np.median(steps) < 10
    assert np.mean(np.array(steps) > 40) < 0.01
