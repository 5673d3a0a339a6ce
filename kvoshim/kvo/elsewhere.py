"""What an Observer finds by the registry: a target that is an entry, and a name that its own controller does not know."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from kvoshim.errors import UnknownNameError
from kvoshim.kvo import finding
from kvoshim.kvo.client import running_loop

if TYPE_CHECKING:
    from kvoshim.kvo.observer import Observer


def is_entry(target: object) -> bool:
    """Whoever has an entry has loaded the registry; the others do not pay for that."""
    module = sys.modules.get("kvoshim.registry.entry")
    return module is not None and isinstance(target, module.Entry)


class Elsewhere:
    """Part of Observer."""

    def _whereabouts(self, target: Any, look: bool = False) -> tuple[Observer, Any]:
        """Who observes a target for this object, mostly itself, and what it is called there. look: find out, if that is not known."""
        if is_entry(target):
            if target.host != os.uname().nodename:
                raise UnknownNameError(f"{target} is on the host {target.host}")
            path, there = finding.of_entry(target)
            return self._at(path), there
        found = self._found.get(target)
        if found is not None:
            if found[0] is not self or (handle := self._handles.get(found[1])) is not None and handle.live:
                return found
            del self._found[target]  # that process has ended: another one may have the name
        if look and self._client.registry and isinstance(target, str) and target not in self._handles:
            try:
                self._open(target)
            except UnknownNameError:
                pass  # it is waited for
            return self._found.get(target, (self, target))
        return self, target

    def _looks(self, wait: bool = True) -> bool:
        """Whether it is worth a request to find out where a name is: a coroutine is held up only where there may be several
        controllers."""
        return wait and (running_loop() is None or self._client.registry.startswith("semi-private"))

    def _look_elsewhere(self, target: str | int) -> tuple[Observer, str | int] | None:
        """A name that the controller does not know, as the registry knows it."""
        if not self._client.registry or not isinstance(target, str):
            return None
        found = finding.target(self._client.registry, target)
        if found is None or found == (self._client.path, target):
            return None
        return self._at(found[0]), found[1]

    def _at(self, path: str) -> Observer:
        """An observer at the controller of that path; empty: this one."""
        if not path or path == self._client.path:
            return self
        other = self._others.get(path)
        if other is None:
            if not self._client.driver.attended:
                raise UnknownNameError(f"it is at the controller {path}: make an Observer for that one")
            other = self._others[path] = type(self)(controller=path, autostart=False, thread=self._thread)
        return other
