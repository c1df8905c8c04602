"""The calendar: dates of festivals that move, the distance to them, the day a year ago."""

import numpy as np
import pytest

from experiments.datasets import DataError
from experiments.seasonal_sales import calendars


@pytest.mark.parametrize(
    ("country", "name", "dates"),
    [
        ("IN", "Holi", ["2022-03-18", "2023-03-08", "2024-03-25"]),
        ("PL", "Easter Sunday", ["2022-04-17", "2023-04-09", "2024-03-31"]),
        ("CN", "Chinese New Year (Spring Festival)", ["2022-02-01", "2023-01-22", "2024-02-10"]),
        ("US", "Thanksgiving Day", ["2022-11-24", "2023-11-23", "2024-11-28"]),
    ],
)
def test_festivals_move_as_the_calendar_has_it(country, name, dates):
    assert calendars.festival(country, name, [2022, 2023, 2024]).astype(str).tolist() == dates


def test_what_is_not_known_is_refused_with_a_suggestion():
    with pytest.raises(DataError, match="Did you mean 'Diwali'"):
        calendars.festival("IN", "Diwalli", [2024])
    with pytest.raises(DataError, match="no country"):
        calendars.festivals_of("XX", [2024])


def test_the_distance_is_counted_in_steps():
    held = np.array(["2023-03-08", "2024-03-25"], "datetime64[D]")
    days = held[0] + np.arange(-3, 4)
    found = calendars.distances(days, held, 1)
    np.testing.assert_allclose(np.log(found[:4, 1]) * -5, [3, 2, 1, 0], atol=1e-5)
    np.testing.assert_allclose(np.log(found[3:, 4]) * -5, [0, 1, 2, 3], atol=1e-5)
    assert found[:, 6].tolist() == [0, 0, 0, 1, 0, 0, 0]
    assert found[:, 7].tolist() == [0, 0, 1, 0, 0, 0, 0]
    assert found[:, 8].tolist() == [0, 0, 0, 0, 1, 0, 0]
    fridays = np.array(["2023-03-03", "2023-03-10", "2023-03-17"], "datetime64[D]")
    assert calendars.distances(fridays, held, 7)[:, 6:].tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 1]]


def test_a_year_ago_is_the_same_distance_from_the_festival():
    held = np.array(["2022-04-17", "2023-04-09", "2024-03-31"], "datetime64[D]")
    dates = np.array(["2024-03-31", "2024-03-21", "2023-05-01", "2022-04-17"], "datetime64[D]")
    found = calendars.a_year_ago(dates, held)
    assert found.astype(str).tolist() == ["2023-04-09", "2023-03-30", "2022-05-09", "NaT"]


def test_the_year_is_periodic_and_weekdays_are_theirs():
    dates = np.array(["2024-01-01", "2024-07-01", "2024-12-31"], "datetime64[D]")
    position = calendars.position_in_year(dates)
    assert position[0] == 0
    assert position[1] == pytest.approx(182 / 366)
    terms = calendars.fourier(position, 2)
    np.testing.assert_allclose(terms[0], terms[2], atol=0.05)
    assert calendars.weekdays(dates).argmax(axis=1).tolist() == [0, 0, 1]
