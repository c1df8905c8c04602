"""A run of ``--task synthesis``: train, test once, and keep styles with the model."""

from experiments.common import models
from experiments.common.learning import evaluate, finish, learn
from experiments.common.recipes import training_config
from experiments.handwriting_recognition.config import Config
from experiments.handwriting_recognition.writing import samples, styles, task
from experiments.handwriting_recognition.writing.model import make_model
from lstmjax.training.record import Run

EVALUATION_BUCKETS = 3
"""Number of lengths that words are padded to in evaluation; each is compiled."""


def run(config: Config, run: Run) -> None:
    """Train the network that writes, and write model, styles and summary."""
    parts = task.load(config)
    train = task.make_batches(config, task.training_items(parts.train), config.buckets)
    buckets = min(config.buckets, EVALUATION_BUCKETS)
    valid = task.make_batches(config, parts.valid, buckets)
    model = make_model(task.make_architecture(config))
    job = task.make_task(model, train, valid)
    curves = {"nll_per_point": "negative log-likelihood, nats for each point"}
    settings = training_config(config, train.steps_per_epoch)
    learned = learn(job, settings, run, curves=curves)
    styles.save(models.folder_in(run.path), styles.choose(model, learned.params, valid, parts.valid))
    both = task.pairs(parts.test)
    tested = {
        "test": parts.test,
        "test_second": [second for _, second in both],
        "test_primed": [task.joined(*pair) for pair in both],
    }
    figures = evaluate(job, learned.params, {"valid": valid.once()})
    for name, words in tested.items():
        if words:
            batches = task.make_batches(config, words, buckets)
            figures |= evaluate(job, learned.params, {name: batches.once()})
    samples.draw(task.Saved(config, model, learned.params, models.folder_in(run.path)), run.path)
    finish(run, learned.figures | figures)
