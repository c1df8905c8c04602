"""`python -m experiments`: list the experiments, run one, keep a record of a run, build the pages.

python -m experiments                                   list the experiments
python -m experiments NAME --help                       list the flags of one
python -m experiments NAME [--quick] [flags]            run it
python -m experiments record RUN --label LABEL          keep a run's metrics in experiments/results
python -m experiments models                            list the models that are kept with the records
python -m experiments pages [--check]                   build the tables of README and result pages
"""

import difflib
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

if TYPE_CHECKING:
    from experiments.common.experiment import Experiment

EXPERIMENTS = {
    "speed": "the layer against Flax, Haiku, Equinox, Keras and PyTorch, side by side",
    "language_modeling": "the next word of an article, the next letter of a play",
    "machine_translation": "descriptions of photographs into German, with attention and beam search",
    "long_term_memory": "an LSTM against a plain RNN on the problems of 1997: adding, order, grammars",
    "bidirectional_context": "what a label needs of what comes after: LSTMs in one direction and in both",
    "question_answering": "what follows from a story: the twenty tasks of bAbI",
    "protein_structure": "the secondary structure of proteins, residue by residue",
    "polyphonic_music": "the next frame of four-part chorales, folk tunes and piano music",
}
"""A one-line summary of each experiment; the package of the same name has the details."""


def main(arguments: Sequence[str]) -> int:
    """Execute the command of the arguments; returns the exit status."""
    if not arguments or arguments[0] in ("-h", "--help", "list"):
        print(__doc__)
        width = max(map(len, EXPERIMENTS))
        for name, summary in EXPERIMENTS.items():
            print(f"    {name:<{width}}  {summary}")
        return 0
    name, *rest = arguments
    if name not in EXPERIMENTS and name not in COMMANDS:
        close = difflib.get_close_matches(name, [*EXPERIMENTS, *COMMANDS], n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        print(f"There is no experiment {name!r}.{hint} `python -m experiments` lists them.", file=sys.stderr)
        return 2
    return _do(name, rest)


def load(name: str) -> "Experiment":
    """The experiment that a package declares."""
    declared: Experiment = importlib.import_module(f"experiments.{name}").EXPERIMENT
    return declared


def _do(name: str, arguments: Sequence[str]) -> int:
    from experiments.common import command_line  # noqa: PLC0415 (keeps the list quick)
    from experiments.datasets import DataError  # noqa: PLC0415

    try:
        if name in COMMANDS:
            COMMANDS[name](arguments)
        else:
            experiment = load(name)
            if arguments and arguments[0] in experiment.commands:
                experiment.commands[arguments[0]](arguments[1:])
            else:
                command_line.main(name, experiment, arguments)
    except KeyboardInterrupt:
        print(f"{name}: interrupted; --resume with its run folder goes on.", file=sys.stderr)
        return 130
    except (DataError, *command_line.ERRORS) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    return 0


def _record(arguments: Sequence[str]) -> None:
    from experiments.common import models, pages  # noqa: PLC0415
    from lstmjax.training import record  # noqa: PLC0415

    def keep(
        run: Annotated[Path, tyro.conf.Positional],
        label: str,
        replace: bool = False,
        keep_model: bool = False,
    ) -> None:
        """Keep a finished run's metrics as experiments/results/<experiment>/<label>-seed<N>.json.

        Args:
            run: the run's folder.
            label: name of the row in tables: lower case letters, digits and hyphens.
            replace: overwrite the record of another run with the same label and seed.
            keep_model: also keep its model, in experiments/results/<experiment>/models/<label>.
        """
        config = record.Run.open(run).config
        if config.get("quick") or config.get("limit"):
            raise record.RecordError(f"{run} was quick or limited: its figures are of no use.")
        pages.check_commits([record.record_of(run, label)])
        path = record.keep(run, label, models.RESULTS, replace=replace)
        print(path)
        if keep_model:
            about = models.keep(run, record.read_record(path)).model
            print(f"its model: {about['bytes']:,} bytes, {about['dtype']}")

    tyro.cli(keep, prog="python -m experiments record", args=arguments)


def _models(arguments: Sequence[str]) -> None:
    from experiments.common import models  # noqa: PLC0415
    from lstmjax.training import record  # noqa: PLC0415

    def show() -> None:
        """List the models that are kept with the records."""
        for each in record.load_records(models.RESULTS):
            if each.model:
                about = f"{each.model['dtype']}, {each.model['bytes']:,} bytes"
                print(f"{each.experiment:<20} {each.label:<20} seed {each.seed}, {about}")

    tyro.cli(show, prog="python -m experiments models", args=arguments)


def _pages(arguments: Sequence[str]) -> None:
    from experiments.common import pages  # noqa: PLC0415

    def build(check: bool = False) -> None:
        """Build the tables of the README and the result pages from experiments/results.

        Args:
            check: write nothing; fail if a file is out of date.
        """
        stale = pages.build({name: load(name) for name in EXPERIMENTS}, check=check)
        if check and stale:
            sys.exit(f"not up to date: {', '.join(map(str, stale))}. Run `make pages`.")

    tyro.cli(build, prog="python -m experiments pages", args=arguments)


COMMANDS = {"record": _record, "models": _models, "pages": _pages}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
