"""Which other hosts there are: their registries' port files lie in the same directory of the user's, shared home directory.

The directory is read again and again, and each file whole: of what another machine writes there is no notification, and a time stamp
alone may be the same for two contents. That is done on a thread: a home directory may hang, and the registry's loop does not wait for
it. One that is known to hang is left alone: a thread that waits in a directory in which another process waits too cannot be killed,
and its process would not let go of its connections when it is. Other hosts' files are never touched.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable

from kvoshim.registry.seat import portfile

FACT = "hosts"  # the key of a port file's facts under which a host's server is told: its addresses, with blanks between
HOSTS_MAX = 256
_ADDRESSES_MAX = 16
_ADDRESS = re.compile(r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]+):\d{1,5}")

Found = dict[str, tuple[str, ...]]  # by the port file's name; without addresses: there is no server yet


def look(directory: str, own: str, owner: int) -> Found:
    """OSError if the directory cannot be read."""
    found: Found = {}
    for name in sorted(os.listdir(directory)):
        if name.startswith(".") or name == own or len(found) >= HOSTS_MAX:
            continue
        record = portfile.read(os.path.join(directory, name), owner).record
        if record is not None:
            found[name] = tuple(filter(_ADDRESS.fullmatch, record.facts.get(FACT, "").split()[:_ADDRESSES_MAX]))
    return found


class Neighbours:
    """told(found): called on the thread when that has changed. interval: seconds between looks. usable(): whether the directory
    answers, as far as is known; called on the thread."""

    def __init__(
        self, directory: str, own: str, owner: int, interval: float, told: Callable[[Found], None],
        usable: Callable[[], bool] = lambda: True,
    ) -> None:  # fmt: skip
        self._where = directory, own, owner
        self._interval = interval
        self._told = told
        self._usable = usable
        self._closed = threading.Event()
        threading.Thread(target=self._run, name="kvoshim-hosts", daemon=True).start()

    def _run(self) -> None:
        before: Found | None = None
        while not self._closed.is_set():
            try:
                found = look(*self._where) if self._usable() else before or {}
            except OSError:
                found = before or {}  # nothing is known of any change
            if found != before and not self._closed.is_set():
                before = found
                self._told(found)
            self._closed.wait(self._interval)

    def close(self) -> None:
        """Does not wait: the thread may hang, and then ends with the process."""
        self._closed.set()
