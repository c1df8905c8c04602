# %% [markdown]
# # Speed: how to measure it, and what runs when
#
# The time of an LSTM is easily measured wrong, by a factor of ten and more. This notebook shows three mistakes, then
# what `explain` says before anything is run, then the backends against each other, and last the recorded comparison with
# other libraries. The milliseconds here are of a machine that was busy with much else, which is a lesson of its own;
# those that count are in the records.

# %%
import functools
import time

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import lstmjax
from experiments.speed.measurements import take_turns

print(jax.default_backend(), "with", jax.device_count(), "device")

# %% [markdown]
# ## Three mistakes
#
# 1. **Timing the compilation.** The first call of a jitted function traces and compiles it.
# 2. **Timing the dispatch.** JAX returns before the work is done; `block_until_ready` waits.
# 3. **Timing one after the other.** Another program, or the processor's temperature, may slow down one of the two.
#    Take turns, many times, and compare medians.

# %%
cell = lstmjax.lstm(features=128, hidden=128)
params = cell.init(jax.random.key(0))
inputs = jax.random.normal(jax.random.key(1), (32, 128, 128))


def gradient(cell, backend):
    """A function that computes the loss and its gradient by all parameters, jitted."""

    def loss(params, inputs):
        return jnp.square(lstmjax.unroll(cell, params, inputs, backend=backend)[1]).mean()

    return jax.jit(jax.value_and_grad(loss))


def milliseconds(function):
    """The time of one call."""
    start = time.perf_counter()
    function()
    return 1e3 * (time.perf_counter() - start)


run = gradient(cell, "auto")


def finished():
    """Run, and wait for the result."""
    jax.block_until_ready(run(params, inputs))


print(f"first call, with compilation   {milliseconds(finished):8.1f} ms")
print(f"dispatch only                  {milliseconds(lambda: run(params, inputs)):8.1f} ms")
times = [milliseconds(finished) for _ in range(20)]
print(f"until it is done, median of 20 {np.median(times):8.1f} ms, from {min(times):.1f} to {max(times):.1f}")

# %% [markdown]
# `experiments.speed.measurements.take_turns` does the third: it warms up, shuffles the order in each round, and waits
# until each result is there. Here two functions that are the same, to see how much of a difference is noise:

# %%
same = {name: lambda: run(params, inputs) for name in ("one", "the same again")}
seconds = take_turns(same, rounds=30)
ratios = np.array(seconds["one"]) / np.array(seconds["the same again"])
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 2.4))
for name, found in seconds.items():
    left.plot(1e3 * np.array(found), ".-", linewidth=0.6, label=name)
left.set(xlabel="round", ylabel="milliseconds", ylim=(0, None))
left.legend()
right.hist(ratios, bins=np.linspace(0.5, 1.5, 21))
right.set(xlabel="ratio within a round", ylabel="rounds", title=f"median {np.median(ratios):.2f}")
plt.show()

# %% [markdown]
# Single rounds differ by much, and the median of the ratios is near 1. Anything closer to 1 than that is not a result.
#
# ## What `explain` says
#
# `explain` needs no arrays: it names the backend of each part with the reason, counts the operations, and asks XLA how much
# memory it would set aside.

# %%
print(lstmjax.explain(cell, inputs.shape), "\n")
deep = lstmjax.stack(lstmjax.lstm(64, 128), lstmjax.residual(lstmjax.gru(128, 128)))
print(lstmjax.explain(deep, (32, 100, 64)), "\n")
print(lstmjax.explain(lstmjax.lstm(64, 128, peepholes=True), (32, 100, 64)), "\n")
print(lstmjax.explain(lstmjax.min_lstm(64, 128), (32, 100, 64)))

# %% [markdown]
# A long sequence needs memory for the backward pass. With `remat="sqrt"` only the states at the borders of segments are
# stored, and the inner ones are computed again: one more forward pass for a fraction of the memory.

# %%
for remat in (None, "sqrt"):
    print(lstmjax.explain(lstmjax.lstm(64, 256), (8, 4000, 64), remat=remat), "\n")

# %% [markdown]
# ## The backends
#
# | backend | what it is | when |
# | --- | --- | --- |
# | `scan` | `lax.scan` over `cell.step`; JAX differentiates it | any cell; the reference; hidden units divided over devices |
# | `fused` | the LSTM's own backward pass: products of all steps as one | large LSTMs without native code |
# | `native` | the recurrence in C++, all cores | LSTMs on a CPU; taken by itself |
# | `cudnn` | cuDNN's kernel | LSTMs in float32 without resets on an NVIDIA GPU |
# | `pallas` | one kernel of our own for the whole sequence | other LSTMs on a GPU, if the weights fit on chip |
# | `associative` | all time steps at once | minLSTM, minGRU |
#
# `auto` chooses, and `backend=` or `LSTMJAX_BACKEND` overrule it. All give the same result, which a test checks. No figure of
# a GPU has been recorded yet. On this machine:

# %%
shapes = {"small": (16, 64, 32), "medium": (32, 128, 128), "long": (4, 1000, 64)}
names = ("auto", "fused", "scan")
medians = {}
for title, (rows, steps, size) in shapes.items():
    sized = lstmjax.lstm(size, size)
    weights, x = sized.init(jax.random.key(0)), jnp.ones((rows, steps, size))
    runs = {name: functools.partial(gradient(sized, name), weights, x) for name in names}
    medians[title] = {name: 1e3 * np.median(found) for name, found in take_turns(runs, rounds=9).items()}
figure, panels = plt.subplots(1, len(shapes), figsize=(8, 2.2))
for axes, (title, found) in zip(panels, medians.items(), strict=True):
    axes.barh(list(found), list(found.values()), color=["tab:blue", "silver", "silver"])
    axes.set(title=f"{title}: {' x '.join(map(str, shapes[title]))}", xlabel="milliseconds, with gradient")
    axes.grid(visible=False, axis="y")
plt.show()
for title, found in medians.items():
    choice = lstmjax.explain(lstmjax.lstm(shapes[title][2], shapes[title][2]), shapes[title]).parts[0][1]
    print(f"{title:8} auto is {choice.way} and takes {found['auto'] / found['scan']:.2f} of the time of scan")

# %% [markdown]
# ## The records
#
# `python -m experiments speed` compares with other libraries, with the same weights, in turns, after it has checked that
# outputs and gradients are equal. This is its record: each point is a shape.

# %%
from experiments.common import models
from lstmjax.training.record import load_records

(record,) = (each for each in load_records(models.RESULTS, "speed") if each.label == "cpu-grid")
rivals = ("linen", "nnx", "haiku", "equinox", "keras", "torch", "scan")
figure, axes = plt.subplots(figsize=(8, 3))
for place, rival in enumerate(rivals):
    for shift, kind, colour in ((-0.12, "forward", "tab:orange"), (0.12, "grad", "tab:blue")):
        ratios = [
            value
            for name, value in record.metrics.items()
            if name.startswith(f"{kind}_ratio") and name.endswith(f"_{rival}")
        ]
        mean = np.exp(np.mean(np.log(ratios)))
        axes.plot(np.full(len(ratios), place + shift), ratios, "o", color=colour, alpha=0.4, markersize=4)
        axes.plot(place + shift, mean, "_", color="black", markersize=14)
axes.plot([], [], "o", color="tab:orange", label="forward")
axes.plot([], [], "o", color="tab:blue", label="with gradient")
axes.axhline(1, color="black", linewidth=0.8)
axes.set_xticks(range(len(rivals)), [*rivals[:-1], "ours, scan"])
axes.set(ylabel="our time over theirs", ylim=(0, None), title=str(record.device))
axes.legend(ncols=2)
plt.show()

# %% [markdown]
# Below 1 ours is faster. Most of the gain over the libraries of JAX comes with the gradient, where their loop has small
# products in every step. PyTorch's LSTM has a loop in C++ too, and comes closest. [All figures](../experiments/results/speed/README.md),
# and [what was tried](../docs/speed.md).
#
# ## What to try next
#
# - `LSTMJAX_BACKEND=scan jupyter lab`, then execute this notebook again.
# - Find the batch size from which your machine takes twice the time for twice the rows. Below it, rows are free.
# - `python -m experiments speed --rivals --layers 16x64x32x32` measures a shape of your own.
