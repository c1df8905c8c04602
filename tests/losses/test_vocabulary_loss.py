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
    return tuple(arrays), targets, weights


def plain(arrays, targets, weights):
    hidden, kernel, bias = arrays
    return (weights * cross_entropy(hidden @ kernel + bias, targets)).sum()


def chunked(arrays, targets, weights, chunk):
    return vocabulary_cross_entropy(*arrays, targets, weights, chunk)


plain_total = jax.jit(jax.value_and_grad(plain))
chunked_total = jax.jit(jax.value_and_grad(chunked), static_argnums=3)


def assert_close(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-10, atol=1e-12), a, b)


@pytest.mark.parametrize("chunk", [None, 1, 4, 15, 100])
def test_value_and_gradient_for_any_chunk(problem, chunk):
    value, gradient = plain_total(*problem)
    assert_close(chunked_total(*problem, chunk), (value, gradient))
    assert_close(jax.jit(chunked, static_argnums=3)(*problem, chunk), value)


@pytest.mark.full
def test_forward_mode_hessian_products_vmap_and_jit(problem):
    arrays, targets, weights = problem
    tangent = jax.tree.map(np.sin, arrays)
    for transform in (
        lambda f: jax.jvp(f, (arrays,), (tangent,)),
        lambda f: jax.jvp(jax.grad(f), (arrays,), (tangent,)),
        lambda f: jax.vmap(jax.grad(f))(jax.tree.map(lambda x: np.stack([x, 2 * x]), arrays)),
        lambda f: jax.jit(jax.grad(f))(arrays),
    ):
        assert_close(
            transform(jax.jit(lambda arrays: chunked(arrays, targets, weights, 4))),
            transform(jax.jit(lambda arrays: plain(arrays, targets, weights))),
        )


def test_rows_of_weight_zero_have_no_influence_though_they_hold_nan(problem):
    (hidden, kernel, bias), targets, weights = problem
    spoilt = np.where((weights == 0)[..., None], np.nan, hidden)
    assert_close(
        chunked_total((spoilt, kernel, bias), targets, weights, 4),
        chunked_total((hidden, kernel, bias), targets, weights, 4),
    )


def test_no_weights_are_weights_of_one_and_no_rows_are_zero(problem):
    (hidden, kernel, bias), targets, weights = problem
    total = vocabulary_cross_entropy(hidden, kernel, bias, targets)
    assert_close(total, plain_total((hidden, kernel, bias), targets, np.ones_like(weights))[0])
    assert vocabulary_cross_entropy(hidden[:0], kernel, bias, targets[:0]) == 0


def test_a_word_out_of_the_vocabulary_is_nan(problem):
    arrays, targets, weights = problem
    targets[0, 0] = VOCABULARY
    assert np.isnan(chunked_total(arrays, targets, np.ones_like(weights), 4)[0])


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
    low = [x.astype(jnp.bfloat16) for x in (hidden, kernel, bias)]
    value, gradients = chunked_total(low, targets, None, None)
    assert value.dtype == jnp.float32
    assert {x.dtype for x in gradients} == {jnp.dtype(jnp.bfloat16)}
    expected, _ = plain_total([np.asarray(x, np.float64) for x in low], targets, np.ones(ROWS))
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
    random = np.random.default_rng(0)
    arrays = random.standard_normal((5, 3)), random.standard_normal((3, 300)), np.zeros(300)
    targets = np.array([0, 1, 44, 100, 127])
    expected = chunked_total(arrays, targets, None, None)
    found = chunked_total(arrays, targets.astype(dtype), None, None)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize("target", [-1, -300, 300, 2**31 - 1])
def test_a_target_that_is_no_word_gives_nan_unless_it_does_not_count(target):
    total = jax.jit(jax.value_and_grad(vocabulary_cross_entropy, 1))
    hidden, kernel, bias = np.ones((2, 3)), np.ones((3, 300)), np.zeros(300)
    targets = np.array([7, target])
    assert np.isnan(vocabulary_cross_entropy(hidden, kernel, bias, targets))
    value, gradient = total(hidden, kernel, bias, targets, np.array([1.0, 0.0]))
    alone = total(hidden[:1], kernel, bias, targets[:1])
    np.testing.assert_allclose(value, alone[0], rtol=1e-6)
    np.testing.assert_allclose(gradient, alone[1], rtol=1e-5, atol=1e-6)
