"""The controllable process layer: what every daemon of the project is made of (docs/process.md).

    main                                 the command line
    controller                           launch, configuration, events, the end
    process                              what a daemon's author subclasses
    builtin                              the commands that every daemon has
    channel, connection, client          the control channel: its server, one client there, the caller's end
    command, access, envelope            what a command is, who may give it, how it travels
    rules, protocol, framing, bucket     for a daemon with a protocol of its own: who may do what; messages; requests a second
    loop, signals, pidfile, readiness, statistics
    manager, logs                        the configuration in force; the log
    redaction, model, jsontext, launch   secrets; what a configuration may hold; its text; the launch's exceptions

Each file imports only files below it in this list (tests/test_layers.py has the order in full).
"""

from kvoshim.process.access import Caller, Role
from kvoshim.process.client import ControlClient
from kvoshim.process.command import Arguments, NoArguments, command
from kvoshim.process.controller import Controller
from kvoshim.process.envelope import Answer, Result
from kvoshim.process.launch import Exit
from kvoshim.process.loop import Loop
from kvoshim.process.main import add_options, main, run
from kvoshim.process.model import Configuration, Section
from kvoshim.process.process import Process
from kvoshim.process.signals import Event

__all__ = [
    "Answer", "Arguments", "Caller", "Configuration", "ControlClient", "Controller", "Event", "Exit", "Loop", "NoArguments",
    "Process", "Result", "Role", "Section", "add_options", "command", "main", "run",
]  # fmt: skip
