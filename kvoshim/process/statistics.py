"""A daemon's figures, with a short history of each.

A figure is counted (`add`), set (`set`), or asked for when somebody looks (`measure`): the last costs nothing in
between. A sample is a value and its time; changes within a second of a sample replace its value, so that the
history covers minutes and not one busy moment.
"""

from __future__ import annotations

import datetime
import re
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from kvoshim.errors import ControlError

Number = int | float
_INTERVAL_S = 1.0


class Statistics:
    """samples: how many of each figure are kept."""

    def __init__(self, samples: int = 20) -> None:
        self._keep = samples
        self._figures: dict[str, deque[list]] = {}  # name -> [value, time], newest first
        self._measures: dict[str, Callable[[], Number]] = {}

    def keep(self, samples: int) -> None:
        self._keep = samples
        self._figures = {name: deque(list(history)[:samples], samples) for name, history in self._figures.items()}

    def set(self, name: str, value: Number) -> None:
        history = self._figures.get(name)
        if history is None:
            history = self._figures[name] = deque(maxlen=self._keep)
        now = time.time()
        if history and 0 <= now - history[0][1] < _INTERVAL_S:
            history[0][0] = value
        else:
            history.appendleft([value, now])

    def add(self, name: str, amount: Number = 1) -> None:
        history = self._figures.get(name)
        self.set(name, (history[0][0] if history else 0) + amount)

    def measure(self, name: str, value: Callable[[], Number]) -> None:
        """The figure is what value() gives when it is asked for."""
        self._measures[name] = value

    def _look(self) -> None:
        for name, value in self._measures.items():
            self.set(name, value())

    def get_all(self) -> dict[str, list[list[Any]]]:
        """{name: [[value, time], ...]}, newest first, as Kea's daemons answer."""
        self._look()
        return {name: [[value, _when(at)] for value, at in history] for name, history in sorted(self._figures.items())}

    def get(self, name: str) -> dict[str, list[list[Any]]]:
        """The same for one figure. ControlError with result 3 (empty) if there is none of that name."""
        figures = self.get_all()
        if name not in figures:
            raise ControlError(f"there is no statistic {name!r}", 3)
        return {name: figures[name]}

    def reset(self, name: str | None = None) -> None:
        """Begins one figure's history, or all, anew: at 0, or at what is measured. ControlError with result 3 if there is
        none of that name."""
        self._look()
        if name is not None and name not in self._figures:
            raise ControlError(f"there is no statistic {name!r}", 3)
        for one in [name] if name is not None else list(self._figures):
            self._figures[one].clear()
            self.set(one, self._measures[one]() if one in self._measures else 0)

    def exposition(self, prefix: str) -> str:
        """The newest values in Prometheus' text format."""
        self._look()
        lines = []
        for name, history in sorted(self._figures.items()):
            metric = re.sub(r"\W", "_", f"{prefix}_{name}")
            lines += [f"# TYPE {metric} untyped", f"{metric} {history[0][0]}"]
        return "\n".join([*lines, ""])


def _when(at: float) -> str:
    return datetime.datetime.fromtimestamp(at, datetime.UTC).isoformat(sep=" ", timespec="microseconds").replace("+00:00", "")
