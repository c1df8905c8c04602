"""Cells and their parameters in files."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors
from cases import CELLS, Sampled, assert_equal, random_like

import lstmjax
from lstmjax import initializers
from lstmjax.training import checkpoint


def _layers(dtype: Any) -> Any:
    both = lstmjax.bidirectional(lstmjax.lstm(2, 3, dtype=dtype), lstmjax.gru(2, 2, dtype=dtype))
    return lstmjax.layers(both, lstmjax.residual(lstmjax.elman(5, 5, dtype=dtype)))


def _initialized(dtype: Any) -> Any:
    uniform, orthogonal = initializers.uniform(0.1), initializers.Orthogonal(0.5)
    options = {"kernel_init": uniform, "recurrent_init": orthogonal, "dtype": dtype}
    biases = initializers.forget_gate_bias(2.0), initializers.chrono(9.0)
    below = lstmjax.lstm(2, 3, forget_bias=biases[0], **options)
    return lstmjax.stack(below, lstmjax.lstm(3, 2, forget_bias=biases[1], dtype=dtype))


MAKERS = {name: case.make for name, case in CELLS.items()} | {"layers": _layers, "initialized": _initialized}


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_a_cell_and_its_parameters_come_back_bit_for_bit(name: str, dtype: str, tmp_path: Path) -> None:
    with jax.enable_x64(dtype == "float64"):
        cell = MAKERS[name](dtype)
        cell = cell.cell if isinstance(cell, Sampled) else cell  # what is saved has no noise drawn
        params = random_like(jax.eval_shape(cell.init, jax.random.key(0)), np.random.default_rng(0))
        lstmjax.save(tmp_path / "cell.safetensors", cell, params)
        again, params_again = lstmjax.load(tmp_path / "cell.safetensors")
        assert again == cell
        assert_equal(params_again, params)


@pytest.mark.usefixtures("unchecked")
def test_the_header_is_small_and_has_names_and_numbers(tmp_path: Path) -> None:
    cell = lstmjax.lstm(2, 3, forget_bias=2.0, kernel_init=initializers.orthogonal, dtype="bfloat16")
    path = tmp_path / "cell.safetensors"
    lstmjax.save(path, cell, cell.init(jax.random.key(0)))
    assert json.loads(checkpoint.metadata(path)["cell"]) == {
        "kind": "LSTM",
        "features": 2,
        "hidden": 3,
        "kernel_init": {"initializer": "Orthogonal", "scale": 1.0},
        "dtype": {"dtype": "bfloat16"},
        "param_dtype": {"dtype": "float32"},
        "forget_bias": 2.0,
    }
    with safetensors.safe_open(path, framework="numpy") as file:
        assert sorted(file.keys()) == [".bias", ".kernel", ".recurrent_kernel"]
    assert lstmjax.load(path)[0] == cell


def test_initializers_of_others_are_left_at_their_defaults(tmp_path: Path) -> None:
    """The parameters that they made are saved, and with them all that they are for."""
    options = {"kernel_init": jax.nn.initializers.normal(0.1), "forget_bias": _ones}
    cell = lstmjax.lstm(2, 3, **options)
    params = cell.init(jax.random.key(0))
    lstmjax.save(tmp_path / "cell.safetensors", cell, params)
    again, params_again = lstmjax.load(tmp_path / "cell.safetensors")
    assert again == lstmjax.lstm(2, 3)
    assert_equal(params_again, params)


def _ones(key: Any, hidden: int, dtype: Any) -> jax.Array:
    return jnp.ones((4, hidden), dtype)


def test_named_initializers_of_earlier_files_are_read(tmp_path: Path) -> None:
    cell = lstmjax.lstm(2, 3, kernel_init=initializers.orthogonal, recurrent_init=initializers.lecun_normal)
    path, params = tmp_path / "cell.safetensors", cell.init(jax.random.key(0))
    names = '"kernel_init":{"initializer":"orthogonal"},"recurrent_init":{"initializer":"lecun_normal"}'
    checkpoint.save(path, params, {"cell": f'{{"kind":"LSTM","features":2,"hidden":3,{names}}}'})
    assert lstmjax.load(path)[0] == cell
    checkpoint.save(path, params, {"cell": '{"kind":"LSTM","kernel_init":{"initializer":"Sparse"}}'})
    with pytest.raises(ValueError, match="the initializer Sparse, which this lstmjax does not have"):
        lstmjax.load(path)


@dataclasses.dataclass(frozen=True, repr=False)
class _Own(lstmjax.Elman):
    activation: Any = None


def test_what_no_file_can_hold_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "cell.safetensors"
    own = _Own(2, 3)
    with pytest.raises(ValueError, match="_Own is no cell or layer of lstmjax"):
        lstmjax.save(path, own, own.init(jax.random.key(0)))
    with pytest.raises(ValueError, match="_Own is no cell"):
        lstmjax.save(path, lstmjax.stack(own), (own.init(jax.random.key(0)),))
    monkeypatch.setattr(_Own, "__module__", "lstmjax.cells")
    with pytest.raises(ValueError, match=r"_Own\.activation is .* which no file can hold"):
        lstmjax.save(path, dataclasses.replace(own, activation=jnp.tanh), own.init(jax.random.key(0)))
    cell = lstmjax.lstm(2, 3)
    with pytest.raises(ValueError, match=r"params\.kernel must have shape \(2, 12\)"):
        lstmjax.save(path, cell, lstmjax.lstm(4, 3).init(jax.random.key(0)))
    with pytest.raises(TypeError, match="params must have the structure"):
        lstmjax.save(path, cell, {"kernel": jnp.ones((2, 12))})
    assert not path.exists()


def test_files_of_others_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "cell.safetensors"
    checkpoint.save(path, {"kernel": jnp.ones(2)})
    with pytest.raises(ValueError, match=r"holds no cell.*restore"):
        lstmjax.load(path)
    checkpoint.save(path, {"kernel": jnp.ones(2)}, {"cell": '{"kind":"Path"}'})
    with pytest.raises(ValueError, match="of the kind Path, which this lstmjax does not have"):
        lstmjax.load(path)
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(checkpoint.DamagedCheckpointError):
        lstmjax.load(path)
