"""Medians, ratios, noise and verdicts from made-up runs whose right answer is known."""

import pytest

from kvoshim.bench.cases import BY_NAME, CASES, blocks, with_controls
from kvoshim.bench.judging import Results, spread_factor
from kvoshim.bench.model import CONTROL, KERNEL, PRESETS, RING, SHIM, Block, Case, R, Target
from kvoshim.bench.peers import PEERS
from kvoshim.bench.verdict import Row, best_kernel, quantity

CASE = Case(
    "made-up", "", "stream", "rtt", ring="rtt", peers=("pipe",),
    targets=(
        Target("A", "faster", ">=", 50, 110, ("0-1",)),
        Target("B", "ring", "<=", 4, None, ("0-1",)),
        Target("C", "best", ">=", 2, None, ("any",)),
        Target("D", "time", "<=", 0.7, None, ("0-0",)),
    ),
)  # fmt: skip


def runs(*times: float, holds: bool = True, cpu: float = 1.0) -> list[dict]:
    found = {"holds": holds, "client": 1, "server": 1, "words": "1"}
    return [
        {"time_ns": time, "median_ns": time, "p99_ns": 2 * time, "cpu_per_s": cpu, "proof": found} for time in times
    ]


def row(placement: str, kernel: list[dict], shim: list[dict], ring: list[dict] | None = None, case: Case = CASE) -> Row:
    ring = ring or runs(100, 100, 100)
    return Row(Block(case, 8), placement, {KERNEL: kernel, SHIM: shim, RING: ring, R: ring})


def words(*rows: Row) -> list[str]:
    """The verdicts on the last of one block's rows."""
    return [finding.words() for finding in Results([list(rows)]).findings(rows[-1])]


def verdict(one: Row) -> str:
    return Results([[one]]).row_verdict(one)


def test_ratios_are_of_medians():
    one = row("0-1", runs(60_000, 50_000, 1_000), runs(500, 400, 9_000))
    assert quantity("faster", one, None) == 100
    assert quantity("time", one, None) == pytest.approx(0.01)
    assert quantity("ring", one, None) == 5
    assert quantity("tail", one, None) == 2


def test_a_peers_ratio_is_to_the_shim():
    one = row("0-1", runs(60_000), runs(500))
    assert quantity("peer:pipe", one, None) is None
    one.runs["pipe"] = runs(10_000)
    assert quantity("peer:pipe", one, None) == 20


def test_a_claim_is_held_against_the_kernels_best_placement():
    rows = [
        row("0-1", runs(60_000), runs(400)),
        row("0-0", runs(4_000), runs(3_000)),
        row("any", runs(50_000), runs(3_000)),
    ]
    best = best_kernel(rows)
    assert best.placement == "0-0"
    assert quantity("faster", rows[2], best) == pytest.approx(16.7, abs=0.1)
    (finding,) = Results([rows]).findings(rows[2])
    assert finding.value == pytest.approx(1.33, abs=0.01) and finding.words() == "misses 0/1"


def test_verdict_counts_the_repetitions_that_met_it():
    one = row("0-1", runs(60_000, 60_000, 60_000), runs(300, 300, 2_000))
    assert words(one) == ["holds 2/3", "holds 2/3"]
    assert verdict(one) == "holds 2/3"


def test_the_worst_finding_is_the_rows_verdict():
    one = row("0-1", runs(60_000), runs(500))  # 120 times faster, but 5 R
    assert words(one) == ["holds 1/1", "misses 0/1"]
    assert verdict(one) == "misses 0/1"


def test_the_goal_is_told_apart_from_the_bar():
    assert [one.goal for one in Results([[row("0-1", runs(60_000), runs(300))]]).all_findings()] == [True, True]
    assert [one.goal for one in Results([[row("0-1", runs(30_000), runs(300))]]).all_findings()] == [False, True]


def control(placement: str, *times: float) -> Row:
    pairs = {KERNEL: runs(*[1000] * len(times)), CONTROL: runs(*times)}
    return Row(Block(BY_NAME["control"], 8), placement, pairs)


def test_the_greatest_difference_of_equal_runs_is_noise():
    assert spread_factor([(10, 12), (30, 20), (1, None)]) == 1.5
    assert spread_factor([(None, 1)]) is None


def test_what_is_missed_by_less_than_the_noise_is_not_a_clear_miss():
    one = row("0-0", runs(1000), runs(750))  # 0.75 where 0.7 is asked
    near, far = (Results([[control("0-0", 1010, times)], [one]]) for times in (900, 990))
    assert near.findings(one)[0].words() == "misses within noise 0/1" and not near.missed()
    assert near.noise(one) == pytest.approx(1.111, abs=0.001)
    assert far.findings(one)[0].words() == "misses 0/1" and [found.row for found in far.missed()] == [one]


def test_noise_is_of_the_same_placement_and_says_nothing_of_other_quantities():
    one = row("0-0", runs(1000), runs(750))
    found = Results([[control("0-1", 2000)], [one]])
    assert found.noise(one) is None and found.findings(one)[0].words() == "misses 0/1"
    assert Results([[control("0-0", 2000)], [one]]).noise(one, "tail") is None


def test_a_single_unproved_repetition_bars_every_comparison():
    one = row("0-1", runs(60_000, 60_000), runs(300) + runs(300, holds=False))
    assert one.state() == verdict(one) == "not accelerated"
    found = Results([[one]])
    assert all(finding.value is None for finding in found.findings(one))
    assert len(found.missed()) == 2


@pytest.mark.parametrize("subject", [KERNEL, SHIM])
def test_a_failed_side_bars_every_comparison(subject):
    one = row("0-1", runs(60_000), runs(300))
    one.errors[subject] = "client: hangs"
    assert verdict(one) == "failed"


def test_a_failed_peer_bars_nothing():
    one = row("0-1", runs(60_000), runs(300))
    one.errors["pipe"] = "client: hangs"
    assert verdict(one) == "holds 1/1"


def test_without_a_library_there_is_no_verdict():
    one = Row(Block(CASE, 8), "0-1", {KERNEL: runs(60_000)})
    assert verdict(one) == "no shim run" and not Results([[one]]).missed()


def test_idle_is_judged_by_its_worst_repetition():
    case = next(case for case in CASES if case.program == "idle")

    def idle(*seconds: float) -> list[dict]:
        return [run | {"cpu_s": cpu} for run, cpu in zip(runs(*[1] * len(seconds)), seconds, strict=True)]

    quiet = Row(Block(case, 8), "any", {KERNEL: idle(0, 0), SHIM: idle(0, 0)})
    once = Row(Block(case, 8), "any", {KERNEL: idle(0, 0), SHIM: idle(0, 0.00001)})
    assert verdict(quiet) == "holds 2/2"
    assert verdict(once) == "misses 1/2"


def test_what_a_call_costs_more_is_a_difference_of_medians():
    case = BY_NAME["call-read"]
    one = Row(Block(case, 0), "0-0", {KERNEL: runs(900, 890, 910), SHIM: runs(909, 2000, 895)})
    assert quantity("extra", one, None) == 9
    assert verdict(one) == "holds 2/3"  # 9, 1110, -15


def test_the_core_is_judged_without_a_kernel_beside_it():
    case = next(case for case in CASES if case.program == "lock")
    one = Row(Block(case, 0), "0-0", {SHIM: runs(14, 15, 16)})
    assert [finding.value for finding in Results([[one]]).findings(one)] == [15]
    assert verdict(one) == "holds 2/3"


def test_a_crowds_memory_is_judged_beside_the_kernels():
    case = next(case for case in CASES if case.program == "crowd")

    def crowd(size: int) -> list[dict]:
        return [run | {"cpu_s": 0.0, "bytes_per_connection": size} for run in runs(1)]

    fits = Row(Block(case, 1000), "0-0", {KERNEL: crowd(300), SHIM: crowd(300 + 40 * 1024)})
    large = Row(Block(case, 1000), "0-0", {KERNEL: crowd(300), SHIM: crowd(301 + 40 * 1024)})
    assert verdict(fits) == "holds 1/1"
    assert verdict(large) == "misses 0/1"


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_every_demand_is_about_a_row_that_is_measured(preset):
    quick = blocks(preset)
    for case in (case for case in CASES if case.detail <= preset.detail):
        for target in case.targets:
            rows = [
                (b.size, p)
                for b in quick
                if b.case == case
                for p in case.placements
                if target.applies(b.size, p)
            ]
            assert rows, f"{case.name}: {target.text()}"


def test_the_data_fits_together():
    for case in CASES:
        assert BY_NAME[case.control].shim == CONTROL
        assert set(case.peers) <= set(PEERS), case.name
        assert case.detail or set(case.quick_sizes) & set(case.sizes), case.name
        for target in case.targets:
            assert not target.quantity.startswith("peer:") or target.quantity[5:] in case.peers, case.name
            assert target.stretch is None or target.reached(target.stretch) and target.met(target.stretch), case.name


def test_every_row_of_the_targets_is_there():
    rows = {target.row for case in CASES for target in case.targets}
    wanted = {f"S{number}" for number in range(1, 16)} | {f"P{number}" for number in range(1, 7)}
    wanted |= {f"K{number}" for number in (1, 2, 3, 4, 5, 7, 8, 9, 10)}
    assert wanted <= rows


def test_only_names_cases_blocks_and_beginnings():
    preset = PRESETS["quick"]
    assert [block.name for block in blocks(preset, ("c-rtt/8B",))] == ["c-rtt/8B"]
    assert {block.case.name for block in blocks(preset, ("c-rtt",))} == {"c-rtt"}
    assert {block.case.name for block in blocks(preset, ("redis",))} >= {"redis-get-c1", "redis-set-c50"}
    with pytest.raises(KeyError, match="nothing"):
        blocks(preset, ("nothing",))


def test_what_is_judged_has_its_control_in_the_same_run():
    preset = PRESETS["quick"]
    assert [block.case.name for block in with_controls(blocks(preset, ("c-rtt/8B",)))] == ["control", "c-rtt"]
    assert [block.case.name for block in with_controls(blocks(preset, ("control",)))] == ["control"]
    whole = with_controls(blocks(preset))
    assert len({block.name for block in whole}) == len(whole)
