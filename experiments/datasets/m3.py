"""M3 (Makridakis and Hibon 2000): 1,428 monthly series of the third forecasting competition.

Source: the sheet ``M3Month`` of `M3C.xls`, of the International Institute of Forecasters, for research. The
file read here, `M3Month.csv.gz`, has the same rows: number of the series, N, NF, category, year and month of
its first value, then its N values. The month is 0 where it is not known.

Splits. The last NF = 18 values of each series are the published test part; the 18 before them are the
validation part; what comes before, 30 to 108 values, is the training part.
"""

import csv
import io
from pathlib import Path

import numpy as np

from experiments.datasets import Splits
from experiments.datasets.files import DataFile, fetch, read_bytes, reading, unpack
from experiments.datasets.series import Series, divide, number

FILE = DataFile(
    "m3",
    "M3Month.csv.gz",
    "https://forecasters.org/data/m3comp/M3C.xls",
    "bad412fdaf767fb277dd406abb15f5373b747ddb63ee8b3bd1c878b16d708e85",
)
"""The sheet as a table; at the address is the workbook, whose sheet is to be exported by hand."""

HORIZON = 18


def load(data_dir: str | Path | None = None) -> Splits[Series]:
    """Load the series; raise DataError if the file is missing, damaged or holds something else."""
    path = fetch(FILE, data_dir)
    packed = read_bytes(path)
    with reading(path):
        return divide(parse(unpack(packed).decode("utf-8")), HORIZON, HORIZON)


def parse(text: str) -> list[Series]:
    """The series of the file; raise DataError for a malformed line."""
    found = []
    with reading(FILE.name) as place:
        for line, row in enumerate(csv.reader(io.StringIO(text)), start=1):
            if line == 1:
                continue
            place.text = f"line {line}"
            name, count, horizon, _, year, month, *values = row
            numbers = np.array([number(value) for value in values if value])
            if len(numbers) != int(count) or int(horizon) != HORIZON or len(numbers) <= 2 * HORIZON:
                raise ValueError("wrong number of values")
            begin = 12 * int(float(year)) + max(int(float(month)) - 1, 0)
            if not 0 <= begin < 12 * 2100 or not 0 <= float(month) <= 12:
                raise ValueError(f"it begins in month {month} of {year}")
            months = begin - 12 * 1970 + np.arange(len(numbers))
            found.append(Series(name, months.astype("datetime64[M]"), numbers))
    return found
