"""The interface between a task and the training loop."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax

from lstmjax.metrics import Mean
from lstmjax.types import Key, Params

Batch = Any
Carry = Any
Metrics = Mapping[str, Mean]


@dataclasses.dataclass(frozen=True)
class Task:
    """A learning task, as pure functions.

    Each batch begins with the carry that the previous one returned, a pytree of arrays such as the state of a
    recurrent network. No gradient flows through it: backpropagation through time is truncated there. For
    independent batches the carry is empty, and `Task.plain` constructs the task.

    Source: Williams and Peng 1990 (Neural Computation 2(4)); Mikolov et al. 2010 (Interspeech).
    """

    init: Callable[[Key], Params]
    """Fresh parameters: a pytree of arrays."""
    loss: Callable[[Params, Carry, Batch, Key], tuple[jax.Array, tuple[Carry, Metrics]]]
    """The training loss of a batch, a scalar; the next carry, and metrics. The key is that of the step."""
    batch: Callable[[int, int], Batch]
    """The training batch of ``(seed, step)``: a pytree of NumPy arrays."""
    evaluate: Callable[[Params, Carry, Batch], tuple[Carry, Metrics]]
    """The next carry, and the metrics of a batch; deterministic."""
    valid: Callable[[], Iterable[Batch]]
    """Batches of the validation set in order; if it is empty, the last parameters are the best."""
    initial_carry: Callable[[], Carry] = tuple
    """The carry before the first training batch."""
    initial_evaluation_carry: Callable[[], Carry] = tuple
    """The carry before the first batch of an evaluation."""
    monitor: str = "nll"
    """The selection criterion: the validation metric by which the best parameters are chosen. It is
    minimised, or, with a minus before its name, maximised (``"-accuracy"``)."""
    examine: Callable[[Params], Mapping[str, float]] | None = None
    """Further validation metrics that are not sums over batches, such as the BLEU of decoded text."""
    rate_factor: Callable[[Batch], jax.Array] | None = None
    """The factor of the learning rate for a batch; None for 1."""
    done: Callable[[Carry], bool] | None = None
    """Whether the carry says that training is over, asked at each evaluation; None for never."""
    models: int | None = None
    """Of several models that train side by side, such as random seeds under ``jax.vmap``, their number: all
    parameters have a leading axis of so many, and the monitored metric is a `Mean` of arrays ``[models]``.
    The best parameters are then chosen for each model separately. None for one model without such an axis."""

    @classmethod
    def plain(
        cls,
        *,
        init: Callable[[Key], Params],
        loss: Callable[[Params, Batch, Key], tuple[jax.Array, Metrics]],
        batch: Callable[[int, int], Batch],
        evaluate: Callable[[Params, Batch], Metrics],
        valid: Callable[[], Iterable[Batch]],
        monitor: str = "nll",
        examine: Callable[[Params], Mapping[str, float]] | None = None,
        models: int | None = None,
    ) -> "Task":
        """A task with independent batches: no function has a carry."""

        def loss_with_carry(params: Params, carry: Carry, batch: Batch, key: Key) -> Any:
            value, metrics = loss(params, batch, key)
            return value, (carry, metrics)

        return cls(
            init,
            loss_with_carry,
            batch,
            WithoutCarry(evaluate),
            valid,
            monitor=monitor,
            examine=examine,
            models=models,
        )


@dataclasses.dataclass(frozen=True)
class WithoutCarry:
    """`Task.evaluate` for independent batches; equal instances share a compilation."""

    function: Callable[[Params, Batch], Metrics]

    def __call__(self, params: Params, carry: Carry, batch: Batch) -> tuple[Carry, Metrics]:
        """The unchanged carry, and the metrics."""
        return carry, self.function(params, batch)
