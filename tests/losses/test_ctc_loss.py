"""Connectionist temporal classification against the sum over all paths."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from lstmjax import losses

CLASSES, TIME, LABELS, BLANK = 3, 4, 3, 1


loss = jax.jit(losses.ctc, static_argnames="blank")


def collapse(path, blank=BLANK):
    return tuple(label for label, _ in itertools.groupby(path) if label != blank)


def oracle(logits, labels):
    """Minus the logarithm of the summed probability of all paths that collapse to the labels."""
    log_probs = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
    paths = itertools.product(range(CLASSES), repeat=len(logits))
    scores = [
        sum(log_probs[t, k] for t, k in enumerate(path)) for path in paths if collapse(path) == tuple(labels)
    ]
    return -np.logaddexp.reduce(scores) if scores else np.inf


def rows():
    """All label sequences at all lengths, with NaN beyond the frames and rubbish beyond the labels."""
    random = np.random.default_rng(0)
    drawn = [
        (time, labels)
        for time in range(TIME + 1)
        for number in range(LABELS + 1)
        for labels in itertools.product((0, 2), repeat=number)
    ]
    logits = random.normal(size=(len(drawn), TIME, CLASSES)).astype(np.float32)
    lengths = np.array([time for time, _ in drawn])
    logits[np.arange(TIME) >= lengths[:, None]] = np.nan
    padded = np.array([(*labels, *[-7] * (LABELS - len(labels))) for _, labels in drawn])
    return logits, lengths, padded, np.array([len(labels) for _, labels in drawn])


def test_the_loss_is_the_sum_over_all_paths_and_infeasible_rows_are_told():
    logits, lengths, labels, numbers = rows()
    ours = loss(logits, lengths, labels, numbers, blank=BLANK)
    theirs = [
        oracle(x[:time], y[:number])
        for x, time, y, number in zip(logits, lengths, labels, numbers, strict=True)
    ]
    np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=1e-5)
    np.testing.assert_array_equal(losses.ctc_feasible(lengths, labels, numbers), np.isfinite(theirs))
    assert 0 < np.isinf(theirs).sum() < len(theirs)


def test_gradients_are_right_and_zero_for_padding_and_infeasible_rows():
    logits, lengths, labels, numbers = rows()
    feasible = np.asarray(losses.ctc_feasible(lengths, labels, numbers))

    @jax.jit
    def total(logits):
        return jnp.where(feasible, losses.ctc(logits, lengths, labels, numbers, blank=BLANK), 0).sum()

    gradient = np.asarray(jax.jit(jax.grad(total))(logits))
    padding = (np.arange(TIME) >= lengths[:, None]) | ~feasible[:, None]
    assert np.isfinite(gradient).all()
    assert not gradient[padding].any()
    unmasked = jax.jit(jax.grad(lambda x: losses.ctc(x, lengths, labels, numbers, blank=BLANK).sum()))(logits)
    np.testing.assert_array_equal(unmasked, gradient)
    check_grads(total, (np.nan_to_num(logits),), order=1, modes=["rev"], rtol=2e-2)


def test_any_batch_rank():
    logits, lengths, labels, numbers = rows()
    flat = np.asarray(loss(logits, lengths, labels, numbers, blank=BLANK))
    folded = loss(*(x.reshape(5, -1, *x.shape[1:]) for x in (logits, lengths, labels, numbers)), blank=BLANK)
    np.testing.assert_array_equal(np.ravel(folded), flat)
    single = losses.ctc(logits[-1], lengths[-1:].reshape(()), labels[-1], numbers[-1:].reshape(()), BLANK)
    np.testing.assert_allclose(single, flat[-1], rtol=1e-6)


@pytest.mark.parametrize("wrong", [-1, CLASSES, BLANK])
def test_a_label_that_is_none_gives_nan_for_its_row_only(wrong):
    labels = np.array([[0, wrong], [0, 2]])
    each = loss(np.zeros((2, TIME, CLASSES)), np.full(2, TIME), labels, np.full(2, 2), blank=BLANK)
    assert np.isnan(each).tolist() == [True, False]


def test_errors_say_what_does_not_fit(unchecked):
    logits, lengths = np.zeros((2, TIME, CLASSES)), np.full(2, TIME)
    with pytest.raises(ValueError, match=r"label_lengths must have shape \(2,\).*got \(3,\)"):
        losses.ctc(logits, lengths, np.zeros((2, 1), int), np.ones(3, int))
    with pytest.raises(ValueError, match=r"blank must be a class in 0\.\.2, got 3"):
        losses.ctc(logits, lengths, np.zeros((2, 1), int), np.ones(2, int), blank=3)
