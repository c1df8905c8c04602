# %% [markdown]
# # Both directions
#
# An LSTM knows the past. Often the future is there too: a sentence that has been written, a protein, a recording.
# A **bidirectional** layer (Schuster and Paliwal 1997; with LSTMs, Graves and Schmidhuber 2005) runs one cell from the first
# step to the last and another from the last to the first, and puts their outputs side by side:
#
# $$
# y_t = [\overrightarrow{h}_t, \overleftarrow{h}_t], \qquad
# \overrightarrow{h}_t \text{ has read } x_1 \dots x_t, \quad \overleftarrow{h}_t \text{ has read } x_T \dots x_t
# $$
#
# This notebook shows what each half knows, one mistake that padding invites, and a trained network that reads proteins.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import lstmjax

# %% [markdown]
# ## Who knows what
#
# `lstmjax.bidirectional` takes two cells and makes a layer. The derivative of one output by all inputs shows what that
# output depends on.

# %%
STEPS, FEATURES, HIDDEN = 40, 3, 16
cells = [lstmjax.lstm(FEATURES, HIDDEN, forget_bias=3.0) for _ in range(2)]
layer = lstmjax.bidirectional(*cells)
params = layer.init(jax.random.key(0))
inputs = jax.random.normal(jax.random.key(1), (STEPS, FEATURES))


def influence(run):
    """How much each output depends on each input: norms ``[outputs, inputs]``."""
    jacobian = jax.jit(jax.jacrev(run))(inputs)  # [time, units, time, features]
    return np.asarray(jnp.linalg.norm(jacobian, axis=(1, 3)))


pictures = {
    "forward": influence(lambda x: layer.apply(params, x)[1][:, :HIDDEN]),
    "backward": influence(lambda x: layer.apply(params, x)[1][:, HIDDEN:]),
    "both": influence(lambda x: layer.apply(params, x)[1]),
}
figure, panels = plt.subplots(1, 3, figsize=(8, 2.8), sharey=True)
for axes, (title, norms) in zip(panels, pictures.items(), strict=True):
    image = axes.imshow(np.log10(norms + 1e-6), vmin=-3, vmax=0, cmap="Blues")
    axes.set(title=title, xlabel="input at step")
    axes.grid(visible=False)
panels[0].set(ylabel="output at step")
figure.colorbar(image, ax=panels, label="log10 of the derivative")
plt.show()

# %% [markdown]
# A white triangle is what cannot be known. The forward half sees nothing above the diagonal, the backward half nothing
# below it; together they have no white triangle. It also follows what bidirectional layers are *not* for: whatever has to
# speak before it has heard the end, such as a generator of text or a forecast.
#
# ## Padding: where the backward half goes wrong
#
# In a batch, shorter sequences are filled up at the end. Whoever flips such a batch in time lets the backward cell read
# the padding first; its state is then no longer the initial one when the sequence begins. With `lengths`, each row is
# reversed within its own length.

# %%
lengths = jnp.array([40, 25, 10])
batch = jnp.where(jnp.arange(STEPS)[:, None] < lengths[:, None, None], inputs, 5.0)  # padding is 5
backward = params.backward
_, alone = lstmjax.unroll(cells[1], backward, inputs[:10], reverse=True)  # the third row without padding
_, right = lstmjax.unroll(cells[1], backward, batch, lengths=lengths, reverse=True)
_, flipped = lstmjax.unroll(cells[1], backward, batch[:, ::-1])
naive = flipped[:, ::-1]
print("third row against the same sequence alone, largest difference")
print(f"  with lengths: {jnp.abs(right[2, :10] - alone).max():.1e}")
print(f"  flipped:      {jnp.abs(naive[2, :10] - alone).max():.1e}")

# %%
figure, panels = plt.subplots(1, 2, figsize=(8, 2.2), sharey=True)
for axes, outputs, title in zip(
    panels, (right, naive), ("with lengths", "flipped with its padding"), strict=True
):
    axes.plot(alone[:, :3], color="silver", linewidth=4)
    axes.plot(outputs[2, :, :3], linewidth=1)
    axes.axvspan(10, STEPS - 1, color="silver", alpha=0.3)
    axes.set(title=title, xlabel="time step", xlim=(0, STEPS - 1))
panels[0].set(ylabel="three units")
plt.show()

# %% [markdown]
# Grey lines are the right outputs, and the grey region is padding. The flipped run is wrong in the whole sequence, and
# the error grows towards its end, where the backward cell comes from the padding. Nothing fails and no shape is wrong;
# one only gets a somewhat worse model. The contract of `unroll` is that padding never matters, NaN included.
#
# ## A small task that needs the future
#
# Say at each step the sum of the three inputs before and the three inputs after it. Two layers with 32 outputs each are
# trained for a few seconds. The one that sees only the past can do half of the task.

# %%
import optax

layers = {
    "forward only": lstmjax.lstm(1, 32),
    "both directions": lstmjax.bidirectional(lstmjax.lstm(1, 16), lstmjax.lstm(1, 16)),
}
kernel = np.array([1, 1, 1, 0, 1, 1, 1]) / np.sqrt(6)  # variance 1


def train(layer, steps=400):
    """The squared error in each step of training, of random sequences that are all new."""
    optimizer = optax.adam(1e-2)

    def loss(params, key):
        x = jax.random.normal(key, (32, 30, 1))
        target = jax.vmap(lambda row: jnp.convolve(row, kernel, mode="same"))(x[..., 0])
        _, outputs = lstmjax.unroll(layer, params["layer"], x)
        return jnp.square(outputs @ params["readout"] - target).mean()

    def step(carry, key):
        params, state = carry
        value, gradient = jax.value_and_grad(loss)(params, key)
        updates, state = optimizer.update(gradient, state)
        return (optax.apply_updates(params, updates), state), value

    params = {"layer": layer.init(jax.random.key(0)), "readout": jnp.zeros(32)}
    keys = jax.random.split(jax.random.key(1), steps)
    return jax.jit(lambda start: jax.lax.scan(step, start, keys)[1])((params, optimizer.init(params)))


figure, axes = plt.subplots(figsize=(6, 2.6))
for name, layer in layers.items():
    axes.plot(train(layer), label=name)
axes.axhline(0.5, color="black", linestyle=":", label="all of the past, nothing of the future")
axes.set(xlabel="step of training", ylabel="squared error", yscale="log")
axes.legend()
plt.show()

# %% [markdown]
# ## The real thing: secondary structure of proteins
#
# A protein is a chain of amino acids that folds into helices (H), strands (E) and turns. What a residue becomes depends
# on neighbours to both sides; a chain has no direction of reading. The model `nr25-sequence` of
# [protein_structure](../experiments/results/protein_structure/README.md) has two bidirectional LSTMs and sees nothing
# but the letters. The chain below, 2B7K chain A, is one of its test set, so the network has not seen it.

# %%
from experiments.common import models
from experiments.protein_structure import residues
from experiments.protein_structure.task import STATES, load_model

sequence = "GKPSLGGPFHLEDMYGNEFTEKNLLGKFSIIYFGFSNCPDICPDELDKLGLWLNTLSSKYGITLQPLFITCDPARDSPAVLKEYLSDFHPSILGLTGTFDEVKNACKKYRV"
measured = "CCCCCCCCCEEEETTSCEEEGGGGTTSCEEEEEECTTCCSHHHHHHHHHHHHHHHHHHHHCCCCEEEEEESCTTTCCHHHHHHHHTTSCTTCEEEECCHHHHHHHHHHTTC"
saved = load_model(models.kept("protein_structure", "nr25-sequence"))
states = STATES[saved.config.dataset]
features = residues.features(sequence, None)
probabilities = residues.probabilities(saved.model, saved.params, features)
predicted = "".join(states[place] for place in probabilities.argmax(axis=1))
for start in range(0, len(sequence), 80):
    for name, text in (("sequence", sequence), ("measured", measured), ("predicted", predicted)):
        print(f"{name:10}{text[start : start + 80]}")
    print()
agreement = np.mean([one == other for one, other in zip(predicted, measured, strict=True)])
print(f"{agreement:.0%} of the residues are right")

# %% [markdown]
# The mean over the test set is 59 %, so this chain is one of the easier ones. The long helix from residue 41 and the
# strands after it are found. The first strand is taken for a helix.
#
# Which residues does the network look at? The derivative of a residue's log probability by the letters around it says so:


# %%
@jax.jit
def log_probability(letters, place, state):
    """The log probability of a state at a place of the chain."""
    lengths = jnp.array([len(sequence)])
    return jax.nn.log_softmax(saved.model.bind(saved.params)(letters[None], lengths)[0])[place, state]


shown = {"in a strand": 30, "in the long helix": 50, "in a turn": 73}
figure, panels = plt.subplots(len(shown), 1, figsize=(8, 4), sharex=True)
for axes, (title, place) in zip(panels, shown.items(), strict=True):
    state = states.index(predicted[place])
    weight = jnp.linalg.norm(jax.grad(log_probability)(jnp.asarray(features), place, state), axis=1)
    axes.bar(np.arange(len(sequence)) - place, weight, width=1.0)
    axes.set(title=f"{title}: residue {place + 1}, {predicted[place]}", xlim=(-50, 50), ylabel="derivative")
panels[-1].set(xlabel="residues before (-) and after it")
plt.show()

# %% [markdown]
# Both sides count. The next ten residues matter most, and the tails reach thirty. How much does that bring? The records say, with
# profiles of related proteins as further inputs (one seed each):

# %%
from lstmjax.training.record import load_records

for record in load_records(models.RESULTS, "protein_structure"):
    if record.label in ("nr25-blstm", "nr25-lstm", "nr25-window"):
        print(
            f"{record.label:12} {100 * record.metrics['test_q8']:.1f} % of the residues right, of eight states"
        )

# %% [markdown]
# The bidirectional LSTM is the best, the LSTM in one direction (which sees three residues ahead, by its window) is below
# it, and a network without recurrence over 17 residues lies between: the near neighbourhood on both sides is worth more
# than a long memory of one side.
#
# ## What to try next
#
# - Give the forward cell of the small task a delay: train it to answer three steps later. How close does it come? This is
#   how speech recognisers that must answer at once buy some of the future.
# - `python -m experiments protein_structure predict FILE` predicts sequences of your own.
# - `lstmjax.layers(...)` puts bidirectional layers on top of each other: the second one then has both sides in every
#   step it reads.
