"""Runs the stream tests of CPython's own test.test_socket and test.test_socketserver over Unix sockets, with kvoshim.socket in
place of the socket module: driver.py module|patch. Prints a line of JSON: what ran, failed, was skipped, has switched.

Their connections exchange a few messages first, so that they have switched when the test begins; clients are not bound to
a path, which would keep them on the kernel; the classes that are written for TCP get a Unix connection.
"""

import contextlib
import io
import json
import sys
import tempfile
import unittest

import kvoshim
from kvoshim import socket, transport

if sys.argv[1] == "patch":
    assert kvoshim.patch() == "active"
else:
    sys.modules["socket"] = socket

import test.test_socket as sockets  # noqa: E402
import test.test_socketserver as servers  # noqa: E402

ON_UNIX = ["SendmsgUnixStreamTest", "RecvmsgUnixStreamTest", "RecvmsgIntoUnixStreamTest", "RecvmsgSCMRightsStreamTest",
           "RecvmsgIntoSCMRightsStreamTest"]
AS_THEY_ARE = ["TestUnixDomain", "BasicSocketPairTest", "SendRecvFdsTests"]
WRITTEN_FOR_TCP = ["BasicTCPTest", "BufferIOTest", "FileObjectClassTestCase", "UnbufferedFileObjectClassTestCase",
                   "LineBufferedFileObjectClassTestCase", "SmallBufferedFileObjectClassTestCase",
                   "UnicodeReadFileObjectClassTestCase", "UnicodeWriteFileObjectClassTestCase",
                   "UnicodeReadWriteFileObjectClassTestCase"]


def serve_some(connection):
    for _ in range(3):
        assert connection.recv(4) == b"ping"
        connection.sendall(b"pong")


def ask_some(connection):
    for _ in range(3):
        connection.sendall(b"ping")
        assert connection.recv(4) == b"pong"


class Switched:
    """For classes on Unix sockets: in front of the others."""

    def bindClient(self):
        self.cli_addr = ""

    def setUp(self):
        super().setUp()
        serve_some(self.cli_conn)

    def clientSetUp(self):
        super().clientSetUp()
        ask_some(self.serv_conn)


def set_up(self):
    self.folder = tempfile.TemporaryDirectory()
    self.path = self.folder.name + "/socket"
    self.serv = sockets.socket.socket(socket.AF_UNIX)
    self.serv.bind(self.path)
    self.serv.listen()
    self.serverExplicitReady()
    self.cli_conn, _ = self.serv.accept()
    serve_some(self.cli_conn)


def tear_down(self):
    self.cli_conn.close()
    self.serv.close()
    self.folder.cleanup()


def client_set_up(self):
    self.cli = self.serv_conn = sockets.socket.socket(socket.AF_UNIX)
    self.cli.connect(self.path)
    ask_some(self.cli)


def suite():
    load = unittest.defaultTestLoader.loadTestsFromTestCase
    tests = unittest.TestSuite()
    base = sockets.SocketConnectedTest
    base.setUp, base.tearDown, base.clientSetUp = set_up, tear_down, client_set_up
    for name in ON_UNIX:
        tests.addTests(load(type(name, (Switched, getattr(sockets, name)), {"__module__": "test.test_socket"})))
    for name in AS_THEY_ARE + WRITTEN_FOR_TCP:
        tests.addTests(load(getattr(sockets, name)))
    for name in unittest.defaultTestLoader.getTestCaseNames(servers.SocketServerTest):
        if "UnixStream" in name:
            tests.addTest(servers.SocketServerTest(name))
    return tests


with contextlib.redirect_stdout(io.StringIO()):
    result = unittest.TextTestRunner(stream=io.StringIO(), verbosity=0).run(suite())
print(json.dumps({
    "ran": result.testsRun, "switched": transport.accelerated(),
    "failed": {test.id(): text for test, text in result.failures + result.errors},
    "skipped": {test.id(): why for test, why in result.skipped}}))
