"""Quotas and rates: a client or a user that asks for too much is told so, and everybody else goes on. How long everybody
else waits is measured by scripts/flood-kvo."""

import functools
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import flood
import pytest
from kvo_harness import WAIT_S, until
from test_access import NOBODY, OTHER, others, refused, serve  # noqa: F401  fixtures

import kvoshim
from kvoshim.errors import LimitError, RateLimitError
from kvoshim.kvo import wire
from kvoshim.kvo.client import Client
from kvoshim.kvo.controller.quota import Account, Bucket, Share
from kvoshim.kvo.link import Link
from kvoshim.process import ControlClient

LIMITS = {"requests-per-s": 400, "requests-burst": 1000}


@pytest.fixture
def slow(place):
    """A controller with low rates."""
    place.controller("--config", str(place.configure(limits=LIMITS)))


@pytest.mark.parametrize("kind", flood.KINDS)
def test_a_flood_holds_up_nobody(place, slow, kind):
    changes = []
    with kvoshim.Observable("engine") as engine, kvoshim.Observer() as observer:
        observer.observe("engine", "rpm", changes.append)
        flooder = subprocess.Popen([sys.executable, "-P", Path(flood.__file__), "flood", kind, "2"], env=place.environment,
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            for number in range(200):
                engine["rpm"] = number
                until(lambda number=number: changes and changes[-1].new == number)
                assert observer.get("engine", "rpm") == number
            if kind not in ("bells", "unregistrations", "connections"):
                until(lambda: "is not read for a while" in place.log_text())
        finally:
            report = json.loads(flooder.communicate()[0])
        assert observer.connected and observer.observables()
        answers = sum(report["answers"].values())
        if kind in ("bells", "unregistrations"):
            assert answers == 0
        elif kind != "connections":
            assert report["answers"]["rate"] > 0
            # What was done is what the buckets gave: two clients' bursts, and so much a second.
            assert answers - report["answers"]["rate"] <= 2 * (1000 + 400 * (report["seconds"] + 1)) + 100
    until(lambda: "leaves: closed by the client" in place.log_text())


def test_what_came_too_soon_may_come_later(place, slow):
    """A typed error, which ends nothing: neither the connection nor what the client has."""
    client = Client.acquire(None, False)
    try:
        with kvoshim.Observable("engine") as engine, kvoshim.Observer() as observer:
            seen = []
            observer.observe("engine", "rpm", seen.append)
            with pytest.raises(RateLimitError, match="a client may make 400 requests a second") as caught:
                while True:
                    client.request(lambda number: wire.Ping(number))
            assert isinstance(caught.value, LimitError)
            engine["rpm"] = 1
            until(lambda: seen)

            def later():
                try:
                    observer.observe("engine", "torque", seen.append)
                    return True
                except RateLimitError:
                    return False

            until(later)
            engine["torque"] = 2
            until(lambda: seen[-1].new == 2)
    finally:
        client.release()


def test_a_controller_that_comes_back_is_handed_everything_however_long_it_takes(place):
    """More registrations than the bucket holds: the client waits, and loses none."""
    with kvoshim.Observable("engine", autostart=False) if place.controller() else None as engine:
        seen = {}
        with kvoshim.Observer(autostart=False) as observer:
            for number in range(300):
                observer.observe("engine", f"k{number}", lambda change: seen.update({change.key: change.new}))
            place.controllers[0].kill()
            place.controllers[0].wait(WAIT_S)
            place.controller("--config", str(place.configure(limits={"requests-per-s": 200, "requests-burst": 50})))
            until(lambda: observer.connected)
            for number in range(300):
                engine[f"k{number}"] = number
            until(lambda: len(seen) == 300 and seen["k299"] == 299)


def test_a_pipeline_is_done_in_turns_with_others(place):
    """No rate at all: a client whose thousands of requests lie there does not keep the next one waiting for all of them."""
    place.controller("--config", str(place.configure(limits={"requests-per-s": 0})))
    flooder = flood.Flooder("opening")
    ended = threading.Event()
    thread = threading.Thread(target=flooder.run, args=[ended.is_set])
    client = Client.acquire(None, False)
    try:
        thread.start()
        until(lambda: flooder.sent > 20_000)
        before = sum(flooder.answers.values())
        for _ in range(10):
            client.request(lambda number: wire.Ping(number))
        assert flooder.sent > sum(flooder.answers.values()) or sum(flooder.answers.values()) > before
        until(lambda: sum(flooder.answers.values()) > before, "the flooder is served as well")
        assert "rate" not in flooder.answers
    finally:
        ended.set()
        thread.join()
        client.release()


# --- users ---------------------------------------------


ALL = {"allow": ["observe", "publish"], "user": "*"}


def test_a_user_has_limits_for_all_its_clients(place, serve):  # noqa: F811
    serve(ALL, limits={"per-user": {"clients": 3, "registrations": 5, "names": 2}})
    first, second, third, fourth = (place.peer(NOBODY) for _ in range(4))
    first.do("publish", "a")
    second.do("publish", "b")
    assert f"LimitError: user {NOBODY} may publish 2 observables at a time" in refused(third, "publish", "c")
    for peer, keys in ((first, "xy"), (second, "xyz")):
        for key in keys:
            peer.do("observe", "a", key)
    assert f"LimitError: user {NOBODY} may observe 5 keys at a time" in refused(third, "observe", "a", "x")
    third.do("observables_known")
    assert f"LimitError: user {NOBODY} may have 3 connections at a time" in refused(fourth, "observables_known")
    other = place.peer(OTHER)
    other.do("publish", "c")
    other.do("observe", "c", "x")
    first.do("unobserve", "a", "x")
    until(lambda: third.do("observables_known"))
    third.do("observe", "a", "x")
    second.kill()
    until(lambda: len(other.do("observables_known")) == 3)
    third.do("publish", "d")
    with kvoshim.Observer() as observer:  # the controller's own user
        for number in range(10):
            observer.observe("a", f"k{number}", print)


def test_the_memory_of_a_user_is_bounded_with_what_is_kept_of_it(place, serve):  # noqa: F811
    size = 1 << 20
    serve(ALL, limits={"store-bytes-per-client": 5 * size, "per-user": {"store-bytes": 8 * size}})
    small = {"capacity": size, "max_keys": 16, "history": 0}
    first, second = place.peer(NOBODY), place.peer(NOBODY)
    for name in "abc":
        first.do("publish", name, small)
        first.do("set", name, "x", name)
    large = {**small, "capacity": 4 * size}
    assert "LimitError: the stores of a client may have 5242880 bytes" in refused(first, "publish", "d", large)
    for name in "abc":
        first.do("close", name)
    for name in "def":
        second.do("publish", name, small)
    with kvoshim.Observer() as observer:
        assert observer.get("a", "x") == "a", "what ended is kept as long as there is room"
        first.do("publish", "g", {**small, "capacity": 2 * size})
        until(lambda: {row["name"] for row in observer.observables()} >= {"d", "e", "f", "g"})
        kept = {row["name"] for row in observer.observables()} & set("abc")
        assert kept < set("abc") and "a" not in kept, "the oldest goes first"
        first.do("publish", "h", small)
        first.do("publish", "i", small)
        assert f"the stores of user {NOBODY} may have 8388608 bytes" in refused(second, "publish", "k", small)
        with kvoshim.Observable("own", **large), kvoshim.Observable("small", **{**small, "capacity": 1 << 16}):
            pass
        place.peer(OTHER).do("publish", "j", small)


def test_a_user_that_connects_over_and_over_is_told_to_wait(place, serve):  # noqa: F811
    serve(ALL, limits={"per-user": {"requests-per-s": 100, "requests-burst": 500}})
    assert place.peer(NOBODY).do("attack", "connect_until_refused", place.socket) == "RateLimitError"
    place.peer(OTHER).do("observables_known")
    with kvoshim.Observer() as observer:
        observer.observables()
        with ControlClient(place.socket + ".ctl", WAIT_S) as ctl:
            ctl.call("config-merge", {"controller": {"limits": {"per-user": {"requests-per-s": 0}}}})
        for _ in range(100):
            Link(place.socket).close()


def test_descriptor_channels_without_a_token_do_not_pile_up(place):
    place.controller()
    pid = place.controllers[0].pid
    sockets = []
    try:
        for _ in range(200):
            sockets.append(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
            sockets[-1].connect(place.socket + ".fds")
        until(lambda: place.log_text().count("showed no valid token") >= 136)
        assert len(os.listdir(f"/proc/{pid}/fd")) < 120
        with kvoshim.Observable("engine") as engine:
            engine["rpm"] = 1
    finally:
        for sock in sockets:
            sock.close()


# --- the bucket ---------------------------------------------


def test_a_bucket_gives_its_burst_and_then_its_rate():
    bucket = Bucket()
    taken = sum(bucket.take(1, 0.001, 100) for _ in range(1000))
    assert taken == 100
    assert all(bucket.take(1, 0, 1) for _ in range(1000)), "no rate: no limit"
    began = time.monotonic()
    taken = 0
    while taken < 10:
        taken += bucket.take(1, 200, 100)
    assert time.monotonic() - began >= 9 / 200, "not sooner than the rate allows"


def test_a_trusted_account_has_no_limits():
    share = Share(clients=0, registrations=0, names=0, store_bytes=0, requests_per_s=0.001, requests_burst=1)
    for account in (Account(0, True), Account(NOBODY, False)):
        admit_bytes = functools.partial(account.admit_bytes, 1)
        for check in (account.admit_client, account.admit_registration, account.admit_name, admit_bytes):
            if account.trusted:
                check(share)
            else:
                with pytest.raises(LimitError, match=f"user {NOBODY}"):
                    check(share)
        assert account.take(1, share)
        assert account.take(1, share) == account.trusted
