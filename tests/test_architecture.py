"""Who may import whom, what is nowhere, and that every public name is described by what runs."""

import ast
import doctest
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import lstmjax
from experiments.__main__ import EXPERIMENTS

REPOSITORY = Path(__file__).parent.parent

LAYERS: tuple[set[str], ...] = (
    {"types"},
    {"initializers", "checks"},
    {"cell"},
    {"variants", "multiplicative", "convolutional", "cells", "minimal", "xlstm"},
    {"catalogue", "wrappers", "scan"},
    {"clipping", "streaming", "recurrence", "associative"},
    {"primitives", "dropout"},
    {"native", "pallas", "stepwise"},
    {"fused"},
    {"cudnn"},
    {"backends"},
    {"remat"},
    {"unroll"},
    {"layers", "truncated", "diagnostics"},
    {"bidirectional", "plots"},
    {"explain"},
    {"formats"},
    {"nnx", "linen", "export", "convert_jax"},
    {"convert"},
)
"""Modules of the library that know cells; each may import from the layers before its own."""

BASE = LAYERS[:2]
"""Modules that everything else may import."""

GENERAL: tuple[set[str], ...] = (
    {"vocabulary_loss", "attention_core", "decoding_core"},
    {"location_attention", "beam_search"},
    {"losses", "metrics", "nade", "regularizers", "batching", "progress", "checkpoint", "parallel"}
    | {"streams", "attention", "averaging", "decoding"},
    {"environment"},
    {"record"},
    {"train"},
)
"""Modules that know nothing of cells; each may import `BASE` and from the layers before its own."""

JOINING = {"store"}
"""Modules that join the two; each may import from all of both that import no Flax."""

WITH_FLAX = {"nnx", "linen"}
"""The only modules of the library that may import Flax."""

SHARED_BY_EXPERIMENTS = {
    "adaptive_evaluation",
    "asking",
    "awd_lstm",
    "benchmark",
    "character_server",
    "command_line",
    "corpus",
    "datasets",
    "fasta",
    "language_commands",
    "language_config",
    "language_model",
    "language_speed",
    "language_task",
    "ngrams",
    "pages",
    "peers",
    "plots",
    "profiles",
    "protein_commands",
    "protein_model",
    "protein_page",
    "protein_task",
    "question_answers",
    "question_page",
    "question_pictures",
    "question_readers",
    "questions",
    "recipes",
    "rendering",
    "residues",
    "side_by_side",
    "speed_page",
    "structure_metrics",
    "structure_pictures",
    "structure_report",
    "subwords",
    "tables",
    "translation_model",
    "translation_report",
    "unit_pictures",
    "vocabulary",
}
"""Modules beside the experiments that these may import, and that import no experiment."""

FORBIDDEN_MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}


def _library() -> list[str]:
    paths = (REPOSITORY / "lstmjax").rglob("*.py")
    return sorted(path.stem for path in paths if path.stem != "__init__")


def _sources() -> list[Path]:
    """All code that is not a test."""
    return sorted(
        path for folder in ("lstmjax", "experiments") for path in (REPOSITORY / folder).rglob("*.py")
    )


def _imports(path: Path) -> Iterator[str]:
    """Full names of all that a file imports, anywhere in it; of ``from a import b`` both a and a.b."""
    package = path.relative_to(REPOSITORY).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def _modules_within(package: str, path: Path) -> set[str]:
    """First parts of names below a package that a file imports, if they are modules."""
    names = {name.split(".")[1] for name in _imports(path) if name.startswith(f"{package}.")}
    folder = REPOSITORY / package
    return {name for name in names if (folder / f"{name}.py").exists() or (folder / name).is_dir()}


def _packages(path: Path) -> set[str]:
    return {name.split(".")[0] for name in _imports(path)}


def _by_folder(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def test_every_module_of_the_library_has_its_place() -> None:
    placed = set().union(*LAYERS, *GENERAL, JOINING)
    assert set(_library()) == placed, "LAYERS, GENERAL or JOINING must say where a module belongs"


@pytest.mark.parametrize("module", _library())
def test_modules_import_only_from_layers_below(module: str) -> None:
    layers = LAYERS if module in set().union(*LAYERS) else (*BASE, *GENERAL)
    if module in JOINING:
        layers = (set().union(*LAYERS, *GENERAL) - WITH_FLAX, JOINING)
    number = next(number for number, layer in enumerate(layers) if module in layer)
    allowed = set().union(*layers[:number])
    path = REPOSITORY / "lstmjax" / f"{module}.py"
    assert _modules_within("lstmjax", path) <= allowed
    assert "lstmjax" not in _imports_whole(path), "the package as a whole imports every layer"


def _imports_whole(path: Path) -> set[str]:
    """Packages that a file imports by ``import name``, so that everything in them is within reach."""
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Import)]
    return {alias.name for node in nodes for alias in node.names}


@pytest.mark.parametrize("module", ["__init__", *_library()])
def test_the_library_imports_no_experiment_and_flax_only_where_it_is_named_for_it(module: str) -> None:
    packages = _packages(REPOSITORY / "lstmjax" / f"{module}.py")
    assert "experiments" not in packages
    assert "flax" not in packages or module in WITH_FLAX


def test_importing_the_library_imports_no_flax_module_of_its_own() -> None:
    """`lstmjax.nnx` is imported by those who want it."""
    assert not {"nnx", "linen"} & _modules_within("lstmjax", REPOSITORY / "lstmjax" / "__init__.py")


def test_every_module_of_the_experiments_has_its_place() -> None:
    folder = REPOSITORY / "experiments"
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__", "__main__"}
    packages = {path.parent.name for path in folder.glob("*/__init__.py")}
    assert modules | packages == {*EXPERIMENTS, *SHARED_BY_EXPERIMENTS}


@pytest.mark.parametrize("path", _sources(), ids=_by_folder)
def test_no_experiment_is_imported(path: Path) -> None:
    """By no experiment, and by nothing that experiments share; the command line finds them by name."""
    assert not _modules_within("experiments", path) & set(EXPERIMENTS)


@pytest.mark.parametrize("path", _sources(), ids=_by_folder)
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
    folder.mkdir()
    for name in ("cell", "unroll", "nnx", "types", "losses"):
        (folder / f"{name}.py").touch()
    path = folder / "wrappers.py"
    path.write_text(
        "import lstmjax.cell\nfrom lstmjax import unroll, something\nfrom . import nnx\n"
        "from .types import Array\ndef f():\n    from lstmjax.losses import bernoulli\n    import pickle\n"
    )
    monkeypatch.setattr(inspect.getmodule(_imports), "REPOSITORY", tmp_path)
    assert _modules_within("lstmjax", path) == {"cell", "unroll", "nnx", "types", "losses"}
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


@pytest.mark.parametrize("name", ["__init__", *_library()])
def test_examples_in_docstrings_run(name: str) -> None:
    module = lstmjax if name == "__init__" else importlib.import_module(f"lstmjax.{name}")
    output: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for test in _doctests(module):
        runner.run(test, out=output.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(output)


@pytest.mark.parametrize(
    ("module", "example"),
    [("unroll", "unroll"), ("cell", "Cell"), ("metrics", "Mean"), ("wrappers", "stack"), ("nnx", "LSTM")],
)
def test_examples_are_found(module: str, example: str) -> None:
    found = _doctests(importlib.import_module(f"lstmjax.{module}"))
    assert example in [test.name for test in found]
