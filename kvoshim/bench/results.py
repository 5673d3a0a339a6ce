"""A run as a file: every figure, with the machine it was taken on. The same file is read for plots and comparisons."""

import json
import time
from dataclasses import asdict
from pathlib import Path

from kvoshim.bench.cases import BY_NAME
from kvoshim.bench.judging import Results
from kvoshim.bench.model import Block
from kvoshim.bench.verdict import Row, quantity

FORMAT = 2
RATIOS = ("faster", "best", "ring", "same-ring", "line", "alone", "tail", "fair", "cpu")
# Beside the time: what the plots and the comparison show of each subject.
KEYS = ("p99_ns", "p999_ns", "cpu_per_op_s", "cpu_per_s")


class UnusableFile(Exception):
    """A file that holds no results of this benchmark."""


def row_document(results: Results, row: Row) -> dict[str, object]:
    """The row with all its runs."""
    case, best, compared = row.block.case, results.best(row), row.state() == "ok"

    def quantities(names: tuple[str, ...]) -> dict[str, float | None] | None:
        return {name: quantity(name, row, best) for name in names} if compared else None

    medians = {}
    for subject in row.runs:
        if spread := row.spread(subject):
            medians[subject] = asdict(spread)
            medians[subject] |= {key: one.median for key in KEYS if (one := row.spread(subject, key))}
    return {
        "block": row.block.name,
        "case": case.name,
        "title": case.title,
        "size": row.block.size,
        "unit": case.unit,
        "placement": row.placement,
        "shape": case.shape,
        "state": row.state(),
        "verdict": results.row_verdict(row),
        "noise": results.noise(row),
        "medians": medians,
        "ratios": quantities(RATIOS),
        "differences": quantities(("extra", "memory", "held", "spawner", "startd")),
        "best_kernel_placement": best.placement if best else None,
        "errors": row.errors,
        "absent": row.absent,
        "findings": [
            {
                "row": one.target.row,
                "demand": one.target.text(),
                "must": one.target.must,
                "stretch": one.target.stretch,
                "value": one.value,
                "verdict": one.verdict,
                "goal": one.goal,
                "noise": one.noise,
                "met": one.met,
                "of": one.of,
            }
            for one in results.findings(row)
        ],
        "runs": row.runs,
    }


def document(results: Results, **about: object) -> dict[str, object]:
    """The whole run. about: machine, load, preset, notes and what else belongs to it."""
    return {"format": FORMAT, **about, "rows": [row_document(results, row) for row in results.rows]}


def read(path: Path) -> dict:
    """A kept run. Raises UnusableFile."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UnusableFile(f"{path}: {error}") from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise UnusableFile(f"{path}: no results of this benchmark in format {FORMAT}")
    return found


def results_of(found: dict) -> Results:
    """The rows of a kept run, to be judged by today's demands. Rows of cases that are gone are left out."""
    groups: dict[str, list[Row]] = {}
    for one in found["rows"]:
        if one["case"] in BY_NAME:
            block = Block(BY_NAME[one["case"]], one["size"])
            row = Row(block, one["placement"], one["runs"], one["errors"], one["absent"])
            groups.setdefault(block.name, []).append(row)
    return Results(list(groups.values()))


def write(path: Path, found: dict) -> None:
    """Keeps a run. A file that is there is replaced whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.part")
    beside.write_text(json.dumps(found, indent=1) + "\n")
    beside.replace(path)


def kept_name(preset: str) -> str:
    """The name under which a whole run is kept."""
    return f"{time.strftime('%Y%m%dT%H%M%S')}-{preset}.json"
