r"""Seasonal sales: forecasts with peaks that come every year, some of them on a date that moves.

    python -m experiments seasonal_sales                             views of festivals' pages, by day
    python -m experiments seasonal_sales --dataset walmart           sales of departments, by week
    python -m experiments seasonal_sales --dataset m3                the monthly series of M3
    python -m experiments seasonal_sales --model rnn                 a plain RNN; naive, aligned, theta, ets
    python -m experiments seasonal_sales --held-out valid            forecast the validation part
    python -m experiments seasonal_sales pictures                    forecasts, and forget gates at festivals
    python -m experiments seasonal_sales forecast --csv FILE --date COLUMN --value COLUMN [--holidays IN]

Data: `experiments/datasets`, `m3`, `walmart` and `festivals`. The last year or so of each series is the test
part, and what comes before it the validation part.

Model. One network for all series of a data set reads a window of the past of any of them, step by step, then
goes on through the steps of the future. Of each step it gets the value, if it is in the past; the value a
year before, at the same distance from the festival if that moves; and what the calendar says in advance:
season, weekday, the distance to the festivals. A linear layer gives five quantiles of each step of the
future. Values are logarithms, in units of the geometric mean of the end of the past, so that nothing of
the future is in the scale.

Loss. The quantile loss (Koenker and Bassett 1978), as Wen et al. 2017 (arXiv:1711.11053) have it.
``test_smape`` and ``test_mase`` are the errors of the median, as M3 and Hyndman and Koehler 2006 have them;
``coverage_90`` is the share of values within the interval of 90 per cent. Of festivals, the timing and
the amplitude of the peak are scored apart: ``peak_error_days`` and ``test_peak_height_error``. Several
networks with seeds of their own learn side by side; names with ``ensemble`` are of the median of their
forecasts.

Recipe. Adam with a cosine schedule and an exponential moving average of the parameters, on all windows that
end before the part that is held out, for a number of steps that is chosen on the validation part.
Cost and figures: `experiments/results/seasonal_sales`.
"""

import numpy as np

from experiments.common import mapped
from experiments.common.experiment import Experiment
from experiments.common.learning import finish, learn
from experiments.seasonal_sales import baselines, evaluation, pictures
from experiments.seasonal_sales.commands import COMMANDS
from experiments.seasonal_sales.config import Config, check, preset
from experiments.seasonal_sales.model import make_model
from experiments.seasonal_sales.page import PAGE
from experiments.seasonal_sales.panel import Panel, load_panel
from experiments.seasonal_sales.task import forecast, make_task
from lstmjax import training
from lstmjax.training.record import Run


def run(config: Config, run: Run) -> None:
    """Train, forecast what is held out once, and write forecasts, plots and the summary."""
    check(config)
    panel = load_panel(config.dataset, config.held_out, config.data_dir, config.limit)
    quantiles, figures = _forecast(config, panel, run)
    np.savez_compressed(run.path / "forecasts.npz", quantiles=quantiles.astype(np.float32))
    pictures.draw_forecasts(panel, np.median(quantiles, axis=0), run.path / "forecasts.png")
    figures |= evaluation.figures(panel, config.dataset, config.held_out, quantiles)
    if config.with_theta:
        theta = baselines.forecast("theta", panel, *evaluation.held_out(panel))
        both = (np.median(quantiles, axis=0) + theta[0]) / 2
        figures |= {
            f"{config.held_out}_with_theta_{name}": value
            for name, value in evaluation.score(panel, config.dataset, both).items()
        }
    finish(run, figures)


def _forecast(config: Config, panel: Panel, run: Run) -> tuple[np.ndarray, dict[str, float]]:
    """The quantiles of all models, ``[models, rows, horizon, quantiles]``, and figures of the training."""
    rows = evaluation.held_out(panel)
    if config.model in baselines.BASELINES:
        run.mark_tested()
        return baselines.forecast(config.model, panel, *rows), {}
    model = make_model(config.model, panel.features, config.hidden, config.layers, panel.setting.horizon)
    task = make_task(panel, model, config.models, config.batch_size)
    optimizer = mapped.optimizer(training.adam(config.train))
    learned = learn(task, config.train, run, optimizer, curves={"quantile_loss": "quantile loss"})
    return forecast(panel, model, learned.params, *rows), learned.figures


EXPERIMENT = Experiment(__doc__, Config, run, PAGE, preset, COMMANDS)
