r"""Question answering: read a story, and answer a question about it. All twenty tasks of bAbI.

    python -m experiments question_answering                            one attentive reader for all tasks
    python -m experiments question_answering --model lstm               twenty LSTMs, one for each task
    python -m experiments question_answering --readers single           twenty attentive readers
    python -m experiments question_answering --supervision facts        with supervised attention
    python -m experiments question_answering ask --run RUN              interactive question answering
    python -m experiments question_answering speed                      twenty LSTMs per step, by vmap or not

Papers. Weston et al. 2015 (arXiv:1502.05698) for the tasks and the LSTM, which reads story and question as
one sequence of words; Sukhbaatar et al. 2015 (arXiv:1503.08895) for memory networks, trained on all tasks
jointly.

Models. `model.py` has the equations. Answers are classes: the distinct answers of the training split. An
answer that is a list (tasks 8 and 19) is one class, and so only correct as a whole. The task of a question is
not an input. Stories are truncated to their last ``memory`` sentences, or sequences to their last ``longest``
words, which affects only long stories of task 3 and a few of task 5.

Loss. The cross entropy of the answer. The data give the supporting facts of each answer, which are used under
``--supervision facts`` only: then the loss rewards attention of the first hops to one supporting fact each.

Recipe. Adam with a cosine schedule, dropout, an exponential moving average of the parameters; the parameters
with the fewest errors on the validation split (a tenth of the training split, `experiments/datasets/babi.py`)
are tested once. Readers of single tasks are trained side by side in one step (`side_by_side.py`).
Cost and figures: `experiments/results/question_answering`.
"""

import numpy as np

from experiments import datasets
from experiments.common import mapped
from experiments.common.experiment import Experiment
from experiments.common.learning import finish, learn
from experiments.common.models import folder_in
from experiments.common.recipes import training_config
from experiments.datasets.babi import TASKS
from experiments.question_answering import answers, page, pictures
from experiments.question_answering.commands import COMMANDS
from experiments.question_answering.config import Config, preset
from experiments.question_answering.data import Language
from experiments.question_answering.task import (
    limited,
    make_batches,
    make_collate,
    make_model,
    make_task,
    save_language,
)
from lstmjax import training
from lstmjax.training.record import Run


def run(config: Config, run: Run) -> None:
    """Train, test once, and write the model, tables, plots, wrong answers and the summary."""
    parts = datasets.load(f"babi-{config.size}", config.data_dir)
    parts = datasets.Splits(*(limited(part, config.limit) for part in parts))
    language = Language.of(parts.train)
    save_language(folder_in(run.path), language)
    model, collate = make_model(config, language), make_collate(config, language)
    train_set, valid_set, test_set = make_batches(config, collate, parts)
    task = make_task(config, model, train_set, valid_set)
    settings = training_config(config, train_set.steps_per_epoch)
    optimizer = mapped.optimizer(training.adam(settings))
    learned = learn(task, settings, run, optimizer, curves={"error": "share of wrong answers"})

    figures, params = learned.figures, learned.params
    for prefix, batches in (("", test_set), ("valid_", valid_set)):
        found = training.evaluate(task, params, batches.once())
        found["mean_accuracy"] = float(np.mean([found[page.metric(number)] for number in TASKS]))
        figures |= {f"{prefix}{name}": value for name, value in found.items()}
    figures["failed_tasks"] = float(page.failed(figures))
    pictures.draw_accuracies(figures, config.model, run.path / "tasks.png")
    (run.path / "tasks.md").write_text(page.per_task({"ours": figures}) + "\n", "utf-8")
    answered = answers.answers_of(model, params, language, test_set)
    pictures.write_wrong_answers(answered, run.path / "wrong_answers.txt")
    pictures.draw_attention(answered, run.path)
    finish(run, figures)
    print((run.path / "tasks.md").read_text("utf-8"))


EXPERIMENT = Experiment(__doc__, Config, run, page.PAGE, preset, COMMANDS)
