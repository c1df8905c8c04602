"""DRAW against a loop in NumPy and an integral, its gradient, binary images, pictures, and a whole run."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image
from resuming import assert_finished_run_resumes

from experiments import __main__ as program
from experiments.common import models
from experiments.datasets.mnist import SIDE, Digit
from experiments.image_generation import data, page, pictures
from experiments.image_generation import task as tasks
from experiments.image_generation.config import Config, preset
from experiments.image_generation.model import _aim, make_model
from lstmjax.attention import Window, gaussian_filterbank
from lstmjax.training.record import Record, Run

SMALL = Config(glimpses=3, hidden=6, latent=4, importance=5, batch_size=4)
PIXELS = SIDE * SIDE


def make(config):
    params = jax.jit(make_model(config).init)(jax.random.key(0))
    return params | {"canvas": jnp.asarray(np.random.default_rng(0).normal(0, 1, PIXELS), jnp.float32)}


def binary(count, seed=1):
    return np.random.default_rng(seed).integers(0, 2, (count, PIXELS)).astype(np.float32)


def sigmoid(values):
    return 1 / (1 + np.exp(-values))


def lstm(weights, state, inputs):
    hidden, cell = state
    total = inputs @ weights["kernel"] + hidden @ weights["recurrent_kernel"] + weights["bias"]
    i, f, g, o = np.split(total, 4)
    cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(cell), cell


def looped(config, params, image, noise):
    """Canvas, KL and log ratio of one image after all glimpses, by equations 3 to 12 of the paper."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)

    def linear(layer, inputs):
        return inputs @ layer["kernel"] + layer["bias"]

    def bank(layer, hidden, grid):
        return gaussian_filterbank(jnp.asarray(linear(layer, hidden)), (SIDE, SIDE), grid)

    glimpse = params["glimpse"]
    encoder = decoder = (np.zeros(config.hidden), np.zeros(config.hidden))
    canvas, kl, log_ratio = params["canvas"], 0.0, 0.0
    for step in range(config.glimpses):
        pair = [image, image - sigmoid(canvas)]
        if config.attention:
            window = bank(glimpse["aim_read"], decoder[0], config.read)
            pair = [np.asarray(window.read(each.reshape(SIDE, SIDE))).ravel() for each in pair]
        encoder = lstm(params["encoder"]["weights"], encoder, np.concatenate([*pair, decoder[0]]))
        mean, log_deviation = np.split(linear(params["posterior"], encoder[0]), 2)
        z = mean + np.exp(log_deviation) * noise[step]
        for k in range(config.latent):
            variance = np.exp(log_deviation[k]) ** 2
            kl += (mean[k] ** 2 + variance - np.log(variance) - 1) / 2
            q = np.exp(-((z[k] - mean[k]) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)
            log_ratio += np.log(q) - np.log(np.exp(-(z[k] ** 2) / 2) / np.sqrt(2 * np.pi))
        decoder = lstm(params["decoder"]["weights"], decoder, z)
        painted = linear(glimpse["paint"], decoder[0])
        if config.attention:
            window = bank(glimpse["aim_write"], decoder[0], config.write)
            painted = np.asarray(window.write(painted.reshape(config.write, config.write))).ravel()
        canvas = canvas + painted
    return canvas, kl, log_ratio


@pytest.mark.parametrize("attention", [True, False])
def test_drawing_is_that_of_a_loop_over_glimpses(attention):
    config = dataclasses.replace(SMALL, attention=attention)
    params, images = make(config), binary(2)
    noise = np.random.default_rng(2).normal(size=(3, 2, 4)).astype(np.float32)
    last, drawn = jax.jit(lambda each: make_model(config).bind(each).reconstruct(images, noise))(params)
    for row in range(2):
        with jax.enable_x64(True):
            canvas, kl, log_ratio = looped(config, params, images[row].astype(np.float64), noise[:, row])
        np.testing.assert_allclose(last.canvas[row], canvas, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(drawn.canvas[-1, row], canvas, rtol=1e-4, atol=1e-4)
        assert float(drawn.kl[:, row].sum()) == pytest.approx(kl, rel=1e-4)
        assert float(drawn.log_ratio[:, row].sum()) == pytest.approx(log_ratio, rel=1e-4, abs=1e-4)


def test_generating_continues_as_reconstructing_does():
    """Given the z of the posterior, the canvases are the same."""
    params, images = make(SMALL), binary(2)
    model = make_model(SMALL).bind(params)
    noise = np.zeros((3, 2, 4), np.float32)
    _, drawn = model.reconstruct(images, noise)
    _, other = model.generate(noise)
    assert not np.allclose(drawn.canvas, other.canvas)
    posterior = params["posterior"]
    params["posterior"] = jax.tree.map(jnp.zeros_like, posterior)  # the mean is 0, as of the prior
    _, drawn = make_model(SMALL).bind(params).reconstruct(images, noise)
    np.testing.assert_allclose(drawn.canvas, other.canvas, rtol=1e-5, atol=1e-5)


def test_the_gradient_of_the_bound_is_the_numerical_one():
    params, batch = make(SMALL), data.Batch(binary(4), np.ones(4, bool), np.uint32(0))

    @jax.jit
    def bound(each):
        return tasks.bound(SMALL, each, batch, jax.random.key(3))["bound_nats"].compute()

    gradient = jax.jit(jax.grad(bound))(params)
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(4), len(leaves))
    for number in range(3):
        direction = tree.unflatten(
            [
                jax.random.normal(jax.random.fold_in(k, number), leaf.shape)
                for k, leaf in zip(keys, leaves, strict=True)
            ]
        )
        slope = sum(jax.tree.leaves(jax.tree.map(lambda a, b: float((a * b).sum()), gradient, direction)))
        ends = [
            float(bound(jax.tree.map(lambda leaf, way, size=size: leaf + size * way, params, direction)))
            for size in (1e-3, -1e-3)
        ]
        assert slope == pytest.approx((ends[0] - ends[1]) / 2e-3, rel=0.02, abs=0.1)


def test_the_estimate_is_the_likelihood_and_the_bound_is_above_it():
    """With one latent variable and one glimpse the likelihood is an integral over a line."""
    config = Config(glimpses=1, latent=1, hidden=6, importance=3000)
    params, images = make(config), binary(3)
    found = tasks.importance(config, params, data.Batch(images, np.ones(3, bool), np.uint32(0)))
    z = np.linspace(-8, 8, 4001)
    _, drawn = make_model(config).bind(params).generate(jnp.asarray(z, jnp.float32)[None, :, None])
    logits = np.asarray(drawn.canvas[0], np.float64)
    log_likelihoods = images @ logits.T - np.logaddexp(0, logits).sum(axis=1)
    joint = log_likelihoods - z**2 / 2 - np.log(2 * np.pi) / 2
    top = joint.max(axis=1)
    wanted = -(top + np.log(np.exp(joint - top[:, None]).sum(axis=1) * (z[1] - z[0]))).mean()
    assert float(found["iwae_nats"].compute()) == pytest.approx(wanted, abs=0.05)
    assert float(found["bound_nats"].compute()) > wanted + 0.05


def test_the_weight_of_the_kl_grows():
    config = dataclasses.replace(SMALL, kl_warmup=4)
    batches = data.ImageBatches(np.full((8, PIXELS), 128, np.uint8), 4)
    task = tasks.make_task(config, batches, batches)
    assert [float(task.batch(1, step).kl_weight) for step in (0, 1, 3, 4)] == [0.25, 0.5, 1, 1]
    params, batch = make(config), task.batch(1, 0)
    loss, (_, metrics) = jax.jit(task.loss)(params, (), batch, jax.random.key(0))
    wanted = metrics["reconstruction_nats"].compute() + 0.25 * metrics["kl_nats"].compute()
    assert float(loss) == pytest.approx(float(wanted), rel=1e-6)


def test_windows_cover_the_image_at_first():
    """Each pixel is within half a stride of a filter, and filters are as wide as a quarter of it."""
    for grid in (2, 5):
        aim = _aim(SMALL, grid, 1.0, nnx.Rngs(0))
        window = gaussian_filterbank(aim(jnp.zeros(SMALL.hidden)), (SIDE, SIDE), grid).window
        assert float(window.stride) == pytest.approx(SIDE / grid, rel=1e-5)
        assert float(window.deviation) == pytest.approx(SIDE / grid / 4, rel=1e-5)
        assert float(window.column) == float(window.row) == (SIDE + 1) / 2


def test_rows_that_fill_up_a_batch_do_not_count():
    params, images = make(SMALL), binary(4)
    there = np.array([True, True, True, False])
    one, other = (
        tasks.importance(SMALL, params, data.Batch(each, there, np.uint32(7)))
        for each in (images, np.concatenate([images[:3], 1 - images[3:]]))
    )
    assert jax.tree.map(float, one) == jax.tree.map(float, other)
    assert one["bound_nats"].weight == 3


def test_pixels_are_drawn_by_their_brightness():
    brightness = np.tile(np.array([0, 51, 255], np.uint8), (1000, 1))
    batches = data.ImageBatches(brightness, batch_size=300)
    assert batches.steps_per_epoch == 4
    epoch = [batches.at(1, step) for step in range(4)]
    assert sum(batch.there.sum() for batch in epoch) == 1000
    ink = sum(batch.images.sum(axis=0) for batch in epoch) / 1000
    np.testing.assert_allclose(ink, [0, 0.2, 1], atol=0.05)
    assert not np.array_equal(epoch[0].images, batches.at(1, 4).images), "drawn anew in the next epoch"
    for one, other in zip(batches.once(), batches.once(), strict=True):
        jax.tree.map(np.testing.assert_array_equal, one, other)


def test_static_binarisation_is_a_threshold():
    digits = [Digit(np.arange(PIXELS, dtype=np.uint64).reshape(SIDE, SIDE).astype(np.uint8), 0)]
    grey = data.brightness(Config(binarisation="static"), digits)
    (batch,) = data.ImageBatches(grey, 1).once()
    np.testing.assert_array_equal(batch.images[0], (np.arange(PIXELS) % 256 >= 128))
    assert data.brightness(Config(), digits)[0, 200] == 200


def test_the_first_canvas_is_the_log_odds_of_the_mean_image():
    brightness = np.array([[0, 255, 51], [0, 255, 153]], np.uint8)
    np.testing.assert_allclose(sigmoid(data.log_odds(brightness)), [1 / 6, 5 / 6, 1.3 / 3], rtol=1e-5)


def test_a_window_is_outlined_where_its_filters_lie():
    window = Window(*map(np.float32, (10, 20, 2, 1, 1)))  # column 10, row 20
    picture = pictures.outlined(pictures.tile(np.zeros(PIXELS)), window, 5, pictures.WRITE)
    red = np.argwhere((np.asarray(picture) == pictures.WRITE).all(axis=-1))
    scale = pictures.SCALE
    assert red.min(axis=0).tolist() == [scale * (20 - 1 - 4), scale * (10 - 1 - 4)]
    assert red.max(axis=0).tolist() == [scale * (20 + 4), scale * (10 + 4)]
    far = Window(*map(np.float32, (1e9, -1e9, 1e9, 1e9, 1)))
    pictures.outlined(pictures.tile(np.ones(PIXELS)), far, 5, pictures.READ)


def test_the_nearest_image_is_found():
    others = np.random.default_rng(0).random((20, PIXELS))
    found = pictures.nearest(others[[3, 11]] + 0.01, others)
    np.testing.assert_array_equal(found, others[[3, 11]])


def record(label, **flags):
    config = dataclasses.asdict(preset(Config(**flags)))
    metrics = {"test_bound_nats": 95.25, "test_iwae_nats": 91.5, "valid_bound_nats": 95.0}
    metrics |= {"test_kl_nats": 25.0, "test_reconstruction_nats": 70.25, "parameters": 1000.0}
    return Record("image_generation", label, "python -m ...", config, 1, metrics, "cpu", 60.0, "0" * 40, {})


def test_the_page_has_both_figures_beside_the_paper():
    records = [record("mnist-plain", attention=False), record("mnist-attention")]
    text = page.PAGE.text(records)
    assert "95.25" in text
    assert "91.50" in text
    assert "80.97" in text
    assert [row.label for row in page.PAGE.rows(records)] == ["mnist-attention", "mnist-plain"]


@pytest.fixture(scope="module", name="quick_run")
def _quick_run(tmp_path_factory, real_data):
    runs = tmp_path_factory.mktemp("runs")
    arguments = ["image_generation", "--quick", "--data-dir", str(real_data), "--runs", str(runs)]
    assert program.main([*arguments, "--train.checkpoint-every", "10"]) == 0
    (path,) = (runs / "image_generation").iterdir()
    return Run.open(path)


def test_a_run_writes_what_it_promises(quick_run, tmp_path):
    figures = quick_run.figures()
    assert figures["test_iwae_nats"] < figures["test_bound_nats"] < 784 * np.log(2)
    parts = figures["test_reconstruction_nats"] + figures["test_kl_nats"]
    assert figures["test_bound_nats"] == pytest.approx(parts)
    names = ("learning_curves.png", "drawing.png", "samples.png", "reconstruction.png", "drawing.gif")
    assert all((quick_run.path / name).stat().st_size > 1000 for name in names)
    saved = tasks.load_model(models.of_run(quick_run.path, "image_generation"))
    assert saved.config.attention
    out = tmp_path / "drawn"
    arguments = ["--run", str(quick_run.path), "--count", "5", "--out", str(out)]
    assert program.main(["image_generation", "generate", *arguments]) == 0
    with Image.open(out / "drawing.gif") as animation:
        assert animation.n_frames == saved.config.glimpses + 1
        assert animation.size == tuple(88 * count + 4 for count in (3, 2))


def test_a_run_is_resumed_to_the_same_figures(quick_run, tmp_path):
    assert_finished_run_resumes(quick_run, tmp_path, 20)
