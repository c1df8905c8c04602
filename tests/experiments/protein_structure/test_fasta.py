"""Sequences of a person's own: what is read, what is refused and how, and the table of predictions."""

import csv
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.datasets.chains import AMINO_ACIDS, STATES3
from experiments.datasets.files import DataError
from experiments.protein_structure import fasta
from experiments.protein_structure.fasta import Record


def read(text, name="own.fasta"):
    return list(fasta.read(io.StringIO(text, newline=""), name))


def test_records_may_be_written_in_many_ways():
    text = "\ufeff\r\n>one first of two\r\nMKV\r\n\r\n lap gg\t\r\n*\r\n>\ttwo\r\nACDEFGHIKLMNPQRSTVWY**"
    assert read(text) == [Record("one", "MKVLAPGG"), Record("two", AMINO_ACIDS)]


def test_lines_need_no_ends():
    assert list(fasta.read([">a", "MK", "", "V"], "list")) == [Record("a", "MKV")]


record = st.tuples(st.text("abc|.", min_size=1, max_size=5), st.text(AMINO_ACIDS, min_size=1, max_size=30))


@given(st.lists(record, min_size=1, max_size=4, unique_by=lambda each: each[0]), st.integers(1, 12))
def test_lines_of_any_width_are_read(records, width):
    text = ""
    for id, sequence in records:
        rows = [sequence[start : start + width] for start in range(0, len(sequence), width)]
        text += "\n".join([f">{id} with words", *rows, ""])
    assert [(each.id, each.sequence) for each in read(text)] == records


def test_letters_that_no_model_has_learnt_are_unknown_and_named():
    (found,) = read(">a\nMBZju\nOXU\n")
    assert found.sequence == "MXXXXXXX"
    assert found.remarks == (
        "B (D or N) at 2: read as X, an unknown amino acid",
        "J (I or L) at 4: read as X, an unknown amino acid",
        "O (pyrrolysine) at 6: read as X, an unknown amino acid",
        "U (selenocysteine) at 5, 8: read as X, an unknown amino acid",
        "X (unknown) at 7: read as X, an unknown amino acid",
        "Z (E or Q) at 3: read as X, an unknown amino acid",
    )
    (found,) = read(f">a\n{'X' * 12}")
    assert " at 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 2 more: read as X" in found.remarks[0]


def test_a_record_without_an_id_has_its_number():
    found = read(">a\nM\n>  \nK\n>\nV")
    assert [each.id for each in found] == ["a", "record-2", "record-3"]
    assert found[1].remarks == ("no id in line 3: it is called record-2",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "own.fasta has no record: a line '>' and a name"),
        ("\n \n", "own.fasta has no record"),
        ("MKV", "own.fasta, line 1: text before the first record: 'MKV'"),
        ("\n; note\n>a\nM", "own.fasta, line 2: text before the first record: '; note'. Put a line"),
        (">a\n>b\nM", "record 'a', line 1: there is no sequence. Remove the record, or complete it"),
        (">b\nM\n>a x\n \n*\n", "record 'a', line 3: there is no sequence"),
        (">a\nM\n>b\nM\n>a again\nK", "line 5: 'a' is the id of two records, the other in line 1. The id is"),
        (">record-2\nM\n>\nM", "line 3: 'record-2' is the id of two records, the other in line 1"),
        (">a\nMK\nV-L", "record 'a', line 3, position 4 of the sequence: '-' is no amino acid (a gap of an"),
        (">a\nM.K", "line 2, position 2 of the sequence: '.' is no amino acid (a gap"),
        (">a\nM*K", "line 2, position 2 of the sequence: '*' is no amino acid (a stop inside of a sequence"),
        (
            ">a\nMK 60",
            "line 2, position 3 of the sequence: '6' is no amino acid (only ACDEFGHIKLMNPQRSTVWY and",
        ),
        (">a\nM\n;K", "line 3, position 2 of the sequence: ';' is no amino acid (only"),
        (">a\nMß", "line 2, position 2 of the sequence: 'ß' is no amino acid (only"),
        (">a\n\u0131M", "line 2, position 1 of the sequence: '\u0131' is no amino acid (only"),
        (">a\nM>K", "line 2, position 2 of the sequence: '>' is no amino acid (only"),
    ],
)
def test_what_is_refused(text, message):
    with pytest.raises(DataError) as caught:
        read(text)
    assert message in str(caught.value)
    assert "own.fasta" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_compressed_file_is_no_text(tmp_path):
    path = tmp_path / "own.fasta.gz"
    path.write_bytes(b"\x1f\x8b\x08\x00\xff\xfe")
    with path.open(encoding="utf-8") as lines, pytest.raises(DataError, match=r"no text in UTF-8.*unpack it"):
        list(fasta.read(lines, path.name))


def test_names_of_files_have_nothing_of_folders():
    assert fasta.file_name("sp|P01308|INS_HUMAN") == "sp_P01308_INS_HUMAN"
    assert fasta.file_name("../../etc/é") == "_.._etc_"
    assert len(fasta.file_name("a" * 500)) == 60


def test_the_table_has_a_line_for_each_residue():
    probabilities = np.array([[0.7, 0.2, 0.1], [0.25, 0.5, 0.25]])
    stream = io.StringIO()
    for each in (Record("a", "MX", ("a remark",)), Record("b", "MK")):
        fasta.write_table(each, probabilities, STATES3, stream)
    table = (
        "position\tamino_acid\tstate\tH\tE\tC\n"
        "1\tM\tH\t0.7000\t0.2000\t0.1000\n"
        "2\t{}\tE\t0.2500\t0.5000\t0.2500\n\n"
    )
    first = "# record: a\n# residues: 2\n# a remark\n" + table.format("X")
    assert stream.getvalue() == first + "# record: b\n# residues: 2\n" + table.format("K")
    rows = csv.DictReader((line for line in first.splitlines() if line[:1] != "#"), delimiter="\t")
    assert [(row["state"], float(row["E"])) for row in rows] == [("H", 0.2), ("E", 0.5)]


def test_the_table_is_of_all_residues():
    with pytest.raises(ValueError, match="shorter"):
        fasta.write_table(Record("a", "MKV"), np.ones((2, 3)), STATES3, io.StringIO())
