"""Connections to NATS servers: to other hosts' with the user's certificates, or to an operator's cluster as it is configured. A server
that is too old is refused at once. A connection that is lost is not repaired but made anew by whoever needs it, with all that it
carries: nats-py's own watcher takes up to 20 s to notice that its consumer is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Sequence

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import KeyValueConfig, StorageType
from nats.js.kv import KeyValue

from kvoshim.errors import HostsError
from kvoshim.federation import keys
from kvoshim.federation.authority import NAME, Identity
from kvoshim.registry.daemon.settings import Cluster

_OLDEST = (2, 11)  # expiry of single keys, with a marker for those who watch
CONNECT_S = 2.0
_CLOSE_S = 0.5  # for what is still to be sent; over a link that is cut it never is
_MARKER_S = 60  # that the marker of an expired key stays
_NAME_IN_USE = 10058  # JetStream's code: there is a stream of that name with another configuration
FAILURES = (OSError, TimeoutError, nats.errors.Error, HostsError, ValueError)


def words(error: BaseException) -> str:
    """What went wrong, for people: some of these errors say nothing by themselves."""
    return f"{error}" or type(error).__name__


class Connection:
    """closed: set when the connection is lost."""

    def __init__(self, client: Client, closed: asyncio.Event, timeout: float, bucket: str) -> None:
        self.client = client
        self.closed = closed
        self.bucket = bucket
        self.stream = f"KV_{bucket}"
        self.js: JetStreamContext = client.jetstream(timeout=timeout)

    def subject(self, key: str) -> str:
        return f"$KV.{self.bucket}.{key}"

    async def open_bucket(self, replicas: int = 1) -> KeyValue:
        """The bucket, which is made if it is not there. HostsError if there is one that is of no use."""
        config = KeyValueConfig(
            bucket=self.bucket, description="kvoshim registry: who is registered on which host", history=1, replicas=replicas,
            max_value_size=keys.VALUE_MAX, storage=StorageType.MEMORY, limit_marker_ttl=_MARKER_S,
        )  # fmt: skip
        try:
            return await self.js.create_key_value(config)
        except nats.js.errors.APIError as error:
            if error.err_code != _NAME_IN_USE:
                raise
        found = (await self.js.stream_info(self.stream)).config
        if not found.allow_msg_ttl or not found.subject_delete_marker_ttl:
            raise HostsError(f"the bucket {self.bucket} was made without limit markers (TTL): remove it, or name another one")
        return await self.js.key_value(self.bucket)

    async def close(self) -> None:
        await _close(self.client)


async def _close(client: Client) -> None:
    with contextlib.suppress(Exception):  # whatever it is: the connection is at its end
        await asyncio.wait_for(client.close(), _CLOSE_S)


class Connector:
    """identity: of this host, for other hosts' servers; cluster: in place of that. lease: in seconds; what is lost is to be noticed
    within it."""

    def __init__(self, name: str, identity: Identity | None, cluster: Cluster | None, lease: float) -> None:
        self._name = name
        self._identity = identity
        self._cluster = cluster
        self.timeout = max(1.0, lease / 3)
        self.replicas = cluster.replicas if cluster is not None else 1

    async def connect(self, servers: Sequence[str], host: str) -> Connection:
        """To a host's server, at the first of these addresses that answers: HOST:PORT, or as an operator names them. Often some of a
        host's addresses cannot be reached from another one, so they are tried at once. One of FAILURES."""
        failure: BaseException = HostsError("no address is known")
        tries = [asyncio.create_task(self._connect(server, host)) for server in servers]
        chosen = None
        try:
            for one in asyncio.as_completed(tries):
                try:
                    chosen = await one
                    return chosen
                except FAILURES as error:
                    failure = error
            raise failure
        finally:
            for one in tries:
                if one.done() and not one.cancelled() and one.exception() is None and one.result() is not chosen:
                    await one.result().close()
                one.cancel()

    async def _connect(self, server: str, host: str) -> Connection:
        closed = asyncio.Event()
        client = Client()

        async def on_closed() -> None:
            closed.set()

        async def on_error(error: Exception) -> None:
            """Once it is connected, the call that fails tells, or the connection's end. Before, nats-py would try over and over."""
            if not client.is_connected and not client.is_closed:
                raise error

        try:
            await asyncio.wait_for(
                client.connect(
                    server if "://" in server else f"tls://{server}", name=self._name, allow_reconnect=False,
                    connect_timeout=CONNECT_S, ping_interval=self.timeout, max_outstanding_pings=2, error_cb=on_error,
                    closed_cb=on_closed, **self._options(server),
                ),
                2 * CONNECT_S,
            )  # fmt: skip
        except BaseException:
            await _close(client)
            raise
        version = client.connected_server_version
        if (version.major, version.minor) < _OLDEST:
            await _close(client)
            raise HostsError(f"the nats-server at {server} is of version {version.major}.{version.minor}; 2.11 or later is needed")
        bucket = keys.bucket(host) if self._cluster is None else self._cluster.bucket
        return Connection(client, closed, self.timeout, bucket)

    def _options(self, server: str) -> dict:
        cluster = self._cluster
        if cluster is None:
            return {"tls": self._identity.context(), "tls_hostname": NAME, "tls_handshake_first": True}
        options = {}
        if cluster.user:
            options |= {"user": cluster.user, "password": cluster.password}
        if cluster.secret_token:
            options["token"] = cluster.secret_token
        if server.startswith("tls://") or cluster.ca_file:
            try:
                context = ssl.create_default_context(cafile=cluster.ca_file or None)
                if cluster.certificate_file:
                    context.load_cert_chain(cluster.certificate_file)
            except (OSError, ssl.SSLError) as error:
                raise HostsError(f"{cluster.ca_file} or {cluster.certificate_file} cannot be used: {error}") from None
            options["tls"] = context
        return options
