"""`python -m experiments`: list the experiments, run one, keep a record of a run, build the pages.

python -m experiments                                   list the experiments
python -m experiments NAME --help                       list the flags of one
python -m experiments NAME [--quick] [flags]            run it
python -m experiments NAME [flags] --show-config        print all flags of such a run
python -m experiments NAME --train.seeds 0:8 [flags]    run it with several random seeds, as one program
python -m experiments sweep NAME --set hidden=64,128    run it with several settings, see docs/sweeps.md
python -m experiments record RUN --label LABEL          keep a run's metrics in experiments/results
python -m experiments keep NAME LABEL FOLDER            keep pictures, sounds and texts with a label
python -m experiments models                            list the models that are kept with the records
python -m experiments pages [--check]                   build the tables of README and result pages
python -m experiments report [--open]                   one page of all results, with pictures and sounds
python -m experiments show RUN                          print what a run has: figures, curves, samples
python -m experiments compare RUN RUN                   print the curves of several runs together
"""

import ctypes
import difflib
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from experiments.common import signals

if TYPE_CHECKING:
    from experiments.common.experiment import Experiment

EXPERIMENTS = {
    "speed": "the layer against Flax, Haiku, Equinox, Keras and PyTorch, side by side",
    "language_modeling": "the next word of an article, the next letter of a play",
    "machine_translation": "descriptions of photographs into German, with attention and beam search",
    "long_term_memory": "an LSTM against a plain RNN on the problems of 1997: adding, order, grammars",
    "gate_ablation": "what an LSTM needs: gates, activations and peepholes left out, one at a time",
    "bidirectional_context": "what a label needs of what comes after: LSTMs in one direction and in both",
    "image_captioning": "what is to be seen in a picture, in a sentence: attention to its regions",
    "question_answering": "what follows from a story: the twenty tasks of bAbI",
    "protein_structure": "the secondary structure of proteins, residue by residue",
    "speech_recognition": "spoken digits, alone and in strings: CTC and attention",
    "video_to_text": "what happens in a video, as a sentence: moving digits, with S2VT",
    "seasonal_sales": "forecasts of sales and views, with peaks on dates that move",
    "handwriting_recognition": "the text that a pen wrote, from its path",
    "speech_synthesis": "text to speech: durations and vocoder parameters, from one speaker's 25 minutes",
    "image_generation": "digits that are drawn glimpse by glimpse, with and without attention",
    "polyphonic_music": "the next frame of four-part chorales, folk tunes and piano music",
}
"""A one-line summary of each experiment; the package of the same name has the details."""

COMMANDS = ("record", "keep", "models", "pages", "report", "show", "compare")
"""The commands on runs and records, see `experiments.commands`."""


def main(arguments: Sequence[str]) -> int:
    """Execute the command of the arguments; returns the exit status."""
    if not arguments or arguments[0] in ("-h", "--help", "list"):
        print(__doc__)
        width = max(map(len, EXPERIMENTS))
        for name, summary in EXPERIMENTS.items():
            print(f"    {name:<{width}}  {summary}")
        return 0
    name, *rest = arguments
    if name == "sweep" and rest and not rest[0].startswith("-"):
        name, rest = rest[0], [name, *rest[1:]]
    if name == "sweep":
        print("sweep NAME [--help]: the name of an experiment comes first.", file=sys.stderr)
        return 2
    if name not in EXPERIMENTS and name not in COMMANDS:
        close = difflib.get_close_matches(name, [*EXPERIMENTS, *COMMANDS, "sweep"], n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        print(f"There is no experiment {name!r}.{hint} `python -m experiments` lists them.", file=sys.stderr)
        return 2
    return _do(name, rest)


def load(name: str) -> "Experiment":
    """The experiment that a package declares."""
    declared: Experiment = importlib.import_module(f"experiments.{name}").EXPERIMENT
    return declared


def _do(name: str, arguments: Sequence[str]) -> int:
    """Run a command, and report how a signal ended it; returns the exit status."""
    try:
        return _report(name, arguments)
    except KeyboardInterrupt as error:
        return _interrupted(name, error)


def _report(name: str, arguments: Sequence[str]) -> int:
    """Run a command, and report expected errors in one line; returns the exit status."""
    from experiments.common import command_line  # noqa: PLC0415 (keeps the list quick)
    from experiments.datasets import DataError  # noqa: PLC0415
    from lstmjax.training import NonFiniteError  # noqa: PLC0415

    try:
        _dispatch(name, arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # what reads standard output has ended, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        print(f"{name}: {error.filename or 'a file'}: {error.strerror or error}", file=sys.stderr)
        return 1
    except (DataError, *command_line.ERRORS) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 3 if isinstance(error, NonFiniteError) else 1
    return 0


def _dispatch(name: str, arguments: Sequence[str]) -> None:
    from experiments.common import command_line  # noqa: PLC0415

    if name in COMMANDS:
        from experiments import commands  # noqa: PLC0415

        signals.imported()
        commands.main(name, arguments)
        return
    from experiments.common import sweep  # noqa: PLC0415

    experiment = load(name)
    signals.imported()
    if arguments and arguments[0] in experiment.commands:
        experiment.commands[arguments[0]](arguments[1:])
    elif sweep.is_asked_for(arguments):
        sweep.main(name, experiment, arguments)
    elif command_line.SHOW_CONFIG in arguments:
        command_line.show_config(name, experiment, arguments)
    else:
        command_line.main(name, experiment, arguments)


def _interrupted(name: str, error: KeyboardInterrupt) -> int:
    """Report what a signal ended; returns the exit status that shells give it."""
    print(
        ". ".join([f"{name}: {str(error) or 'interrupted'}", *getattr(error, "__notes__", ())]),
        file=sys.stderr,
    )
    return 128 + int(getattr(error, "number", signal.SIGINT))


def _share_heap() -> None:
    """Let all threads have one heap, as `keep_memory` of lstmjax.training wants it.

    glibc heeds this only as long as no thread has a heap of its own, as the one that waits for signals would.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform.startswith("linux") else None
    if mallopt is not None:
        mallopt(-8, 1)  # M_ARENA_MAX


if __name__ == "__main__":
    _share_heap()
    signals.install()
    sys.exit(main(sys.argv[1:]))
