"""Decoding against enumeration of all sequences, and a beam search in plain Python."""

import collections
import functools
import itertools
from typing import Any, NamedTuple

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

import lstmjax
from lstmjax import decoding

VOCABULARY, LENGTH, END, BATCH, SOURCE = 3, 3, 1, 3, 2


class Memory(NamedTuple):
    """A state with a history: what was read changes all that follows."""

    hidden: Any
    seen: Any


class Model(NamedTuple):
    """A small recurrent network with something like attention, of its own in every row."""

    embedding: Any
    kernel: Any
    output: Any
    bias: Any
    source: Any


def draw(seed, vocabulary=VOCABULARY, batch=BATCH, scale=1.5, dtype=np.float32):
    random = np.random.default_rng(seed)
    shapes = ((vocabulary, 4), (4, 4), (4, vocabulary), (batch, vocabulary), (batch, 4, SOURCE))
    return Model(*(scale * random.standard_normal(shape).astype(dtype) for shape in shapes))


def initial_state(model):
    batch = len(model.bias)
    return Memory(jnp.zeros((batch, 4), model.bias.dtype), jnp.zeros((batch, SOURCE), model.bias.dtype))


def step_of(model):
    """The network as a step function, which closes over biases and sources of the rows."""

    def step(state, tokens):
        hidden = jnp.tanh(jnp.asarray(model.embedding)[tokens] + state.hidden @ model.kernel)
        looked = jax.nn.softmax(jnp.einsum("bh,bhs->bs", hidden, jnp.asarray(model.source)))
        return Memory(hidden, state.seen + looked), hidden @ model.output + model.bias

    return step


def score_of(model, row, start, tokens, alpha=0.0, beta=0.0, mask=None, power=False):
    """Log-probability and score of one sequence of one row, in NumPy."""
    hidden, seen, log_prob, last = np.zeros(4), np.zeros(SOURCE), 0.0, start
    for token in tokens:
        hidden = np.tanh(model.embedding[last] + hidden @ model.kernel)
        energy = np.exp(hidden @ model.source[row])
        seen = seen + energy / energy.sum()
        logits = np.asarray(hidden @ model.output + model.bias[row], np.float64)
        log_prob += logits[token] - np.log(np.exp(logits).sum())
        last = token
    penalty = len(tokens) ** alpha if power else ((5 + len(tokens)) / 6) ** alpha
    covered = sum(np.log(min(total, 1)) for j, total in enumerate(seen) if mask is None or mask[row, j])
    return log_prob, log_prob / penalty + beta * covered


def all_sequences(vocabulary=VOCABULARY, length=LENGTH, end=END):
    """Every sequence that ends with its first ``end``, or is cut at the length."""
    others = [token for token in range(vocabulary) if token != end]
    for size in range(length):
        for before in itertools.product(others, repeat=size):
            yield (*before, end)
    yield from itertools.product(others, repeat=length)


@functools.partial(jax.jit, static_argnames=("beams", "alpha", "beta", "power", "length"))
def search(model, start, mask=None, *, beams, alpha=0.0, beta=0.0, power=False, length=LENGTH):
    penalty = decoding.power_length_penalty(alpha) if power else alpha
    options = {"coverage": lambda state: state.seen, "coverage_penalty": beta, "coverage_mask": mask}
    return decoding.beam_search(
        step_of(model), initial_state(model), start, END, length, beams, penalty, **options
    )


def plain(tokens, length=LENGTH, end=END):
    return [*tokens, *[end] * (length - len(tokens))]


@hypothesis.given(
    seed=st.integers(0, 10**6),
    penalties=st.sampled_from([(0.0, 0.0, False), (0.6, 0.3, False), (1.0, 0.0, True), (-0.5, 0.2, False)]),
    masked=st.booleans(),
)
@pytest.mark.full
def test_many_beams_find_every_sequence_in_order(seed, penalties, masked):
    """Exact search: with a beam for each of the sequences there are, and then some for none."""
    alpha, beta, power = penalties
    model, start = draw(seed), np.array([0, 2, 1])
    mask = np.array([[True, False], [True, True], [False, False]])
    mask = mask if masked else np.ones_like(mask)
    beams = VOCABULARY**LENGTH
    found = search(model, start, mask, beams=beams, alpha=alpha, beta=beta, power=power)
    for row in range(BATCH):
        scored = [
            (*score_of(model, row, start[row], tokens, alpha, beta, mask, power), tokens)
            for tokens in all_sequences()
        ]
        scored.sort(key=lambda entry: -entry[1])
        count = len(scored)
        log_probs, scores, sequences = zip(*scored, strict=True)
        assert sum(np.exp(log_probs)) == pytest.approx(1)
        np.testing.assert_allclose(found.scores[row, :count], scores, rtol=1e-4, atol=1e-4)
        for place, tokens in enumerate(found.tokens[row, :count].tolist()):
            own = tokens[: int(found.lengths[row, place])]
            own = own if len(own) == LENGTH else [*own, END]
            assert plain(own) == tokens
            expected = score_of(model, row, start[row], own, alpha, beta, mask, power)
            np.testing.assert_allclose(found.log_probs[row, place], expected[0], rtol=1e-4, atol=1e-4)
            np.testing.assert_allclose(found.scores[row, place], expected[1], rtol=1e-4, atol=1e-4)
        assert len({tuple(tokens) for tokens in found.tokens[row, :count].tolist()}) == count
        assert sorted(found.tokens[row, :count].tolist()) == sorted(plain(tokens) for tokens in sequences)
        assert (found.scores[row, count:] == -np.inf).all()
        assert (found.tokens[row, count:] == END).all()
        assert (found.lengths[row, count:] == 0).all()


def plain_beam_search(model, row, start, beams, length, alpha, beta):
    """One row, one hypothesis after the other, to the very end: no row is ever done before."""
    alive, finished = [((), 0.0)], []
    for _ in range(length):
        longer = []
        for tokens, _ in alive:
            for token in range(VOCABULARY):
                sequence = (*tokens, token)
                log_prob, score = score_of(model, row, start, sequence, alpha, beta)
                (finished if token == END else longer).append((sequence, score if token == END else log_prob))
        alive = sorted(longer, key=lambda entry: -entry[1])[:beams]
    finished += [(tokens, score_of(model, row, start, tokens, alpha, beta)[1]) for tokens, _ in alive]
    return sorted(finished, key=lambda entry: -entry[1])[:beams]


@hypothesis.given(
    seed=st.integers(0, 10**6),
    beams=st.sampled_from([1, 4]),
    penalties=st.sampled_from([(0.0, 0.0), (0.8, 0.2), (-1.0, 0.0)]),
)
def test_few_beams_find_what_a_plain_search_finds(seed, beams, penalties):
    """Though its rows are done early."""
    alpha, beta = penalties
    model, start = draw(seed), np.array([2, 0, 2])
    found = search(model, start, None, beams=beams, alpha=alpha, beta=beta, length=6)
    for row in range(BATCH):
        expected = plain_beam_search(model, row, start[row], beams, 6, alpha, beta)
        assert found.tokens[row].tolist() == [plain(tokens, 6) for tokens, _ in expected]
        np.testing.assert_allclose(found.scores[row], [score for _, score in expected], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("beams", [1, 2])
def test_a_row_goes_on_while_a_long_sequence_may_come_to_more_than_a_likely_short_one(beams):
    """Of 0.9 to end at once, and 0.1 for thirty tokens that are certain: mean log-probabilities decide."""

    def step(state, tokens):
        first, later = jnp.log(jnp.array([0.1, 0.9])), jnp.array([0.0, -60.0])
        return state + 1, jnp.where(state[:, None] == 0, first, later)

    def run(length, penalty):
        return decoding.beam_search(step, jnp.zeros(1, int), 0, END, length, beams, penalty)

    found = run(30, decoding.power_length_penalty(1.0))
    assert found.lengths[0, 0] == 30
    np.testing.assert_allclose(found.scores[0, 0], np.log(0.1) / 30, rtol=1e-5)
    assert run(20, decoding.power_length_penalty(1.0)).lengths[0, 0] == 0
    assert run(30, 1.0).lengths[0, 0] == 0
    assert run(30, 2.0).lengths[0, 0] == 30


def test_a_row_goes_on_where_the_penalty_is_for_short_sequences():
    """Of 0.3 to end at once, and 0.7 to end after one token: at thirty it would be worse."""

    def step(state, tokens):
        first, later = jnp.log(jnp.array([0.7, 0.3])), jnp.array([-60.0, 0.0])
        return state + 1, jnp.where(state[:, None] == 0, first, later)

    penalty = decoding.power_length_penalty(-1.0)
    found = decoding.beam_search(step, jnp.zeros(1, int), 0, END, 30, 1, penalty)
    assert found.lengths.tolist() == [[1]]
    np.testing.assert_allclose(found.scores[0, 0], 2 * np.log(0.7), rtol=1e-5)


def walk(model, start, max_length=8):
    return decoding.greedy(step_of(model), initial_state(model), start, END, max_length)


def test_greedy_takes_the_likeliest_token():
    model = draw(3, vocabulary=5)
    decoded = jax.jit(walk)(model, np.array([0, 2, 4]))
    for row, start in enumerate([0, 2, 4]):
        tokens = []
        while len(tokens) < 8 and END not in tokens:
            options = [score_of(model, row, start, (*tokens, token))[0] for token in range(5)]
            tokens.append(int(np.argmax(options)))
        assert decoded.tokens[row].tolist() == plain(tokens, 8)
        assert int(decoded.lengths[row]) == len([token for token in tokens if token != END])
        expected, _ = score_of(model, row, start, tokens)
        np.testing.assert_allclose(decoded.log_probs[row], expected, rtol=1e-4)


def test_one_beam_finds_something_at_least_as_likely_as_greedy():
    same = 0
    for seed in range(20):
        model, start = draw(seed), np.array([0, 2, 2])
        found = search(model, start, None, beams=1, length=8)
        decoded = jax.jit(walk)(model, start)
        assert (found.log_probs[:, 0] >= decoded.log_probs - 1e-5).all()
        same += int((found.tokens[:, 0] == decoded.tokens).all(axis=-1).sum())
    assert 20 < same < 60


def test_rows_do_not_depend_on_each_other_nor_on_how_the_start_is_given():
    model = draw(5)
    alone = model._replace(bias=model.bias[1:2], source=model.source[1:2])
    whole = search(model, np.array([0, 2, 1]), None, beams=4, alpha=0.7, length=6)
    single = search(alone, np.array([2]), None, beams=4, alpha=0.7, length=6)
    for actual, expected in zip(single, whole, strict=True):
        np.testing.assert_allclose(actual[0], expected[1], rtol=1e-5)
    everywhere = search(alone, 2, None, beams=4, alpha=0.7, length=6)
    assert everywhere.tokens.tolist() == single.tokens.tolist()
    first = model._replace(bias=model.bias[:1], source=model.source[:1])
    drawn, same = (
        decoding.sample(step_of(part), initial_state(part), 2, END, 8, jax.random.key(3)).tokens.tolist()
        for part in (model, first)
    )
    assert drawn[0] == same[0]


def test_loops_end_when_all_rows_have():
    """Counted where it is computed, as the loop has it."""
    count = []

    def step(state, tokens):
        jax.debug.callback(lambda: count.append(1))
        return state - 1, jnp.where(state[:, None] > 0, jnp.array([0.0, -60.0]), jnp.array([-60.0, 0.0]))

    state = jnp.array([1, 4])
    decoded = jax.jit(lambda state: decoding.greedy(step, state, 0, END, 1000))(state)
    jax.effects_barrier()
    assert (decoded.lengths.tolist(), len(count)) == ([1, 4], 5)
    count.clear()
    searched = jax.jit(lambda state: decoding.beam_search(step, state, 0, END, 1000, 1, 0.6))(state)
    jax.effects_barrier()
    assert (searched.lengths[:, 0].tolist(), len(count)) == ([1, 4], 5)


def test_forbidden_tokens_are_never_taken():
    allowed = jnp.array([[0.0, -jnp.inf, 1.0], [-jnp.inf, 0.0, -jnp.inf]])

    def step(state, tokens):
        """The end is forbidden for two steps, and all but it for one; then nothing is left."""
        logits = jnp.where((state < 2)[:, None], allowed[0], allowed[1])
        return state + 1, jnp.where((state > 2)[:, None], -jnp.inf, logits)

    state = jnp.zeros(2, int)
    found = jax.jit(lambda: decoding.beam_search(step, state, 0, END, 6, 5, 0.5))()
    pairs = [tuple(tokens) for tokens in found.tokens[0, :4, :2].tolist()]
    assert (pairs[0], set(pairs[1:3]), pairs[3]) == ((2, 2), {(0, 2), (2, 0)}, (0, 0))
    assert found.lengths.tolist() == [[2, 2, 2, 2, 0]] * 2
    assert np.isfinite(found.scores[:, :4]).all()
    assert (found.log_probs[:, 4] == -np.inf).all()
    for drawn in (
        decoding.sample(step, state, 0, END, 6, jax.random.key(0)),
        decoding.sample(step, state, 0, END, 6, jax.random.key(1), top_p=0.9),
        decoding.greedy(step, state, 0, END, 6),
    ):
        assert drawn.lengths.tolist() == [2, 2]
        assert np.isfinite(drawn.log_probs).all()


@pytest.mark.full
def test_samples_have_the_probabilities_of_the_sequences():
    model = draw(1, batch=1)
    many = model._replace(bias=np.repeat(model.bias, 4000, 0), source=np.repeat(model.source, 4000, 0))

    @functools.partial(jax.jit, static_argnames=("temperature", "top_p"))
    def run(key, temperature=1.0, top_p=1.0):
        options = {"temperature": temperature, "top_p": top_p}
        return decoding.sample(step_of(many), initial_state(many), 0, END, LENGTH, key, **options)

    drawn = run(jax.random.key(0))
    counts = collections.Counter(tuple(tokens) for tokens in drawn.tokens.tolist())
    for tokens in all_sequences():
        expected = np.exp(score_of(model, 0, 0, tokens)[0])
        assert abs(counts[tuple(plain(tokens))] / 4000 - expected) < 0.03
    likeliest = walk(many, 0, LENGTH)
    for cold in (run(jax.random.key(1), temperature=1e-3), run(jax.random.key(1), top_p=1e-6)):
        assert cold.tokens.tolist() == likeliest.tokens.tolist()
        np.testing.assert_allclose(cold.log_probs, likeliest.log_probs, rtol=1e-5)


def test_the_nucleus_is_the_fewest_likeliest_tokens_of_enough_probability():
    probabilities = np.array([[0.4, 0.1, 0.3, 0.2], [0.25, 0.25, 0.25, 0.25]], np.float32)
    for top_p, kept in ((1e-9, 1), (0.39, 1), (0.5, 2), (0.75, 3), (1.0, 4)):
        logits = np.asarray(decoding.keep_nucleus(np.log(probabilities), top_p))
        assert np.isfinite(logits[0]).sum() == kept
        assert np.isfinite(logits[1]).all()  # equal ones stay together
        np.testing.assert_array_equal(logits[np.isfinite(logits)], np.log(probabilities)[np.isfinite(logits)])


def test_a_state_is_any_tree():
    """Keys, integers and nothing at all go along with their hypotheses."""

    def step(state, tokens):
        history = jnp.concatenate([state["history"][:, 1:], tokens[:, None]], axis=1)
        keys = jax.vmap(jax.random.fold_in)(state["key"], tokens)
        logits = jax.vmap(lambda key: 2 * jax.random.normal(key, (4,)))(keys)
        return {"history": history, "key": keys, "none": None}, logits

    state = {
        "history": jnp.full((2, 3), 9),
        "key": jax.random.split(jax.random.key(0), 2),
        "none": None,
    }

    def coverage(state):
        """Nonsense that depends on all of the history."""
        return (state["history"] + 1) / 10

    found = jax.jit(
        lambda state: decoding.beam_search(
            step, state, 0, END, 3, 40, coverage=coverage, coverage_penalty=1.0
        )
    )(state)
    for row in range(2):
        for place in range(int(np.isfinite(found.scores[row]).sum())):
            tokens = found.tokens[row, place, : int(found.lengths[row, place])].tolist()
            tokens = tokens if len(tokens) == 3 else [*tokens, END]
            key, log_prob = state["key"][row], 0.0
            for last, token in zip([0, *tokens], tokens, strict=False):
                key = jax.random.fold_in(key, last)
                log_prob += float(jax.nn.log_softmax(2 * jax.random.normal(key, (4,)))[token])
            history = [9, 9, 9, 0, *tokens[:-1]][-3:]
            covered = sum(np.log(min((item + 1) / 10, 1)) for item in history)
            assert float(found.scores[row, place]) == pytest.approx(log_prob + covered, rel=1e-4)


def test_equal_shapes_are_traced_once_and_low_precision_is_summed_in_high():
    traced = []

    @jax.jit
    def run(model, start):
        def step(state, tokens):
            traced.append(1)
            state, logits = step_of(model)(state, tokens)
            return state, logits.astype(jnp.bfloat16)

        return decoding.beam_search(step, initial_state(model), start, END, 4, 2)

    found = run(draw(0), np.array([0, 1, 2]))
    before = len(traced)
    run(draw(1), np.array([2, 1, 0]))
    assert len(traced) == before
    assert found.scores.dtype == found.log_probs.dtype == jnp.float32
    assert found.tokens.dtype == found.lengths.dtype == jnp.int32


@pytest.mark.full
def test_strict_types_and_float64():
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        model, start = draw(0, dtype=np.float64), jnp.array([0, 1, 2], jnp.int32)
        found = decoding.beam_search(step_of(model), initial_state(model), start, END, 3, 2, 0.5)
        sampled = decoding.sample(
            step_of(model), initial_state(model), start, END, 3, jax.random.key(0), 0.5, 0.9
        )
    assert found.scores.dtype == sampled.log_probs.dtype == jnp.float64
    expected = plain_beam_search(model, 0, 0, 2, 3, 0.5, 0.0)
    np.testing.assert_allclose(found.scores[0], [score for _, score in expected], rtol=1e-10)


def test_what_does_not_fit_is_refused(unchecked):
    model = draw(0)
    step, state, key = step_of(model), initial_state(model), jax.random.key(0)
    refused = [
        ("max_length must be a positive", lambda: decoding.greedy(step, state, 0, END, 0)),
        ("beams must be a positive", lambda: decoding.beam_search(step, state, 0, END, 3, 0)),
        (r"end must be a token in 0\.\.2, got 3", lambda: decoding.greedy(step, state, 0, 3, 3)),
        ("must begin with the batch", lambda: decoding.greedy(step, state, jnp.zeros(2, int), END, 3)),
        ("a number where the state has arrays", lambda: decoding.greedy(lambda s, t: (s, t), (), 0, END, 3)),
        (r"logits \[batch, vocabulary\]", lambda: decoding.greedy(lambda s, t: (s, t), state, 0, END, 3)),
        ("temperature must be positive", lambda: decoding.sample(step, state, 0, END, 3, key, 0.0)),
        ("top_p in", lambda: decoding.sample(step, state, 0, END, 3, key, top_p=0.0)),
        (
            "needs a coverage, got 0.2 without",
            lambda: decoding.beam_search(step, state, 0, END, 3, 2, coverage_penalty=0.2),
        ),
    ]
    for message, call in refused:
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.full
def test_a_decoder_with_attention():
    """An LSTM that looks at a memory it closes over finds the same with the memory in its state."""
    cell, attention = lstmjax.lstm(4 + 5, 6), lstmjax.attention.bahdanau(6, 5, 7)
    keys = jax.random.split(jax.random.key(0), 5)
    params, attention_params = cell.init(keys[0]), attention.init(keys[1])
    embedding, output = 2 * jax.random.normal(keys[2], (8, 4)), 3 * jax.random.normal(keys[3], (6, 8))
    values = 2 * jax.random.normal(keys[4], (3, 9, 5))
    memory = attention.prepare(attention_params, values, jnp.array([9, 4, 1]))

    def step(memory, state, tokens):
        glimpse, _ = attention.attend(attention_params, memory, state.hidden, ())
        state, outputs = cell.step(params, state, jnp.concatenate([embedding[tokens], glimpse.context], -1))
        return state, outputs @ output

    def carried(state, tokens):
        memory, state = state
        state, logits = step(memory, state, tokens)
        return (memory, state), logits

    @jax.jit
    def run(memory):
        state = cell.initial_state((3,))
        closed = decoding.beam_search(functools.partial(step, memory), state, 0, END, 5, 3, 0.6)
        return closed, decoding.beam_search(carried, (memory, state), 0, END, 5, 3, 0.6)

    closed, open_ = run(memory)
    assert closed.tokens.tolist() == open_.tokens.tolist()
    np.testing.assert_allclose(closed.scores, open_.scores, rtol=1e-5)
