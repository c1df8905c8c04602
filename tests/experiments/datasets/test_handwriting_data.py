"""Online handwriting as it is read: UNIPEN, split by writers that its file names tell, and PenDigits."""

import numpy as np
import pytest

from experiments import datasets
from experiments.datasets import DataError, pendigits, unipen
from experiments.datasets.ink import of_strokes

ARRAYS = {
    "dxy": np.array([[5, 6], [1, 0], [-2, 3], [100, 100]], np.int16),
    "pen_up": np.array([0, 1, 1, 1], np.uint8),
    "offsets": np.array([0, 3, 4]),
    "labels": np.array(['\\"To', "I"]),
    "quality": np.array(["OK", "BAD"]),
    "source_id": np.array([1, 0]),
    "source_files": np.array(["nic/mark/mark03.dat", "sta/sta1/hpb1yuko.dat"]),
}

DIGIT = """.SEGMENT DIGIT    0 ? "4"
.COMMENT 4  7  12
.PEN_DOWN
 1  2
 3  4
.PEN_UP
.DT 10
.PEN_DOWN
 5  6
.PEN_UP
"""


class TestInk:
    def test_strokes_are_what_they_were_made_of(self):
        strokes = [np.array([[0, 1], [2, 3]]), np.zeros((0, 2)), np.array([[4, 5]])]
        ink = of_strokes(strokes, "ab", "me")
        assert ink.pen_up.tolist() == [False, True, True]
        assert [stroke.tolist() for stroke in ink.strokes] == [[[0, 1], [2, 3]], [[4, 5]]]

    def test_an_ink_without_points_is_refused(self):
        with pytest.raises(ValueError, match="no point"):
            of_strokes([np.zeros((0, 2))])


class TestUnipen:
    def test_arrays_are_inks(self):
        first, second = unipen.inks_of_arrays(ARRAYS, "a.npz")
        assert (first.label, first.writer, first.quality) == ('"To', "hp-yuko", "OK")
        assert first.points.tolist() == [[5, 6], [6, 6], [4, 9]]
        assert first.points.dtype == np.float32
        assert first.pen_up.tolist() == [False, True, True]
        assert (second.label, second.writer, second.points.tolist()) == ("I", "nic-mark", [[100, 100]])

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"labels": np.array(["a"])}, "not of 2 inks"),
            ({"offsets": np.array([0, 3, 5])}, "do not part 4 items"),
            ({"pen_up": np.array([0, 1, 0, 1])}, "does not end where the pen is lifted"),
            ({"pen_up": np.array([1])}, "4 steps and 1 states"),
            ({"source_files": np.array(["readme", "readme"])}, "'readme' does not tell who wrote it"),
        ],
    )
    def test_arrays_that_do_not_fit_are_named(self, changed, message):
        with pytest.raises(DataError, match=message):
            unipen.inks_of_arrays(ARRAYS | changed, "a.npz")

    def test_missing_arrays_are_named(self):
        with pytest.raises(DataError, match=r"a.npz lacks the arrays dxy, labels"):
            unipen.inks_of_arrays({k: v for k, v in ARRAYS.items() if k not in ("dxy", "labels")}, "a.npz")

    @pytest.mark.parametrize(
        ("files", "writer"),
        [
            (("apa/apa17/app1721.dat", "ape/ape17/app1701.dat"), "ap-17"),
            (("sta/sta0/hpb0-aeb.dat", "sta/sta1/hpb1-aeb.dat"), "hp-aeb"),
            (("cea/Balgi.dat", "cec/Balgi.dat"), "ce-Balgi"),
            (("ced/naty7589.a_s_2e.dat", "cee/naty7589_g_2e.dat"), "ce-naty7589"),
            (("sie/word/gsaa/gsaa1007.dat", "sie/char/gsaa/gsaa4501.dat"), "sie-gs"),
            (("art/art01trn.dat", "art/art01tst.dat"), "art-01"),
            (("imp/imp0/imp50.dat", "imp/imp1/imp5050.dat"), "imp-50"),
            (("kai/kai0/hykim0.dat", "kai/kai1/hykim5.dat"), "kai-hykim"),
            (("val/gresai6c.dat", "val/gresai61.dat"), "val-gresai"),
            (("tos/f1/f1020059.dat", "tos/t3/t3026064.dat"), "tos"),
            (("par/19mccl.dat",), "par-19mccl"),
            (("syn/syn1/bek-dig2.dat",), "syn-bek"),
        ],
    )
    def test_files_of_one_hand_have_one_writer(self, files, writer):
        assert {unipen.writer_of(file) for file in files} == {writer}

    def test_writers_of_similar_names_are_in_one_part(self):
        kinds = {}
        for writer, part in unipen.parts().items():
            donor, _, name = writer.partition("-")
            start = name[: {"hp": 2, "lex": 4}.get(donor)]
            assert kinds.setdefault((donor, start), part) == part, writer

    @pytest.mark.parametrize(
        ("name", "sizes"),
        [
            ("words", (61963, 4439, 7895)),
            ("lowercase", (52999, 3293, 5068)),
            ("digits", (13718, 575, 1660)),
        ],
    )
    def test_splits_are_by_writer(self, real_data, name, sizes):
        parts = datasets.load(f"unipen-{name}", real_data)
        assert tuple(map(len, parts)) == sizes
        writers = [{ink.writer for ink in part} for part in parts]
        assert not writers[0] & writers[1] | writers[0] & writers[2] | writers[1] & writers[2]
        assert not any(ink.quality == "BAD" for part in parts for ink in part)

    def test_bad_words_are_apart(self, real_data):
        assert tuple(map(len, unipen.load_bad("words", real_data))) == (756, 0, 45)

    def test_a_missing_file_is_said_to_be_an_extract(self, tmp_path):
        with pytest.raises(DataError, match=r"unipen_6_words.npz is not in .* an extract"):
            unipen.load("words", tmp_path)

    def test_an_unknown_part_has_a_suggestion(self):
        with pytest.raises(DataError, match="Did you mean 'words'"):
            unipen.load("wordz")


class TestPendigits:
    def test_a_digit_is_read(self):
        (ink,) = pendigits.inks(f".HIERARCHY DIGIT\n{DIGIT}", "test")
        assert (ink.label, ink.writer) == ("4", "test-7")
        assert [stroke.tolist() for stroke in ink.strokes] == [[[1, 2], [3, 4]], [[5, 6]]]

    @pytest.mark.parametrize("lost", ['"4"', ".COMMENT 4  7  12", ".PEN_DOWN"])
    def test_a_digit_that_lacks_something_is_named(self, lost):
        with pytest.raises(DataError, match="pendigits-test: digit 2 has no label"):
            pendigits.inks(DIGIT + DIGIT.replace(lost, ""), "test")

    def test_splits_are_by_writer(self, real_data):
        parts = datasets.load("pendigits", real_data)
        assert tuple(map(len, parts)) == (6744, 750, 3498)
        assert [len({ink.writer for ink in part}) for part in parts] == [27, 3, 14]
