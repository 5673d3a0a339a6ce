"""`python -m test`, but each test's result goes into a file at once: regrtest.py FILE LIMIT ARGUMENT...

A line each: "start", "passed", "failed" or "skipped", and the test's name. So what had happened is known even when the
interpreter crashes. A test that takes over LIMIT seconds ends the process with a traceback of its threads.
"""

import faulthandler
import sys
import unittest


def record(method_name, what):
    """Wrap a method of unittest.TestResult so that it also notes the result."""
    method = getattr(unittest.TestResult, method_name)

    def wrapped(self, test, *rest):
        if what == "start":
            faulthandler.dump_traceback_later(LIMIT, exit=True)
        if method_name != "addSubTest" or rest[-1] is not None:  # a subtest that passes says nothing
            with open(FILE, "a") as file:
                file.write(f"{what} {test.id()}\n")
        return method(self, test, *rest)

    setattr(unittest.TestResult, method_name, wrapped)


if __name__ == "__main__":  # multiprocessing imports this file in its children
    FILE, LIMIT = sys.argv[1], float(sys.argv[2])
    sys.argv = [sys.argv[0], *sys.argv[3:]]
    for name, how in (("startTest", "start"), ("addSuccess", "passed"), ("addExpectedFailure", "passed"),
                      ("addFailure", "failed"), ("addError", "failed"), ("addSubTest", "failed"),
                      ("addUnexpectedSuccess", "failed"), ("addSkip", "skipped")):
        record(name, how)
    from test.libregrtest.main import main

    main()
