"""The page of all results: built from what is kept, without a server, and with nothing missing."""

import dataclasses
import html
import re
import shutil
from html.parser import HTMLParser
from urllib.parse import unquote

import numpy as np
import pytest
import soundfile
from PIL import Image

from experiments import __main__ as program
from experiments import commands
from experiments.common import artifacts, command_line, models, pages, report
from experiments.common.experiment import Experiment, Page
from experiments.common.tables import Row
from lstmjax.training.record import Run, load_records

CHROMIUM = shutil.which("chromium")
NOTE = """# Adding

A <b>page</b>, [a file](../x.py), [a paper](https://arxiv.org/abs/1)

![a picture](pictures/drawn.png)
"""
EXPERIMENT = Experiment(
    "Adding: two numbers & their sum.\n\nMore.",
    command_line.CommonConfig,
    lambda config, run: None,
    Page(
        lambda records: NOTE, lambda records: [Row("T < 100", "lstm", "nats", "LSTM 1.00", "0.50", records)]
    ),
)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A finished run with curves, a picture, a sound and a sample, beside a folder of results."""
    monkeypatch.setattr(models, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(pages, "check_commits", lambda records: None)
    monkeypatch.setattr(program, "EXPERIMENTS", {"adding": "the sum"})
    monkeypatch.setattr(program, "load", {"adding": EXPERIMENT}.__getitem__)
    config = dataclasses.asdict(command_line.CommonConfig())
    run = Run.create(tmp_path / "runs", "adding", config, seed=1, command="python -m experiments adding")
    for step in range(1, 121):
        run.log(step, {"loss": 1 / step})
        run.log(step, {"nll": 2 / step, **({"accuracy": 0.5} if step % 40 == 0 else {})}, kind="valid")
    Image.new("RGB", (20, 10), "red").save(run.path / "gates and cells.png")
    Image.new("RGB", (20, 10), "red").save(run.path / "learning_curves.png")
    soundfile.write(run.path / "sample.wav", np.sin(np.arange(4000) / 10), 8000)
    (run.path / "sample-1.txt").write_text("to be <or> not\n", "utf-8")
    run.finish({"test_nll": 0.5})
    return run


def record(run, *flags):
    assert program.main(["record", str(run.path), "--label", "lstm", *flags]) == 0
    (kept,) = load_records(models.RESULTS)
    return kept


def test_curves_are_kept_with_a_record_and_thinned_to_their_last_point(run):
    curves = artifacts.read_curves(record(run), models.RESULTS)
    assert list(curves) == ["nll", "accuracy"]
    steps, values = zip(*curves["nll"], strict=True)
    assert len(steps) <= artifacts.POINTS
    assert steps[-1] == 120
    np.testing.assert_allclose(values, 2 / np.array(steps), rtol=1e-5)
    assert curves["accuracy"] == [(step, 0.5) for step in (40, 80, 120)]


def test_pictures_are_kept_where_that_is_asked_for(run, monkeypatch):
    folder = models.RESULTS / "adding" / "pictures" / "lstm"
    kept = record(run)
    assert not folder.exists()
    monkeypatch.setattr(artifacts, "LARGEST", 50)
    record(run, "--keep-pictures")
    assert sorted(path.name for path in folder.iterdir()) == ["sample-1.txt", "sample.ogg"], (
        "the rest is large"
    )
    (run.path / "sample-1.txt").unlink()
    artifacts.keep_files(run.path, kept, models.RESULTS)
    assert [path.name for path in folder.iterdir()] == ["sample.ogg"]
    sound, rate = soundfile.read(folder / "sample.ogg")
    assert (len(sound), rate) == (4000, 8000)


def test_what_a_model_generates_is_kept_with_its_label(run, tmp_path, capsys):
    record(run)
    (tmp_path / "written").mkdir()
    (tmp_path / "written" / "letter.txt").write_text("dear all")
    assert program.main(["keep", "adding", "lstm", str(tmp_path / "written")]) == 0
    assert (models.RESULTS / "adding" / "pictures" / "lstm" / "letter.txt").read_text() == "dear all"
    assert program.main(["keep", "adding", "gru", str(tmp_path / "written")]) == 1
    assert "no record with the label gru" in capsys.readouterr().err
    assert program.main(["keep", "adding", "lstm", str(tmp_path / "missing")]) == 1
    assert "no pictures" in capsys.readouterr().err


def test_the_commands_are_those_that_are_listed():
    assert tuple(commands.COMMANDS) == program.COMMANDS
    for name in program.COMMANDS:
        assert f"python -m experiments {name}" in program.__doc__


class Links(HTMLParser):
    """The addresses of a page, of what it shows and of what it leads to."""

    def __init__(self, text):
        super().__init__()
        self.found: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found += [value for name, value in attrs if name in ("src", "href")]


def written(run, *flags):
    out = run.path.parent.parent.parent / "page"
    command = ["report", "--out", str(out), "--runs", str(run.path.parent.parent), *flags]
    assert program.main(command) == 0
    return out / "index.html"


@pytest.mark.parametrize("at_hand", [True, False])
def test_the_page_shows_what_is_kept_and_what_a_run_at_hand_has(run, at_hand):
    record(run, "--keep-pictures")
    drawn = models.RESULTS / "adding" / "pictures" / "drawn.png"
    Image.new("RGB", (20, 10), "blue").save(drawn)
    if not at_hand:
        (run.path / "summary.json").unlink()
    page = written(run)
    text = page.read_text("utf-8")
    for shown in ("two numbers &amp; their sum", "T &lt; 100", "LSTM 1.00", "to be &lt;or&gt; not", "nll"):
        assert shown in text
    assert text.count("<svg") == 2, "a picture of each metric"
    assert "<b>page" not in text
    assert "../x.py" not in text
    links = [link for link in Links(text).found if not link.startswith(("#", "data:", "https://arxiv.org"))]
    assert {unquote(link) for link in links} >= {
        "adding/pictures/drawn.png",
        "adding/pictures/lstm/gates and cells.png",
        "adding/pictures/lstm/sample.ogg",
    }
    assert ("adding/lstm-seed1/sample.wav" in links) == at_hand
    for link in links:
        assert (page.parent / unquote(link)).stat().st_size > 0


def test_the_page_of_the_records_at_hand_names_each_of_them(tmp_path):
    experiments = {name: program.load(name) for name in program.EXPERIMENTS}
    text = report.build(experiments, models.RESULTS, tmp_path / "runs", tmp_path / "page").read_text("utf-8")
    for name, experiment in experiments.items():
        assert f'id="{name}"' in text
        for row in experiment.page.rows(load_records(models.RESULTS, name)):
            assert html.escape(row.ours) in text
    assert "<script" not in text
    assert not re.search(r'(src|href)="(http|//)[^"]*\.(js|css|woff2?)"', text)


def test_a_folder_of_something_else_is_not_replaced(run, tmp_path, capsys):
    record(run)
    page = written(run)
    assert written(run) == page, "a page is replaced"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("years of work")
    assert program.main(["report", "--out", str(tmp_path / "other")]) == 1
    assert "choose another folder" in capsys.readouterr().err
    assert (tmp_path / "other" / "thesis.tex").read_text() == "years of work"


def test_show_prints_figures_curves_and_samples(run, capsys):
    assert program.main(["show", str(run.path)]) == 0
    text = capsys.readouterr().out
    for shown in ("test_nll", "0.5", "training step", "to be <or> not", "gates and cells.png"):
        assert shown in text


def test_compare_prints_what_differs(run, tmp_path, capsys):
    config = dataclasses.asdict(command_line.CommonConfig())
    config["train"]["learning_rate"] = 0.125
    other = Run.create(tmp_path / "runs", "adding", config, seed=1, command="again")
    other.log(1, {"nll": 3.0, "loss": 1.0}, kind="valid")
    assert program.main(["compare", str(run.path), str(other.path)]) == 0
    text = capsys.readouterr().out
    assert re.search(r"train.learning-rate[^\n]*0.125", text)
    assert "train.steps" not in text
    assert program.main(["compare", str(run.path), str(other.path), "--metric", "accuracy"]) == 1
    assert "all have nll" in capsys.readouterr().err
    assert program.main(["compare", str(run.path)]) == 1
    assert "at least two" in capsys.readouterr().err


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium: install Debian's package chromium")
@pytest.mark.parametrize("width", [390, 1400])
def test_a_browser_loads_all_of_it_without_a_server(run, width):
    playwright = pytest.importorskip("playwright.sync_api", reason="the extra `browser` is not installed")
    record(run, "--keep-pictures")
    Image.new("RGB", (20, 10), "blue").save(models.RESULTS / "adding" / "pictures" / "drawn.png")
    page_file = written(run)
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 900})
        messages: list[str] = []
        page.on("console", lambda message: messages.append(message.text))
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.on("requestfailed", lambda request: messages.append(request.url))
        page.goto(page_file.resolve().as_uri())
        page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
        page.evaluate("document.querySelectorAll('img').forEach(each => each.loading = 'eager')")
        page.wait_for_load_state("networkidle")
        images = page.evaluate(
            "Promise.all([...document.images].map(each => each.decode().then(() => each.naturalWidth)))"
        )
        seconds = page.evaluate(
            """
            Promise.all([...document.querySelectorAll('audio')].map(each => new Promise((loaded, failed) => {
                each.onloadedmetadata = () => loaded(each.duration);
                each.onerror = () => failed(each.src);
                each.load();
            })))
            """
        )
        wide = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
        browser.close()
    assert messages == []
    assert images == [20] * 4
    assert seconds == pytest.approx([0.5, 0.5], abs=0.05)
    assert wide[0] <= wide[1], "nothing is cut off"
