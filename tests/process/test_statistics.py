"""Figures and their history."""

import pytest

from kvoshim.errors import ControlError
from kvoshim.process import statistics
from kvoshim.process.statistics import Statistics


@pytest.fixture
def clock(monkeypatch):
    now = [1_000_000.0]
    monkeypatch.setattr(statistics.time, "time", lambda: now[0])
    return now


def values(figures, name):
    return [value for value, _ in figures.get(name)[name]]


def test_history_is_bounded_and_newest_first(clock):
    figures = Statistics(samples=3)
    for second in range(5):
        clock[0] = 1_000_000.0 + 2 * second
        figures.add("n", 10)
    assert values(figures, "n") == [50, 40, 30]
    assert figures.get("n")["n"][0][1] == "1970-01-12 13:46:48.000000"
    figures.keep(1)
    assert values(figures, "n") == [50]


def test_changes_within_a_second_are_one_sample(clock):
    figures = Statistics()
    for _ in range(100):
        figures.add("n")
        clock[0] += 0.005
    figures.set("level", 1.5)
    clock[0] += 1
    figures.add("n")
    assert values(figures, "n") == [101, 100] and values(figures, "level") == [1.5]
    clock[0] -= 3600  # the clock was set back
    figures.add("n")
    assert values(figures, "n") == [102, 101, 100]


def test_measured_figures_and_reset(clock):
    figures, level = Statistics(), [5]
    figures.measure("level", lambda: level[0])
    figures.add("n")
    assert set(figures.get_all()) == {"level", "n"} and values(figures, "level") == [5]
    clock[0] += 2
    level[0] = 9
    assert values(figures, "level") == [9, 5]
    figures.reset()
    assert values(figures, "level") == [9] and values(figures, "n") == [0]
    clock[0] += 2
    figures.add("n")
    figures.reset("level")
    assert values(figures, "level") == [9] and values(figures, "n") == [1, 0]
    for action in (figures.get, figures.reset):
        with pytest.raises(ControlError) as caught:
            action("none")
        assert caught.value.result == 3


def test_prometheus_text():
    figures = Statistics()
    figures.add("commands-refused", 2)
    assert figures.exposition("unit") == "# TYPE unit_commands_refused untyped\nunit_commands_refused 2\n"
