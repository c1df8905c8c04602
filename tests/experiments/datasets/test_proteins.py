"""Protein chains as they are read, and which test chains have relatives in train."""

import gzip
import zipfile

import numpy as np
import pytest

from experiments import datasets
from experiments.datasets import DataError, cb6133, proteins
from experiments.datasets.chains import AMINO_ACIDS, REDUCTION, STATES3, STATES8
from experiments.datasets.overlap import Overlap, overlaps

LETTERS = np.array(list(AMINO_ACIDS))


@pytest.fixture(scope="module", name="nr25")
def _nr25(real_data):
    return proteins.load("nr25", real_data)


@pytest.fixture(scope="module", name="flip")
def _flip(real_data):
    return proteins.flip_and_cb513(real_data)


def counted(part):
    return sum(int(chain.valid.sum()) for chain in part)


def check(splits, states):
    assert len({chain.id for part in splits for chain in part}) == sum(map(len, splits))
    for chain in (chain for part in splits for chain in part):
        assert len(chain.sequence) == len(chain.states) == len(chain.valid) > 0
        assert set(chain.sequence) <= {*AMINO_ACIDS, "X"}
        assert set(chain.states) <= set(states)
        assert chain.valid.dtype == bool


class TestNR25:
    def test_the_real_file_has_what_is_documented(self, nr25):
        assert [len(part) for part in nr25] == [5_278, 256, 514]
        assert [counted(part) for part in nr25] == [998_216, 45_858, 95_887]
        check(nr25, STATES8)
        assert nr25.train[0].id == "3CAFA"
        assert nr25.train[0].sequence.startswith("NKRAPYWTNTEKMEKRLHAVPAANTVKFRCPAGGNPMPTMRWLKNGKEF")
        assert nr25.train[0].states.startswith("CCEEEEESCTTTTSCCEEEECTTCCEEEECCEEEESCCEEEEEETTEECC")

    def test_profiles_are_shares_in_the_order_of_the_amino_acids(self, nr25):
        everything = np.concatenate([chain.profile for chain in nr25.test])
        sequence = np.array(list("".join(chain.sequence for chain in nr25.test)))
        assert everything.dtype == np.float32
        assert everything.min() == 0
        assert np.abs(everything.sum(axis=1) - 1).max() < 0.03
        for place, letter in enumerate(AMINO_ACIDS):
            assert everything[sequence == letter].mean(axis=0).argmax() == place
        alone = [c for part in nr25 for c in part if (c.profile.max(axis=1) == 1).all()]
        assert len(alone) == 82
        assert "".join(LETTERS[alone[0].profile.argmax(axis=1)]) == alone[0].sequence

    def test_a_missing_file_is_not_said_to_be_downloadable(self, tmp_path):
        with pytest.raises(DataError, match=r"promod3_nr25.npz is not in .*cannot be downloaded"):
            proteins.load("nr25", tmp_path)

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"dssp8": None}, "lacks the arrays dssp8"),
            ({"sequence": np.frombuffer(b"ACDE*", np.uint8)}, r"sequence: '\*' where only"),
            ({"dssp8": np.frombuffer(b"HHLLL", np.uint8)}, "dssp8: 'L' where only HGIEBTSC"),
            ({"profile": np.zeros((5, 21), np.uint8)}, "do not fit 2 chains of 5 residues"),
            ({"offsets": np.array([0, 5, 5])}, "do not part 5 items"),
            ({"split": np.array(["train", "tset"])}, "part of chain b is 'tset'"),
        ],
    )
    def test_arrays_that_do_not_fit_are_named(self, changed, message):
        arrays = {
            "ids": np.array(["a", "b"]),
            "split": np.array(["train", "test"]),
            "offsets": np.array([0, 2, 5]),
            "sequence": np.frombuffer(b"ACDEF", np.uint8),
            "dssp8": np.frombuffer(b"HHCCC", np.uint8),
            "profile": np.full((5, 20), 255, np.uint8),
        }
        read = proteins.chains_of_arrays(arrays, "a file")
        assert (read.test[0].sequence, read.test[0].states, read.valid) == ("DEF", "CCC", ())
        arrays = {name: value for name, value in {**arrays, **changed}.items() if value is not None}
        with pytest.raises(DataError, match=f"a file.*{message}"):
            proteins.chains_of_arrays(arrays, "a file")


FASTA = {
    "sequences": ">1abc-A\nMKU\nVL\n>2abc-B\nGGGG\n>3abc-C\nAAAA\n",
    "labels": ">1abc-A SET=train VALIDATION=False\nCHHHC\n>2abc-B SET=train VALIDATION=True\nCEEC\n"
    ">3abc-C SET=test VALIDATION=False\nCCCC\n",
    "mask": ">1abc-A\n01111\n>2abc-B\n1111\n>3abc-C\n0000\n",
}
TABLE = "input, dssp3, dssp8, disorder, cb513_mask\nA X Z U,C H H C,S H G C,0.0 1.0 1.0 1.0,1.0 1.0 0.0 1.0\n"


class TestFlipAndCB513:
    def test_the_real_files_have_what_is_documented(self, flip, real_data):
        splits, dropped = flip
        assert [len(part) for part in splits] == [9_712, 1_080, 360]
        assert [counted(part) for part in splits] == [2_319_963, 262_853, 58_281]
        check(splits, STATES3)
        everything = proteins.cb513(real_data)
        assert (len(everything), counted(everything)) == (511, 83_427)
        kept = {chain.id for chain in splits.test}
        assert kept.isdisjoint(each.chain.id for each in dropped)
        assert [each.id for each in everything if not each.valid.any()] == ["cb513-298", "cb513-376"]
        assert len(kept) + len(dropped) + 2 == 511

    def test_what_was_dropped_and_why(self, flip):
        (train, valid, test), dropped = flip
        known = {chain.id: chain.sequence for chain in (*train, *valid)}
        assert {each.training for each in dropped if each.kind == "exact"} == {"1wfb-A", "1tii-C"}
        for each in dropped:
            assert each.identity >= 0.3
            if each.kind == "exact":
                assert known[each.training] == each.chain.sequence
            if each.kind == "contained":
                assert each.chain.sequence in known[each.training]
        assert [sum(each.identity >= share for each in dropped) for share in (0.3, 0.4, 0.5, 0.9)] == [
            149,
            46,
            26,
            10,
        ]
        assert not {chain.sequence for chain in test} & set(known.values())

    def test_fasta(self):
        train, valid, test = proteins.chains_of_fasta(*FASTA.values(), name="a file")
        assert (train[0].sequence, train[0].states) == ("MKXVL", "CHHHC")
        assert train[0].valid.tolist() == [False, True, True, True, True]
        assert train[0].profile is None
        assert (valid[0].id, test[0].id) == ("2abc-B", "3abc-C")

    @pytest.mark.parametrize(
        ("text", "old", "new", "message"),
        [
            ("sequences", "GGGG", "GGG", "chain 2abc-B is not of one length"),
            ("mask", ">2abc-B", ">2abc-D", "chain 2abc-B is not of one length"),
            ("labels", "CEEC", "CEGC", "states of 2abc-B: 'G' where only HEC"),
            ("mask", "0000", "0020", "mask of 3abc-C: '2' where only 01"),
            ("labels", "SET=test", "SET=tset", "head line '3abc-C SET=tset VALIDATION=False' does not say"),
            ("sequences", "AAAA", "AA-A", "other signs than A to Z: 'AA-A'"),
        ],
    )
    def test_fasta_that_does_not_fit_is_named(self, text, old, new, message):
        texts = {**FASTA, text: FASTA[text].replace(old, new)}
        with pytest.raises(DataError, match=f"a file.*{message}"):
            proteins.chains_of_fasta(*texts.values(), name="a file")

    def test_a_residue_of_the_table_counts_where_it_is_resolved_and_in_the_domain(self):
        (chain,) = proteins.chains_of_csv(TABLE, "a file")
        assert (chain.id, chain.sequence, chain.states) == ("cb513-0", "AXXX", "CHHC")
        assert chain.valid.tolist() == [False, True, False, True]

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ("input, dssp3", "dssp3, input", "does not begin with the names"),
            ("A X Z U", "A X Z", "line 2: not five columns of one length"),
            (",1.0 1.0 0.0 1.0", "", "line 2: not five columns of one length"),
            ("S H G C", "S H E C", "line 2: the three states are not those of the eight"),
            ("0.0 1.0 1.0 1.0", "0.5 1.0 1.0 1.0", "line 2: a mask is neither"),
        ],
    )
    def test_a_table_that_does_not_fit_is_named(self, old, new, message):
        with pytest.raises(DataError, match=f"a file.*{message}"):
            proteins.chains_of_csv(TABLE.replace(old, new), "a file")

    def test_archives_that_lack_a_text_or_are_none(self, tmp_path, monkeypatch):
        path = tmp_path / "flip.zip"
        monkeypatch.setattr(proteins, "fetch", lambda *_: path)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("splits/sequences.fasta", FASTA["sequences"])
        with pytest.raises(DataError, match="cannot be read"):
            proteins.flip()
        path.write_bytes(b"damaged")
        with pytest.raises(DataError, match="cannot be read"):
            proteins.flip()


class TestOverlaps:
    @pytest.fixture(name="trainings")
    def _trainings(self):
        draw = np.random.default_rng(0)
        return ["".join(draw.choice(LETTERS, length)) for length in (90, 250, 400, 120, 60)]

    def mutated(self, sequence, share, seed=1):
        draw = np.random.default_rng(seed)
        letters = np.array(list(sequence))
        places = draw.choice(len(letters), round(share * len(letters)), replace=False)
        letters[places] = LETTERS[(np.searchsorted(LETTERS, letters[places]) + draw.integers(1, 20)) % 20]
        return "".join(letters)

    def test_the_same_and_parts_of_another(self, trainings):
        tests = [trainings[2], trainings[1][50:130], "ACDEF" + trainings[4] + "WYWY"]
        assert overlaps(tests, trainings) == [
            Overlap(0, 2, 1.0, 400, "exact"),
            Overlap(1, 1, 1.0, 80, "contained"),
            Overlap(2, 4, 1.0, 60, "contained"),
        ]

    def test_a_mutated_copy_with_residues_missing_and_added(self, trainings):
        copy = self.mutated(trainings[2], 0.4)
        ((test, training, identity, length, kind),) = overlaps([copy[:150] + copy[160:] + "GG"], trainings)
        assert (test, training, kind) == (0, 2, "aligned")
        assert identity == pytest.approx(0.6, abs=0.03)
        assert 370 <= length <= 390
        assert not overlaps([copy], trainings, identity=0.7)

    def test_unrelated_sequences_have_none(self, trainings):
        draw = np.random.default_rng(2)
        unrelated = ["".join(draw.choice(LETTERS, length)) for length in (30, 150, 500)]
        assert not overlaps(unrelated, trainings, identity=0)
        assert not overlaps(["", "AC", "X" * 50], trainings)
        assert not overlaps([], trainings)
        assert not overlaps(trainings, [])

    def test_a_short_stretch_in_common_is_none(self, trainings):
        draw = np.random.default_rng(3)
        other = "".join(draw.choice(LETTERS, 200))
        assert not overlaps([other[:90] + trainings[2][100:140] + other[90:]], trainings)
        assert overlaps([other[:90] + trainings[2][100:190] + other[90:]], trainings)

    def test_unknown_residues_are_not_identical(self, trainings):
        masked = trainings[2][:300] + "X" * 10 + trainings[2][310:]
        ((_, _, identity, length, _),) = overlaps([masked], [masked[:-1] + "A" + trainings[0]])
        assert identity == pytest.approx((length - 10) / length)

    def test_the_closest_is_chosen_and_the_first_among_equals(self, trainings):
        near, far = self.mutated(trainings[1], 0.2), self.mutated(trainings[1], 0.4)
        tests = [trainings[1], trainings[1]]
        found = overlaps(tests, [trainings[0], far, near, near])
        assert [(each.test, each.training) for each in found] == [(0, 2), (1, 2)]
        assert found == overlaps(tests, [trainings[0], far, near, near])


RESIDUES, LABELS, PROFILE = "ACEDGFIHKMLNQPSRTWVYX", "LBEGIHST", "ACDEFGHIKLMNPQRSTVWXY"


def stored(sequence, labels):
    """An array of one chain as the authors describe it, whose profile says by how much a letter is late."""
    places = np.zeros((700, 57))
    places[len(sequence) :, [21, 30]] = 1
    for place, (residue, label) in enumerate(zip(sequence, labels, strict=True)):
        places[place, RESIDUES.index(residue)] = 1
        places[place, 22 + LABELS.index(label)] = 1
        for letter in AMINO_ACIDS:
            places[place, 35 + PROFILE.index(letter)] = (ord(letter) - 64) / 100
    return places


class TestCB6133:
    @pytest.fixture(name="arrays")
    def _arrays(self):
        return np.stack([stored("MKWX", "LHHT"), stored("Y" * 700, "E" * 700), stored("ACDEFGY", "BGISLLL")])

    def test_a_file_packed_or_not(self, arrays, tmp_path):
        np.save(tmp_path / "some+thing.npy", arrays.reshape(3, -1))
        packed = tmp_path / "some+thing.npy.gz"
        with gzip.open(packed, "wb") as stream:
            np.save(stream, arrays.astype(np.float32))
        for path in (packed, tmp_path / "some+thing.npy"):
            first, second, third = cb6133.chains(path, 3)
            assert (first.id, first.sequence, first.states) == ("some-0", "MKWX", "CHHT")
            assert (second.sequence, second.states) == ("Y" * 700, "E" * 700)
            assert (third.sequence, third.states) == ("ACDEFGY", "BGISCCC")
            assert third.valid.all()
            wanted = [(ord(letter) - 64) / 100 for letter in AMINO_ACIDS]
            assert first.profile.dtype == np.float32
            np.testing.assert_allclose(first.profile, np.tile(wanted, (4, 1)), rtol=1e-6)

    def test_train_valid_and_test(self, arrays, tmp_path, monkeypatch):
        (tmp_path / "protein").mkdir()
        with pytest.raises(DataError, match=r"cullpdb.*gz is not in .*Download it from https://zenodo"):
            datasets.load("protein-cb6133", tmp_path)
        np.save(tmp_path / "protein" / cb6133.TRAIN, arrays)
        np.save(tmp_path / "protein" / cb6133.TEST, arrays[:1])
        monkeypatch.setattr(cb6133, "CHAINS", {cb6133.TRAIN: 3, cb6133.TEST: 1})
        monkeypatch.setattr(cb6133, "TRAIN_CHAINS", 2)
        splits = datasets.load("protein-cb6133", tmp_path)
        check(splits, STATES8)
        assert [[each.id for each in part] for part in splits] == [
            ["cullpdb-0", "cullpdb-1"],
            ["cullpdb-2"],
            ["cb513-0"],
        ]

    def test_a_residue_without_a_state_does_not_count(self):
        places = stored("MKWX", "LHHT")
        places[2, 22:31] = np.eye(9)[8]
        read = cb6133.chain(places.astype(np.float32), "one")
        assert (read.states, read.valid.tolist()) == ("CHCT", [True, True, False, True])

    @pytest.mark.parametrize(
        ("place", "column", "value", "message"),
        [
            (2, 40, np.nan, "place 2 has values not finite"),
            (1, 0, 1, "the amino acid of place 1 is not one-hot"),
            (1, RESIDUES.index("K"), 0.5, "the amino acid of place 1 is not one-hot"),
            (699, 21, 0, "the amino acid of place 699 is not one-hot"),
            (3, 22, -1, "the state of place 3 is not one-hot"),
            (0, slice(0, 22), np.eye(22)[21], "empty, or goes on after its end at place 0"),
            (2, slice(0, 22), np.eye(22)[21], "empty, or goes on after its end at place 2"),
            (4, slice(22, 31), np.eye(9)[0], "a state at place 4, where it is over"),
        ],
    )
    def test_a_damaged_chain_is_named(self, place, column, value, message):
        places = stored("MKWX", "LHHT")
        places[place, column] = value
        with pytest.raises(DataError, match=f"chain one: .*{message}"):
            cb6133.chain(places, "one")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda arrays: arrays[:2], r"shape \(2, 700, 57\), not that of 3 chains"),
            (np.asfortranarray, "stored by columns"),
            (lambda arrays: arrays.astype("U3"), "holds <U3, not numbers"),
        ],
    )
    def test_other_arrays_are_refused(self, arrays, tmp_path, change, message):
        np.save(tmp_path / "some.npy", change(arrays))
        with pytest.raises(DataError, match=message):
            list(cb6133.chains(tmp_path / "some.npy", 3))

    def test_objects_and_damaged_files_are_refused(self, arrays, tmp_path):
        path = tmp_path / "some.npy"
        np.save(path, np.array([{}, {}, {}]), allow_pickle=True)
        with pytest.raises(DataError, match="objects are never unpickled"):
            list(cb6133.chains(path, 3))
        np.save(path, arrays)
        whole = path.read_bytes()
        path.write_bytes(whole[:-8])
        with pytest.raises(DataError, match="ends in chain 2 of 3"):
            list(cb6133.chains(path, 3))
        path.write_bytes(whole + b"more")
        with pytest.raises(DataError, match="goes on after its 3 chains"):
            list(cb6133.chains(path, 3))
        path.write_bytes(gzip.compress(whole)[:-20])
        with pytest.raises(DataError, match="cannot be read"):
            list(cb6133.chains(path, 3))
        path.write_bytes(b"no array")
        with pytest.raises(DataError, match="cannot be read"):
            list(cb6133.chains(path, 3))


def test_the_reduction_takes_each_of_eight_states_to_one_of_three():
    assert list(REDUCTION) == ["H", "G", "I", "E", "B", "T", "S", "C"]
    assert set(REDUCTION) == set(STATES8)
    assert set(REDUCTION.values()) == set(STATES3)


def test_an_unknown_set_is_answered_with_those_there_are():
    with pytest.raises(DataError, match=r"'nr2'.*mean 'nr25'.*Known: flip, nr25"):
        proteins.load("nr2")
