"""Who may import whom, what is nowhere, and that every public name is described by what runs."""

import ast
import doctest
import importlib
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import lstmjax
from experiments.__main__ import EXPERIMENTS

REPOSITORY = Path(__file__).parent.parent

DOOR = {"types", "checks", "sharding", "initializers"}
WITHOUT_CELLS = {"attention", "decoding", "losses", "metrics", "regularizers", "training"}
OVER_TIME = {"cells", "wrappers", "backends", "sequence"}
MAY_IMPORT: dict[str, set[str]] = {
    **dict.fromkeys(DOOR, DOOR),
    "cells": DOOR,
    "wrappers": {*DOOR, "cells"},
    "backends": {*DOOR, "cells", "wrappers"},
    "sequence": {*DOOR, "cells", "wrappers", "backends"},
    "diagnostics": {*DOOR, *OVER_TIME},
    "convert": {*DOOR, *OVER_TIME},
    "export": {*DOOR, *OVER_TIME, "convert"},
    "nnx": {*DOOR, *OVER_TIME, "convert"},
    "linen": {*DOOR, *OVER_TIME, "convert"},
    "store": {*DOOR, *OVER_TIME, "training"},
    **{room: {*DOOR, "metrics"} for room in WITHOUT_CELLS},
}
"""The folders and files of the library, and what each may import beside itself."""

WITH_FLAX = {"nnx", "linen"}
"""The only modules of the library that may import Flax."""

SHARED_BY_EXPERIMENTS = {"common", "datasets"}
"""What experiments may import of `experiments`, beside themselves; these import no experiment."""

FORBIDDEN_MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}


def _sources(package: str) -> list[Path]:
    return sorted((REPOSITORY / package).rglob("*.py"))


def _by_folder(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def _room(path: Path) -> str:
    """The folder within a package that a file lies in, or its own name at the package's door."""
    return path.relative_to(REPOSITORY).with_suffix("").parts[1]


def _imports(path: Path, anywhere: bool = True) -> Iterator[str]:
    """Full names of all that a file imports, also in functions; of ``from a import b`` both a and a.b."""
    package, tree = path.relative_to(REPOSITORY).with_suffix("").parts[:-1], ast.parse(path.read_text())
    for node in ast.walk(tree) if anywhere else tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def _rooms_imported(package: str, path: Path) -> set[str]:
    """The folders and files at the door of a package that a file imports from."""
    names = {name.split(".")[1] for name in _imports(path) if name.startswith(f"{package}.")}
    folder = REPOSITORY / package
    return {name for name in names if (folder / f"{name}.py").exists() or (folder / name).is_dir()}


def _packages(path: Path) -> set[str]:
    return {name.split(".")[0] for name in _imports(path)}


def test_every_room_of_the_library_is_in_the_table() -> None:
    assert {_room(path) for path in _sources("lstmjax")} - {"__init__"} == set(MAY_IMPORT)


@pytest.mark.parametrize("path", _sources("lstmjax"), ids=_by_folder)
def test_the_library_imports_as_the_table_says(path: Path) -> None:
    room = _room(path)
    packages = _packages(path)
    assert "experiments" not in packages
    assert "flax" not in packages or room in WITH_FLAX
    if room != "__init__":
        assert _rooms_imported("lstmjax", path) <= MAY_IMPORT[room] | {room}
        imported_whole = {
            alias.name
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Import)
            for alias in node.names
        }
        assert "lstmjax" not in imported_whole, "the package as a whole imports every room"


def test_importing_the_library_imports_no_flax_module_of_its_own() -> None:
    """`lstmjax.nnx` is imported by those who want it."""
    assert not {"nnx", "linen"} & _rooms_imported("lstmjax", REPOSITORY / "lstmjax" / "__init__.py")


def test_the_modules_of_the_library_form_no_circle() -> None:
    """Nor do those of the experiments: within a room, too, some module comes first."""
    for package in ("lstmjax", "experiments"):
        paths = {".".join(_names(path)): path for path in _sources(package)}
        edges = {name: _modules(set(_imports(path, anywhere=False)), paths) for name, path in paths.items()}
        for name in [name for name in edges if name == package]:  # the door of the whole imports all
            del edges[name]
        while True:
            first = {name for name, others in edges.items() if not (others - {name}) & set(edges)}
            if not first:
                break
            edges = {name: others for name, others in edges.items() if name not in first}
        assert not edges, f"these import each other: {sorted(edges)}"


def _modules(imported: set[str], known: dict[str, Path]) -> set[str]:
    """Those of the imported names that are modules; of ``from package import module`` only the module."""
    there = imported & set(known)
    return {name for name in there if not any(other.startswith(f"{name}.") for other in there)}


def _names(path: Path) -> tuple[str, ...]:
    names = path.relative_to(REPOSITORY).with_suffix("").parts
    return names[:-1] if names[-1] == "__init__" else names


def test_every_folder_of_the_experiments_is_an_experiment_or_shared() -> None:
    folders = {path.parent.name for path in (REPOSITORY / "experiments").glob("*/__init__.py")}
    assert folders == {*EXPERIMENTS, *SHARED_BY_EXPERIMENTS}


@pytest.mark.parametrize("path", _sources("experiments"), ids=_by_folder)
def test_no_experiment_imports_another(path: Path) -> None:
    """Nor does what they share import one; the command line finds them by name."""
    assert not _rooms_imported("experiments", path) & set(EXPERIMENTS) - {_room(path)}


@pytest.mark.parametrize("path", [*_sources("lstmjax"), *_sources("experiments")], ids=_by_folder)
def test_nothing_is_unpickled_or_evaluated(path: Path) -> None:
    assert not _packages(path) & FORBIDDEN_MODULES
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else ""
            assert name not in FORBIDDEN_CALLS, f"line {node.lineno} calls {name}"
            for keyword in node.keywords:
                allows = keyword.arg == "allow_pickle" and not (
                    isinstance(keyword.value, ast.Constant) and keyword.value.value is False
                )
                assert not allows, f"line {node.lineno} allows pickle"


def test_the_rules_see_what_they_forbid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The parsing behind the rules, on a file with every kind of import."""
    folder = tmp_path / "lstmjax"
    for name in ("cells", "sequence", "wrappers"):
        (folder / name).mkdir(parents=True)
    for name in ("nnx", "types", "metrics"):
        (folder / f"{name}.py").touch()
    path = folder / "wrappers" / "stack.py"
    path.write_text(
        "import lstmjax.cells.cell\nfrom lstmjax import sequence, something\nfrom .. import nnx\n"
        "from ..types import Array\ndef f():\n    from lstmjax.metrics import Mean\n    import pickle\n"
    )
    monkeypatch.setattr(inspect.getmodule(_imports), "REPOSITORY", tmp_path)
    assert _rooms_imported("lstmjax", path) == {"cells", "sequence", "nnx", "types", "metrics"}
    assert _room(path) == "wrappers"
    assert "pickle" in _packages(path)


@pytest.mark.parametrize("name", lstmjax.__all__)
def test_every_public_name_is_described(name: str) -> None:
    value = getattr(lstmjax, name)
    own = value.__doc__
    assert own
    assert own.strip()
    if inspect.isclass(value):
        # What Python writes by itself, of a dataclass or a NamedTuple, describes nothing.
        assert not own.startswith(f"{value.__name__}("), "no docstring of its own"
        for method, function in vars(value).items():
            is_method = inspect.isfunction(function) and function.__qualname__ == f"{name}.{method}"
            if is_method and not method.startswith("_"):
                assert inspect.getdoc(function), f"{name}.{method}"


def test_public_names_are_listed_once_and_all_there() -> None:
    assert len(set(lstmjax.__all__)) == len(lstmjax.__all__)
    found = {
        name
        for name, value in vars(lstmjax).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert found <= set(lstmjax.__all__)


def test_what_only_some_programs_need_is_imported_when_it_is_asked_for() -> None:
    program = (
        "import sys, lstmjax; loaded = {'optax', 'lstmjax.training', 'lstmjax.convert'} & sys.modules.keys();"
        "assert not loaded, loaded; assert {'losses', 'load'} <= set(dir(lstmjax));"
        "assert lstmjax.load.__module__ == 'lstmjax.store' and lstmjax.losses.ctc and lstmjax.plots.__doc__;"
        "from lstmjax import *; assert save is lstmjax.save"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    with pytest.raises(AttributeError, match="module 'lstmjax' has no attribute 'lstn'"):
        _ = lstmjax.lstn  # type: ignore[attr-defined]


def _doctests(module: ModuleType) -> list[doctest.DocTest]:
    """The examples of a module; `doctest` alone passes over functions that the type checker has wrapped."""
    finder, names = doctest.DocTestFinder(exclude_empty=True), vars(module)
    own = {
        name: value
        for name, value in names.items()
        if getattr(value, "__module__", None) == module.__name__ and callable(value)
    }
    found = [finder.find(value, name, module=False, globs=names) for name, value in own.items()]
    found.append(doctest.DocTestParser().get_doctest(module.__doc__ or "", names, module.__name__, None, 0))
    return [
        test for tests in found for test in (tests if isinstance(tests, list) else [tests]) if test.examples
    ]


@pytest.mark.parametrize("path", _sources("lstmjax"), ids=_by_folder)
def test_examples_in_docstrings_run(path: Path) -> None:
    module = importlib.import_module(".".join(_names(path)))
    output: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for test in _doctests(module):
        runner.run(test, out=output.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(output)


@pytest.mark.parametrize(
    ("module", "example"),
    [
        ("sequence.unroll", "unroll"),
        ("cells.cell", "Cell"),
        ("metrics", "Mean"),
        ("wrappers.stack", "stack"),
        ("nnx", "LSTM"),
    ],
)
def test_examples_are_found(module: str, example: str) -> None:
    found = _doctests(importlib.import_module(f"lstmjax.{module}"))
    assert example in [test.name for test in found]
