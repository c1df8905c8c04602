r"""Long-term memory: an LSTM against a plain RNN and others, on the problems of 1997 and after.

    python -m experiments long_term_memory                                    the adding problem, T = 100
    python -m experiments long_term_memory --cell rnn                         the same with a plain RNN
    python -m experiments long_term_memory --problem temporal-order-3         which came first?
    python -m experiments long_term_memory --problem continual-reber --cell lstm-1997    without a forget gate
    python -m experiments long_term_memory --length 400 --chrono 400          gate biases for a long memory
    python -m experiments long_term_memory --problem timing --cell peephole   intervals of ten or eleven steps
    python -m experiments long_term_memory gradients                          how far the gradient reaches
    python -m experiments long_term_memory traces --run RUN                   what gates and cell state do
    python -m experiments long_term_memory streams                            Reber strings without end

Papers. Hochreiter and Schmidhuber 1997 (Neural Computation 9(8)) for most of the problems; Gers,
Schmidhuber and Cummins 2000 (Neural Computation 12(10)) for streams without ends; Gers and Schmidhuber
2001 (IEEE Trans. Neural Networks 12(6)) for counting; Gers, Schraudolph and Schmidhuber 2002 (JMLR 3)
for timing; Arjovsky, Shah and Bengio 2016 (arXiv:1511.06464) for the copy memory. `problems.py` has
their definitions.

Model. One recurrent cell and a linear layer that reads its outputs. Networks of other cells have about as
many parameters as the LSTM. Five networks with seeds of their own learn side by side, as one program.

Criterion. That of the paper, such as "the 2,000 most recent sequences were processed correctly", by sequences
that are all new, each before it is trained on. Where a paper looks at a fixed test set, as many of the most
recent sequences take its place. A network that meets the criterion is left as it is; training ends when all
have, or after ``--train.steps``. ``sequences_to_solve`` is the median over the networks, ``success_rate`` the
share of those that met the criterion, and ``test_wrong`` the share of 2,560 further sequences that they get
wrong.

Recipe. Adam on batches of 20 sequences, gradients clipped by their norm; the papers had plain gradient
descent after every sequence. Cost and figures: `experiments/results/long_term_memory`.
"""

from experiments.common import mapped
from experiments.common.experiment import Experiment
from experiments.common.learning import finish, learn
from experiments.long_term_memory import pictures
from experiments.long_term_memory.commands import COMMANDS
from experiments.long_term_memory.config import Config, preset
from experiments.long_term_memory.model import make_model, make_problem
from experiments.long_term_memory.page import PAGE
from experiments.long_term_memory.task import figures, make_task, resting, test, test_batches
from lstmjax import training
from lstmjax.training.record import Run


def run(config: Config, run: Run) -> None:
    """Train until all networks have solved the problem, test them, and write models, pictures and summary."""
    problem = make_problem(config)
    model = make_model(config, problem)
    optimizer = mapped.optimizer(resting(training.adam(config.train)))
    curves = {"wrong": "share of wrong sequences", "solved": "share of networks that solved it"}
    learned = learn(make_task(config, problem, model), config.train, run, optimizer, curves=curves)
    tested = test(problem, model, learned.params, test_batches(config, problem))
    pictures.draw_run(config, learned.params, learned.fit.state.carry, run.path)
    finish(run, learned.figures | figures(learned.fit.state.carry, tested))


EXPERIMENT = Experiment(__doc__, Config, run, PAGE, preset, COMMANDS)
