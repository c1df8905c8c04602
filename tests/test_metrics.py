"""Accumulators: whatever is masked, split, merged or summed, the mean is the mean."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from jax.sharding import Mesh, PartitionSpec

from lstmjax.metrics import Mean, Perplexity

pytestmark = pytest.mark.usefixtures("exact")

numbers = npst.arrays(np.float64, (4, 3), elements=st.floats(-1e3, 1e3))
masks = npst.arrays(np.bool_, (4, 3))


@given(values=numbers, mask=masks, value=st.sampled_from([np.nan, np.inf, 1e300]))
def test_a_mean_is_over_valid_positions_only(values: np.ndarray, mask: np.ndarray, value: float) -> None:
    mean = Mean.of(np.where(mask, values, value), mask).compute()
    if mask.any():
        np.testing.assert_allclose(mean, values[mask].mean(), rtol=1e-12, atol=1e-9)
    else:
        assert np.isnan(mean)


@given(values=numbers, mask=masks, cut=st.sampled_from([0, 1, 3, 4]))
def test_merging_uneven_parts_equals_the_whole(values: np.ndarray, mask: np.ndarray, cut: int) -> None:
    """Which a mean of means would not."""
    parts = Mean.of(values[:cut], mask[:cut]).merge(Mean.of(values[cut:], mask[cut:]))
    whole = Mean.of(values, mask)
    np.testing.assert_allclose(parts, whole, rtol=1e-12, atol=1e-9)


def test_perplexity_is_the_exponential_of_the_mean_not_the_mean_of_exponentials() -> None:
    losses, mask = np.array([1.0, 3.0, np.nan]), np.array([True, True, False])
    merged = Perplexity.of(losses[:1]).merge(Perplexity.of(losses[1:], mask[1:]))
    assert isinstance(merged, Perplexity)
    np.testing.assert_allclose(merged.compute(), np.exp(2.0))


def test_booleans_count_as_an_accuracy() -> None:
    right = np.array([True, True, False, True])
    assert Mean.of(right).compute() == 0.75
    assert Mean.of(right, np.array([True, False, True, False])).compute() == 0.5


def test_integers_have_a_mean() -> None:
    assert Mean.of(np.array([1, 2])).compute() == 1.5


def test_nothing_seen_is_not_a_number() -> None:
    assert np.isnan(Mean.of(np.zeros(0)).compute())
    assert np.isnan(Perplexity(0.0, 0.0).compute())


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("masked", [False, True])
def test_narrow_values_are_summed_and_counted_in_float32(dtype: Any, masked: bool) -> None:
    """A thousand and one are no number of bfloat16, and seventy thousand none of float16."""
    size = 70_001
    mean = Mean.of(np.ones(size, dtype), np.ones(size, bool) if masked else None)
    assert [leaf.dtype for leaf in mean] == [jnp.float32, jnp.float32]
    assert [float(leaf) for leaf in mean] == [size, size]


@pytest.mark.parametrize("kind", [Mean, Perplexity])
def test_a_metric_is_a_pytree_that_keeps_its_kind(kind: type[Mean]) -> None:
    metric = jax.jit(kind.of)(np.arange(4.0))
    assert type(metric) is kind
    doubled = jax.tree.map(lambda leaf: 2 * leaf, metric)
    np.testing.assert_allclose(doubled.compute(), metric.compute())


def test_sums_over_devices_equal_one_pass() -> None:
    values = np.arange(12.0).reshape(4, 3)
    mask = values % 5 < 2
    mesh = Mesh(np.array(jax.devices("cpu")[:2]), ("devices",))
    split = PartitionSpec("devices")

    @functools.partial(jax.shard_map, mesh=mesh, in_specs=(split, split), out_specs=PartitionSpec())
    def over_devices(values: Any, mask: Any) -> Mean:
        return jax.lax.psum(Mean.of(values, mask), "devices")

    actual = jax.jit(over_devices)(values, mask)
    assert isinstance(actual, Mean)
    np.testing.assert_allclose(actual, Mean.of(values, mask))
    np.testing.assert_allclose(actual.compute(), values[mask].mean())


def test_sums_over_steps_of_a_scan_equal_one_pass() -> None:
    values = np.arange(12.0).reshape(4, 3)

    def step(seen: Mean, row: Any) -> tuple[Mean, None]:
        return seen.merge(Mean.of(row)), None

    total, _ = jax.lax.scan(step, Mean(jnp.zeros(()), jnp.zeros(())), values)
    assert isinstance(total, Mean)
    np.testing.assert_allclose(total.compute(), values.mean())
