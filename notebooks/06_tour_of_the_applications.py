# %% [markdown]
# # A tour of the applications
#
# Each experiment of this repository keeps its best model beside its records. So this notebook needs no data and no training:
# it loads them and lets them work. What they do here is a sample; how good they are is in the tables, of which the last
# section is a summary.

# %%
import itertools
import tempfile
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Audio, Image, display

from experiments.__main__ import main
from experiments.common import models
from experiments.common.tables import seeds
from lstmjax.training.record import load_records

folder = Path(tempfile.mkdtemp())

# %% [markdown]
# ## Text
#
# An LSTM of 512 units was trained on Shakespeare's plays, letter by letter
# ([language_modeling](../experiments/results/language_modeling/README.md)). It writes with temperature 0.7: below 1, likely
# letters become likelier.

# %%
from experiments.language_modeling import unit_pictures
from experiments.language_modeling.model import stream, unit_outputs
from experiments.language_modeling.task import load_model

_, vocabulary, model, params = load_model(models.kept("language_modeling", "shakespeare-char"))
prompt = vocabulary.encode(list("\nROMEO:\n")).tolist()
written = list(itertools.islice(stream(model, params, prompt, jax.random.key(3), 0.7), 500))
text = "".join(vocabulary.tokens[token] for token in prompt[1:] + written)
print(text)

# %% [markdown]
# Nobody told the network of lines, speakers or verse. Some of its units keep track of them. For two properties of
# the text above, here is the unit that correlates most with it (chosen and shown on the same text, so a little flattered):

# %%
tokens = np.array(prompt[1:] + written)
units = unit_outputs(model, params, tokens)
properties = {
    "letters since the line began": unit_pictures.since(text, lambda letter: letter == "\n"),
    "letters since the word began": unit_pictures.since(text, lambda letter: not letter.isalpha()),
}
figure, panels = plt.subplots(2, 1, figsize=(9, 3.4), sharex=True)
for axes, (title, values) in zip(panels, properties.items(), strict=True):
    correlations = np.nan_to_num([np.corrcoef(unit, values)[0, 1] for unit in units])
    best = int(np.argmax(np.abs(correlations)))
    axes.plot(values[:200] / values.max(), color="silver", linewidth=3, label=title)
    axes.plot(
        np.sign(correlations[best]) * units[best, :200],
        linewidth=1,
        label=f"unit {best}, {correlations[best]:.2f}",
    )
    axes.legend(loc="upper right", ncols=2)
    axes.set(ylim=(-1.1, 1.6))
panels[1].set(xlabel="letter")
plt.show()

# %% [markdown]
# ## Translations
#
# Descriptions of photographs, into German ([machine_translation](../experiments/results/machine_translation/README.md)): a
# bidirectional encoder, attention, beam search.

# %%
from experiments.machine_translation.decode import load_search, translate_all
from experiments.machine_translation.model import alignments
from experiments.machine_translation.task import load_model as load_translator

kept = models.kept("machine_translation", "en-de-attention")
translator, search = load_translator(kept), load_search(kept)
sources = [
    "A little girl in a red dress is climbing into a wooden playhouse.",
    "Two dogs are running through the snow.",
    "A man in a blue shirt is standing on a ladder cleaning a window.",
    "The committee postponed its decision.",
]
for source, translation in zip(sources, translate_all(translator, sources, search, rows=4), strict=True):
    print(f"{source}\n    {translation}\n")

# %% [markdown]
# The last sentence is no description of a photograph, and the model has never seen such words. It says something
# about a photograph all the same: a model knows its data, not the language.
#
# The attention weights of the second sentence: each row is a piece of the translation, and dark is where the decoder looked.

# %%
source = translator.vocabularies.source.encode(sources[1])
target = translator.vocabularies.target.encode(translate_all(translator, [sources[1]], search, rows=4)[0])
(weights,) = alignments(
    translator.model, translator.params, source[None], np.array([len(source)]), target[None]
)
figure, axes = plt.subplots(figsize=(4.5, 3.4))
axes.imshow(weights, cmap="gray_r", vmin=0, vmax=1, aspect="auto")
axes.set_xticks(range(len(source)), translator.vocabularies.source.pieces(source), rotation=60, ha="left")
axes.set_yticks(range(len(target)), translator.vocabularies.target.pieces(target))
axes.xaxis.tick_top()
axes.grid(visible=False)
plt.show()

# %% [markdown]
# ## Answers
#
# A story, and questions about it ([question_answering](../experiments/results/question_answering/README.md), bAbI). The reader
# looks at the sentences in several hops; behind the answer is where it looked.

# %%
(folder / "story.txt").write_text(
    "Mary went to the kitchen.\nMary picked up the milk.\nJohn moved to the garden.\n"
    "Mary travelled to the office.\nWhere is John?\nWhere is the milk?\n"
)
_ = main(["question_answering", "ask", "--file", str(folder / "story.txt")])

# %% [markdown]
# Both answers are right. For the first one, the later hops look at a sentence that has nothing to do with John: where
# attention looks is no explanation of an answer.
#
# ## Proteins
#
# The secondary structure of a protein from its sequence alone ([protein_structure](../experiments/results/protein_structure/README.md)).
# From top to bottom: the letters, the measured states, the predicted ones, and the probabilities. The chain is of the
# test set and easier than most; over all, 59 % of the residues are right.

# %%
from experiments.protein_structure import residues
from experiments.protein_structure.pictures import draw_chain
from experiments.protein_structure.task import STATES
from experiments.protein_structure.task import load_model as load_structure_model

sequence = "QQLLLEPMLKFHYMLKKLQLHEEEYVLMQAISLFSPDRPGVLQHRVVDQLQEQFAITLKSYIECNRPQPAHRFLFLKIMAMLTELRSINAQHTQRLLRIQDIHPFATPLMQELFGITGS"
measured = "CCSTTSHHHHHHHHHHHTCCCHHHHHHHHHHHHTCTTSTTCSCHHHHHHHHHHHHHHHHHHHHHHCCSGGGTTHHHHHHHHHHHHHHHHHHHHHHHHHHHHHSCCCCHHHHHHHTCCCC"
structure = load_structure_model(models.kept("protein_structure", "nr25-sequence"))
probabilities = residues.probabilities(structure.model, structure.params, residues.features(sequence, None))
draw_chain("4X1F chain A", sequence, probabilities, STATES["nr25"], folder / "chain.png", true=measured)
display(Image(folder / "chain.png", width=900))

# %% [markdown]
# ## Music
#
# Chorales in the manner of Bach, an eighth note a frame ([polyphonic_music](../experiments/results/polyphonic_music/README.md)):
# the LSTM carries the piece, and a small model at its output (NADE) chooses the notes of a chord one after the other.

# %%
import soundfile

from experiments.polyphonic_music import rendering
from experiments.polyphonic_music.config import Config
from experiments.polyphonic_music.model import generate
from experiments.polyphonic_music.task import make_model

kept = models.kept("polyphonic_music", "chorales-lstm-nade")
config = models.config_of(kept, Config)
music = make_model(config)
rolls = generate(config, music, models.load_params(kept, music.init), jax.random.key(5), count=2, frames=56)
figure, panels = plt.subplots(1, 2, figsize=(9, 2.6), sharey=True)
for axes, roll in zip(panels, rolls, strict=True):
    axes.imshow(roll.T, origin="lower", aspect="auto", cmap="Blues", vmax=1)
    axes.set(xlabel="frame, an eighth note", ylim=(20, 65))
    axes.grid(visible=False)
panels[0].set(ylabel="key of the piano")
plt.show()

# %%
sound = rendering.synthesize(rolls[0])
soundfile.write(folder / "chorale.mp3", sound, rendering.SAMPLE_RATE, format="MP3")
display(Audio(filename=folder / "chorale.mp3"))

# %% [markdown]
# ## Long-term memory
#
# The problems that the LSTM was invented for ([long_term_memory](../experiments/results/long_term_memory/README.md)). The kept
# network answers after each symbol which may come next; a notebook of its own looks inside: [01_the_cell](01_the_cell.ipynb).
#
# ## Forecasts
#
# A peak that comes every year, on a date that moves ([seasonal_sales](../experiments/results/seasonal_sales/README.md)): views of
# festivals' pages, a year ahead, with intervals of 50 and 90 per cent. The scale is logarithmic. The network was told how far the
# festival is, not how high it will be; a seasonal memory needs what to forget and what to keep.
#
# ![Forecasts of four festivals](../experiments/results/seasonal_sales/pictures/forecasts.png)
#
# ## What comes after
#
# The spectrum of a spoken digit, and below it the probability of the right digit at each frame, by networks that know the past,
# the future, both, or a few frames beyond ([bidirectional_context](../experiments/results/bidirectional_context/README.md)).
#
# ![A spoken digit](../experiments/results/bidirectional_context/pictures/digit.png)
#
# ## What an LSTM needs
#
# Gates and activations left out, one at a time, each variant with a search of its own
# ([gate_ablation](../experiments/results/gate_ablation/README.md)): nats per frame of chorales, and the number of parameters.
#
# ![Variants side by side](../experiments/results/gate_ablation/pictures/variants.png)
#
# ## The records
#
# A record is a run that anyone can repeat: its command, its commit, its figures. These are those of the experiments above, one row a
# label; the tables beside the papers' figures are in the [README](../README.md).

# %%
HEADLINES = {
    "language_modeling": "test_perplexity",
    "machine_translation": "test2016_bleu",
    "long_term_memory": "sequences_to_solve",
    "question_answering": "mean_accuracy",
    "protein_structure": "test_q8",
    "polyphonic_music": "test_nll",
    "seasonal_sales": "test_smape",
    "bidirectional_context": "test_accuracy",
    "gate_ablation": "test_nll",
}
rows = {}
for record in load_records(models.RESULTS):
    if HEADLINES.get(record.experiment) in record.metrics:
        rows.setdefault((record.experiment, record.label), []).append(record)
for (experiment, label), own in rows.items():
    headline = HEADLINES[experiment]
    mean = np.mean([record.metrics[headline] for record in own])
    print(f"{experiment:21} {label:22} {headline:20} {mean:12,.3f}, seeds: {seeds(own)}")

# %% [markdown]
# ## What to try next
#
# - Change the prompts, the sentences, the story. Where does each model stop making sense?
# - `python -m experiments models` lists what is kept; each experiment's `--help` names its commands.
# - Make a new one: [docs/new-experiment.md](../docs/new-experiment.md) works one out, in a hundred lines.
