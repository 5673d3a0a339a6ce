"""The verbs of `kvoshim svc`."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from kvoshim.errors import KvoshimError, RepositoryUnavailableError, UnknownServiceError
from kvoshim.services import stack
from kvoshim.services.configd.client import Client, updated
from kvoshim.services.core import composing, explain, graph, looking, manifests, operations, plan, transacting
from kvoshim.services.core.model import Repository, Service, split
from kvoshim.services.core.operations import DropSnapshot, Enable, Refresh, Revert, SetProperty, Take
from kvoshim.services.core.states import UP, Phase

LATE = 3  # the exit code for "not in time"
_SETTLED_S = 0.05


def _printable(text: str) -> str:
    """What services say reaches the terminal without control sequences."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def _since(unix: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(unix)) if unix else "-"


def _services(client: Client) -> dict[str, Service]:
    return client.read().services


def _full(name: str, nodes: Iterable[str]) -> str:
    """UnknownServiceError, with what there is."""
    full = graph.target_name(name)
    if full not in nodes:
        import difflib

        near = difflib.get_close_matches(full, list(nodes), 1)
        raise UnknownServiceError(f"there is no {full}" + (f"; did you mean {near[0]}?" if near else " (kvoshim svc list)"))
    return full


# --- looking ---------------------------------------------


def list_(args: argparse.Namespace) -> int:
    with Client(args.directory) as client:
        nodes = looking.nodes_of(_services(client))
    rows = []
    for name in sorted(nodes):
        node = nodes[name]
        bad = node.wanted and node.status.phase not in UP
        if not args.faults or bad:
            status = node.status
            rows.append({"name": name, "state": status.state, "next": status.next, "since": status.since, "pid": status.pid,
                         "enabled": node.wanted, "reason": status.reason})  # fmt: skip
    if args.json:
        print(json.dumps(rows, ensure_ascii=False))
        return 0
    width = max((len(row["name"]) for row in rows), default=4)
    print(f"{'NAME':{width}}  {'STATE':13}  {'SINCE':19}  {'PID':>7}  REASON")
    for row in rows:
        state = f"{row['state']}{'>' + row['next'] if row['next'] else ''}"
        reason = _printable(row["reason"])
        print(f"{row['name']:{width}}  {state:13}  {_since(row['since'])}  {row['pid'] or '-':>7}  {reason}".rstrip())
    return 0


def status(args: argparse.Namespace) -> int:
    with Client(args.directory) as client:
        services = _services(client)
    nodes = looking.nodes_of(services)
    name = _full(args.target, nodes)
    node, instance = nodes[name], looking.instances_of(services)[name]
    reported = instance.volatile.get("restarter", {})
    edited = not composing.is_refreshed(services[split(name)[0]], instance)
    facts = {
        "name": name, "description": node.view.description, "enabled": node.wanted, "state": node.status.state,
        "next": node.status.next, "since": node.status.since, "reason": node.status.reason, "pid": node.status.pid,
        "run": node.status.run, "failures": len(node.status.failures), "says": reported.get("words", ""), "edited": edited,
        "snapshots": sorted(instance.snapshots), "log": _log_path(args.directory, name, node),
        "depends-on": [f"{d.grouping} {' '.join(d.targets)} ({d.restart_on})" for d in node.view.dependencies.values()],
    }  # fmt: skip
    if args.json:
        print(json.dumps(facts, ensure_ascii=False))
        return 0
    facts["since"] = _since(facts["since"])
    for key, value in facts.items():
        if value not in ("", [], 0):
            shown = ", ".join(value) if isinstance(value, list) else str(value).lower() if isinstance(value, bool) else str(value)
            print(f"{key:12}{_printable(shown)}")
    return 0


def explain_(args: argparse.Namespace) -> int:
    with Client(args.directory) as client:
        nodes = looking.nodes_of(_services(client))
    if args.target:
        found = [explain.explain(_full(args.target, nodes), nodes, os.path.exists)]
    else:
        found = explain.faults(nodes, os.path.exists)
    if args.json:
        print(json.dumps(msgspec.to_builtins(found[0] if args.target else found), ensure_ascii=False))
        return 0
    if not found:
        print("all that is enabled runs")
    for one in found:
        _tell(one, args.directory, nodes)
    return 0


def _tell(one: explain.Explanation, directory: str, nodes: graph.Nodes) -> None:
    if one.runs:
        print(f"{one.name} runs" + (f": {_printable(one.root.reason)}" if one.root.reason else ""))
        return
    print(f"{one.name} does not run")
    for depth, link in enumerate(one.chain):
        state = f"{link.state}: " if link.state else ""
        print(f"{'  ' * (depth + 1)}{link.name}  {state}{_printable(link.reason)}")
    root = one.root
    print(f"  root cause: {root.name}" + (f", since {_since(root.since)}" if root.since else ""))
    if root.name in nodes:
        print(f"  log: {_log_path(directory, root.name, nodes[root.name])}")
    print(f"  it holds back: {len(one.holds_back)}" + (f" ({', '.join(one.holds_back[:8])})" if one.holds_back else ""))


def _log_path(directory: str, name: str, node: graph.Node) -> str:
    path = node.view.get("log", "path", "")
    return str(path) or os.path.join(directory, "logs", name.replace("/", "+") + ".log")


def log(args: argparse.Namespace) -> int:
    with Client(args.directory) as client:
        nodes = looking.nodes_of(_services(client))
    name = _full(args.target, nodes)
    path = _log_path(args.directory, name, nodes[name])
    try:
        file = open(path, "rb")  # noqa: SIM115
    except FileNotFoundError:
        print(f"kvoshim svc: {name} has printed nothing yet ({path})", file=sys.stderr)
        return 0
    with file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - (1 << 20)))
        lines = file.read().splitlines()[-args.lines :] if args.lines > 0 else []
        for line in lines:
            print(_printable(line.decode("utf-8", "replace")))
        while args.follow:
            sys.stdout.flush()
            for line in file:
                print(_printable(line.decode("utf-8", "replace").rstrip("\n")))
            if not os.path.exists(path) or os.stat(path).st_ino != os.fstat(file.fileno()).st_ino:
                return log(argparse.Namespace(**{**vars(args), "lines": 1 << 20}))  # it was rotated
            time.sleep(0.2)
    return 0


# --- changing ---------------------------------------------


def _settle(client: Client, done: Callable[[dict], bool], timeout: float) -> bool:
    """Waits until done(nodes)."""
    deadline = time.monotonic() + timeout
    services = dict(client.watch().services)
    while not done(looking.nodes_of(services)):
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        for happened in client.changes(left):
            services = updated(services, happened)
    return True


def _is(name: str, up: bool) -> Callable[[dict], bool]:
    def done(nodes: dict) -> bool:
        phase = nodes[name].status.phase
        return phase in UP if up else phase in (Phase.DISABLED, Phase.MAINTENANCE)

    return done


def _after(client: Client, args: argparse.Namespace, name: str, up: bool) -> int:
    if not args.wait:
        return 0
    if _settle(client, _is(name, up), args.wait):
        return 0
    nodes = looking.nodes_of(_services(client))
    print(f"kvoshim svc: {name} is {nodes[name].status.state} after {args.wait:g} s: {nodes[name].status.reason}", file=sys.stderr)
    return LATE


def enable(args: argparse.Namespace) -> int:
    up = args.verb in ("enable", "start")
    temporary = args.verb in ("start", "stop") or args.temporary
    with Client(args.directory) as client:
        nodes = looking.nodes_of(_services(client))
        name = _full(args.target, nodes)
        client.transact(Enable(target=name, enabled=up, temporary=temporary))
        if args.verb == "start" and nodes[name].status.phase in (Phase.MAINTENANCE, Phase.BACKOFF):
            stack.order(args.directory, "clear", {"target": name})
        return _after(client, args, name, up)


def order(args: argparse.Namespace) -> int:
    with Client(args.directory) as client:
        nodes = looking.nodes_of(_services(client))
        name = _full(args.target, nodes)
        arguments = {"target": name}
        if args.verb == "mark":
            arguments |= {"state": args.state, "reason": args.reason}
        told = stack.order(args.directory, args.verb, arguments)
        if args.json:
            print(json.dumps(told, ensure_ascii=False))
        if args.verb == "mark" or not args.wait:
            return 0
        if args.verb == "restart":
            run = nodes[name].status.run
            if _settle(client, lambda now: now[name].status.run > run and now[name].status.phase in UP, args.wait):
                return 0
        return _after(client, args, name, True)


def refresh(args: argparse.Namespace) -> int:
    with Client(args.directory) as client:
        name = _full(args.target, looking.nodes_of(_services(client)))
        revision = client.transact(Refresh(target=name)).revision
        if not args.wait:
            return 0
        if _settle(client, lambda now: now[name].status.applied >= revision and now[name].status.phase in UP, args.wait):
            return 0
        return _after(client, args, name, True)


def import_(args: argparse.Namespace) -> int:
    wanted = _manifests(args.path)
    if args.check:
        transacting.transact(Repository(), tuple(wanted), taken=0.0)
        print(f"{len(wanted)} manifests are valid")
        return 0
    with Client(args.directory) as client:
        _import(client, wanted)
    return 0


def _manifests(paths: list[str]) -> list[operations.Import]:
    if not paths:
        raise KvoshimError("which files? (- is standard input)")
    found = []
    for path in stack.manifests_of(paths):
        try:
            if path == "-":
                text = sys.stdin.read()
            else:
                with open(path, encoding="utf-8") as file:
                    text = file.read()
        except (OSError, UnicodeDecodeError) as error:
            raise KvoshimError(f"{path} cannot be read: {error}") from None
        found += manifests.parse(text, path)
    return found


def _import(client: Client, wanted: list[operations.Import]) -> None:
    """In one transaction, in force. What is in force already is not refreshed once more."""
    here = client.read()
    before = Repository(revision=here.revision, pulse=here.pulse, services=here.services)
    after, _ = transacting.transact(before, tuple(wanted), taken=0.0)
    targets = [
        Refresh(target=f"{one.service}:{short}")
        for one in {one.service: one for one in wanted}.values()
        for short, instance in after.services[one.service].instances.items()
        if not composing.is_refreshed(after.services[one.service], instance)
    ]
    client.transact(*wanted, *targets)


def export(args: argparse.Namespace) -> int:
    with Client(args.directory) as client:
        here = client.read()
    for name in args.service:
        if name not in here.services:
            raise UnknownServiceError(f"there is no service {name}")
    repository = Repository(revision=here.revision, pulse=here.pulse, services=here.services)
    sys.stdout.write(manifests.export(repository, args.service, args.layer))
    return 0


def set_(args: argparse.Namespace) -> int:
    group, _, name = args.property.partition("/")
    try:
        value: Any = json.loads(args.value)
    except ValueError:
        value = args.value
    if isinstance(value, list):
        value = tuple(value)
    with Client(args.directory) as client:
        client.transact(SetProperty(target=args.target, group=group, name=name, value=value))
    return 0


def snapshot(args: argparse.Namespace) -> int:
    with Client(args.directory) as client:
        services = _services(client)
        name = _full(args.target, looking.instances_of(services))
        if args.name:
            one = DropSnapshot(target=name, snapshot=args.name) if args.drop else Take(target=name, snapshot=args.name)
            client.transact(one)
            return 0
    there = looking.instances_of(services)[name].snapshots
    rows = [{"name": one, "revision": there[one].revision, "taken": there[one].taken} for one in sorted(there)]
    if args.json:
        print(json.dumps(rows))
        return 0
    for row in rows:
        print(f"{row['name']:12}  revision {row['revision']:<8}  {_since(row['taken'])}")
    return 0


def revert(args: argparse.Namespace) -> int:
    with Client(args.directory) as client:
        name = _full(args.target, looking.nodes_of(_services(client)))
        client.transact(Revert(target=name, snapshot=args.name), *([Refresh(target=name)] if args.refresh else []))
    return 0


def plan_(args: argparse.Namespace) -> int:
    with Client(args.directory) as client:
        here = client.read()
    before = Repository(revision=here.revision, pulse=here.pulse, services=here.services)
    nodes = looking.nodes_of(here.services)
    wanted: list[operations.AnyOperation] = []
    if args.change == "import":
        imports = _manifests(args.what)
        wanted += imports
        wanted += [Refresh(target=f"{one.service}:{short}") for one in imports for short in one.instances]
    else:
        names = [_full(one, nodes) for one in args.what]
        if args.change == "refresh":
            edited = [
                name for name, one in looking.instances_of(here.services).items()
                if not composing.is_refreshed(here.services[split(name)[0]], one)
            ]  # fmt: skip
            wanted += [Refresh(target=name) for name in names or edited]
        elif args.change == "revert":
            wanted += [one for name in names for one in (Revert(target=name), Refresh(target=name))]
        else:
            wanted += [Enable(target=name, enabled=args.change == "enable") for name in names]
    steps: list[plan.Step] = []
    if wanted:
        after, _ = transacting.transact(before, tuple(wanted), taken=time.time())
        running = plan.running_nodes(nodes, looking.instances_of(here.services))
        steps = plan.plan(running, looking.nodes_of(after.services))
    if args.json:
        print(json.dumps(msgspec.to_builtins(steps), ensure_ascii=False))
        return 0
    for step in steps:
        print(f"{step.what:8} {step.name}  ({_printable(step.because)})")
    if not steps:
        print("nothing would be started, stopped, refreshed or restarted")
    return 0


# --- all of it ---------------------------------------------


def up(args: argparse.Namespace) -> int:
    paths = [*([stack.shipped()] if args.shipped else []), *args.path]
    wanted = _manifests(paths) if paths else []
    stack.bring_up(args.directory, 60.0)
    with Client(args.directory) as client:
        if wanted:
            _import(client, wanted)
        if not args.wait:
            return 0
        settled = _settle(
            client,
            lambda nodes: all(not n.wanted or n.status.phase in UP or n.status.phase is Phase.MAINTENANCE for n in nodes.values()),
            args.wait,
        )
        nodes = looking.nodes_of(_services(client))
    wrong = explain.faults(nodes, os.path.exists)
    running = sum(node.status.phase in UP for node in nodes.values())
    print(f"{running} of {sum(node.wanted for node in nodes.values())} enabled services run")
    for one in wrong:
        _tell(one, args.directory, nodes)
    return 0 if settled and not wrong else LATE if not settled else 1


def down(args: argparse.Namespace) -> int:
    try:
        stack.bring_down(args.directory, args.wait)
    except RepositoryUnavailableError as error:
        print(f"kvoshim svc: {error}", file=sys.stderr)
        return LATE
    return 0


VERBS: dict[str, Callable[[argparse.Namespace], int]] = {
    "up": up, "down": down, "list": list_, "status": status, "explain": explain_, "log": log, "enable": enable, "disable": enable,
    "start": enable, "stop": enable, "restart": order, "clear": order, "mark": order, "refresh": refresh, "import": import_,
    "export": export, "set": set_, "snapshot": snapshot, "revert": revert, "plan": plan_,
}  # fmt: skip
