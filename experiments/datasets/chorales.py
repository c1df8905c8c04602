"""The four-part chorales of J. S. Bach that come with the package `music21`, as piano rolls.

Source: the folder `bach` of the corpus of https://www.music21.org, all of its chorales and not only
the 371 of Riemenschneider's edition. Licence: the music is in the public domain; the encodings (most
of them by Margaret Greentree, 2004) are distributed with music21 by permission, and some encodings
of its corpus are not for commercial use. Nothing is downloaded.

Frames. One every eighth note from the beginning of the score, a pickup included: the keys that sound
at that instant in the written voices soprano, alto, tenor and bass (`piano_rolls.PianoRoll`: uint8
[time, 88], key 0 is A0), at sounding pitch and in the original key, so from C2 to A5 only. Tied,
held and repeated notes look the same; a fermata lasts as long as it is written; repeats are not
expanded; grace notes, and notes that begin and end between two frames (1,222 of 95,718), are lost.
Instruments that double or accompany the choir are left out; five-part settings keep both sopranos.

Of the 409 scores, 8 are left out: 5 in which the choir is silent for over a quarter of the time
(choruses with orchestral interludes), and 3 whose roll is identical to another.

Split. By melody, not by chorale: Bach set many hymn tunes more than once. Two chorales have the same
melody if they have the same title, or if their sopranos share a run of 12 intervals from beat to
beat, in any key; the relation is transitive. The melodies are assigned in the order of a hash of
their first chorale's name, to the training split until it has 70% of the chorales, and then to the
validation split until both have 85%. With music21 9.3 to 10.5 this gives:

    split   melodies  chorales  frames  shortest  longest  silent frames
    train        136       281  31,876        64      330            336
    valid         27        60   6,192        48      386             52
    test          35        60   6,524        64      224             76
"""

import contextlib
import hashlib
import os
import re
import threading
import unicodedata
import warnings
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from math import ceil
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import track

from experiments.datasets import Splits
from experiments.datasets.arrays import bounds_of, check_arrays, read_arrays
from experiments.datasets.files import DataError, atomic_write, cache_folder, read_bytes, reading
from experiments.datasets.piano_rolls import KEYS, LOWEST_PITCH, PianoRoll, as_piano_roll

FRAME_QUARTERS = 0.5  # an eighth note, in quarter notes
FORMAT = 1  # of the cache; increment it when the same score would give other frames

_VOICES = ("Soprano", "Alto", "Tenor", "Bass")
_SHARED_RUN = 12  # consecutive intervals that two chorales of one melody share
_LIMITS = (0.70, 0.85)  # fractions of the chorales at which the validation and the test split begin
_MOST_SILENCE = 0.25  # fraction of the frames; concerted movements have 0.44 and more, chorales at most 0.15
_LONGEST = 10_000  # quarter notes of a score


class Chorale(NamedTuple):
    """One chorale, converted from its score."""

    name: str  # of the score's file, such as "bwv269"
    title: str  # of the hymn; empty if music21 does not list it
    roll: PianoRoll  # uint8 [time, 88]
    melody: tuple[int, ...]  # the soprano's notes on the beats, as MIDI numbers


def load(cache_dir: str | Path | None = None) -> Splits[PianoRoll]:
    """Load the chorales, each uint8 [time, 88], split so that no melody is in two splits.

    The first call converts the scores, on all cores in separate processes (a script that calls it
    needs `if __name__ == "__main__"`), and caches the result in `cache_dir` (default: the folder
    `chorales` of `files.cache_folder()`).

    Raises:
        DataError: music21 is missing.
    """
    return split(read(cache_dir))


def read(cache_dir: str | Path | None = None) -> tuple[Chorale, ...]:
    """Return all chorales in the order of their names, from the cache if it is present and intact."""
    music21 = _music21()
    folder = Path(cache_dir) if cache_dir else cache_folder() / "chorales"
    path = folder / f"chorales-v{FORMAT}-music21-{music21.__version__}.npz"
    with contextlib.suppress(DataError):
        return _read_cache(path)
    chorales = _select(_cut_all(scores()))
    _write_cache(path, chorales)
    return chorales


def split(chorales: Sequence[Chorale]) -> Splits[PianoRoll]:
    """Divide chorales into training, validation and test split by their melodies."""
    names = melodies(chorales)
    by_melody: dict[str, list[PianoRoll]] = {name: [] for name in names}
    for name, chorale in zip(names, chorales, strict=True):
        by_melody[name].append(chorale.roll)
    parts: tuple[list[PianoRoll], ...] = ([], [], [])
    dealt = 0
    for name in sorted(by_melody, key=lambda name: hashlib.sha256(name.encode()).digest()):
        share = dealt / len(chorales)
        parts[sum(share >= limit for limit in _LIMITS)].extend(by_melody[name])
        dealt += len(by_melody[name])
    return Splits(*map(tuple, parts))


def melodies(chorales: Sequence[Chorale]) -> list[str]:
    """Return for each chorale the name of the first chorale with the same melody (see above)."""
    features = [_features(chorale) for chorale in chorales]
    having = defaultdict(list)
    for index, own in enumerate(features):
        for feature in own:
            having[feature].append(index)
    found: dict[int, str] = {}
    for first, chorale in enumerate(chorales):
        reached = [first]
        while reached:
            index = reached.pop()
            if index not in found:
                found[index] = chorale.name
                reached.extend(other for feature in features[index] for other in having[feature])
    return [found[index] for index in range(len(chorales))]


def _features(chorale: Chorale) -> set[Hashable]:
    """Return the features that identify a melody: the title, and runs of the soprano's intervals."""
    intervals = [after - before for before, after in pairwise(chorale.melody)]
    starts = range(len(intervals) - _SHARED_RUN + 1)
    runs: set[Hashable] = {tuple(intervals[start : start + _SHARED_RUN]) for start in starts}
    letters = re.sub("[^a-z]", "", unicodedata.normalize("NFKD", chorale.title).casefold())
    return runs | {letters} if letters else runs


def scores() -> list[Path]:
    """Return the paths of music21's chorale scores by name, each score in one encoding."""
    paths = [Path(path) for path in _music21().corpus.getComposer("bach", fileExtensions=("xml",))]
    chorales = [path for path in paths if path.stem != "bwv846"]  # a prelude and fugue
    if not chorales:
        raise DataError("the music21 that is installed here comes without its corpus of scores")
    return sorted(chorales, key=lambda path: path.stem)


def cut(path: Path) -> Chorale:
    """Convert one score to frames; raise `DataError` if it is damaged or no part of it is named soprano."""
    music21 = _music21()
    read_bytes(path)  # a pipe would never end
    with reading(path, Exception):  # music21 has no error of its own for what is no score
        return _cut(music21.converter.parse(path, forceSource=True), path)  # past music21's pickled cache


def _cut(score: Any, path: Path) -> Chorale:
    score.toSoundingPitch(inPlace=True)
    voices = [(voice, part.flatten()) for part in score.parts if (voice := _voice(part))]
    soprano = next((part for voice, part in voices if voice == "Soprano"), None)
    if soprano is None:
        raise DataError(f"{path} has no part called Soprano")
    end = max(part.highestTime for _, part in voices)
    if not 0 < end <= _LONGEST:
        raise DataError(f"{path} has {end} quarter notes, not up to {_LONGEST}")
    roll = np.zeros((ceil(end / FRAME_QUARTERS), KEYS), np.uint8)
    for _, part in voices:
        for note in part.notes:
            frames = _grid(note, FRAME_QUARTERS)
            roll[frames.start : frames.stop, [p.midi - LOWEST_PITCH for p in note.pitches]] = 1
    melody = tuple(n.pitches[-1].midi for n in soprano.stripTies().notes if _grid(n, 1.0))
    return Chorale(path.stem, _title(path.stem), roll, melody)


def _voice(part: Any) -> str | None:
    """Return the choir voice of a part, by its name, or None for an instrument."""
    words = (part.partName or "").split()
    return words[0] if words and words[0] in _VOICES else None


def _grid(note: Any, step: float) -> range:
    """Return the positions of a grid, `step` quarter notes apart, at which the note sounds."""
    return range(ceil(note.offset / step), ceil((note.offset + note.quarterLength) / step))


def _title(name: str) -> str:
    listed = _music21().corpus.chorales.ChoraleListRKBWV().byBWV
    return listed.get(name.removeprefix("bwv"), {}).get("title", "")


def _music21() -> Any:
    try:
        import music21  # noqa: PLC0415
    except ImportError as error:
        raise DataError('music21 is missing: pip install "lstmjax[experiments]"') from error
    return music21


def _cut_all(paths: Sequence[Path]) -> list[Chorale]:
    """Convert scores in spawned processes: a fork could deadlock on the threads of JAX."""
    workers = min(8, os.cpu_count() or 1)
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=_end_with_parent) as pool:
        cuts = pool.map(cut, paths, chunksize=8)
        progress = track(cuts, "cutting Bach chorales", total=len(paths), console=Console(stderr=True))
        return list(progress)


def _end_with_parent() -> None:
    """End this process when the one that started it does, however that ends."""

    def watch() -> None:
        parent = parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _select(chorales: Iterable[Chorale]) -> tuple[Chorale, ...]:
    """Leave out chorales that are mostly silent, and duplicate rolls."""
    by_roll: dict[bytes, Chorale] = {}
    for chorale in chorales:
        silence = 1 - chorale.roll.any(axis=1).mean()
        if silence <= _MOST_SILENCE:
            by_roll.setdefault(chorale.roll.tobytes(), chorale)
    return tuple(by_roll.values())


def _write_cache(path: Path, chorales: Sequence[Chorale]) -> None:
    try:
        with atomic_write(path) as stream:
            np.savez_compressed(
                stream,
                names=np.array([chorale.name for chorale in chorales]),
                titles=np.array([chorale.title for chorale in chorales]),
                frames=np.concatenate([chorale.roll for chorale in chorales]),
                frame_counts=np.array([len(chorale.roll) for chorale in chorales]),
                melodies=np.concatenate([chorale.melody for chorale in chorales]),
                melody_counts=np.array([len(chorale.melody) for chorale in chorales]),
            )
    except OSError as error:
        warnings.warn(f"the cut chorales cannot be kept in {path}: {error}", stacklevel=3)


def _read_cache(path: Path) -> tuple[Chorale, ...]:
    columns = read_arrays(path)
    check_arrays(
        columns,
        {
            **{"names": ("U", 1), "titles": ("U", 1), "frames": ("u", 2), "melodies": ("i", 1)},
            **{"frame_counts": ("i", 1), "melody_counts": ("i", 1)},
        },
        str(path),
    )
    frames, melodies = as_piano_roll(columns["frames"], f"{path}: frames"), columns["melodies"]
    if ((melodies < LOWEST_PITCH) | (melodies >= LOWEST_PITCH + KEYS)).any():
        raise DataError(f"{path}: a note of a melody is no key of a piano")
    pieces = [
        np.split(
            values, bounds_of(np.append(0, np.cumsum(columns[counts])), len(values), f"{path}: {counts}")
        )
        for values, counts in ((frames, "frame_counts"), (melodies, "melody_counts"))
    ]
    names, titles = columns["names"].tolist(), columns["titles"].tolist()
    rolls, runs = (each[1:-1] for each in pieces)
    if not len(names) == len(titles) == len(rolls) == len(runs):
        raise DataError(f"{path} has not as many names, titles, rolls and melodies")
    return tuple(
        Chorale(name, title, roll, tuple(melody.tolist()))
        for name, title, roll, melody in zip(names, titles, rolls, runs, strict=True)
    )
