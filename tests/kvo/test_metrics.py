"""The controller's figures: by statistic-get, and by Prometheus over HTTP."""

import http.client
import json
import os
import socket
import urllib.request

import pytest
from kvo_harness import WAIT_S, until
from prometheus_client.parser import text_string_to_metric_families

import kvoshim
from kvoshim.errors import ControlError
from kvoshim.kvo.controller.exporter import address_of
from kvoshim.kvo.tally import BUCKETS, Totals
from kvoshim.process import ControlClient


def configured(place, listen):
    path = place.directory / "controller.json"
    path.write_text(json.dumps({"controller": {"metrics": {"listen": listen}}}))
    place.controller("--config", str(path))
    return ControlClient(place.socket + ".ctl", WAIT_S)


def figure(control, name):
    return control.call("statistic-get", {"name": name})[name][0][0]


def watched(count):
    """Sets a key so often, in one process, and sees the last value in an observer of each mode."""
    seen = []
    with kvoshim.Observable("engine") as engine, kvoshim.Observer() as observer:
        observer.observe("engine", "rpm", lambda change: None, delivery="controller")
        observer.observe("engine", None, seen.append, mode="every", delivery="controller")
        for number in range(count):
            engine["rpm"] = number
        until(lambda: seen and seen[-1].new == count - 1)
        yield


def test_what_happens_is_counted(place):
    with configured(place, "") as control:
        for _ in watched(500):
            until(lambda: figure(control, "deliveries") + figure(control, "coalesced") + figure(control, "missed") >= 1000)
            assert figure(control, "changes") == 500
            assert figure(control, "registrations") == 2 and figure(control, "clients") == 1 and figure(control, "observables") == 1
            assert figure(control, "notifications") >= 2
            assert figure(control, "missed") == 0, "the history was long enough"
            assert 500 < figure(control, "deliveries") <= 1000
            samples = figure(control, "latency-us-count")
            assert samples >= 2 and figure(control, "latency-us-sum") > 0
            assert 0 < figure(control, "latency-us-p50") <= figure(control, "latency-us-p99")
            buckets = [figure(control, f"latency-us-le-{1 << number}") for number in range(BUCKETS - 1)]
            assert buckets == sorted(buckets) and buckets[-1] <= samples
            assert figure(control, "store-bytes") > 4096 and figure(control, "memory-bytes") > 1 << 20
        assert figure(control, "registrations") == 0 and figure(control, "registrations-made") == 2
        assert figure(control, "changes") == 500, "what has ended stays counted"
        assert control.call("status-get")["metrics"] == ""


def scraped(text):
    samples = [sample for one in text_string_to_metric_families(text) for sample in one.samples]
    return {sample.name + sample.labels.get("le", ""): sample.value for sample in samples}


def test_prometheus_scrapes_a_loopback_address(place):
    with configured(place, "127.0.0.1:0") as control:
        address = control.call("status-get")["metrics"]
        assert address.startswith("127.0.0.1:")

        def scrape():
            with urllib.request.urlopen(f"http://{address}/metrics", timeout=WAIT_S) as answer:
                assert answer.headers["Content-Type"].startswith("text/plain; version=")
                return scraped(answer.read().decode())

        for _ in watched(100):
            values = until(lambda: (found := scrape())["kvoshim_deliveries_total"] > 100 and found)
            assert values["kvoshim_changes_total"] == 100 and values["kvoshim_registrations"] == 2
            assert values["kvoshim_latency_seconds_bucket+Inf"] == values["kvoshim_latency_seconds_count"] > 0
            assert values["kvoshim_latency_seconds_sum"] > 0
        # Switched off, and on again somewhere else, while it runs.
        control.call("config-merge", {"controller": {"metrics": {"listen": ""}}})
        with pytest.raises(OSError):
            urllib.request.urlopen(f"http://{address}/metrics", timeout=WAIT_S)
        path = place.directory / "metrics"
        control.call("config-merge", {"controller": {"metrics": {"listen": f"unix:{path}"}}})
        with pytest.raises(ControlError, match="cannot be bound"):
            control.call("config-merge", {"controller": {"metrics": {"listen": f"unix:{path}/nowhere"}}})
        assert scraped(by_socket(path, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")[1])["kvoshim_changes_total"] == 100
        assert os.stat(path).st_mode & 0o777 == 0o600
        assert path.exists()
    for controller in place.controllers:
        controller.terminate()
        controller.wait(WAIT_S)
    assert not path.exists()


def by_socket(path, request):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(WAIT_S)
        sock.connect(str(path))
        sock.sendall(request)
        answer = http.client.HTTPResponse(sock)
        answer.begin()
        return answer.status, answer.read().decode()


def test_scrapers_that_ask_for_nonsense(place):
    path = place.directory / "metrics"
    with configured(place, f"unix:{path}") as control:
        assert by_socket(path, b"GET /other HTTP/1.1\r\n\r\n")[0] == 404
        assert by_socket(path, b"POST /metrics HTTP/1.1\r\n\r\n")[0] == 405
        assert by_socket(path, b"\xff\x00 what\r\n\r\n")[0] == 400
        idle = [socket.socket(socket.AF_UNIX) for _ in range(20)]
        try:
            for sock in idle:
                sock.connect(str(path))
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(WAIT_S)
                sock.connect(str(path))
                assert sock.recv(1) == b"", "too many at a time"
        finally:
            for sock in idle:
                sock.close()
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(WAIT_S)
            sock.connect(str(path))
            try:
                sock.sendall(b"x" * 100_000)
                assert sock.recv(1) == b"", "too long"
            except (BrokenPipeError, ConnectionResetError):
                pass
        assert until(lambda: by_socket(path, b"GET / HTTP/1.0\r\n\r\n"))[0] == 200
        assert control.call("status-get")["metrics"] == f"unix:{path}"
    assert "Traceback" not in place.log_text()


def test_addresses_that_others_could_reach_are_refused(place):
    with configured(place, "") as control:
        for listen in ("0.0.0.0:9464", "192.0.2.1:1", "localhost:1", "127.0.0.1", "127.0.0.1:99999", "unix:relative", ":1"):
            with pytest.raises(ValueError, match="neither|loopback"):
                address_of(listen)
            with pytest.raises(ControlError, match="neither|loopback"):
                control.call("config-merge", {"controller": {"metrics": {"listen": listen}}})


def test_a_client_cannot_report_what_it_likes():
    totals = Totals()
    good = [1] * (4 + BUCKETS)
    assert totals.take([], good) and totals.delivered == 1
    assert totals.take(good, [2] * len(good)) and totals.delivered == 2
    assert not totals.take(good, [0] * len(good)), "totals never fall"
    assert not totals.take([], [1, 2, 3])
    assert totals.delivered == 2 and totals.quantile(0.5) > 0
