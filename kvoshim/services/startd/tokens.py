"""Tokens: the numbers by which the spawner knows processes. One says whose it is and which run, so a restarter that has just been
started finds every process again, and starts none twice: the spawner refuses a token that it knows.

    bit 63      24 23     0
        | owner   |  run  |      owner: hash of the instance's name and the role
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

RUN_BITS = 24
RUNS = (1 << RUN_BITS) - 1
MAIN, STOP, REFRESH, CHECK, FINISH = ROLES = ("main", "stop", "refresh", "check", "finish")


@lru_cache(maxsize=65536)
def owner(instance: str, role: str) -> int:
    digest = hashlib.blake2b(f"{instance}\0{role}".encode(), digest_size=5).digest()
    return int.from_bytes(digest) or 1


def token(instance: str, role: str, run: int) -> int:
    return owner(instance, role) << RUN_BITS | run & RUNS


def split(number: int) -> tuple[int, int]:
    """(owner, run)"""
    return number >> RUN_BITS, number & RUNS


def key(instance: str) -> str:
    """A short name for what the spawner keeps for an instance."""
    return f"{owner(instance, 'key'):010x}"
