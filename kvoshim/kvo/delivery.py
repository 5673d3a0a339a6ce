"""What was delivered to an observation, and how something is. From what is found of a key to its callback it is the core's way
(pyx/kvoshim/_delivery.pyx); here is what is rarer: paths, errors, the observable's life."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

from kvoshim._delivery import Seen, Teller, introduce
from kvoshim.errors import ReadContentionError
from kvoshim.kvo.change import Change, Options
from kvoshim.kvo.difference import difference
from kvoshim.kvo.keys import ABSENT, Selector

if TYPE_CHECKING:
    from kvoshim.kvo.client import Client

log = logging.getLogger("kvoshim.observer")

introduce(Change, difference)

FORGET_AT = 1024  # keys seen, before one looks which of them are no more


class Delivery(Teller):
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
        self._counts = client.tally
        self.group = group  # its Observer's
        self.numbers: dict[int, str | None] = {}  # registration -> its key
        self.target = target
        self.name = target if isinstance(target, str) else ""
        self.selector = selector
        self.callback: Callable[[Change], object] | weakref.WeakMethod = callback
        self._weak = isinstance(callback, weakref.ref)
        # An enum's operators are slow: once is enough.
        self._new, self._old = Options.NEW in options, Options.OLD in options
        self._initial, self._prior = Options.INITIAL in options, Options.PRIOR in options
        self._marks, self._unchanged = Options.SYNCED in options, Options.UNCHANGED in options
        self.since = since
        self.own = own
        self.wait = wait
        self.synced = threading.Event()
        self.instance = b""
        self.processed = 0
        self.progress = time.monotonic()
        self.live = True
        self._begun = False
        self._based = True
        self._seen: dict[str, Seen] = {}
        self._parts: dict[str, Seen] = {}  # for a path: of the keys that it may lead through
        self._due, self._skipped = None, 0  # for a path: what is to be evaluated; writes that it includes
        self._slots: dict[int, str] = {}
        self._floor = 0  # the highest revision seen when some were forgotten
        self._forget_at = FORGET_AT
        self._keeps = self._old or selector.one is not None
        self._values = self._new or self._old or selector.path is not None
        self._several, self._path, self._every = selector.keys is None, selector.path is not None, self.every
        self._one = selector.one if selector.path is None else None
        self.plain = self._one is not None and self._new and own and not (self._old or self._prior or self.every)

    @property
    def last(self) -> int:
        """The highest revision seen."""
        return max(self._floor, *(seen.revision for seen in list(self._seen.values())), 0)

    # --- one key ---------------------------------------------

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
        quiet = kind == "note" or (not self.own and self._pid == self.client.pid)
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
        self.callback, self._weak = _nobody, False  # whoever keeps the token does not keep what the callback belongs to
        self.group.discard(self)
        self.client.forget(self)


def _nobody(change: Change) -> None: ...
