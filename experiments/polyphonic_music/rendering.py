"""Rendering of piano rolls as audio, MIDI and images: WAV, MIDI and PNG.

All functions take rolls [time, 88] of zeros and ones, any dtype (see `datasets.piano_rolls`; key 0 is
A0). A key that sounds in successive frames is rendered as one held note, since a roll does not
distinguish it from a repeated one. A roll without frames or notes gives silence, or an empty image.
"""

import importlib
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from experiments.datasets.files import DataError
from experiments.datasets.piano_rolls import LOWEST_PITCH, PianoRoll, as_piano_roll

SAMPLE_RATE = 22_050  # of the audio, in samples per second
FRAME_SECONDS = 0.3  # an eighth note at 100 quarter notes a minute

_HARMONICS = 6
_ATTACK_SECONDS, _RELEASE_SECONDS, _DECAY_SECONDS = 0.01, 0.04, 1.0
_PEAK = 0.9  # of the loudest sample, 1 being full scale
_NOTE_COLOR, _LINE_COLOR = "#0072B2", "#D0D0D0"  # Okabe and Ito's blue, safe for the colour-blind


class Note(NamedTuple):
    """One held note: its MIDI number, its first frame and its number of frames."""

    pitch: int
    start: int
    length: int


def notes(roll: npt.ArrayLike) -> list[Note]:
    """Return the held notes of a roll [time, 88], sorted by pitch and then by time."""
    sounding = as_piano_roll(roll).T.astype(np.int8)
    edges = np.diff(sounding, axis=1, prepend=0, append=0)  # 1 where a note begins, -1 after it
    keys, starts = np.nonzero(edges == 1)
    _, ends = np.nonzero(edges == -1)
    return [
        Note(int(key) + LOWEST_PITCH, int(start), int(end - start))
        for key, start, end in zip(keys, starts, ends, strict=True)
    ]


def write_midi(
    roll: npt.ArrayLike,
    path: str | Path,
    *,
    frame_seconds: float = FRAME_SECONDS,
    quarter_length: float = 0.5,
) -> None:
    """Write a roll as a MIDI file in which a frame is `quarter_length` quarter notes long.

    The tempo is chosen so that a frame lasts `frame_seconds`. Silence after the last note is not written.

    Raises:
        DataError: the roll is not a piano roll, or music21 is missing.
    """
    music21 = _require("music21")
    part = music21.stream.Part()
    part.insert(0, music21.tempo.MetronomeMark(number=60 * quarter_length / frame_seconds))
    for pitch, start, length in notes(roll):
        note = music21.note.Note(pitch, quarterLength=length * quarter_length)
        part.insert(start * quarter_length, note)
    part.write("midi", fp=_with_folder(path))


def write_wav(roll: npt.ArrayLike, path: str | Path, *, frame_seconds: float = FRAME_SECONDS) -> None:
    """Write a roll as a WAV file: mono, 16 bits, 22,050 Hz, `frame_seconds` per frame.

    Raises:
        DataError: the roll is not a piano roll, or soundfile is missing.
    """
    samples = synthesize(roll, frame_seconds)
    _require("soundfile").write(_with_folder(path), samples, SAMPLE_RATE, subtype="PCM_16")


def synthesize(roll: npt.ArrayLike, frame_seconds: float = FRAME_SECONDS) -> npt.NDArray[np.float32]:
    """Return the audio of a roll, float32 [samples] within [-0.9, 0.9], 22,050 samples per second.

    A note is the sum of its first harmonics, the n-th with amplitude 1/n², with an envelope that has an
    instant attack, decays like a plucked string and is released within the note's own duration.
    """
    samples_per_frame = frame_seconds * SAMPLE_RATE
    sound = np.zeros(round(len(np.asarray(roll)) * samples_per_frame), np.float32)
    for pitch, start, length in notes(roll):
        first = round(start * samples_per_frame)
        last = round((start + length) * samples_per_frame)
        sound[first:last] += _tone(pitch, last - first)
    loudest = np.abs(sound).max(initial=0.0)
    return sound * np.float32(_PEAK / loudest) if loudest > 0 else sound


def write_picture(
    rolls: Mapping[str, npt.ArrayLike],
    path: str | Path,
    *,
    frame_seconds: float | None = None,
    columns: int = 2,
) -> None:
    """Plot rolls side by side, each under its title, with shared key and time axes.

    The image format follows from the suffix of `path`. Time is in seconds if `frame_seconds` is given,
    in frames otherwise.

    Raises:
        DataError: a roll is not a piano roll, or matplotlib is missing.
    """
    figure_module = _require("matplotlib.figure")  # not pyplot: no display and no global state
    checked = {title: as_piano_roll(roll, title) for title, roll in rolls.items()}
    columns = max(1, min(columns, len(checked)))
    rows = max(1, -(-len(checked) // columns))
    figure = figure_module.Figure(figsize=(7 * columns, 3 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    lowest, highest = _key_range(checked)
    longest = max((len(roll) for roll in checked.values()), default=0)
    seconds = frame_seconds or 1.0
    for axes, (title, roll) in zip(grid, checked.items(), strict=False):
        _draw(axes, title, roll, seconds)
        axes.set_xlabel("time (frames)" if frame_seconds is None else "time (seconds)")
    for axes in grid[len(checked) :]:
        axes.set_axis_off()
    grid[0].set_xlim(0, max(longest, 1) * seconds)
    grid[0].set_ylim(lowest - 0.5, highest + 0.5)
    figure.savefig(_with_folder(path), dpi=120)


def _tone(pitch: int, count: int) -> npt.NDArray[np.float32]:
    """Return `count` samples of a note as `synthesize` describes it."""
    frequency = 440.0 * 2.0 ** ((pitch - 69) / 12)
    time = np.arange(count) / SAMPLE_RATE
    phase = (2 * np.pi * (frequency * time % 1)).astype(np.float32)  # float32 sines are much faster
    wave = np.zeros(count, np.float32)
    for harmonic in range(1, _HARMONICS + 1):
        if harmonic * frequency < SAMPLE_RATE / 2:  # higher harmonics would alias
            wave += np.sin(harmonic * phase) / harmonic**2
    attack = np.minimum(1.0, time / _ATTACK_SECONDS)
    release = np.minimum(1.0, time[::-1] / _RELEASE_SECONDS)
    return (wave * attack * release * np.exp(-time / _DECAY_SECONDS)).astype(np.float32)


def _key_range(rolls: Mapping[str, PianoRoll]) -> tuple[int, int]:
    """Return the MIDI numbers of the lowest and the highest C that enclose all notes, or C3 to C6."""
    played = [note.pitch for roll in rolls.values() for note in notes(roll)] or [48, 84]
    return min(played) // 12 * 12, -(-max(played) // 12) * 12


def _draw(axes: Any, title: str, roll: PianoRoll, seconds: float) -> None:
    for pitch, held in groupby(notes(roll), key=lambda note: note.pitch):
        spans = [(note.start * seconds, note.length * seconds) for note in held]
        axes.broken_barh(spans, (pitch - 0.4, 0.8), facecolors=_NOTE_COLOR, linewidth=0, snap=False)
    cs = range(24, 109, 12)
    axes.set_yticks(cs, [f"C{pitch // 12 - 1}" for pitch in cs])
    axes.tick_params(labelbottom=True, labelleft=True)
    axes.grid(axis="y", color=_LINE_COLOR, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_ylabel("key")
    axes.set_title(title)


def _with_folder(path: str | Path) -> Path:
    """Return `path`, whose folder is created if it is missing."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _require(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = module.partition(".")[0]
        raise DataError(f'{name} is missing: pip install "lstmjax[experiments]"') from error
