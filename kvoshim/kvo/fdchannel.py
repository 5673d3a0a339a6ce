"""The descriptor channel: a SOCK_SEQPACKET socket beside the message stream, on which descriptors travel.

It is a plain kernel socket, so passing a descriptor needs no tie to a position in an accelerated stream: each
packet is a ticket number with one descriptor, and a message in the stream names the ticket. The sender sends
the descriptor first, so whoever reads the message finds it waiting.
"""

from __future__ import annotations

import array
import os
import socket
import struct

from kvoshim.errors import ProtocolError

_TICKET = struct.Struct("<Q")
_WAITING_MAX = 64  # descriptors that one side may send before they are asked for


class Channel:
    """One end. Owns its socket and the descriptors that were received but not taken yet."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._arrived: dict[int, int] = {}

    def send(self, ticket: int, fd: int) -> None:
        """Sends a copy of `fd`. BlockingIOError if the socket is non-blocking and full; OSError if the peer
        is gone."""
        rights = array.array("i", [fd])
        self.sock.sendmsg(
            [_TICKET.pack(ticket)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)], socket.MSG_NOSIGNAL
        )

    def take(self, ticket: int) -> int:
        """The descriptor under `ticket`; the caller owns it. ProtocolError if it is not there or something
        else is."""
        while ticket not in self._arrived:
            try:
                data, ancillary, flags, _ = self.sock.recvmsg(
                    64, socket.CMSG_SPACE(16), socket.MSG_CMSG_CLOEXEC
                )
            except (BlockingIOError, TimeoutError):
                raise ProtocolError(f"no descriptor came under ticket {ticket}") from None
            except OSError as error:
                raise ProtocolError(f"the descriptor channel broke: {error}") from None
            fds = array.array("i")
            for level, kind, content in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
            number = _TICKET.unpack(data)[0] if len(data) == _TICKET.size else None
            if (
                number is None
                or len(fds) != 1
                or flags & socket.MSG_CTRUNC
                or number in self._arrived
                or len(self._arrived) >= _WAITING_MAX
            ):
                for fd in fds:
                    os.close(fd)
                if not data:
                    raise ProtocolError("the descriptor channel was closed")
                raise ProtocolError(f"a packet of {len(data)} bytes with {len(fds)} descriptors is no ticket")
            self._arrived[number] = fds[0]
        return self._arrived.pop(ticket)

    def close(self) -> None:
        self.sock.close()
        for fd in self._arrived.values():
            os.close(fd)
        self._arrived.clear()
