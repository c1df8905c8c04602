"""The subcommands: ask, speed."""

from collections.abc import Sequence
from pathlib import Path

import jax
import tyro

from experiments import datasets
from experiments.common import mapped, models, terminal
from experiments.common.flags import Count, Number
from experiments.common.recipes import training_config
from experiments.datasets.babi import TASKS, Question
from experiments.question_answering import answers, asking, side_by_side
from experiments.question_answering.config import Config, preset
from experiments.question_answering.data import Language
from experiments.question_answering.pictures import Answered
from experiments.question_answering.side_by_side import SideBySide
from experiments.question_answering.task import load_model, make_batches, make_collate, make_model, make_task
from lstmjax import training
from lstmjax.training import parallel


def ask(arguments: Sequence[str]) -> None:
    """``ask``: answer questions about a story that is entered line by line."""

    def answer(source: models.Chosen, file: Path | None = None, task: Number = 0) -> None:
        """Answer questions about a story. A line that ends with ? is a question; an empty one begins anew.

        Args:
            source: the model; by default the kept attentive reader.
            file: file with the lines; by default standard input.
            task: the task whose reader answers, for models with one reader per task.
        """
        folder = source.folder("question_answering", default="attention-1k")
        saved = load_model(folder)
        single = saved.config.readers == "single"
        if single and task not in TASKS:
            raise training.ConfigError(
                f"{folder} has a reader for each task: say which with --task 1 to {len(TASKS)}."
            )
        params = jax.tree.map(lambda leaf: leaf[task - 1 if single else 0][None], saved.params)

        def read(question: Question) -> Answered:
            collate = make_collate(saved.config, saved.language)
            length = collate.length(question)
            batches = SideBySide([[question]], collate.length, collate, 1, [(length,)], ((0,),))
            (answered,) = answers.answers_of(saved.model, params, saved.language, batches)
            return answered

        for said in asking.converse(terminal.lines_of(file), saved.language, read):
            print(said, flush=True)

    tyro.cli(answer, prog="python -m experiments question_answering ask", args=arguments)


def speed(arguments: Sequence[str]) -> None:
    """``speed --groups 20 3``: time a training step of the twenty LSTMs, run one by one and by vmap."""

    def measure(
        groups: tuple[Count, ...] = (20, 3, 1), steps: Count = 12, data_dir: Path | None = None
    ) -> None:
        """Time training steps of the LSTMs of single tasks, in different numbers of groups.

        Args:
            groups: numbers of groups to compare; the readers of a group are run by one vmap.
            steps: timed steps for each number of groups.
            data_dir: folder of the data sets.
        """
        parallel.keep_memory()
        parts = datasets.load("babi-1k", data_dir)
        language = Language.of(parts.train)
        for number in groups:
            config = preset(Config(model="lstm", groups=number))
            model, collate = make_model(config, language), make_collate(config, language)
            train_set, valid_set, _ = make_batches(config, collate, parts)
            task = make_task(config, model, train_set, valid_set)
            settings = training_config(config, train_set.steps_per_epoch)
            optimizer = mapped.optimizer(training.adam(settings))
            step, state = (
                training.make_step(task, settings, optimizer),
                training.init_state(task, settings, optimizer),
            )
            for longest, times in side_by_side.time_steps(step, state, train_set.at, steps).items():
                first, *later = times
                print(
                    f"{number:2} groups, up to {longest:4} words: {min(later, default=first):6.3f} seconds a "
                    f"step, first step {first:5.1f}",
                    flush=True,
                )

    tyro.cli(measure, prog="python -m experiments question_answering speed", args=arguments)


COMMANDS = {"ask": ask, "speed": speed}
"""The subcommands `python -m experiments question_answering NAME`."""
