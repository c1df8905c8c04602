r"""Text to speech: durations and vocoder parameters of phones, by bidirectional LSTMs.

    python -m experiments speech_synthesis                      bidirectional LSTMs
    python -m experiments speech_synthesis --model dnn          dense layers with as many parameters
    python -m experiments speech_synthesis --no-dynamics        without differences and MLPG
    python -m experiments speech_synthesis say "hello world"    a WAV, with the kept model
    python -m experiments speech_synthesis digits               spoken digits, heard by speech_recognition
    python -m experiments speech_synthesis align                make the alignment of phones anew

The vocoder and the phones of a text need ``pip install .[speech]``.

Papers. Zen and Sak 2015 (ICASSP) and Fan et al. 2014 (Interspeech) for LSTMs in statistical parametric
synthesis, beside deep neural networks; Zen et al. 2016 (Interspeech) for several frames at a step.

Data. Asterisk's prompts (`experiments/datasets/asterisk.py`): one speaker, 25 minutes, in a split by families
of phrases; phones by eSpeak NG (`text.py`), aligned by an LSTM of our own (`aligner.py`) once and for all.
WORLD's parameters every 5 ms (`vocoder.py`); the first run analyses all prompts, 5 minutes, and caches that.

Model. `model.py`: phones with their neighbours, stress and places, as vectors; a network for their durations;
and one for the parameters of the two frames of each step of 10 ms, which also sees where in its phone a step
is. A DNN has dense layers in place of recurrent ones, with as many parameters.

Loss. Squared errors of standardized features and durations, and the cross entropy of voice (`task.py`).
``test_mcd_db`` is the mel-cepstral distortion without the energy, ``test_f0_rmse_hz``, ``test_vuv_error`` and
``test_bap_db`` are the errors of F0, voice and aperiodicity, all with the durations that were spoken and over
frames that are no pause; ``test_duration_rmse_ms`` is that of phones (`evaluation.py`).

Recipe. Adam with a cosine schedule, dropout, an average of the parameters; those with the lowest loss on the
validation set are tested once. Cost and figures: `experiments/results/speech_synthesis`.
"""

from experiments.common.experiment import Experiment
from experiments.common.learning import finish, learn
from experiments.common.models import folder_in
from experiments.common.recipes import training_config
from experiments.speech_synthesis import report
from experiments.speech_synthesis.commands import COMMANDS
from experiments.speech_synthesis.config import Config, preset
from experiments.speech_synthesis.data import BUNDLE, Statistics, load, width
from experiments.speech_synthesis.evaluation import evaluate
from experiments.speech_synthesis.model import make_model
from experiments.speech_synthesis.page import PAGE
from experiments.speech_synthesis.task import STATISTICS, Saved, make_batches, make_task
from lstmjax.training.record import Run


def run(config: Config, run: Run) -> None:
    """Train, test once, and write the model, sounds, pictures and the summary."""
    parts = load(config)
    statistics = Statistics.of(parts.train)
    statistics.write(folder_in(run.path) / STATISTICS)
    train = make_batches(config, parts.train, statistics, config.buckets)
    valid = make_batches(config, parts.valid, statistics)
    model = make_model(config, BUNDLE * width(config.dynamics))
    task = make_task(config, statistics, model, train, valid)
    settings = training_config(config, train.steps_per_epoch)
    learned = learn(task, settings, run, curves={"loss": "loss"})

    saved = Saved(config, model, learned.params, statistics)
    figures = learned.figures
    for name, phrases in (("valid", parts.valid), ("test", parts.test)):
        figures |= {f"{name}_{metric}": value for metric, value in evaluate(saved, phrases).items()}
    report.write(saved, parts.test, run.path)
    finish(run, figures)


EXPERIMENT = Experiment(__doc__, Config, run, PAGE, preset, COMMANDS)
