"""The Gaussian filterbank against loops over pixels in NumPy, its gradient, and windows outside the image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from lstmjax.attention import gaussian_filterbank

HEIGHT, WIDTH = 7, 5


def filters(centre, stride, deviation, grid, pixels):
    found = np.zeros((grid, pixels))
    for i in range(1, grid + 1):
        mean = centre + (i - grid / 2 - 0.5) * stride
        for pixel in range(1, pixels + 1):
            found[i - 1, pixel - 1] = np.exp(-((pixel - mean) ** 2) / (2 * deviation**2))
        found[i - 1] /= found[i - 1].sum()
    return found


def looped(outputs, grid):
    """F_Y, F_X and gamma by equations 21 to 26 of the paper, for one image."""
    column, row, log_variance, log_stride, log_intensity = outputs
    stride = (max(HEIGHT, WIDTH) - 1) / (grid - 1) * np.exp(log_stride)
    deviation = np.sqrt(np.exp(log_variance))
    rows = filters((HEIGHT + 1) / 2 * (row + 1), stride, deviation, grid, HEIGHT)
    columns = filters((WIDTH + 1) / 2 * (column + 1), stride, deviation, grid, WIDTH)
    return rows, columns, np.exp(log_intensity)


@jax.jit
def both(outputs, image, patch):
    """What is read from an image, and a patch as it is written."""
    bank = gaussian_filterbank(outputs, (HEIGHT, WIDTH), patch.shape[-1])
    return bank.read(image), bank.write(patch)


@pytest.mark.parametrize("grid", [2, 3])
def test_patches_are_those_of_loops_over_pixels(grid):
    random = np.random.default_rng(grid)
    with jax.enable_x64(True):
        outputs, image = random.normal(0, 0.5, (4, 5)), random.random((4, HEIGHT, WIDTH))
        patch = random.normal(size=(4, grid, grid))
        read, written = both(outputs, image, patch)
        for number in range(4):
            rows, columns, gamma = looped(outputs[number], grid)
            for i in range(grid):
                for j in range(grid):
                    wanted = sum(
                        gamma * rows[i, b] * image[number, b, a] * columns[j, a]
                        for b in range(HEIGHT)
                        for a in range(WIDTH)
                    )
                    assert read[number, i, j] == pytest.approx(wanted, rel=1e-10)
            for b in range(HEIGHT):
                for a in range(WIDTH):
                    wanted = sum(
                        rows[i, b] * patch[number, i, j] * columns[j, a] / gamma
                        for i in range(grid)
                        for j in range(grid)
                    )
                    assert written[number, b, a] == pytest.approx(wanted, rel=1e-10)


def test_gradients_are_the_numerical_ones():
    random = np.random.default_rng(0)
    with jax.enable_x64(True):
        image, patch = random.random((HEIGHT, WIDTH)), jnp.asarray(random.normal(size=(3, 3)))

        check_grads(
            both, (jnp.asarray(random.normal(0, 0.3, 5)), jnp.asarray(image), patch), 1, modes=["rev"]
        )


def test_a_window_far_outside_the_image_is_finite_and_so_is_its_gradient():
    def total(outputs):
        read, written = both(outputs, jnp.ones((HEIGHT, WIDTH)), jnp.zeros((3, 3)))
        return read.sum() + written.sum()

    value, gradient = jax.jit(jax.value_and_grad(total))(jnp.array([50.0, -50.0, -8.0, 0.0, 0.0]))
    assert value == pytest.approx(9, rel=1e-5), "each filter is normalized over the image"
    assert np.isfinite(gradient).all()


def test_a_grid_of_one_filter_reads_the_mean_around_its_centre():
    bank = gaussian_filterbank(jnp.array([0.0, 0.0, -9.0, 3.0, 0.0]), (HEIGHT, WIDTH), 1)
    image = jnp.arange(HEIGHT * WIDTH, dtype=jnp.float32).reshape(HEIGHT, WIDTH)
    assert float(bank.read(image)[0, 0]) == pytest.approx(float(image[3, 2]))


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"outputs must be \[\.\.\., 5\], got shape \(2, 4\)"):
        gaussian_filterbank(jnp.zeros((2, 4)), (HEIGHT, WIDTH), 3)
    with pytest.raises(ValueError, match="grid"):
        gaussian_filterbank(jnp.zeros(5), (HEIGHT, WIDTH), 0)
