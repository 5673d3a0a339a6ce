"""100,000 keys and thousands of observations: what the controller keeps of each, and that all of them cost nothing while nothing
happens. (What set() and get() take among so many is measured: kvo-set-among, kvo-get-among in kvoshim/bench/cases/kvo.py.)"""

import time

import psutil
from kvo_harness import until

import kvoshim

KEYS, FIRST, MORE = 100_000, 500, 2000
BYTES = 1024  # of the controller for an observation, its row in the registration table included


def test_an_observation_takes_less_than_a_kibibyte_of_the_controller_and_no_time(place):
    controller = psutil.Process(place.controller().pid)
    with (
        kvoshim.Observable("even", max_keys=KEYS // 2) as even,
        kvoshim.Observable("odd", max_keys=KEYS // 2) as odd,
        kvoshim.Observer() as observer,
    ):
        for number in range(KEYS):
            (odd if number % 2 else even).set(f"key{number}", number)
        seen = set()

        def observe(numbers):
            for number in numbers:
                observer.observe("odd" if number % 2 else "even", f"key{number}", lambda change: seen.add(change.key))
            until(lambda: seen >= {f"key{number}" for number in numbers})
            time.sleep(0.2)  # what answering took is given back
            return controller.memory_full_info().uss

        before = observe(range(KEYS - FIRST, KEYS))  # the last ones: it knows all keys then
        after = observe(range(MORE))
        assert (after - before) / MORE < BYTES
        spent = sum(controller.cpu_times()[:2])
        time.sleep(1)
        assert sum(controller.cpu_times()[:2]) - spent <= 0.02  # the clock counts in 10 ms
        seen.clear()
        even.set("key0", "a")
        odd.set(f"key{KEYS - 1}", "b")
        until(lambda: seen == {"key0", f"key{KEYS - 1}"})
