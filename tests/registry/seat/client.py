"""A process that finds its registry. One command a line on standard input, one answer of JSON:

    connect    {"pid", "address", "scope"} or {"error", "text"}
    wait       until the registry's connection ends: {"ended": PID}
    race       as connect, for the scope of the last contact

Arguments: words of the command that starts a registry; none: it starts none. Before them, perhaps, --user N: the process becomes
that user, and starts this folder's small registry by forking, since such a user may not be allowed to run this interpreter.
"""

import json
import os
import sys

import holder

from kvoshim.errors import KvoshimError
from kvoshim.process import jsontext  # noqa: F401  as that user, it could not be imported any more
from kvoshim.registry import seat

start = sys.argv[1:] or False
if start and start[0] == "--user":
    user, start = int(start[1]), start[2:] and (lambda scope: holder.main(["--scope", scope.text, "--detach"]))
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
contact = None


def find(look) -> dict:
    global contact
    try:
        found = look()
    except KvoshimError as error:
        return {"error": type(error).__name__, "text": str(error)}
    if contact is not None:
        contact.sock.close()
    contact = found
    contact.sock.settimeout(60)
    said = b""
    while not said.endswith(b"\n"):
        said += contact.sock.recv(64) or b"0\n"
    return {"pid": int(said), "address": contact.address, "scope": contact.scope.text}


def wait() -> dict:
    try:
        while contact.sock.recv(64):
            pass
    except ConnectionError:
        pass
    return {"ended": contact.pid}


for command in sys.stdin:
    match command.strip():
        case "connect":
            answer = find(lambda: seat.connect(timeout=60, start=start))
        case "race":
            answer = find(lambda: seat.race(contact.scope, timeout=60, start=start))
        case "wait":
            answer = wait()
    print(json.dumps(answer), flush=True)
if contact is not None:
    contact.sock.close()
