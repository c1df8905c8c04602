"""The Pallas kernels: in interpret mode here, lowered for a GPU, and on a GPU where there is one.

That they keep the sequence contract is in test_unroll.py.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

import lstmjax
from lstmjax import backends
from lstmjax.backends import pallas
from lstmjax.backends.fused import fused
from lstmjax.backends.scan import Masks
from lstmjax.cells.lstm import LSTMState
from lstmjax.sharding import vary_alike

PROBLEMS = {
    "less than a block": (3, 4, 3, 5, {}),
    "blocks": (32, 3, 3, 16, {"lengths": True}),
    "blocks and a part": (17, 4, 2, 20, {"lengths": True, "resets": True, "reverse": True}),
}


def problem(batch, time, features, hidden, options, dtype):
    random = np.random.default_rng(0)
    cell = lstmjax.lstm(features, hidden, dtype=dtype)
    masks = {"reverse": options.get("reverse", False)}
    if options.get("lengths"):
        masks["lengths"] = jnp.asarray(random.integers(0, time + 1, batch))
    if options.get("resets"):
        masks["resets"] = jnp.asarray(random.random((batch, time)) < 0.3)
    state = LSTMState(
        jnp.asarray(random.normal(size=(batch, hidden)), cell.dtype),
        jnp.asarray(random.normal(size=(batch, hidden)), cell.wide_dtype),
    )
    weights = jnp.asarray(random.normal(size=(batch, time, hidden)), jnp.float32)
    inputs = jnp.asarray(random.normal(size=(batch, time, features)), cell.dtype)

    def loss(params, inputs, state, backend):
        state, outputs = lstmjax.unroll(cell, params, inputs, state, backend=backend, **masks)
        total = (outputs * weights).sum() + (state.cell * state.hidden).sum()
        return total, (state, outputs)

    gradient = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True), static_argnums=3)
    return functools.partial(gradient, cell.init(jax.random.key(0)), inputs, state)


def assert_alike(ours, theirs, tolerance):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * np.abs(b).max(initial=1.0))


@pytest.mark.parametrize("name", PROBLEMS)
def test_values_and_gradients_for_batches_that_fill_blocks_and_that_do_not(name):
    gradient = problem(*PROBLEMS[name], "float32")
    assert_alike(gradient("pallas"), gradient("scan"), 1e-5)


def test_bfloat16():
    gradient = problem(*PROBLEMS["blocks and a part"], "bfloat16")
    assert_alike(gradient("pallas"), gradient("scan"), 3e-2)


def lowered_for_gpu(dtype, hidden, masked, differentiate=True, batch=32, time=10):
    """What XLA would compile for a GPU, which needs none to be there."""
    cell = lstmjax.lstm(8, hidden, dtype=dtype)
    masks = Masks(*[jax.ShapeDtypeStruct((batch, time), bool)] * 2) if masked else Masks(None, None)

    def loss(params, inputs, state, masks):
        state, (outputs, _) = fused(pallas.PALLAS, cell, params, inputs, state, masks, True, False)
        return outputs.astype(jnp.float32).sum() + state.cell.sum()

    function = jax.value_and_grad(loss, argnums=(0, 1, 2)) if differentiate else loss
    arguments = (
        jax.eval_shape(cell.init, jax.random.key(0)),
        jax.ShapeDtypeStruct((batch, time, 8), dtype),
        jax.eval_shape(lambda: cell.initial_state((batch,))),
        masks,
    )
    return jax.jit(function).trace(*arguments).lower(lowering_platforms=("cuda",)).as_text()


@pytest.mark.parametrize(
    ("dtype", "hidden"), [("float32", 64), ("bfloat16", 128), ("float16", 20), ("float32", 1)]
)
@pytest.mark.parametrize("masked", [False, True], ids=["plain", "masked"])
def test_lowered_for_a_gpu_a_sequence_is_one_kernel_and_its_gradient_another(dtype, hidden, masked):
    text = lowered_for_gpu(dtype, hidden, masked)
    assert text.count("__gpu$xla.gpu.triton") == 2
    assert "stablehlo.while" not in text, "a loop that launches kernels in each step"
    assert lowered_for_gpu(dtype, hidden, masked, differentiate=False).count("__gpu$xla.gpu.triton") == 1


def test_lowered_for_gpus_that_share_a_batch():
    mesh = Mesh(np.array(jax.devices("cpu")[:2]), ("devices",))
    everywhere, split = PartitionSpec(), PartitionSpec("devices")
    cell = lstmjax.lstm(3, 16)

    @functools.partial(jax.shard_map, mesh=mesh, in_specs=(everywhere, split), out_specs=everywhere)
    def gradient(params, inputs):
        def loss(params):
            state = vary_alike(cell.initial_state(inputs.shape[:1]), like=inputs)
            _, (outputs, _) = fused(
                pallas.PALLAS, cell, params, inputs, state, Masks(None, None), False, False
            )
            return jax.lax.psum(outputs.sum(), "devices")

        return jax.grad(loss)(params)

    params = jax.eval_shape(cell.init, jax.random.key(0))
    traced = jax.jit(gradient).trace(params, jax.ShapeDtypeStruct((32, 5, 3), jnp.float32))
    assert traced.lower(lowering_platforms=("cuda",)).as_text().count("__gpu$xla.gpu.triton") == 2


def test_lowered_for_a_gpu_without_rows_or_steps_there_is_no_kernel():
    for empty in ({"batch": 0}, {"time": 0}):
        assert "triton" not in lowered_for_gpu("float32", 16, True, **empty)


@pytest.mark.parametrize(("dtype", "largest"), [("float32", 64), ("bfloat16", 128), ("float16", 128)])
def test_the_largest_size_that_fits_is_named(dtype, largest):
    assert pallas.why_not(lstmjax.lstm(3, largest, dtype=dtype), "gpu") is None
    reason = pallas.why_not(lstmjax.lstm(3, largest + 1, dtype=dtype), "gpu")
    assert f"hidden <= {largest} fits in {dtype}" in reason


def test_what_does_not_fit_is_refused_by_name_and_passed_over_by_auto():
    cell = lstmjax.lstm(3, 65)
    with pytest.raises(ValueError, match=r"backend='pallas' cannot be had: .* KiB of shared memory"):
        backends.choose("pallas", cell, platform="gpu")
    way, reason = backends.choose("auto", cell, needs=["resets"], platform="gpu")
    assert way == "fused"
    assert "resets" in reason
    assert "shared memory" in reason


def test_auto_takes_it_on_a_gpu_where_cudnn_cannot():
    for cell, resets in ((lstmjax.lstm(3, 64), True), (lstmjax.lstm(3, 128, dtype="bfloat16"), False)):
        way, reason = backends.choose("auto", cell, needs=["resets"] * resets, platform="gpu")
        assert way == "pallas"
        assert "cuDNN" in reason


@pytest.mark.parametrize("platform", ["cpu", "tpu"])
def test_without_a_gpu_it_is_interpreted_when_asked_for_and_never_chosen(platform):
    cell = lstmjax.lstm(3, 64)
    assert "interpret mode" in backends.choose("pallas", cell, platform=platform).reason
    assert backends.choose("auto", cell, platform=platform).way != "pallas"


# On a GPU.

SIZES = [(64, 50, 32, 64), (33, 21, 7, 20), (1, 5, 3, 1), (128, 100, 128, 128)]


@pytest.mark.gpu
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("options", [{}, {"lengths": True, "resets": True, "reverse": True}], ids=str)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-4), ("bfloat16", 3e-2)])
def test_on_a_gpu_values_and_gradients_are_those_of_the_scan(size, options, dtype, tolerance):
    if pallas.why_not(lstmjax.lstm(*size[2:], dtype=dtype), "gpu") is not None:
        pytest.skip("does not fit on chip")
    with jax.default_matmul_precision("highest"):
        gradient = problem(*size, options, dtype)
        assert_alike(gradient("pallas"), gradient("scan"), tolerance)


@pytest.mark.gpu
def test_on_a_gpu_products_in_tf32_are_as_near_as_tf32_is():
    gradient = problem(64, 50, 32, 64, {"lengths": True}, "float32")
    assert_alike(gradient("pallas"), gradient("scan"), 1e-2)
