"""The controller's figures for Prometheus, over HTTP: on a loopback address or a Unix socket, and only if the configuration says
so. In the controller's own loop; a scraper that is slow or sends nonsense is closed."""

from __future__ import annotations

import importlib.util
import ipaddress
import logging
import os
import socket
import stat
from typing import TYPE_CHECKING

from kvoshim import process
from kvoshim.kvo.tally import BUCKETS

if TYPE_CHECKING:
    from kvoshim.kvo.controller.metrics import Metrics

log = logging.getLogger("kvoshim.controller")

_TIMEOUT_S = 5.0  # for a request to come, and for its answer to be taken
_REQUEST_MAX = 8192
_SCRAPERS = 8


class MetricsSettings(process.Section, frozen=True, kw_only=True):
    """listen: '127.0.0.1:PORT', '[::1]:PORT', 'unix:PATH', or nothing."""

    listen: str = ""

    def __post_init__(self) -> None:
        if self.listen:
            address_of(self.listen)
            if importlib.util.find_spec("prometheus_client") is None:
                raise ValueError("prometheus_client is not installed: pip install 'kvoshim[metrics]'")


def address_of(listen: str) -> tuple[int, str | tuple[str, int]]:
    """(family, address) to bind. ValueError unless only this host can reach it."""
    if listen.startswith("unix:/"):
        return socket.AF_UNIX, listen[5:]
    host, _, port = listen.rpartition(":")
    try:
        address = ipaddress.ip_address(host.strip("[]"))
        number = int(port)
    except ValueError:
        raise ValueError(f"{listen!r} is neither ADDRESS:PORT nor unix:/PATH") from None
    if not address.is_loopback or not 0 <= number < 65536:
        raise ValueError(f"{listen!r} is no loopback address: figures are for this host only")
    return socket.AF_INET if address.version == 4 else socket.AF_INET6, (str(address), number)


class Exporter:
    """Serves what `metrics` measures."""

    def __init__(self, loop, metrics: Metrics) -> None:
        self._loop = loop
        self._metrics = metrics
        self._listen = ""
        self._sock: socket.socket | None = None
        self._made: os.stat_result | None = None  # of the Unix socket that is ours
        self._scrapers: dict[socket.socket, _Scraper] = {}

    @property
    def address(self) -> str:
        """Where it serves; '' if it does not."""
        if self._sock is None:
            return ""
        name = self._sock.getsockname()
        return f"unix:{name}" if isinstance(name, str) else f"{name[0]}:{name[1]}"

    def configure(self, settings: MetricsSettings) -> None:
        """OSError, with the former address still served, if the new one cannot be bound."""
        if settings.listen == self._listen:
            return
        bound, made = _bound(settings.listen) if settings.listen else (None, None)
        self.close()
        self._listen, self._sock, self._made = settings.listen, bound, made
        if bound is not None:
            self._loop.add_reader(bound.fileno(), self._accept)
            log.info("figures for Prometheus at %s", self.address)

    def _accept(self) -> None:
        try:
            sock, _ = self._sock.accept()
        except OSError:
            return
        if len(self._scrapers) >= _SCRAPERS:
            sock.close()
            return
        sock.setblocking(False)
        self._scrapers[sock] = _Scraper(self._loop, sock, self._answer, self._scrapers.pop)

    def _answer(self, request: bytes) -> bytes:
        line, _, rest = request.partition(b"\r\n")
        words = line.split()
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            return _http("400 Bad Request", b"")
        if words[0] not in (b"GET", b"HEAD"):
            return _http("405 Method Not Allowed", b"", "Allow: GET, HEAD\r\n")
        if words[1].partition(b"?")[0] not in (b"/metrics", b"/"):
            return _http("404 Not Found", b"")
        from prometheus_client import CollectorRegistry
        from prometheus_client.exposition import choose_encoder

        registry = CollectorRegistry(auto_describe=False)
        registry.register(Collector(self._metrics))
        encode, kind = choose_encoder(_header(rest, b"accept").decode("latin-1"))
        answer = _http("200 OK", encode(registry), f"Content-Type: {kind}\r\n")
        return answer if words[0] == b"GET" else answer.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"

    def close(self) -> None:
        for scraper in list(self._scrapers.values()):
            scraper.close()
        if self._sock is None:
            return
        self._loop.remove_reader(self._sock.fileno())
        if self._made is not None:
            _remove(self._sock.getsockname(), self._made)
        self._sock.close()
        self._sock, self._listen = None, ""


class Collector:
    """The figures as Prometheus' metric families."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self):
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        for kind, figures in ((GaugeMetricFamily, self._metrics.gauges), (CounterMetricFamily, self._metrics.counters)):
            for name, (measure, text) in figures.items():
                yield kind(f"kvoshim_{name.replace('-', '_')}", text, value=measure())
        totals = self._metrics.catalog.counts.totals
        buckets, count = [], 0
        for number, one in enumerate(totals.buckets):
            count += one
            buckets.append((repr((1 << number) / 1e6) if number + 1 < BUCKETS else "+Inf", count))
        yield HistogramMetricFamily(
            "kvoshim_latency_seconds", "From set() to the callback's return.", buckets=buckets, sum_value=totals.latency_us / 1e6
        )


class _Scraper:
    """One connection: a request, an answer, the end."""

    def __init__(self, loop, sock: socket.socket, answer, forget) -> None:
        self._loop, self._sock, self._answer, self._forget = loop, sock, answer, forget
        self._data = b""
        self._out = b""
        self._timer = loop.call_later(_TIMEOUT_S, self.close)
        loop.add_reader(sock.fileno(), self._read)

    def _read(self) -> None:
        try:
            data = self._sock.recv(_REQUEST_MAX)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._data += data
        if not data or len(self._data) > _REQUEST_MAX:
            self.close()
        elif b"\r\n\r\n" in self._data:
            self._loop.remove_reader(self._sock.fileno())
            self._out = self._answer(self._data)
            self._loop.add_writer(self._sock.fileno(), self._write)

    def _write(self) -> None:
        try:
            self._out = self._out[self._sock.send(self._out) :]
        except BlockingIOError:
            return
        except OSError:
            self._out = b""
        if not self._out:
            self.close()

    def close(self) -> None:
        if self._forget(self._sock, None) is None:
            return
        self._timer.cancel()
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())
        self._sock.close()


def _bound(listen: str) -> tuple[socket.socket, os.stat_result | None]:
    family, address = address_of(listen)
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family == socket.AF_UNIX:
            _remove(address, None)
            mask = os.umask(0o177)
            try:
                sock.bind(address)
            finally:
                os.umask(mask)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(address)
        sock.listen(64)
        sock.setblocking(False)
        return sock, os.stat(address) if family == socket.AF_UNIX else None
    except OSError as error:
        sock.close()
        raise OSError(f"{listen} cannot be bound: {error.strerror}") from None


def _remove(path: str, made: os.stat_result | None) -> None:
    """Removes a socket: the one that was made, or (None) whatever socket a killed controller has left."""
    try:
        found = os.lstat(path)
        if stat.S_ISSOCK(found.st_mode) and (made is None or os.path.samestat(found, made)):
            os.unlink(path)
    except OSError:
        pass


def _header(data: bytes, name: bytes) -> bytes:
    for line in data.split(b"\r\n"):
        key, _, value = line.partition(b":")
        if key.strip().lower() == name:
            return value.strip()
    return b""


def _http(status: str, body: bytes, headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\n{headers}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body
