"""The LSTM and its variants as one specification: `lstm` and its options."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from lstmjax import initializers
from lstmjax.cells.cell import biased, check_step, matmul, per_row
from lstmjax.cells.elementwise import ElementwiseCell, Structure, Weights
from lstmjax.cells.lstm import LSTM, LSTMGates
from lstmjax.checks import check_sizes
from lstmjax.types import Array, DTypeLike, Key

Activation = str | Callable[[jax.Array], jax.Array]
"""A name in `ACTIVATIONS`, or an elementwise function of one array."""

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "hard_sigmoid": jax.nn.hard_sigmoid,
    "identity": jax.nn.identity,
    "relu": jax.nn.relu,
    "sigmoid": jax.nn.sigmoid,
    "softsign": jax.nn.soft_sign,
    "tanh": jnp.tanh,
}
"""Activations by name; ``hard_sigmoid`` is ``clip(x / 6 + 1/2, 0, 1)``, ``softsign`` ``x / (1 + |x|)``."""


class LayerNorms(NamedTuple):
    """Gains and biases of the three layer normalizations of an LSTM."""

    input_gain: Array
    """``[columns * hidden]``: of the input term W x, like ``input_bias``."""
    input_bias: Array
    recurrent_gain: Array
    """``[columns * hidden]``: of the recurrent term R h, like ``recurrent_bias``."""
    recurrent_bias: Array
    cell_gain: Array
    """``[hidden]``: of the cell state in the output, like ``cell_bias``."""
    cell_bias: Array


class GeneralLSTMParams(NamedTuple):
    """Parameters of any LSTM; those that its options leave out are None.

    Columns of gates and candidate are concatenated in the order i, f, g, o, without absent gates
    (``columns`` of them; ``gates`` without the candidate). Outputs have size ``projection or hidden``.
    """

    kernel: Array
    """``[features, columns * hidden]``: W."""
    recurrent_kernel: Array
    """``[outputs, columns * hidden]``: R."""
    bias: Array | None
    """``[columns * hidden]``: b; None without biases."""
    peepholes: Array | None
    """``[gates * hidden]``: p, from the cell state to each gate."""
    gate_kernel: Array | None
    """``[gates * hidden, gates * hidden]``: F, from all gates to all gates."""
    projection: Array | None
    """``[hidden, projection]``: P."""
    norms: LayerNorms | None
    """Gains and biases of layer normalization."""


class GeneralLSTMState(NamedTuple):
    """State of any LSTM."""

    hidden: Array
    """``[..., projection or hidden]``, of the dtype of the computation: the last output, h."""
    cell: Array
    """``[..., hidden]``, at least float32: the memory, c."""
    gates: Array | None
    """``[..., gates * hidden]``, at least float32: the gates of the last step; None if not used."""


@dataclasses.dataclass(frozen=True, repr=False)
class GeneralLSTM(ElementwiseCell):
    """An LSTM with any of the options of `lstm`; made by `lstm`, which has the equations."""

    forget_bias: float | initializers.GateBias = 1.0
    forget_gate: bool = True
    input_gate: bool = True
    output_gate: bool = True
    peepholes: bool = False
    coupled: bool = False
    full_gate_recurrence: bool = False
    layer_norm: bool = False
    projection: int | None = None
    candidate_activation: Activation = "tanh"
    output_activation: Activation = "tanh"
    gate_activation: Activation = "sigmoid"

    maker: ClassVar[str] = "lstm"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.projection is not None:
            check_sizes("lstm", projection=self.projection)
        for option in ("candidate_activation", "output_activation", "gate_activation"):
            object.__setattr__(self, option, _activation(option, getattr(self, option)))
        if self.coupled and not (self.input_gate and self.forget_gate):
            raise ValueError("lstm: coupled=True needs both gates: leave out input_gate and forget_gate.")
        if not self.gate_columns and (self.peepholes or self.full_gate_recurrence):
            raise ValueError("lstm: peepholes and full_gate_recurrence need a gate, and there is none.")

    @property
    def output_size(self) -> int:
        """Size of an output vector: that of the projection, if any, else that of the hidden state."""
        return self.projection or self.hidden

    @property
    def columns(self) -> str:
        """The columns of the kernels, in order: the candidate g and the gates that exist."""
        own_forget_gate = self.forget_gate and not self.coupled
        there = {"i": self.input_gate, "f": own_forget_gate, "g": True, "o": self.output_gate}
        return "".join(name for name, is_there in there.items() if is_there)

    @property
    def gate_columns(self) -> str:
        """`columns` without the candidate."""
        return self.columns.replace("g", "")

    def init(self, key: Key) -> GeneralLSTMParams:
        """Fresh parameters: initialized kernels, peepholes 0, gains 1; biases 0 except `forget_bias`."""
        kernel_key, recurrent_key, bias_key, gate_key, projection_key = jax.random.split(key, 5)
        columns, gates = len(self.columns), len(self.gate_columns)
        projection = (self.hidden, self.output_size)
        return GeneralLSTMParams(
            kernel=self.gates(self.kernel_init, kernel_key, columns, self.features),
            recurrent_kernel=self.gates(self.recurrent_init, recurrent_key, columns, self.output_size),
            bias=self._init_bias(bias_key) if self.bias else None,
            peepholes=jnp.zeros(gates * self.hidden, self.param_dtype) if self.peepholes else None,
            gate_kernel=self._init_gate_kernel(gate_key) if self.full_gate_recurrence else None,
            projection=self.kernel_init(projection_key, projection, self.param_dtype)
            if self.projection
            else None,
            norms=self._init_norms() if self.layer_norm else None,
        )

    def _init_gate_kernel(self, key: Key) -> Any:
        gates = len(self.gate_columns)
        kernels = [
            self.gates(self.recurrent_init, k, gates, self.hidden) for k in jax.random.split(key, gates)
        ]
        return initializers.joined(jnp.concatenate, kernels)

    def _init_bias(self, key: Key) -> jax.Array:
        make = initializers.gate_bias(self.forget_bias)
        biases = dict(zip("ifgo", make(key, self.hidden, self.param_dtype), strict=True))
        if self.coupled:
            biases["i"] = -biases["f"]  # 1 - sigmoid(x) is sigmoid(-x)
        return jnp.concatenate([biases[name] for name in self.columns])

    def _init_norms(self) -> LayerNorms:
        sizes = [len(self.columns) * self.hidden] * 2 + [self.hidden]
        gains_and_biases = [make(size, self.param_dtype) for size in sizes for make in (jnp.ones, jnp.zeros)]
        return LayerNorms(*gains_and_biases)

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> GeneralLSTMState:
        """Zeros; see `GeneralLSTMState` for the shapes."""
        gates = (*batch_shape, len(self.gate_columns) * self.hidden)
        return GeneralLSTMState(
            hidden=jnp.zeros((*batch_shape, self.output_size), self.dtype),
            cell=jnp.zeros((*batch_shape, self.hidden), self.wide_dtype),
            gates=jnp.zeros(gates, self.wide_dtype) if self.full_gate_recurrence else None,
        )

    def step(
        self, params: GeneralLSTMParams, state: GeneralLSTMState, inputs: Float[Array, "... features"]
    ) -> tuple[GeneralLSTMState, Float[jax.Array, "... outputs"]]:
        """Advance by one time step; see `Cell.step` for arguments and errors, `lstm` for the equations."""
        check_step(self, params, state, inputs)
        after, _ = self.advance(params, state, inputs)
        return after, jnp.asarray(after.hidden)

    def advance(
        self,
        params: GeneralLSTMParams,
        state: GeneralLSTMState,
        inputs: Array,
        nudge: GeneralLSTMState | None = None,
    ) -> tuple[GeneralLSTMState, LSTMGates]:
        """The state after a step, and the gates; absent gates are 1.

        ``nudge``, a tree like the state, is a perturbation for `lstmjax.diagnostics`: it is added to each
        part of the state as soon as that is computed, before the rest of the step uses it.
        """
        peepholes = dict(zip(self.gate_columns, self._peepholes(params), strict=False))
        total = self._totals(params, state, inputs)
        i, f, g, cell = self._memory(total, peepholes, state.cell)
        if nudge is not None:
            cell = cell + nudge.cell
        o = self._gate("o", total, peepholes, cell)
        norms = params.norms
        shown = cell if norms is None else normalize(cell, norms.cell_gain, norms.cell_bias)
        hidden = (o * _function(self.output_activation)(shown)).astype(self.dtype)
        if params.projection is not None:
            hidden = self._product(hidden, params.projection).astype(self.dtype)
        there = {"i": i, "f": f, "o": o}
        gates = [there[name] for name in self.gate_columns]
        seen = jnp.concatenate(gates, axis=-1) if self.full_gate_recurrence else None
        after = GeneralLSTMState(hidden, cell, seen)
        if nudge is not None:
            after = jax.tree.map(jnp.add, after, nudge._replace(cell=jnp.zeros_like(cell)))
        return after, LSTMGates(i, f, g, o)

    @property
    def structure(self) -> Structure | None:
        """The candidate and each gate; None with layer normalization, a projection or gate recurrence."""
        if self.layer_norm or self.projection or self.full_gate_recurrence:
            return None
        columns, vectors = len(self.columns), len(self.gate_columns) * self.peepholes
        return Structure(columns, inputs=columns, products=columns, vectors=vectors)

    def weights(self, params: GeneralLSTMParams) -> Weights:
        """The parameters by what they do; the vectors are the peepholes."""
        return Weights(params.kernel, params.recurrent_kernel, params.bias, self._peepholes(params))

    def elementwise(
        self, totals: Sequence[Array], vectors: Sequence[Array], state: Sequence[Array]
    ) -> tuple[jax.Array, jax.Array]:
        """Hidden state and cell state after a step; see `ElementwiseCell.elementwise`."""
        total = dict(zip(self.columns, map(jnp.asarray, totals), strict=True))
        peepholes = dict(zip(self.gate_columns, map(jnp.asarray, vectors), strict=False))
        *_, cell = self._memory(total, peepholes, state[1])
        shown = self._gate("o", total, peepholes, cell) * _function(self.output_activation)(cell)
        return shown.astype(self.dtype), cell

    def _memory(
        self, total: Mapping[str, jax.Array], peepholes: Mapping[str, jax.Array], before: Array
    ) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        """Input gate, forget gate, candidate, and the cell state after the step."""
        i = self._gate("i", total, peepholes, before)
        f = 1 - i if self.coupled else self._gate("f", total, peepholes, before)
        g = _function(self.candidate_activation)(total["g"])
        return i, f, g, f * before + i * g

    def _gate(
        self, name: str, total: Mapping[str, jax.Array], peepholes: Mapping[str, jax.Array], cell: Array
    ) -> jax.Array:
        """A gate that sees a cell state; 1 if it is absent."""
        if name not in total:
            return jnp.ones_like(cell)
        seen = total[name]
        if name in peepholes:
            seen = seen + per_row(peepholes[name], seen) * cell
        return _function(self.gate_activation)(seen)

    def _peepholes(self, params: GeneralLSTMParams) -> tuple[jax.Array, ...]:
        """The peepholes of each gate; none if there are none."""
        return tuple(self._parts(params.peepholes, self.gate_columns).values())

    def _totals(
        self, params: GeneralLSTMParams, state: GeneralLSTMState, inputs: Array
    ) -> dict[str, jax.Array]:
        """Pre-activations of the candidate and each gate, without the peepholes."""
        from_input = self._product(inputs, params.kernel)
        from_hidden = self._product(state.hidden, params.recurrent_kernel)
        if params.norms is not None:
            from_input = normalize(from_input, params.norms.input_gain, params.norms.input_bias)
            from_hidden = normalize(from_hidden, params.norms.recurrent_gain, params.norms.recurrent_bias)
        total = self._parts(biased(from_input + from_hidden, params.bias), self.columns)
        if params.gate_kernel is not None and state.gates is not None:
            from_gates = self._product(state.gates.astype(self.dtype), params.gate_kernel)
            for name, part in self._parts(from_gates, self.gate_columns).items():
                total[name] = total[name] + part
        return total

    def _product(self, inputs: Array, kernel: Array) -> jax.Array:
        return matmul(inputs, kernel, dtype=self.dtype, result_dtype=self.wide_dtype)

    def _parts(self, array: Array | None, names: str) -> dict[str, jax.Array]:
        """The columns of an array by name, in the dtype of the gates; empty if the array is None."""
        if array is None:
            return {}
        parts = jnp.split(array.astype(self.wide_dtype), len(names), axis=-1)
        return dict(zip(names, parts, strict=True))


def lstm(
    features: int,
    hidden: int,
    *,
    forget_gate: bool = True,
    input_gate: bool = True,
    output_gate: bool = True,
    peepholes: bool = False,
    coupled: bool = False,
    full_gate_recurrence: bool = False,
    layer_norm: bool = False,
    projection: int | None = None,
    candidate_activation: Activation = "tanh",
    output_activation: Activation = "tanh",
    gate_activation: Activation = "sigmoid",
    forget_bias: float | initializers.GateBias = 1.0,
    kernel_init: initializers.KernelInit = initializers.lecun_normal,
    recurrent_init: initializers.KernelInit = initializers.orthogonal,
    bias: bool = True,
    dtype: DTypeLike = jnp.float32,
    param_dtype: DTypeLike | None = None,
) -> LSTM | GeneralLSTM:
    r"""A long short-term memory cell: by default the standard LSTM, with a forget gate,

    .. math::
        i_t &= \sigma(W_i x_t + R_i h_{t-1} + b_i) \\
        f_t &= \sigma(W_f x_t + R_f h_{t-1} + b_f) \\
        g_t &= \tanh (W_g x_t + R_g h_{t-1} + b_g) \\
        o_t &= \sigma(W_o x_t + R_o h_{t-1} + b_o) \\
        c_t &= f_t \odot c_{t-1} + i_t \odot g_t \\
        h_t &= o_t \odot \tanh(c_t)

    Input gate, forget gate, candidate and output gate have this order in every array of parameters, as in
    PyTorch and Keras. There is one bias (the sum of PyTorch's two). Each option changes one thing:

    Args:
      features: size of an input vector, D.
      hidden: size of the cell state, H; without a projection, also of the hidden state and the outputs.
      forget_gate: if False, :math:`f_t = 1` (Hochreiter and Schmidhuber 1997).
      input_gate: if False, :math:`i_t = 1` (Greff et al. 2017, NIG).
      output_gate: if False, :math:`o_t = 1` (Greff et al. 2017, NOG).
      peepholes: gates depend on the cell state: the pre-activations of :math:`i_t`, :math:`f_t` and
        :math:`o_t` gain the terms :math:`p_i \odot c_{t-1}`, :math:`p_f \odot c_{t-1}` and
        :math:`p_o \odot c_t` (Gers et al. 2002).
      coupled: :math:`f_t = 1 - i_t` in place of a separate forget gate (Greff et al. 2017, CIFG).
      full_gate_recurrence: gates depend on all gates of the previous step: the pre-activation of :math:`i_t`
        gains the term :math:`F_i [i_{t-1}; f_{t-1}; o_{t-1}]`, and those of :math:`f_t` and :math:`o_t`
        likewise (Greff et al. 2017, FGR).
      layer_norm: :math:`\mathrm{LN}(W x_t)`, over all gates together, replaces :math:`W x_t`,
        :math:`\mathrm{LN}(R h_{t-1})` replaces :math:`R h_{t-1}`, and :math:`\mathrm{LN}(c_t)` replaces
        :math:`c_t` in :math:`h_t`, each with a gain and a bias (Ba et al. 2016, eq. 20 to 22).
      projection: size of hidden state and outputs, which are :math:`h_t = P (o_t \odot \tanh(c_t))`
        (Sak et al. 2014).
      candidate_activation: replaces the tanh in :math:`g_t`: a name in `ACTIVATIONS`, or any function;
        ``"identity"`` is Greff's NIAF.
      output_activation: replaces the tanh in :math:`h_t`; ``"identity"`` is Greff's NOAF.
      gate_activation: replaces :math:`\sigma`.
      forget_bias: initial value of b_f: a number, or a `GateBias` such as ``initializers.chrono(100)``. With
        coupled gates, the initial value of b_i is its negative; without a forget gate it has no effect.
      bias: if False, there is no b: the parameter is None, and ``forget_bias`` has no effect.
      kernel_init: initializer of each gate's ``[features, hidden]`` kernel, and of the projection.
      recurrent_init: initializer of each gate's ``[hidden, hidden]`` recurrent kernel.
      dtype: of inputs, hidden state and outputs, and of the operands of the matrix products. Products are
        accumulated, gates computed and the cell state kept in this dtype or float32, whichever is wider.
      param_dtype: of the parameters; by default ``dtype`` or float32, whichever is wider.

    Returns:
      A `Cell`. With none of the options before ``forget_bias``, it is an `LSTM`, whose parameters are
      `LSTMParams` and whose state is an `LSTMState`, and for which there are fast backends; else a
      `GeneralLSTM` with `GeneralLSTMParams` and a `GeneralLSTMState`.

    Raises:
      ValueError: a size is not a positive integer; the name of an activation is unknown; gates are coupled
        and one of them is left out; peepholes or gate recurrence are requested without any gate.
      TypeError: a dtype is not floating point, an activation is neither a name nor a function, or an option
        is unknown.

    Source: Hochreiter and Schmidhuber 1997 (Neural Computation 9(8)); the forget gate: Gers, Schmidhuber
    and Cummins 2000 (Neural Computation 12(10)); peepholes: Gers, Schraudolph and Schmidhuber 2002 (JMLR 3);
    NIG to FGR: Greff et al. 2017 (arXiv:1503.04069), whose own baseline has peepholes; layer normalization:
    Ba, Kiros and Hinton 2016 (arXiv:1607.06450); projection: Sak, Senior and Beaufays 2014 (arXiv:1402.1128).

    Example:
      >>> lstm(3, 4)
      LSTM(features=3, hidden=4)
      >>> cell = lstm(3, 4, forget_gate=False, peepholes=True, projection=2)
      >>> state, output = cell.step(cell.init(jax.random.key(0)), cell.initial_state(), jnp.ones(3))
      >>> output.shape, state.cell.shape
      ((2,), (4,))
    """
    common: dict[str, Any] = {
        "forget_bias": forget_bias,
        "kernel_init": kernel_init,
        "recurrent_init": recurrent_init,
        "dtype": dtype,
        "param_dtype": param_dtype,
        "bias": bias,
    }
    general = GeneralLSTM(
        features,
        hidden,
        **common,
        forget_gate=forget_gate,
        input_gate=input_gate,
        output_gate=output_gate,
        peepholes=peepholes,
        coupled=coupled,
        full_gate_recurrence=full_gate_recurrence,
        layer_norm=layer_norm,
        projection=projection,
        candidate_activation=candidate_activation,
        output_activation=output_activation,
        gate_activation=gate_activation,
    )
    is_usual = general == GeneralLSTM(features, hidden, **common)
    return LSTM(features, hidden, **common) if is_usual else general


def normalize(x: jax.Array, gain: Array, bias: Array) -> jax.Array:
    r"""Layer normalization over the last axis.

    .. math:: \mathrm{LN}(x; \alpha, \beta) = \alpha \odot (x - \mu) / \sqrt{\sigma^2 + 10^{-5}} + \beta

    Source: Ba, Kiros and Hinton 2016 (arXiv:1607.06450), the constant as in their code.
    """
    centered = x - x.mean(axis=-1, keepdims=True)
    deviation = jnp.sqrt(jnp.square(centered).mean(axis=-1, keepdims=True) + 1e-5)
    return per_row(gain, x) * (centered / deviation) + per_row(bias, x)


_ACTIVATED = ("candidate", "output", "gate")


def _activation(option: str, value: Any) -> Activation:
    """An activation, by its name if it has one, so that equal cells compare equal; raises if invalid."""
    if not isinstance(value, str):
        if not callable(value):
            raise TypeError(f"lstm: {option} must be a name or a function, got {value!r}.")
        return next((name for name, function in ACTIVATIONS.items() if function is value), value)
    if value not in ACTIVATIONS:
        raise ValueError(
            f"lstm: {option} must be one of {', '.join(ACTIVATIONS)}, or a function; got {value!r}."
        )
    return value


def _function(activation: Activation) -> Callable[[jax.Array], jax.Array]:
    return ACTIVATIONS[activation] if isinstance(activation, str) else activation
