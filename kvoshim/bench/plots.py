"""Drawings of a run, from the file that it is kept in: each as SVG and PNG. Needs matplotlib."""

from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

from kvoshim.bench.model import ALONE, KERNEL, PLACEMENTS, QUANTILES, RING, SHIM

# A subject looks the same in every drawing.
LOOKS = {
    KERNEL: ("kernel socket", "tab:red", "o"),
    SHIM: ("kvoshim", "tab:blue", "o"),
    ALONE: ("kvoshim, one connection", "tab:cyan", "s"),
    RING: ("bare ring", "black", "."),
    "copy": ("memcpy alone", "grey", "."),
    "spin": ("kernel socket, polled", "tab:pink", "v"),
    "pipe": ("pipe", "tab:orange", "v"),
    "tcp": ("TCP loopback", "tab:brown", "v"),
    "mmap": ("mmap, polled, Python", "grey", "."),
    "mp-pipe": ("multiprocessing.Pipe", "tab:orange", "v"),
    "pyzmq": ("pyzmq ipc", "tab:green", "^"),
    "pynng": ("pynng ipc", "tab:olive", "^"),
    "iceoryx2": ("iceoryx2", "tab:purple", "^"),
}
WHERE = {"0-1": "a CPU each (0-1)", "0-0": "both on one CPU (0-0)", "any": "unpinned (any)"}
RESOLUTION = 150

Points = dict[str, list[tuple[float, float]]]


def check() -> None:
    """Raises ModuleNotFoundError, with what to install, where nothing can be drawn."""
    try:
        import matplotlib.figure  # noqa: F401
    except ModuleNotFoundError:
        raise ModuleNotFoundError("--plot needs matplotlib: pip install matplotlib (or 'kvoshim[bench]')") from None


class Kept:
    """The rows of a kept run, as the drawings ask for them."""

    def __init__(self, document: dict) -> None:
        self.rows = document["rows"]
        machine, preset = document["machine"], document["preset"]
        self.caption = (
            f"{machine['cpu']}, {machine['cpus']} CPUs, Linux {machine['kernel']}, {machine['time'][:10]}; medians over "
            f"{preset['repetitions']} repetitions"
        )

    def of(self, placement: str, *cases: str) -> Iterator[dict]:
        """The rows of these cases in one placement, in the order of their sizes."""
        rows = (row for row in self.rows if row["placement"] == placement and row["case"] in cases)
        return iter(sorted(rows, key=lambda row: row["size"]))

    def points(self, placement: str, cases: tuple[str, ...], value: Callable[[dict, dict], float | None]) -> Points:
        """For each subject its points (size, value(row, medians of the subject))."""
        found: Points = {}
        for row in self.of(placement, *cases):
            for subject, medians in row["medians"].items():
                if subject == SHIM and row["state"] != "ok" or subject not in LOOKS:
                    continue
                if (y := value(row, medians)) is not None:
                    found.setdefault(subject, []).append((row["size"], y))
        return found

    def distributions(self, placement: str, block: str) -> Points:
        """For each subject its points (time, per cent), each the median of the repetitions."""
        found: Points = {}
        for row in self.rows:
            if row["placement"] == placement and row["block"] == block:
                for subject in LOOKS:
                    runs = [run["quantiles_ns"] for run in row["runs"].get(subject, []) if run and "quantiles_ns" in run]
                    if runs:
                        found[subject] = [
                            (median(times), percent) for times, percent in zip(zip(*runs, strict=True), QUANTILES, strict=True)
                        ]
        return found


def sheet(kept: Kept, title: str, panels: list[list[tuple[str, Points]]], x: str, ys: list[str], **scales):
    """A figure of panels with the same axes, rows of which have their own y; None if there is nothing to draw."""
    from matplotlib.figure import Figure

    columns = [index for index in range(len(panels[0])) if any(row[index][1] for row in panels)]
    if not columns:
        return None
    figure = Figure(figsize=(4.6 * len(columns) + 1, 3.6 * len(panels) + 1), layout="constrained")
    axes = figure.subplots(len(panels), len(columns), squeeze=False, sharex=True, sharey="row")
    drawn = {}
    for axes_row, panel_row, y in zip(axes, panels, ys, strict=True):
        for ax, index in zip(axes_row, columns, strict=True):
            name, points = panel_row[index]
            for subject in (subject for subject in LOOKS if subject in points):
                label, colour, marker = LOOKS[subject]
                xs, values = zip(*points[subject], strict=True)
                (drawn[label],) = ax.plot(xs, values, marker=marker, color=colour, markersize=4, linewidth=1.3)
            ax.set(title=name, **scales)
            ax.grid(alpha=0.3)
        axes_row[0].set_ylabel(y)
    for ax in axes[-1]:
        ax.set_xlabel(x)
    figure.legend(drawn.values(), drawn.keys(), loc="outside lower center", ncols=5, fontsize="small")
    figure.suptitle(f"{title}\n{kept.caption}", fontsize="medium")
    return figure


def each_placement(make: Callable[[str], Points]) -> list[tuple[str, Points]]:
    """A panel for each placement."""
    return [(WHERE[placement], make(placement)) for placement in PLACEMENTS]


def by_size(kept: Kept, case: str, title: str):
    """Round trip times."""
    panels = each_placement(lambda placement: kept.points(placement, (case,), lambda row, one: one["median"] / 1e3))
    return sheet(kept, title, [panels], "bytes", ["round trip, µs"], xscale="log", yscale="log")


def throughput(kept: Kept, cases: tuple[str, ...], title: str):
    """Bytes a second, one way."""

    def bytes_a_second(row: dict, one: dict) -> float:
        return row["size"] / one["median"]

    panels = each_placement(lambda placement: kept.points(placement, cases, bytes_a_second))
    return sheet(kept, title, [panels], "bytes of a message", ["GB/s"], xscale="log", yscale="log")


def distribution(kept: Kept, block: str, title: str):
    """How many round trips are faster than a time."""

    def in_microseconds(placement: str) -> Points:
        found = kept.distributions(placement, block)
        return {subject: [(x / 1e3, y) for x, y in points] for subject, points in found.items()}

    return sheet(kept, title, [each_placement(in_microseconds)], "µs", ["per cent faster"], xscale="log")


def thinking(kept: Kept):
    """Round trip and its CPU time against the pause before it."""

    def cpu(row: dict, one: dict) -> float | None:
        return one["cpu_per_op_s"] * 1e6 if "cpu_per_op_s" in one else None

    times = each_placement(lambda placement: kept.points(placement, ("c-think",), lambda row, one: one["median"] / 1e3))
    costs = each_placement(lambda placement: kept.points(placement, ("c-think",), cpu))
    rows = [times, [("", points) for _name, points in costs]]
    ys = ["round trip, µs", "CPU of both sides, µs a round trip"]
    scales = {"xscale": "symlog", "yscale": "log"}
    return sheet(kept, "A pause before each request", rows, "thinking time, µs", ys, **scales)


def connections(kept: Kept, case: str, title: str, y: str, value: Callable[[dict, dict], float]):
    """A figure against the number of connections."""
    panels = each_placement(lambda placement: kept.points(placement, (case,), value))
    return sheet(kept, title, [panels], "connections", [y], xscale="log", yscale="log")


DRAWINGS = {
    "latency-c": lambda kept: by_size(kept, "c-rtt", "Round trip between two C programs, by size"),
    "latency-python": lambda kept: by_size(kept, "py-rtt", "Round trip between two Python programs, by size"),
    "distribution-c": lambda kept: distribution(kept, "c-rtt/8B", "Distribution of the round trip of 8 bytes, C"),
    "distribution-python": lambda kept: distribution(kept, "py-rtt/8B", "Distribution of the round trip of 8 bytes, Python"),
    "throughput-c": lambda kept: throughput(kept, ("c-oneway-take", "c-large"), "One way between two C programs, by size"),
    "throughput-python": lambda kept: throughput(kept, ("py-oneway",), "One way between two Python programs, by size"),
    "thinking": thinking,
    "connections-all-active": lambda kept: connections(
        kept, "load-all", "Requests a second, one in flight on each connection", "1/s", lambda row, one: 1e9 / one["median"]
    ),
    "connections-one-active": lambda kept: connections(
        kept, "load-one", "Round trip on one of many connections", "µs", lambda row, one: one["median"] / 1e3
    ),
}


def draw(document: dict, folder: Path) -> list[Path]:
    """Draws what the run has rows for. Returns the files."""
    check()
    folder.mkdir(parents=True, exist_ok=True)
    kept, written = Kept(document), []
    for name, make in DRAWINGS.items():
        if (figure := make(kept)) is not None:
            for ending in ("svg", "png"):
                path = folder / f"{name}.{ending}"
                metadata = {"Date": None} if ending == "svg" else None
                figure.savefig(path, dpi=RESOLUTION, metadata=metadata)
                written.append(path)
    return written
