"""What the administrator says of remote registries, in the global file: an operator's own cluster, by scope.

    {"remote": {"host": {"servers": ["tls://nats-1:4222", "tls://nats-2:4222"], "ca-file": "/etc/kvoshim/ca.pem"}}}

Applications never talk to it: their local registry does. The file is for everybody to read, so what is to stay secret belongs into the
configuration file of the host's registry, or is the key in a certificate-file of root's.
"""

from __future__ import annotations

import os
import pwd
import re

import msgspec

from kvoshim import process
from kvoshim.errors import ConfigurationError
from kvoshim.registry import seat
from kvoshim.registry.daemon.settings import Cluster
from kvoshim.registry.seat import hostwide


class Remote(process.Section, frozen=True, kw_only=True):
    """host: for the registry of all users of this host; user: for each user's own."""

    host: Cluster | None = None
    user: Cluster | None = None


def cluster(scope: seat.Scope) -> Cluster | None:
    """The cluster that the global file names for a scope. ConfigurationError."""
    try:
        section = msgspec.convert(hostwide.document().get("remote", {}), Remote)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"{hostwide.path()}: remote: {error}") from None
    return section.host if scope.public else section.user


def for_scope(named: Cluster, scope: seat.Scope) -> Cluster:
    """The same with the bucket of this scope: each user has one of their own."""
    if scope.public:
        return named
    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        user = str(os.geteuid())
    user = re.sub("[^A-Za-z0-9_-]", lambda found: f"={ord(found[0]):x}", user).replace("=", "_")
    return msgspec.structs.replace(named, bucket=f"{named.bucket[:40]}-{user}"[:64])
