"""A script in percent format and the notebook that it makes: read, execute, write, compare."""

from pathlib import Path
from typing import Any

import jupytext
import nbclient
import nbformat

FOLDER = Path(__file__).parent

SCRIPTS = sorted(FOLDER.glob("[0-9]*.py"))

Notebook = Any


def read_script(script: Path) -> Notebook:
    """The notebook of a script, without outputs; always the same, since cells are numbered."""
    notebook = jupytext.read(script)
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for number, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f"cell-{number}", nbformat.from_dict({})
    return notebook


def path_of(script: Path) -> Path:
    """The notebook that belongs to a script."""
    return script.with_suffix(".ipynb")


def execute(notebook: Notebook, seconds: int = 600) -> Notebook:
    """Execute a notebook in a kernel of its own, within this folder, in at most so many seconds a cell.

    Raises:
      nbclient.exceptions.CellExecutionError: a cell failed.
    """
    client = nbclient.NotebookClient(
        notebook,
        timeout=seconds,
        startup_timeout=seconds,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(FOLDER)}},
    )
    client.execute()
    notebook.metadata.language_info = nbformat.from_dict({"name": "python"})
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({})
    return notebook


def write(notebook: Notebook, script: Path) -> Path:
    """Write the notebook of a script; returns its path."""
    nbformat.validate(notebook)
    nbformat.write(notebook, path_of(script))
    return path_of(script)


def sources(notebook: Notebook) -> list[tuple[str, str]]:
    """The kind and the text of each cell: what script and notebook have in common."""
    return [(cell.cell_type, cell.source) for cell in notebook.cells]
