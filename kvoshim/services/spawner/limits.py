"""Resource limits in words ({"nofile": "1024:4096", "core": "unlimited"}) to the numbers of setrlimit."""

from __future__ import annotations

import re
import resource
from collections.abc import Mapping

from kvoshim.errors import InvalidOrderError
from kvoshim.services.spawner.wire import LIMITS_MAX

NAMES: dict[str, int] = {
    name.removeprefix("RLIMIT_").lower(): getattr(resource, name)
    for name in sorted(dir(resource))
    if name.startswith("RLIMIT_") and name != "RLIMIT_OFILE"
}
INFINITY = 2**64 - 1
_UNITS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}


def parse(limits: Mapping[str, str]) -> tuple[tuple[int, int, int], ...]:
    """(resource, soft, hard) of each. A value is "soft:hard" or one number for both: a number, perhaps with K, M or G (of 1024), or
    "unlimited". InvalidOrderError, which names what is wrong and what would be right."""
    if len(limits) > LIMITS_MAX:
        raise InvalidOrderError(f"{len(limits)} limits are more than {LIMITS_MAX}")
    found = []
    for name, text in limits.items():
        if name not in NAMES:
            raise InvalidOrderError(f"there is no resource limit {name!r}; there are {', '.join(NAMES)}")
        soft, colon, hard = text.partition(":")
        low, high = _number(name, soft), _number(name, hard if colon else soft)
        if low > high:
            raise InvalidOrderError(f"the limit {name}: {soft} is above {hard}; the soft limit comes first")
        found.append((NAMES[name], low, high))
    return tuple(found)


def _number(name: str, text: str) -> int:
    if text == "unlimited":
        return INFINITY
    match = re.fullmatch(r"(\d{1,20})([kmg]?)", text.lower(), re.ASCII)
    if match is None or (number := int(match[1]) * _UNITS[match[2]]) >= INFINITY:
        raise InvalidOrderError(f"the limit {name}: {text!r} is neither a number, with K, M or G, nor 'unlimited'")
    return number
