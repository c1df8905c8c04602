r"""The LSTM over a sequence with NVIDIA's cuDNN, through `jax.experimental.rnn`.

cuDNN provides the forward and the backward pass in float32, for rows of at least one step, from the first
step to the last. This module adds the conversion to cuDNN's parameter order, rows of length 0, and the
reverse direction. cuDNN has no resets. It lacks forward mode and second derivatives too; these are those of
`lstmjax.backends.fused`: the run is a primitive whose derivative is a linear primitive, and cuDNN's gradient
is the transpose of that.

Source: Appleyard, Kocisky and Blunsom 2016 (arXiv 1604.01946); cuDNN's developer guide, cudnnRNNForward.
"""

import functools
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import rnn
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from lstmjax.backends.fused import fused
from lstmjax.backends.primitives import compiled, jvp_of_plain, lowering, one_after_the_other
from lstmjax.backends.recurrence import XLA
from lstmjax.backends.scan import Masks, select
from lstmjax.cells.lstm import LSTM, LSTMParams, LSTMState
from lstmjax.sharding import divided_by_rows, needs_devices, vary_alike


class Library(NamedTuple):
    """An implementation; its functions have the arguments of ``lstm_fwd`` and ``lstm_bwd`` of JAX's `rnn`."""

    forward: Callable[..., Any]
    """``(x, h_0, c_0, weights, lengths, **sizes)`` to ``(y, h_n, c_n)`` and residuals, of which the last is
    an array that only `backward` understands."""
    backward: Callable[..., Any]
    """``(residuals, (y_bar, h_bar, c_bar), **sizes)`` to cotangents of the first four."""
    platform: str | None
    """Where it runs, as JAX's lowering names it; None for everywhere. Elsewhere `fused` is used."""


def _forward(*operands: Any, **sizes: Any) -> Any:
    forward: Any = rnn.lstm_fwd
    return forward(*operands, **sizes, precision=_precision())


def _backward(residuals: Any, cotangents: Any, **sizes: Any) -> Any:
    return rnn.lstm_bwd(**sizes, precision=_precision(), residuals=residuals, gradients=cotangents)[:4]


def _precision() -> jax.lax.Precision:
    """The precision of JAX's own products: TF32 unless the user requested float32."""
    exact = getattr(jax.config, "jax_default_matmul_precision", None) in ("highest", "float32")
    return jax.lax.Precision.HIGHEST if exact else jax.lax.Precision.HIGH


CUDNN = Library(_forward, _backward, platform="cuda")


def why_not(cell: LSTM, needs: Collection[str], platform: str) -> str | None:
    """The reason why cuDNN cannot run a cell on a platform; None if it can.

    Example:
      >>> import lstmjax
      >>> why_not(lstmjax.lstm(3, 4), ["resets"], platform="gpu")
      'cuDNN has no resets'
    """
    if platform != "gpu" or not getattr(jax.devices()[0], "compute_capability", "9.0")[0].isdigit():
        return f"cuDNN is for NVIDIA GPUs, the platform is {platform}"
    if str(cell.dtype) != "float32":
        return f"jax.experimental.rnn has cuDNN for float32, not for {cell.dtype}"
    if needs:
        return f"cuDNN has no {' and no '.join(needs)}"
    if not hasattr(rnn.gpu_rnn, "compute_rnn_workspace_reserve_space_sizes"):
        return "this jaxlib has no cuDNN: install jax[cuda12] or jax[cuda13]"
    return None


def cudnn_lstm(
    cell: LSTM,
    params: LSTMParams,
    inputs: jax.Array,
    state: LSTMState,
    masks: Masks,
    reverse: bool,
    library: Library = CUDNN,
) -> tuple[LSTMState, jax.Array]:
    """Run an LSTM over batch-major inputs ``[..., time, features]``; masks are ``[..., time]``.

    Arguments and results are otherwise those of `lstmjax.backends.scan.scan`. There are no resets, and the
    valid steps of a row are its first ones.

    Args:
      cell: an LSTM that computes in float32.
      params: its parameters.
      inputs: finite also where not valid.
      state: before the first step.
      masks: ``valid`` or None; ``fresh`` must be None.
      reverse: run from the last valid step of each row to the first.
      library: the implementation.
    """
    *batch, time, _ = inputs.shape
    if 0 in inputs.shape:
        return state, jnp.zeros((*batch, time, cell.hidden), inputs.dtype)
    x, hidden, cell_state = (leaf.reshape(-1, *leaf.shape[len(batch) :]) for leaf in (inputs, *state))
    valid = None if masks.valid is None else masks.valid.reshape(-1, time)
    rows = x.shape[0]
    lengths = jnp.full(rows, time) if valid is None else valid.sum(-1)
    turn = functools.partial(_turned, lengths=None if valid is None else lengths) if reverse else lambda y: y
    operands = (turn(x), hidden, cell_state, pack(params), jnp.maximum(lengths, 1).astype(jnp.int32))
    outputs, *last, _ = _forward_p.bind(*vary_alike(operands, like=()), library=library)
    outputs, after = turn(outputs), LSTMState(*last)
    if valid is not None:
        outputs = select(valid, outputs, jnp.zeros_like(outputs))
        after = select(lengths > 0, after, LSTMState(hidden, cell_state))
    after = jax.tree.map(lambda leaf: leaf.reshape(*batch, -1), after)
    return after, outputs.reshape(*batch, time, cell.hidden)


def pack(params: LSTMParams) -> jax.Array:
    """Parameters as one vector in cuDNN's order: kernel and recurrent kernel transposed, and two biases.

    The order of the gates is the same. The second bias is zero.
    """
    zeros = jnp.zeros(params.kernel.shape[1])
    bias = zeros if params.bias is None else params.bias
    parts = (params.kernel.T, params.recurrent_kernel.T, bias, zeros)
    return jnp.concatenate([jnp.ravel(part).astype(jnp.float32) for part in parts])


def unpack(weights: jax.Array, features: int, hidden: int) -> LSTMParams:
    """The inverse of `pack`; the two biases are added."""
    wide = 4 * hidden
    ends = (wide * features, wide * (features + hidden), wide * (features + hidden + 1))
    kernel, recurrent_kernel, bias, other_bias = jnp.split(weights, ends)
    return LSTMParams(
        kernel.reshape(wide, features).T, recurrent_kernel.reshape(wide, hidden).T, bias + other_bias
    )


def _turned(sequences: Any, lengths: jax.Array | None) -> jax.Array:
    """Reverse the valid part of each row and leave the padding in place; its own inverse."""
    if lengths is None:
        return jnp.flip(sequences, 1)
    t = jnp.arange(sequences.shape[1])
    last = lengths[:, None].astype(t.dtype) - 1
    places = jnp.where(t <= last, last - t, t)
    return jnp.take_along_axis(sequences, places[..., None], axis=1)


# The primitives: the forward pass, its linearization, and the transpose of that. Operands are x, h_0, c_0,
# weights and lengths; for the last two also the outputs and the library's array, then tangents or cotangents.


def _sizes(x: Any, hidden: Any) -> dict[str, Any]:
    sizes = {"input_size": x.shape[-1], "hidden_size": hidden.shape[-1]}
    return {**sizes, "num_layers": 1, "dropout": 0.0, "bidirectional": False}


def _plain(x: jax.Array, hidden: jax.Array, cell: jax.Array, weights: jax.Array, lengths: jax.Array) -> Any:
    """The same computation with `fused`."""
    lstm = LSTM(x.shape[-1], hidden.shape[-1])
    valid = jnp.arange(x.shape[1])[:, None] < lengths
    params, state = unpack(weights, lstm.features, lstm.hidden), LSTMState(hidden, cell)
    arguments = (params, x.swapaxes(0, 1), state, Masks(valid, None))
    after, (outputs, _) = fused(XLA, lstm, *arguments, False, False)
    return outputs.swapaxes(0, 1), *after


def _run_whole(*operands: jax.Array, library: Library) -> Any:
    x, hidden, cell, weights, lengths = operands
    (outputs, last, last_cell), residuals = library.forward(
        x, hidden[None], cell[None], weights, lengths, **_sizes(x, hidden)
    )
    return outputs, last[0], last_cell[0], residuals[-1]


def _run_by_library(*operands: jax.Array, library: Library) -> Any:
    kept = _kept(*operands, library=library)

    def function(axes: tuple[str, ...], *operands: jax.Array) -> Any:
        results = _run_whole(*operands, library=library)
        # What the library keeps of a shard is no part of what it keeps of all rows: the backward pass of a
        # shard runs forward again instead.
        return (*results[:-1], jnp.zeros(kept.shape, kept.dtype)) if axes else results

    return divided_by_rows(function, [1, 1, 1, 0, 1], whole={3})(*operands)


def _run_anywhere(*operands: jax.Array, library: Library) -> Any:
    if library.platform is None:
        return _run_by_library(*operands, library=library)
    kept = _kept(*operands, library=library)
    return *_plain(*operands), jnp.zeros(kept.shape, kept.dtype)


def _kept(*operands: Any, library: Library) -> jax.ShapeDtypeStruct:
    shapes = [jax.ShapeDtypeStruct(operand.shape, operand.dtype) for operand in operands]
    return jax.eval_shape(functools.partial(_run_whole, library=library), *shapes)[-1]


def _run_avals(*operands: Any, library: Library) -> Any:
    x, hidden, cell, *_ = operands
    kept = _kept(*operands, library=library)
    outputs = x.update(shape=(*x.shape[:-1], hidden.shape[-1]))
    return [outputs, hidden, cell, x.update(shape=kept.shape, dtype=kept.dtype)]


def _linear_plain(*operands: jax.Array, library: Library) -> Any:
    primals, lengths, tangents = operands[:4], operands[4], operands[7:]

    def function(x: Any, hidden: Any, cell: Any, weights: Any) -> Any:
        return _plain(x, hidden, cell, weights, lengths)

    return jax.jvp(function, primals, tangents)[1]


def _transposed_plain(*operands: jax.Array, library: Library) -> Any:
    at, cotangents = operands[:7], operands[7:]
    return jax.linear_transpose(lambda *dots: _linear_plain(*at, *dots, library=library), *at[:4])(
        tuple(cotangents)
    )


def _transposed_by_library(*operands: jax.Array, library: Library) -> Any:
    def function(axes: tuple[str, ...], *operands: jax.Array) -> Any:
        x, hidden, cell, weights, lengths, outputs, kept, outputs_bar, hidden_bar, cell_bar = operands
        if axes:
            kept = _run_whole(*operands[:5], library=library)[-1]
        residuals = (x, hidden[None], cell[None], weights, lengths, outputs, kept)
        cotangents = (outputs_bar, hidden_bar[None], cell_bar[None])
        x_bar, hidden_bar, cell_bar, weights_bar = library.backward(
            residuals, cotangents, **_sizes(x, hidden)
        )
        weights_bar = jax.lax.psum(weights_bar, axes) if axes else weights_bar
        return x_bar, hidden_bar[0], cell_bar[0], weights_bar

    return divided_by_rows(function, [1, 1, 1, 0, 1, 1, 0, 1, 1, 1], whole={3})(*operands)


def _transposed_anywhere(*operands: jax.Array, library: Library) -> Any:
    function = _transposed_by_library if library.platform is None else _transposed_plain
    return function(*operands, library=library)


def _primitive(name: str, avals: Any, anywhere: Any, on_gpu: Any) -> Primitive:
    primitive = Primitive(f"lstmjax_cudnn_{name}")
    primitive.multiple_results = True
    needs_devices(primitive)
    primitive.def_impl(compiled(primitive, static=("library",)))
    primitive.def_abstract_eval(avals)
    mlir.register_lowering(primitive, mlir.lower_fun(anywhere, multiple_results=True))
    mlir.register_lowering(primitive, lowering(on_gpu, portable=anywhere), platform="cuda")

    def batch(operands: Sequence[Any], axes: Sequence[Any], library: Library) -> Any:
        return one_after_the_other(functools.partial(primitive.bind, library=library), operands, axes)

    batching.primitive_batchers[primitive] = batch
    return primitive


def _linear_avals(*operands: Any, library: Library) -> Any:
    return [operands[5], *operands[1:3]]


def _transposed_avals(*operands: Any, library: Library) -> Any:
    return list(operands[:4])


_forward_p = _primitive("forward", _run_avals, _run_anywhere, _run_by_library)
_linear_p = _primitive("linear", _linear_avals, _linear_plain, _linear_plain)
_transposed_p = _primitive("transposed", _transposed_avals, _transposed_anywhere, _transposed_by_library)


def _differentiate_forward(primals: Sequence[Any], tangents: Sequence[Any], library: Library) -> Any:
    results = _forward_p.bind(*primals, library=library)
    dots = map(ad.instantiate_zeros, tangents[:4])
    outputs, kept = results[0], results[-1]
    slopes = _linear_p.bind(*primals, outputs, kept, *dots, library=library)
    return results, [*slopes, jnp.zeros_like(kept)]


def _transpose(
    other: Primitive, cotangents: Sequence[Any], *operands: Any, library: Library
) -> Sequence[Any]:
    at, linear = operands[:7], operands[7:]
    results = other.bind(*at, *map(ad.instantiate_zeros, cotangents), library=library)
    wanted = [x if ad.is_undefined_primal(old) else None for x, old in zip(results, linear, strict=True)]
    return [None] * 7 + wanted


ad.primitive_jvps[_forward_p] = _differentiate_forward
ad.primitive_jvps[_linear_p] = functools.partial(jvp_of_plain, _linear_plain)
ad.primitive_jvps[_transposed_p] = functools.partial(jvp_of_plain, _transposed_plain)
ad.primitive_transposes[_linear_p] = functools.partial(_transpose, _transposed_p)
ad.primitive_transposes[_transposed_p] = functools.partial(_transpose, _linear_p)
