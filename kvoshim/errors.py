"""Every exception of kvoshim, in one tree. An error whose kind Python knows is of that kind as well.

KvoshimError
  InvalidKeyError (ValueError)          a key that is empty or too long
    InvalidKeyTypeError (TypeError)     a key that is not a str
  InvalidNameError (ValueError)         the name of an observable is not usable
  InvalidValueError (TypeError)         a value that a store cannot hold
  ValueTooLargeError (ValueError)       a value longer than the store admits
  UnknownKeyError (KeyError)            the observable has no such key
  DeliveryError                         changes cannot be delivered in the way that was asked for
  ConflictError                         a key or a service has another revision than was expected
  ExpiredViewError                      the bytes that a view shows were overwritten
  UnknownNameError (LookupError)        no observable of that name, or of that process
    AmbiguousTargetError                the process has several observables
  NameInUseError                        the name has another owner
  LimitError                            a limit on keys, memory, registrations or clients is reached
    RateLimitError                      too many requests in a short time
  AccessDeniedError (PermissionError)   the controller's policy does not admit it
  CorruptStoreError                     shared memory holds what its owner cannot have written
  ReadContentionError                   the owner rewrote the value during every attempt to read it
  ControllerUnavailableError (ConnectionError)   no controller, and none could be started
    ControllerHungError                 it gives no sign of life
    ProtocolError                       the other side does not speak this version's protocol
  ClosedError                           the object was closed before
  UnknownSubjectError (LookupError)     no process, no path and no program of that name
  ForkedError                           the object belongs to the process that this one was forked from
  TooLateError (RuntimeError)           too late for patch() or configure(): what they decide is in use already
  ConfigurationError (ValueError)       a configuration is not valid
    PartlyAppliedError                  it could neither be applied nor taken back
  ControlError                          a command was refused; .result says how
    ControlUnavailableError (ConnectionError)    no daemon answers at the control socket
  InvalidEntryError (ValueError)        a name, address, version or metadata that cannot be registered
  RegistryUnavailableError (ConnectionError)   no registry, and none could be started
    RegistryHungError                   a process holds its place and does not answer
    RegistryStartError                  the daemon could not be started
    PrivateRegistryGoneError            a private registry has ended: it has no successor
  RegistryScopeError (ValueError)       no scope of a registry
  RegistryPlaceError                    a directory or file of the registry cannot be used or trusted
  ProofError (ConnectionError)          the other end of a connection is not who it should be
  SeatLostError                         another process has become the registry
  NoAnswerError (TimeoutError)          a registered process does not answer
  HostsError                            registries of other hosts cannot be linked
  InvalidServiceError (ValueError)      a service, a name, a value or a change of it that is not valid
  UnknownServiceError (LookupError)     the repository has no such service, instance, group, property or snapshot
  RepositoryError                       the repository of services cannot be used
    ReadOnlyRepositoryError             it is open for reading only; the message says why
    StorageError (OSError)              a transaction could not be made durable, and has not happened
    DamagedRepositoryError              what is on the disk is not what was written
    RepositoryUnavailableError (ConnectionError)   no configd answers
  DirectoryError                        the user's own directory for sockets is not to be trusted
  LaunchError                           a daemon did not come up or did not end well: a kind for each step (process/launch.py)
  SpawnerError                          the spawner has refused a request; .errno and .step
    InvalidOrderError (ValueError)      an order or a part of it that no spawner would take
    SpawnerUnavailableError (ConnectionError)    no spawner answers at the socket
      SpawnerProtocolError              what it says is no message of this version
"""


class KvoshimError(Exception):
    """Root of all errors that kvoshim raises on purpose."""


class InvalidKeyError(KvoshimError, ValueError):
    """A key is a str of 1 to 255 bytes in UTF-8; this one is not."""


class InvalidKeyTypeError(InvalidKeyError, TypeError):
    """A key is a str; this one is of another type."""


class InvalidNameError(KvoshimError, ValueError):
    """An observable's name is a str of 1 to 255 bytes in UTF-8; this one is not."""


class InvalidValueError(KvoshimError, TypeError):
    """A value of this type cannot be stored; the message names the type and those that can."""


class ValueTooLargeError(KvoshimError, ValueError):
    """The value takes more bytes than the store's largest value may."""


class UnknownKeyError(KvoshimError, KeyError):
    """The observable exists but has no value under this key."""

    def __str__(self) -> str:  # KeyError would show the message's repr
        return Exception.__str__(self)


class DeliveryError(KvoshimError):
    """The way of delivery that was asked for is not to be had; the message says which is."""


class ConflictError(KvoshimError):
    """A key or a service has changed since: it has another revision than the transaction expects."""


class ExpiredViewError(KvoshimError):
    """The owner has written the key anew: what a view shows may be of another value."""


class UnknownNameError(KvoshimError, LookupError):
    """Nothing is known under this name (or in this process, if the target is a PID)."""


class AmbiguousTargetError(UnknownNameError):
    """The process has several observables: name the one that is meant."""


class NameInUseError(KvoshimError):
    """The name has a live owner already."""


class LimitError(KvoshimError):
    """A configured limit is reached; the message names it."""


class RateLimitError(LimitError):
    """The controller has had too many requests of this client or user in a short time; try again later."""


class AccessDeniedError(KvoshimError, PermissionError):
    """The policy of a controller or registry does not admit this; the message names the rule."""


class CorruptStoreError(KvoshimError):
    """Shared memory contradicts itself: a checksum, an offset or a size is wrong."""


class ReadContentionError(KvoshimError):
    """No attempt to read the value lay between two writes; try again later."""


class ControllerUnavailableError(KvoshimError, ConnectionError):
    """No controller answers at the path, and none was or could be started."""


class ControllerHungError(ControllerUnavailableError):
    """There is a controller, but it has given no sign of life for longer than its configuration allows."""


class ProtocolError(ControllerUnavailableError):
    """The other side sent something that is no message of this version."""


class ClosedError(KvoshimError):
    """The object was closed before this call."""


class UnknownSubjectError(KvoshimError, LookupError):
    """What is to be examined is neither a process, nor a path, nor a program."""


class ForkedError(KvoshimError, RuntimeError):
    """The object belongs to the parent process; make a new one in the child."""


class TooLateError(KvoshimError, RuntimeError):
    """What was to be decided is in use already: modules hold the standard socket class (the message names them), or the process has
    asked for a registry."""


class ConfigurationError(KvoshimError, ValueError):
    """A configuration is not valid. The message begins with `place`, file:line:column, where that is known."""

    def __init__(self, problem: str, place: str = "") -> None:
        super().__init__(f"{place}: {problem}" if place else problem)
        self.problem = problem
        self.place = place


class PartlyAppliedError(ConfigurationError):
    """A configuration failed while it was applied, and the one before could not be applied again."""


class ControlError(KvoshimError):
    """A command on the control channel was refused. result: the code of the answer, 1 to 5."""

    def __init__(self, problem: str, result: int = 1) -> None:
        super().__init__(problem)
        self.result = result


class ControlUnavailableError(ControlError, ConnectionError):
    """No daemon answers at the control socket, or it broke off."""


class InvalidEntryError(KvoshimError, ValueError):
    """What is to be registered, or searched for, breaks a rule; the message says which."""


class RegistryUnavailableError(KvoshimError, ConnectionError):
    """No registry answers in the scope, and none was or could be started."""


class RegistryHungError(RegistryUnavailableError):
    """A process holds the registry's place, or is becoming the registry, and does not answer."""


class RegistryStartError(RegistryUnavailableError):
    """The registry's daemon could not be started; the message has what it said."""


class PrivateRegistryGoneError(RegistryUnavailableError):
    """The private registry of this process's group has ended; nobody takes its place."""


class RegistryScopeError(KvoshimError, ValueError):
    """This text names no scope of a registry."""


class RegistryPlaceError(KvoshimError):
    """A directory, a port file or a lock of the registry cannot be used, or is not to be trusted; the message names it."""


class ProofError(KvoshimError, ConnectionError):
    """What listens there is not the registry that was recorded, or what has connected is no client of this user."""


class SeatLostError(KvoshimError):
    """Another process has become the registry in this one's place."""


class NoAnswerError(KvoshimError, TimeoutError):
    """A registered process has not answered in time: it is busy, stopped, or its event loop is blocked."""


class HostsError(KvoshimError):
    """Registries of other hosts cannot be linked: a program, certificate or server is missing or of no use; the message names it."""


class InvalidServiceError(KvoshimError, ValueError):
    """A name, a value, a definition or a change of services is not valid; the message names it and says what would be."""


class UnknownServiceError(KvoshimError, LookupError):
    """The repository has no service, instance, group, property or snapshot of this name."""


class RepositoryError(KvoshimError):
    """The repository of services cannot be used in this way."""


class ReadOnlyRepositoryError(RepositoryError):
    """The repository serves what is known good, for reading only: its storage is damaged. The message says what and what to do."""


class StorageError(RepositoryError, OSError):
    """The disk has refused to keep a transaction: it has not happened."""


class DamagedRepositoryError(RepositoryError):
    """A file of the repository is not as it was written; the message names file and place."""


class RepositoryUnavailableError(RepositoryError, ConnectionError):
    """No configd answers at its socket, or it has ended before it has answered."""


class DirectoryError(KvoshimError):
    """The directory for the user's sockets cannot be made, or belongs to somebody else."""


class LaunchError(KvoshimError):
    """A daemon did not come up, or did not end well. The kinds are in kvoshim/process/launch.py, one a step."""

    step = 0
    exit_code = 1


class SpawnerError(KvoshimError):
    """The spawner has refused a request, and nothing has changed. errno: of the system call that failed, or that says it best.
    step: a number of services/spawner/wire.Step, 0 where the request did not get so far."""

    def __init__(self, problem: str, errno: int = 0, step: int = 0) -> None:
        super().__init__(problem)
        self.errno = errno
        self.step = step


class InvalidOrderError(SpawnerError, ValueError):
    """An order, a name or a limit that cannot be put into a message; the text names it."""


class SpawnerUnavailableError(SpawnerError, ConnectionError):
    """No spawner answers at the socket, it serves another controller, or it has ended."""


class SpawnerProtocolError(SpawnerUnavailableError):
    """What listens at the socket does not speak this version's protocol."""
