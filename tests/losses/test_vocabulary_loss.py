"""The chunked cross entropy of a large vocabulary, against the plain one in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lstmjax.losses import cross_entropy, vocabulary_cross_entropy

pytestmark = pytest.mark.usefixtures("exact")

ROWS, HIDDEN, VOCABULARY = (3, 5), 4, 7


@pytest.fixture
def problem(exact):
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=size) for size in ((*ROWS, HIDDEN), (HIDDEN, VOCABULARY), (VOCABULARY,))]
    targets, weights = rng.integers(0, VOCABULARY, ROWS), rng.uniform(0.5, 2.0, ROWS)
    weights[rng.random(ROWS) < 0.3] = 0.0
    return tuple(map(jnp.asarray, arrays)), jnp.asarray(targets), jnp.asarray(weights)


def plain(arrays, targets, weights):
    hidden, kernel, bias = arrays
    return (weights * cross_entropy(hidden @ kernel + bias, targets)).sum()


def chunked(arrays, targets, weights, chunk):
    return vocabulary_cross_entropy(*arrays, targets, weights, chunk)


def assert_close(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-10, atol=1e-12), a, b)


@pytest.mark.parametrize("chunk", [None, 1, 4, 15, 100])
def test_value_and_gradient_for_any_chunk(problem, chunk):
    assert_close(
        jax.value_and_grad(chunked)(*problem, chunk),
        jax.value_and_grad(plain)(*problem),
    )
    assert_close(chunked(*problem, chunk), plain(*problem))


@pytest.mark.full
def test_forward_mode_hessian_products_vmap_and_jit(problem):
    arrays, targets, weights = problem
    tangent = jax.tree.map(jnp.sin, arrays)
    for transform in (
        lambda f: jax.jvp(f, (arrays,), (tangent,)),
        lambda f: jax.jvp(jax.grad(f), (arrays,), (tangent,)),
        lambda f: jax.vmap(jax.grad(f))(jax.tree.map(lambda x: jnp.stack([x, 2 * x]), arrays)),
        lambda f: jax.jit(jax.grad(f))(arrays),
    ):
        assert_close(
            transform(lambda arrays: chunked(arrays, targets, weights, 4)),
            transform(lambda arrays: plain(arrays, targets, weights)),
        )


def test_rows_of_weight_zero_have_no_influence_though_they_hold_nan(problem):
    (hidden, kernel, bias), targets, weights = problem
    spoilt = jnp.where((weights == 0)[..., None], jnp.nan, hidden)
    assert_close(
        jax.value_and_grad(chunked)((spoilt, kernel, bias), targets, weights, 4),
        jax.value_and_grad(chunked)((hidden, kernel, bias), targets, weights, 4),
    )


def test_no_weights_are_weights_of_one_and_no_rows_are_zero(problem):
    (hidden, kernel, bias), targets, weights = problem
    total = vocabulary_cross_entropy(hidden, kernel, bias, targets)
    assert_close(total, plain((hidden, kernel, bias), targets, jnp.ones_like(weights)))
    assert vocabulary_cross_entropy(hidden[:0], kernel, bias, targets[:0]) == 0


def test_a_word_out_of_the_vocabulary_is_nan(problem):
    arrays, targets, weights = problem
    assert jnp.isnan(chunked(arrays, targets.at[0, 0].set(VOCABULARY), jnp.ones_like(weights), 4))


@pytest.mark.usefixtures("optimized")
def test_the_logits_of_all_rows_are_never_in_memory():
    rows, vocabulary = 64, 4096
    shapes = [(rows, 8), (8, vocabulary), (vocabulary,)]
    arrays = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    targets = jax.ShapeDtypeStruct((rows,), jnp.int32)

    def memory(chunk):
        function = jax.value_and_grad(lambda *a: vocabulary_cross_entropy(*a, chunk=chunk), argnums=(0, 1, 2))
        return jax.jit(function).lower(*arrays, targets).compile().memory_analysis().temp_size_in_bytes

    assert memory(4) < rows * vocabulary * 4 / 2 < memory(rows)


def test_low_precision_is_summed_in_float32(problem):
    (hidden, kernel, bias), targets, _ = problem
    low = [jnp.asarray(x, jnp.bfloat16) for x in (hidden, kernel, bias)]
    value, gradients = jax.value_and_grad(lambda low: vocabulary_cross_entropy(*low, targets))(low)
    assert value.dtype == jnp.float32
    assert {x.dtype for x in gradients} == {jnp.dtype(jnp.bfloat16)}
    expected = plain([x.astype(jnp.float64) for x in low], targets, jnp.ones(ROWS))
    np.testing.assert_allclose(value, expected, rtol=1e-3)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kernel": jnp.ones((5, 7))}, "must be \\[..., hidden\\], \\[hidden, vocabulary\\]"),
        ({"targets": jnp.zeros((3, 4), int)}, "targets must have shape \\(3, 5\\)"),
        ({"weights": jnp.zeros((3, 4))}, "weights must have shape \\(3, 5\\)"),
        ({"chunk": 0}, "chunk must be at least 1"),
    ],
)
def test_what_does_not_fit_is_refused(problem, change, message):
    (hidden, kernel, bias), targets, weights = problem
    arguments = {"hidden": hidden, "kernel": kernel, "bias": bias, "targets": targets, "weights": weights}
    with pytest.raises(ValueError, match=message):
        vocabulary_cross_entropy(**{**arguments, **change})


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "int32", "uint32"])
def test_targets_of_any_integer_dtype_have_the_same_value_and_gradient(dtype):
    """Of more words than the dtype can count, too."""
    keys = jax.random.split(jax.random.key(0), 2)
    hidden, kernel = jax.random.normal(keys[0], (5, 3)), jax.random.normal(keys[1], (3, 300))
    targets = jnp.array([0, 1, 44, 100, 127])

    def loss(kernel, targets):
        return vocabulary_cross_entropy(hidden, kernel, jnp.zeros(300), targets)

    expected = jax.value_and_grad(loss)(kernel, targets)
    found = jax.value_and_grad(loss)(kernel, targets.astype(dtype))
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize("target", [-1, -300, 300, 2**31 - 1])
def test_a_target_that_is_no_word_gives_nan_unless_it_does_not_count(target):
    hidden, kernel, bias = jnp.ones((2, 3)), jnp.ones((3, 300)), jnp.zeros(300)
    targets = jnp.array([7, target])
    assert np.isnan(vocabulary_cross_entropy(hidden, kernel, bias, targets))
    weights = jnp.array([1.0, 0.0])
    value, gradient = jax.value_and_grad(vocabulary_cross_entropy, 1)(hidden, kernel, bias, targets, weights)
    alone = jax.value_and_grad(vocabulary_cross_entropy, 1)(hidden[:1], kernel, bias, targets[:1])
    np.testing.assert_allclose(value, alone[0], rtol=1e-6)
    np.testing.assert_allclose(gradient, alone[1], rtol=1e-5, atol=1e-6)
