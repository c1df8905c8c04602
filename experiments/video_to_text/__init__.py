r"""Video to text: what happens in a video?

    python -m experiments video_to_text                          one moving digit, by S2VT
    python -m experiments video_to_text --digits 2               two moving digits
    python -m experiments video_to_text --model pooling          by the mean of the frames
    python -m experiments video_to_text --attention temporal     with attention to the frames
    python -m experiments video_to_text --split sync-draw        the sentences of Sync-DRAW
    python -m experiments video_to_text --folder FOLDER          on your own videos or features with captions
    python -m experiments video_to_text describe FILE...         a sentence for your own GIF or MP4

Papers. Venugopalan et al. 2015 (arXiv:1505.00487) for S2VT; Yao et al. 2015 (arXiv:1502.08029) for temporal
attention; Venugopalan et al. 2015 (arXiv:1412.4729) for the mean of the frames, which has no order of events.

Data. Videos that are drawn as they are needed: handwritten digits of MNIST, which move over 16 to 20 frames
of 32 x 32 pixels; `grammar.py` has the sentences. The images of the test are those of MNIST's test part, and
every digit of the test begins with a motion that it never has in training or validation. `folders.py` has
the form of a folder of your own, such as of MSVD.

Model. Convolutions make a vector of each frame; like those of the papers they first learn to classify, here
the digits in single frames (`eye.py`). `model.py` has the equations of the two LSTMs.

Loss. The cross entropy of each word. ``test_exact`` is the share of sentences that are right as a whole, and
``test_bleu4`` BLEU-4, both by greedy decoding; ``test_digit``, ``test_direction`` and ``test_speed`` are
shares of right words of these kinds, given the right words before. ``test_seen_exact`` and the like are of
the test images with combinations that training has.

Recipe. Adam with a cosine schedule; an exponential moving average of the parameters, tested once where it has
the lowest validation loss. Cost and figures: `experiments/results/video_to_text`.
"""

from experiments.common.experiment import Experiment
from experiments.common.learning import evaluate, finish, learn
from experiments.common.models import folder_in
from experiments.common.recipes import training_config
from experiments.video_to_text import describing, eye, material, pictures
from experiments.video_to_text.commands import COMMANDS
from experiments.video_to_text.config import Config, preset
from experiments.video_to_text.model import make_model
from experiments.video_to_text.page import PAGE
from experiments.video_to_text.task import Saved, make_architecture, make_task, save_language
from lstmjax.training.record import Run


def run(config: Config, run: Run) -> None:
    """Train, test once, and write the model, an animation, samples and the summary."""
    parts = material.load(config)
    save_language(folder_in(run.path), parts)
    model = make_model(make_architecture(config, len(parts.vocabulary), parts.inputs))
    task = make_task(model, parts)
    settings = training_config(config, getattr(parts.train, "steps_per_epoch", 0))
    curves = {"nll": "loss, nats a word", "exact": "share of sentences that are right"}
    params = None if parts.images is None else eye.trained(config, model, parts.images)
    learned = learn(task, settings, run, params=params, curves=curves)

    saved = Saved(config, parts.vocabulary, parts.inputs, model, learned.params)
    batches = {"valid": parts.valid.once()} | {
        name: test.batches.once() for name, test in parts.tests.items()
    }
    figures = learned.figures | evaluate(task, learned.params, batches)
    for name, test in parts.tests.items():
        described = list(describing.describe_all(saved, test))
        figures |= {f"{name}_{metric}": value for metric, value in describing.figures(described).items()}
        pictures.write_samples(described, run.path / f"{name}.txt")
        if not parts.inputs:
            pictures.write_animation(described[:8], run.path / f"{name}.gif")
        if config.attention == "temporal":
            pictures.draw_attention(saved, described[0], run.path / f"{name}-attention.png")
    finish(run, figures)


EXPERIMENT = Experiment(__doc__, Config, run, PAGE, preset, COMMANDS)
