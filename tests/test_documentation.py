"""The documentation as a site: every page is in it, and the API reference has all that is public."""

import importlib
import inspect
import re
import types
from pathlib import Path

import pytest

import lstmjax

DOCS = Path(__file__).parent.parent / "docs"
MODULES = re.findall(r"automodule:: (\S+)", (DOCS / "api.md").read_text("utf-8"))


def test_every_page_is_in_the_table_of_contents():
    listed = re.findall(r"^[a-z-]+$", (DOCS / "index.md").read_text("utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(page.stem for page in DOCS.glob("*.md") if page.stem != "index")


def test_the_reference_has_every_public_module():
    public = {
        f"lstmjax.{name}" for name in lstmjax.__all__ if isinstance(getattr(lstmjax, name), types.ModuleType)
    }
    public = {"lstmjax.diagnostics.plots" if name == "lstmjax.plots" else name for name in public}
    assert public | {"lstmjax", "lstmjax.nnx", "lstmjax.linen", "lstmjax.training"} <= set(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_what_is_public_is_described(name):
    module = importlib.import_module(name)
    assert module.__doc__
    own = [key for key, value in vars(module).items() if getattr(value, "__module__", None) == name]
    for key in getattr(module, "__all__", [key for key in own if not key.startswith("_")]):
        value = getattr(module, key)
        if inspect.isclass(value) or inspect.isfunction(value) or inspect.ismodule(value):
            assert value.__doc__, f"{name}.{key}"


def test_all_cells_and_wrappers_have_their_equations():
    text = (DOCS / "equations.md").read_text("utf-8")
    shown = set(re.findall(r"autofunction:: (\w+)", text))
    made = {entry.call.split("(")[0] for entry in lstmjax.CELLS.values()}
    assert made <= shown


def test_the_page_of_all_names_every_function():
    text = (DOCS / "all-of-lstmjax.md").read_text("utf-8")
    functions = [name for name in lstmjax.__all__ if inspect.isfunction(getattr(lstmjax, name))]
    assert [name for name in functions if not re.search(rf"`{name}[(`]", text)] == []
