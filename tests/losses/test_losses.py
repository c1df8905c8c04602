"""Losses against their definitions, and against themselves without what is masked."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from lstmjax import losses

pytestmark = pytest.mark.usefixtures("exact")

SHAPE = (3, 4)
masks = npst.arrays(np.bool_, SHAPE)
junk = st.sampled_from([np.nan, np.inf, -np.inf, 1e300])


def _logits(seed: int, last: int = 5) -> np.ndarray:
    return 3 * np.random.default_rng(seed).standard_normal((*SHAPE, last))


def _labels(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 5, SHAPE)


def _targets(seed: int) -> np.ndarray:
    return (np.random.default_rng(seed).random((*SHAPE, 5)) < 0.5).astype(np.float64)


def _total(loss: Any) -> Any:
    return jax.jit(jax.value_and_grad(lambda logits, *rest: loss(logits, *rest).sum()))


bernoulli, cross_entropy = jax.jit(losses.bernoulli), jax.jit(losses.cross_entropy)
bernoulli_total, cross_entropy_total = _total(losses.bernoulli), _total(losses.cross_entropy)


def test_bernoulli_is_the_log_likelihood() -> None:
    logits, targets = _logits(0), _targets(1)
    probability = 1 / (1 + np.exp(-logits))
    expected = -np.log(np.where(targets == 1, probability, 1 - probability)).sum(axis=-1)
    np.testing.assert_allclose(losses.bernoulli(logits, targets), expected, rtol=1e-12)
    gradient = bernoulli_total(logits, targets)[1]
    np.testing.assert_allclose(gradient, probability - targets, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.bool_, np.int32, np.float32])
def test_bernoulli_takes_targets_of_any_dtype(dtype: Any) -> None:
    logits, targets = _logits(0), _targets(1)
    actual = bernoulli(logits, targets.astype(dtype))
    np.testing.assert_array_equal(actual, bernoulli(logits, targets))


def test_bernoulli_of_sure_predictions_is_finite() -> None:
    logits = np.array([[800.0, -800.0], [-800.0, 800.0]])
    targets = np.array([[1.0, 0.0], [1.0, 0.0]])
    np.testing.assert_allclose(bernoulli(logits, targets), [0.0, 1600.0])
    gradient = bernoulli_total(logits, targets)[1]
    np.testing.assert_allclose(gradient, [[0.0, 0.0], [-1.0, 1.0]])


def test_cross_entropy_is_the_log_likelihood() -> None:
    logits, labels = _logits(2), _labels(3)
    probability = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    picked = np.take_along_axis(probability, labels[..., None], axis=-1)[..., 0]
    np.testing.assert_allclose(losses.cross_entropy(logits, labels), -np.log(picked), rtol=1e-12)
    gradient = cross_entropy_total(logits, labels)[1]
    np.testing.assert_allclose(gradient, probability - np.eye(5)[labels], rtol=1e-10, atol=1e-12)


def test_cross_entropy_of_huge_logits_is_finite() -> None:
    logits = np.array([[1e4, 0.0], [1e4, 0.0]])
    np.testing.assert_allclose(cross_entropy(logits, np.array([0, 1])), [0.0, 1e4])


def test_equal_logits_give_the_logarithm_of_the_number_of_classes() -> None:
    actual = cross_entropy(np.zeros((2, 7)), np.array([0, 6]))
    np.testing.assert_allclose(actual, np.log([7.0, 7.0]))


@given(mask=masks, value=junk, seed=st.integers(0, 100))
def test_masked_bernoulli_ignores_what_is_masked(mask: np.ndarray, value: float, seed: int) -> None:
    logits, targets = _logits(seed), _targets(seed + 1)
    plain = np.asarray(bernoulli(logits, targets))
    filled = np.where(mask[..., None], logits, value)
    filled_targets = np.where(mask[..., None], targets, value)
    actual = bernoulli(filled, filled_targets, mask)
    np.testing.assert_allclose(actual, np.where(mask, plain, 0.0), rtol=1e-12)
    _, gradient = bernoulli_total(filled, filled_targets, mask)
    _, expected = bernoulli_total(logits, targets)
    np.testing.assert_allclose(gradient, np.where(mask[..., None], expected, 0.0), rtol=1e-12)


@given(mask=masks, value=junk, label=st.sampled_from([-1, 5, 2**31 - 1]), seed=st.integers(0, 100))
def test_masked_cross_entropy_ignores_what_is_masked(
    mask: np.ndarray, value: float, label: int, seed: int
) -> None:
    logits, labels = _logits(seed), _labels(seed + 1)
    plain = np.asarray(cross_entropy(logits, labels))
    filled = np.where(mask[..., None], logits, value)
    filled_labels = np.where(mask, labels, label)
    actual = cross_entropy(filled, filled_labels, mask)
    np.testing.assert_allclose(actual, np.where(mask, plain, 0.0), rtol=1e-12)
    _, gradient = cross_entropy_total(filled, filled_labels, mask)
    _, expected = cross_entropy_total(logits, labels)
    np.testing.assert_allclose(gradient, np.where(mask[..., None], expected, 0.0), rtol=1e-12)


def test_what_is_masked_makes_no_nan_on_the_way_either() -> None:
    """Which a search for the first NaN (``jax_debug_nans``) would stop at."""
    mask, labels = np.array([True, False]), np.array([1, 1_000_000])
    with jax.debug_nans(True):
        assert losses.cross_entropy(np.zeros((2, 3)), labels, mask)[1] == 0


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("masked", [False, True])
def test_losses_have_the_dtype_of_the_logits(dtype: Any, masked: bool) -> None:
    mask = np.ones(SHAPE, bool) if masked else None
    logits = _logits(4).astype(dtype)
    assert bernoulli(logits, _targets(5), mask).dtype == dtype
    assert cross_entropy(logits, _labels(5), mask).dtype == dtype


@pytest.mark.parametrize("shape", [(), (0,), (2, 3)], ids=str)
def test_losses_take_any_batch_rank(shape: tuple[int, ...]) -> None:
    logits = np.zeros((*shape, 4))
    assert bernoulli(logits, np.zeros_like(logits)).shape == shape
    assert cross_entropy(logits, np.zeros(shape, np.int32)).shape == shape


@pytest.mark.parametrize("label", [-1, -5, 5, 250])
def test_a_label_that_is_no_class_gives_nan_at_its_own_position_alone(label):
    logits, labels = np.arange(15.0).reshape(3, 5), np.array([1, label, 4])
    found = np.asarray(cross_entropy(logits, labels))
    assert np.isnan(found).tolist() == [False, True, False]
    value, gradient = cross_entropy_total(logits, labels, np.array([True, False, True]))
    np.testing.assert_allclose(value, found[0] + found[2], rtol=1e-6)
    assert np.isfinite(gradient).all()
    assert not gradient[1].any()


def test_labels_of_few_bits_count_many_classes():
    logits = np.random.default_rng(0).standard_normal((4, 400))
    labels = np.array([0, 5, 200, 255], np.uint8)
    expected = cross_entropy(logits, labels.astype(np.int32))
    np.testing.assert_array_equal(cross_entropy(logits, labels), expected)
