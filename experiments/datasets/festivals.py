"""Daily views of the pages of four festivals in the English Wikipedia, January 2017 to November 2024.

Source: `holidays.zip` of AutoTS (github.com/winedarksea/AutoTS, MIT licence), page views as Wikimedia
publishes them (CC0). If the folder has `festivals.csv`, the columns of the festivals alone, that is read
instead. Christmas has a fixed date; Thanksgiving moves by up to six days, Easter and Chinese New Year by up
to a month.

Splits. The last two times 365 days, from 10 November 2022, are the test part, and the 365 before them the
validation part. Each of these years has one peak of each festival.
"""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.datasets import Splits
from experiments.datasets.files import (
    DataFile,
    data_folder,
    fetch,
    member,
    read_text,
    reading,
    unarchive,
)
from experiments.datasets.series import Series, day, divide, number

_COMMIT = "1d456fb2e2bcb332197344181d7caeae37269a84"
_URL = f"https://raw.githubusercontent.com/winedarksea/AutoTS/{_COMMIT}/autots/datasets/data/holidays.zip"
PUBLISHED = DataFile(
    "festivals", "holidays.zip", _URL, "feed9c8779dd6a6376af24b0645f1fcc6e7c9c0e64b481dab98b1c920876e31f"
)
TABLE = DataFile(
    "festivals",
    "festivals.csv",
    _URL,
    "6ef14a81b7dcdb44a7d49582088ad99dd2cd6fe61ec36087e982b77b6639503b",
)
"""The columns of the festivals alone, which are preferred if present."""

NAMES = ("easter", "christmas", "chinese_new_year", "thanksgiving")
WIKIPEDIA = ("wiki_Easter", "wiki_Christmas", "wiki_Chinese_New_Year", "wiki_Thanksgiving")
YEAR = 365


def load(data_dir: str | Path | None = None) -> Splits[Series]:
    """Load the views; raise DataError if the file is missing, damaged or holds something else."""
    if (data_folder(data_dir) / TABLE.dataset / TABLE.name).exists():
        name, columns = TABLE.name, ("date", *NAMES)
        text = read_text(TABLE, data_dir)
    else:
        name, columns = PUBLISHED.name, ("datetime", *WIKIPEDIA)
        files = unarchive(fetch(PUBLISHED, data_dir), "holidays.csv")
        with reading(name):
            text = member(files, "holidays.csv").decode("utf-8")
    with reading(name):
        return divide(parse(text, columns, name), YEAR, 2 * YEAR)


def parse(text: str, columns: Sequence[str] = ("date", *NAMES), name: str = TABLE.name) -> list[Series]:
    """The series of a table with columns for the date and the festivals; raise DataError for a bad line."""
    date, *names = columns
    dates, views = list[np.datetime64](), list[list[float]]()
    with reading(name) as place:
        for line, row in enumerate(csv.DictReader(io.StringIO(text)), start=2):
            place.text = f"line {line}"
            if missing := [name for name in columns if row.get(name) is None]:
                raise ValueError(f"there is no {', '.join(missing)}")
            dates.append(day(row[date][:10]))
            views.append([number(row[name]) for name in names])
            if len(dates) > 1 and dates[-1] != dates[-2] + 1:
                raise ValueError(f"{dates[-1]} does not follow {dates[-2]}")
    table = np.array(views).reshape(-1, len(names))
    return [Series(name, np.array(dates), column) for name, column in zip(NAMES, table.T, strict=True)]
