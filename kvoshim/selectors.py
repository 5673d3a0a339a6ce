"""Drop-in for the standard selectors module: `from kvoshim import selectors`.

The selectors that Linux has, waiting by kvoshim.select: asyncio.SelectorEventLoop(selectors.DefaultSelector()) is an event
loop that knows when a connection of kvoshim.socket can be written to.
"""

import selectors as _standard
from selectors import *  # noqa: F403

from kvoshim import select as _select


class SelectSelector(_standard.SelectSelector):
    _select = staticmethod(_select.select)


class PollSelector(_standard.PollSelector):
    _selector_cls = _select.poll


class EpollSelector(_standard.EpollSelector):
    _selector_cls = _select.epoll


DefaultSelector = EpollSelector
