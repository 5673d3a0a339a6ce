"""States of services as key-values that anybody may observe: key "web/nginx:default" has what the restarter reports of the instance
and whether it is enabled, key "revision" the repository's.

The controller of Key-Value Observation is a service itself, so it may not run yet, or not any more: a thread tries again and again,
and then publishes what is so at that moment. The daemon never waits for it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from typing import Any

from kvoshim.errors import KvoshimError
from kvoshim.kvo.observable import Observable
from kvoshim.services.core import composing
from kvoshim.services.core.model import RESTARTER, Repository, full_name
from kvoshim.services.core.operations import Event

log = logging.getLogger("kvoshim.configd")

_FIRST_S, _LAST_S = 0.1, 5.0  # between tries to reach a controller
_KEYS_MAX = 32768


def values_of(repository: Repository, targets: Iterable[str] | None = None) -> dict[str, Any]:
    """Key -> value, None for what is no more. targets: those that may have changed; None: all."""
    services = repository.services
    if targets is None:
        targets = services
    found: dict[str, Any] = {"revision": repository.revision}
    for target in targets:
        name, _, short = target.partition(":")
        service = services.get(name)
        shorts = [short] if short else list(service.instances) if service is not None else []
        for one in shorts:
            instance = service.instances.get(one) if service is not None else None
            found[full_name(name, one)] = (
                None
                if instance is None
                else {**instance.volatile.get(RESTARTER, {}), "enabled": composing.enabled(service, instance)}
            )
    return found


class Publisher:
    """name: of the observable. current(): the repository, called on this object's thread."""

    def __init__(self, name: str, current: Callable[[], Repository]) -> None:
        self._name = name
        self._current = current
        self._lock = threading.Condition()
        self._changed: dict[str, None] = {}
        self._publishing = False
        self._ended = False
        self.state = "waits for a controller"
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self._thread.start()

    def tell(self, events: Iterable[Event], before: Repository) -> None:
        """Something has happened. before: the repository before that, for what is gone."""
        with self._lock:
            if not self._publishing:
                return  # when there is a controller, all is published
            for event in events:
                self._changed[event.target] = None
                if event.kind == "deleted" and ":" not in event.target and event.target in before.services:
                    for short in before.services[event.target].instances:
                        self._changed[full_name(event.target, short)] = None
            self._lock.notify()

    def close(self) -> None:
        with self._lock:
            self._ended = True
            self._lock.notify()
        self._thread.join(10)

    def _run(self) -> None:
        try:
            observable = self._open()
            if observable is None:
                return
            with observable:
                self._publish(observable, None)
                while (targets := self._next()) is not None:
                    self._publish(observable, targets)
        except Exception:  # what is published is a view of the repository: it must not take the repository with it
            log.exception("states of services are not published any more")
            self.state = "has failed"

    def _open(self) -> Observable | None:
        """The observable, when there is a controller; None when the daemon ends before that."""
        pause = _FIRST_S
        while True:
            try:
                observable = Observable(self._name, autostart=False, inherit=False, max_keys=_KEYS_MAX, thread=True)
                with self._lock:
                    self._publishing = True
                self.state = f"publishes as {self._name!r}"
                log.info("states of services are published as %r", self._name)
                return observable
            except KvoshimError as error:
                if self.state != str(error):
                    self.state = str(error)
                    log.info("states of services are not published yet: %s", error)
            with self._lock:
                self._lock.wait_for(lambda: self._ended, pause)
                if self._ended:
                    return None
            pause = min(2 * pause, _LAST_S)

    def _next(self) -> list[str] | None:
        """What has changed; waits for something to. None: the end."""
        with self._lock:
            self._lock.wait_for(lambda: self._changed or self._ended)
            targets, self._changed = list(self._changed), {}
            return targets if targets else None

    def _publish(self, observable: Observable, targets: list[str] | None) -> None:
        repository = self._current()
        values = values_of(repository, targets)
        try:
            observable.update({key: value for key, value in values.items() if value is not None})
            for key, value in values.items():
                if value is None and observable.has(key):
                    observable.delete(key)
        except KvoshimError as error:
            log.error("what has changed could not be published: %s", error)
