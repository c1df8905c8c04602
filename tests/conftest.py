"""Runs before any test module is imported: two CPU devices, and annotations checked as code runs."""

import collections
import gc
import itertools
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import jax
import jaxtyping
import pytest
from jax._src import compiler

REPOSITORY = Path(__file__).parent.parent

if "lstmjax" in sys.modules:
    raise RuntimeError("lstmjax was imported before the hook that checks its annotations.")

jax.config.update("jax_num_cpu_devices", 2)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell has it for what runs in its background
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Compiling is most of what the tests do: what one test, worker or run compiled, the others load. Processes
# that a test starts inherit it.
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(REPOSITORY / ".pytest_cache" / "compiled")
jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
# And nearly all of them compute next to nothing: compilation leaves out what makes it slow. Tests of what a
# compiled program is like ask for `optimized`; those that take long, and those of notebooks, have it.
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
jax.config.update("jax_disable_most_optimizations", True)
jaxtyping.install_import_hook("lstmjax", "beartype.beartype")

# The same examples in every run, so that a failure of one run is a failure of the next. Random draws are
# cheap and compiling is not: strategies choose among few shapes, and no example has a deadline.
hypothesis.settings.register_profile("lstmjax", deadline=None, derandomize=True, max_examples=15)
hypothesis.settings.load_profile("lstmjax")


from cases import ALL  # noqa: E402 (which imports lstmjax, after the hook that checks its annotations)

from experiments.__main__ import EXPERIMENTS  # noqa: E402

OTHER_CELLS = set(ALL) - {"lstm"}

COSTLY = {"quick_run", "flip"}
"""Fixtures of modules that take many seconds: tests that want the same one go to one worker."""

AS_USERS = ("slow", "notebooks", "gpu")
"""Marks of tests that compute more than they compile."""

CASES = 2
"""How many parameters of a test the short run takes."""

ALL_CASES = {
    "test_unroll.py",
    "test_architecture.py",
    "test_errors.py",
    "test_notebooks.py",
    "test_readme.py",
}
"""Files whose tests it takes with all."""

SMOKE = "test_a_run_writes_what_it_promises"
"""The test of each experiment's whole path."""


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """Choose tests, those that only `make test-full` runs, and which of them are for one worker.

    `make test` has the whole contract for the LSTM on each backend, each other test with its first `CASES`
    parameters, and a smoke test of each experiment. The rest of the matrix is ``full``.
    Kernels in interpret mode take their time: the contract runs them on the one cell that they are for.
    """

    def parameters(item: pytest.Item) -> dict[str, object]:
        return getattr(getattr(item, "callspec", None), "params", {})

    def is_wanted(item: pytest.Item) -> bool:
        given = parameters(item)
        return given.get("way") != "pallas" or given.get("name", "lstm") == "lstm"

    items[:] = filter(is_wanted, items)
    seen: collections.Counter[tuple[Path, str]] = collections.Counter()
    for item in items:
        test = (item.path, getattr(item, "originalname", item.name))
        seen[test] += 1
        is_of_experiment = item.path.parent.name in EXPERIMENTS
        is_smoke_test = getattr(item, "originalname", "") == SMOKE
        is_other_cell = parameters(item).get("name") in OTHER_CELLS
        wants_all_data = "flip" in getattr(item, "fixturenames", ())
        is_further_case = seen[test] > CASES and item.path.name not in ALL_CASES
        if is_other_cell or is_further_case or wants_all_data or (is_of_experiment and not is_smoke_test):
            item.add_marker(pytest.mark.full)
        if isinstance(item, pytest.Function) and any(map(item.get_closest_marker, AS_USERS)):
            item.fixturenames.insert(0, "optimized")
        if isinstance(item, pytest.Function) and COSTLY & set(item.fixturenames):
            item.add_marker(pytest.mark.xdist_group(item.module.__name__))
    yield


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests marked ``gpu`` are for machines that have one."""
    if item.get_closest_marker("gpu") and jax.default_backend() != "gpu":
        pytest.skip(f"needs a GPU; JAX's platform is {jax.default_backend()}")


@pytest.fixture(scope="module")
def exact() -> Iterator[None]:
    """float64, and no dtype changed behind one's back: what the core is tested under."""
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        yield


@pytest.fixture
def optimized(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Programs are compiled as users' programs are, those of processes that the test starts among them."""
    monkeypatch.delenv("JAX_DISABLE_MOST_OPTIMIZATIONS")
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture(autouse=True)
def _small_programs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's tests leave out XLA's newer emitters, too: half of the time that a small program takes.

    The large programs of experiments take longer without.
    """
    if "optimized" not in request.fixturenames and "experiments" not in request.path.parts:
        options = compiler.get_compile_options

        def without_emitters(*arguments: Any, env_options_overrides: Any = None, **more: Any) -> Any:
            overrides = {"xla_cpu_use_fusion_emitters": False} | (env_options_overrides or {})
            return options(*arguments, env_options_overrides=overrides, **more)

        monkeypatch.setattr(compiler, "get_compile_options", without_emitters)


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Annotations are not checked: what a user sees who passes something wrong."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of the real data sets; skips the test where there is none."""
    folder = Path(os.environ.get("LSTMJAX_DATA") or REPOSITORY.parent / "shared" / "data")
    if not (folder / "music").is_dir():
        pytest.skip("no real data: LSTMJAX_DATA names no folder that has music/")
    return folder


def pytest_collection_finish() -> None:
    """What all modules hold stays: the collector of garbage need not go through it again and again."""
    gc.collect()
    gc.freeze()


MAPS = Path("/proc/self/maps")
_finished = itertools.count(1)


def pytest_runtest_teardown() -> None:
    """Let go of compiled programs when there are many: each maps memory, and a process has so many maps."""
    if next(_finished) % 50 == 0 and (not MAPS.exists() or MAPS.read_bytes().count(b"\n") > 10_000):
        jax.clear_caches()
