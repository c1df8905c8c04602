"""The convolutional LSTM, for sequences of images."""

import dataclasses
import math
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from lstmjax import initializers
from lstmjax.cells.cell import Cell, biased, check_step, per_row
from lstmjax.cells.lstm import LSTMState
from lstmjax.checks import check_sizes, resolve_dtypes, resolve_options
from lstmjax.types import Array, DTypeLike, Key, at_least_float32


class ConvLSTMParams(NamedTuple):
    """Parameters of a convolutional LSTM; gates in the order input, forget, candidate, output."""

    kernel: Array
    """``[kernel_size, kernel_size, channels, 4 * hidden]``: W."""
    recurrent_kernel: Array
    """``[kernel_size, kernel_size, hidden, 4 * hidden]``: R."""
    bias: Array | None
    """``[4 * hidden]``: b; None without biases."""
    peepholes: Array | None
    """``[3, height, width, hidden]``: p, of the gates i, f, o; None without peepholes."""


@dataclasses.dataclass(frozen=True, repr=False)
class ConvLSTM(Cell):
    """The specification of a convolutional LSTM; made by `conv_lstm`."""

    height: int
    width: int
    channels: int
    hidden: int
    kernel_size: int = 3
    peepholes: bool = False
    forget_bias: float | initializers.GateBias = 1.0
    kernel_init: initializers.KernelInit = initializers.lecun_normal
    recurrent_init: initializers.KernelInit = initializers.orthogonal
    dtype: DTypeLike = jnp.float32
    param_dtype: Any = None
    bias: bool = True

    maker: ClassVar[str] = "conv_lstm"

    def __post_init__(self) -> None:
        names = ("height", "width", "channels", "hidden", "kernel_size")
        check_sizes(self.maker, **{name: getattr(self, name) for name in names})
        resolve_dtypes(self.maker, self)
        resolve_options(self.maker, self)

    @property
    def features(self) -> int:  # type: ignore[override]
        """Size of an input vector: a flattened image."""
        return self.height * self.width * self.channels

    @property
    def output_size(self) -> int:
        """Size of an output vector: a flattened hidden state."""
        return self.height * self.width * self.hidden

    @property
    def input_dtype(self) -> DTypeLike:
        """The dtype of inputs, hidden state and outputs."""
        return self.dtype

    @property
    def wide_dtype(self) -> DTypeLike:
        """``dtype`` or float32, whichever is wider: of accumulated products, gates and cell state."""
        return at_least_float32(self.dtype)

    def init(self, key: Key) -> ConvLSTMParams:
        """Fresh parameters: an initialized kernel for each gate, `forget_bias`, all else 0."""
        kernel_key, recurrent_key, bias_key = jax.random.split(key, 3)
        bias_init = initializers.gate_bias(self.forget_bias)
        peepholes = (3, self.height, self.width, self.hidden)
        return ConvLSTMParams(
            kernel=self._kernel(self.kernel_init, kernel_key, self.channels),
            recurrent_kernel=self._kernel(self.recurrent_init, recurrent_key, self.hidden),
            bias=bias_init(bias_key, self.hidden, self.param_dtype).reshape(-1) if self.bias else None,
            peepholes=jnp.zeros(peepholes, self.param_dtype) if self.peepholes else None,
        )

    def _kernel(self, initializer: initializers.KernelInit, key: Key, channels: int) -> Any:
        shape = (self.kernel_size, self.kernel_size, channels, self.hidden)
        gates = [initializer(k, shape, self.param_dtype) for k in jax.random.split(key, 4)]
        return initializers.concatenate(gates)

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> LSTMState:
        """Zeros: hidden ``[*batch_shape, height, width, hidden]`` and cell of the same shape."""
        shape = (*batch_shape, self.height, self.width, self.hidden)
        return LSTMState(jnp.zeros(shape, self.dtype), jnp.zeros(shape, self.wide_dtype))

    def step(
        self, params: ConvLSTMParams, state: LSTMState, inputs: Float[Array, "... features"]
    ) -> tuple[LSTMState, Float[jax.Array, "... outputs"]]:
        """Advance by one time step; see `Cell.step`, and `conv_lstm` for the equations."""
        check_step(self, params, state, inputs)
        batch_shape = inputs.shape[:-1]
        images = inputs.reshape(*batch_shape, self.height, self.width, self.channels)
        total = self._convolve(images, params.kernel) + self._convolve(state.hidden, params.recurrent_kernel)
        i, f, g, o = jnp.split(biased(total, params.bias), 4, axis=-1)
        if params.peepholes is not None:
            see_i, see_f, see_o = (per_row(part, i) for part in params.peepholes)
            i, f = i + see_i * state.cell, f + see_f * state.cell
        cell = jax.nn.sigmoid(f) * state.cell + jax.nn.sigmoid(i) * jnp.tanh(g)
        if params.peepholes is not None:
            o = o + see_o * cell
        hidden = (jax.nn.sigmoid(o) * jnp.tanh(cell)).astype(self.dtype)
        return LSTMState(hidden, cell), hidden.reshape(*batch_shape, self.output_size)

    def _convolve(self, images: Array, kernel: Array) -> jax.Array:
        """Convolve zero-padded images ``[..., height, width, channels]`` with a kernel, in ``wide_dtype``."""
        *batch_shape, height, width, channels = images.shape
        result = jax.lax.conv_general_dilated(
            jnp.asarray(images).reshape((math.prod(batch_shape), height, width, channels)),
            jnp.asarray(kernel, self.dtype),
            window_strides=(1, 1),
            padding="SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            preferred_element_type=jnp.dtype(self.wide_dtype),
        )
        return result.reshape(*batch_shape, height, width, kernel.shape[-1])


def conv_lstm(
    height: int,
    width: int,
    channels: int,
    hidden: int,
    *,
    kernel_size: int = 3,
    peepholes: bool = False,
    forget_bias: float | initializers.GateBias = 1.0,
    kernel_init: initializers.KernelInit = initializers.lecun_normal,
    recurrent_init: initializers.KernelInit = initializers.orthogonal,
    bias: bool = True,
    dtype: DTypeLike = jnp.float32,
    param_dtype: DTypeLike | None = None,
) -> ConvLSTM:
    r"""A convolutional LSTM: inputs, states and gates are images, products are convolutions (:math:`*`).

    .. math::
        i_t &= \sigma(W_i * x_t + R_i * h_{t-1} + p_i \odot c_{t-1} + b_i) \\
        f_t &= \sigma(W_f * x_t + R_f * h_{t-1} + p_f \odot c_{t-1} + b_f) \\
        g_t &= \tanh (W_g * x_t + R_g * h_{t-1} + b_g) \\
        c_t &= f_t \odot c_{t-1} + i_t \odot g_t \\
        o_t &= \sigma(W_o * x_t + R_o * h_{t-1} + p_o \odot c_t + b_o) \\
        h_t &= o_t \odot \tanh(c_t)

    Cells take vectors: input and output images are flattened row by row, channels last. Sequences of
    images are ``images.reshape(*batch, time, cell.features)``, and hidden images
    ``outputs.reshape(*batch, time, height, width, hidden)``. Hidden and cell state are kept as images.

    Args:
      height: of the images.
      width: of the images.
      channels: of the input images.
      hidden: channels of hidden and cell state, and of the outputs.
      kernel_size: height and width of the kernels; images are zero-padded.
      peepholes: whether gates depend on the cell state; if False, there is no p.
      forget_bias: initial value of b_f: a number, or a `GateBias`.
      bias: if False, there is no b: the parameter is None.
      kernel_init: initializer of each gate's ``[kernel_size, kernel_size, channels, hidden]`` kernel.
      recurrent_init: initializer of each gate's ``[kernel_size, kernel_size, hidden, hidden]`` recurrent
        kernel.
      dtype: of inputs, hidden state and outputs, and of the operands of convolutions; these are accumulated,
        gates computed and the cell state kept in this dtype or float32, whichever is wider.
      param_dtype: of the parameters; by default ``dtype`` or float32, whichever is wider.

    Returns:
      A `Cell` whose parameters are `ConvLSTMParams` and whose state is an `LSTMState` of images.

    Raises:
      ValueError: a size is not a positive integer.
      TypeError: a dtype is not floating point, or an option is unknown.

    Source: Shi et al. 2015 (arXiv:1506.04214, eq. 3).

    Example:
      >>> cell = conv_lstm(8, 8, channels=3, hidden=4)
      >>> state, output = cell.step(cell.init(jax.random.key(0)), cell.initial_state(), jnp.ones(192))
      >>> state.hidden.shape, output.shape
      ((8, 8, 4), (256,))
    """
    return ConvLSTM(
        height,
        width,
        channels,
        hidden,
        kernel_size=kernel_size,
        peepholes=peepholes,
        forget_bias=forget_bias,
        kernel_init=kernel_init,
        recurrent_init=recurrent_init,
        dtype=dtype,
        param_dtype=param_dtype,
        bias=bias,
    )
