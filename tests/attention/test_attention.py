"""Attention against loops over positions in NumPy, and what it promises of padding, shapes and dtypes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import lstmjax
from lstmjax import attention

QUERY, MEMORY, TIME = 4, 3, 6

KINDS = {
    "bahdanau": lambda **options: attention.bahdanau(QUERY, MEMORY, 5, **options),
    "normalized": lambda **options: attention.bahdanau(QUERY, MEMORY, 5, normalize=True, **options),
    "general": lambda **options: attention.luong(QUERY, MEMORY, **options),
    "dot": lambda **options: attention.luong(QUERY, QUERY, "dot", **options),
    "scaled_dot": lambda **options: attention.luong(QUERY, QUERY, "scaled_dot", **options),
    "graves_window": lambda **options: attention.graves_window(QUERY, MEMORY, 2, stride=1.5, **options),
    "location_sensitive": lambda **options: attention.location_sensitive(QUERY, MEMORY, 5, 2, 3, **options),
    "not_cumulative": lambda **options: attention.location_sensitive(
        QUERY, MEMORY, 5, 2, 3, cumulative=False, **options
    ),
}
"""Every kind of attention that there is."""


def additive(params, values, query, extra=None):
    """v . tanh(W s + U h_j + ...), for one row, position by position."""
    scores = []
    for place, value in enumerate(values):
        total = query @ params.query_kernel + value @ params.memory_kernel
        if params.bias is not None:
            total = total + params.bias
        if extra is not None:
            total = total + extra[place]
        scores.append(params.score_kernel @ np.tanh(total))
    return scores


def softmax(scores):
    powers = [np.exp(score) for score in scores]
    return np.array([power / sum(powers) for power in powers])


def look(name, kind, params, values, query, state):  # noqa: PLR0911
    """Weights and next state of one row without padding, by the equations of the papers."""
    time = len(values)
    match name:
        case "bahdanau":
            return softmax(additive(params, values, query)), state
        case "normalized":
            vector = params.scale * params.score_kernel / np.sqrt(sum(params.score_kernel**2))
            return softmax(additive(params._replace(score_kernel=vector), values, query)), state
        case "general":
            return softmax([query @ params.kernel.T @ value for value in values]), state
        case "dot":
            return softmax([query @ value for value in values]), state
        case "scaled_dot":
            return softmax([query @ value / 2 for value in values]), state
        case "graves_window":
            alpha, beta, moved = np.split(np.exp(query @ params.kernel + params.bias), 3)
            kappa, weights = state + moved, np.zeros(time)
            for u in range(1, time + 1):
                for k in range(kind.components):
                    weights[u - 1] += alpha[k] * np.exp(-beta[k] * (kappa[k] - u) ** 2)
            return weights, kappa
        case "location_sensitive" | "not_cumulative":
            extra = np.zeros((time, kind.units))
            for place in range(time):
                for offset in range(kind.width):
                    source = place + offset - kind.width // 2
                    if 0 <= source < time:
                        features = state[source] * params.location_filters[offset]
                        extra[place] += features @ params.location_kernel
            weights = softmax(additive(params, values, query, extra))
            return weights, state + weights if kind.cumulative else weights
    raise AssertionError(name)


def start(name, dtype=jnp.float64, batch_shape=(), seed=0, **options):
    """A kind of attention with random parameters, values, and queries of three steps."""
    kind = KINDS[name](dtype=dtype, **options)
    random = np.random.default_rng(seed)
    params = jax.tree.map(
        lambda leaf: (np.asarray(leaf) + 0.3 * random.standard_normal(leaf.shape)).astype(leaf.dtype),
        kind.init(jax.random.key(seed)),
    )
    values = random.standard_normal((*batch_shape, TIME, kind.memory)).astype(dtype)
    queries = (0.5 * random.standard_normal((3, *batch_shape, kind.query))).astype(dtype)
    return kind, params, values, queries


def steps(kind, params, values, queries, lengths=None):
    """Contexts and weights of all steps, and the last state."""
    memory = kind.prepare(params, values, lengths)

    def step(state, query):
        glimpse, state = kind.attend(params, memory, query, state)
        return state, glimpse

    state, glimpses = jax.lax.scan(step, kind.initial_state(memory), queries)
    return glimpses, state


compiled = jax.jit(steps, static_argnums=0)


def assert_close(actual, expected, tolerance=1e-10):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, tolerance, tolerance), actual, expected)


@pytest.mark.parametrize("name", KINDS)
def test_equals_the_loop_over_positions(name, exact):
    """Under jit, with rows of all lengths, one of them empty, and NaN and infinity in the padding."""
    lengths = np.array([[TIME, 0, 4], [1, 2, 5]])
    kind, params, values, queries = start(name, batch_shape=lengths.shape)
    beyond = np.arange(TIME) >= lengths[..., None]
    poisoned = np.where(beyond[..., None], np.array([np.nan, np.inf, -np.inf, 0])[: kind.memory], values)
    glimpses, states = jax.tree.map(np.asarray, compiled(kind, params, poisoned, queries, lengths))
    arrays = jax.tree.map(np.asarray, params)
    for row in np.ndindex(lengths.shape):
        valid = np.asarray(values)[row][: lengths[row]]
        state = np.zeros({"graves_window": 2}.get(name, lengths[row]))
        for number, query in enumerate(np.asarray(queries)):
            weights, state = look(name, kind, arrays, valid, query[row], state)
            context = sum((a * value for a, value in zip(weights, valid, strict=True)), np.zeros(kind.memory))
            assert_close(glimpses.context[number][row], context)
            assert_close(glimpses.weights[number][row][: lengths[row]], weights)
            assert (glimpses.weights[number][row][lengths[row] :] == 0).all()
        if name in ("graves_window", "location_sensitive", "not_cumulative"):
            assert_close(states[row][: len(state)], state)
            assert (states[row][len(state) :] == 0).all()
        else:
            assert states == ()


def total(kind, params, values, queries, lengths=None):
    """A number that depends on all that is seen."""
    glimpses, _ = steps(kind, params, values, queries, lengths)
    return sum(jnp.sum(jnp.sin(leaf)) for leaf in glimpses)


@pytest.mark.parametrize("name", KINDS)
def test_gradients_are_right_and_know_no_padding(name, exact):
    kind, params, values, queries = start(name, batch_shape=(3,))
    lengths = np.array([TIME, 3, 0])
    arguments = params, values, queries
    check_grads(jax.jit(lambda *a: total(kind, *a, lengths)), arguments, 1, atol=1e-5, rtol=1e-5, eps=1e-6)
    gradient = jax.jit(jax.grad(total, argnums=(1, 2, 3)), static_argnums=0)
    poisoned = values.copy()
    poisoned[1, 3:], poisoned[2] = np.nan, np.inf
    actual = jax.tree.map(np.asarray, gradient(kind, params, poisoned, queries, lengths))
    parts = [
        jax.tree.map(np.asarray, gradient(kind, params, values[row, :length][None], queries[:, row][:, None]))
        for row, length in enumerate([TIME, 3])
    ]
    assert_close(actual[0], jax.tree.map(np.add, parts[0][0], parts[1][0]))
    assert_close(actual[1][0], parts[0][1][0])
    assert_close(actual[1][1], np.concatenate([parts[1][1][0], np.zeros((3, kind.memory))]))
    assert_close(actual[2][:, 1], parts[1][2][:, 0])
    assert (actual[1][2] == 0).all()
    assert (actual[2][:, 2] == 0).all()


@pytest.mark.parametrize("name", KINDS)
def test_batches_have_any_rank_and_map(name, exact):
    kind, params, values, queries = start(name, batch_shape=(2, 1, 3))
    whole = jax.tree.map(np.asarray, compiled(kind, params, values, queries))
    mapped = jax.vmap(lambda v, q: steps(kind, params, v, q), in_axes=(0, 1), out_axes=(1, 0))
    glimpses, states = jax.jit(mapped)(values, queries)
    assert_close(glimpses, whole[0])
    assert_close(states, whole[1])
    for row in np.ndindex(2, 1, 3):
        glimpses, state = compiled(kind, params, values[row], queries[(slice(None), *row)])
        for actual, expected in zip(glimpses, whole[0], strict=True):
            assert_close(actual, expected[(slice(None), *row)])
        for actual, expected in zip(jax.tree.leaves(state), jax.tree.leaves(whole[1]), strict=True):
            assert_close(actual, expected[row])


@pytest.mark.parametrize("name", KINDS)
def test_memories_may_be_empty(name, exact):
    kind, params, values, queries = start(name, batch_shape=(2,))
    glimpses, _ = compiled(kind, params, values[:, :0], queries)
    assert glimpses.weights.shape == (3, 2, 0)
    assert not np.any(glimpses.context)
    gradient = jax.jit(jax.grad(total, argnums=1), static_argnums=0)
    assert not any(map(np.any, jax.tree.leaves(gradient(kind, params, values, queries, np.zeros(2, int)))))


@pytest.mark.parametrize("name", KINDS)
def test_bfloat16_has_weights_and_states_in_float32(name):
    kind, params, values, queries = start(name, jnp.bfloat16, (2,))
    lengths = np.array([TIME, 2])
    with jax.numpy_dtype_promotion("strict"):
        glimpses, state = compiled(kind, params, values, queries, lengths)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} <= {jnp.dtype(jnp.float32)}
    assert glimpses.context.dtype == jnp.bfloat16
    assert glimpses.weights.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(state)} <= {jnp.dtype(jnp.float32)}
    if name != "graves_window":
        assert_close(np.sum(glimpses.weights, axis=-1), np.ones((3, 2)), 1e-6)
    wide = KINDS[name](dtype="float32")
    expected, _ = compiled(wide, params, values.astype(np.float32), queries.astype(np.float32), lengths)
    assert_close(glimpses.weights, expected.weights, 0.05)
    assert_close(np.float32(glimpses.context), expected.context, 0.05)


def test_large_scores_do_not_overflow():
    kind = attention.luong(1, 1, "dot")
    params = kind.init(jax.random.key(0))
    memory = kind.prepare(params, jnp.array([[1e4], [-1e4], [2e4]], "float32"), jnp.array(2))
    glimpse, _ = kind.attend(params, memory, jnp.array([1e4], "float32"), ())
    assert glimpse.weights.tolist() == [1, 0, 0]


def test_many_queries_by_vmap():
    kind, params, values, queries = start("bahdanau", jnp.float32, (2,))
    memory = kind.prepare(params, values)
    glimpses = jax.vmap(lambda query: kind.attend(params, memory, query, ())[0])(queries)
    assert_close(glimpses, compiled(kind, params, values, queries)[0], 1e-5)


def test_kinds_start_as_documented():
    normalized = KINDS["normalized"]().init(jax.random.key(0))
    assert (normalized.bias == 0).all()
    assert float(normalized.scale) == pytest.approx(5**-0.5)
    assert KINDS["bahdanau"]().init(jax.random.key(0)).bias is None
    window = attention.graves_window(4, 3, 2, stride=0.04)
    params = window.init(jax.random.key(0))
    memory = window.prepare(params, jnp.eye(3, dtype="float32"))
    _, kappa = window.attend(params, memory, jnp.zeros(4, "float32"), window.initial_state(memory))
    np.testing.assert_allclose(kappa, 0.04, rtol=1e-5)


def test_equal_numbers_make_equal_attention_which_goes_through_jit():
    assert attention.luong(4, 3) == attention.luong(4, 3)
    assert repr(attention.bahdanau(4, 3, 5)) == "Bahdanau(query=4, memory=3, units=5)"
    kind, params, values, queries = start("general", jnp.float32)
    context = jax.jit(lambda *arguments: steps(*arguments)[0].context)
    context(kind, params, values, queries)
    context(attention.luong(4, 3), params, values, queries)
    assert context._cache_size() == 1


def test_what_does_not_fit_is_refused(unchecked):
    kind, params, values, queries = start("bahdanau", jnp.float32, (2,))
    memory = kind.prepare(params, values)
    refused = [
        (
            ValueError,
            "bahdanau: units must be a positive integer, got 0",
            lambda: attention.bahdanau(4, 3, 0),
        ),
        (ValueError, "luong: score must be one of", lambda: attention.luong(4, 3, "cosine")),
        (ValueError, "of one size, got 4 and 3", lambda: attention.luong(4, 3, "dot")),
        (ValueError, "stride must be positive", lambda: attention.graves_window(4, 3, 2, stride=0.0)),
        (ValueError, "width must be odd", lambda: attention.location_sensitive(4, 3, 5, 2, 4)),
        (TypeError, "dtype must be a floating", lambda: attention.luong(4, 3, dtype=jnp.int32)),
        (ValueError, r"values must be \[..., time, 3\]", lambda: kind.prepare(params, values[..., :2])),
        (TypeError, "values has dtype bfloat16", lambda: kind.prepare(params, values.astype(jnp.bfloat16))),
        (ValueError, r"must lie in 0..6", lambda: kind.prepare(params, values, np.array([1, 7]))),
        (ValueError, r"batch shape of the inputs", lambda: kind.prepare(params, values, jnp.array([1]))),
        (TypeError, "params must have the structure", lambda: kind.prepare(params[:2], values)),
        (ValueError, r"query must have shape \(2, 4\)", lambda: kind.attend(params, memory, queries, ())),
        (ValueError, "jax.vmap", lambda: kind.attend(params, memory, queries[0, :, :3], ())),
        (TypeError, "query has dtype", lambda: kind.attend(params, memory, queries[0].astype("float16"), ())),
        (TypeError, "state must have the structure", lambda: kind.attend(params, memory, queries[0], 0.0)),
        (TypeError, "what attention.prepare returns", lambda: kind.attend(params, values, queries[0], ())),
    ]
    for error, message, call in refused:
        with pytest.raises(error, match=message):
            call()
    window, others, _, _ = start("graves_window", jnp.float32)
    with pytest.raises(TypeError, match="memory must have the structure"):
        window.attend(others, memory, queries[0], jnp.zeros((2, 2)))


def test_the_module_is_public():
    assert lstmjax.attention is attention
    assert {"bahdanau", "luong", "graves_window", "location_sensitive"} <= set(attention.__all__)
