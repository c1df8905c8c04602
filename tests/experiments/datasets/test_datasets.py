import hashlib
import io
import subprocess
import sys
import time
import urllib.request
from itertools import combinations, pairwise
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
from scipy.io import savemat

from experiments import datasets
from experiments.datasets import DataError, chorales, files, piano_rolls, translations
from experiments.datasets.chorales import Chorale
from experiments.datasets.files import DataFile

music21 = pytest.importorskip("music21")

REPOSITORY = Path(__file__).parents[3]
CONTENT = b"the content of a file"
FILE = DataFile("letters", "a.txt", "https://example.org/a.txt", hashlib.sha256(CONTENT).hexdigest())

# name: (pieces, frames) of the training, validation and test part
PUBLISHED = {
    "jsb": ((229, 13_807), (76, 4_602), (77, 4_725)),
    "nottingham": ((694, 176_561), (173, 45_513), (170, 44_463)),
    "muse": ((524, 245_202), (135, 82_755), (124, 64_339)),
    "piano": ((87, 75_911), (12, 8_540), (25, 19_036)),
}
CHORALES = ((281, 31_876), (60, 6_192), (60, 6_524))


def sizes(splits):
    return tuple((len(part), sum(map(len, part))) for part in splits)


@pytest.fixture
def offline(monkeypatch):
    def refuse(*_, **__):
        raise URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)


@pytest.fixture
def online(monkeypatch):
    """A network on which every address has CONTENT; returns the list of addresses that were asked."""
    asked = []

    def respond(request, timeout):
        assert timeout > 0
        asked.append(request.full_url)
        return io.BytesIO(CONTENT)

    monkeypatch.setattr(urllib.request, "urlopen", respond)
    return asked


class TestFiles:
    def test_the_argument_wins_over_the_variable_and_that_over_the_cache(self, monkeypatch, tmp_path):
        monkeypatch.setenv(files.VARIABLE, str(tmp_path / "variable"))
        assert files.data_folder(tmp_path / "argument") == tmp_path / "argument"
        assert files.data_folder() == tmp_path / "variable"
        monkeypatch.setenv(files.VARIABLE, "")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert files.data_folder() == tmp_path / "lstmjax" / "data"
        monkeypatch.delenv("XDG_CACHE_HOME")
        assert files.data_folder() == Path.home() / ".cache" / "lstmjax" / "data"

    def test_a_missing_file_is_downloaded_once(self, online, tmp_path):
        path = files.fetch(FILE, tmp_path)
        assert path == tmp_path / "letters" / "a.txt"
        assert path.read_bytes() == CONTENT
        assert files.fetch(FILE, tmp_path) == path
        assert online == [FILE.url]
        assert [found.name for found in path.parent.iterdir()] == ["a.txt"]

    def test_a_download_with_another_sum_leaves_nothing(self, online, tmp_path):
        wrong = DataFile("letters", "a.txt", FILE.url, "0" * 64)
        with pytest.raises(DataError, match=f"{FILE.url}.*{FILE.sha256}.*{'0' * 64}"):
            files.fetch(wrong, tmp_path)
        assert not list((tmp_path / "letters").iterdir())

    def test_offline_the_error_says_file_address_folder_and_variable(self, offline, tmp_path):
        with pytest.raises(DataError) as caught:
            files.fetch(FILE, tmp_path)
        for part in ("a.txt", FILE.url, str(tmp_path / "letters"), files.VARIABLE, "no network"):
            assert part in str(caught.value)

    def test_a_damaged_file_is_reported_and_kept(self, online, tmp_path):
        path = tmp_path / "letters" / "a.txt"
        path.parent.mkdir()
        path.write_bytes(b"damaged")
        with pytest.raises(DataError) as caught:
            files.fetch(FILE, tmp_path)
        for part in (str(path), FILE.sha256, hashlib.sha256(b"damaged").hexdigest(), "Delete it"):
            assert part in str(caught.value)
        assert path.read_bytes() == b"damaged"
        assert not online

    def test_a_folder_in_the_place_of_a_file_is_reported(self, offline, tmp_path):
        (tmp_path / "letters" / "a.txt").mkdir(parents=True)
        with pytest.raises(DataError, match="cannot be read"):
            files.fetch(FILE, tmp_path)

    def test_nothing_is_written_where_the_file_is_there(self, offline, tmp_path):
        path = tmp_path / "letters" / "a.txt"
        path.parent.mkdir()
        path.write_bytes(CONTENT)
        path.parent.chmod(0o555)
        before = path.parent.stat().st_mtime_ns
        assert files.fetch(FILE, tmp_path) == path
        assert path.parent.stat().st_mtime_ns == before
        path.parent.chmod(0o755)

    def test_a_folder_that_cannot_be_made_is_a_data_error(self, online, tmp_path):
        (tmp_path / "letters").write_bytes(b"a file where the folder should be")
        with pytest.raises(DataError, match="letters"):
            files.fetch(FILE, tmp_path)

    def test_an_interrupted_write_leaves_the_old_file(self, tmp_path):
        path = tmp_path / "kept"
        path.write_bytes(b"old")

        def write():
            with files.atomic_write(path) as stream:
                stream.write(b"new")
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            write()
        assert path.read_bytes() == b"old"
        assert list(tmp_path.iterdir()) == [path]


class TestTable:
    def test_an_unknown_name_is_answered_with_the_closest_and_all(self):
        with pytest.raises(DataError, match=r"'notingham'.*mean 'nottingham'.*chorales, .*jsb, .*multi30k"):
            datasets.load("notingham")
        with pytest.raises(DataError, match=r"'jbs'.*mean 'jsb'"):
            piano_rolls.load("jbs")

    def test_every_row_is_complete(self):
        for row in datasets.DATASETS.values():
            assert row.title
            assert row.licence
            assert row.source.startswith("http")

    def test_loading_goes_to_the_folder_that_is_given(self, offline, tmp_path):
        for name, file in piano_rolls.FILES.items():
            with pytest.raises(DataError, match=str(tmp_path / "music")) as caught:
                datasets.load(name, tmp_path)
            assert file.url in str(caught.value)

    def test_importing_the_table_imports_no_parser_and_no_jax(self):
        code = (
            "import sys, experiments.datasets.chorales, experiments.datasets.piano_rolls;"
            "print([name for name in ('music21', 'scipy', 'jax') if name in sys.modules])"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == "[]"


def cells(*rolls):
    """The rolls as a row of MATLAB cells."""
    row = np.empty((1, len(rolls)), object)
    for position, roll in enumerate(rolls):
        row[0, position] = roll
    return row


class TestPianoRolls:
    @pytest.mark.parametrize("name", PUBLISHED)
    def test_the_published_files(self, name, real_data):
        splits = datasets.load(name, real_data)
        assert sizes(splits) == PUBLISHED[name]
        for roll in (roll for part in splits for roll in part):
            assert roll.dtype == np.uint8
            assert roll.shape[1:] == (piano_rolls.KEYS,)
            assert set(np.unique(roll)) == {0, 1}

    def test_the_pieces_that_are_there_twice_are_the_documented_ones(self, real_data):
        splits = piano_rolls.load("nottingham", real_data)
        train, valid, test = ([roll.tobytes() for roll in part] for part in splits)
        assert [len(train) - len(set(train)), len(set(train) & set(valid))] == [1, 1]
        assert [len(set(train) & set(test)), len(set(valid) & set(test))] == [1, 0]

    def test_a_written_file_is_read_back(self, tmp_path):
        generator = np.random.default_rng(0)
        rolls = [generator.integers(0, 2, (time, 88), np.uint8) for time in (3, 1, 5)]
        path = tmp_path / "rolls.mat"
        savemat(path, {f"{part}data": cells(*rolls) for part in ("train", "valid", "test")})
        for part in piano_rolls.read(path):
            assert len(part) == len(rolls)
            for found, roll in zip(part, rolls, strict=True):
                np.testing.assert_array_equal(found, roll)

    @pytest.mark.parametrize(
        ("roll", "message"),
        [
            (np.zeros((4, 87)), r"validdata \{2\} is not \[time, 88\] but \[4, 87\]"),
            (np.full((4, 88), 0.5), r"validdata \{2\} has values other than 0 and 1"),
            (np.full((4, 88), np.nan), "other than 0 and 1"),
        ],
    )
    def test_what_is_no_piano_roll_is_named(self, roll, message, tmp_path):
        good, path = np.zeros((4, 88)), tmp_path / "rolls.mat"
        savemat(path, {"traindata": cells(good), "validdata": cells(good, roll), "testdata": cells(good)})
        with pytest.raises(DataError, match=message) as caught:
            piano_rolls.read(path)
        assert str(path) in str(caught.value)

    def test_a_missing_part_is_named(self, tmp_path):
        savemat(tmp_path / "rolls.mat", {"traindata": cells(np.zeros((4, 88)))})
        with pytest.raises(DataError, match=r"rolls\.mat has no list of piano rolls called validdata"):
            piano_rolls.read(tmp_path / "rolls.mat")

    @pytest.mark.parametrize("content", [b"", b"no MATLAB file", bytes(range(256)) * 4])
    def test_what_is_no_matlab_file_is_named(self, content, tmp_path):
        path = tmp_path / "rolls.mat"
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"rolls\.mat cannot be read"):
            piano_rolls.read(path)


def chorale(name, melody=(), title="", roll=None):
    roll = np.ones((2, 88), np.uint8) if roll is None else roll
    return Chorale(name, title, roll, tuple(melody))


def sounding(path):
    """The pitches at every eighth of a real score, by asking every note whether it sounds."""
    notes = list(music21.converter.parse(path, forceSource=True).flatten().notes)
    end = max(note.offset + note.quarterLength for note in notes)
    return [
        {
            pitch.midi
            for note in notes
            for pitch in note.pitches
            if note.offset <= frame / 2 < note.offset + note.quarterLength
        }
        for frame in range(round(end * 2))
    ]


class TestChorales:
    @pytest.mark.parametrize("name", ["bwv269", "bwv66.6", "bwv304"])
    def test_a_score_is_cut_at_every_eighth(self, name):
        path = next(path for path in chorales.scores() if path.stem == name)
        found = chorales.cut(path)
        assert found.name == name
        assert [set(np.flatnonzero(frame) + 21) for frame in found.roll] == sounding(path)

    def test_ties_short_notes_rests_transposing_parts_and_instruments(self, tmp_path):
        written = {
            "Soprano": "4/4 d'4 e'2. r8 g'16 a'~ a'2. b'4 r2.",
            "Horn 1": "4/4 c''1 c''1 c''1",
            "Bass Continuo": "4/4 C1~ C1 C1",
        }
        score = music21.stream.Score()
        for name, notation in written.items():
            part = music21.converter.parse(f"tinyNotation: {notation}")
            part.partName = name
            score.insert(0, part)
        score.parts[0].insert(0, music21.instrument.Clarinet())  # sounds a whole tone lower
        found = chorales.cut(Path(score.write("musicxml", tmp_path / "score.musicxml")))
        top = [[72]] * 2 + [[74]] * 6 + [[], [77]] + [[79]] * 6 + [[81]] * 2 + [[]] * 6
        assert [list(np.flatnonzero(frame) + 21) for frame in found.roll] == [[48, *key] for key in top]
        assert found.melody == (72, 74, 79, 81)

    def test_a_score_without_soprano_is_named(self, tmp_path):
        part = music21.converter.parse("tinyNotation: 4/4 c1")
        path = part.write("musicxml", tmp_path / "horn.musicxml")
        with pytest.raises(DataError, match=r"horn\.musicxml has no part called Soprano"):
            chorales.cut(Path(path))

    def test_melodies_are_the_same_by_title_by_run_and_by_way_of_others(self):
        generator = np.random.default_rng(0)
        one, two = generator.integers(60, 80, (2, 30)).tolist()
        transposed = [40, *(pitch + 3 for pitch in one[10:])]
        found = chorales.melodies(
            [
                chorale("a", one, "Herr Christ"),
                chorale("b", transposed),
                chorale("c", two, "Wär' Gott"),
                chorale("d", generator.integers(60, 80, 30).tolist(), "WAR GOTT!"),
                chorale("e", one[:12]),
                chorale("f", transposed[:2] + two[5:], "Nun ruhen"),
                chorale("g", [60, 62]),
            ]
        )
        assert found == ["a", "a", "c", "c", "e", "c", "g"]

    def test_silent_and_repeated_rolls_are_left_out(self):
        mostly_silent = np.zeros((8, 88), np.uint8)
        mostly_silent[:5, 40] = 1
        few_rests = np.zeros((8, 88), np.uint8)
        few_rests[:6, 40] = 1
        kept = chorales._select(
            [
                chorale("a", roll=few_rests),
                chorale("b", roll=mostly_silent),
                chorale("c", roll=few_rests.copy()),
                chorale("d"),
            ]
        )
        assert [each.name for each in kept] == ["a", "d"]

    @pytest.fixture
    def few_scores(self, monkeypatch):
        """Let the corpus have three scores, cut in this process; returns the list of those cut."""
        paths, cuts = chorales.scores()[:3], []

        def cut_all(paths):
            cuts.extend(paths)
            return [chorales.cut(path) for path in paths]

        monkeypatch.setattr(chorales, "scores", lambda: paths)
        monkeypatch.setattr(chorales, "_cut_all", cut_all)
        return cuts

    def test_the_cache_is_used_and_a_damaged_one_is_made_again(self, few_scores, tmp_path):
        cut = chorales.read(tmp_path)
        (path,) = tmp_path.iterdir()
        assert music21.__version__ in path.name
        assert same(chorales.read(tmp_path), cut)
        assert len(few_scores) == 3
        for damaged in (b"", b"damaged", path.read_bytes()[:-200], npz(frames=np.ones((3, 88), np.uint8))):
            path.write_bytes(damaged)
            assert same(chorales.read(tmp_path), cut)
            assert same(chorales._read_cache(path), cut)
        assert len(few_scores) == 15

    def test_a_folder_that_cannot_be_written_costs_only_a_warning(self, few_scores, tmp_path):
        (tmp_path / "file").write_bytes(b"")
        with pytest.warns(UserWarning, match="cannot be kept"):
            assert len(chorales.read(tmp_path / "file")) == 3

    def test_without_music21_the_error_says_what_to_install(self, monkeypatch, tmp_path):
        monkeypatch.setitem(sys.modules, "music21", None)
        with pytest.raises(DataError, match=r'pip install "lstmjax\[experiments\]"'):
            chorales.load(tmp_path)

    @pytest.mark.full
    def test_the_split_is_as_documented_and_has_no_melody_on_two_sides(self):
        """Uses the user's own cache, which it fills the first time (half a minute on one core)."""
        found = chorales.read()
        splits = chorales.split(found)
        assert sizes(splits) == CHORALES, "another version of music21's corpus? see the docstring"
        named = {each.roll.tobytes(): each for each in found}
        parts = [[named[roll.tobytes()] for roll in part] for part in splits]
        assert sum(map(len, parts)) == len(found) == len({each.name for each in found})
        for one, other in combinations(parts, 2):
            assert not {each.title for each in one if each.title} & {each.title for each in other}
            assert not runs(one) & runs(other)


class TestTranslations:
    @pytest.mark.parametrize(
        ("name", "sizes", "languages"),
        [
            ("multi30k", (29_000, 1_014, 1_000), {"en", "de", "fr"}),
            ("multi30k-2017", (29_000, 1_014, 1_000), {"en", "de", "fr"}),
            ("tatoeba-spa", (138_105, 1_399, 1_364), {"en", "es"}),
            ("tatoeba-fra", (139_831, 1_458, 1_498), {"en", "fr"}),
        ],
    )
    def test_the_sets_are_as_documented(self, name, sizes, languages, real_data):
        splits = datasets.load(name, real_data)
        assert tuple(map(len, splits)) == sizes
        for part in splits:
            assert all(set(sentence) == languages and all(sentence.values()) for sentence in part)
        if name.startswith("tatoeba"):
            english = [{sentence["en"] for sentence in part} for part in splits]
            assert not any(one & other for one, other in combinations(english, 2))

    def test_lines_of_multi30k_belong_together(self, real_data):
        first = datasets.load("multi30k", real_data).train[0]
        assert first["en"].startswith("Two young, White males")
        assert first["de"].startswith("Zwei junge weiße Männer")
        assert first["fr"].startswith("Deux jeunes hommes blancs")

    def test_what_is_no_pair_names_its_line(self):
        assert translations.pairs("Go.\tVa !\n", "fr", "x") == ({"en": "Go.", "fr": "Va !"},)
        for line in ("Run!", "Run!\t", "a\tb\tc"):
            with pytest.raises(DataError, match="x, line 2: not two sentences"):
                translations.pairs(f"Go.\tVa !\n{line}\n", "fr", "x")

    def test_an_unknown_set_is_named(self):
        with pytest.raises(DataError, match="Did you mean 'multi30k'"):
            translations.load("multi-30k")


def runs(part):
    """All runs of twelve intervals in the melodies of one part of the split."""
    found = set()
    for each in part:
        intervals = [after - before for before, after in pairwise(each.melody)]
        found |= set(zip(*(intervals[start:] for start in range(12)), strict=False))
    return found


def same(some, others):
    return len(some) == len(others) and all(
        one[:2] == other[:2] and np.array_equal(one.roll, other.roll) and one.melody == other.melody
        for one, other in zip(some, others, strict=True)
    )


def npz(**columns):
    stream = io.BytesIO()
    np.savez(stream, **columns)
    return stream.getvalue()


def test_workers_end_with_their_parent_however_it_dies(tmp_path):
    code = """
import os, sys, time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from experiments.datasets import chorales
if __name__ == "__main__":
    with ProcessPoolExecutor(2, get_context("spawn"), initializer=chorales._end_with_parent) as pool:
        print(*{pool.submit(os.getpid).result() for _ in range(2)}, flush=True)
        time.sleep(60)
"""
    script = tmp_path / "pool.py"
    script.write_text(code)
    process = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
    workers = [int(word) for word in process.stdout.readline().split()]
    assert workers
    process.kill()
    process.wait()
    for _ in range(200):
        if not any(Path(f"/proc/{worker}").exists() for worker in workers):
            break
        time.sleep(0.05)
    else:
        raise AssertionError("a worker outlives its parent")
