# %% [markdown]
# # The kinds of sequence problems
#
# What goes in and what comes out, and which belongs to which: this decides how a recurrent network is wired, where its
# loss sits, and what a batch looks like. The cell is the same each time. There are five kinds; each has its picture here,
# the lines of code that are particular to it, and the experiment of this repository that is it, asked by its kept model.

# %%
import itertools

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import lstmjax
from experiments.common import models
from lstmjax import decoding, losses


def draw(title, inputs, outputs, feeds=False):
    """Draw a network over time: where there are inputs (green) and outputs (orange), by step."""
    _, axes = plt.subplots(figsize=(6, 1.7))
    steps = max([*inputs, *outputs]) + 1
    for step in range(steps):
        axes.text(
            step, 1, "cell", ha="center", va="center", bbox={"fc": "lightsteelblue", "ec": "none", "pad": 6}
        )
        if step:
            axes.annotate("", (step - 0.25, 1), (step - 0.75, 1), arrowprops={"arrowstyle": "->"})
        if step in inputs:
            axes.text(
                step,
                0,
                inputs[step],
                ha="center",
                va="center",
                bbox={"fc": "palegreen", "ec": "none", "pad": 5},
            )
            axes.annotate("", (step, 0.7), (step, 0.25), arrowprops={"arrowstyle": "->"})
        if step in outputs:
            axes.text(
                step,
                2,
                outputs[step],
                ha="center",
                va="center",
                bbox={"fc": "moccasin", "ec": "none", "pad": 5},
            )
            axes.annotate("", (step, 1.75), (step, 1.3), arrowprops={"arrowstyle": "->"})
        if feeds and step in outputs and step + 1 < steps:
            way = {"arrowstyle": "->", "color": "silver", "connectionstyle": "arc3,rad=0.1"}
            axes.annotate("", (step + 0.85, 0.75), (step + 0.2, 1.85), arrowprops=way)
    axes.set(xlim=(-0.6, steps - 0.4), ylim=(-0.5, 2.5), title=title)
    axes.axis("off")
    plt.show()


cell = lstmjax.lstm(features=3, hidden=8)
params = cell.init(jax.random.key(0))
inputs = jax.random.normal(jax.random.key(1), (4, 6, 3))  # four sequences of up to six steps
lengths = jnp.array([6, 5, 3, 1])

# %% [markdown]
# ## Many to one
#
# A sequence is read, and one thing is said about it: its class, its value, the answer to a question. What counts is the
# state after the last *valid* step, which `unroll` returns for each row. Padding needs no further care.

# %%
draw("many to one", {0: "x1", 1: "x2", 2: "x3", 3: "x4"}, {3: "answer"})
readout = jnp.ones((8, 2))
state, _ = lstmjax.unroll(cell, params, inputs, lengths=lengths)
print("one answer a sequence:", (state.hidden @ readout).shape)

# %% [markdown]
# **The experiment:** [long_term_memory](../experiments/results/long_term_memory/README.md) (the adding problem), and
# [question_answering](../experiments/results/question_answering/README.md). The kept network reads a hundred numbers:

# %%
from experiments.long_term_memory import model, task

saved = task.load_model(models.kept("long_term_memory", "adding-100-lstm"))
problem = model.make_problem(saved.config)
network = model.make_model(saved.config, problem).bind(jax.tree.map(lambda leaf: leaf[1], saved.params))
batch = jax.tree.map(lambda leaf: leaf[0, :5], task.draw(saved.config, problem, part=1, seed=2, step=0))
last = (np.arange(5), batch.lengths - 1)
for length, target, answer in zip(batch.lengths, batch.targets[last], network(batch)[last], strict=True):
    print(f"{length} numbers, target {target[0]:.3f}, answer {answer[0]:.3f}")

# %% [markdown]
# ## Many to many, aligned
#
# Each step has its own target: the state of a residue, the kind of a word, the next frame of music. The loss is a sum
# over valid steps, so it needs the mask, and the mean has to be over steps and not over rows: else a word in a
# short sentence counts more.

# %%
draw("many to many, aligned", {0: "x1", 1: "x2", 2: "x3", 3: "x4"}, {0: "y1", 1: "y2", 2: "y3", 3: "y4"})
_, outputs = lstmjax.unroll(cell, params, inputs, lengths=lengths)
mask = jnp.arange(6) < lengths[:, None]
targets = jnp.zeros((4, 6), int)
each = losses.cross_entropy(outputs @ readout, targets, mask)
print("a loss for each step:", each.shape, "and their mean:", float(each.sum() / mask.sum()))

# %% [markdown]
# **The experiments:** [protein_structure](../experiments/results/protein_structure/README.md), in both directions, and
# [polyphonic_music](../experiments/results/polyphonic_music/README.md), forward only, since its target is the next input.
# Also the Reber grammar: after each symbol, which may come next? To get the last but one right, the network has to
# remember the second.

# %%
from experiments.long_term_memory import grammar

saved = task.load_model(models.kept("long_term_memory", "reber-lstm"))
problem = model.make_problem(saved.config)
network = model.make_model(saved.config, problem).bind(jax.tree.map(lambda leaf: leaf[0], saved.params))
batch = jax.tree.map(lambda leaf: leaf[0, :1], task.draw(saved.config, problem, part=1, seed=1, step=0))
length = int(batch.lengths[0])
probabilities = np.asarray(jax.nn.softmax(network(batch)))[0, :length]
read = [grammar.SYMBOLS[place] for place in batch.inputs[0, :length].argmax(axis=1)]
figure, axes = plt.subplots(figsize=(0.45 * length + 1.5, 2.4))
axes.imshow(probabilities.T, cmap="Blues", vmin=0, vmax=1, aspect="auto")
axes.plot(
    *np.nonzero(batch.legal[0, :length]), "o", markerfacecolor="none", color="tab:orange", label="may follow"
)
axes.set_xticks(range(length), read)
axes.set_yticks(range(len(grammar.SYMBOLS)), grammar.SYMBOLS)
axes.set(xlabel="symbols that were read", ylabel="next symbol", title="probability of the next symbol")
axes.grid(visible=False)
axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
plt.show()

# %% [markdown]
# ## One to many
#
# There is one input: a class, a picture, or just "begin". The network makes a sequence, and what it has said is its next
# input. In training the right sequence is fed (teacher forcing), so training is the aligned kind, with the targets one
# step ahead. Only generation is a loop.

# %%
draw("one to many", {0: "begin"}, {0: "y1", 1: "y2", 2: "y3", 3: "end"}, feeds=True)
embedding, vocabulary = (
    jax.random.normal(jax.random.key(2), (10, 3)),
    jax.random.normal(jax.random.key(3), (8, 10)),
)


def step(state, tokens):
    """The next state, and logits of the next token."""
    state, output = cell.step(params, state, embedding[tokens])
    return state, output @ vocabulary


found = decoding.greedy(step, cell.initial_state((4,)), 1, 2, 12)
print("four sequences of up to twelve tokens:", found.tokens.shape)

# %% [markdown]
# **The experiment:** text and music that a model writes ([language_modeling](../experiments/results/language_modeling/README.md),
# [polyphonic_music](../experiments/results/polyphonic_music/README.md)). Here the input is the beginning of a line:

# %%
from experiments.language_modeling.model import stream
from experiments.language_modeling.task import load_model as load_language_model

_, characters, language, language_params = load_language_model(
    models.kept("language_modeling", "shakespeare-char")
)
begin = characters.encode(["\n"]).tolist()
written = itertools.islice(stream(language, language_params, begin, jax.random.key(7), 0.7), 160)
print("".join(characters.tokens[token] for token in written))

# %% [markdown]
# ## Many to many, not aligned
#
# Source and target have different lengths and another order of words. Two networks share the work: an encoder reads
# the source, a decoder writes the target, and **attention** lets each step of the decoder look at all states of the
# encoder. Without attention the source has to fit into one state.

# %%
draw(
    "many to many, not aligned",
    {0: "x1", 1: "x2", 2: "x3", 3: "begin"},
    {3: "y1", 4: "y2", 5: "y3", 6: "end"},
    feeds=True,
)
encoder = lstmjax.bidirectional(lstmjax.lstm(3, 8), lstmjax.lstm(3, 8))
encoder_params = encoder.init(jax.random.key(4))
_, memory = encoder.apply(encoder_params, inputs, lengths=lengths)
look = lstmjax.attention.luong(query=8, memory=16)
look_params = look.init(jax.random.key(5))
prepared = look.prepare(look_params, memory, lengths)
glimpse, _ = look.attend(look_params, prepared, cell.initial_state((4,)).hidden, ())
print("what a step of the decoder gets:", glimpse.context.shape, "with weights", glimpse.weights.shape)
print("weights of a row of length 3:", " ".join(f"{weight:.2f}" for weight in glimpse.weights[2]))

# %% [markdown]
# **The experiment:** [machine_translation](../experiments/results/machine_translation/README.md).

# %%
from experiments.machine_translation.decode import load_search, translate_all
from experiments.machine_translation.task import load_model as load_translator

folder = models.kept("machine_translation", "en-de-attention")
translator = load_translator(folder)
(translation,) = translate_all(
    translator, ["A man is playing a guitar on the street."], load_search(folder), rows=1
)
print(translation)

# %% [markdown]
# Where source and target are in the same order and only their pace differs, as in speech, there is a second way: the network
# speaks at every step, a blank included, and the loss sums over all alignments (CTC). An experiment of it is to come.
#
# ## A stream
#
# The fifth kind has no sequences at all: a text, a price, a sensor. It is cut into windows for training, and the **state is
# carried** from window to window; gradients stop at the cut (truncated backpropagation through time).

# %%
state = cell.initial_state((4,))
for window in jnp.split(jax.random.normal(jax.random.key(6), (4, 24, 3)), 4, axis=1):
    state, outputs = lstmjax.unroll(cell, params, window, jax.lax.stop_gradient(state))
print("after four windows:", jax.tree.map(jnp.shape, state))

# %% [markdown]
# **The experiment:** [language_modeling](../experiments/results/language_modeling/README.md), whose perplexities are over
# whole texts. With `lstmjax.Stream` a trained cell then takes one sample at a time.
#
# ## Which is mine?
#
# | there is | one output | an output a step | a sequence of another length |
# | --- | --- | --- | --- |
# | **one input** | (no recurrence) | one to many | one to many |
# | **a sequence** | many to one | many to many, aligned | many to many, not aligned |
# | **no end** | a stream, asked now and then | a stream | a stream in, sequences out |
#
# ## What to try next
#
# - Read the last state of the *aligned* network instead of its outputs: this is many to one. What changes in the gradient?
# - Translate a sentence of thirty words. Where does the translation begin to lose something?
# - [06_tour_of_the_applications](06_tour_of_the_applications.ipynb) has more of each.
