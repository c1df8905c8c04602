"""Checkpoints: exact round trips, every damage detected, and nothing lost when a save is cut off."""

import functools
import io
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import safetensors.numpy
from hypothesis import strategies as st

from lstmjax.training import checkpoint
from lstmjax.training.checkpoint import CheckpointError, Checkpoints, DamagedCheckpointError

DTYPES = (
    *("bool", "int4", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", "bfloat16", "complex64", "complex128"),
    *("float8_e4m3fn", "float8_e5m2", "float8_e4m3b11fnuz"),
)
MANY_NANS = np.array([0x7FC00001, 0xFFA00003, 0x80000000, 0x7F800000, 1], np.uint32).view(np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.safetensors"


def bits(leaf: object) -> tuple[type, str, tuple[int, ...], bytes, bool]:
    """All that an exact round trip must keep."""
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = np.asarray(jax.random.key_data(leaf))
        return jax.Array, str(leaf.dtype), leaf.shape, data.tobytes(), False
    kind = jax.Array if isinstance(leaf, jax.Array) else type(leaf)
    values = np.asarray(leaf)
    weak_type = getattr(leaf, "weak_type", False)
    return kind, values.dtype.name, values.shape, values.tobytes(), weak_type


def assert_same(tree: object, other: object) -> None:
    assert jax.tree.structure(tree) == jax.tree.structure(other)
    assert jax.tree.map(bits, tree) == jax.tree.map(bits, other)


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray:
    """Arrays of any dtype and shape with any bits: NaN payloads, infinities, subnormal numbers."""
    dtype = jnp.dtype(draw(st.sampled_from(DTYPES)))
    shape = draw(st.lists(st.integers(0, 3), max_size=3).map(tuple))
    data = np.random.default_rng(draw(st.integers(0, 99))).bytes(int(np.prod(shape)) * dtype.itemsize)
    if dtype.name in ("bool", "int4"):
        return (np.frombuffer(data, np.uint8) % 2).astype(dtype).reshape(shape)
    return np.frombuffer(data, dtype).reshape(shape).copy()


def as_jax(array: np.ndarray) -> jax.Array | np.ndarray:
    """The same as a JAX array where JAX has such a dtype without 64-bit mode."""
    wide = array.dtype.name in ("int64", "uint64", "float64", "complex128")
    return array if wide else jax.device_put(array)


scalars = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=True),
    st.complex_numbers(),
    st.floats(allow_nan=True).map(np.float64),
    st.integers(0, 255).map(np.uint8),
    st.booleans().map(np.bool_),
)
trees = st.recursive(
    st.one_of(arrays(), arrays().map(as_jax), scalars, st.none()),
    lambda children: st.one_of(
        st.lists(children, max_size=3),
        st.lists(children, max_size=3).map(tuple),
        st.dictionaries(st.text(max_size=3), children, max_size=3),
    ),
    max_leaves=6,
)


@hypothesis.settings(deadline=None, max_examples=150)
@hypothesis.given(trees, st.dictionaries(st.text(), st.text(), max_size=3))
def test_round_trip_is_exact(tmp_path_factory, tree, metadata):
    path = tmp_path_factory.getbasetemp() / "round_trip.safetensors"
    checkpoint.save(path, tree, metadata)
    restored = checkpoint.restore(path, tree)
    assert_same(restored, tree)
    assert checkpoint.metadata(path) == metadata
    first = path.read_bytes()
    checkpoint.save(path, restored, metadata)
    assert path.read_bytes() == first


def test_optimizer_states_keys_and_weak_types(path):
    params = {"kernel": jnp.ones((2, 3)), "bias": (jnp.zeros((0,)), jnp.asarray(MANY_NANS))}
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.masked(optax.adam(optax.linear_schedule(0.0, 1.0, 5)), {"kernel": True, "bias": False}),
        optax.inject_hyperparams(optax.sgd)(learning_rate=0.1, momentum=0.9),
    )
    tree = {
        "optimizer": optimizer.init(params),
        "key": jax.random.key(3),
        "keys": jax.random.split(jax.random.key(1, impl="rbg"), 3),
        "weak": jnp.full(MANY_NANS.shape, 0.0).at[...].set(MANY_NANS),
        "weak integer": jnp.asarray(3),
        "nothing": (None, {}, optax.EmptyState()),
        "big endian": [np.arange(3).astype(dtype) for dtype in (">i4", ">f2", ">c16")],
        "transposed": np.arange(6.0).reshape(2, 3).T,
    }
    checkpoint.save(path, tree)
    restored = checkpoint.restore(path, tree)
    np.testing.assert_equal(restored.pop("big endian"), tree.pop("big endian"))
    assert_same(restored, tree)
    assert restored["weak"].weak_type
    assert jax.random.key_impl(restored["keys"]) == "rbg"


def test_like_decides_what_a_leaf_becomes(path):
    checkpoint.save(path, (MANY_NANS, jnp.ones((), jnp.float32), jax.random.key(0)))
    mesh = jax.make_mesh((jax.device_count(),), ("data",))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    like = (
        jax.device_put(jnp.zeros(5, jnp.float32), sharding),
        jax.ShapeDtypeStruct((), jnp.float32, sharding=sharding),
        jax.eval_shape(lambda: jax.random.key(0)),
    )
    first, second, key = checkpoint.restore(path, like)
    assert first.sharding == second.sharding == sharding
    assert not key.committed
    array, scalar, _ = checkpoint.restore(path, (np.zeros(5, np.float32), np.float32(0), key))
    assert type(array) is np.ndarray
    assert array.flags.writeable
    assert type(scalar) is np.float32


def test_an_array_not_committed_to_a_device_stays_so(path):
    checkpoint.save(path, jnp.ones(3))
    assert not checkpoint.restore(path, jnp.zeros(3)).committed
    assert checkpoint.restore(path, jax.device_put(jnp.zeros(3), jax.devices()[0])).committed


def test_wide_types_need_the_mode_in_which_they_were_saved(path):
    with jax.enable_x64(True):
        tree = {"wide": jnp.asarray([1.0, jnp.nan, -0.0]), "weak": jnp.asarray(2.0)}
        checkpoint.save(path, tree)
        assert_same(checkpoint.restore(path, tree), tree)
        like = jax.eval_shape(lambda: tree)
    with jax.enable_x64(False), pytest.raises(CheckpointError, match="jax_enable_x64"):
        checkpoint.restore(path, like)


def test_other_readers_of_safetensors_can_read_it(path):
    checkpoint.save(path, {"layer": [np.arange(6.0).reshape(2, 3)], "step": 7})
    tensors = safetensors.numpy.load_file(path)
    np.testing.assert_array_equal(tensors["['layer'][0]"], np.arange(6.0).reshape(2, 3))
    assert tensors["['step']"] == 7


@pytest.mark.parametrize(
    "leaf", ["text", 2**64, np.array(["a"]), np.datetime64("2020"), object(), signal.SIGINT]
)
def test_what_cannot_be_saved_is_refused_by_name(path, leaf):
    with pytest.raises(CheckpointError, match=r"leaf \['a'\]\[1\], .* cannot be saved"):
        checkpoint.save(path, {"a": [1, leaf]})
    assert list(path.parent.iterdir()) == []


def test_donated_and_described_arrays_are_refused_by_name(path):
    donated = jnp.ones(3, jnp.float32)
    donated.delete()
    for leaf in (donated, jax.ShapeDtypeStruct((3,), jnp.float32)):
        with pytest.raises(CheckpointError, match=r"leaf \['a'\], float32\[3\], cannot be saved"):
            checkpoint.save(path, {"a": leaf})


def test_files_of_earlier_modules_are_read(path):
    """They have ``params`` where modules of `lstmjax.nnx` have ``weights``."""
    checkpoint.save(path, {"layers": [{"params": {"bias": jnp.ones(3)}}], "params": jnp.zeros(2)})
    like = {"layers": [{"weights": {"bias": jnp.zeros(3)}}], "params": jnp.ones(2)}
    again = checkpoint.restore(path, like)
    np.testing.assert_array_equal(again["layers"][0]["weights"]["bias"], np.ones(3))
    np.testing.assert_array_equal(again["params"], np.zeros(2))
    with pytest.raises(CheckpointError, match=r"\['params'\]\['bias'\].*expected no such leaf"):
        checkpoint.restore(path, {"layers": [{"kernel": jnp.ones(3)}], "params": jnp.ones(2)})


def test_a_mismatch_names_every_leaf_and_both_sides(path):
    tree = {"a": jnp.ones((2, 3), bool), "b": 1, "c": jax.random.key(0), "d": np.ones(2)}
    checkpoint.save(path, tree)
    like = {"a": jnp.ones((3, 2), bool), "b": 1.0, "c": jax.random.key(0, impl="rbg"), "e": None, "f": 0}
    with pytest.raises(CheckpointError) as error:
        checkpoint.restore(path, like)
    assert str(error.value).splitlines() == [
        f"{path} does not fit:",
        "  leaf ['a']: the file has bool[2,3], expected bool[3,2]",
        "  leaf ['b']: the file has Python int, expected Python float",
        "  leaf ['c']: the file has key<fry>[], expected key<rbg>[]",
        "  leaf ['f']: the file has no such leaf, expected Python int",
        "  leaf ['d']: the file has float64[2], expected no such leaf",
    ]
    assert not isinstance(error.value, DamagedCheckpointError)


def test_a_flipped_bit_in_any_byte_is_detected(path):
    checkpoint.save(path, {"a": jnp.ones((2, 3)), "b": 1}, {"note": "x"})
    intact = path.read_bytes()
    for position in range(len(intact)):
        damaged = bytearray(intact)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        with pytest.raises(DamagedCheckpointError, match=r"state\.safetensors is damaged"):
            checkpoint.metadata(path)


def test_every_truncation_and_addition_is_detected(path):
    checkpoint.save(path, {"a": jnp.ones((2, 3)), "b": 1})
    intact = path.read_bytes()
    for damaged in [*(intact[:length] for length in range(len(intact))), intact + b"\0"]:
        path.write_bytes(damaged)
        with pytest.raises(DamagedCheckpointError, match="use an older checkpoint"):
            checkpoint.restore(path, {"a": jnp.ones((2, 3)), "b": 1})


def test_a_plain_safetensors_file_and_none_at_all_are_told_apart(path):
    with pytest.raises(FileNotFoundError):
        checkpoint.metadata(path)
    safetensors.numpy.save_file({"a": np.ones(3)}, path)
    with pytest.raises(DamagedCheckpointError, match="or is no checkpoint of lstmjax"):
        checkpoint.metadata(path)


@pytest.mark.parametrize("function", ["replace", "fsync"])
def test_a_save_that_fails_leaves_the_old_file_and_nothing_else(path, monkeypatch, function):
    def fail(*arguments: object) -> None:
        raise OSError("the disk is full")

    checkpoint.save(path, 1)
    monkeypatch.setattr(os, function, fail)
    with pytest.raises(OSError, match="the disk is full"):
        checkpoint.save(path, 2)
    assert list(path.parent.iterdir()) == [path]
    assert checkpoint.restore(path, 0) == 1


def run_until_killed(program: str, *arguments: object) -> None:
    """Runs a Python program that kills itself."""
    command = [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)]
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    assert result.returncode == -signal.SIGKILL, result.stderr


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_killed_save_leaves_the_old_checkpoint_and_the_next_one_tidies_up(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, {"a": 1})
    program = """
        import os, signal, sys
        from lstmjax.training.checkpoint import Checkpoints
        os.replace = lambda *arguments: os.kill(os.getpid(), signal.SIGKILL)
        Checkpoints(sys.argv[1]).save(int(sys.argv[2]), {"a": 2})
    """
    run_until_killed(program, tmp_path, 2)
    assert len(list(tmp_path.iterdir())) == 2
    assert checkpoints.steps() == [1]
    assert checkpoints.restore_latest({"a": 0}) == (1, {"a": 1})
    checkpoints.save(2, {"a": 2})
    assert sorted(tmp_path.iterdir()) == [checkpoints.path(1), checkpoints.path(2)]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_kill_at_any_time_leaves_a_whole_file(path):
    program = """
        import os, signal, sys, threading
        import numpy as np
        from lstmjax.training import checkpoint
        checkpoint.save(sys.argv[1], np.full(1_000_000, 0))
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGKILL)).start()
        for value in range(1, 1_000_000):
            checkpoint.save(sys.argv[1], np.full(1_000_000, value))
    """
    run_until_killed(program, path)
    values = checkpoint.restore(path, np.zeros(1_000_000, np.int64))
    assert (values == values[0]).all()


def test_the_newest_are_kept_and_steps_are_numbers(tmp_path):
    checkpoints = Checkpoints(tmp_path / "new" / "folder", keep=2)
    assert checkpoints.latest() is None
    assert checkpoints.restore_latest(0) is None
    for step in (5, 99_999_999, 100_000_000):
        checkpoints.save(step, step)
    assert checkpoints.steps() == [99_999_999, 100_000_000]
    assert checkpoints.path(1234).name == "step-00001234.safetensors"
    assert checkpoints.restore_latest(0) == (100_000_000, 100_000_000)
    with pytest.raises(ValueError, match="at least 1"):
        Checkpoints(tmp_path, keep=0)


def test_saving_after_going_back_keeps_what_was_saved(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(20, 20)
    checkpoints.save(10, 10)
    assert checkpoints.steps() == [10, 20]
    checkpoints.rewind(10)
    assert checkpoints.restore_latest(0) == (10, 10)


def test_a_damaged_newest_checkpoint_falls_back_with_a_warning(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2, 3):
        checkpoints.save(step, float(step))
    checkpoints.path(3).write_bytes(b"")
    with pytest.warns(UserWarning, match=r"step-00000003\.safetensors is damaged"):
        assert checkpoints.restore_latest(0.0) == (2, 2.0)
    with pytest.raises(CheckpointError, match="fit"), pytest.warns(match="damaged"):
        checkpoints.restore_latest(0)
    for step in (1, 2):
        checkpoints.path(step).write_bytes(b"x" * 500)
    with pytest.raises(CheckpointError, match=r"no checkpoint in .* can be resumed from:(\n .*damaged.*){3}"):
        checkpoints.latest()


@pytest.mark.parametrize("what", ["folder", "dangling link", "FIFO", "other run", "text"])
def test_what_is_no_checkpoint_of_the_run_falls_back_to_the_one_before_and_saving_goes_on(tmp_path, what):
    checkpoints = Checkpoints(tmp_path, run="ours")
    checkpoints.save(10, 1.0)
    path = checkpoints.path(20)
    if what == "folder":
        (path / "within").mkdir(parents=True)
    elif what == "dangling link":
        path.symlink_to(tmp_path / "nowhere")
    elif what == "FIFO":
        os.mkfifo(path)
    elif what == "text":
        path.write_text("step 20")
    else:
        Checkpoints(tmp_path, run="theirs").save(20, 2.0)
    with pytest.warns(UserWarning, match=r"step-00000020.*\. Going back to the one of step 10"):
        assert checkpoints.restore_latest(0.0) == (10, 1.0)
    checkpoints.rewind(10)
    checkpoints.save(20, 3.0)
    assert checkpoints.restore_latest(0.0) == (20, 3.0)
    assert what != "folder" or (tmp_path / f"{path.name}.set-aside" / "within").is_dir()


def test_checkpoints_of_another_run_alone_are_refused(tmp_path):
    Checkpoints(tmp_path, run="theirs").save(20, 2.0)
    with pytest.raises(CheckpointError, match="is of another run, or of another config of this one"):
        Checkpoints(tmp_path, run="ours").restore_latest(0.0)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_an_error_with_the_path_and_the_old_file_is_there(tmp_path, monkeypatch):
    path = tmp_path / "step-00000010.safetensors"
    checkpoint.save(path, 1.0)
    full_file = functools.partial(io.FileIO, "/dev/full")
    monkeypatch.setattr(checkpoint, "open", lambda file, mode: full_file(mode), raising=False)
    with pytest.raises(OSError, match="No space left on device") as full:
        checkpoint.save(path, 2.0)
    monkeypatch.undo()
    assert full.value.filename == str(path)
    assert checkpoint.restore(path, 0.0) == 1.0
