"""The order of the runs, and what becomes of one that fails."""

import pytest

from kvoshim.bench.cases import BY_NAME
from kvoshim.bench.model import ALONE, CONTROL, KERNEL, PLACEMENTS, RING, SHIM, Block, L, R
from kvoshim.bench.processes import RunError
from kvoshim.bench.runner import Runner
from kvoshim.bench.verdict import Row


@pytest.fixture
def order(shimmed, monkeypatch):
    """Runs a block in which nothing is started; returns (placement, subject) as they were asked for."""

    def run(name: str, size: int, repetitions: int) -> list[tuple[str, str]]:
        seen = []

        def measure(row, subject, _run):
            seen.append((row.placement, subject))
            row.runs.setdefault(subject, []).append({"time_ns": 1.0})

        with Runner(shimmed, repetitions, lambda text: None) as runner:
            monkeypatch.setattr(runner, "measure", measure)
            runner.run_block(Block(BY_NAME[name], size))
        return seen

    return run


def test_subjects_take_turns_in_every_repetition(order):
    one = [(placement, subject) for placement in PLACEMENTS for subject in (L, KERNEL, SHIM)]
    assert order("c-paced", 8, 2) == one + one


def test_rings_and_peers_run_in_the_same_repetition(order):
    seen = order("c-rtt", 64, 1)
    at_0_1 = [subject for placement, subject in seen if placement == "0-1"]
    assert at_0_1 == [L, RING, R, KERNEL, SHIM, "spin", "pipe", "tcp"]
    assert "spin" not in [subject for placement, subject in seen if placement == "0-0"]


def test_a_crowd_has_the_single_connection_beside_it(order):
    assert [subject for _placement, subject in order("load-one", 10, 1)][:4] == [L, KERNEL, SHIM, ALONE]


def test_a_control_compares_the_kernel_with_itself(order):
    assert {subject for _placement, subject in order("control", 8, 1)} == {L, KERNEL, CONTROL}


@pytest.mark.parametrize("error, words", [(RunError("hangs"), "hangs"), (KeyError("x"), "KeyError: 'x'")])
def test_what_failed_is_not_tried_again_and_the_rest_goes_on(context, error, words):
    tried, row = [], Row(Block(BY_NAME["c-rtt"], 8), "any")

    def fail() -> dict:
        tried.append(error)
        raise error

    with Runner(context, 1, lambda text: None) as runner:
        runner.measure(row, KERNEL, fail)
        runner.measure(row, KERNEL, fail)
        runner.measure(row, SHIM, lambda: {"time_ns": 1.0})
    assert len(tried) == 1 and row.errors == {KERNEL: words} and row.state() == "failed"
    assert row.runs == {KERNEL: [None], SHIM: [{"time_ns": 1.0}]}


def test_what_is_missing_is_skipped_with_its_reason(context, monkeypatch):
    said = []
    with Runner(context, 1, said.append) as runner:
        monkeypatch.setattr(runner, "missing", lambda block: "there is none")
        assert list(runner.run([Block(BY_NAME["pgbench"], 0)])) == []
    assert runner.skipped == {"pgbench": "there is none"} and "pgbench SKIPPED: there is none" in said[0]


def test_an_interrupted_run_keeps_what_is_complete(context, monkeypatch):
    from kvoshim.bench import command
    from kvoshim.bench.model import Preset

    complete = Row(Block(BY_NAME["c-rtt"], 8), "any", {KERNEL: [{"time_ns": 1.0, "cpu_per_s": 1.0}]})

    def run(_runner, _blocks):
        yield [complete]
        raise KeyboardInterrupt

    monkeypatch.setattr(Runner, "run", run)
    outcome = command.measure(Preset("quick", 0, 1, 0.1), [], context.programs)
    assert outcome.interrupted and outcome.results.rows == [complete] and not outcome.failed
    assert any("Interrupted" in note for note in outcome.about["notes"])
