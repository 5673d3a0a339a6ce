"""What costs nothing: waiting. And what must not grow: descriptors."""

import time

import psutil
from kvo_harness import until

import kvoshim


def test_idle_controller_and_clients_use_no_cpu(place):
    controller = place.controller()
    publisher, observer = place.peer(), place.peer()
    publisher.do("publish", "engine")
    observer.do("observe", "engine", None)
    publisher.do("set", "engine", "rpm", 1)
    until(lambda: observer.values() == [1])
    time.sleep(0.5)
    processes = [psutil.Process(pid) for pid in (controller.pid, publisher.pid, observer.pid)]

    def used():
        return [sum(process.cpu_times()[:2]) for process in processes]

    before = used()
    time.sleep(2)
    spent = [round(after - earlier, 3) for after, earlier in zip(used(), before, strict=True)]
    # The repair tick is all there is: a few hundred microseconds a second at most. The clock counts in 10 ms.
    assert max(spent) <= 0.03, f"CPU seconds in 2 s of controller, publisher, observer: {spent}"
    publisher.do("set", "engine", "rpm", 2)
    until(lambda: observer.values() == [1, 2])


def test_nothing_grows_with_the_number_of_clients_that_were(place):
    controller = psutil.Process(place.controller().pid)
    peer = place.peer()

    def turn(number):
        with kvoshim.Observable(f"name{number % 3}") as observable, kvoshim.Observer() as observer:
            observable["x"] = number
            seen = []
            observer.observe(f"name{number % 3}", None, seen.append)
            peer.do("get", f"name{number % 3}", "x")
            until(lambda: seen)

    def held():
        return controller.num_fds(), peer.do("descriptors"), len(controller.memory_maps())

    for number in range(6):
        turn(number)
    until(lambda: controller.num_fds() == held()[0])
    before = held()
    for number in range(30):
        turn(number)
    until(lambda: held() == before, f"descriptors and mappings are as before: {before}, {held()}")


def test_a_controller_with_nobody_does_not_wake_up(place):
    controller = psutil.Process(place.controller().pid)
    time.sleep(0.5)
    before = controller.num_ctx_switches().voluntary
    time.sleep(2)
    assert controller.num_ctx_switches().voluntary == before
