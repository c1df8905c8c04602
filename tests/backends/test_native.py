"""The native code: built, kept, refused with a reason, and right where the contract does not look."""

import dataclasses
import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import assert_close

import lstmjax
from lstmjax.backends import native
from lstmjax.cells.elementwise import ElementwiseCell, Stage, StagedCell, Structure, Weights

has_compiler = any(map(shutil.which, ("c++", "g++", "clang++")))
needs_native = pytest.mark.skipif(native.load() is not None, reason=f"no native code: {native.load()}")

RUN = """
import jax, lstmjax
from lstmjax import backends
from lstmjax.backends import native
cell = lstmjax.lstm(3, 4)
outputs = lstmjax.unroll(cell, cell.init(jax.random.key(0)), jax.numpy.ones((2, 7, 3)))[1]
print(backends.choose("auto", cell).way, float(outputs.sum()))
"""


def run(**variables):
    environment = {**os.environ, **{name: str(value) for name, value in variables.items()}}
    return subprocess.run(
        [sys.executable, "-c", RUN], env=environment, capture_output=True, text=True, check=True
    )


@pytest.mark.skipif(not has_compiler, reason="no compiler")
def test_it_can_be_had_where_there_is_a_compiler():
    assert native.load() is None


@dataclasses.dataclass(frozen=True, repr=False)
class FiveProducts(ElementwiseCell):
    """A cell with more products than any of ours."""

    structure = Structure(columns=5, inputs=5, products=5)

    def init(self, key):
        sizes = self.features, self.hidden
        kernels = (jax.random.normal(key, (size, 5 * self.hidden)) / (9 + size) for size in sizes)
        return lstmjax.LSTMParams(*kernels, jnp.zeros(5 * self.hidden))

    def initial_state(self, batch_shape=()):
        return jnp.zeros((*batch_shape, self.hidden), self.dtype)

    def elementwise(self, totals, vectors, state):
        a, b, c, d, e = totals
        return (jnp.tanh(a * b + c * d + e),)


@dataclasses.dataclass(frozen=True, repr=False)
class ThreeStages(StagedCell):
    """A cell whose stages have unequal numbers of leaves, products and vectors, one with no product."""

    def init(self, key):
        sizes = (self.features, 3 * self.hidden), (self.hidden, 6 * self.hidden), (3, self.hidden)
        return [jax.random.normal(key, (rows, size)) / (3 + rows) for rows, size in sizes]

    def initial_state(self, batch_shape=()):
        return [jnp.zeros((*batch_shape, self.hidden), self.dtype)] * 2

    @property
    def stages(self):
        return (
            Stage(Structure(4, 1, 4), lambda z, _, s: (s[0] * z[0], z[1] + z[2], jnp.tanh(z[3]), *s)),
            Stage(Structure(1, 1, 0, vectors=2), lambda z, v, s: (z[0] * s[0] + v[0], s[1] * v[1], *s[2:])),
            Stage(
                Structure(3, 1, 2), lambda z, _, s: (jnp.tanh(z[0] + z[1] * s[2] + s[1] + s[3]), z[2] * s[4])
            ),
        )

    def stage_weights(self, params):
        kernels, (recurrent, vectors) = jnp.split(params[0], 3, axis=-1), params[1:]
        first, none, last = jnp.split(recurrent, [4 * self.hidden, 4 * self.hidden], axis=-1)
        return (
            Weights(kernels[0], first, jnp.tile(vectors[2], 4)),
            Weights(kernels[1], none, None, (vectors[0], vectors[1])),
            Weights(kernels[2], last, None),
        )


CELLS = {
    "lstm": lstmjax.lstm,
    "gru": lstmjax.gru,
    "elman": lstmjax.elman,
    "min_lstm": lstmjax.min_lstm,
    "five_products": FiveProducts,
    "gru_reset_before": lambda *sizes: lstmjax.gru(*sizes, reset_after=False),
    "multiplicative": lstmjax.multiplicative_lstm,
    "three_stages": ThreeStages,
    "two_columns": lambda *sizes: lstmjax.lstm(*sizes, forget_gate=False, output_gate=False, peepholes=True),
}
"""One for each number of products, and of stages."""

SIZES = [(1, 3, 5, 7), (2, 4, 16, 16), (13, 9, 33, 65), (8, 6, 200, 200), (3, 5, 7, 300), (6, 3, 128, 40)]


@needs_native
@pytest.mark.parametrize(
    ("name", "shape", "masked"),
    [("lstm", shape, masked) for shape in SIZES for masked in (False, True)]
    + [(name, shape, True) for name in CELLS if name != "lstm" for shape in SIZES[2:]],
)
def test_values_and_gradients_for_sizes_that_fill_no_tile_and_for_all_divisions_of_the_work(
    name, shape, masked
):
    batch, time, features, hidden = shape
    rng = np.random.default_rng(0)
    cell = CELLS[name](features, hidden)
    params = jax.tree.map(
        lambda leaf: leaf + rng.normal(0, 0.1, leaf.shape).astype(leaf.dtype), cell.init(jax.random.key(0))
    )
    inputs = jnp.asarray(rng.normal(size=(batch, time, features)), jnp.float32)
    weights = jnp.asarray(rng.normal(size=(batch, time, hidden)), jnp.float32)
    masks = {}
    if masked:
        masks["lengths"] = jnp.asarray(rng.integers(0, time + 1, batch))
        masks["resets"] = jnp.asarray(rng.random((batch, time)) < 0.3)
    for reverse in (False, True):

        def loss(params, inputs, backend, reverse=reverse):
            state, outputs = lstmjax.unroll(cell, params, inputs, reverse=reverse, backend=backend, **masks)
            return (outputs * weights).sum() + sum((leaf**2).sum() for leaf in jax.tree.leaves(state))

        gradient = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)), static_argnums=2)
        ours, theirs = gradient(params, inputs, "native"), gradient(params, inputs, "scan")
        for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5 * float(jnp.abs(b).max()))


@needs_native
@pytest.mark.parametrize("name", ["lstm", "gru_reset_before", "three_stages"])
def test_threads_that_divide_the_rows_do_not_write_over_each_other(name):
    cell = CELLS[name](200, 200)
    params, inputs = cell.init(jax.random.key(0)), jax.random.normal(jax.random.key(1), (8, 6, 200))
    gradient = jax.jit(
        jax.grad(lambda params: (lstmjax.unroll(cell, params, inputs, backend="native")[1] ** 2).sum())
    )
    first = gradient(params)
    for _ in range(30):
        jax.tree.map(np.testing.assert_array_equal, gradient(params), first)


@needs_native
def test_gates_saturate_without_overflow_and_nan_stays_nan():
    cell = lstmjax.lstm(1, 1)
    params = jax.tree.map(jnp.ones_like, cell.init(jax.random.key(0)))
    inputs = jnp.array([-1e30, -200.0, -20.0, -1e-6, 0.0, 1e-6, 20.0, 200.0, 1e30, jnp.nan])[:, None, None]
    ours, theirs = (lstmjax.unroll(cell, params, inputs, backend=name)[1] for name in ("native", "scan"))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)
    assert bool(jnp.isnan(ours[-1]).all())


@needs_native
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [1e4, 1e6])
def test_the_gradient_of_saturated_candidates_is_that_of_the_scan(size, dtype):
    """Where tanh is 1 the slope is 0: what a bound of tanh leaves of it would be multiplied by the inputs."""
    with jax.enable_x64(dtype == "float64"):
        cell = lstmjax.lstm(3, 8, dtype=dtype)
        params = cell.init(jax.random.key(0))
        inputs = jnp.asarray(size * np.random.default_rng(0).normal(size=(2, 5, 3)), dtype)
        candidates = jnp.arange(32) // 8 == 2
        params = params._replace(kernel=params.kernel * candidates)  # the gates are open: they see no input

        def gradient(backend):
            return jax.grad(lambda params: lstmjax.unroll(cell, params, inputs, backend=backend)[1].sum())(
                params
            )

        ours, theirs = gradient("native"), gradient("scan")
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a[..., candidates], 0)
            np.testing.assert_array_equal(b[..., candidates], 0)
            tolerance = {"float32": 1e-5, "float64": 1e-13}[dtype] * float(jnp.abs(b).max())
            np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)


@pytest.mark.full
@needs_native
def test_results_do_not_depend_on_the_number_of_threads():
    """Of the recurrence itself: what draws orthogonal weights, and products of XLA, may depend on it."""
    code = (
        "import jax, lstmjax, numpy as np; cell = lstmjax.lstm(4, 300); random = np.random.default_rng(0);"
        "draw = lambda tree: jax.tree.map(lambda a: random.normal(0, 0.1, a.shape).astype(a.dtype), tree);"
        "p, s = draw(cell.init(jax.random.key(0))), draw(cell.initial_state((16,)));"
        "x = random.normal(size=(16, 9, 4)).astype(np.float32);"
        "run = lambda s: lstmjax.unroll(cell, p, x, state=s, backend='native');"
        "g = jax.grad(lambda s: run(s)[1].sum())(s);"
        "print(*(np.asarray(leaf).tobytes().hex() for leaf in jax.tree.leaves((run(s), g))))"
    )
    outputs = set()
    for cores in ("0", "0,1"):
        command = ["taskset", "-c", cores, sys.executable, "-c", code]
        if shutil.which("taskset") is None or (os.cpu_count() or 1) < 2:
            pytest.skip("needs taskset and two cores")
        outputs.add(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert len(outputs) == 1, "bits differ between one thread and two"


@needs_native
def test_several_models_side_by_side_by_vmap():
    cell = lstmjax.lstm(3, 4)
    params = jax.vmap(cell.init)(jax.random.split(jax.random.key(0), 3))
    inputs = jax.random.normal(jax.random.key(1), (3, 2, 5, 3))

    def gradient(backend):
        def loss(params, inputs):
            return (lstmjax.unroll(cell, params, inputs, backend=backend)[1] ** 2).sum()

        return jax.vmap(jax.grad(loss))(params, inputs)

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        *map(gradient, ("native", "scan")),
    )


def test_it_can_be_turned_off():
    assert run(LSTMJAX_NATIVE=0).stdout.startswith("scan")


def test_without_a_compiler_everything_runs_and_says_so(tmp_path):
    done = run(CXX="no-such-compiler", XDG_CACHE_HOME=tmp_path)
    assert done.stdout.startswith("scan")
    assert "no C++ compiler 'no-such-compiler' ($CXX)" in done.stderr


def test_a_compiler_that_fails_is_named_with_its_first_error(tmp_path):
    compiler = tmp_path / "broken"
    compiler.write_text("#!/bin/sh\necho 'fatal error: no such header' >&2\nexit 1\n")
    compiler.chmod(0o755)
    done = run(CXX=compiler, XDG_CACHE_HOME=tmp_path)
    assert done.stdout.startswith("scan")
    assert "fatal error: no such header" in done.stderr


def test_the_compiler_may_have_arguments_and_speak_in_any_encoding(tmp_path, monkeypatch):
    script = tmp_path / "a compiler"
    script.write_bytes(
        b'case $* in *--version*) echo 1.0 ;; *) echo "error: \xe9 $1 $2 $LC_ALL" >&2; exit 1 ;; esac\n'
    )
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CXX", f"sh '{script}' -m64 -D'A B'")
    with pytest.raises(native.NativeError, match=r"sh failed: error: \S -m64 -DA B C$"):
        native._load_library()
    monkeypatch.setenv("CXX", "sh 'unclosed")
    with pytest.raises(
        native.NativeError, match=r"\$CXX=\"sh 'unclosed\" names no compiler: No closing quotation"
    ):
        native._load_library()
    script.chmod(0o755)
    monkeypatch.setenv("CXX", str(script))
    assert native._compiler() == [str(script)]


@pytest.mark.full
@pytest.mark.skipif(not has_compiler, reason="no compiler")
def test_it_is_compiled_once_and_kept(tmp_path):
    first = run(XDG_CACHE_HOME=tmp_path)
    libraries = {path: path.stat().st_mtime_ns for path in (tmp_path / "lstmjax" / "native").glob("*.so")}
    assert len(libraries) == 2, "the loop, and the functions of the cell"
    assert run(XDG_CACHE_HOME=tmp_path).stdout == first.stdout
    assert first.stdout.startswith("native")
    assert {path: path.stat().st_mtime_ns for path in libraries} == libraries


@pytest.fixture
def compilations(tmp_path, monkeypatch):
    """A cache of its own, and a compiler that copies the library which there is; a list of what it wrote."""
    native.load()
    (library,) = [path for path in native.folder().glob("*.so") if not native._fault(path)][:1]
    content, written = library.read_bytes(), []

    def output(command):
        if "-o" in command:
            written.append(Path(command[-1]))
            written[-1].write_bytes(content)
        return "1.0"

    monkeypatch.setattr(native, "_output", output)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return written


def _cached():
    return next(native.folder().glob("*.so"))


DAMAGE = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "flipped": lambda path: path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:]),
    "empty": lambda path: path.write_bytes(b""),
    "without a checksum": lambda path: path.with_name(f"{path.name}.sha256").unlink(),
    "with a checksum of nonsense": lambda path: path.with_name(f"{path.name}.sha256").write_bytes(b"\xff"),
    "writable by others": lambda path: path.chmod(0o666),
    "a link": lambda path: path.symlink_to(path.rename(path.with_name("elsewhere"))),
    "a FIFO": lambda path: (path.unlink(), os.mkfifo(path)),
}


@needs_native
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_cached_library_that_is_not_sound_is_not_loaded_but_made_anew(compilations, damage):
    native._load_library()
    native._load_library()
    assert len(compilations) == 1, "it was cached"
    DAMAGE[damage](_cached())
    native._load_library()
    assert len(compilations) == 2
    assert not native._fault(_cached())
    assert not [path for path in native.folder().iterdir() if path.name.startswith("tmp")]


@needs_native
@pytest.mark.parametrize("where", ["a loose folder", "a file in its place", "no home"])
def test_without_a_cache_of_its_own_a_process_compiles_for_itself(compilations, where, monkeypatch, caplog):
    if where == "a loose folder":
        native._load_library()
        native.folder().chmod(0o777)
    elif where == "a file in its place":
        native.folder().parent.parent.write_text("")
    else:
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.delenv("HOME")
        monkeypatch.setattr(pwd, "getpwuid", dict[int, str]().__getitem__)  # as for a user without an entry
    before = len(compilations)
    for _ in range(2):
        native._load_library()
    assert len(compilations) == before + 2
    assert not any(path.exists() for path in compilations)
    assert ("cannot be cached" in caplog.text) == (where != "no home")


def test_whatever_is_wrong_with_it_a_program_goes_on(monkeypatch, caplog):
    def broken():
        raise MemoryError("anything")

    monkeypatch.setattr(native, "_library", broken)
    assert native.load.__wrapped__() == "anything"
    assert "LSTMs run without native code" in caplog.text


def test_asking_for_it_where_it_cannot_be_had_is_an_error(monkeypatch, unchecked):
    monkeypatch.setattr(native, "load", lambda: "there is no compiler")
    cell = lstmjax.lstm(3, 5)
    with pytest.raises(ValueError, match="backend='native' cannot be had: there is no compiler"):
        lstmjax.unroll(cell, cell.init(jax.random.key(0)), jnp.ones((2, 7, 3)), backend="native")


@needs_native
def test_pre_activations_have_one_place_in_memory():
    """Projected inputs, pre-activations, their gradients: each has four times the size of the outputs."""
    cell = lstmjax.lstm(64, 64)
    params, inputs = cell.init(jax.random.key(0)), jnp.ones((4, 100, 64))

    @jax.jit
    def gradient(params, inputs):
        return jax.grad(lambda *a: (lstmjax.unroll(cell, *a)[1] ** 2).sum(), (0, 1))(params, inputs)

    analysis = gradient.lower(params, inputs).compile().memory_analysis()
    assert analysis.temp_size_in_bytes < 8 * inputs.nbytes


@needs_native
@pytest.mark.usefixtures("exact")
def test_a_deep_product_is_taken_in_parts():
    """Of 600 units the gradients of 2,400 columns go back to the hidden state."""
    cell = lstmjax.lstm(2, 600, dtype="float64")
    params, inputs = cell.init(jax.random.key(0)), jax.random.normal(jax.random.key(1), (7, 3, 2), "float64")

    def gradient(backend):
        def loss(params, inputs):
            return (lstmjax.unroll(cell, params, inputs, backend=backend)[1] ** 2).sum()

        return jax.jit(jax.grad(loss, (0, 1)))(params, inputs)

    assert_close(gradient("native"), gradient("scan"), 1e-12)
