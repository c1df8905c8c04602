"""The results page: for each data set, the metrics of the records beside each other and those of papers."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from experiments.common.experiment import Page
from experiments.common.models import RESULTS
from experiments.common.tables import Row, by_label, commands, minutes, spread_of, table
from experiments.seasonal_sales.evaluation import name_of
from lstmjax.training.record import Record

MODELS = {
    "lstm": "LSTMs",
    "gru": "GRUs",
    "rnn": "plain RNNs",
    "naive": "the year before, same date",
    "aligned": "the year before, same distance from the festival",
    "theta": "dynamic optimised Theta (statsforecast)",
    "ets": "exponential smoothing, AICc (statsforecast)",
}
"""Titles of the models of the records."""


class Group(NamedTuple):
    """How a data set is presented."""

    title: str
    text: str
    columns: Mapping[str, tuple[str, int, float]]
    """For each metric its title, its decimals, and what it is multiplied by."""


_ERRORS = {
    "smape": ("sMAPE, %", 2, 1.0),
    "mase": ("MASE", 3, 1.0),
    "coverage_90": ("in 90 % interval, %", 1, 100.0),
}

GROUPS = {
    "festivals": Group(
        "Views of festivals' pages, by day",
        "A year of days is forecast at once, twice: from November 2022 to November 2023, and the year "
        "after. Timing of the festival follows from the calendar and its amplitude does not: they are "
        "scored apart. `peak, days` is the mean distance from the forecast peak to the real one, and "
        "`height, %` the mean relative error of the height of the forecast peak. The same day a year "
        "before misses the festivals that move; whatever is told the distance to the festival places the "
        "peak on its day, the seasonal naive forecast that counts from the festival as well as the "
        "networks. How high the peak will be, no calendar says: Chinese New Year had more than five times "
        "the views of the year before in 2023. Here networks are nearer than last year's height. Their "
        "intervals are too narrow: four pages and six years are little to learn how much a year may "
        "differ from the one before. The networks were run twice on the test part: the first had the "
        "arithmetic mean of the year as their unit, which the peak dominates, and the geometric mean was "
        "taken since it lowered the error on the validation part.",
        _ERRORS | {"peak_error_days": ("peak, days", 2, 1.0), "peak_height_error": ("height, %", 0, 100.0)},
    ),
    "walmart": Group(
        "Sales of Walmart's departments, by week",
        "13 weeks are forecast at once, four times: November 2011 to October 2012, with Super Bowl, Labor "
        "Day, Thanksgiving and Christmas, of which networks know the dates. Thanksgiving and Christmas "
        "come once in what may be learnt from, so that little is known about them but the height of the "
        "one year before; the validation part, the 13 weeks before the test part, has Labor Day alone. "
        "`weighted error` is that of the contest, in dollars a week, where weeks of holidays count five "
        "times; its test weeks were others, so no figure of it stands here. What networks gain, they gain "
        "in per cent: in dollars, where large departments count most, they are no better than last year's "
        "sales, or hardly. As for the festivals, the networks were run twice.",
        _ERRORS | {"wmae": ("weighted error", 0, 1.0)},
    ),
    "m3": Group(
        "The monthly series of M3",
        "The 18 months of the competition, 1,428 series. Networks read 36 months, from which the season "
        "is taken out where a test finds one, as Theta does: so short and noisy are most of these series "
        "that what is left for a network is how far to follow the last values. Alone they are below Theta "
        "in sMAPE and above it in MASE; together they are below it in both. The published figure is of "
        "the same months.",
        _ERRORS,
    ),
}


class Paper(NamedTuple):
    """A published sMAPE of the monthly series of M3."""

    model: str
    smape: float
    source: str


PAPERS = (Paper("Theta", 13.85, "Makridakis and Hibon 2000, as autobox.com quotes it"),)
"""Of the International Journal of Forecasting 16; Theta was among the best of the competition."""

PICTURES = {
    "forecasts.png": "Median and intervals of 50 and 90 per cent of the first year, after the year that was "
    "read. The scale is logarithmic.",
    "forget_gates.png": "The forget gates of one network in the days around the festival: thin lines are "
    "units, the thick one is their mean. A gate of 1 keeps the cell state, one of 0 forgets it. Towards the "
    "festival the units part: some close, and by its day have let go of what led up to it, others open and "
    "keep all that they have; afterwards they come back.",
}
"""Pictures of the kept networks, with their explanations: `python -m experiments seasonal_sales pictures`."""


def _dataset(record: Record) -> str:
    name: str = record.config["dataset"]
    return name


def _rows(records: Sequence[Record], group: Group) -> list[list[str]]:
    rows = []
    for label, chosen in by_label(records).items():
        record = chosen[0]
        title = f"**{label}**: {MODELS[record.config['model']]}"
        networks = str(record.config["models"]) if "parameters" in record.metrics else ""
        parameters = f"{record.metrics['parameters']:,.0f}" if networks else ""
        single = [_figure(record, name, *shown) for name, (_, *shown) in group.columns.items()]
        rows.append([title, *single, networks, parameters, minutes(chosen)])
        for kind, text in (
            ("ensemble", "median of their forecasts"),
            ("with_theta", "mean of that and Theta's"),
        ):
            if f"test_{kind}_smape" in record.metrics:
                figures = [
                    _number(record, f"{kind}_{name}", *shown) for name, (_, *shown) in group.columns.items()
                ]
                rows.append([text, *figures, "", "", ""])
    return rows


def _figure(record: Record, name: str, digits: float, scale: float) -> str:
    """Mean and range over networks, or the one figure of a baseline."""
    if "parameters" in record.metrics:
        return spread_of(record, name_of("test", name), int(digits), scale)
    return _number(record, name, digits, scale)


def _number(record: Record, name: str, digits: float, scale: float) -> str:
    return f"{scale * record.metrics[name_of('test', name)]:.{int(digits)}f}"


def page(records: Sequence[Record]) -> str:
    """The page of all records."""
    parts = [
        "# Seasonal sales",
        "A peak that comes every year, some of them on a date that moves. What must be remembered is a "
        "year old, and most of what came since is of no use for it: a seasonal memory needs what to "
        "forget and what to keep. One network learns from all series of a data set and is given what the "
        "calendar says in advance; baselines see one series each. Rows of networks have the mean and the "
        "range over networks with seeds of their own, which learn side by side, and below them the "
        "figures of the median of their forecasts.",
        "sMAPE and MASE are of the median forecast, per series as M3 has them: MASE 1 is the error of the "
        "seasonal naive forecast in the past. Recipes (size, rate, steps, length of the past, unit of the "
        "window) were chosen on the validation part, for the LSTM, in a few trials of some minutes; the "
        "plain RNN has about as many parameters, a lower rate, and no trials of its own. Networks are "
        "trained on all that comes before the test part, the validation part included, for as many steps "
        "as the trials, and a run forecasts the test part once. Minutes are of two cores that much other "
        "work shared.",
    ]
    for name, group in GROUPS.items():
        own = [record for record in records if _dataset(record) == name]
        if own:
            header = ["model", *(title for title, *_ in group.columns.values())]
            rows = [[*header, "networks", "parameters each", "minutes"], *_rows(own, group)]
            if name == "m3":
                blank = [""] * (len(group.columns) + 2)
                rows += [[f"{each.model}, {each.source}", f"{each.smape:.2f}", *blank] for each in PAPERS]
            parts += [f"## {group.title}", group.text, table(rows)]
            parts += _pictures() if name == "festivals" else []
            parts.append(commands(own))
    parts.append("Built by `make pages` from the records in this folder.")
    return "\n\n".join(parts) + "\n"


def _pictures() -> list[str]:
    folder = RESULTS / "seasonal_sales" / "pictures"
    return [
        f"![{name.removesuffix('.png').replace('_', ' ')}](pictures/{name})\n\n{text}"
        for name, text in PICTURES.items()
        if (folder / name).exists()
    ]


def results(records: Sequence[Record]) -> list[Row]:
    """Rows of the README's table of results: the median of the LSTMs, beside the best baseline."""
    rows = []
    for label, chosen in by_label(records).items():
        record, name = chosen[0], _dataset(chosen[0])
        if record.config["model"] == "lstm":
            alone = [each for each in records if _dataset(each) == name and "parameters" not in each.metrics]
            best = sorted(alone, key=lambda each: each.metrics["test_smape"])[:1]
            papers = [f"{each.model} {each.smape:.2f} ({each.source})" for each in PAPERS if name == "m3"]
            papers += [f"{each.label}, ours: {_number(each, 'smape', 2, 1.0)}" for each in best]
            ours = _number(record, "ensemble_smape", 2, 1.0)
            rows.append(
                Row(GROUPS[name].title, label, "sMAPE of the median, %", "; ".join(papers), ours, chosen)
            )
    return rows


PAGE = Page(page, results)
