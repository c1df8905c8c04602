"""The experiment that `docs/new-experiment.md` works out: it is run as it stands there."""

import json
import re
import sys
from pathlib import Path

import pytest

import experiments
from experiments import __main__ as program
from experiments import datasets
from experiments.common import models, pages
from lstmjax.training.record import Run, load_records

DOCUMENT = (Path(__file__).parent.parent / "docs" / "new-experiment.md").read_text("utf-8")


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The files of the document in folders that Python looks into beside the real ones, and its rows."""
    for name, code in re.findall(r"```python\n# (experiments/\S+)\n(.*?)```", DOCUMENT, re.DOTALL):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code, "utf-8")
    monkeypatch.setattr(experiments, "__path__", [*experiments.__path__, str(tmp_path / "experiments")])
    places = [*datasets.__path__, str(tmp_path / "experiments" / "datasets")]
    monkeypatch.setattr(datasets, "__path__", places)
    from experiments.datasets import pen_digits  # noqa: PLC0415

    row = re.search(r'^"pen_digits": Dataset\((.*), _pen_digits\),$', DOCUMENT, re.MULTILINE)
    title, licence, source = json.loads(f"[{row[1]}]")
    row = datasets.Dataset(title, licence, source, pen_digits.load)
    monkeypatch.setitem(datasets.DATASETS, "pen_digits", row)
    monkeypatch.setitem(program.EXPERIMENTS, "pen_digits", "which digit did the pen write?")
    monkeypatch.setattr(models, "RESULTS", tmp_path / "results")
    yield tmp_path
    for name in [name for name in sys.modules if "pen_digits" in name]:
        del sys.modules[name]


def test_the_example_runs_is_recorded_and_has_a_page(installed, real_data, capsys, monkeypatch):
    folder = ["--data-dir", str(real_data), "--runs", str(installed / "runs")]
    assert program.main(["pen_digits", "--quick", *folder, "--train.steps", "60"]) == 0
    (path,) = (installed / "runs" / "pen_digits").iterdir()
    run = Run.open(path)
    assert 0.2 < run.figures()["test_accuracy"] <= 1
    assert (path / "learning_curves.png").stat().st_size > 1000
    assert [session.tested for session in run.sessions()] == [True]
    assert program.main(["record", str(path), "--label", "pen-blstm"]) == 1, "it was quick"

    config = json.loads((path / "config.json").read_text())
    config["config"] |= {"quick": False, "limit": 0}
    (path / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr(pages, "check_commits", lambda records: None)  # the tree may have changes
    assert program.main(["record", str(path), "--label", "pen-blstm", "--keep-model"]) == 0
    (record,) = load_records(installed / "results")
    assert set(record.model["sha256"]) == {"config.json", "parameters.safetensors"}
    assert (
        models.kept("pen_digits", "pen-blstm")
        == installed / "results" / "pen_digits" / "models" / "pen-blstm"
    )
    page = program.load("pen_digits").page
    assert "3 nearest neighbours, pendigits.names, UCI 1998 | 0.98" in page.text([record])
    (row,) = page.rows([record])
    assert row.paper == "3 nearest neighbours 0.978 (pendigits.names, UCI 1998)"
    assert capsys.readouterr().err.startswith("record: ")

    kept = models.kept("pen_digits", "pen-blstm") / "config.json"
    kept.write_bytes(kept.read_bytes() + b" ")
    with pytest.raises(models.RecordError, match=r"config\.json is missing or damaged"):
        models.kept("pen_digits", "pen-blstm")
    with pytest.raises(models.RecordError, match="no model of pen_digits is kept under the label other"):
        models.kept("pen_digits", "other")


def test_the_data_set_has_its_published_sizes(installed, real_data):
    parts = datasets.load("pen_digits", real_data)
    assert [len(part) for part in parts] == [6744, 750, 3498]
    assert all(digit.strokes[0, 2] == 1 for digit in parts.test)
    assert {digit.label for digit in parts.test} == set(range(10))
