"""What is not kept over a boot, and yet outlives the daemon: volatile groups, in a journal that is never synced.

It lies where a boot finds nothing or another epoch: below XDG_RUNTIME_DIR or /tmp. Its header has all volatile groups as they were
at one pulse, its lines what was done to them since, and which revision there was: so within one boot it is known what the durable
journal must have, should somebody cut that off. A daemon that was killed and comes back reads it; the operating system keeps what
a dead process has written. It is written anew, in one step, when it has grown.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from msgspec.structs import replace

from kvoshim.errors import StorageError
from kvoshim.services.configd import journal
from kvoshim.services.configd.disk import Disk
from kvoshim.services.configd.journal import Entry, Header, Journal
from kvoshim.services.core.model import Group, Repository, full_name

NAME = "volatile"


def state_of(repository: Repository) -> dict[str, dict[str, Group]]:
    """Volatile groups by target."""
    return {
        full_name(name, short): instance.volatile
        for name, service in repository.services.items()
        for short, instance in service.instances.items()
        if instance.volatile
    }


def with_state(repository: Repository, state: dict[str, dict[str, Group]]) -> Repository:
    """The repository with these volatile groups and no others. Targets that it does not have do not count."""
    services = dict(repository.services)
    for name, service in services.items():
        instances = {
            short: replace(instance, volatile=state.get(full_name(name, short), {}))
            for short, instance in service.instances.items()
        }
        services[name] = replace(service, instances=instances)
    return replace(repository, services=services)


def known_revision(contents: journal.Contents) -> int:
    """The latest revision that such a journal tells of."""
    header = contents.header
    return 0 if header is None else max([header.revision, *(entry.revision for entry in contents.entries)])


class Volatile:
    """The journal in `directory`. epoch: of this boot. failure: why it is not written, "" if it is. known: the latest revision that is
    known from it; should the durable journal have less, that stays known until the repository is restored."""

    def __init__(self, disk: Disk, directory: str, epoch: str, schema: int) -> None:
        self.failure = ""
        self.known = 0
        self._disk = disk
        self._path = os.path.join(directory, NAME)
        self._epoch = epoch
        self._schema = schema
        self._journal: Journal | None = None

    def read(self) -> journal.Contents | None:
        """What an earlier daemon of this epoch has left; None: nothing."""
        try:
            found = journal.read(self._disk.read(self._path))
        except OSError:
            return None
        header = found.header
        if header is None or header.epoch != self._epoch or header.schema != self._schema:
            return None
        self.known = known_revision(found)
        return found

    def renew(self, repository: Repository) -> None:
        """Begins anew with this state."""
        header = Header(
            journal=0,
            schema=self._schema,
            epoch=self._epoch,
            revision=max(repository.revision, self.known),
            pulse=repository.pulse,
            state=state_of(repository),
        )
        self.close()
        try:
            self._disk.make_directory(os.path.dirname(self._path))
            self._journal = Journal.create(self._disk, f"{self._path}.new", header, durable=False)
            self._disk.rename(f"{self._path}.new", self._path)
            self.failure = ""
        except OSError as error:
            self.failure = f"{self._path} cannot be written: {error.strerror or error}"
            try:
                self._disk.remove(self._path)  # nothing is better than what is not so any more
            except OSError:
                pass

    @property
    def size(self) -> int:
        return 0 if self._journal is None else self._journal.size

    def append(self, entries: Sequence[Entry]) -> None:
        """Never fails: what cannot be written is not there when the daemon has died, and that is all."""
        if self._journal is None or self.failure:
            return
        try:
            self._journal.append(entries)
        except StorageError as error:
            self.failure = str(error)  # what follows would lack this: not written until renew()

    def close(self) -> None:
        if self._journal is not None:
            self._journal.close()
            self._journal = None
