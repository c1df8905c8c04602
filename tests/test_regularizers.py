"""Regularisers of parameters and outputs, against their definitions in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lstmjax
from lstmjax import regularizers


def test_weight_noise_has_its_deviation_and_is_drawn_for_each_array():
    params = {"a": jnp.ones(10000), "b": jnp.zeros(10000, jnp.bfloat16)}
    noisy = regularizers.weight_noise(jax.random.key(0), params, 0.5)
    noise = [np.asarray(noisy[name] - params[name], np.float64) for name in "ab"]
    assert [noisy[name].dtype for name in "ab"] == [jnp.float32, jnp.bfloat16]
    np.testing.assert_allclose([part.std() for part in noise], 0.5, rtol=0.05)
    assert abs(np.corrcoef(*noise)[0, 1]) < 0.05


def test_weight_drop_changes_recurrent_kernels_only_each_by_itself():
    deep = lstmjax.stack(lstmjax.lstm(4, 32), lstmjax.highway(lstmjax.gru(32, 32)))
    params = deep.init(jax.random.key(0))
    dropped = regularizers.weight_drop(jax.random.key(1), params, 0.25)
    changed = []
    for (path, old), new in zip(
        jax.tree_util.tree_leaves_with_path(params), jax.tree.leaves(dropped), strict=True
    ):
        if path[-1].name == "recurrent_kernel":
            gone = np.asarray(new == 0)
            assert abs(gone.mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / gone.size)
            np.testing.assert_allclose(new[~gone], old[~gone] / 0.75, rtol=1e-6)
            changed.append(gone)
        else:
            np.testing.assert_array_equal(new, old)
    assert len(changed) == 2
    assert (changed[0][:, :96] != changed[1]).any()
    named = {"head": {"kernel": jnp.ones(50)}}
    assert (regularizers.weight_drop(jax.random.key(1), named, 0.5, ("kernel",))["head"]["kernel"] == 0).any()


def test_rates_of_zero_change_nothing_and_wrong_ones_are_refused(unchecked):
    params = lstmjax.lstm(2, 3).init(jax.random.key(0))
    assert regularizers.weight_drop(jax.random.key(1), params, 0.0) is params
    assert regularizers.weight_noise(jax.random.key(1), params, 0.0) is params
    with pytest.raises(ValueError, match="from 0 to below 1, got 1"):
        regularizers.weight_drop(jax.random.key(1), params, 1.0)
    with pytest.raises(ValueError, match="no array of the parameters is named kernal"):
        regularizers.weight_drop(jax.random.key(1), params, 0.5, ("kernal",))
    with pytest.raises(ValueError, match="embedding_dropout"):
        regularizers.embedding_dropout(jax.random.key(1), jnp.ones((3, 2)), -1)
    with pytest.raises(ValueError, match=r"batch shape \(2,\), got \(3,\)"):
        regularizers.activation_penalty(jnp.ones((2, 3, 4)), jnp.ones(3, int))


def test_embedding_dropout_keeps_the_mean():
    table = regularizers.embedding_dropout(jax.random.key(0), jnp.ones((4000, 3)), 0.1)
    assert abs(float(table.mean()) - 1) < 0.03
    assert (table == table[:, :1]).all()


@pytest.mark.parametrize("lengths", [None, np.array([[5, 0], [1, 3]])], ids=["all", "some"])
def test_penalties_are_means_over_what_is_valid(lengths):
    outputs = np.random.default_rng(0).standard_normal((2, 2, 5, 3)).astype(np.float32)
    rows = [outputs[i][: 5 if lengths is None else lengths[i]] for i in np.ndindex(2, 2)]
    expected = np.concatenate([row.reshape(-1) ** 2 for row in rows]).mean()
    expected_change = np.concatenate([np.diff(row, axis=0).reshape(-1) ** 2 for row in rows]).mean()
    if lengths is not None:
        outputs[np.arange(5) >= lengths[..., None]] = np.nan
    for penalty, value in (
        (regularizers.activation_penalty, expected),
        (regularizers.temporal_activation_penalty, expected_change),
    ):
        actual, gradient = jax.value_and_grad(penalty)(outputs, lengths)
        np.testing.assert_allclose(actual, value, rtol=1e-5)
        assert np.isfinite(gradient).all()


def test_penalties_of_nothing_are_zero():
    for penalty in (regularizers.activation_penalty, regularizers.temporal_activation_penalty):
        assert penalty(jnp.ones((2, 3, 4)), jnp.zeros(2, int)) == 0
        assert penalty(jnp.ones((2, 0, 4))) == 0
        assert penalty(jnp.ones((2, 3, 4), jnp.bfloat16)).dtype == jnp.float32
