"""What is said for a text, and its phones."""

import pytest

from experiments.datasets import DataError
from experiments.speech_synthesis import text


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("dash [-]", "dash"),
        ("Press * or #, 100%", "Press star or pound , 100 percent"),
        ("dial 8500 or 42", "dial 8 5 0 0 or 42"),
        ("visit www.asterisk.org.", "visit www dot asterisk dot org."),
        ("at 9 A.M.", "at 9 A M."),
    ],
)
def test_signs_and_numbers_are_spelled(written, spoken):
    assert text.spoken(written) == spoken


class TestPhones:
    @pytest.fixture(autouse=True)
    def installed(self):
        pytest.importorskip("phonemizer")
        pytest.importorskip("espeakng_loader")

    def test_words_stress_and_marks_are_told(self):
        found = text.phones("Hello, world")
        assert [phone.symbol for phone in found] == ["h", "ə", "l", "oʊ", "w", "ɜː", "l", "d"]
        assert [phone.starts for phone in found] == [True, *[False] * 3, True, *[False] * 3]
        assert [phone.stress for phone in found] == [0, 0, 0, 2, 0, 2, 0, 0]
        assert [phone.mark for phone in found if phone.mark] == [","]
        assert found[4].mark == ","

    def test_phones_that_are_joined_are_taken_apart(self):
        assert [phone.symbol for phone in text.phones("four")] == ["f", "ɔː", "ɹ"]

    @pytest.mark.parametrize("nothing", ["", "  ", "?!", "[silence]"])
    def test_nothing_to_say_is_refused(self, nothing):
        with pytest.raises(DataError, match="there is nothing to say"):
            text.phones(nothing)

    @pytest.mark.parametrize("sign", [chr(code) for code in range(33, 127)])
    def test_any_sign_is_said_or_left_out(self, sign):
        assert text.phones(f"{sign} one")
