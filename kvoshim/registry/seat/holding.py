"""Being the registry: the lock for life, the known place to listen on, the port file that tells of it.

    claim()      the locks of all places that can be used; the port files are empty from now on: somebody is becoming the registry
    listen()     at the known place; at a new one if a stranger listens there
    announce()   the port files: clients come
    look()       now and then: what others have removed or spoilt is repaired
    close()      the port files and the socket are removed, then the locks are let go
"""

from __future__ import annotations

import errno
import logging
import os
import secrets
import stat

from kvoshim import identity, socket
from kvoshim.errors import RegistryPlaceError, SeatLostError
from kvoshim.registry.seat import portfile, proof
from kvoshim.registry.seat.place import Place, hurry
from kvoshim.registry.seat.scope import Scope

log = logging.getLogger("kvoshim.registry")

_BACKLOG = 4096  # a thousand may come at once, after an election
_SOCKET = "registry.sock"


def claim(scope: Scope) -> Seat | None:
    """The registry's place of this scope; None if another process holds it. Does not wait. RegistryPlaceError if the first place
    cannot be used, ConfigurationError from the global file."""
    seat = Seat(scope)
    try:
        if seat._take_all():
            seat._write_all(b"")
            return seat
    except BaseException:
        seat.close()
        raise
    seat.close()
    return None


class Seat:
    """What claim() gives. address: where the registry listens, "" before listen(). unusable: what is wrong with the places that
    it does without, by directory."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.address = ""
        self.unusable: dict[str, str] = {}
        self._held: dict[Place, int] = {}  # with the descriptors that hold the locks
        self._cookie = secrets.token_bytes(portfile.COOKIE_BYTES)
        self._made: os.stat_result | None = None  # the socket, as it was bound
        self._data = b""  # of the port files
        self._facts: dict[str, str] = {}

    @property
    def directory(self) -> str:
        """Where further files of the registry may lie."""
        return self.scope.places()[0].directory

    # --- the locks ---------------------------------------------

    def _take_all(self) -> bool:
        """Takes the places that are not held yet. False if another process has one of them."""
        first, *others = self.scope.places()
        if first not in self._held:
            fd = first.take()
            if fd is None:
                return False
            self._held[first] = fd
        for place in others:
            if place not in self._held and not self._take(place):
                return False
        return True

    def _take(self, place: Place) -> bool:
        try:
            fd = place.take()
            if fd is None:
                if not place.of_another_machine():
                    return False
                raise RegistryPlaceError(f"{place.path} is held by another machine of the same name")
        except RegistryPlaceError as error:
            self._do_without(place, error)
            return True
        self._held[place] = fd
        self.unusable.pop(place.directory, None)
        return True

    def _do_without(self, place: Place, error: RegistryPlaceError) -> None:
        if self.unusable.get(place.directory) != str(error):
            log.warning("%s; going on without it", error)
        self.unusable[place.directory] = str(error)

    # --- the port files ---------------------------------------------

    def _write_all(self, data: bytes) -> None:
        self._data = data
        for number, place in enumerate(list(self._held)):
            try:
                self._write(place)
            except RegistryPlaceError as error:
                if not number:
                    raise
                self._do_without(place, error)

    def _write(self, place: Place) -> None:
        try:
            place.patiently(portfile.replace, place.path, self._data, 0o644 if place.public else 0o600)
        except RegistryPlaceError:
            try:  # an old or empty file would mislead
                place.patiently(os.unlink, place.path)
            except (OSError, RegistryPlaceError):
                pass
            raise

    def announce(self, facts: dict[str, str] | None = None) -> None:
        """Tells everybody where the registry listens, and `facts`. RegistryPlaceError."""
        if not self.address:
            raise ValueError("listen first")
        self._facts = dict(facts or {})
        pid = os.getpid()
        record = portfile.Record(
            address=self.address,
            cookie=self._cookie.hex(),
            pid=pid,
            start=identity.start_time(pid),
            boot=portfile.boot_id(),
            facts=self._facts,
        )
        data = portfile.line(record)
        if len(data) > portfile.FILE_MAX:
            raise RegistryPlaceError(f"the port file would have {len(data)} bytes; {portfile.FILE_MAX} are allowed")
        self._write_all(data)
        for place in self._held:
            self.unusable.pop(place.directory, None)

    # --- the socket ---------------------------------------------

    def listen(self) -> socket.socket:
        """A socket that listens at the known place, or at a new one if that is taken. OSError."""
        directory = self.directory
        known = os.path.join(directory, _SOCKET)
        new = os.path.join(directory, f"registry-{secrets.token_hex(4)}.sock")
        for address in (known, new):
            if len(os.fsencode(address)) > portfile.ADDRESS_MAX:
                raise RegistryPlaceError(f"the path {address} is longer than a socket's may be, {portfile.ADDRESS_MAX} bytes")
            if not _free(address):
                log.warning("%s is taken by somebody else", address)
                continue
            sock = self._bind(address)
            if sock is not None:
                self.address = address
                return sock
        raise RegistryPlaceError(f"no socket can be bound in {directory}")

    def _bind(self, address: str) -> socket.socket | None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            os.fchmod(sock.fileno(), 0o666 if self.scope.public else 0o600)  # the path gets it, but for the umask
            sock.bind(address)
            if self.scope.public:
                os.chmod(address, 0o666)
            self._made = os.stat(address)
            sock.listen(_BACKLOG)
            sock.setblocking(False)
            return sock
        except OSError as error:
            sock.close()
            if error.errno == errno.EADDRINUSE:
                return None
            raise RegistryPlaceError(f"{address} cannot be bound: {error.strerror}") from error

    # --- who comes ---------------------------------------------

    def proof(self) -> proof.Proof:
        """For one accepted connection: what proves both ends to each other, for an event loop."""
        return proof.Proof(self._cookie)

    def accept_proof(self, sock: socket.socket, timeout: float = 5.0) -> bytes:
        """The same where there is time to wait; returns what the client has sent behind its proof. ProofError; OSError."""
        return proof.accept(sock, self._cookie, timeout)

    # --- staying ---------------------------------------------

    def look(self) -> socket.socket | None:
        """Repairs what has vanished or been spoilt. Returns a new socket to listen on if the old one cannot be reached any
        more. SeatLostError if another process is the registry now; RegistryPlaceError if nothing can be repaired for now. Does not
        wait for a home directory that hangs."""
        with hurry():
            return self._look()

    def _look(self) -> socket.socket | None:
        self._drop_vanished()
        if not self._take_all():
            raise SeatLostError(f"another process has become the registry ({self.scope.text})")
        sock = None
        if self.address and not self._reachable():
            log.warning("%s has vanished: listening anew", self.address)
            sock = self.listen()
            if self._data:
                self.announce(self._facts)
        elif self._data:
            self._restore()
        return sock

    def _drop_vanished(self) -> None:
        """Lets go of locks that lock nothing any more: their files were removed, or the host has another name now."""
        current = self.scope.places()
        for place, fd in list(self._held.items()):
            try:
                if place in current and place.patiently(_same, fd, place.lock_path):
                    continue
            except RegistryPlaceError:
                continue  # it does not answer: the lock may still be good
            del self._held[place]
            os.close(fd)

    def _reachable(self) -> bool:
        try:
            return os.path.samestat(self._made, os.lstat(self.address))
        except OSError:
            return False

    def _restore(self) -> None:
        for number, place in enumerate(list(self._held)):
            try:
                reading = place.read()
                if reading.record is None or portfile.line(reading.record) != self._data:
                    self._write(place)
                self.unusable.pop(place.directory, None)
            except RegistryPlaceError as error:
                if not number:
                    raise
                self._do_without(place, error)

    def close(self) -> None:
        """Gives the place up. What was removed or replaced by others stays as it is."""
        for place in self._held:
            try:
                place.patiently(portfile.remove, place.path, self._cookie.hex(), place.owner, place.public)
            except (OSError, RegistryPlaceError) as error:
                log.warning("%s stays: %s", place.path, error)
        if self._made is not None and self._reachable():
            try:
                os.unlink(self.address)
            except OSError as error:
                log.warning("%s stays: %s", self.address, error)
        self._made = None
        if self.scope.private and self._held:
            self._remove_directory()
        for fd in self._held.values():
            os.close(fd)
        self._held.clear()

    def _remove_directory(self) -> None:
        """Of a private registry: it has no successor, who would look for the lock."""
        (place,) = self._held
        try:
            os.unlink(place.lock_path)
            os.rmdir(place.directory)
        except OSError as error:
            log.info("%s stays: %s", place.directory, error)


def _same(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.lstat(path))
    except OSError:
        return False


def _free(address: str) -> bool:
    """Whether nobody listens at the path; a socket that nobody listens on is removed."""
    try:
        if not stat.S_ISSOCK(os.lstat(address).st_mode):
            return False
    except OSError:
        return True  # binding tells
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        try:
            sock.connect(address)
            return False
        except ConnectionRefusedError:
            pass
        except FileNotFoundError:
            return True
        except OSError:
            return False
    try:
        os.unlink(address)
        return True
    except FileNotFoundError:
        return True
    except OSError:
        return False
