"""Weekly sales of the departments of 45 Walmart stores, from 5 February 2010 to 26 October 2012.

Source: the competition "Walmart Recruiting: Store Sales Forecasting" of Kaggle (2014), whose rules allow use
for the competition and for research; `train.csv.zip` must be downloaded there by hand, after registration.

Each line of `train.csv` is a store, a department, the last day of a week (a Friday), the sales, and whether
the week has one of four holidays: Super Bowl, Labor Day, Thanksgiving, Christmas. Sales are negative where
more was returned than sold.

A series is a department of a store that has a line for each of the 143 weeks: 2,660 of 3,331, with 99 % of
the sales. The others are left out. Splits: the last 52 weeks, from 4 November 2011, are the test part, with
each of the four holidays; the 13 weeks before them are the validation part, with Labor Day; the training
part is the 78 weeks before these. Thanksgiving and Christmas are only twice in these years, so a validation
part with them would leave none to learn from.
"""

import csv
import io
from pathlib import Path

import numpy as np

from experiments.datasets import Splits
from experiments.datasets.files import DataFile, fetch, member, reading, unarchive
from experiments.datasets.series import Series, day, divide, number

KAGGLE = "https://www.kaggle.com/competitions/walmart-recruiting-store-sales-forecasting/data"
FILE = DataFile(
    "walmart", "train.csv.zip", KAGGLE, "3c0f8ab69c83de7593389c03b39249fc550ea606c2a1cd14b88a5ac71470acbf"
)
HOLIDAY_WEEKS = np.array(
    [
        *("2010-02-12", "2010-09-10", "2010-11-26", "2010-12-31"),
        *("2011-02-11", "2011-09-09", "2011-11-25", "2011-12-30"),
        *("2012-02-10", "2012-09-07"),
    ],
    "datetime64[D]",
)
"""The weeks that the file marks as holidays; the contest's error counts them five times."""
VALID, TEST = 13, 52


def load(data_dir: str | Path | None = None) -> Splits[Series]:
    """Load the complete series; raise DataError if the file is missing, damaged or holds something else."""
    path = fetch(FILE, data_dir)
    files = unarchive(path, "train.csv")
    with reading(path):
        return divide(parse(member(files, "train.csv").decode("utf-8")), VALID, TEST)


def parse(text: str) -> list[Series]:
    """The departments that have a line for every week; raise DataError for a malformed line."""
    sales: dict[tuple[str, str], dict[str, float]] = {}
    known: dict[str, np.datetime64] = {}
    with reading(f"{FILE.name}, train.csv") as place:
        for line, row in enumerate(csv.reader(io.StringIO(text)), start=1):
            if line == 1:
                continue
            place.text = f"line {line}"
            store, department, week, value, _ = row
            own = sales.setdefault((store, department), {})
            if week not in known:
                known[week] = day(week)
            if week in own:
                raise ValueError(f"{week} is there twice")
            own[week] = number(value)
        place.text = ""
        weeks = sorted(known)
        dates = np.array([known[week] for week in weeks], "datetime64[D]")
        if (np.diff(dates).astype(int) != 7).any():
            raise ValueError("its dates are not all weeks from the first to the last")
    return [
        Series(f"store {store}, department {department}", dates, np.array([each[week] for week in weeks]))
        for (store, department), each in sales.items()
        if len(each) == len(weeks)
    ]
