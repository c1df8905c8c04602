"""Cells with modified gradients: errors clipped at every step, or truncated at the gates."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from lstmjax.cells.cell import Cell, check_cell
from lstmjax.cells.general_lstm import GeneralLSTMState
from lstmjax.cells.lstm import LSTMState
from lstmjax.checks import resolve_number
from lstmjax.types import Params, State
from lstmjax.wrappers.wrapper import Entering


def clip_cotangent(x: jax.Array, limit: float) -> jax.Array:
    """``x``, with each element of the gradient that flows back through it clipped to ``[-limit, limit]``.

    In forward mode it is the identity; forward mode over the gradient differentiates the clipping.
    """
    return _clip_p.bind(x, limit=float(limit))


def _transpose(cotangent: Any, x: Any, *, limit: float) -> list[Any]:
    return [cotangent if type(cotangent) is ad.Zero else jnp.clip(cotangent, -limit, limit)]


_clip_p = Primitive("clip_cotangent")
_clip_p.def_impl(lambda x, *, limit: x)
_clip_p.def_abstract_eval(lambda x, *, limit: x)
mlir.register_lowering(_clip_p, lambda context, x, *, limit: [x])
ad.deflinear2(_clip_p, _transpose)
batching.defvectorized(_clip_p)


@dataclasses.dataclass(frozen=True, repr=False)
class ClipGradient(Entering):
    """A cell whose gradient is clipped between its steps; made by `clip_gradient`."""

    limit: float

    def __post_init__(self) -> None:
        check_cell("clip_gradient", self.cell)
        resolve_number("clip_gradient", self, "limit", "a number above 0", lambda limit: limit > 0)
        if math.isinf(self.limit):
            raise ValueError("clip_gradient: an infinite limit clips nothing; use the cell itself.")

    def enter(self, params: Params, state: State) -> tuple[Params, State]:
        """The state, with its gradient clipped."""
        return params, jax.tree.map(lambda leaf: clip_cotangent(leaf, self.limit), state)


def clip_gradient(cell: Cell, limit: float) -> ClipGradient:
    r"""A cell whose gradient is clipped between its steps, so that it cannot explode over time.

    Values are those of the inner cell. Back-propagation clips the gradient that each step passes to the
    previous state,

    .. math:: \delta s_{t-1} = \mathrm{clip}\Bigl(\delta s_t \, \frac{\partial s_t}{\partial s_{t-1}},
       -\mathrm{limit}, \mathrm{limit}\Bigr)

    element by element, as Graves does with the errors at the gates. (If the output is also part of the state,
    its own error is added after clipping.) Forward mode differentiates the inner cell.

    Args:
      cell: any cell.
      limit: largest absolute value of an element of the gradient; 1 and 10 are usual.

    Raises:
      ValueError: the limit is not a finite number above 0.

    Source: Graves 2013 (arXiv:1308.0850, section 2.1); Mikolov 2012 (Statistical Language Models Based on
    Neural Networks).

    Example:
      >>> import lstmjax
      >>> cell = lstmjax.clip_gradient(lstmjax.lstm(3, 4), 0.01)
      >>> params, inputs = cell.init(jax.random.key(0)), jnp.ones((5, 3))
      >>> loss = lambda state: lstmjax.unroll(cell, params, inputs, state)[1].sum()
      >>> gradient = jax.grad(loss)(cell.initial_state())
      >>> bool(jnp.abs(gradient.cell).max() <= 0.01)
      True
    """
    return ClipGradient(cell, limit)


@dataclasses.dataclass(frozen=True, repr=False)
class TruncateGradient(Entering):
    """A cell whose errors flow back in time through the cell state only; made by `truncate_gradient`."""

    def __post_init__(self) -> None:
        check_cell("truncate_gradient", self.cell)
        state = jax.eval_shape(self.cell.initial_state)
        if not isinstance(state, LSTMState | GeneralLSTMState):
            raise ValueError(
                "truncate_gradient: for cells whose state is that of an LSTM, that of "
                f"{self.cell} is {jax.tree.structure(state)}."
            )

    def enter(self, params: Params, state: State) -> tuple[Params, State]:
        """The state, with no gradient except through the cell state."""
        return params, jax.lax.stop_gradient(state)._replace(cell=state.cell)


def truncate_gradient(cell: Cell) -> TruncateGradient:
    r"""An LSTM with the truncated gradient of the original LSTM.

    Values are those of the inner cell. Errors that reach a gate update its weights and flow no further back
    in time: :math:`\partial h_{t-1}` is taken as 0 in the gates of step t, and only the constant error
    carousel carries errors, :math:`\partial c_t / \partial c_{t-1} = f_t`. Errors still reach the inputs of
    their own step, and so the layers below.

    Args:
      cell: made by `lstm`, with ``forget_gate=False`` for the LSTM of 1997, or any cell with the state of an
        LSTM. Peepholes read the cell state, so they carry errors.

    Raises:
      ValueError: the state of the cell is not that of an LSTM.

    Source: Hochreiter and Schmidhuber 1997 (Neural Computation 9(8), section 4 and appendix A.1).

    Example:
      >>> import lstmjax
      >>> cell = lstmjax.truncate_gradient(lstmjax.lstm(3, 4))
      >>> params, inputs = cell.init(jax.random.key(0)), jnp.ones((5, 3))
      >>> loss = lambda state: lstmjax.unroll(cell, params, inputs, state)[1].sum()
      >>> gradient = jax.grad(loss)(cell.initial_state())
      >>> bool(gradient.hidden.any()), bool(gradient.cell.any())
      (False, True)
    """
    return TruncateGradient(cell)
