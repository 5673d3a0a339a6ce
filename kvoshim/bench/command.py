"""The command line: measures, prints the table, draws, keeps the result."""

import argparse
import os
import signal
import sys
import textwrap
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from kvoshim.bench import machine, results, table
from kvoshim.bench.build import BuildError, build
from kvoshim.bench.cases import CASES, blocks, with_controls
from kvoshim.bench.costs import crowd_size
from kvoshim.bench.drivers import Context
from kvoshim.bench.judging import Results
from kvoshim.bench.model import PRESETS, Block, Preset, size_label
from kvoshim.bench.processes import installed_library
from kvoshim.bench.runner import Runner

OK, FAILED, USAGE, MISSED, INTERRUPTED = 0, 1, 2, 3, 130
PRIVATE = ("KVOSHIM_PATHS", "KVOSHIM_LOG", "KVOSHIM_LOG_FILE")
SPARE_WIDTH = 240
MOST_CONNECTIONS = max(size for case in CASES if case.unit == "connections" for size in case.sizes)


class BadCommand(Exception):
    """The command line asks for something that there is not."""


def say(text: str) -> None:
    """A line of progress."""
    print(text, file=sys.stderr, flush=True)


@dataclass
class Outcome:
    """What a measurement left: its rows, what must be said about it, whether kernel or shim failed somewhere (a peer may)."""

    results: Results
    about: dict
    failed: bool = False
    interrupted: bool = False


def chosen(arguments: argparse.Namespace) -> tuple[Preset, list[Block]]:
    """What the command line asks for. Raises BadCommand."""
    if arguments.repetitions is not None and arguments.repetitions < 1:
        raise BadCommand("--repetitions must be at least 1")
    if arguments.seconds is not None and not 0 < arguments.seconds <= 60:
        raise BadCommand("--seconds must be more than 0 and at most 60")
    preset = PRESETS[arguments.preset]
    try:
        found = with_controls(blocks(preset, tuple(arguments.only)))
    except KeyError as unknown:
        raise BadCommand(f"--only {unknown.args[0]}: no such case or block; --list names them") from None
    repetitions, seconds = arguments.repetitions or preset.repetitions, arguments.seconds or preset.seconds
    return replace(preset, repetitions=repetitions, seconds=seconds), found


def list_cases() -> None:
    """Prints every case with its blocks."""
    for case in CASES:
        sizes = " ".join(size_label(case, size) for size in case.sizes)
        print(f"{case.name:20} {case.title}; sizes {sizes}; cpus {' '.join(case.placements)}")


def warnings(context: Context, load: machine.Load) -> list[str]:
    """What makes the figures worth less."""
    notes = []
    if context.library is None:
        notes.append("No preload library is installed: preloaded rows show the kernel's socket alone.")
    if len(context.cpus) < 2:
        notes.append("Only one CPU may be used: there is no 0-1 placement.")
    if load.before > 0.5:
        notes.append(f"The machine was busy (load average {load.before:.1f}): do not trust these figures.")
    room = crowd_size(MOST_CONNECTIONS)
    if room < MOST_CONNECTIONS:
        notes.append(f"RLIMIT_NOFILE leaves room for {room} connections: rows that name more have so many.")
    for note in notes:
        say(note)
    return notes


def measure(preset: Preset, asked: list[Block], programs: Path) -> Outcome:
    """Runs the blocks. Ctrl-C leaves what is complete."""
    settings = {
        name: value for name, value in os.environ.items() if name.startswith("KVOSHIM_") and name not in PRIVATE
    }
    context = Context(programs, tuple(machine.cpus()), installed_library(), settings, preset.seconds)
    load = machine.Load()
    notes, groups, interrupted = warnings(context, load), [], False
    with Runner(context, preset.repetitions, say) as runner:
        try:
            groups.extend(runner.run(asked))
        except KeyboardInterrupt:
            interrupted = True
            notes.append("Interrupted: only what was complete is shown.")
    found = Results(groups)
    notes += [f"{name} SKIPPED: {reason}" for name, reason in runner.skipped.items()]
    absent = {peer: reason for row in found.rows for peer, reason in row.absent.items()}
    notes += [f"peer {peer} NOT MEASURED: {reason}" for peer, reason in absent.items()]
    errors = [(row, subject, error) for row in found.rows for subject, error in row.errors.items()]
    notes += [f"FAILED {row.block.name} {row.placement} {subject}: {error}" for row, subject, error in errors]
    about = {
        "machine": machine.describe(),
        "load": load.summary(),
        "preset": {"name": preset.name, "repetitions": preset.repetitions, "seconds": preset.seconds},
        "library": str(context.library) if context.library else None,
        "notes": notes,
    }
    failed = any(subject in row.needed for row, subject, _error in errors)
    return Outcome(found, about, failed, interrupted)


def report(found: Results, about: dict) -> None:
    """Prints the table."""
    out = Console()
    table.show(out if out.is_terminal else Console(width=SPARE_WIDTH), about["machine"], about["load"], found, about["notes"])


def draw(document: dict, folder: str) -> None:
    """The plots."""
    from kvoshim.bench import plots

    for path in plots.draw(document, Path(folder)):
        say(f"drawn: {path}")


def result_files(arguments: argparse.Namespace, whole: bool) -> list[Path]:
    """Where the result goes: --json, and for a whole run the folder of kept results. A bare name is kept there too."""
    kept = Path(arguments.checkout) / "bench" / "results" if arguments.checkout else None
    files = []
    if arguments.json:
        path = Path(arguments.json)
        bare = path.parent == Path(".") and not arguments.json.startswith("./")
        files.append(kept / path if kept and bare else path)
    elif kept and whole:
        files.append(kept / results.kept_name(arguments.preset))
    return files


def show_again(arguments: argparse.Namespace) -> int:
    """A kept result, judged by today's demands."""
    document = results.read(Path(arguments.from_file))
    found = results.results_of(document)
    report(found, document)
    if arguments.plot:
        draw(document, arguments.plot)
    return MISSED if found.missed() else OK


def run_measurement(arguments: argparse.Namespace) -> int:
    """Measures, and says in the exit status how it went."""
    preset, asked = chosen(arguments)
    checkout = Path(arguments.checkout).resolve() if arguments.checkout else None
    programs = build(checkout)
    # A kill must end the servers too: as an exception it goes through every context manager.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    outcome = measure(preset, asked, programs)
    report(outcome.results, outcome.about)
    document = results.document(outcome.results, **outcome.about)
    whole = not (arguments.only or outcome.interrupted or arguments.repetitions or arguments.seconds)
    for path in result_files(arguments, whole):
        results.write(path, document)
        say(f"written: {path}")
    if arguments.plot:
        draw(document, arguments.plot)
    if outcome.interrupted:
        return INTERRUPTED
    if outcome.failed:
        return FAILED
    missed = outcome.results.missed()
    if missed:
        names = ", ".join(sorted({f"{one.row.block.name} {one.row.placement}" for one in missed}))
        say(textwrap.shorten(f"missed demands: {len(missed)}, of {names}", 400))
    return MISSED if missed else OK


def run(arguments: argparse.Namespace) -> int:
    """0: all demands hold; 1: a run failed; 2: a bad command line, or nothing can be measured; 3: a demand is missed."""
    try:
        if arguments.list:
            list_cases()
            return OK
        if arguments.from_file:
            return show_again(arguments)
        if arguments.plot:
            from kvoshim.bench import plots

            plots.check()
        return run_measurement(arguments)
    except (BadCommand, BuildError, results.UnusableFile, ModuleNotFoundError) as error:
        say(f"kvoshim bench: {error}")
        return USAGE
