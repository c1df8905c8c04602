# %% [markdown]
# # An LSTM against a plain RNN: the gradient on its way back
#
# A recurrent network is trained by unrolling it over time and going back through all steps. The gradient of a loss at
# step $T$ with respect to the state at step $t$ is a product of as many Jacobians as there are steps in between:
#
# $$
# \frac{\partial L}{\partial h_t} = \frac{\partial L}{\partial h_T} \prod_{s=t+1}^{T} \frac{\partial h_s}{\partial h_{s-1}}
# $$
#
# A product of many similar matrices does one of two things. If they shrink vectors it **vanishes**, and the network
# learns nothing about what lies far back. If they stretch vectors it **explodes**, and one step of training ruins the
# weights. Hochreiter (1991) and Bengio et al. (1994) found this; the LSTM was made against the first, and clipping
# of gradients (Pascanu et al. 2013) is the remedy for the second. Here one sees both, and then what they mean for training.

# %%

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import lstmjax
from experiments.long_term_memory.pictures import jacobians
from lstmjax import diagnostics

# %% [markdown]
# ## How far the gradient reaches
#
# Cells before training read 100 steps of noise. `diagnostics.gradient_flow` gives the norm of the gradient of the last
# output with respect to the state at each step. The axis is logarithmic: a straight line is a constant factor per step.

# %%
FEATURES, HIDDEN, STEPS = 2, 32, 100
inputs = jax.random.uniform(jax.random.key(1), (8, STEPS, FEATURES), minval=-1.0)


def reach(cell, gain=1.0):
    """Norms of the gradient with respect to the states, the last step first: geometric means over rows."""
    params = cell.init(jax.random.key(0))
    params = params._replace(recurrent_kernel=gain * params.recurrent_kernel)
    flow = diagnostics.gradient_flow(cell, params, inputs, lambda outputs: outputs[:, -1].sum())
    norms = flow.hidden if flow.cell is None else flow.cell
    return np.exp(np.log(np.maximum(norms, 1e-30)).mean(axis=0))[::-1]


rnn = lstmjax.elman(FEATURES, HIDDEN)
carried = {
    "LSTM, forget bias 5": reach(lstmjax.lstm(FEATURES, HIDDEN, forget_bias=5.0)),
    "LSTM of 1997, no forget gate": reach(lstmjax.lstm(FEATURES, HIDDEN, forget_gate=False)),
    "LSTM, forget bias 1": reach(lstmjax.lstm(FEATURES, HIDDEN)),
    "GRU": reach(lstmjax.gru(FEATURES, HIDDEN)),
    "RNN": reach(rnn),
}
scaled = {
    "recurrent kernel times 3": reach(rnn, gain=3.0),
    "as it is: orthogonal": reach(rnn),
    "halved": reach(rnn, gain=0.5),
    "times 3, clipped in each step": reach(lstmjax.clip_gradient(rnn, 0.1), gain=3.0),
}
figure, panels = plt.subplots(1, 2, figsize=(9.5, 3.6), sharey=True)
for axes, curves, title in zip(
    panels, (carried, scaled), ("several cells", "a plain RNN, scaled"), strict=True
):
    for name, norms in curves.items():
        axes.plot(norms, label=name, linestyle="--" if "clipped" in name else "-")
    axes.set(xlabel="steps back", yscale="log", ylim=(1e-20, 1e20), title=title)
    axes.legend()
panels[0].set(ylabel="norm of the gradient")
plt.show()

# %% [markdown]
# On the left, the gradient of the LSTM's cell state with nearly open forget gates arrives whole, and so does that of the
# cell of 1997, whose belt has no factor at all. With the usual bias of 1 the gates are at about 0.73, and the gradient
# loses a factor of $10^5$ in a hundred steps: how much is kept is a choice, and before training the bias makes it. What a
# plain RNN and a GRU carry is ten orders of magnitude less than the LSTM with open gates.
#
# On the right, one number decides about the plain RNN. Its recurrent kernel is orthogonal, and neither stretches nor
# shrinks; only $\tanh'$ makes the gradient smaller. Half of it vanishes soon, three times of it explodes. In between is a
# knife's edge, and training does not stay on it. `clip_gradient` bounds the gradient in each step of the backward
# pass, so it cannot explode, but clipping does not bring back what has vanished.
#
# ## Which directions are carried
#
# A norm hides that some directions survive. The eigenvalues of the product of Jacobians show them: those near 1 are
# memory, those near 0 are forgotten, those far above 1 explode.

# %%
shown = {
    "LSTM, forget bias 5": (lstmjax.lstm(FEATURES, HIDDEN, forget_bias=5.0), 1.0),
    "GRU": (lstmjax.gru(FEATURES, HIDDEN), 1.0),
    "RNN": (rnn, 1.0),
    "RNN, kernel times 3": (rnn, 3.0),
}
figure, panels = plt.subplots(1, len(shown), figsize=(9.5, 2.6), sharey=True)
for axes, (name, (cell, gain)) in zip(panels, shown.items(), strict=True):
    params = cell.init(jax.random.key(0))
    params = params._replace(recurrent_kernel=gain * params.recurrent_kernel)
    products = jacobians(cell, params, inputs[0])
    for steps in (1, 10, 100):
        sizes = np.sort(np.abs(np.linalg.eigvals(products[steps - 1])))[::-1]
        axes.plot(np.maximum(sizes, 1e-12), ".-", markersize=3, linewidth=0.8, label=f"{steps} steps")
    axes.set(title=name, xlabel="eigenvalue", yscale="log", ylim=(1e-12, 1e12))
panels[0].set(ylabel="absolute value")
panels[-1].legend()
plt.show()

# %% [markdown]
# The state of the LSTM has 64 numbers. After 10 steps half of the eigenvalues are still 1: there are 32 cell states.
# After 100 steps these have spread, some grown and some shrunk, and none is gone. The other half belongs to the hidden
# states, which are forgotten at once, and may be: they are made anew in every step. GRU and RNN have lost all
# directions after 100 steps. The exploding RNN carries a few of them, too loudly, and loses the others.
#
# ## What an explosion does, and what clipping does
#
# The smallest example has one unit and two weights (after Pascanu et al. 2013, figure 6): a cell
# $h_t = \tanh(w h_{t-1} + b)$ starts at 0.5, and after 50 steps it shall be at 0.7. All losses for a range of $w$ and $b$
# make a landscape with a cliff. `jax.vmap` computes it at once.

# %%
unit = lstmjax.elman(features=1, hidden=1)
blank = jnp.zeros((50, 1))


def loss(weights):
    """The squared distance to 0.7 after 50 steps, for the weights ``[w, b]``."""
    params = unit.init(jax.random.key(0))._replace(recurrent_kernel=weights[:1, None], bias=weights[1:])
    _, outputs = lstmjax.unroll(unit, params, blank, state=jnp.array([0.5]), backend="scan")
    return jnp.square(outputs[-1, 0] - 0.7)


def descend(optimizer, start, steps=60):
    """Weights, losses and norms of the gradient on the way of gradient descent."""

    def step(carry, _):
        weights, state = carry
        value, gradient = jax.value_and_grad(loss)(weights)
        updates, state = optimizer.update(gradient, state)
        seen = weights, value, jnp.linalg.norm(gradient)
        return (optax.apply_updates(weights, updates), state), seen

    return jax.lax.scan(step, (start, optimizer.init(start)), length=steps)[1]


w, b = jnp.meshgrid(jnp.linspace(0.8, 2.8, 120), jnp.linspace(-0.7, 1.3, 120))
landscape = jax.jit(jax.vmap(jax.vmap(loss)))(jnp.stack([w, b], axis=-1))
start = jnp.array([2.1, -0.4])
rate = optax.sgd(0.5)
ways = {
    "plain": descend(rate, start),
    "clipped by norm": descend(optax.chain(optax.clip_by_global_norm(0.5), rate), start),
}
figure, panels = plt.subplots(1, 2, figsize=(9.5, 3.2))
image = panels[0].pcolormesh(w, b, np.log10(landscape + 1e-4), cmap="Greys", rasterized=True)
figure.colorbar(image, ax=panels[0], label="log10 of the loss")
for (name, (way, losses, norms)), colour in zip(ways.items(), ("tab:red", "tab:blue"), strict=True):
    panels[0].plot(*way.T, ".-", color=colour, markersize=3, linewidth=0.8, label=name)
    panels[1].plot(losses, color=colour, label=name)
    print(f"{name:16} largest gradient {norms.max():.2f}, last loss {losses[-1]:.5f} at {way[-1].round(2)}")
panels[0].set(xlabel="w", ylabel="b", xlim=(0.8, 2.8), ylim=(-0.7, 1.3))
panels[1].set(xlabel="step of training", ylabel="loss", yscale="log")
panels[1].legend()
plt.show()

# %% [markdown]
# Both ways begin at the same point, on the edge of the dark region: the cliff. Without clipping one step from there throws
# the weights far away, to a plateau on which the gradient has vanished: training ends there. With clipping the step has
# the same direction and a bounded length, and the next steps find the light valley. That the loss still swings at the end
# is the learning rate, which is large on purpose.
#
# ## What it means for learning
#
# The adding problem asks for the sum of two marked numbers among a hundred, the first of which lies up to a hundred
# steps before the answer. The records of this repository have both networks, of about 1,200 parameters, five random
# seeds each, trained by the same program with clipped gradients.

# %%
from experiments.common import models
from lstmjax.training.record import load_records

for record in load_records(models.RESULTS, "long_term_memory"):
    found = record.metrics
    print(
        f"{record.label:22} solved by {found['success_rate']:4.0%} of the networks, median of "
        f"{found['sequences_to_solve']:9,.0f} sequences, {found['test_wrong']:6.1%} wrong on new ones"
    )

# %% [markdown]
# On the adding problem the plain RNN has seen 200,000 sequences and answers as if it had seen nothing of the first
# number. The Reber grammar has to be remembered for some ten steps only, and there it succeeds, later than the LSTM.
#
# Last, the gradient of a *trained* network. The forget gates of `adding-100-lstm` have stayed open, so the error at
# the end reaches the marks at the beginning:

# %%
from experiments.long_term_memory import model, task

saved = task.load_model(models.kept("long_term_memory", "adding-100-lstm"))
problem = model.make_problem(saved.config)
trained = model.make_cell(saved.config, problem)
network = model.make_model(saved.config, problem).bind(jax.tree.map(lambda leaf: leaf[1], saved.params))
batch = jax.tree.map(lambda leaf: leaf[0, 0], task.draw(saved.config, problem, part=1, seed=1, step=0))
length = int(batch.lengths)
read = jnp.asarray(batch.inputs[:length])


def answer(outputs):
    """The network's answer, at the last step."""
    return network.readout(outputs)[-1, 0]


flow = diagnostics.gradient_flow(trained, network.recurrent.values, read, answer)
to_inputs = jax.grad(lambda inputs: answer(lstmjax.unroll(trained, network.recurrent.values, inputs)[1]))(
    read
)
figure, panels = plt.subplots(2, 1, figsize=(8, 3.6), sharex=True)
panels[0].plot(flow.cell, label="cell state")
panels[0].plot(flow.hidden, label="hidden state")
panels[0].set(yscale="log", ylabel="norm of the gradient")
panels[0].legend()
panels[1].vlines(np.arange(length), 0, to_inputs[:, 0], linewidth=2)
panels[1].plot(np.flatnonzero(read[:, 1] == 1), [0.25, 0.25], "v", color="tab:green", label="marked")
panels[1].set(xlabel="time step", ylabel="d answer / d value")
panels[1].legend()
plt.show()

# %% [markdown]
# The lower picture says what the network has learned: of a hundred numbers the answer depends on the two marked ones, and
# its derivative by each is near the 0.25 of the problem's definition.
#
# ## What to try next
#
# - Set `forget_bias=3.0` above. How many steps does $\sigma(3) = 0.95$ bridge? Compare with
#   `lstmjax.initializers.chrono`, which draws the biases for a range of time spans.
# - Clip at 5 instead of 0.5 on the cliff. Then take Adam instead of gradient descent: is clipping still necessary?
# - `python -m experiments long_term_memory --problem adding --length 400` asks the same of 400 steps.
