"""What a run has, in a terminal: its figures, learning curves and samples; several runs beside each other."""

import io
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import plotext
from rich.console import Console
from rich.table import Table

from experiments.common import artifacts
from experiments.common.command_line import flat
from experiments.datasets.files import DataError, read_bytes
from lstmjax.training.record import RecordError, Run

console = Console()


def lines_of(file: Path | None) -> Iterator[str]:
    """Lines of a text file, or, for None or a hyphen, of standard input as they arrive; without their ends.

    Bytes of standard input that are no UTF-8 become the replacement character.

    Raises:
      DataError: the file cannot be read or is no UTF-8 text, or standard input is closed.
    """
    if file is None or file == Path("-"):
        if sys.stdin is None or sys.stdin.closed:
            raise DataError("standard input is closed: give lines there, or a file.")
        for line in sys.stdin.buffer:
            yield line.decode("utf-8", errors="replace").rstrip("\r\n")
        return
    content = read_bytes(file)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is no UTF-8 text: {error}. If it is packed, unpack it.") from error
    for line in io.StringIO(text, newline=None):
        yield line.rstrip("\n")


def show(run: Run) -> list[Path]:
    """Print figures, learning curves and texts of a run, and the names of its pictures and sounds.

    Returns:
      The pictures and sounds.
    """
    console.print(
        f"{run.path}: seed {run.seed}, {'finished' if run.finished else 'not finished'}", markup=False
    )
    console.print(run.command, markup=False, soft_wrap=True)
    _figures([run])
    for metric in list(artifacts.curves_of(run))[:2]:
        _plot(metric, {"": artifacts.curves_of(run)[metric]})
    files = artifacts.files_in(run.path)
    for path in files:
        if artifacts.kind_of(path) == "text":
            console.rule(path.name)
            console.print(path.read_text("utf-8", errors="replace"), markup=False, highlight=False)
    others = [path for path in files if artifacts.kind_of(path) != "text"]
    for path in others:
        console.print(path, markup=False, soft_wrap=True)
    return others


def compare(runs: Sequence[Run], metric: str | None) -> None:
    """Print the curves of a metric of several runs, their figures, and how their configs differ.

    Raises:
      RecordError: there are fewer than two runs, or they have not all logged the metric.
    """
    if len(runs) < 2:
        raise RecordError("compare takes at least two runs.")
    curves = {run.path.name: artifacts.curves_of(run) for run in runs}
    common = [name for name in next(iter(curves.values())) if all(name in each for each in curves.values())]
    if metric is not None and metric not in common:
        raise RecordError(
            f"not all of these runs have logged {metric}; all have {', '.join(common) or 'none'}."
        )
    if common:
        chosen = metric or common[0]
        _plot(chosen, {name: each[chosen] for name, each in curves.items()})
    _figures(runs)
    _differences(runs)


def _plot(metric: str, curves: Mapping[str, Sequence[tuple[int, float]]]) -> None:
    plotext.clear_figure()
    plotext.theme("clear")
    plotext.plotsize(min(console.width, 100), 18)
    for title, points in curves.items():
        steps, values = zip(*points, strict=True)
        plotext.plot(list(steps), list(values), label=title or None)
    plotext.title(metric)
    plotext.xlabel("training step")
    print(plotext.uncolorize(plotext.build()))


def _figures(runs: Sequence[Run]) -> None:
    figures = [run.figures() if run.finished else {} for run in runs]
    names = dict.fromkeys(name for each in figures for name in each)
    _table("metric", runs, {n: [f"{each[n]:.5g}" if n in each else "" for each in figures] for n in names})


def _differences(runs: Sequence[Run]) -> None:
    configs = [dict(flat(run.config)) for run in runs]
    names = dict.fromkeys(name for each in configs for name in each)
    values = {name: [str(each.get(name, "")) for each in configs] for name in names}
    _table("flag", runs, {name: each for name, each in values.items() if len(set(each)) > 1})


def _table(first: str, runs: Sequence[Run], rows: Mapping[str, Sequence[str]]) -> None:
    if not rows:
        return
    table = Table(first, *(run.path.name for run in runs))
    for name, values in rows.items():
        table.add_row(name, *values)
    console.print(table, markup=False)
