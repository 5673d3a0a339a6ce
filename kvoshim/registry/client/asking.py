"""Asking a registered process, by way of the registry."""

from __future__ import annotations

import threading
from collections.abc import Callable

from kvoshim.errors import KvoshimError, NoAnswerError, UnknownNameError
from kvoshim.registry import wire
from kvoshim.registry.client.client import Client
from kvoshim.registry.client.intake import Call
from kvoshim.registry.entry import Entry


def begin(client: Client, entry: Entry, what: wire.What, finish: Callable[[str, KvoshimError | None], None]) -> None:
    """finish(text, error) is called where the client takes in."""

    def done(answer: wire.Answered | None, error: KvoshimError | None) -> None:
        if answer is None and error is None:
            error = UnknownNameError(f"{entry} is not registered any more")
        finish("" if answer is None else answer.text, error)

    client.start(Call(lambda number: wire.Ask(number, entry.id, what), done))


def late(entry: Entry, timeout: float) -> NoAnswerError:
    return NoAnswerError(f"{entry} of PID {entry.pid} has not answered within {timeout:g} s")


def ask(client: Client, entry: Entry, what: wire.What, timeout: float) -> str:
    done = threading.Event()
    outcome: list = []
    begin(client, entry, what, lambda text, error: (outcome.append((text, error)), done.set()))
    if client.takes_in_here():
        client.take_in_until(done.is_set, timeout)
    else:
        done.wait(timeout)
    if not outcome:
        raise late(entry, timeout)
    text, error = outcome[0]
    if error is not None:
        raise error
    return text
