"""What was delivered to an observation, and how something is: from what is found of a key to the callback."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from kvoshim.errors import KvoshimError, ReadContentionError
from kvoshim.kvo.change import Change, Options
from kvoshim.kvo.difference import difference
from kvoshim.kvo.keys import ABSENT, Selector

if TYPE_CHECKING:
    from kvoshim.kvo.client import Client

log = logging.getLogger("kvoshim.observer")


class Seen:
    """What was delivered of a key."""

    __slots__ = ("revision", "count", "present", "value", "wall", "monotonic", "failed")

    def __init__(self) -> None:
        self.revision = 0
        self.count = 0  # of writes, in the store that is read now; 0: not known
        self.present = False
        self.value: Any = None  # kept where it will be needed
        self.wall = 0
        self.monotonic = 0
        self.failed = ""  # the error that was told last


class Delivery:
    """The client's record of an observation; knows nothing of the Observer object, so that one can be collected."""

    every = False
    direct = 0  # 1: rather from the observable itself, 2: insisted on

    def __init__(
        self,
        client: Client,
        group: set[Delivery],
        target: str | int,
        selector: Selector,
        callback: Callable[[Change], object],
        options: Options,
        since: int | None,
        own: bool,
        wait: bool,
    ) -> None:
        self.client = client
        self.group = group  # its Observer's
        self.numbers: dict[int, str | None] = {}  # registration -> its key
        self.target = target
        self.name = target if isinstance(target, str) else ""
        self.selector = selector
        self.callback: Callable[[Change], object] | weakref.WeakMethod = callback
        # An enum's operators are slow: once is enough.
        self._new, self._old = Options.NEW in options, Options.OLD in options
        self._initial, self._prior = Options.INITIAL in options, Options.PRIOR in options
        self._marks, self._unchanged = Options.SYNCED in options, Options.UNCHANGED in options
        self.since = since
        self.own = own
        self.wait = wait
        self.closed = False
        self.denied: KvoshimError | None = None  # by the controller's policy
        self.synced = threading.Event()
        self.instance = b""  # of the store that was read last
        self.processed = 0  # all changes up to this revision were delivered
        self.progress = time.monotonic()  # when something was looked at last
        self.live = True
        self._begun = False
        self._based = True  # what is not in `seen` has come into being since the observation began
        self._first: str | None = None  # what the first refresh has to do: 'initial', 'since'
        self._held: Change | None = None  # is delivered when it is known whether others of its revision follow
        self._written = 0  # when the change was written that was delivered last in this look; 0: none was
        self._again = False  # the last look failed half-way: the next one is at everything
        self._pid = 0  # of the process that published the store read last
        self._gate = threading.RLock()  # held while a callback runs; close() takes it
        self._seen: dict[str, Seen] = {}
        self._parts: dict[str, Seen] = {}  # for a path: of the keys that it may lead through
        self._due, self._skipped = None, 0  # for a path: what is to be evaluated; writes that it includes
        self._slots: dict[int, str] = {}
        self._keeps = self._old or selector.one is not None
        self._values = self._new or self._old or selector.path is not None
        # The usual kind: one key, its new value and nothing else; see Observation.tell().
        self.plain = selector.one is not None and selector.path is None and self._new and not (
            self._old or self._prior or self.every) and own

    @property
    def last(self) -> int:
        """The highest revision seen."""
        return max((seen.revision for seen in list(self._seen.values())), default=0)

    # --- one key ---------------------------------------------

    def _take(self, found, kind: str, more: bool = False) -> None:
        """Delivers what was found of a key if it is news. kind: 'initial', 'setting', 'note' (delivers nothing)."""
        if self.selector.path is not None:
            self._take_part(found, kind, more)
            return
        if found.state == "corrupt":
            self._fail(found.key, found.value)
            return
        seen = self._seen.get(found.key)
        if seen is None:
            seen = self._seen[found.key] = Seen()
        seen.failed = ""
        if self.selector.keys is None:
            self._slots[found.slot] = found.key
        if found.revision <= seen.revision:
            return
        present = found.state == "set"
        skipped = found.count - seen.count - 1 if 0 < seen.count < found.count else self._unseen(found)
        quiet = (
            kind == "note"
            or not (present or seen.present or self._resumed(seen, kind))
            or (present and seen.present and 0 < found.changed <= seen.count and not self._unchanged)
            or (not self.own and self._own(found))
        )
        seen.count = found.count
        self._tell(found.key, seen, kind if present else "deletion", found.value, found.revision,
                   0 if kind == "initial" else skipped, found.wall_ns, found.monotonic_ns, found.reason, more, quiet)

    def _unseen(self, found) -> int:
        """Writes before this one, of a key that nothing is known of."""
        return found.count - 1 if self._based else 0

    def _resumed(self, seen: Seen, kind: str) -> bool:
        """Whether a key that was never seen may have been seen before: its deletion is news then."""
        return self.since is not None and kind != "initial" and seen.revision == 0

    def _own(self, found) -> bool:
        return self._pid == self.client.pid

    def _take_part(self, found, kind: str, more: bool) -> None:
        """A change of a key that the observed path may lead through. Where the path leads is only looked at when all of a
        transaction is known."""
        part = self._parts.setdefault(found.key, Seen())
        if found.state == "corrupt":
            self._fail(found.key, found.value)
        elif found.revision > part.revision:
            self._skipped += found.count - part.count - 1 if 0 < part.count < found.count else 0
            part.revision, part.count, part.present, part.value = found.revision, found.count, found.state == "set", found.value
            self._due = found
        if more or self._due is None:
            return
        found, self._due = self._due, None
        skipped, self._skipped = self._skipped, 0
        quiet = kind == "note" or (not self.own and self._own(found))
        self._evaluate(found.revision, skipped, kind, found.reason or "deleted", found.wall_ns, found.monotonic_ns, False, quiet)

    def _evaluate(self, revision: int, skipped: int, kind: str, reason: str, wall: int, monotonic: int, more: bool = False,
                  quiet: bool = False) -> None:
        """Delivers what lies at the path now if that is news."""
        value = ABSENT
        for key in self.selector.keys:
            known = self._parts.get(key)
            if known is not None and known.present:
                value = self.selector.dig(key, known.value)
                if value is not ABSENT:
                    break
        path = self.selector.path
        seen = self._seen.setdefault(path, Seen())
        present = value is not ABSENT
        if revision <= seen.revision:
            return
        same = seen.present == present and (not present or difference([seen.value], [value])[0] == "setting")
        quiet |= not (present or seen.present or self._resumed(seen, kind)) or (same and not self._unchanged)
        self._tell(path, seen, kind if present else "deletion", value if present else None, revision,
                   0 if kind == "initial" else skipped, wall, monotonic, reason, more, quiet)

    def _tell(self, key: str, seen: Seen, kind: str, value: Any, revision: int, skipped: int, wall: int, monotonic: int,
              reason: str | None = None, more: bool = False, quiet: bool = False) -> None:
        old = seen.value
        seen.revision, seen.wall, seen.monotonic, seen.present = revision, wall, monotonic, kind != "deletion"
        seen.value = value if self._keeps else None
        if quiet:
            return
        tally = self.client.tally
        tally.delivered += 1
        if self.every:
            tally.missed += skipped
        else:
            tally.merged += skipped
        if kind != "initial":
            self._written = monotonic
        indexes = None
        told_old = old if self._old and kind != "initial" else None
        if told_old is not None and kind == "setting":
            kind, indexes = difference(told_old, value)
        if self._prior and kind != "initial":
            self._call(Change(target=self.name, key=key, kind="prior", old=told_old, revision=revision,
                              timestamp=wall / 1e9, monotonic_ns=monotonic, pid=self._pid, more=True))
        self._call(Change(
            target=self.name, key=key, kind=kind, new=value if self._new else None, old=told_old,
            revision=revision, merged=0 if self.every else skipped, missed=skipped if self.every else 0,
            timestamp=wall / 1e9, reason=reason if kind == "deletion" else None, indexes=indexes,
            monotonic_ns=monotonic, pid=self._pid, more=more))

    def _fail(self, key: str | None, error: Exception) -> None:
        """Tells of a key that cannot be read, once for each reason. One that is written too quickly is looked at again with
        the notification that its last write brings."""
        if isinstance(error, ReadContentionError):
            log.debug("%r of %r was being written: %s", key, self.name, error)
            return
        seen = self._seen.setdefault(key or "", Seen())
        if seen.failed != str(error):
            seen.failed = str(error)
            log.error("%r of %r cannot be read: %s", key, self.name, error)
            self._call(Change(target=self.name, key=key, kind="error", revision=seen.revision, error=error, pid=self._pid))

    # --- the observable's life, the callback ---------------------------------------------

    def _lifecycle(self, kind: str) -> None:
        if self.live == (kind == "back"):
            return
        self.live = kind == "back"
        seen = self._seen.get(self.selector.one or "") or Seen()
        self._call(Change(
            target=self.name, key=self.selector.one, kind=kind, new=seen.value if self._new else None,
            revision=seen.revision if self.selector.one is not None else self.last, timestamp=seen.wall / 1e9,
            monotonic_ns=seen.monotonic, pid=self._pid))

    def _call(self, change: Change) -> None:
        # One that others follow waits for the next: those may turn out to be no news, and then it was the last.
        if self._held is not None:
            self._release(change.revision)
        if change.more:
            self._held = change
        else:
            self._run(change)

    def _release(self, revision: int = -1) -> None:
        """Delivers what has waited. revision: of what follows."""
        held, self._held = self._held, None
        if held is not None:
            self._run(held if held.revision == revision else msgspec.structs.replace(held, more=False))

    def _run(self, change: Change) -> None:
        if self.closed:  # a callback may have closed it just now
            return
        callback = self.callback
        if isinstance(callback, weakref.ref):
            callback = callback()
            if callback is None:
                self.close()
                return
        try:
            callback(change)
        except BaseException:  # not even SystemExit ends the thread that serves everybody else
            log.exception("the callback for %s of %r raised",
                          "all keys" if self.selector.given is None else repr(self.selector.given), self.name)

    def end_denied(self) -> None:
        """Tells that the controller no longer admits this observation, and ends it."""
        with self._gate:
            self._fail(self.selector.one, self.denied)
        self.close()

    def close(self) -> None:
        """No callback runs after this has returned, unless it is called from that very callback."""
        self.closed = True
        if not self.client.forked:  # else the gate may be held for ever, by a thread that this process never had
            with self._gate:
                pass
        self.callback = _nobody  # whoever keeps the token does not keep what the callback belongs to
        self.group.discard(self)
        self.client.forget(self)


def _nobody(change: Change) -> None: ...
