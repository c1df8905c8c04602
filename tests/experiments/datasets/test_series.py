"""Time series of M3, Walmart and festivals: files as published, parts that follow each other, bad lines."""

import csv
import gzip
import io
import zipfile

import numpy as np
import pytest

from experiments import datasets
from experiments.datasets import DataError, festivals, files, m3, series, walmart

HEADER = "series,N,NF,category,start_year,start_sub,values..."


def fits(monkeypatch, module, name, file):
    """Let the module take a file that a test wrote for the published one."""
    import dataclasses  # noqa: PLC0415
    import hashlib  # noqa: PLC0415

    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    monkeypatch.setattr(module, name, dataclasses.replace(getattr(module, name), sha256=digest))


def m3_line(name, values, month="3.0"):
    return ",".join([name, str(len(values)), "18", "MICRO", "1990.0", month, *map(str, values), "", ""])


def test_m3_is_divided_in_time(tmp_path, monkeypatch):
    (tmp_path / "m3").mkdir()
    path = tmp_path / "m3" / m3.FILE.name
    text = "\n".join([HEADER, m3_line("N1", range(66)), m3_line("N2", range(100, 180), "0.0")])
    path.write_bytes(gzip.compress(text.encode()))
    fits(monkeypatch, m3, "FILE", path)
    train, valid, test = datasets.load("m3", tmp_path)
    assert train[0].values.tolist() == [*range(30)]
    assert valid[0].values.tolist() == [*range(30, 48)]
    assert test[0].values.tolist() == [*range(48, 66)]
    assert str(train[0].dates[0]) == "1990-03"
    assert str(test[0].dates[-1]) == "1995-08"
    assert str(train[1].dates[0]) == "1990-01", "the month is not known"
    whole = series.join((train, valid, test))
    assert whole[1].values.tolist() == [*range(100, 180)]
    assert (np.diff(whole[1].dates).astype(int) == 1).all()


@pytest.mark.parametrize("line", ["N1,3,18,MICRO,1990,1,5,6,7", "N1,66", m3_line("N1", [*range(65), "x"])])
def test_a_bad_line_of_m3_is_named(line):
    with pytest.raises(DataError, match="line 2"):
        m3.parse(f"{HEADER}\n{line}\n")


def walmart_lines(weeks, store, department, left_out=()):
    first = np.datetime64("2010-02-05")
    return [
        f"{store},{department},{first + 7 * week},{week - 1}.5,FALSE"
        for week in range(weeks)
        if week not in left_out
    ]


def test_departments_without_all_weeks_are_left_out(tmp_path, monkeypatch):
    lines = [*walmart_lines(143, 1, 1), *walmart_lines(143, 1, 2, left_out=[7]), *walmart_lines(143, 2, 1)]
    (tmp_path / "walmart").mkdir()
    path = tmp_path / "walmart" / walmart.FILE.name
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("train.csv", "\n".join(["Store,Dept,Date,Weekly_Sales,IsHoliday", *lines]))
    fits(monkeypatch, walmart, "FILE", path)
    train, valid, test = datasets.load("walmart", tmp_path)
    assert [each.name for each in train] == ["store 1, department 1", "store 2, department 1"]
    assert train[0].values[0] == -1.5, "more was returned than sold"
    assert str(valid[0].dates[0]) == "2011-08-05"
    assert (str(test[0].dates[0]), str(test[0].dates[-1])) == ("2011-11-04", "2012-10-26")
    with pytest.raises(DataError, match="line 3"):
        walmart.parse(
            "Store,Dept,Date,Weekly_Sales,IsHoliday\n1,1,2010-02-05,1,FALSE\n1,1,2010-02-12,x,FALSE"
        )


def festival_days(first, days):
    return [np.datetime64(first) + day for day in range(days)]


def test_festivals_are_read_from_the_table_or_from_the_published_file(tmp_path, monkeypatch):
    days = festival_days("2019-12-30", 1100)
    published = io.StringIO()
    rows = csv.writer(published)
    rows.writerow(["datetime", "SP500", *festivals.WIKIPEDIA])
    rows.writerows(
        [f"{day} 00:00:00", "", *(100 * page + n for page in range(4))] for n, day in enumerate(days)
    )
    (tmp_path / "festivals").mkdir()
    path = tmp_path / "festivals" / festivals.PUBLISHED.name
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("holidays.csv", published.getvalue())
    fits(monkeypatch, festivals, "PUBLISHED", path)
    one = datasets.load("festivals", tmp_path)
    table = tmp_path / "festivals" / festivals.TABLE.name
    lines = [
        ",".join([str(day), *(str(100 * page + n) for page in range(4)), "9"]) for n, day in enumerate(days)
    ]
    table.write_text("\n".join([",".join(["date", *festivals.NAMES, "all"]), *lines]))
    fits(monkeypatch, festivals, "TABLE", table)
    path.unlink()
    for part, same in zip(one, datasets.load("festivals", tmp_path), strict=True):
        for each, other in zip(part, same, strict=True):
            assert each.name == other.name
            assert np.array_equal(each.dates, other.dates)
            assert np.array_equal(each.values, other.values)
    assert [len(part[0].values) for part in one] == [5, 365, 730]
    assert one.train[2].values[:2].tolist() == [200, 201]
    with pytest.raises(DataError, match=r"line 4.*does not follow"):
        festivals.parse(
            "\n".join([",".join(["date", *festivals.NAMES]), *(lines[n][:-2] for n in (0, 1, 3))])
        )


@pytest.mark.parametrize(
    ("name", "count", "lengths"),
    [("m3", 1428, (30, 18, 18)), ("walmart", 2660, (78, 13, 52)), ("festivals", 4, (1774, 365, 730))],
)
def test_the_published_files(name, count, lengths):
    try:
        parts = datasets.load(name)
    except DataError:
        if files.data_folder() == files.cache_folder() / "data":
            pytest.skip("the file is not there")
        raise
    assert tuple(map(len, parts)) == (count,) * 3
    assert tuple(min(len(each.values) for each in part) for part in parts) == lengths
    assert all(np.isfinite(each.values).all() for part in parts for each in part)


def test_the_weeks_of_holidays_are_those_of_the_file():
    path = files.data_folder() / "walmart" / walmart.FILE.name
    if not path.exists():
        pytest.skip("the file is not there")
    with zipfile.ZipFile(path) as archive:
        rows = csv.DictReader(io.StringIO(archive.read("train.csv").decode()))
        flagged = sorted({row["Date"] for row in rows if row["IsHoliday"] == "TRUE"})
    assert flagged == [str(day) for day in walmart.HOLIDAY_WEEKS]
