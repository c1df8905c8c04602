# %% [markdown]
# # Bringing your weights
#
# A trained LSTM is some matrices and a convention. Libraries agree on the equations and differ in the order of the gates,
# in the side on which the matrix stands, in the number of biases, and in what is added to the forget gate. Whoever
# gets one of these wrong gets no error, only another network. `lstmjax.convert` knows the conventions as one table, and
# refuses what would compute something else.
#
# Sections for packages that are not installed say so and are skipped; the outputs that are saved here are of a
# machine with all of them (`pip install -e ".[convert]"`).

# %%
import os
import tempfile
from importlib.util import find_spec
from pathlib import Path

os.environ["KERAS_BACKEND"] = "jax"

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import lstmjax
from lstmjax import convert


def has(package):
    """Whether a package is installed; says so if it is not."""
    found = find_spec(package) is not None
    if not found:
        print(f'{package} is not installed: this section is skipped (pip install -e ".[convert]").')
    return found


def compare(name, ours, theirs):
    """Print how much two arrays differ."""
    print(f"{name:36} largest difference {np.abs(np.asarray(ours) - np.asarray(theirs)).max():.1e}")


inputs = np.random.default_rng(0).normal(size=(4, 15, 6)).astype(np.float32)

# %% [markdown]
# ## Why it needs a table
#
# Here is one LSTM, and the same network with its gates in the order of another library, read as if they were in ours.

# %%
cell = lstmjax.lstm(features=6, hidden=8)
params = cell.init(jax.random.key(0))


def reordered(array, order):
    """Columns of the gates i, f, g, o in another order."""
    return jnp.concatenate([jnp.split(array, 4, axis=-1)["ifgo".index(gate)] for gate in order], axis=-1)


_, right = lstmjax.unroll(cell, params, inputs)
figure, panels = plt.subplots(1, 3, figsize=(8.5, 2.4), sharey=True)
readings = {"i, f, g, o (PyTorch, Keras)": "ifgo", "i, g, f, o (Haiku)": "igfo", "i, o, f, g (ONNX)": "iofg"}
for axes, (title, order) in zip(panels, readings.items(), strict=True):
    wrong = jax.tree.map(lambda leaf, order=order: reordered(leaf, order), params)
    _, outputs = lstmjax.unroll(cell, wrong, inputs)
    axes.plot(right[0, :, :3], color="silver", linewidth=4)
    axes.plot(outputs[0, :, :3], linewidth=1)
    axes.set(title=title, xlabel="time step")
panels[0].set(ylabel="three units")
plt.show()

# %% [markdown]
# Grey is right. Nothing fails, and the outputs look like outputs.
#
# ## PyTorch
#
# `from_torch` takes a module or a `state_dict`, any number of layers and directions, and gives a cell or layer with its
# parameters. PyTorch has two biases for each gate, of which only the sum matters.

# %%
if has("torch"):
    import torch

    module = torch.nn.LSTM(6, 8, num_layers=2, bidirectional=True, batch_first=True)
    layer, weights = convert.from_torch(module)
    print(layer, "\n")
    _, outputs = lstmjax.unroll(layer, weights, inputs)
    with torch.no_grad():
        compare("outputs", outputs, module(torch.from_numpy(inputs))[0].numpy())

    other = torch.nn.LSTM(6, 8, num_layers=2, bidirectional=True, batch_first=True)
    other.load_state_dict(
        {name: torch.from_numpy(np.array(each)) for name, each in convert.to_torch(layer, weights).items()}
    )
    with torch.no_grad():
        compare("and back", outputs, other(torch.from_numpy(inputs))[0].numpy())

# %% [markdown]
# Of a whole model, `from_torch_model` finds every recurrent layer by its path; the rest is yours.

# %%
if has("torch"):

    class Tagger(torch.nn.Module):
        """A model with two recurrent layers in it."""

        def __init__(self):
            super().__init__()
            self.embedding = torch.nn.Embedding(100, 6)
            self.encoder = torch.nn.LSTM(6, 8, batch_first=True)
            self.head = torch.nn.ModuleDict({"rnn": torch.nn.GRU(8, 5, batch_first=True)})

    for path, (part, _) in convert.from_torch_model(Tagger()).items():
        print(f"{path:12} {part}")

# %% [markdown]
# What would compute something else is refused, by name:

# %%
if has("torch"):
    try:
        convert.from_torch(torch.nn.RNN(6, 8, nonlinearity="relu"))
    except ValueError as error:
        print(error)

# %% [markdown]
# ## Keras

# %%
if has("keras"):
    import keras

    keras_layer = keras.layers.Bidirectional(keras.layers.LSTM(8, return_sequences=True))
    theirs = keras_layer(inputs)
    layer, weights = convert.from_keras(keras_layer)
    print(layer, "\n")
    compare("outputs", lstmjax.unroll(layer, weights, inputs)[1], theirs)
    keras_layer.set_weights(convert.to_keras(layer, jax.tree.map(lambda leaf: 0.5 * leaf, weights)))
    halved = lstmjax.unroll(layer, jax.tree.map(lambda leaf: 0.5 * leaf, weights), inputs)[1]
    compare("and back, halved to see a change", halved, keras_layer(inputs))

# %% [markdown]
# ## ONNX
#
# `export_onnx` writes a model that any ONNX runtime runs, for any number and length of sequences. `from_onnx` reads one.

# %%
if has("onnx") and has("onnxruntime"):
    import onnxruntime

    deep = lstmjax.stack(lstmjax.lstm(6, 8), lstmjax.lstm(8, 8))
    deep_params = deep.init(jax.random.key(3))
    model = lstmjax.export.export_onnx(deep, deep_params)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    print(f"inputs: {[each.name for each in session.get_inputs()]}, {model.ByteSize():,} bytes")
    (theirs, *_) = session.run(None, {session.get_inputs()[0].name: inputs})
    compare("in onnxruntime", lstmjax.unroll(deep, deep_params, inputs)[1], theirs)
    for path, (part, _) in convert.from_onnx_model(model).items():
        print(f"read back: {path!r}, {part}")

# %% [markdown]
# ## Flax
#
# Flax comes with this library, so this part runs everywhere. Its LSTM has kernels for each gate under their own names.

# %%
from flax import linen as nn

linen = nn.RNN(nn.OptimizedLSTMCell(8))
variables = linen.init(jax.random.key(0), inputs)
print(sorted(variables["params"]["cell"]))
layer, weights = convert.from_linen(variables)
print(layer)
compare("outputs", lstmjax.unroll(layer, weights, inputs)[1], linen.apply(variables, inputs))

# %% [markdown]
# ## Keeping them
#
# One safetensors file has cell and parameters. For inference, `quantize` makes matrices of 8-bit integers: a quarter of the
# memory, for a small error.

# %%
big = lstmjax.lstm(64, 256)
big_params = big.init(jax.random.key(5))
x = jax.random.normal(jax.random.key(6), (8, 50, 64))
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "layer.safetensors"
    lstmjax.save(path, big, big_params)
    again, loaded = lstmjax.load(path)
    print(f"{again}, {path.stat().st_size:,} bytes, equal: {again == big}")
small, small_params = convert.quantize(big, big_params)
exact, rounded = (lstmjax.unroll(*each, x)[1] for each in ((big, big_params), (small, small_params)))
sizes = [sum(leaf.nbytes for leaf in jax.tree.leaves(each)) for each in (big_params, small_params)]
figure, axes = plt.subplots(figsize=(5, 2.6))
axes.plot(np.asarray(exact).ravel()[::50], np.asarray(rounded - exact).ravel()[::50], ".", markersize=2)
axes.set(xlabel="output", ylabel="error of 8 bits", title=f"{sizes[0]:,} bytes become {sizes[1]:,}")
plt.show()

# %% [markdown]
# ## What to try next
#
# - `convert.ensemble` stacks several converted models of equal cells for `jax.vmap`; `convert.members` takes them apart.
# - Convert a network, train it here for a few steps, and bring it back by `to_torch`.
# - [The guide](../docs/guide.md) has the other libraries: Haiku, Equinox, cuDNN's flat weights, TensorFlow 1.
