"""Every call that libkvoshim.so makes for itself and that can fail: by name, with what happens then.

A name is what fault.c knows the call by. test_points.py checks that the table is complete: the symbols that the library needs,
the next symbols that it looks up and the system calls that it makes by number are all in POINTS, or in EXEMPT with a reason.
"""

from __future__ import annotations

from dataclasses import dataclass

SAME = "same"  #: both ends do what they do on kernel sockets
ENDS = "ends"  #: the connection has ended, for both ends: no byte is wrong

ACCELERATED = ""   #: in spite of the fault
ANY = "any"        #: depends on which of the calls fails
NOT_STARTED = "-"  #: the library leaves the whole process alone, as its log says

_NO_RECORD = r'.* bytes, "record \d+", with (nothing|file \d+), cut off'
_NO_MEMORY = r".*, Cannot allocate memory"


@dataclass(frozen=True)
class Point:
    """A call, and the branch that is taken when it fails."""

    name: str
    errors: str              #: what the kernel gives for it, or a seccomp filter
    where: str               #: the function with the branch
    ends: dict[str, str]     #: the ends that make the call in the scene; the counted reason there, or one of the words above
    scene: str = "turns"
    which: str = "1"         #: the call that fails ("1": the first)
    lasting: str = "1+"      #: and for a fault that stays
    outcome: str = SAME
    differs: str = "$."      #: lines of output that may be others than the kernel's, where the kernel itself may say so
    successor: bool = False  #: the fault is in the program that the end becomes by exec

    def __str__(self) -> str:
        return f"{self.name}-{self.where}-{self.scene}"


def _both(reason: str) -> dict[str, str]:
    return {"server": reason, "client": reason}


POINTS = [
    # The library's start.
    Point("calloc", "ENOMEM", "kvo_paths_parse", _both(NOT_STARTED)),
    Point("malloc", "ENOMEM", "kvo_paths_parse", _both(NOT_STARTED)),
    Point("mmap.tables", "ENOMEM EAGAIN", "kvo_start", _both(NOT_STARTED)),
    Point("pthread_atfork", "ENOMEM", "loaded", _both(NOT_STARTED)),
    Point("strdup", "ENOMEM", "kvo_start", _both(ANY)),
    Point("membarrier.query", "ENOSYS EPERM", "join_expedited_fences", _both(ACCELERATED)),
    # connect() of a client.
    Point("getrandom", "EAGAIN ENOSYS", "open_rendezvous", {"client": "no-mark"}),
    Point("socket.rendezvous", "EMFILE ENFILE ENOMEM ENOBUFS EPERM", "open_rendezvous", {"client": "no-mark"}),
    Point("fcntl.F_DUPFD_CLOEXEC", "EMFILE EINVAL", "make_internal", {"client": "no-mark", "server": ACCELERATED}),
    Point("fcntl.F_DUPFD_CLOEXEC", "EMFILE EINVAL", "collect_offers", {"client": "no-segment"}, which="2", lasting="2+"),
    Point("bind.rendezvous", "EADDRINUSE ENOMEM EACCES", "open_rendezvous", {"client": "no-mark"}),
    Point("listen", "EADDRINUSE EPERM", "open_rendezvous", {"client": "no-mark"}),
    Point("bind.mark", "ENOMEM EADDRINUSE EACCES", "mark", {"client": "no-mark"}),
    Point("socket.fresh", "ENFILE ENOMEM ENOBUFS", "life_unmark", {"client": ANY}, "refused", differs=_NO_MEMORY),
    Point("dup3", "EBUSY", "life_unmark", {"client": ANY}, "refused", differs=_NO_MEMORY),
    # The offer of a server.
    Point("getrlimit", "EPERM", "segment_create", {"server": "no-segment"}, which="3", lasting="3+"),
    Point("memfd_create", "EMFILE ENFILE ENOMEM ENOSYS EPERM", "segment_create", {"server": "no-segment"}),
    Point("ftruncate", "ENOMEM ENOSPC EFBIG EPERM", "segment_create", {"server": "no-segment"}),
    Point("fcntl.F_ADD_SEALS", "EPERM EINVAL EBUSY", "segment_create", {"server": "no-segment"}),
    Point("mmap.segment", "ENOMEM EAGAIN EPERM ENFILE", "segment_create", {"server": "no-segment"}),
    Point("fstat.socket", "ENOMEM EPERM", "note_inode", {"server": "no-segment"}, which="2", lasting="2+"),
    Point("socket.rendezvous", "EMFILE ENFILE ENOMEM ENOBUFS EPERM", "call_client", {"server": "no-rendezvous"}),
    Point("bind.offerer", "EADDRINUSE ENOMEM EACCES", "call_client", {"server": "no-rendezvous"}),
    Point("connect.rendezvous", "ECONNREFUSED EAGAIN ENOMEM EACCES", "call_client", {"server": "no-rendezvous"}),
    Point("getsockopt.SO_PEERCRED", "EPERM ENODATA", "call_client", {"server": "credentials"}),
    Point("sendmsg.offer", "ENOBUFS ENOMEM ETOOMANYREFS EAGAIN EPERM", "send_offer", {"server": "no-rendezvous"}),
    # A client takes it.
    Point("accept4.offer", "EMFILE ENFILE ENOMEM ENOBUFS", "collect_offers", {"client": "no-segment"}),
    Point("getsockopt.SO_PEERCRED", "EPERM ENODATA", "may_offer", {"client": "credentials"}),
    Point("recvmsg.offer", "ENOMEM ENOBUFS", "read_offer", {"client": "no-segment"}),
    Point("fcntl.F_GET_SEALS", "EINVAL EPERM", "segment_attach", {"client": "bad-offer"}),
    Point("fstat.file", "ENOMEM EPERM", "segment_attach", {"client": "bad-offer"}, which="2", lasting="2+"),
    Point("fstat.socket", "ENOMEM EPERM", "note_inode", {"client": "no-segment"}),
    Point("mmap.segment", "ENOMEM EAGAIN EPERM ENFILE", "segment_attach", {"client": "no-segment"}),
    # Sleeping and waking.
    Point("membarrier", "ENOMEM EPERM", "kvo_fence_everywhere", _both(ACCELERATED), "sleep", which="2", lasting="2+"),
    Point("membarrier", "ENOSYS EPERM", "join_expedited_fences", _both(ACCELERATED), "sleep"),
    Point("tgkill", "EPERM EAGAIN", "owner_is_gone", _both(ACCELERATED), "threads"),
    Point("send.bell", "ENOBUFS ENOMEM", "send_bell", _both(ACCELERATED), "sleep", lasting="1-20"),
    Point("send.resend", "ENOBUFS ENOMEM", "resend", {"client": "peer-left"}, "back", lasting="1-20"),
    Point("setsockopt.SO_SNDBUF", "ENOMEM", "widen", {"client": "peer-left"}, "back"),
    Point("send.resend", "EAGAIN", "settle_accounts", {"client": "peer-left"}, "answer", lasting="1-20"),
    # poll and epoll.
    Point("malloc", "ENOMEM", "poll_by_parts", _both(ACCELERATED), "many", which="2", lasting="2+"),
    Point("malloc", "ENOMEM", "unregistered", _both("no-memory"), "epoll", which="2", lasting="2+"),
    Point("realloc", "ENOMEM", "unregistered", _both("no-memory"), "epoll"),
    Point("malloc", "ENOMEM", "life_connect", {"client": "no-memory"}, "watched", which="2", lasting="2+"),
    Point("epoll_ctl.ADD", "ENOMEM", "unregistered", _both("no-memory"), "epoll"),
    Point("epoll_ctl.MOD", "ENOMEM", "tell_kernel", _both(ACCELERATED), "early_epoll"),
    Point("epoll_ctl.MOD", "ENOMEM", "tell_kernel", _both(ACCELERATED), "exclusive"),
    Point("epoll_ctl.DEL", "ENOENT", "tell_kernel", _both(ACCELERATED), "exclusive"),
    # fork and exec.
    Point("mmap.forked", "ENOMEM", "kvo_stats_forked", _both(ACCELERATED), "late_fork"),
    Point("open", "EMFILE ENFILE ENOMEM", "loads_library", {"server": "exec"}, "exec"),
    Point("pread.program", "EIO EINTR", "program_loads_library", {"server": "exec"}, "exec"),
    Point("fcntl.F_DUPFD_CLOEXEC", "EMFILE EINVAL", "part_with", {"server": "exec"}, "exec"),
    Point("fcntl.F_DUPFD_CLOEXEC", "EMFILE EINVAL", "part_with", {"server": "exec"}, "spawn"),
    Point("fcntl.F_DUPFD_CLOEXEC", "EMFILE EINVAL", "inherit", {"server": ACCELERATED}, "exec", successor=True),
    Point("opendir", "EMFILE ENFILE ENOMEM ENOENT", "look_at_descriptors", {"server": ACCELERATED}, "exec", successor=True),
    Point("opendir", "EMFILE ENFILE ENOMEM ENOENT", "look_at_descriptors", {"server": ACCELERATED}, "spawn", successor=True),
    Point("fopencookie", "ENOMEM", "kvo_standard_streams", {"server": "stdio"}, "spawn", successor=True),
    *(Point(name, "ENOMEM", "end_connection", {end: ANY}, scene, outcome=ENDS, successor=True)
      for scene, end in (("exec", "server"), ("exec_client", "client"), ("spawn", "server"))
      for name in ("calloc", "malloc", "pthread_atfork", "mmap.tables", "mmap.segment")),
    # Descriptors in the stream.
    Point("malloc", "ENOMEM", "stash", {"server": ACCELERATED}, "rights", which="2", lasting="2+", differs=_NO_RECORD),
    Point("fcntl.F_DUPFD_CLOEXEC", "EMFILE", "stash_copy", {"server": ACCELERATED}, "rights", which="2", lasting="2+",
          differs=_NO_RECORD),
    Point("sendmsg.record", "EAGAIN", "send_record", {"client": ACCELERATED}, "rights", lasting="1-5"),
    # Calls that need memory of their own.
    Point("malloc", "ENOMEM", "sendfile", {"client": ACCELERATED}, "copies", which="2", lasting="2+"),
    Point("mmap.splice", "ENOMEM EAGAIN", "splice", _both(ACCELERATED), "copies"),
    Point("vasprintf", "ENOMEM", "vdprintf", {"server": ACCELERATED}, "prints", differs=_NO_MEMORY),
    Point("fopencookie", "ENOMEM", "stream_on", _both(ACCELERATED), "prints", differs=_NO_MEMORY),
    # Statistics and the log are no matter of the connection's.
    Point("fstat.file", "ENOMEM EPERM", "create", {"server": ACCELERATED}),
    Point("stat", "EACCES ENOENT", "pid_namespace", _both(ACCELERATED)),
    Point("openat", "EMFILE ENFILE ENOMEM EACCES ENOSPC", "open_file", _both(ANY)),
    Point("fallocate", "ENOSPC ENOMEM EOPNOTSUPP", "move", _both(ACCELERATED)),
    Point("pwrite64", "ENOSPC EIO", "move", _both(ACCELERATED)),
    Point("mmap.statistics", "ENOMEM EAGAIN", "move", _both(ACCELERATED)),
    Point("getdents64", "EIO", "sweep", _both(ACCELERATED)),
]

#: After exec the kernel can't refuse these: they ask open descriptors what they are.
NEVER_AFTER_EXEC = {"fstat.file", "fstat.socket", "fcntl.F_GET_SEALS"}

_OPEN = "cannot fail on a descriptor that is open"
_HANDED_ON = "the program's own call, handed on: its error is the program's"
_PURE = "no system call, no allocation"
_HARMLESS = "its failure changes nothing"

#: Symbols that the library needs, next symbols and system calls by number that no point is for.
EXEMPT = {
    _PURE: "__chk_fail __cxa_finalize __environ environ __errno_location __libc_single_threaded clock_gettime closedir dirfd "
           "dlsym fnmatch free getegid getenv geteuid getpid memcpy memset memcmp sched_getcpu sched_yield setvbuf snprintf "
           "vsnprintf strchr strcmp strcspn strlen strncmp strnlen strrchr strspn strstr strtol strtoull stderr stdin stdout "
           "sysconf __stack_chk_fail readdir SYS_gettid SYS_rt_sigprocmask pthread_setcanceltype pthread_setcancelstate "
           "pthread_testcancel",
    _OPEN: "munmap SYS_close close SYS_read SYS_write pread lseek getsockname getpeername shutdown ioctl dup2",
    _HARMLESS: "unlink unlinkat kill clock_nanosleep",
    _HANDED_ON: "pthread_cancel read write readv writev preadv2 pwritev2 recv recvfrom sendto recvmmsg sendmmsg splice "
                "sendfile vmsplice dup close_range poll ppoll select pselect epoll_create1 "
                "epoll_pwait epoll_pwait2 fdopen execve execvpe fexecve "
                "posix_spawn posix_spawnp posix_spawn_file_actions_adddup2 system popen _exit syscall SYS_io_uring_setup "
                "open64 openat openat64 __open_2 __open64_2 __openat_2 __openat64_2 creat creat64 fopen fopen64 pipe pipe2 eventfd "
                "timerfd_create signalfd inotify_init inotify_init1",
    "a relative path is not selected then": "getcwd",
    "what it looks for is not there, then": "access fgetxattr",
    "the connection is shut down instead": "socketpair",
    "a wait that ends early is begun again": "SYS_futex",
    "the kernel's table of descriptors grows later, then": "SYS_eventfd2 SYS_fcntl",
}
