"""The mixture density against a NumPy oracle, numerical gradients and integrals; samples against moments."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from lstmjax.losses import mixture_density

COMPONENTS = 3


loss = jax.jit(mixture_density.negative_log_likelihood)
total = jax.jit(
    jax.value_and_grad(lambda *each: mixture_density.negative_log_likelihood(*each).sum(), (0, 1))
)


def _random(shape, seed=0, scale=0.7):
    random = np.random.default_rng(seed)
    outputs = scale * random.standard_normal((*shape, mixture_density.size(COMPONENTS)))
    targets = random.standard_normal((*shape, 3))
    targets[..., 2] = random.random(shape) < 0.5
    return outputs, targets


def oracle(outputs, target):
    """The definition, component by component: probabilities, covariance matrices, and then a logarithm."""
    weights, mean_x, mean_y, log_x, log_y, rho_hat = outputs[:-1].reshape(6, -1)
    density = 0.0
    for j in range(len(weights)):
        share = np.exp(weights[j]) / np.exp(weights).sum()
        deviations, rho = np.exp([log_x[j], log_y[j]]), np.tanh(rho_hat[j])
        covariance = np.outer(deviations, deviations) * np.array([[1, rho], [rho, 1]])
        offset = target[:2] - [mean_x[j], mean_y[j]]
        exponent = -0.5 * offset @ np.linalg.inv(covariance) @ offset
        density += share * np.exp(exponent) / (2 * np.pi * np.sqrt(np.linalg.det(covariance)))
    end = 1 / (1 + np.exp(-outputs[-1]))
    return -np.log(density) - np.log(end if target[2] else 1 - end)


def test_equals_the_definition(exact):
    outputs, targets = _random((4, 5))
    expected = [
        [oracle(*each) for each in zip(*row, strict=True)] for row in zip(outputs, targets, strict=True)
    ]
    np.testing.assert_allclose(loss(outputs, targets), expected, rtol=1e-12)
    np.testing.assert_allclose(
        mixture_density.negative_log_likelihood(outputs[0, 0], targets[0, 0]), expected[0][0], rtol=1e-12
    )


def test_gradients_are_those_of_differences(exact):
    outputs, targets = _random((6,))

    @jax.jit
    def total(outputs, steps):
        all_targets = jnp.concatenate([steps, targets[:, 2:]], axis=1)
        return mixture_density.negative_log_likelihood(outputs, all_targets).sum()

    check_grads(total, (outputs, targets[:, :2]), 2, atol=1e-6, rtol=1e-6, eps=1e-5)


def test_the_density_integrates_to_one(exact):
    outputs, _ = _random((), seed=3, scale=0.3)
    grid = np.linspace(-18, 18, 361)
    points = np.stack([*np.meshgrid(grid, grid)], axis=-1).reshape(-1, 2)
    total = 0.0
    for end in (0, 1):
        targets = np.hstack([points, np.full((len(points), 1), end)])
        losses = loss(np.broadcast_to(outputs, (len(points), len(outputs))), targets)
        total += np.exp(-np.asarray(losses)).sum() * (grid[1] - grid[0]) ** 2
    assert total == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("rho_hat", [8.0, -8.0, 30.0])
def test_a_correlation_of_nearly_one_loses_no_digits(rho_hat):
    """In float32, where 1 - tanh(8) ** 2 has one digit left, and 1 - tanh(30) ** 2 none."""
    outputs, sign = np.zeros(7, np.float32), np.sign(rho_hat)
    outputs[5] = rho_hat
    target = np.array([0.5, sign * 0.5, 1], np.float32)
    loss, (gradient, _) = total(outputs, target)
    # On the ridge, z1 = sign z2: the quadratic form is z1 ** 2, and sqrt(1 - rho ** 2) is 2 exp(-|rho_hat|).
    on_ridge = np.log(2 * np.pi) + np.log(2) - abs(rho_hat) + 0.5**2 / 2 + np.log(2)
    assert float(loss) == pytest.approx(on_ridge, rel=1e-5)
    assert np.isfinite(gradient).all()
    assert gradient[5] == pytest.approx(-sign, rel=1e-4)


def test_what_is_far_away_or_certain_is_finite():
    outputs = np.zeros((2, mixture_density.size(2)), np.float32)
    outputs[:, -1] = [-200.0, 200.0]  # the wrong end, for certain
    targets = np.array([[1e3, -1e3, 1], [1e3, 1e3, 0]], np.float32)
    np.testing.assert_allclose(loss(outputs, targets), np.log(2 * np.pi) + 1e6 + 200, rtol=1e-6)
    _, (gradient, _) = total(outputs, targets)
    assert np.isfinite(gradient).all()
    np.testing.assert_allclose(gradient[:, -1], [-1, 1])


def test_other_units_shift_the_loss_by_their_logarithm(exact):
    outputs, targets = _random((5,))
    scale = 20.0
    scaled = outputs.copy()
    scaled[:, COMPONENTS : 3 * COMPONENTS] /= scale
    scaled[:, 3 * COMPONENTS : 5 * COMPONENTS] -= np.log(scale)
    before, after = loss(outputs, targets), loss(scaled, targets / [scale, scale, 1])
    np.testing.assert_allclose(after, np.asarray(before) - 2 * np.log(scale), rtol=1e-12)


@pytest.mark.parametrize("junk", [np.nan, np.inf, 1e300])
def test_what_is_masked_has_no_influence(junk, exact):
    outputs, targets = _random((4, 3))
    mask = np.random.default_rng(1).random((4, 3)) < 0.5
    filled = [np.where(mask[..., None], each, junk) for each in (outputs, targets)]
    value, gradients = total(*filled, mask)
    expected = np.asarray(loss(outputs, targets))[mask].sum()
    assert float(value) == pytest.approx(float(expected), rel=1e-12)
    of_all = total(outputs, targets)[1]
    for actual, each in zip(gradients, of_all, strict=True):
        np.testing.assert_allclose(actual, np.where(mask[..., None], each, 0), rtol=1e-12)


def test_samples_have_the_moments_of_the_mixture():
    outputs, _ = _random((), seed=5)
    count = 200_000
    draw = jax.jit(functools.partial(mixture_density.sample, bias=0.5))
    steps = np.asarray(draw(jax.random.key(0), np.broadcast_to(np.float32(outputs), (count, len(outputs)))))
    weights, mean_x, mean_y, log_x, log_y, rho_hat = outputs[:-1].reshape(6, -1)
    shares = np.exp(1.5 * weights) / np.exp(1.5 * weights).sum()
    means, deviations = np.stack([mean_x, mean_y], 1), np.exp(np.stack([log_x, log_y], 1) - 0.5)
    mean = shares @ means
    covariance = np.zeros((2, 2))
    for j in range(COMPONENTS):
        rho = np.tanh(rho_hat[j])
        own = np.outer(deviations[j], deviations[j]) * np.array([[1, rho], [rho, 1]])
        covariance += shares[j] * (own + np.outer(means[j] - mean, means[j] - mean))
    np.testing.assert_allclose(steps[:, :2].mean(axis=0), mean, atol=0.02)
    np.testing.assert_allclose(np.cov(steps[:, :2].T), covariance, atol=0.03)
    assert steps[:, 2].mean() == pytest.approx(1 / (1 + np.exp(-outputs[-1])), abs=0.01)
    assert set(steps[:, 2]) == {0, 1}


def test_a_large_bias_draws_the_mean_of_the_likeliest_component():
    outputs, _ = _random((7,), seed=6)
    steps = np.asarray(mixture_density.sample(jax.random.key(1), jnp.float32(outputs), bias=30.0))
    likeliest = outputs[:, :COMPONENTS].argmax(axis=1)
    for axis in (0, 1):
        means = outputs[np.arange(7), (1 + axis) * COMPONENTS + likeliest]
        np.testing.assert_allclose(steps[:, axis], means, atol=1e-5)


def test_half_precision_is_computed_in_float32():
    outputs, targets = _random((5,))
    rounded = jnp.asarray(outputs, jnp.bfloat16)
    losses = loss(rounded, targets)
    assert losses.dtype == jnp.float32
    np.testing.assert_array_equal(losses, loss(rounded.astype(jnp.float32), targets))


@pytest.mark.usefixtures("unchecked")
def test_wrong_arguments_are_named():
    outputs, targets = _random((4,))
    with pytest.raises(ValueError, match="6 \\* components \\+ 1"):
        mixture_density.mixture(outputs[:, 1:])
    with pytest.raises(ValueError, match="6 \\* components \\+ 1"):
        mixture_density.mixture(outputs[:, :1])
    with pytest.raises(ValueError, match="bias must be 0 or positive"):
        mixture_density.sample(jax.random.key(0), outputs, bias=-1.0)
    with pytest.raises(ValueError, match=r"targets must have shape \(4, 3\)"):
        mixture_density.negative_log_likelihood(outputs, targets[:2])
    with pytest.raises(ValueError, match=r"mask must have shape \(4,\)"):
        mixture_density.negative_log_likelihood(outputs, targets, np.ones(3, bool))
    with pytest.raises(TypeError, match="mask must be boolean"):
        mixture_density.negative_log_likelihood(outputs, targets, np.ones(4))
    with pytest.raises(ValueError, match="components must be a positive integer"):
        mixture_density.size(0)
