r"""Bidirectional context: what does a label need to know of what comes after?

    python -m experiments bidirectional_context                       spoken digits, in both directions
    python -m experiments bidirectional_context --direction past      from what came before
    python -m experiments bidirectional_context --direction future    from what comes after
    python -m experiments bidirectional_context --direction delayed   from the past and the next 8 frames
    python -m experiments bidirectional_context --dataset protein     the states of residues
    python -m experiments bidirectional_context pictures              of the records and the kept networks

Paper. Graves and Schmidhuber 2005 (Neural Networks 18(5-6)): every frame of a sentence has a label, and LSTMs
in one direction, in one with delayed answers, and in both are compared.

Data. ``digits``: the Free Spoken Digit Dataset, as log mel energies every 10 ms; each frame is to say which
digit is spoken. ``protein``: chains of ProMod3's structure database with profiles; each residue is to say
helix, strand or coil. `data.py` has what a frame is; `experiments/datasets` has the splits.

Model. One recurrent layer and a softmax; `model.py` has the equations. All networks have equally many
parameters, to within 1 per cent: hidden sizes follow from that. Five networks with initial parameters of
their own learn side by side, as one program, from the same batches.

Loss. The cross entropy of the label of each frame. ``test_accuracy`` is the share of right frames (Q3 for
proteins), the mean over the networks; ``test_most`` the share of sequences of which most frames are right;
``test_start_5`` the accuracy in frames 5 to 8, ``test_end_1`` that in the last frame, and so on.

Recipe. Adam with a cosine schedule; of each network the parameters with the highest accuracy on the
validation set are tested once. Cost and figures: `experiments/results/bidirectional_context`.
"""

from experiments.bidirectional_context.commands import COMMANDS
from experiments.bidirectional_context.config import Config, preset
from experiments.bidirectional_context.data import load
from experiments.bidirectional_context.model import make_architecture, make_model
from experiments.bidirectional_context.page import PAGE
from experiments.bidirectional_context.task import make_batches, make_task, make_test
from experiments.common import mapped, models
from experiments.common.experiment import Experiment
from experiments.common.learning import finish, learn
from experiments.common.recipes import training_config
from lstmjax import training
from lstmjax.training.record import Run


def run(config: Config, run: Run) -> None:
    """Train, test once, and write the first network and the summary."""
    parts = load(config)
    train = make_batches(config, parts.train, config.buckets)
    valid, test = (make_batches(config, part) for part in (parts.valid, parts.test))
    architecture = make_architecture(config)
    model = make_model(architecture)
    task = make_task(config, model, train, valid)
    settings = training_config(config, train.steps_per_epoch)
    optimizer = mapped.optimizer(training.adam(settings))
    learned = learn(task, settings, run, optimizer, curves={"accuracy": "share of right frames"})
    models.save_first(learned.params, run.path)

    figures = learned.figures | {"hidden": float(architecture.hidden)}
    figures |= mapped.spread(
        {"valid_accuracy": training.evaluate_each(task, learned.params, valid.once())["accuracy"]}
    )
    tested = training.evaluate_each(make_test(model, task), learned.params, test.once())
    figures |= mapped.spread({f"test_{name}": tested.pop(name) for name in ("accuracy", "nll", "most")})
    finish(run, figures | {f"test_{name}": float(values.mean()) for name, values in tested.items()})


EXPERIMENT = Experiment(__doc__, Config, run, PAGE, preset, COMMANDS)
