"""Medians, ratios and verdicts from made-up runs whose right answer is known."""

import pytest

from bench.cases import CASES, KERNEL, PRESETS, SHIM, Block, Case, Target, blocks
from bench.verdict import RING, R, Row, best_kernel, findings, quantity, row_verdict

CASE = Case(
    "made-up", "", "stream", "rtt", ring="rtt",
    targets=(
        Target("faster", ">=", 50, ("0-1",)),
        Target("ring", "<=", 4, ("0-1",)),
        Target("best", ">=", 2, ("any",)),
        Target("time", "<=", 0.7, ("0-0",)),
    ),
)  # fmt: skip


def runs(*times: float, holds: bool = True, cpu: float = 1.0) -> list[dict]:
    found = {"holds": holds, "client": 1, "server": 1, "words": "1"}
    return [{"time_ns": time, "p99_ns": 2 * time, "cpu_per_s": cpu, "proof": found} for time in times]


def row(placement: str, kernel: list[dict], shim: list[dict], ring: list[dict] | None = None) -> Row:
    ring = ring or runs(100, 100, 100)
    return Row(Block(CASE, 8), placement, {KERNEL: kernel, SHIM: shim, RING: ring, R: ring})


def test_ratios_are_of_medians():
    one = row("0-1", runs(60_000, 50_000, 1_000), runs(500, 400, 9_000))
    assert quantity("faster", one, None) == 100
    assert quantity("time", one, None) == pytest.approx(0.01)
    assert quantity("ring", one, None) == 5


def test_a_claim_is_held_against_the_kernels_best_placement():
    rows = [
        row("0-1", runs(60_000), runs(400)),
        row("0-0", runs(4_000), runs(3_000)),
        row("any", runs(50_000), runs(3_000)),
    ]
    best = best_kernel(rows)
    assert best.placement == "0-0"
    assert quantity("faster", rows[2], best) == pytest.approx(16.7, abs=0.1)
    (finding,) = findings(rows[2], best)
    assert finding.value == pytest.approx(1.33, abs=0.01) and finding.words() == "misses 0/1"


def test_verdict_counts_the_repetitions_that_met_it():
    rows = [row("0-1", runs(60_000, 60_000, 60_000), runs(300, 300, 2_000))]
    assert [finding.words() for finding in findings(rows[0], rows[0])] == ["meets 2/3", "meets 2/3"]
    assert row_verdict(rows[0], rows[0]) == "meets 2/3"


def test_the_worst_finding_is_the_rows_verdict():
    one = row("0-1", runs(60_000), runs(500))  # 120 times faster, but 5 R
    assert [finding.words() for finding in findings(one, one)] == ["meets 1/1", "misses 0/1"]
    assert row_verdict(one, one) == "misses 0/1"


def test_a_single_unproved_repetition_bars_every_comparison():
    one = row("0-1", runs(60_000, 60_000), runs(300) + runs(300, holds=False))
    assert one.state() == row_verdict(one, one) == "not accelerated"
    assert all(finding.value is None for finding in findings(one, one))


@pytest.mark.parametrize("subject", [KERNEL, SHIM])
def test_a_failed_side_bars_every_comparison(subject):
    one = row("0-1", runs(60_000), runs(300))
    one.errors[subject] = "client: hangs"
    assert row_verdict(one, one) == "failed"


def test_without_a_library_there_is_no_verdict():
    one = Row(Block(CASE, 8), "0-1", {KERNEL: runs(60_000)})
    assert row_verdict(one, one) == "no shim run"


def test_idle_is_judged_by_its_worst_repetition():
    case = next(case for case in CASES if case.program == "idle")

    def idle(*seconds: float) -> list[dict]:
        return [run | {"cpu_s": cpu} for run, cpu in zip(runs(*[1] * len(seconds)), seconds, strict=True)]

    quiet = Row(Block(case, 8), "any", {KERNEL: idle(0, 0), SHIM: idle(0, 0)})
    once = Row(Block(case, 8), "any", {KERNEL: idle(0, 0), SHIM: idle(0, 0.00001)})
    assert row_verdict(quiet, None) == "meets 2/2"
    assert row_verdict(once, None) == "misses 1/2"


def test_what_a_call_costs_more_is_a_difference_of_medians():
    case = next(case for case in CASES if case.program == "calls")
    one = Row(Block(case, 0), "0-0", {KERNEL: runs(90, 80, 100), SHIM: runs(99, 200, 85)})
    assert quantity("extra", one, None) == 9
    assert row_verdict(one, None) == "meets 2/3"  # 9, 120, -15


def test_the_core_is_judged_without_a_kernel_beside_it():
    case = next(case for case in CASES if case.program == "lock")
    one = Row(Block(case, 0), "0-0", {SHIM: runs(14, 15, 16)})
    assert [finding.value for finding in findings(one, best_kernel([one]))] == [15]
    assert row_verdict(one, None) == "meets 2/3"


def test_a_crowds_memory_is_judged_beside_the_kernels():
    case = next(case for case in CASES if case.program == "crowd")

    def crowd(size: int) -> list[dict]:
        return [run | {"cpu_s": 0.0, "bytes_per_connection": size} for run in runs(1)]

    fits = Row(Block(case, 1000), "0-0", {KERNEL: crowd(300), SHIM: crowd(300 + 40 * 1024)})
    large = Row(Block(case, 1000), "0-0", {KERNEL: crowd(300), SHIM: crowd(301 + 40 * 1024)})
    assert row_verdict(fits, None) == "meets 1/1"
    assert row_verdict(large, None) == "misses 0/1"


def test_every_demand_is_about_a_row_that_the_quick_preset_measures():
    quick = blocks(PRESETS["quick"])
    for case in CASES:
        for target in case.targets:
            rows = [
                (b.size, p)
                for b in quick
                if b.case == case
                for p in case.placements
                if target.applies(b.size, p)
            ]
            assert rows, f"{case.name}: {target.text()}"


def test_only_names_cases_blocks_and_beginnings():
    preset = PRESETS["quick"]
    assert [block.name for block in blocks(preset, ("c-rtt/8B",))] == ["c-rtt/8B"]
    assert {block.case.name for block in blocks(preset, ("c-rtt",))} == {"c-rtt"}
    assert {block.case.name for block in blocks(preset, ("redis",))} >= {"redis-get-c1", "redis-set-c50"}
    with pytest.raises(KeyError, match="nothing"):
        blocks(preset, ("nothing",))
