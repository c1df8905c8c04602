"""Conversion of layers inside models: by path, wrapped, with computed weights, in ensembles, with noise."""

import importlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import assert_equal
from flax import linen

import lstmjax
from lstmjax import convert

INPUTS = np.random.default_rng(0).standard_normal((2, 5, 3)).astype(np.float32)


def _agree(converted: Any, expected: Any) -> None:
    np.testing.assert_allclose(lstmjax.unroll(*converted, INPUTS)[1], expected, rtol=1e-5, atol=1e-5)


@pytest.fixture
def torch() -> Any:
    module = pytest.importorskip("torch")
    module.manual_seed(0)
    return module


def _rnn(torch: Any, kind: str = "LSTM", **options: Any) -> Any:
    return getattr(torch.nn, kind)(3, 4, batch_first=True, **options)


def _outputs(torch: Any, module: Any) -> Any:
    return module(torch.from_numpy(INPUTS))[0].detach()


def _model(torch: Any) -> Any:
    parts = {"rnn": _rnn(torch, bidirectional=True), "drop": torch.nn.Dropout(0.1)}
    encoder = torch.nn.ModuleDict(parts)
    cells = torch.nn.ModuleList([torch.nn.GRUCell(3, 4), torch.nn.LSTMCell(4, 4)])
    return torch.nn.ModuleDict({"encoder": encoder, "cells": cells, "out": torch.nn.Linear(8, 2)})


@pytest.mark.parametrize("of", ["module", "state", "wrapped", "compiled", "wrapped state"])
def test_the_layers_of_a_pytorch_model_are_found_by_path(torch: Any, of: str) -> None:
    model = _model(torch)
    source = {
        "module": lambda: model,
        "state": model.state_dict,
        "wrapped": lambda: torch.nn.DataParallel(model),
        "compiled": lambda: torch.compile(model),
        "wrapped state": lambda: torch.nn.DataParallel(torch.compile(model)).state_dict(),
    }[of]()
    expected = _outputs(torch, model["encoder"]["rnn"])
    for prefix in ("encoder.rnn.", "encoder.rnn"):
        _agree(convert.from_torch(source, prefix=prefix), expected)
    found = convert.from_torch_model(source)
    assert list(found) == ["encoder.rnn", "cells.0", "cells.1"]
    _agree(found["encoder.rnn"], expected)
    assert [type(found[f"cells.{number}"][0]) for number in (0, 1)] == [lstmjax.GRU, lstmjax.LSTM]
    prefixes = r"prefixes 'encoder\.rnn\.', 'cells\.0\.', 'cells\.1\.'"
    with pytest.raises(ValueError, match=rf"out\.weight is no parameter of .*{prefixes}"):
        convert.from_torch(source)
    with pytest.raises(ValueError, match=rf"no recurrent module with the prefix 'decoder\.'.*{prefixes}"):
        convert.from_torch(source, prefix="decoder.")


def test_wrapped_and_compiled_modules_are_those_within(torch: Any) -> None:
    module = _rnn(torch)
    expected = convert.from_torch(module)
    model = torch.nn.Sequential(torch.compile(module))  # only a part is compiled
    assert_equal(convert.from_torch_model(model)["0"], expected)
    wrapped = torch.nn.DataParallel(module)
    for source in (wrapped, torch.compile(module), torch.compile(wrapped), torch.jit.script(module)):
        assert_equal(convert.from_torch(source), expected)
        assert_equal(convert.from_torch(source.state_dict()), expected)
    assert_equal(convert.from_torch(wrapped.state_dict(), prefix="module."), expected)


@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated")
@pytest.mark.parametrize("how", ["parametrized", "normalized", "spectral", "pruned"])
def test_computed_weights_are_those_that_the_module_computes(torch: Any, how: str) -> None:
    module, name = _rnn(torch, num_layers=2), "weight_hh_l1"
    changed = {"parametrized": "parametrizations.weight_hh_l1.original0", "normalized": f"{name}_g"}
    utilities, prune = torch.nn.utils, importlib.import_module("torch.nn.utils.prune")
    {
        "parametrized": lambda: utilities.parametrizations.weight_norm(module, name),
        "normalized": lambda: utilities.weight_norm(module, name),
        "spectral": lambda: utilities.parametrizations.spectral_norm(module.eval(), name),
        "pruned": lambda: prune.l1_unstructured(module, name, 0.5),
    }[how]()
    if how in changed:  # as by load_state_dict: the computed weight is old until the module is called
        with torch.no_grad():
            dict(module.named_parameters())[changed[how]].mul_(2)
    converted = convert.from_torch(module)
    _agree(converted, _outputs(torch, module))
    within = torch.nn.Sequential(torch.nn.Linear(3, 3), module)
    assert_equal(convert.from_torch(within, prefix="1."), converted)
    with pytest.raises(ValueError, match=rf"{name}.* belongs to a weight that its module computes"):
        convert.from_torch(within.state_dict(), prefix="1.")


def test_a_pytorch_rnn_with_relu_is_refused(torch: Any) -> None:
    module, cell = _rnn(torch, "RNN", nonlinearity="relu"), torch.nn.RNNCell(3, 4, nonlinearity="relu")
    wrapped = torch.nn.DataParallel(torch.nn.Sequential(torch.compile(module)))
    for source in (module, cell, torch.compile(module), torch.nn.DataParallel(module)):
        with pytest.raises(ValueError, match="from_torch: its nonlinearity is ReLU"):
            convert.from_torch(source)
    with pytest.raises(ValueError, match="from_torch: 0: its nonlinearity is ReLU"):
        convert.from_torch(wrapped, prefix="0.")
    others = torch.nn.ModuleList([_rnn(torch, "RNN"), module])
    assert isinstance(convert.from_torch(others, prefix="0.")[0], lstmjax.Elman)


class Encoder(linen.Module):
    both: linen.Module

    @linen.compact
    def __call__(self, inputs: Any) -> Any:
        return self.both(linen.Dense(3)(linen.RNN(linen.GRUCell(4))(inputs)))


class Model(linen.Module):
    encoder: linen.Module

    @linen.compact
    def __call__(self, inputs: Any) -> Any:
        return linen.Dense(2)(self.encoder(inputs))


def test_the_layers_of_a_linen_model_are_found_by_path() -> None:
    both = linen.Bidirectional(linen.RNN(linen.LSTMCell(4)), linen.RNN(linen.LSTMCell(4)))
    variables = Model(Encoder(both)).init(jax.random.key(0), INPUTS)
    found = convert.from_linen_model(variables)
    assert {path: type(layer) for path, (layer, _) in found.items()} == {
        "encoder/GRUCell_0": lstmjax.GRU,
        "encoder/both": lstmjax.Bidirectional,
    }
    tree = variables["params"]["encoder"]["GRUCell_0"]
    expected = linen.RNN(linen.GRUCell(4)).apply({"params": {"cell": tree}}, INPUTS)
    _agree(found["encoder/GRUCell_0"], expected)
    for path, converted in found.items():
        assert_equal(convert.from_linen(variables, path=path), converted)
        assert_equal(convert.from_linen(variables["params"], path=path), converted)
    with pytest.raises(ValueError, match=r"no 'decoder' of 'decoder/rnn' in \['Dense_0', 'encoder'\]"):
        convert.from_linen(variables, path="decoder/rnn")
    tree = variables["params"]["encoder"]["both"]
    expected = both.apply({"params": tree}, INPUTS)
    _agree(found["encoder/both"], expected)
    _agree(convert.from_linen(lstmjax.Directions(tree["forward_rnn"], tree["backward_rnn"])), expected)
    with pytest.raises(ValueError, match=r"give the path of a layer, or use .*from_linen_model"):
        convert.from_linen(variables)


def test_arrays_of_linen_with_metadata_are_converted() -> None:
    init = linen.with_partitioning(linen.initializers.lecun_normal(), ("features", "hidden"))
    module = linen.RNN(linen.LSTMCell(4, kernel_init=init))
    variables = module.init(jax.random.key(0), INPUTS)
    assert any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(variables))
    _agree(convert.from_linen(variables), module.apply(linen.unbox(variables), INPUTS))


def test_ensembles_keep_their_axis_of_models() -> None:
    module = linen.RNN(linen.LSTMCell(4))
    variables = jax.vmap(lambda key: module.init(key, INPUTS))(jax.random.split(jax.random.key(0), 3))
    cell, params = convert.ensemble([convert.from_linen(tree) for tree in convert.members(variables)])
    outputs = jax.vmap(lambda params: lstmjax.unroll(cell, params, INPUTS)[1])(params)
    np.testing.assert_allclose(
        outputs, jax.vmap(lambda tree: module.apply(tree, INPUTS))(variables), atol=1e-5
    )
    trees = [convert.to_linen(cell, one) for one in convert.members(params)]
    again = jax.tree.map(lambda *leaves: np.stack(leaves), *trees)
    assert_equal({"params": {"cell": again}}, variables)
    with pytest.raises(ValueError, match=r"axis of models before the others, see lstmjax\.convert\.members"):
        convert.from_linen(variables)
    other = lstmjax.gru(3, 4)
    for models in ([], [(cell, params), (other, other.init(jax.random.key(0)))]):
        with pytest.raises(ValueError, match="give models of equal cells, at least one"):
            convert.ensemble(models)
    with pytest.raises(ValueError, match="one leading axis of models"):
        convert.members({"kernel": jnp.zeros((3, 4)), "bias": jnp.zeros(4)})


def test_wrappers_for_training_are_passed_through() -> None:
    below, above = lstmjax.lstm(3, 4), lstmjax.lstm(4, 4)
    plain = lstmjax.stack(below, above)
    params = plain.init(jax.random.key(0))
    expected = convert.to_torch(plain, params)
    lower = lstmjax.clip_gradient(lstmjax.recurrent_dropout(below, 0.2), 1.0)
    upper = lstmjax.truncate_gradient(lstmjax.dropout(above, inputs=0.1, hidden=0.2))
    for cell in (lstmjax.stack(lower, upper), lstmjax.dropout(lstmjax.stack(lower, upper), outputs=0.5)):
        assert_equal(convert.to_torch(cell, params), expected)
        assert_equal(convert.to_torch(cell, cell.sample(jax.random.key(1), params)), expected)
    for cell in (
        lstmjax.zoneout(below, hidden=0.1),
        lstmjax.dropout(lstmjax.residual(lstmjax.lstm(3, 3)), 0.1),
    ):
        with pytest.raises(ValueError, match="only LSTMs"):
            convert.to_torch(cell, cell.init(jax.random.key(0)))
