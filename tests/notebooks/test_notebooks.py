"""Notebooks are in step with their scripts, small, without errors, and run within a minute."""

import os
import re

import pytest

pytest.importorskip("nbclient", reason="needs the extra `notebooks`")

import nbformat

from notebooks import pairing

LARGEST = 400_000
"""Bytes of a notebook with its outputs."""

LONGEST = 240
"""Seconds of a processor that a notebook may take: a minute on two cores, twice that on slower ones."""

QUICK = "01_the_cell"
"""The notebook that `make test` executes."""

NAMES = [script.stem for script in pairing.SCRIPTS]


def script_of(name):
    return pairing.FOLDER / f"{name}.py"


def read_notebook(name):
    return nbformat.read(pairing.path_of(script_of(name)), as_version=4)


def execute(name):
    """Execute a notebook; what counts is the time of its process, whatever else the machine does."""
    before = os.times()
    pairing.execute(pairing.read_script(script_of(name)))
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    assert 0 < spent < LONGEST


def test_there_are_scripts_and_no_other_notebooks():
    assert len(NAMES) >= 8
    assert sorted(path.stem for path in pairing.FOLDER.glob("*.ipynb")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_in_step_with_its_script(name):
    """If not: `python -m notebooks NAME`."""
    notebook = read_notebook(name)
    assert pairing.sources(notebook) == pairing.sources(pairing.read_script(script_of(name)))


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_has_its_outputs_and_is_small(name):
    cells = [cell for cell in read_notebook(name).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1)), "all in one go"
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [each for each in outputs if each.output_type == "error" or each.get("name") == "stderr"]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert pairing.path_of(script_of(name)).stat().st_size < LARGEST


def test_a_changed_script_is_noticed(tmp_path):
    changed = tmp_path / script_of(QUICK).name
    changed.write_text(script_of(QUICK).read_text("utf-8") + "\n# %%\nprint(1)\n", "utf-8")
    assert pairing.sources(pairing.read_script(changed)) != pairing.sources(read_notebook(QUICK))


def test_a_cell_that_fails_is_an_error(tmp_path):
    script = tmp_path / "failing.py"
    script.write_text("# %%\nraise ValueError('on purpose')\n", "utf-8")
    with pytest.raises(pairing.nbclient.exceptions.CellExecutionError, match="on purpose"):
        pairing.execute(pairing.read_script(script))


def test_a_quick_notebook_runs():
    execute(QUICK)


@pytest.mark.notebooks
@pytest.mark.parametrize("name", [name for name in NAMES if name != QUICK])
def test_a_notebook_runs(name):
    execute(name)


def test_the_table_of_notebooks_has_all():
    table = (pairing.FOLDER / "README.md").read_text("utf-8")
    assert [name for name in NAMES if f"[{name}]({name}.ipynb)" not in table] == []


@pytest.mark.parametrize("name", [*NAMES, "README"])
def test_links_lead_somewhere(name):
    path = pairing.FOLDER / "README.md" if name == "README" else script_of(name)
    links = re.findall(r"\]\(([^)#]+)\)", path.read_text("utf-8"))
    assert [link for link in links if "://" not in link and not (pairing.FOLDER / link).exists()] == []
