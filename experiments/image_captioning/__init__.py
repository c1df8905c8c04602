r"""Image captioning: what is to be seen in a picture, in a sentence.

    python -m experiments image_captioning                               photographs, with attention
    python -m experiments image_captioning --model plain                 the picture as the first input
    python -m experiments image_captioning --model nearest               the nearest picture's caption
    python -m experiments image_captioning --dataset shapes              coloured shapes, exact sentences
    python -m experiments image_captioning --folder FOLDER               own pictures with captions
    python -m experiments image_captioning --features resnet.npz         features instead of pictures
    python -m experiments image_captioning caption FILE...               own pictures

Papers. Show and Tell: Vinyals, Toshev, Bengio and Erhan 2015 (arXiv:1411.4555). Show, Attend and Tell: Xu et
al. 2015 (arXiv:1502.03044).

Data. ``flickr8k``: photographs with five captions each, in the official splits, as many as are at hand.
``shapes``: rendered scenes; each of the test split has a thing that no training scene has. ``tuxpaint``:
stamps with one caption. `experiments/datasets` has the splits.

Model. A small convolutional encoder, trained with the rest from random parameters, gives the regions of a
grid; an LSTM writes the caption word by word (`model.py`). The papers' encoders learnt from the 1.2 million
pictures of ImageNet; with ``--features`` their setting can be had.

Loss. The cross entropy of each word given those before it and the picture, and with attention the doubly
stochastic penalty. ``test_bleu1`` to ``test_bleu4`` are from 0 to 100, ``test_cider`` (CIDEr-D) from 0 to 10,
``test_exact`` is the share of captions that equal a reference (`metrics.py`); captions are by beam search.

Recipe. Adam with a cosine schedule, dropout, an average of the parameters; those of the epoch that is
best on the validation split are tested once. Cost and figures:
`experiments/results/image_captioning`.
"""

from collections.abc import Callable, Sequence

from experiments.common.experiment import Experiment
from experiments.common.learning import evaluate, finish, learn
from experiments.common.models import folder_in
from experiments.common.recipes import training_config
from experiments.datasets import Splits
from experiments.datasets.captioned import Captioned
from experiments.image_captioning import baselines, metrics, pictures
from experiments.image_captioning.commands import COMMANDS
from experiments.image_captioning.config import BASELINES, Config, preset
from experiments.image_captioning.data import Batches, learn_vocabulary, load, stacked
from experiments.image_captioning.page import PAGE
from experiments.image_captioning.task import (
    Saved,
    architecture_of,
    caption,
    encoded,
    make_task,
    references,
    save,
)
from lstmjax.training.record import Run

CURVES = {"nll": "nats per word", "cider": "CIDEr-D"}
"""The metrics that are plotted over the training steps, with their axis labels."""


def run(config: Config, run: Run) -> None:
    """Train, describe the validation and test pictures, and write model, captions, plots and the summary."""
    parts = load(config)
    if config.model in BASELINES:
        run.mark_tested()
        finish(run, test(parts, run, lambda part: baseline(config, parts, part)))
        return
    vocabulary = learn_vocabulary(config, parts.train)
    architecture = architecture_of(config, vocabulary, parts.train[0].picture.shape)
    train, valid = (Batches.of(config, vocabulary, part) for part in parts[:2])
    saved = Saved(config, vocabulary, architecture, None)
    save(saved, folder_in(run.path))
    task = make_task(saved, train, valid, parts.valid)
    settings = training_config(config, train.pairs.steps_per_epoch)
    learned = learn(task, settings, run, curves=CURVES)

    saved = saved._replace(params=learned.params)
    figures = learned.figures | evaluate(task, saved.params, {"valid": task.valid()})
    figures |= test(parts, run, lambda part: caption(saved, stacked(part)))
    known, features = (encoded(saved, stacked(part)) for part in (parts.train, parts.test))
    neighbours = metrics.figures(baselines.of_nearest(parts.train, known, features), references(parts.test))
    figures |= {f"test_encoder_nearest_{name}": neighbours[name] for name in ("bleu4", "cider")}
    if config.features is None:
        pictures.draw_captions(saved, parts.test, run.path)
    finish(run, figures | {"vocabulary": float(len(vocabulary))})


def test(
    parts: Splits[Captioned], run: Run, describe: Callable[[Sequence[Captioned]], list[list[str]]]
) -> dict[str, float]:
    """The metrics of captions of both splits; writes the captions of the test split."""
    figures = {"train_pictures": float(len(parts.train)), "test_pictures": float(len(parts.test))}
    for name, part in (("valid", parts.valid), ("test", parts.test)):
        captions = describe(part)
        found = metrics.figures(captions, references(part))
        figures |= {f"{name}_{metric}": value for metric, value in found.items()}
        lines = (
            f"{each.name}\t{' '.join(words)}\t{each.captions[0]}\n"
            for each, words in zip(part, captions, strict=True)
        )
        (run.path / f"{name}-captions.tsv").write_text("".join(lines), "utf-8")
    return figures


def baseline(config: Config, parts: Splits[Captioned], part: Sequence[Captioned]) -> list[list[str]]:
    """Captions of pictures by the baseline of a config."""
    if config.model == "random":
        return baselines.of_random(parts.train, part, config.seed)
    if config.model == "frequent":
        return baselines.of_frequent(parts.train, part)
    known, features = (baselines.raw_features(stacked(each)[:]) for each in (parts.train, part))
    return baselines.of_nearest(parts.train, known, features)


EXPERIMENT = Experiment(__doc__, Config, run, PAGE, preset, COMMANDS)
