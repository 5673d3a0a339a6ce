"""The steps in which a daemon comes up: one exception and one exit code each.

    step  what                                                            fails with                  exit code
    1     the command line is understood                                  CommandLineError            2
    2     the configuration is read and checked (--check ends here)       ConfigurationFileError      4
    3     the log is opened                                               LogError                    5
    4     the PID file is locked: no other daemon has this place          AlreadyRunningError         3
                                                                          PidFileError                6
    5     signals become events of the loop                               SignalError                 7
    6     the process is made, configured and started                     StartError                  1
    7     the control channel listens                                     ControlChannelError         8
    8     readiness is told, the loop runs until a shutdown               RunError                    9
"""

from __future__ import annotations

import enum

from kvoshim.errors import LaunchError


class Exit(enum.IntEnum):
    """Exit codes of every daemon. A shutdown command may ask for another one."""

    ENDED = 0
    NOT_STARTED = 1
    COMMAND_LINE = 2
    ALREADY_RUNNING = 3
    CONFIGURATION = 4
    LOG = 5
    PID_FILE = 6
    SIGNALS = 7
    CONTROL_CHANNEL = 8
    RUN = 9

    @property
    def meaning(self) -> str:
        return _MEANINGS[self]


_MEANINGS = {
    Exit.ENDED: "ended in order; with --check: the configuration is valid",
    Exit.NOT_STARTED: "the process could not be made, configured or started",
    Exit.COMMAND_LINE: "wrong usage",
    Exit.ALREADY_RUNNING: "another one runs in this place: the PID file is locked",
    Exit.CONFIGURATION: "the configuration file cannot be read or is not valid",
    Exit.LOG: "the log cannot be opened",
    Exit.PID_FILE: "the PID file cannot be written",
    Exit.SIGNALS: "signals cannot be taken: this is not the main thread",
    Exit.CONTROL_CHANNEL: "the control socket cannot be bound",
    Exit.RUN: "the running process has failed",
}


class CommandLineError(LaunchError):
    step, exit_code = 1, Exit.COMMAND_LINE


class ConfigurationFileError(LaunchError):
    step, exit_code = 2, Exit.CONFIGURATION


class LogError(LaunchError):
    step, exit_code = 3, Exit.LOG


class PidFileError(LaunchError):
    step, exit_code = 4, Exit.PID_FILE


class AlreadyRunningError(PidFileError):
    exit_code = Exit.ALREADY_RUNNING


class SignalError(LaunchError):
    step, exit_code = 5, Exit.SIGNALS


class StartError(LaunchError):
    step, exit_code = 6, Exit.NOT_STARTED


class ControlChannelError(LaunchError):
    step, exit_code = 7, Exit.CONTROL_CHANNEL


class RunError(LaunchError):
    step, exit_code = 8, Exit.RUN


STEPS = (
    CommandLineError,
    ConfigurationFileError,
    LogError,
    PidFileError,
    SignalError,
    StartError,
    ControlChannelError,
    RunError,
)
