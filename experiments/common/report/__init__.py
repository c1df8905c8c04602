"""One page of all results, from what is kept in `experiments/results` and from the runs at hand.

The page is static: it needs no server, no network and no script. The files that it shows lie beside it.
"""

import io
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import jinja2
from markdown_it import MarkdownIt
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.figure import Figure

from experiments.common import artifacts
from experiments.common.artifacts import Curves
from experiments.common.experiment import Experiment
from experiments.common.tables import Row, by_label, minutes, seeds
from lstmjax.training.record import Record, RecordError, Run, load_records, record_of, same_run

CURVES = 3
"""The most pictures of learning curves of an experiment, each of one metric."""

LEGEND = 12
"""The most curves that have a legend."""


class File(NamedTuple):
    """A picture, sound or text."""

    title: str
    kind: str
    link: str
    """Its place relative to the page."""
    text: str
    """What a text says."""


class Card(NamedTuple):
    """What the page shows of an experiment."""

    name: str
    summary: str
    rows: Sequence[Row]
    table: Markup
    """A table of its own, where it has one."""
    curves: Sequence[Markup]
    """Pictures of learning curves, SVG."""
    files: Sequence[File]
    commands: Sequence[str]
    page: Markup
    """The whole results page."""


def build(experiments: Mapping[str, Experiment], results: Path, runs: Path, out: Path) -> Path:
    """Write the page and its files.

    Args:
      experiments: the experiments, by name.
      results: the folder of all records.
      runs: the parent folder of run folders; it need not exist.
      out: the folder to write, which is replaced if it holds such a page.

    Returns:
      The page.

    Raises:
      RecordError: ``out`` holds something else.
    """
    page = out / "index.html"
    if out.exists() and any(out.iterdir()):
        if not page.is_file():
            raise RecordError(f"{out} is not empty and holds no report: choose another folder.")
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    cards = [_card(name, experiment, results, runs, out) for name, experiment in experiments.items()]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True
    )
    environment.filters |= {"seeds": seeds, "minutes": minutes, "devices": _devices}
    page.write_text(environment.get_template("page.html").render(cards=cards), "utf-8")
    return page


def _card(name: str, experiment: Experiment, results: Path, runs: Path, out: Path) -> Card:
    records = load_records(results, name)
    at_hand = _runs_of(records, runs / name)
    curves = {
        f"{record.label}, seed {record.seed}": artifacts.curves_of(at_hand[record.file])
        if record.file in at_hand
        else artifacts.read_curves(record, results)
        for record in records
    }
    folders = {results / name / "pictures": out / name / "pictures"}
    folders |= {run.path: out / name / file.stem for file, run in at_hand.items()}
    return Card(
        name,
        experiment.description.splitlines()[0],
        experiment.page.rows(records),
        _as_html("" if experiment.page.readme is None else experiment.page.readme(records), name),
        draw_curves({title: each for title, each in curves.items() if each}),
        [file for source, target in folders.items() for file in _copy(source, target, out)],
        [chosen[0].command for chosen in by_label(records).values()],
        _as_html(experiment.page.text(records), name),
    )


def _runs_of(records: Iterable[Record], folder: Path) -> dict[Path, Run]:
    """Of the records, by their files, the runs that they were made from and that are at hand."""
    finished = [Run.open(path.parent) for path in sorted(folder.glob("*/summary.json"))]
    return {
        record.file: run
        for record in records
        for run in finished
        if same_run(record, record_of(run.path, record.label))
    }


def _devices(records: Iterable[Record]) -> str:
    return ", ".join(dict.fromkeys(record.device for record in records))


def _copy(source: Path, target: Path, out: Path) -> list[File]:
    """Copy the pictures, sounds and texts of a folder; those of a run are not in folders of their own."""
    files = []
    for path in artifacts.files_in(source):
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
        title = " / ".join(path.relative_to(source).with_suffix("").parts).replace("_", " ").replace("-", " ")
        kind = artifacts.kind_of(path)
        text = path.read_text("utf-8", errors="replace") if kind == "text" else ""
        files.append(File(title, kind, quote(place.relative_to(out).as_posix()), text))
    return files


def draw_curves(curves: Mapping[str, Curves]) -> list[Markup]:
    """Pictures of the learning curves of several runs, one of each metric, as SVG with the fonts of the page.

    Args:
      curves: for the title of each run, its curves.
    """
    counts = Counter(metric for each in curves.values() for metric in each)
    return [_draw(metric, curves) for metric, _ in counts.most_common(CURVES)]


def _draw(metric: str, curves: Mapping[str, Curves]) -> Markup:
    figure = Figure(figsize=(5.5, 3.4), layout="constrained")
    axes = figure.subplots()
    for title, each in curves.items():
        if metric in each:
            axes.plot(*zip(*each[metric], strict=True), linewidth=1.2, label=title)
    axes.set(xlabel="training step", ylabel=metric)
    axes.grid(alpha=0.3)
    if len(axes.lines) <= LEGEND:
        axes.legend(fontsize=7)
    text = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": metric}):
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    return Markup(text.getvalue()[text.getvalue().index("<svg") :])


def _as_html(text: str, name: str) -> Markup:
    """A results page as HTML: pictures where they were copied to, links to the repository as text."""
    reader = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = reader.parse(text)
    for token in (child for each in tokens for child in each.children or ()):
        if token.type == "image":
            token.attrSet("src", f"{name}/{token.attrGet('src')}")
            token.attrSet("loading", "lazy")
        if token.type == "link_open" and "://" not in str(token.attrGet("href")):
            del token.attrs["href"]
    return Markup(reader.renderer.render(tokens, reader.options, {}))
