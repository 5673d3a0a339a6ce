"""kvoshim.patch(): the drop-in modules for a whole program, put where everybody looks for the standard ones.

Names inside the standard modules are replaced, so that modules that were imported before see the change too:

  socket.socket, socket.fromfd          Unix stream sockets move their bytes through shared memory
  select.select, .poll, .epoll          true readiness of those, for reading and for writing
  selectors' three selectors            the same; with them asyncio, socketserver, multiprocessing.connection
  os.sendfile                           writes into a switched connection's ring

socket.socketpair() stays on the kernel: the standard library hands its descriptors to C code and to child programs.
"""

import os
import select
import selectors
import socket
import sys

from kvoshim import _core
from kvoshim import select as our_select
from kvoshim import socket as our_socket
from kvoshim.errors import TooLateError

_BLOCK = 1 << 18  # bytes that one sendfile() reads at most
_sendfile = os.sendfile
_standard_class = socket.socket

_originals = {}  # (where, name): what stood there; empty: not patched


def sendfile(out_fd, in_fd, offset, count, *args, **kwargs):
    """As os.sendfile."""
    if not _core.is_ours(out_fd):
        return _sendfile(out_fd, in_fd, offset, count, *args, **kwargs)
    start = os.lseek(in_fd, 0, os.SEEK_CUR) if offset is None else offset
    data = os.pread(in_fd, min(count, _BLOCK), start)
    sent = _core.write(out_fd, data) if data else 0
    if offset is None:
        os.lseek(in_fd, start + sent, os.SEEK_SET)
    return sent


_REPLACEMENTS = [
    (socket, "socket", our_socket.socket),
    (socket, "fromfd", our_socket.fromfd),
    (select, "select", our_select.select),
    (select, "poll", our_select.poll),
    (select, "epoll", our_select.epoll),
    (selectors.SelectSelector, "_select", staticmethod(our_select.select)),
    (selectors.PollSelector, "_selector_cls", our_select.poll),
    (selectors.EpollSelector, "_selector_cls", our_select.epoll),
    (os, "sendfile", sendfile),
]


def _foreign(name):
    return name.partition(".")[0] not in {"kvoshim", *sys.stdlib_module_names}


def _holders():
    """Modules, other than the standard library's, that hold the standard class or a subclass under a name of their own."""
    named = {name for name, module in list(sys.modules.items())
             if any(value is _standard_class for value in list(getattr(module, "__dict__", {}).values()))}
    derived = {one.__module__ for one in _standard_class.__subclasses__()}
    return sorted(filter(_foreign, named | derived))


def patch():
    """Has the whole program use kvoshim.socket; call it first of all. A second call changes nothing.

    Returns "active"; or, with nothing replaced, "preloaded" (the preload library accelerates this process already) or "off"
    (no path is selected, or a setting is unusable: see KVOSHIM_LOG).
    Raises TooLateError, with nothing replaced, when a module has taken the standard class before (from socket import socket,
    or a class derived from it): its sockets would be left out. Sockets and event loops made before stay as they are.
    """
    mode = _core.start()
    if mode != "active" or _originals:
        return mode
    if holders := _holders():
        raise TooLateError(f"these modules have taken the standard socket class already: {', '.join(holders)}; "
                           "call kvoshim.patch() before they are imported")
    for where, name, replacement in _REPLACEMENTS:
        _originals[where, name] = vars(where)[name]
        setattr(where, name, replacement)
    return mode


def unpatch():
    """Takes patch() back. Sockets and selectors made meanwhile go on as they are."""
    for (where, name), original in _originals.items():
        setattr(where, name, original)
    _originals.clear()
