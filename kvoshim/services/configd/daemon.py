"""configd as a daemon of the process layer: opens the repository, serves it, writes checkpoints and backups."""

from __future__ import annotations

import argparse
import logging
import os
import resource
import selectors
import threading
import time
from typing import Any

from kvoshim import process
from kvoshim.errors import ControlError, RepositoryError, StorageError
from kvoshim.process import Arguments, Caller, NoArguments, command
from kvoshim.process.process import Shutdown
from kvoshim.services.configd import backups, place
from kvoshim.services.configd.disk import Disk
from kvoshim.services.configd.engine import Engine
from kvoshim.services.configd.listener import Listener
from kvoshim.services.configd.policy import Policy
from kvoshim.services.configd.publisher import Publisher
from kvoshim.services.configd.service import Service
from kvoshim.services.configd.settings import Settings
from kvoshim.services.configd.storage import Job, Storage
from kvoshim.services.core.model import Repository
from kvoshim.services.core.operations import Event

log = logging.getLogger("kvoshim.configd")

_IMPORT_BACKUP_S = 1.0  # after the first import that has no backup yet: manifests come in numbers


class ConfigdProcess(process.Process[Settings]):
    """Serves the repository of services."""

    name = "configd"
    configuration = Settings
    needs_file = False
    # The standard selector: here, where all mostly sleep, one that looks at rings for a while takes CPU from clients.
    loop_factory = staticmethod(lambda: process.Loop(selectors.DefaultSelector()))

    # --- before there is a process ---------------------------------------------

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--directory",
            default="",
            metavar="DIR",
            help="where the repository is (default: KVOSHIM_SERVICES, else kvoshim/services below XDG_STATE_HOME or ~/.local/state)",
        )
        parser.add_argument("--epoch", default="", metavar="TEXT", help="which boot this is (default: the machine's or container's)")

    @classmethod
    def paths(cls, arguments: argparse.Namespace) -> tuple[str, str]:
        directory = place.repository_directory(arguments.directory)
        volatile = place.volatile_directory(directory)  # makes the user's directory for sockets, too
        for path in (volatile, directory):
            try:
                os.makedirs(path, 0o700, exist_ok=True)
            except OSError:
                pass  # what cannot be bound or locked there says so
        return place.beside(directory, "configd.ctl"), os.path.join(volatile, "configd.pid")

    # --- life ---------------------------------------------

    @classmethod
    def check(cls, settings: Settings) -> None:
        Policy(settings.access)

    def configure(self, settings: Settings, old: Settings | None) -> None:
        policy = Policy(settings.access)
        if old is None:
            self._engine: Engine | None = None
            self._listener: Listener | None = None
            self._publisher: Publisher | None = None
            self._writing: threading.Thread | None = None  # a checkpoint's files
            self._policy = policy
            return
        if policy.for_others != self._policy.for_others or settings.publish != old.publish:
            raise ValueError("whether other users may connect, and publish, are only changed by a restart")
        self._policy = policy
        self._service.limits = self._listener.limits = settings.limits
        self._listener.enforce(policy)

    def start(self) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard != resource.RLIM_INFINITY else soft, hard))
        self.directory = place.repository_directory(self.arguments.directory)
        storage = Storage.open(
            Disk(),
            self.directory,
            now=time.time(),
            volatile=place.volatile_directory(self.directory),
            epoch=self.arguments.epoch or place.boot(),
        )
        self._engine = Engine(storage, time.time)
        if storage.reason:
            log.error("the repository is for reading only: %s", storage.reason)
        for note in storage.notes:
            log.warning("%s", note)
        self._checkpoint_at = self.settings.checkpoint_bytes
        self._backup_due = False
        self._seen = self._engine.repository
        self._service = Service(self.loop, self._engine, self._policy, self.settings.limits, self._on_events)
        self.path = place.socket_path(self.directory)
        self._listener = Listener(self.loop, self.path, self._service, self.settings.limits)
        if self.settings.publish:
            self._publisher = Publisher(self.settings.publish, lambda: self._engine.repository)
        self._measure()

    def _measure(self) -> None:
        self.statistics.measure("clients", lambda: len(self._listener.sessions))
        self.statistics.measure("services", lambda: len(self._engine.repository.services))
        self.statistics.measure("revision", lambda: self._engine.repository.revision)
        self.statistics.measure("journal-bytes", lambda: self._engine.storage.journal_size)
        for name in self._service.count:
            self.statistics.measure(name, lambda name=name: self._service.count[name])

    def _on_events(self, events: tuple[Event, ...]) -> None:
        before: Repository = self._seen
        self._seen = self._engine.repository
        if self._publisher is not None:
            self._publisher.tell(events, before)
        if self._engine.imported and not self._backup_due:
            self._backup_due = True
            self.loop.call_later(_IMPORT_BACKUP_S, self._backup_imports)
        storage = self._engine.storage
        if max(storage.journal_size, storage.volatile.size) > self._checkpoint_at:
            self._checkpoint_at += self.settings.checkpoint_bytes  # if it fails, not again at once
            self.loop.call_soon(self._checkpoint)

    def _checkpoint(self) -> None:
        """Brings the files up to date, on a thread of its own: each takes a sync, and the loop has others to serve."""
        if self._writing is not None or self._engine is None:
            return
        try:
            job = self._engine.storage.begin_checkpoint(self._engine.repository)
        except StorageError as error:
            log.error("%s", error)
            return
        self._checkpoint_at = self.settings.checkpoint_bytes
        if job is not None:
            self._job, self._written = job, None
            self._writing = threading.Thread(target=self._write, args=(self._engine.storage, job), name="checkpoint")
            self._writing.start()

    def _write(self, storage: Storage, job: Job) -> None:
        try:
            self._written = storage.write_checkpoint(job)
        except Exception as error:
            self._written = error
        self.loop.call_soon_threadsafe(self._end_checkpoint)

    def _end_checkpoint(self) -> None:
        if self._writing is None:
            return
        self._writing.join()
        self._writing, written = None, self._written
        try:
            if isinstance(written, Exception):
                raise written
            for path in self._engine.storage.end_checkpoint(self._job, written):
                log.warning("somebody has edited a file of an earlier revision: it is kept as %s and not in force", path)
        except RepositoryError as error:
            log.error("%s", error)

    def _backup_imports(self) -> None:
        self._backup_due = False
        if self._engine is None:
            return
        try:
            self._engine.backup_imports()
        except OSError as error:
            log.error("no backup could be made after an import: %s", error)

    def stop(self, how: Shutdown) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        if self._publisher is not None:
            self._publisher.close()
            self._publisher = None
        if self._engine is not None:
            self._backup_imports()
            self._end_checkpoint()
            if how != "now":
                self._checkpoint()
                self._end_checkpoint()
            self._engine.storage.close()
            self._engine = None

    # --- for the world ---------------------------------------------

    @command("checkpoint", access="write", brief="Brings the files of services up to date.", returns="{revision}")
    def checkpoint(self, arguments: NoArguments, caller: Caller) -> dict[str, Any]:
        self._end_checkpoint()
        try:
            self._engine.checkpoint()
        except RepositoryError as error:
            raise ControlError(str(error)) from None
        return {"revision": self._engine.repository.revision}

    @command("backup", access="write", brief="Keeps a backup of the whole repository.", returns="{path}")
    def backup(self, arguments: NoArguments, caller: Caller) -> dict[str, Any]:
        try:
            return {"path": self._engine.storage.backup("hand", self._engine.repository, time.time())}
        except OSError as error:
            raise ControlError(f"no backup could be made: {error}") from None

    @command("backup-list", access="read", brief="Names the backups, the oldest first.", returns="{backups: [path]}")
    def backup_list(self, arguments: Arguments, caller: Caller) -> dict[str, Any]:
        there = backups.listed(self._engine.storage.disk, self.directory)
        return {"backups": [os.path.join(self.directory, backups.FOLDER, one.file) for one in there]}

    def announcement(self) -> str:
        reason = self._engine.storage.reason
        return f"serving {self.directory} at {self.path}" + (f", FOR READING ONLY: {reason}" if reason else "")

    def status(self) -> dict[str, Any]:
        storage = self._engine.storage
        return {
            "socket": self.path,
            "directory": self.directory,
            "revision": self._engine.repository.revision,
            "services": len(self._engine.repository.services),
            "clients": len(self._listener.sessions),
            "read-only": storage.reason,
            "notes": list(storage.notes),
            "volatile": storage.volatile.failure or "kept",
            "published": self._publisher.state if self._publisher is not None else "off",
        }
