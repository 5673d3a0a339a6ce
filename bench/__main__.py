"""scripts/bench: measures, prints the table, writes JSON when asked."""

import argparse
import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from bench import machine, table, verdict
from bench.build import ROOT, BuildError, build
from bench.cases import CASES, PRESETS, blocks, size_label
from bench.drivers import Context
from bench.processes import installed_library
from bench.runner import Runner

RESULTS = ROOT / "bench" / "results"


def arguments_of(words: list[str]) -> argparse.Namespace:
    """The parsed command line."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Kernel sockets and the shim in one run. Figures taken on a busy machine mean nothing.",
    )
    amount = parser.add_mutually_exclusive_group()
    for name, text in (
        ("quick", "fewer sizes, 0.1 s a run"),
        ("full", "all cases, 5 repetitions, 0.5 s a run"),
    ):
        amount.add_argument(f"--{name}", action="store_const", const=name, dest="preset", help=text)
    parser.set_defaults(preset="default")
    option = parser.add_argument
    option(
        "--only", action="append", default=[], metavar="NAME", help="a case or block, see --list; repeatable"
    )
    option("--json", metavar="FILE", help="write all runs to FILE; a bare name goes to bench/results/")
    option("--repetitions", type=int, metavar="N", help="instead of the preset's 3 (--full: 5)")
    option("--seconds", type=float, metavar="S", help="length of one run, instead of 0.1, 0.3 or 0.5")
    option("--list", action="store_true", help="name cases and blocks, then end")
    arguments = parser.parse_args(words)
    if arguments.repetitions is not None and arguments.repetitions < 1:
        parser.error("--repetitions must be at least 1")
    if arguments.seconds is not None and not 0 < arguments.seconds <= 60:
        parser.error("--seconds must be more than 0 and at most 60")
    preset = PRESETS[arguments.preset]
    try:
        arguments.blocks = blocks(preset, tuple(arguments.only))
    except KeyError as unknown:
        parser.error(f"--only {unknown.args[0]}: no such case or block; scripts/bench --list names them")
    arguments.preset = replace(
        preset,
        repetitions=arguments.repetitions or preset.repetitions,
        seconds=arguments.seconds or preset.seconds,
    )
    return arguments


def list_cases() -> None:
    """Prints every case with its blocks."""
    for case in CASES:
        sizes = " ".join(size_label(case, size) for size in case.sizes)
        print(f"{case.name:20} {case.title}; sizes {sizes}; cpus {' '.join(case.placements)}")


def result_file(name: str) -> Path:
    """Where --json goes. A bare name is kept with the project's results."""
    path = Path(name)
    if path.parent == Path(".") and not name.startswith("./"):
        return RESULTS / path
    return path


def main(words: list[str]) -> int:
    """Runs the benchmark. Returns 0; 1 if a run failed; 2 on a bad command line or an unusable machine."""
    arguments = arguments_of(words)
    if arguments.list:
        list_cases()
        return 0
    progress = Console(stderr=True)
    # A kill must end the servers too: as an exception it goes through every context manager.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        programs = build()
    except BuildError as error:
        progress.print(f"scripts/bench: {error}", markup=False)
        return 2
    preset = arguments.preset
    settings = {
        name: value
        for name, value in os.environ.items()
        if name.startswith("KVOSHIM_") and name not in ("KVOSHIM_PATHS", "KVOSHIM_LOG", "KVOSHIM_LOG_FILE")
    }
    context = Context(programs, tuple(machine.cpus()), installed_library(), settings, preset.seconds)
    notes = []
    if context.library is None:
        notes.append("No preload library is installed: preloaded rows show the kernel's socket alone.")
    if len(context.cpus) < 2:
        notes.append("Only one CPU may be used: there is no 0-1 placement.")
    load = machine.Load()
    if load.before > 0.5:
        notes.append(f"The machine was busy (load average {load.before:.1f}): do not trust these figures.")
    groups = []
    interrupted = False

    def say(text: str) -> None:
        progress.print(text, markup=False, highlight=False, soft_wrap=True)

    with Runner(context, preset.repetitions, say) as runner:
        try:
            groups.extend(runner.run(arguments.blocks))
        except KeyboardInterrupt:
            interrupted = True
            notes.append("Interrupted: only what was complete is shown.")
    notes += [f"{name} skipped: {reason}" for name, reason in runner.skipped.items()]
    failures = [
        f"{row.block.name} {row.placement} {subject}: {error}"
        for rows in groups
        for row in rows
        for subject, error in row.errors.items()
    ]
    notes += [f"FAILED {failure}" for failure in failures]
    about, summary = machine.describe(), load.summary()
    out = Console()
    table.show(out if out.is_terminal else Console(width=210), about, summary, groups, notes)
    if arguments.json:
        target = result_file(arguments.json)
        target.parent.mkdir(parents=True, exist_ok=True)
        rows = [verdict.as_json(row, verdict.best_kernel(group)) for group in groups for row in group]
        document = {
            "format": 1,
            "machine": about,
            "load": summary,
            "preset": {"name": preset.name, "repetitions": preset.repetitions, "seconds": preset.seconds},
            "library": str(context.library) if context.library else None,
            "notes": notes,
            "rows": rows,
        }
        target.write_text(json.dumps(document, indent=1) + "\n")
        say(f"written: {target}")
    if interrupted:
        return 130
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
