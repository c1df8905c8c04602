"""Runs before any test module is imported: two CPU devices, and annotations checked as code runs."""

import sys
from collections.abc import Iterator

import hypothesis
import jax
import jaxtyping
import pytest

if "lstmjax" in sys.modules:
    raise RuntimeError("lstmjax was imported before the hook that checks its annotations.")

jax.config.update("jax_num_cpu_devices", 2)
jaxtyping.install_import_hook("lstmjax", "beartype.beartype")

# The same examples in every run, so that a failure of one run is a failure of the next. Random draws are
# cheap and compiling is not: strategies choose among few shapes, and no example has a deadline.
hypothesis.settings.register_profile("lstmjax", deadline=None, derandomize=True, max_examples=15)
hypothesis.settings.load_profile("lstmjax")


@pytest.fixture(scope="module")
def exact() -> Iterator[None]:
    """float64, and no dtype changed behind one's back: what the core is tested under.

    These tests compile thousands of small programs and compute next to nothing, so that compilation leaves
    out what makes it slow; what they compute is checked in full optimisation by point 10 of the contract.
    """
    optimizations = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        yield
    jax.config.update("jax_disable_most_optimizations", optimizations)


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Annotations are not checked: what a user sees who passes something wrong."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
