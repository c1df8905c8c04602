"""What is kept of a run beside its record: learning curves, pictures, sounds and texts.

Learning curves are in ``experiments/results/<experiment>/curves/<label>-seed<N>.csv``, a column for each
metric of the validation set, or of the training batches where there is none; pictures, sounds and texts are
in ``pictures/<label>`` beside it.
"""

import csv
import shutil
from collections.abc import Sequence
from pathlib import Path

import soundfile

from lstmjax.training.record import Record, Run

KINDS = {
    "picture": (".png", ".svg", ".gif", ".jpg"),
    "sound": (".wav", ".ogg", ".flac", ".mp3"),
    "text": (".txt",),
}
"""The suffixes of the files that a page can show."""

LARGEST = 300_000
"""Files with more bytes are not kept."""

POINTS = 100
"""Curves with more points are thinned to about as many."""

Curves = dict[str, list[tuple[int, float]]]
"""For each metric, its steps and values."""


def curves_of(run: Run) -> Curves:
    """The metrics that a run logged: those of the validation set, or else those of the training batches."""
    curves: Curves = {}
    for entry in run.metrics("valid") or run.metrics("train"):
        for metric, value in entry.metrics.items():
            curves.setdefault(metric, []).append((entry.step, value))
    return {metric: _thinned(points) for metric, points in curves.items()}


def _thinned(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    every = -(-len(points) // POINTS)
    return list(points[(len(points) - 1) % every :: every])  # the last one is kept


def keep_curves(run: Run, record: Record, results: Path) -> Path | None:
    """Write the learning curves of a run beside its record; None if the run logged nothing."""
    curves = curves_of(run)
    if not curves:
        return None
    path = _curves_path(record, results)
    path.parent.mkdir(parents=True, exist_ok=True)
    values = {metric: dict(points) for metric, points in curves.items()}
    with open(path, "w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["step", *values])
        for step in sorted({step for points in values.values() for step in points}):
            rows.writerow(
                [step, *(f"{points[step]:.6g}" if step in points else "" for points in values.values())]
            )
    return path


def read_curves(record: Record, results: Path) -> Curves:
    """The learning curves that are kept with a record; empty if there are none."""
    path = _curves_path(record, results)
    if not path.is_file():
        return {}
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {
        metric: [(int(row["step"]), float(row[metric])) for row in rows if row[metric]]
        for metric in (rows[0] if rows else ())
        if metric != "step"
    }


def _curves_path(record: Record, results: Path) -> Path:
    return results / record.experiment / "curves" / record.file.with_suffix(".csv").name


def keep_files(source: Path, record: Record, results: Path) -> list[Path]:
    """Copy pictures, sounds and texts of a folder, unless too large; they replace those of the label.

    Uncompressed sounds are kept as Ogg Vorbis.
    """
    folder = results / record.experiment / "pictures" / record.label
    shutil.rmtree(folder, ignore_errors=True)
    for path in files_in(source, deep=False):
        folder.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".wav":
            soundfile.write(folder / path.with_suffix(".ogg").name, *soundfile.read(path))
        elif path.stat().st_size <= LARGEST:
            shutil.copyfile(path, folder / path.name)
    return files_in(folder)


def files_in(folder: Path, deep: bool = True) -> list[Path]:
    """The pictures, sounds and texts in a folder, in order of their names; curves are drawn from numbers."""
    suffixes = {suffix for each in KINDS.values() for suffix in each}
    found = [path for path in (folder.rglob if deep else folder.glob)("*") if path.suffix in suffixes]
    return sorted(path for path in found if path.is_file() and not path.stem.startswith("learning_curves"))


def kind_of(path: Path) -> str:
    """Whether a file is a picture, a sound or a text."""
    return next(kind for kind, suffixes in KINDS.items() if path.suffix in suffixes)
