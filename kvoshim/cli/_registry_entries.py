"""kvoshim registry list, find, watch, register, ping, serve: who is registered."""

from __future__ import annotations

import argparse
import datetime
import json
import signal
import subprocess
import sys
import time

from kvoshim.errors import KvoshimError, NoAnswerError, UnknownNameError


def add(actions) -> None:
    """Adds them to the actions of `kvoshim registry`. args.act(args) does what was chosen."""
    _command(actions, "list", _list, "list all that is registered", "Lists all that is registered.")
    find = _command(actions, "find", _find, "print the addresses of what matches a pattern",
                    "Prints what matches a pattern, each name's owner first. Exit code 1: nothing does.")  # fmt: skip
    find.add_argument("pattern", metavar="PATTERN", help="a name, or a glob: * ? [abc]")
    find.add_argument("--owner", action="store_true", help="only the owners of their names")
    watch = _command(actions, "watch", _watch, "print what is registered, and a line for each change",
                     "Prints what is registered, an end marker, then a line for each change, until interrupted.")  # fmt: skip
    watch.add_argument("pattern", metavar="PATTERN", nargs="?", default="*", help="a name, or a glob: * ? [abc] (default: all)")
    watch.add_argument("--count", type=int, metavar="N", help="end after N changes")
    _add_register(actions)
    ping = _command(
        actions, "ping", _ping, "ask registered processes for a sign of life",
        "Asks each process that matches for a sign of life. Exit code 1: one does not answer, or there is none.",
    )  # fmt: skip
    ping.add_argument("pattern", metavar="PATTERN", help="a name, or a glob: * ? [abc]")
    ping.add_argument("--timeout", type=float, default=5.0, metavar="S", help="seconds to wait for each (default: 5)")
    ping.add_argument("--statistics", action="store_true", help="ask for their figures, too")
    _add_serve(actions)


def _command(actions, name: str, act, brief: str, description: str) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=brief, description=description)
    parser.add_argument("--reach", metavar="SCOPE", help="user, host, private:DIR, semi-private:DIR (default: as a program chooses)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(act=act)
    return parser


def _add_register(actions) -> None:
    parser = _command(
        actions, "register", _register, "register a name for as long as a command runs, or until interrupted",
        "Registers a name for as long as a command runs, and ends with its exit code; without one, until interrupted.",
    )  # fmt: skip
    parser.usage = "kvoshim registry register [options] NAME [-- CMD [ARGS ...]]"
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("--address", default="", help="where it is reached: the path of a socket")
    parser.add_argument("--version", default="", help="MAJOR.MINOR.PATCH")
    parser.add_argument("--metadata", action="append", default=[], metavar="KEY=VALUE", help="what else others are to know")
    parser.add_argument("--no-queue", dest="queue", action="store_false", help="fail if the name has an owner")
    parser.add_argument("--replace", action="store_true", help="take the name from an owner that allows it")
    parser.add_argument("--allow-replacement", action="store_true", help="let others take the name")
    parser.add_argument("argv", nargs=argparse.REMAINDER, metavar="-- CMD ARGS", help="the command and its arguments")


def _add_serve(actions) -> None:
    from kvoshim import process
    from kvoshim.registry.daemon.process import RegistryProcess

    serve = actions.add_parser(
        "serve",
        help="run the registry's daemon",
        description="Runs the registry in the foreground until SIGINT or SIGTERM. Programs start one by themselves where none runs. "
        "`kvoshim ctl registry` speaks to it.",
    )
    serve.set_defaults(act=_serve)
    process.add_options(RegistryProcess, serve)


def _serve(args: argparse.Namespace) -> int:
    from kvoshim import process
    from kvoshim.registry.daemon.process import RegistryProcess

    return process.run(RegistryProcess, args, "kvoshim registry")


# --- showing ---------------------------------------------


def _plain(entry) -> dict:
    return {field: getattr(entry, field) for field in entry.__struct_fields__} | {"owner": entry.owner}


def _table(entries) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("name", "#", "state", "host", "PID", "user", "program", "address", "version", "metadata", "reach", "since")
    for entry in entries:
        state = ("owner" if entry.owner else "waiting") + (", stopped" if entry.suspect else "")
        since = datetime.datetime.fromtimestamp(entry.since)
        metadata = "\n".join(f"{key}={value}" for key, value in entry.metadata.items())
        table.add_row(
            entry.name, str(entry.serial), state, entry.host, str(entry.pid), str(entry.uid), entry.program, entry.address,
            entry.version, metadata, entry.reach, f"{since:%Y-%m-%d %H:%M:%S}",
        )  # fmt: skip
    # Names are other people's text: nothing in them is markup.
    Console(markup=False, highlight=False, emoji=False).print(table if entries else "nothing is registered")


def _show(entries, as_json: bool) -> None:
    if as_json:
        print(json.dumps([_plain(entry) for entry in entries], ensure_ascii=False))
    else:
        _table(entries)


def _list(args: argparse.Namespace) -> int:
    from kvoshim import registry

    _show(registry.find(reach=args.reach), args.json)
    return 0


def _find(args: argparse.Namespace) -> int:
    from kvoshim import registry

    entries = [entry for entry in registry.find(args.pattern, reach=args.reach) if entry.owner or not args.owner]
    if args.json:
        _show(entries, True)
    else:
        for entry in entries:
            print(entry.name, entry.serial, entry.pid, entry.address, entry.host, sep="\t")
    return 0 if entries else 1


def _watch(args: argparse.Namespace) -> int:
    from kvoshim import registry

    left = args.count
    with registry.watch(args.pattern, reach=args.reach) as search:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            for event in search:
                _tell(event, args.json)
                if left is not None and event.kind not in ("present", "end"):
                    left -= 1
                    if left <= 0:
                        break
        except KeyboardInterrupt:  # the ordinary way to end
            pass
    return 0


def _tell(event, as_json: bool) -> None:
    entry = event.entry
    if as_json:
        print(json.dumps({"kind": event.kind} | ({} if entry is None else {"entry": _plain(entry)}), ensure_ascii=False), flush=True)
        return
    moment = f"{datetime.datetime.now():%H:%M:%S.%f}"
    if entry is None:
        print(f"{moment}  -- that is all for now", flush=True)
        return
    state = "owner" if entry.owner else "waiting"
    about = f"PID {entry.pid} on {entry.host}, {state}{', stopped' if entry.suspect else ''}"
    print(f"{moment}  {event.kind:8} {entry}  {entry.address}  ({about})", flush=True)


# --- doing ---------------------------------------------


def _metadata(pairs: list[str]) -> dict:
    metadata = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise KvoshimError(f"metadata is written KEY=VALUE, not {pair!r}")
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        metadata[key] = value if value is None or isinstance(value, str | int | float | bool) else text
    return metadata


def _register(args: argparse.Namespace) -> int:
    from kvoshim import registry

    def told(mine) -> None:
        what = "owns its name" if mine.owner else f"has lost its name: {mine.error or 'replaced, and waiting'}"
        print(f"{mine.entry} {what}", file=sys.stderr, flush=True)

    command = args.argv[1:] if args.argv[:1] == ["--"] else args.argv
    if command and command[0].startswith("-"):
        print(f"kvoshim registry register: options stand before the name, a command behind --: {command[0]!r}", file=sys.stderr)
        return 2
    with registry.register(
        args.name, address=args.address, version=args.version, metadata=_metadata(args.metadata), queue=args.queue,
        replace=args.replace, allow_replacement=args.allow_replacement, reach=args.reach, on_owned=told, on_lost=told,
    ) as mine:  # fmt: skip
        if args.json:
            print(json.dumps(_plain(mine.entry), ensure_ascii=False), flush=True)
        elif not mine.owner:
            print(f"{mine.entry} waits for its name", file=sys.stderr, flush=True)
        return _run(command) if command else _wait()


def _wait() -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        while True:
            signal.pause()
    except KeyboardInterrupt:
        return 0


def _run(command: list[str]) -> int:
    try:
        child = subprocess.Popen(command)
    except OSError as error:
        print(f"kvoshim registry register: {command[0]}: {error.strerror}", file=sys.stderr)
        return 127 if isinstance(error, FileNotFoundError) else 126
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, frame: child.send_signal(number))
    for number in (signal.SIGINT, signal.SIGQUIT):  # it reaches the command from the terminal
        signal.signal(number, lambda number, frame: None)
    code = child.wait()
    return code if code >= 0 else 128 - code


def _ping(args: argparse.Namespace) -> int:
    from kvoshim import registry

    answers, code = [], 0
    entries = registry.find(args.pattern, reach=args.reach)
    for entry in entries:
        answer = {"name": entry.name, "serial": entry.serial, "pid": entry.pid, "seconds": None, "error": None}
        try:
            begun = time.monotonic()
            registry.ask(entry, "ping", args.timeout, reach=args.reach)
            answer["seconds"] = time.monotonic() - begun
            if args.statistics:
                answer["statistics"] = registry.ask(entry, "statistics", args.timeout, reach=args.reach)
        except (NoAnswerError, UnknownNameError) as error:
            answer["error"], code = str(error), 1
        answers.append(answer)
        if not args.json:
            outcome = answer["error"] or f"{answer['seconds'] * 1e6:.0f} us"
            figures = "  " + json.dumps(answer["statistics"], ensure_ascii=False) if answer.get("statistics") else ""
            print(f"{entry} (PID {entry.pid}): {outcome}{figures}", flush=True)
    if args.json:
        print(json.dumps(answers, ensure_ascii=False))
    elif not entries:
        print("nothing is registered under that name", file=sys.stderr)
    return code if entries else 1
