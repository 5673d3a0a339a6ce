"""Sockets themselves: binding, names, duplicates, identity, context managers, what is left behind."""

import gc
import os
import socket as standard
import stat
import warnings

import pytest
from transportlib import connected, warm_up

from kvoshim import socket as shimmed
from kvoshim import transport


def test_names_hide_the_mark(module, path):
    with module.socket(module.AF_UNIX, module.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen()
        assert listener.getsockname() == path
        with module.socket(module.AF_UNIX, module.SOCK_STREAM) as client:
            client.connect(path)
            server, address = listener.accept()
            with server:
                for _ in range(2):
                    assert address == ""
                    assert client.getsockname() == "" and client.getpeername() == path
                    assert server.getsockname() == path and server.getpeername() == ""
                    warm_up(client, server)


def test_a_bound_client_keeps_its_name(module, path):
    with module.socket(module.AF_UNIX, module.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen()
        with module.socket(module.AF_UNIX, module.SOCK_STREAM) as client:
            client.bind(path + ".client")
            client.connect(path)
            server, address = listener.accept()
            with server:
                assert address == server.getpeername() == client.getsockname() == path + ".client"
                warm_up(client, server)
                client.sendall(b"x")
                assert server.recvfrom(1) == (b"x", path + ".client")


def test_abstract_names(module):
    name = b"\0kvoshim-test-%d" % os.getpid()
    with module.socket(module.AF_UNIX, module.SOCK_STREAM) as listener:
        listener.bind(name)
        listener.listen()
        with module.socket(module.AF_UNIX, module.SOCK_STREAM) as client:
            client.connect(name)
            server, _ = listener.accept()
            with server:
                warm_up(client, server)
                assert client.getpeername() == name


def test_bind_connect_and_listen_errors(module, path):
    def code(call, *args):
        with pytest.raises(OSError) as error:
            call(*args)
        return error.value.errno
    with module.socket(module.AF_UNIX, module.SOCK_STREAM) as one, module.socket(module.AF_UNIX) as two:
        assert code(one.connect, path) == 2  # ENOENT
        assert one.connect_ex(path) == 2
        assert code(one.connect, "x" * 200) is None  # "AF_UNIX path too long"
        one.bind(path)
        assert code(two.bind, path) == 98  # EADDRINUSE
        assert code(two.connect, path) == 111  # ECONNREFUSED: nobody listens
        assert code(two.recv, 1) in (22, 107)
        assert code(two.send, b"x") == 107  # ENOTCONN
        assert code(two.getpeername) == 107
        one.listen()
        two.connect(path)  # a socket that failed to connect can be used again
        server, _ = one.accept()
        with server:
            warm_up(two, server)
            assert code(two.connect, path) == 106  # EISCONN


def test_fileno_is_the_real_descriptor(ends):
    for sock in ends:
        assert stat.S_ISSOCK(os.fstat(sock.fileno()).st_mode)
        assert not os.get_inheritable(sock.fileno())


def test_properties(module):
    with module.socket(module.AF_UNIX, module.SOCK_STREAM) as sock:
        assert (sock.family, sock.type, sock.proto) == (module.AF_UNIX, module.SOCK_STREAM, 0)
        assert isinstance(sock, standard.socket)
        assert f"fd={sock.fileno()}" in repr(sock)


def test_detach_and_take_up_again(ends):
    client, server = ends
    fd = client.detach()
    assert client.fileno() == -1
    with pytest.raises(OSError):
        client.send(b"x")
    again = type(client)(fileno=fd)
    with again:
        again.sendall(b"over the same connection")
        assert server.recv(100) == b"over the same connection"
        server.sendall(b"yes")
        assert again.recv(3) == b"yes"
    assert server.recv(1) == b""


def test_a_detached_descriptor_closed_elsewhere(ends):
    """Its number is used again by a new socket, which must not meet the old connection."""
    client, server = ends
    fd = client.detach()
    os.close(fd)
    new = [client.__class__(standard.AF_UNIX, standard.SOCK_STREAM)]
    while new[-1].fileno() != fd:
        new.append(client.__class__(standard.AF_UNIX, standard.SOCK_STREAM))
    with pytest.raises(OSError):
        new[-1].sendall(b"for nobody")
    for sock in new:
        sock.close()
    assert server.recv(1) == b""


def test_a_detached_descriptor_used_by_others(module, path):
    """Fresh connections only: what has switched can be used through the module alone."""
    client, server = connected(module, path)
    with server:
        with open(client.detach(), "r+b", buffering=0) as file:
            file.write(b"request")
            assert server.recv(100) == b"request"
            server.sendall(b"answer")
            assert file.read(6) == b"answer"
            file.write(b"second")
            assert server.recv(100) == b"second"


def test_dup_shares_the_connection(ends):
    client, server = ends
    copy = client.dup()
    assert copy.fileno() != client.fileno()
    client.sendall(b"one ")
    copy.sendall(b"two")
    assert server.recv(7, standard.MSG_WAITALL) == b"one two"
    client.close()
    server.sendall(b"still open")
    assert copy.recv(100) == b"still open"
    copy.close()
    assert server.recv(1) == b""


def test_fromfd(module, path):
    client, server = connected(module, path)
    with client, server:
        with module.fromfd(server.fileno(), module.AF_UNIX, module.SOCK_STREAM) as copy:
            warm_up(client, copy)
        warm_up(client, server)


def test_context_manager_closes(module, path):
    client, server = connected(module, path)
    with server:
        with client as same:
            assert same is client
        assert client.fileno() == -1
        assert server.recv(1) == b""


def test_a_forgotten_socket_warns_and_closes(module, path):
    client, server = connected(module, path)
    with server, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        warm_up(client, server)
        del client
        gc.collect()
        assert server.recv(1) == b""
    assert [w for w in caught if issubclass(w.category, ResourceWarning)], "the standard module warns"


def test_bad_arguments_leave_nothing(module, recwarn):
    for args in ((12345, 1), (module.AF_UNIX, 999)):
        with pytest.raises(OSError):
            module.socket(*args)
    with pytest.raises(OSError):
        module.socket(fileno=9999)
    gc.collect()


def test_connection_id(path):
    client, server = connected(shimmed, path)
    with client, server:
        warm_up(client, server)
        assert client.connection_id <= -100 and server.connection_id <= -100
        assert client.connection_id != server.connection_id
        ident = client.connection_id
        with client.dup() as copy:
            assert copy.connection_id == ident
    assert client.connection_id is None


def test_no_connection_id_on_other_sockets():
    with shimmed.socket(shimmed.AF_INET, shimmed.SOCK_STREAM) as listener:
        assert listener.connection_id is None
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with shimmed.create_connection(listener.getsockname()) as client:
            server, _ = listener.accept()
            with server:
                warm_up(client, server)
                assert server.connection_id is None
    with shimmed.socket(shimmed.AF_UNIX, shimmed.SOCK_DGRAM) as sock:
        assert sock.connection_id is None
    with shimmed.socket(shimmed.AF_UNIX, shimmed.SOCK_STREAM) as sock:
        assert sock.connection_id is None


def test_a_refused_connection_is_plain_and_counted(path):
    """A client that has bound its socket itself can't be marked."""
    before = transport.refusals().get("bound", 0)
    with shimmed.socket(shimmed.AF_UNIX, shimmed.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen()
        with shimmed.socket(shimmed.AF_UNIX, shimmed.SOCK_STREAM) as client:
            client.bind(path + ".client")
            client.connect(path)
            server, _ = listener.accept()
            with server:
                warm_up(client, server)
                assert client.connection_id is None and server.connection_id is None
    assert transport.refusals()["bound"] == before + 1


def test_every_name_of_the_standard_module_is_there():
    assert set(standard.__all__) <= set(dir(shimmed))
    assert shimmed.error is OSError and shimmed.timeout is TimeoutError


def test_many_connections(module, path):
    """200 at a time, three rounds; descriptors and slots are used again."""
    with module.socket(module.AF_UNIX, module.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen(256)
        for _ in range(3):
            clients, servers = [], []
            for _ in range(200):
                client = module.socket(module.AF_UNIX, module.SOCK_STREAM)
                client.connect(path)
                clients.append(client)
                servers.append(listener.accept()[0])
            for number, (client, server) in enumerate(zip(clients, servers, strict=True)):
                warm_up(client, server)
                client.sendall(b"%d" % number)
            for number, server in enumerate(servers):
                assert server.recv(10) == b"%d" % number
            for sock in clients + servers:
                sock.close()
