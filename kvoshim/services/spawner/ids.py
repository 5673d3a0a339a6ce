"""Whom a service runs as: names to the numbers of an order."""

from __future__ import annotations

import os
import pwd

from kvoshim.errors import ConfigurationError, InvalidOrderError
from kvoshim.process.access import number_of


def resolve(user: str = "", group: str = "") -> tuple[int, int, tuple[int, ...]] | None:
    """(user, group, groups) for an order; None for two empty names: nothing is changed. Of a user without a group, the group is the
    user's own and the groups are all that the user is in; of a group alone, it is the only one. A number is as good as a name.
    InvalidOrderError: nobody has this name, or this process may not become it."""
    if not user and not group:
        return None
    try:
        uid = number_of("user", _word(user)) if user else os.geteuid()
        gid = number_of("group", _word(group)) if group else _own_group(uid)
        groups = os.getgrouplist(pwd.getpwuid(uid).pw_name, gid) if user else [gid]
    except ConfigurationError as error:
        raise InvalidOrderError(str(error)) from None
    except KeyError:  # a number that no name belongs to
        groups = [gid]
    if os.geteuid() != 0 and (uid != os.geteuid() or set(groups) - {os.getegid(), *os.getgroups()}):
        raise InvalidOrderError(f"user {user or uid}, group {group or gid}: only root's services may run as somebody else")
    return None if os.geteuid() != 0 and gid == os.getegid() else (uid, gid, tuple(groups))


def _word(text: str) -> str | int:
    return int(text) if text.isascii() and text.isdigit() and int(text) < 2**32 - 1 else text


def _own_group(uid: int) -> int:
    try:
        return pwd.getpwuid(uid).pw_gid
    except KeyError:
        raise InvalidOrderError(f"user {uid} has no entry, so a group must be named") from None
