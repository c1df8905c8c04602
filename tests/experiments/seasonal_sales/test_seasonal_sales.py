"""Seasonal sales: windows see nothing of the future, figures are what they say, a run keeps its promises."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from resuming import assert_finished_run_resumes

from experiments import __main__ as program
from experiments import datasets
from experiments.datasets import DataError
from experiments.datasets.festivals import NAMES
from experiments.datasets.series import Series
from experiments.seasonal_sales import baselines, evaluation, metrics, page
from experiments.seasonal_sales.model import QUANTILES, make_model, quantile_loss
from experiments.seasonal_sales.panel import SETTINGS, Setting, ago, cut, make_panel
from experiments.seasonal_sales.seasonality import is_seasonal, seasonal_part
from experiments.seasonal_sales.task import draw, forecast, make_task
from lstmjax.training.record import Record, Run

SMALL = Setting(
    title="months",
    days=30,
    season=12,
    horizon=6,
    context=24,
    shortest=12,
    level=3,
    steady=0.01,
    held=lambda series, years: {},
    adjust=48,
)


def monthly(length, seed=0, begin="2001-04"):
    rng = np.random.default_rng(seed)
    steps = np.arange(length)
    values = 100 * np.exp(0.3 * np.sin(2 * np.pi * steps / 12) + 0.02 * rng.standard_normal(length))
    return Series(f"series {seed}", np.datetime64(begin) + steps, values)


@pytest.fixture(name="panel")
def _panel():
    return make_panel(SMALL, [monthly(60), monthly(72, 1, "2000-11")], held_out=12)


@pytest.mark.parametrize("name", ["m3", "walmart", "festivals"])
def test_a_window_sees_nothing_of_the_future(name):
    setting = SETTINGS[name]
    unit, length = ("M", 160) if name == "m3" else ("D", 3 * setting.season + setting.horizon)
    dates = np.datetime64("2015-01", unit) + np.arange(length) * (7 if name == "walmart" else 1)
    values = np.random.default_rng(0).uniform(5, 50, length)
    origin = length - setting.horizon
    other = np.where(np.arange(length) < origin, values, 1e6)
    one, same = (
        cut(make_panel(setting, [Series("easter", dates, each)], 0), np.array([0]), np.array([origin]))
        for each in (values, other)
    )
    assert np.array_equal(one.inputs, same.inputs)
    assert np.array_equal(one.unit, same.unit)
    assert not np.array_equal(one.targets, same.targets)
    past = slice(None, setting.context)
    assert (one.inputs[0, past, 1] == 1).all(), "the past is known"
    assert not one.inputs[0, setting.context :, :2].any(), "the future is not"


def test_targets_are_the_future_in_units_of_the_window(panel):
    windows = cut(panel, np.array([1, 0]), np.array([40, 30]))
    for row, (series, origin) in enumerate([(1, 40), (0, 30)]):
        truth = panel.series[series].values[origin : origin + 6]
        scale = windows.scale[row]
        np.testing.assert_allclose(np.exp(scale * windows.targets[row] + windows.unit[row]), truth, rtol=1e-5)
        read = panel.series[series].values[origin - 24 : origin]
        season = scale * windows.inputs[row, :, 4]  # a column of its own
        unit = windows.unit[row, 0] - season[24]
        logs = scale * windows.inputs[row, :24, 0] + season[:24]
        np.testing.assert_allclose(np.exp(logs + unit), read, rtol=1e-5)
        steps = np.abs(np.diff(np.log(read) - season[:24]))
        assert scale == pytest.approx(steps.mean(), rel=1e-5)


def test_before_its_beginning_a_series_is_not_there(panel):
    windows = cut(panel, np.array([0]), np.array([18]))
    assert windows.mask[0].tolist() == [False] * 6 + [True] * 24
    model = make_model("lstm", panel.features, 4, 1, 6)
    params = model.init(jax.random.key(0))
    changed = windows.inputs.copy()
    changed[:, :6] = np.nan
    one, same = (
        np.asarray(model.bind(params)(windows._replace(inputs=x))) for x in (windows.inputs, changed)
    )
    assert np.array_equal(one, same)


def test_training_reads_nothing_that_is_held_out(panel):
    last = [int(panel.ends[series]) - 3 for series in (0, 1)]
    allowed = [cut(panel.seen, np.full(last[row] - 11, row), np.arange(12, last[row] + 1)) for row in (0, 1)]
    found = set()
    for step in range(20):
        windows = draw(panel, 3, 50, 1, step)
        assert windows.inputs.shape == (3, 50, 30, panel.features)
        for one in windows.inputs.reshape(150, 30, -1):
            found |= {
                (row, 12 + int(place))
                for row in (0, 1)
                for place in np.flatnonzero((allowed[row].inputs == one).all(axis=(1, 2)))
            }
    assert found == {(row, origin) for row in (0, 1) for origin in range(12, last[row] + 1)}
    assert not allowed[0].known[-1, 3:].any(), "the end of the horizon is held out"
    other = panel._replace(values=np.where(np.isnan(panel.seen.values), 1e6, panel.values))
    for one, same in zip(draw(panel, 3, 50, 1, 7), draw(other, 3, 50, 1, 7), strict=True):
        assert np.array_equal(one, same)


def test_a_year_ago_is_searched_before_the_origin():
    year_ago = np.maximum(np.arange(40) - 4, -1)[None]
    found = ago(year_ago, np.array([[-2, 1, 9, 10, 13, 18]]), np.array([10]))
    assert found.tolist() == [[-1, -1, 5, 6, 9, 6]]


def test_the_season_is_that_of_the_decomposition():
    logs = np.log(monthly(48).values)
    logs[3] = np.nan
    part = seasonal_part(logs[None], 12)[0]
    differences = {month: [] for month in range(12)}
    for step in range(6, 42):
        around = [logs[step - 6] / 2, *logs[step - 5 : step + 6], logs[step + 6] / 2]
        differences[step % 12].append(logs[step] - sum(around) / 12)
    means = np.array([np.nanmean(each) for each in differences.values()])
    np.testing.assert_allclose(part, means - means.mean(), atol=1e-9)
    assert np.abs(part).max() > 0.2
    noise = np.random.default_rng(3).standard_normal((200, 48))
    assert is_seasonal(noise, 12).mean() < 0.2
    assert not seasonal_part(noise[:, :12], 12).any(), "a year alone shows none"


def test_the_quantile_loss_is_least_at_the_quantile():
    targets = jnp.asarray(np.random.default_rng(0).standard_normal(4001))
    for place, level in enumerate(QUANTILES):
        losses = []
        for guess in np.linspace(-2, 2, 81):
            constant = jnp.zeros((4001, len(QUANTILES))).at[:, place].set(guess)
            losses.append(float(quantile_loss(constant, targets).mean()))
        best = np.linspace(-2, 2, 81)[int(np.argmin(losses))]
        assert abs(best - np.quantile(targets, level)) <= 0.05


def test_errors_are_those_of_a_plain_loop(panel):
    rng = np.random.default_rng(5)
    series, origin = evaluation.held_out(panel)
    assert sorted(zip(series.tolist(), origin.tolist(), strict=True)) == [(0, 48), (0, 54), (1, 60), (1, 66)]
    quantiles = np.sort(rng.uniform(70, 140, (4, 6, len(QUANTILES))), axis=-1)
    found = evaluation.score(panel, "m3", quantiles)
    smape, mase, inside = [], [], []
    for row, (which, begin) in enumerate(zip(series, origin, strict=True)):
        values, errors = panel.series[which].values, []
        for step in range(6):
            true, said = values[begin + step], quantiles[row, step, 2]
            smape.append(100 * abs(true - said) / ((true + said) / 2))
            errors.append(abs(true - said))
            inside.append(quantiles[row, step, 0] <= true <= quantiles[row, step, -1])
        unit = [abs(values[step] - values[step - 12]) for step in range(12, begin)]
        mase.append(np.mean(errors) / np.mean(unit))
    assert found["smape"] == pytest.approx(np.mean(smape))
    assert found["mase"] == pytest.approx(np.mean(mase))
    assert found["coverage_90"] == pytest.approx(np.mean(inside))


def test_a_peak_is_scored_by_its_day_and_by_its_height():
    actual, said = np.ones(50), np.ones(50)
    actual[20], said[22] = 100, 80
    assert metrics.peak(actual, said) == (2, pytest.approx(0.2))
    figures = metrics.smape(np.array([0.0, 3.0]), np.array([0.0, 1.0]))
    assert figures.tolist() == [0, 100]


def test_holiday_weeks_count_five_times():
    setting = SETTINGS["walmart"]._replace(horizon=4)
    dates = np.datetime64("2010-02-05") + 7 * np.arange(143)
    panel = make_panel(setting, [Series("a", dates, np.where(np.arange(143) == 5, 11.0, 10.0))], 56)
    quantiles = np.full((14, 4, len(QUANTILES)), 10.0)
    quantiles[np.arange(14) == 1, 1] = 13  # a week without a holiday
    weeks = dates[-56:].reshape(14, 4)
    place = np.argwhere(weeks == np.datetime64("2011-11-25"))[0]
    quantiles[tuple(place)] = 12
    assert evaluation.score(panel, "walmart", quantiles)["wmae"] == pytest.approx((3 + 5 * 2) / (52 + 4 * 5))


def test_naive_forecasts_are_of_the_year_before():
    setting = SETTINGS["festivals"]._replace(horizon=100)
    dates = np.datetime64("2019-01-01") + np.arange(1300)
    views = np.ones(1300)
    easters = ("2019-04-21", "2020-04-12", "2021-04-04", "2022-04-17")
    views[np.searchsorted(dates, np.array(easters, "datetime64[D]"))] = (50, 60, 70, 80)
    origin = int(np.searchsorted(dates, np.datetime64("2022-02-01")))
    panel = make_panel(setting, [Series("easter", dates, views)], len(dates) - origin)
    truth = views[origin : origin + 100]
    same_date, same_distance = (
        baselines.forecast(name, panel, np.array([0]), np.array([origin]))[0, 0, :, 2]
        for name in ("naive", "aligned")
    )
    assert metrics.peak(truth, same_date)[0] == 13
    assert metrics.peak(truth, same_distance) == (0, pytest.approx(10 / 80))


def test_theta_forecasts_with_its_own_intervals(panel):
    pytest.importorskip("statsforecast")
    found = baselines.forecast("theta", panel, np.array([0, 1]), np.array([48, 60]))
    assert found.shape == (1, 2, 6, len(QUANTILES))
    assert (np.diff(found, axis=-1) > 0).all()
    truth = panel.series[0].values[48:54]
    assert np.abs(found[0, 0, :, 2] / truth - 1).max() < 0.15


def test_networks_are_forecast_as_each_alone(panel):
    model = make_model("gru", panel.features, 5, 2, 6)
    params = make_task(panel, model, 2, 4).init(jax.random.key(0))
    series, origin = np.array([0, 1, 1]), np.array([48, 60, 66])
    both = forecast(panel, model, params, series, origin)
    for number in range(2):
        one = jax.tree.map(lambda leaf, number=number: leaf[number], params)
        windows = cut(panel, series, origin)
        logs = np.sort(np.asarray(model.bind(one)(windows)), axis=-1)
        logs = logs * windows.scale[:, None, None] + windows.unit[..., None]
        np.testing.assert_allclose(both[number], np.exp(logs), rtol=1e-4)


def record(label, model, metrics):
    config = {"dataset": "m3", "model": model, "models": 20}
    return Record("seasonal_sales", label, "python -m ...", config, 1, metrics, "cpu", 60.0, "0" * 40, {})


def test_the_page_has_networks_with_their_range_and_baselines_beside_papers():
    quantiles = np.stack([np.full((1428, 18, len(QUANTILES)), level) for level in (90.0, 100.0, 120.0)])
    series = [
        Series(str(n), np.datetime64("1990-01") + np.arange(48), 80.0 + np.arange(48)) for n in range(1428)
    ]
    panel = make_panel(SETTINGS["m3"], series, 18)
    networks = evaluation.figures(panel, "m3", "test", quantiles) | {"parameters": 3456.0}
    alone = evaluation.figures(panel, "m3", "test", quantiles[:1])
    records = [record("m3-lstm", "lstm", networks), record("m3-theta", "theta", alone)]
    text = page.page(records)
    truth = 110.0 + np.arange(18)
    each = [np.mean(200 * np.abs(truth - said) / (truth + said)) for said in (90, 100, 120)]
    assert f"| {np.mean(each):.2f} ({min(each):.2f} to {max(each):.2f}) |" in text
    assert f"| median of their forecasts | {each[1]:.2f} |" in text
    assert f"| **m3-theta**: {page.MODELS['theta']} | {each[0]:.2f} |" in text
    assert "| Theta, Makridakis and Hibon 2000" in text
    assert "Walmart" not in text, "there is no record of it"
    (row,) = page.results(records)
    assert row.ours == f"{each[1]:.2f}"
    assert "13.85" in row.paper


@pytest.fixture(scope="module", name="quick_run")
def _quick_run(tmp_path_factory):
    try:
        datasets.load("festivals")
    except DataError as error:
        pytest.skip(str(error))
    runs = tmp_path_factory.mktemp("runs")
    arguments = ["seasonal_sales", "--quick", "--runs", str(runs), "--train.checkpoint-every", "10"]
    assert program.main(arguments) == 0
    (path,) = (runs / "seasonal_sales").iterdir()
    return Run.open(path)


def test_a_run_writes_what_it_promises(quick_run, tmp_path):
    figures = quick_run.figures()
    for name in ("smape", "mase", "coverage_90", "peak_error_days", "peak_height_error"):
        own = evaluation.name_of("test", name)
        assert figures[f"{own}_min"] <= figures[own] <= figures[f"{own}_max"]
        assert np.isfinite(figures[f"test_ensemble_{name}"])
    quantiles = np.load(quick_run.path / "forecasts.npz")["quantiles"]
    assert quantiles.shape == (2, 2 * len(NAMES), 365, len(QUANTILES))
    assert (quick_run.path / "forecasts.png").stat().st_size > 1000
    arguments = ["seasonal_sales", "pictures", "--run", str(quick_run.path), "--out", str(tmp_path)]
    assert program.main(arguments) == 0
    for name in ("forecasts.png", "forget_gates.png"):
        assert (tmp_path / name).stat().st_size > 1000
    assert program.main([*arguments, "--network", "2"]) == 1, "there are two"


def test_a_run_is_resumed_to_the_same_figures(quick_run, tmp_path):
    assert_finished_run_resumes(quick_run, tmp_path, 20)


def test_flags_that_do_not_go_together_are_refused(capsys):
    assert program.main(["seasonal_sales", "--dataset", "m3", "--model", "aligned"]) == 1
    assert "dates move" in capsys.readouterr().err
