"""A CSV file of the user's own: read in any order, with gaps; what is wrong is refused by line."""

import csv

import numpy as np
import pytest

from experiments import __main__ as program
from experiments.datasets import DataError
from experiments.seasonal_sales import calendars, user_series
from experiments.seasonal_sales.commands import user_panel


def written(folder, lines, header="day,sold"):
    path = folder / "sales.csv"
    path.write_text("\n".join([header, *lines]) + "\n", "utf-8")
    return path


def days(count, first="2021-01-01", value=lambda day: 5.0):
    dates = np.datetime64(first) + np.arange(count)
    return [f"{day},{value(day)}" for day in dates]


def test_dates_may_be_in_any_order_and_missing(tmp_path):
    lines = ["2024-01-05,4", "2024-01-01,0", "", "2024-01-02, 1.5 ", "2024-01-03,"]
    series, frequency = user_series.read(written(tmp_path, lines), "day", "sold")
    assert frequency.name == "daily"
    assert series.dates.astype(str).tolist() == [f"2024-01-0{day}" for day in range(1, 6)]
    np.testing.assert_array_equal(series.values, [0, 1.5, np.nan, np.nan, 4])


def test_weeks_and_months_are_known_by_their_distance(tmp_path):
    lines = ["2024-01-05,1", "2024-01-12,2", "2024-01-26,4", "2024-02-02,5"]
    series, frequency = user_series.read(written(tmp_path, lines), "day", "sold")
    assert frequency.name == "weekly"
    np.testing.assert_array_equal(series.values, [1, 2, np.nan, 4, 5])
    lines = ["2023-11-30,1", "2023-12-31,2", "2024-01-31,3", "2024-03-31,5"]
    series, frequency = user_series.read(written(tmp_path, lines), "day", "sold")
    assert frequency.name == "monthly"
    assert str(series.dates[-1]) == "2024-03"
    np.testing.assert_array_equal(series.values, [1, 2, 3, np.nan, 5])


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["2024-01-01,1", "2024-01-02,x"], "line 3: 'x' is no number"),
        (["2024-01-01,1", "2024-01-02,-2"], "line 3: -2.* is negative"),
        (["2024-01-01,1", "2024-01-02,inf"], "line 3: inf is negative or infinite"),
        (["2024-01-01,1", "01.02.2024,2"], "line 3: '01.02.2024' is no date"),
        (["2024-01-01,1", ",2"], "line 3: '' is no date"),
        (["2024-01-01,1", "2024-01-02,2", "2024-01-01,3"], "line 4: 2024-01-01 is in line 2 already"),
        (["2024-01-01,1", "2024-01-02,2"], "has 2 dates"),
        (["2024-01-01,1", "2024-01-04,2", "2024-01-07,3"], "3 days apart"),
        (["2024-01-01,1", "2024-01-08,2", "2024-01-16,2", "2024-01-22,3"], "2024-01-16 is no whole number"),
        (["2024-01-01,1", "2024-01-30,1", "2024-02-28,2", "2024-03-30,2"], "2024-01-30 is in the same month"),
    ],
)
def test_what_is_wrong_is_said_by_line(tmp_path, lines, message):
    with pytest.raises(DataError, match=message):
        user_series.read(written(tmp_path, lines), "day", "sold")


def test_a_missing_column_or_file_is_said(tmp_path):
    with pytest.raises(DataError, match=r"no column 'sales'\. Its columns: day, sold"):
        user_series.read(written(tmp_path, days(5)), "day", "sales")
    with pytest.raises(DataError, match="cannot be read"):
        user_series.read(tmp_path / "none.csv", "day", "sold")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="cannot be read"):
        user_series.read(tmp_path / "binary.csv", "day", "sold")


def test_a_short_series_and_a_long_gap_are_refused(tmp_path):
    path = written(tmp_path, days(400))
    with pytest.raises(DataError, match=r"400 daily steps: 729 are needed.*smaller --horizon"):
        user_panel(path, "day", "sold", None, None, None)
    assert user_panel(path, "day", "sold", None, None, 30).ends.tolist() == [400]
    lines = days(500)
    path = written(tmp_path, lines[:150] + lines[350:])
    with pytest.raises(DataError, match="gap of 200 daily steps"):
        user_panel(path, "day", "sold", None, None, 30)


def test_the_peak_of_holi_is_forecast_where_the_calendar_has_it(tmp_path):
    """Sales of colours: many on the days before Holi, which moved from 8 to 25 March in 2024."""
    holi = calendars.festival("IN", "Holi", range(2018, 2025))

    def sold(day):
        until = (holi - day).astype(int)
        until = until[until >= 0].min()
        return round(20 + 400 * np.exp(-until / 3), 2) if until < 30 else 20

    count = int(np.datetime64("2024-01-01").astype(int) - np.datetime64("2019-01-01").astype(int))
    path = written(tmp_path, days(count, "2019-01-01", sold))
    out = tmp_path / "forecast"
    arguments = [
        "--csv",
        str(path),
        "--date",
        "day",
        "--value",
        "sold",
        "--holidays",
        "IN",
        "--festival",
        "Holi",
    ]
    small = ["--horizon", "120", "--networks", "2", "--hidden", "8", "--steps", "60", "--out", str(out)]
    assert program.main(["seasonal_sales", "forecast", *arguments, *small]) == 0
    with (out / "forecast.csv").open() as stream:
        rows = [*csv.DictReader(stream)]
    assert (rows[0]["date"], len(rows)) == ("2024-01-01", 120)
    peak = max(rows, key=lambda row: float(row["quantile_0.50"]))["date"]
    assert abs(int((np.datetime64(peak) - np.datetime64("2024-03-25")).astype(int))) <= 1
    for row in rows:
        numbers = [float(number) for name, number in row.items() if name != "date"]
        assert numbers == sorted(numbers)
    assert (out / "forecast.png").stat().st_size > 1000


def test_months_out_of_order_and_with_gaps_are_forecast(tmp_path):
    months = np.datetime64("2018-03") + np.arange(60)
    lines = [f"{month}-15,{100 + 10 * (n % 12)}" for n, month in enumerate(months) if n not in (20, 21)]
    path = written(tmp_path, lines[::-1])
    arguments = ["--csv", str(path), "--date", "day", "--value", "sold", "--holidays", "US"]
    small = ["--horizon", "6", "--networks", "2", "--hidden", "4", "--steps", "30", "--out", str(tmp_path)]
    assert program.main(["seasonal_sales", "forecast", *arguments, *small]) == 0
    with (tmp_path / "forecast.csv").open() as stream:
        rows = [*csv.DictReader(stream)]
    assert [row["date"] for row in rows] == [f"2023-0{month}" for month in range(3, 9)]
    assert all(50 < float(row["quantile_0.50"]) < 400 for row in rows)


def test_a_festival_needs_its_country(tmp_path, capsys):
    arguments = ["--csv", str(written(tmp_path, days(800))), "--date", "day", "--value", "sold"]
    assert program.main(["seasonal_sales", "forecast", *arguments, "--festival", "Holi"]) == 1
    assert "--holidays" in capsys.readouterr().err
    wrong = ["--holidays", "IN", "--festival", "Diwalli"]
    assert program.main(["seasonal_sales", "forecast", *arguments, *wrong]) == 1
    assert "Did you mean 'Diwali'" in capsys.readouterr().err
