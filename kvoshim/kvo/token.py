"""Token: an observation in its user's hands."""

from __future__ import annotations

import time

from kvoshim.errors import KvoshimError
from kvoshim.kvo.observation import Observation


class Token:
    """Ends an observation. Closing is idempotent; a context manager closes on leaving.

    close() called from another thread returns once a running callback has ended, and none runs afterwards; do not hold a
    lock that the callback wants. The observation also ends when its Observer is closed or collected, but not when the
    token is: keep the token only if you want to end the observation on its own, or look after it.
    """

    def __init__(self, observation: Observation) -> None:
        self._observation = observation

    def close(self) -> None:
        """Ends the observation."""
        self._observation.close()

    @property
    def closed(self) -> bool:
        return self._observation.closed

    @property
    def target(self) -> str:
        """The observable's name; known at once, even if the target was a PID."""
        return self._observation.name

    @property
    def key(self) -> str | None:
        """The key or pattern, as it was given."""
        return self._observation.selector.given

    @property
    def state(self) -> str:
        """'initialising' (nobody has published the name yet, or the snapshot is not complete), 'valid', 'suspect' (there
        is no controller at the moment: changes may come late), 'hung' (it gives no sign of life; the same), 'gone' (the
        observable has ended), 'closed'."""
        observation = self._observation
        if observation.closed or observation.client.forked:
            return "closed"
        if observation.client.lost.is_set():
            return "suspect"
        if observation.client.hung:
            return "hung"
        if not observation.instance:
            return "initialising"
        return "valid" if observation.live else "gone"

    @property
    def delivery(self) -> str:
        """'direct' while the observable rings this process itself, else 'controller'."""
        observation = self._observation
        return "direct" if observation.direct and observation.client.direct.rung(observation.name) else "controller"

    def is_alive(self) -> bool:
        """Whether changes are being delivered: a controller is there, and somebody takes in what it says."""
        return self.state in ("initialising", "valid") and self._observation.client.working()

    @property
    def synced(self) -> bool:
        """Whether all that was there when the observation began has been delivered."""
        return self._observation.synced.is_set()

    def wait_synced(self, timeout: float | None = None) -> bool:
        """Waits until it is; False after the timeout."""
        return self._observation.client.wait(self._observation.synced, timeout)

    @property
    def revision(self) -> int:
        """Everything up to this revision of the store was delivered; it rises also while only other keys change. What to
        resume from with `since`."""
        observation = self._observation
        return observation.bookmark(observation.client.handles.get(observation.name))

    @property
    def idle(self) -> float:
        """Seconds since something was last looked at."""
        return time.monotonic() - self._observation.progress

    def __enter__(self) -> Token:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        try:
            state = self.state
        except KvoshimError:
            state = "closed"
        return f"<Token for {'all keys' if self.key is None else repr(self.key)} of {self.target!r}, {state}>"
