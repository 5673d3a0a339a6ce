"""Runs marked tests in a process under the preload library, each under its own name in the one report.

A test that is marked `preloaded` is not run by the pytest that collected it: a second pytest, started once under the
library with the same folder, runs it on request and sends its reports back. A folder's conftest.py takes part by
importing the hooks below.
"""

import json
import os
import subprocess
import sys
import tempfile

import pytest
import shimlib

from kvoshim import launcher

_CHANNEL = "PRELOADED_RUN"  # in the second pytest: "request descriptor,answer descriptor"
_IS_WORKER = _CHANNEL in os.environ
_workers = {}


class Worker:
    """The second pytest. Requests and answers are lines of JSON."""

    def __init__(self, config, folder):
        self.config = config
        self.output = tempfile.TemporaryFile("w+")
        self.log = tempfile.NamedTemporaryFile(prefix="kvo-", suffix=".log")
        requests, self.requests = os.pipe()
        self.answers, answers = os.pipe()
        env = shimlib.plain_env(**launcher.variables("*"), KVOSHIM_LOG="debug", KVOSHIM_LOG_FILE=self.log.name,
                                **{_CHANNEL: f"{requests},{answers}"})
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", folder], cwd=config.rootpath, env=env,
            stdin=subprocess.DEVNULL, stdout=self.output, stderr=subprocess.STDOUT, pass_fds=(requests, answers))
        os.close(requests), os.close(answers)
        self.requests = os.fdopen(self.requests, "w")
        self.answers = os.fdopen(self.answers)

    def run(self, item):
        """The test's reports."""
        try:
            print(json.dumps(item.nodeid), file=self.requests, flush=True)
            answer = self.answers.readline()
        except BrokenPipeError:
            answer = ""
        if answer:
            return [self.config.hook.pytest_report_from_serializable(config=self.config, data=data)
                    for data in json.loads(answer)]
        self.end()
        self.output.seek(0)
        text = f"the pytest under the library ended with {self.process.returncode}:\n{self.output.read()[-8000:]}"
        return [pytest.TestReport(item.nodeid, item.location, {}, "failed", text, "call")]

    def end(self):
        for pipe in (self.requests, self.answers):
            try:
                pipe.close()
            except BrokenPipeError:
                pass
        self.process.wait()

    @property
    def alive(self):
        return not self.requests.closed


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    """Has the worker run a marked test."""
    if _IS_WORKER or not item.get_closest_marker("preloaded"):
        return None
    folder = str(item.path.parent)
    if folder not in _workers or not _workers[folder].alive:
        _workers[folder] = Worker(item.config, folder)
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in _workers[folder].run(item):
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    item.session._setupstate.teardown_exact(nextitem)  # what the test before had left for its neighbours here
    return True


def pytest_sessionfinish():
    while _workers:
        worker = _workers.popitem()[1]
        if worker.alive:
            worker.end()
        worker.output.close(), worker.log.close()


def pytest_runtestloop(session):
    """In the worker: serves requests until there are no more."""
    if not _IS_WORKER:
        return None
    requests, answers = map(int, os.environ[_CHANNEL].split(","))
    for fd in (requests, answers):
        os.set_inheritable(fd, False)
    items = {item.nodeid: item for item in session.items}
    reports = []

    class Collector:
        def pytest_runtest_logreport(self, report):
            reports.append(session.config.hook.pytest_report_to_serializable(config=session.config, report=report))
    session.config.pluginmanager.register(Collector())
    with os.fdopen(requests) as incoming, os.fdopen(answers, "w") as outgoing:
        for line in incoming:
            item = items[json.loads(line)]
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
            print(json.dumps(reports), file=outgoing, flush=True)
            reports.clear()
    return True
