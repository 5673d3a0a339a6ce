"""What an observer is told, and what it may ask to be told."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Any

import msgspec


class Options(enum.Flag):
    """What an observation asks for. As text: 'new|old|initial'."""

    NEW = enum.auto()  # the new value
    OLD = enum.auto()  # the value delivered before; lists, dicts and sets also tell where they have changed
    INITIAL = enum.auto()  # what is there when the observation begins
    PRIOR = enum.auto()  # a change of kind 'prior' just before each change
    SYNCED = enum.auto()  # a change of kind 'synced' when all that was there has been delivered
    UNCHANGED = enum.auto()  # also writes that change nothing

    @classmethod
    def of(cls, given: Options | str | Iterable[str] | None) -> Options:
        """Options from themselves, from text, from names. ValueError for a name that is none."""
        if given is None:
            return cls.NEW | cls.INITIAL
        if isinstance(given, cls):
            return given
        found = cls(0)
        for name in given.split("|") if isinstance(given, str) else given:
            try:
                found |= name if isinstance(name, cls) else cls[name.strip().upper()]
            except (KeyError, AttributeError):
                known = ", ".join(option.name.lower() for option in cls)
                raise ValueError(f"{name!r} is no option; known are {known}") from None
        return found


class Change(msgspec.Struct, frozen=True):
    """One change of one key, or of the observable as a whole.

    kind:
        'initial'      the value that was there when the observation began
        'setting'      the key was set
        'insertion', 'removal', 'replacement'   the same, where a list, dict or set differs from its former value (option
                       OLD) in this way only; `indexes`: the positions, keys or elements concerned, in the new value; for a
                       removal in the old one
        'deletion'     the key has no value any more; `reason`: 'deleted', 'purged', 'expired', 'owner-died'
        'prior'        (option PRIOR) the change of this revision is about to be delivered
        'synced'       (option SYNCED) all that was there at `revision` has been delivered
        'compacted'    what followed the revision asked for is no longer known; what is there comes next, as 'initial'.
                       `revision`: the oldest one that can be resumed from
        'error'        the key cannot be read; `error` says why
        'gone'         the observable was closed or its process died; its last values stay readable
        'back'         a successor has published the name

    new: the value (option NEW), for 'gone' and 'back' of one key the last one. old: the one delivered before (option
    OLD). revision: of the store; rises with every change of the key; 'gone' and 'back' carry the last again. merged:
    changes of this key that are part of this one (mode latest). missed: changes of this key just before this one that
    are lost (mode every). timestamp: of the write, in seconds since the epoch by the wall clock; monotonic_ns: the
    same by CLOCK_MONOTONIC. pid: of the observable's process. more: another change of the same revision follows.
    """

    # The core gives all of them by place (pyx/kvoshim/_delivery.pyx, usual()): a test looks that it knows the order.
    target: str
    key: str | None
    kind: str
    new: Any = None
    old: Any = None
    revision: int = 0
    merged: int = 0
    missed: int = 0
    timestamp: float = 0.0
    reason: str | None = None
    indexes: tuple | None = None
    error: Exception | None = None
    monotonic_ns: int = 0
    pid: int = 0
    more: bool = False


VALUED = ("initial", "setting", "insertion", "removal", "replacement", "deletion")  # kinds that tell a key's value
