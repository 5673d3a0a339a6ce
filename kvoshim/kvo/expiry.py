"""Values with a time to live. Readers see for themselves that a value has expired; what is here says so: it deletes the key,
which its observers are told of. One thread per observable that has such values, from the first of them on."""

from __future__ import annotations

import heapq
import threading
import time

from kvoshim._store import Writer
from kvoshim.errors import KvoshimError


class Expiry:
    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._due: list[tuple[float, str, int]] = []  # (monotonic seconds, key, revision)
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    def add(self, key: str, revision: int, moment: float) -> None:
        """Deletes the key at that moment if it still has this revision."""
        with self._wake:
            heapq.heappush(self._due, (moment, key, revision))
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name="kvoshim-expiry", daemon=True)
                self._thread.start()
            elif self._due[0][1] == key:
                self._wake.notify()

    def _run(self) -> None:
        while True:
            with self._wake:
                if self._closed:
                    return
                left = self._due[0][0] - time.monotonic() if self._due else None
                if left is None or left > 0:
                    self._wake.wait(left)
                    continue
                _, key, revision = heapq.heappop(self._due)
            try:
                self._writer.expire(key, revision)
            except KvoshimError:  # closed meanwhile
                return

    def close(self) -> None:
        with self._wake:
            self._closed = True
            self._wake.notify()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
