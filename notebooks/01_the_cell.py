# %% [markdown]
# # The cell, gate by gate
#
# An LSTM carries two vectors from step to step. The **hidden state** $h_t$ is what the cell shows: its output, and the
# input of its own gates in the next step. The **cell state** $c_t$ is what it remembers. Three gates stand around the
# cell state, and a candidate offers what might be written:
#
# $$
# \begin{aligned}
# i_t &= \sigma(W_i x_t + R_i h_{t-1} + b_i) && \text{input gate: how much of the candidate is written} \\
# f_t &= \sigma(W_f x_t + R_f h_{t-1} + b_f) && \text{forget gate: how much of the old cell state stays} \\
# g_t &= \tanh(W_g x_t + R_g h_{t-1} + b_g)  && \text{candidate: what might be written} \\
# o_t &= \sigma(W_o x_t + R_o h_{t-1} + b_o) && \text{output gate: how much of the cell state is shown} \\
# c_t &= f_t \odot c_{t-1} + i_t \odot g_t, \qquad h_t = o_t \odot \tanh(c_t)
# \end{aligned}
# $$
#
# The line of $c_t$ is the whole idea. Along it there is a sum and a product with $f_t$, and no weight matrix. With
# $f = 1$ and $i = 0$ the cell state passes unchanged, like a box on a conveyor belt, however many steps it takes.
#
# This notebook wires a cell of one unit by hand, disturbs one gate after the other, and then looks into a trained
# network that solves a problem of 1997 in just this way.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import lstmjax
from lstmjax import diagnostics

# %% [markdown]
# ## A memory of one number, wired by hand
#
# The inputs of a step are a value, a signal *write* and a signal *read*. The cell shall store the value when told to
# write, keep it, and show it when told to read. No training is needed: four weights and the biases say it.
#
# - The input gate opens on *write*: bias -8, weight 16.
# - The forget gate is open, and shuts on *write*, so that the new value replaces the old one: bias 8, weight -16.
# - The candidate is the value, scaled so that $\tanh$ stays nearly linear.
# - The output gate opens on *read*.
#
# `LSTMParams` has the four columns in the order $i, f, g, o$.

# %%
cell = lstmjax.lstm(features=3, hidden=1)
params = cell.init(jax.random.key(0))._replace(
    #                    i     f    g    o
    kernel=jnp.array([[ 0.0,  0.0, 0.5, 0.0],    # value
                      [16.0, -16.0, 0.0, 0.0],   # write
                      [ 0.0,  0.0, 0.0, 16.0]]), # read
    recurrent_kernel=jnp.zeros((1, 4)),
    bias=jnp.array([-8.0, 8.0, 0.0, -8.0]),
)  # fmt: skip

steps = 48
values = jax.random.uniform(jax.random.key(1), (steps,), minval=-1.0)
write, read = np.zeros(steps), np.zeros(steps)
write[[4, 28]] = 1  # the value of step 4 is stored, and replaced by that of step 28
read[[12, 20, 36, 44]] = 1
inputs = jnp.stack([values, write, read], axis=-1)

seen = diagnostics.trace(cell, params, inputs)  # gates and states of each step


# %%
def draw(seen, title):
    """Draw the gates as bars from 0 to 1, and the cell state between what comes in and what goes out."""
    figure, rows = plt.subplots(5, 1, figsize=(7.5, 4.6), sharex=True, height_ratios=[2, 1, 1, 1, 3])
    time = np.arange(steps)
    rows[0].vlines(time, 0, values, color="silver")
    rows[0].plot(time[write == 1], values[write == 1], "o", color="tab:green", label="write")
    rows[0].plot(time[read == 1], values[read == 1], "o", color="tab:orange", label="read")
    rows[0].set(ylabel="value", ylim=(-1.1, 1.1))
    rows[0].legend(loc="lower left", ncols=2)
    gates = {"input": "tab:green", "forget": "tab:red", "output": "tab:orange"}
    for axes, (gate, colour) in zip(rows[1:4], gates.items(), strict=True):
        axes.bar(time, getattr(seen, f"{gate}_gate")[:, 0], width=0.9, color=colour)
        axes.set(ylabel=gate, ylim=(0, 1.05), yticks=[0, 1])
    rows[4].step(time, seen.cell[:, 0], where="mid", linewidth=2, label="cell state")
    rows[4].plot(time, seen.hidden[:, 0], ".", color="tab:orange", label="hidden state")
    rows[4].set(xlabel="time step", ylabel="states", ylim=(-1.1, 1.1))
    rows[4].legend(loc="upper right", ncols=2)
    figure.suptitle(title)
    plt.show()


draw(seen, "A memory of one number: write, keep, read")

# %% [markdown]
# The cell state is flat between the two writes: two dozen values go by, and it does not move. The hidden state is 0
# but for the four steps at which *read* opens the output gate. So a cell may know something long before it says it.
#
# ## One gate after the other
#
# What is each gate for? Take it away and see. `trace` needs only other biases: a large bias holds a gate open, whatever
# the input says.


# %%
def held(gate, bias, without):
    """Parameters whose gate no longer looks at a signal, and has this bias instead."""
    return params._replace(
        kernel=params.kernel.at[without, gate].set(0.0), bias=params.bias.at[gate].set(bias)
    )


INPUT, FORGET, OUTPUT = 0, 1, 3
cases = {
    "as wired": params,
    "forget gate always open": held(FORGET, 8.0, without=1),
    "forget gate at 0.9": held(FORGET, np.log(9.0), without=1),
    "input gate always open": held(INPUT, 8.0, without=1),
    "input gate never quite shut": params._replace(bias=params.bias.at[INPUT].set(-3.0)),
    "output gate always open": held(OUTPUT, 8.0, without=2),
}
figure, grid = plt.subplots(2, 3, figsize=(9, 4), sharex=True)
for axes, (title, changed) in zip(grid.T.ravel()[[0, 2, 4, 1, 3, 5]], cases.items(), strict=True):
    seen_now = diagnostics.trace(cell, changed, inputs)
    axes.step(range(steps), seen_now.cell[:, 0], where="mid", linewidth=2, label="cell state")
    axes.plot(seen_now.hidden[:, 0], ".", color="tab:orange", label="hidden state")
    axes.set(title=title)
grid[0, 0].legend(loc="upper right")
for axes in grid[1]:
    axes.set(xlabel="time step")
plt.show()

# %% [markdown]
# - **Forget gate always open.** This is the cell of 1997, which had none. The second value is *added* to the first. Sums
#   are what one wants for counting, and not for replacing.
# - **Forget gate at 0.9.** The belt leaks: after ten steps a third is left, after twenty-two a tenth. The
#   time constant is $-1 / \ln f$. This is why forget gates begin with a positive bias (`forget_bias`, 1 by default).
# - **Input gate always open.** While the forget gate is open the cell adds up whatever comes by: a random walk.
# - **Input gate never quite shut.** A gate of 0.05 lets a twentieth of every value in. It adds up: what was stored is
#   blurred within ten steps.
# - **Output gate always open.** The memory is intact, but others see it all the time. In a network of many
#   units the hidden state is the input of all gates, so each would disturb the others.
#
# ## How long does it keep?
#
# Now the forget gate alone, as small multiples: the input gate writes 1 at step 0, and the cell state decays as $f^t$.

# %%
figure, columns = plt.subplots(1, 5, figsize=(9, 1.9), sharey=True)
for axes, gate in zip(columns, (0.5, 0.9, 0.98, 0.998, 1.0), strict=True):
    axes.fill_between(range(100), gate ** np.arange(100), alpha=0.4)
    half = "endless" if gate == 1 else f"{np.log(0.5) / np.log(gate):.0f}"
    axes.set(title=f"f = {gate:g}\nhalf-life: {half}", xlabel="time step", ylim=(0, 1.05))
columns[0].set(ylabel="cell state")
plt.show()

# %% [markdown]
# ## The step, written out
#
# All of it is six lines of NumPy. `cell.step` computes the same, and `unroll` runs it over a sequence.


# %%
def sigmoid(x):
    """The logistic function."""
    return 1 / (1 + np.exp(-x))


def step(params, hidden, memory, x):
    """One time step of an LSTM."""
    i, f, g, o = np.split(x @ params.kernel + hidden @ params.recurrent_kernel + params.bias, 4, axis=-1)
    memory = sigmoid(f) * memory + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(memory), memory


some = lstmjax.lstm(features=5, hidden=8)
some_params = some.init(jax.random.key(2))
some_inputs = jax.random.normal(jax.random.key(3), (20, 5))
hidden, memory = np.zeros(8), np.zeros(8)
for x in np.asarray(some_inputs):
    hidden, memory = step(jax.tree.map(np.asarray, some_params), hidden, memory, x)
state, outputs = lstmjax.unroll(some, some_params, some_inputs)
print("largest difference:", max(np.abs(hidden - state.hidden).max(), np.abs(memory - state.cell).max()))

# %% [markdown]
# ## A trained network does it by itself
#
# The adding problem (Hochreiter and Schmidhuber 1997, experiment 4): a hundred random numbers, two of them marked, and
# at the end the network has to say half a unit plus a quarter of their sum. Five networks of sixteen units that learned
# it are kept in the repository, so nothing has to be trained here.

# %%
from experiments.common import models
from experiments.long_term_memory import model, task

saved = task.load_model(models.kept("long_term_memory", "adding-100-lstm"))
problem = model.make_problem(saved.config)
trained = model.make_cell(saved.config, problem)
network = model.make_model(saved.config, problem).bind(jax.tree.map(lambda leaf: leaf[1], saved.params))
batch = jax.tree.map(lambda leaf: leaf[0], task.draw(saved.config, problem, part=1, seed=1, step=0))
lengths = np.asarray(batch.lengths)
seen = diagnostics.trace(trained, network.recurrent.values, jnp.asarray(batch.inputs), lengths=lengths)

rows, last = np.arange(len(lengths)), lengths - 1
targets = np.asarray(batch.targets)[rows, last, 0]
before_the_end = np.asarray(seen.cell)[rows, last - 1]  # [sequences, units]
correlations = [np.corrcoef(unit, targets)[0, 1] for unit in before_the_end.T]
unit = int(np.argmax(np.abs(correlations)))
print(f"unit {unit}: its cell state and the answer have the correlation {correlations[unit]:.3f}")

# %%
marks = np.asarray(batch.inputs)[..., 1] == 1
seconds = (marks * np.arange(marks.shape[1])).max(axis=1)
row = int(np.argmax(np.where(marks.sum(axis=1) == 2, seconds, 0)))  # where the second mark comes last
time, marked = np.arange(lengths[row]), marks[row]
gates = np.stack([seen.input_gate, seen.forget_gate, seen.output_gate])[:, row, : lengths[row], unit]
figure, axes = plt.subplots(4, 1, figsize=(8, 6), sharex=True, height_ratios=[2, 2, 2, 2])
axes[0].vlines(time, 0, batch.inputs[row, : len(time), 0], color="silver")
axes[0].plot(np.flatnonzero(marked), batch.inputs[row, marked, 0], "o", color="tab:green", label="marked")
axes[0].set(ylabel="value")
axes[0].legend(loc="upper right")
for gate, name, colour in zip(
    gates, ("input", "forget", "output"), ("tab:green", "tab:red", "tab:orange"), strict=True
):
    axes[1].plot(time, gate, color=colour, label=name)
axes[1].set(ylabel=f"gates of unit {unit}", ylim=(-0.05, 1.05))
axes[1].legend(loc="center right", ncols=3)
cells = np.asarray(seen.cell)[row, : len(time)]
axes[2].plot(time, cells[:, unit], linewidth=2.5)
axes[2].set(ylabel=f"cell state, {unit}")
axes[3].plot(time, np.delete(cells, unit, axis=1), color="tab:blue", linewidth=0.8)
for place in np.flatnonzero(marked):
    axes[2].axvline(place, color="tab:green", linestyle=":")
    axes[3].axvline(place, color="tab:green", linestyle=":")
axes[3].set(xlabel="time step", ylabel="of all others")
plt.show()

# %% [markdown]
# The input gate opens at the two marks and nowhere else, as in the cell that was wired by hand. There the cell state
# takes a step, up for a positive number and down for a negative one; in between it only drifts a little, since the
# forget gate is near 1. Nobody told the network to do so. The other fifteen units are below: some of them move
# steadily with time, whatever they read. Over all twenty sequences of the batch the chosen unit is nearly the sum, and
# the readout of all units repairs what is left:

# %%
answers = np.asarray(network(batch))[rows, last, 0]
figure, (left, right) = plt.subplots(1, 2, figsize=(7, 2.8))
left.plot(targets, before_the_end[:, unit], "o")
left.set(xlabel="target", ylabel=f"cell state of unit {unit}", title="what it remembers")
right.plot([0, 1], [0, 1], color="silver")
right.plot(targets, answers, "o", color="tab:orange")
right.set(
    xlabel="target", ylabel="answer", title=f"what it says: largest error {abs(answers - targets).max():.3f}"
)
plt.show()

# %% [markdown]
# ## What to try next
#
# - Wire a counter of one unit: add 1 at each *write*, and clear it at each *read*. Which gate clears?
# - Replace the cell by `lstmjax.lstm(3, 1, coupled=True)`, whose forget gate is $1 - i$. Which of the six pictures above
#   are no longer possible?
# - Look at another of the five networks (`leaf[0]` to `leaf[4]`), or at `reber-lstm`, which learned a grammar.
# - [02_lstm_against_rnn](02_lstm_against_rnn.ipynb) asks why this can be *learned*: what the gradient does on the way back.
