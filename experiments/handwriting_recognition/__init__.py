r"""Handwriting: the text that a pen wrote, from its path.

    python -m experiments handwriting_recognition                    words of UNIPEN
    python -m experiments handwriting_recognition --task lowercase   single letters
    python -m experiments handwriting_recognition --task digits      single digits
    python -m experiments handwriting_recognition --task pendigits   those of PenDigits, in minutes
    python -m experiments handwriting_recognition --task synthesis   writing in place of reading
    python -m experiments handwriting_recognition recognise FILE     of InkML, UNIPEN or JSON strokes
    python -m experiments handwriting_recognition recognise FILE --adapt LABELLED    after fine-tuning
    python -m experiments handwriting_recognition language           the test with a beam search and lists
    python -m experiments handwriting_recognition adaptation         the test before and after fine-tuning
    python -m experiments handwriting_recognition pictures           of words that were misread
    python -m experiments handwriting_recognition write "any words"  with the kept network, as SVG and PNG
    python -m experiments handwriting_recognition closed-loop        what one network writes, the other reads

Paper. Graves, Liwicki, Fernandez, Bertolami, Bunke and Schmidhuber 2009 (IEEE TPAMI 31(5)), who read lines of
text, of a data set that must be asked for. Writing: Graves 2013 (arXiv:1308.0850).

Data. `unipen.py` and `pendigits.py` in `experiments/datasets`: no writer of a test split is in another split.
`normalisation.py` has slope, size and resampling, `augmentation.py` the distortions of training inks.

Model. `model.py` has the equations: bidirectional LSTMs over frames of two points, which are halved after the
first layer. Letters of a word are labels of frames, with connectionist temporal classification (CTC); of a
single character the mean of the last outputs is read out. `writing/model.py` has the network that writes:
LSTMs with a window over the text, and a mixture density of the next step of the pen.

Loss. The negative log-likelihood of the text. ``test_cer`` is the edit distance of what is read to the text,
by characters, upper and lower case being different; ``test_wer`` the share of words with any error;
``test_cer_unseen`` and ``test_wer_unseen`` are of the words that no writer of the training split has written.
``test_accuracy`` is the share of single characters that are right. ``test_nll`` of synthesis is the negative
log-likelihood of a word, of steps in letters of ink (see `writing/path.py`), ``test_nll_per_point`` that of a
point of it, ``test_primed_nll`` that of a word after another of its writer, ``test_second_nll`` without it.

Recipe. Adam with a cosine schedule, distorted inks, dropout, an exponential moving average of the parameters;
those with the lowest error rate on the validation split are tested once.
Cost and figures: `experiments/results/handwriting_recognition`.
"""

import dataclasses

from experiments.common.experiment import Experiment
from experiments.common.learning import finish, learn
from experiments.common.recipes import training_config
from experiments.handwriting_recognition import report
from experiments.handwriting_recognition.commands import COMMANDS
from experiments.handwriting_recognition.config import Config, preset
from experiments.handwriting_recognition.data import EVALUATION_BUCKETS, SOURCES, load, make_batches
from experiments.handwriting_recognition.page import PAGE
from experiments.handwriting_recognition.reading import read
from experiments.handwriting_recognition.task import make_architecture, make_model, make_task
from experiments.handwriting_recognition.writing.commands import COMMANDS as WRITING
from lstmjax.training.record import Run


def run(config: Config, run: Run, steps: int | None = None) -> None:
    """Train, test once, and write the network, what was read and the summary; stop after so many steps."""
    if config.task == "synthesis":
        from experiments.handwriting_recognition.writing.run import run as write  # noqa: PLC0415

        return write(config, run)
    source, parts = SOURCES[config.task], load(config)
    train = make_batches(config, parts.train, config.buckets)
    few = min(config.buckets, EVALUATION_BUCKETS)
    valid, test = (make_batches(config, part, few) for part in parts[1:])
    figures = report.write_infeasible(source, parts, (train, valid, test), run.path)
    model = make_model(make_architecture(config))
    task = make_task(config, model, train, valid)
    settings = training_config(config, train.steps_per_epoch)
    if steps is not None:
        settings = dataclasses.replace(settings, steps=steps)
    learned = learn(task, settings, run, curves={"cer": "character error rate", "nll": "nats of an ink"})

    figures |= learned.figures
    texts = read(source, model, learned.params, valid)
    figures |= report.figures("valid", source, parts.valid, texts)
    texts = read(source, model, learned.params, test)
    seen = {ink.label for ink in parts.train}
    figures |= report.figures("test", source, parts.test, texts, seen)
    report.write_texts(parts.test, texts, run.path)
    finish(run, figures)


EXPERIMENT = Experiment(__doc__, Config, run, PAGE, preset, COMMANDS | WRITING)
