# Names of runtime.h and of the C library for Cython.
from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from posix.types cimport pid_t, off_t

cdef extern from "errno.h" nogil:
    int errno
    const int EAGAIN, EINTR, EPIPE, ECONNRESET, EBADF, EINVAL, ENOMEM, ENOTCONN, EINPROGRESS, EMFILE, ENFILE, ENOBUFS, EEXIST
    const int EOPNOTSUPP, ESRCH, ENOENT, EFAULT, EPROTO, ETIMEDOUT, EISCONN, ENOTSOCK

cdef extern from "sys/socket.h" nogil:
    const int AF_UNIX, SOCK_STREAM, SOCK_SEQPACKET, SOCK_CLOEXEC, SOCK_NONBLOCK, SOL_SOCKET
    const int SO_PEERCRED, SO_TYPE, SO_DOMAIN, SO_RCVTIMEO, SO_SNDTIMEO, SO_SNDBUF, SO_ERROR, SO_ACCEPTCONN, SCM_RIGHTS
    const int MSG_DONTWAIT, MSG_PEEK, MSG_WAITALL, MSG_NOSIGNAL, MSG_TRUNC, MSG_CTRUNC, MSG_OOB, MSG_CMSG_CLOEXEC
    const int MSG_MORE
    const int SHUT_RD, SHUT_WR, SHUT_RDWR
    ctypedef unsigned int socklen_t
    ctypedef struct sockaddr "struct sockaddr":
        unsigned short sa_family
    ctypedef struct msghdr "struct msghdr":
        void *msg_name
        socklen_t msg_namelen
        iovec *msg_iov
        size_t msg_iovlen
        void *msg_control
        size_t msg_controllen
        int msg_flags
    ctypedef struct cmsghdr "struct cmsghdr":
        size_t cmsg_len
        int cmsg_level, cmsg_type
    ctypedef struct ucred "struct ucred":
        pid_t pid
        unsigned int uid, gid
    size_t CMSG_LEN(size_t n)
    size_t CMSG_SPACE(size_t n)
    unsigned char *CMSG_DATA(cmsghdr *c)
    cmsghdr *CMSG_FIRSTHDR(msghdr *m)
    cmsghdr *CMSG_NXTHDR(msghdr *m, cmsghdr *c)
    int listen(int fd, int backlog)

cdef extern from "sys/un.h" nogil:
    ctypedef struct sockaddr_un "struct sockaddr_un":
        unsigned short sun_family
        char sun_path[108]

cdef extern from "sys/uio.h" nogil:
    ctypedef struct iovec "struct iovec":
        void *iov_base
        size_t iov_len

cdef extern from "poll.h" nogil:
    const short POLLIN, POLLOUT, POLLERR, POLLHUP, POLLNVAL, POLLRDHUP, POLLPRI
    const short POLLRDNORM, POLLWRNORM
    ctypedef unsigned long nfds_t
    ctypedef struct pollfd "struct pollfd":
        int fd
        short events, revents

cdef extern from "time.h" nogil:
    ctypedef struct timespec "struct timespec":
        long tv_sec
        long tv_nsec
    ctypedef struct timeval "struct timeval":
        long tv_sec
        long tv_usec
    const int CLOCK_MONOTONIC
    int clock_gettime(int clock, timespec *now)

cdef extern from "signal.h" nogil:
    ctypedef struct sigset_t:
        pass
    const int SIGPIPE

cdef extern from "sys/epoll.h" nogil:
    const uint32_t EPOLLIN, EPOLLOUT, EPOLLRDHUP, EPOLLHUP, EPOLLERR, EPOLLPRI, EPOLLET, EPOLLONESHOT, EPOLLEXCLUSIVE
    const uint32_t EPOLLRDNORM, EPOLLWRNORM, EPOLLWAKEUP
    const int EPOLL_CTL_ADD, EPOLL_CTL_MOD, EPOLL_CTL_DEL
    ctypedef union epoll_data_t:
        void *ptr
        int fd
        uint32_t u32
        uint64_t u64
    ctypedef struct epoll_event "struct epoll_event":
        uint32_t events
        epoll_data_t data

cdef extern from "sys/mman.h" nogil:
    const int PROT_READ, PROT_WRITE, MAP_SHARED
    void *MAP_FAILED
    void *mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset)
    int munmap(void *address, size_t length)

cdef extern from "sys/stat.h" nogil:
    ctypedef struct stat_t "struct stat":
        off_t st_size
        unsigned long st_ino, st_dev
    int fstat(int fd, stat_t *out)

cdef extern from "sys/ioctl.h" nogil:
    const unsigned long FIONREAD

cdef extern from "fcntl.h" nogil:
    const int F_GETFL, F_SETFL, F_GETFD, F_SETFD, F_ADD_SEALS, F_GET_SEALS, F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_SEAL
    const int O_CLOEXEC, F_DUPFD_CLOEXEC, O_NONBLOCK, FD_CLOEXEC

cdef extern from "unistd.h" nogil:
    int ftruncate(int fd, off_t length)
    pid_t getpid()

cdef extern from "signal.h" nogil:
    int kill(pid_t pid, int signal)

cdef extern from "sched.h" nogil:
    int sched_yield()

cdef extern from "sys/syscall.h" nogil:
    const long SYS_futex, SYS_tgkill
    long syscall(long number, ...)

cdef extern from "linux/futex.h" nogil:
    const int FUTEX_WAIT, FUTEX_WAKE

cdef extern from "string.h" nogil:
    void *memcpy(void *to, const void *source, size_t n)
    void *memset(void *to, int c, size_t n)
    int memcmp(const void *a, const void *b, size_t n)

cdef extern from "paths.h" nogil:
    const char *kvo_paths_parse(const char *text, char ***globs)
    int kvo_paths_match(char **globs, const char *path, size_t length)

cdef extern from "stats.h" nogil:
    ctypedef struct conn_stats_t "struct kvo_stats_connection":
        uint64_t sent, received, sends, receives, sleeps, bells, data_bells, spins_won, spins_lost, since_ns
        uint32_t sequence, state, reason, role
        int32_t peer_pid
        char path[108]
    ctypedef struct proc_stats_t "struct kvo_stats_header":
        uint64_t magic, start_ticks, since_ns, accelerated
        uint32_t version, header_bytes, slot_bytes, reasons, uid
        int32_t pid
        uint64_t refused[32]
    const uint64_t KVO_STATS_MAGIC
    const uint32_t KVO_STATS_VERSION, KVO_STATS_HEADER_BYTES, KVO_STATS_SLOT_BYTES, KVO_STATS_REASONS, KVO_STATS_PATH
    const size_t KVO_STATS_COUNTER_BYTES
    conn_stats_t *kvo_stats_slot(uint32_t slot)
    void kvo_stats_cover(uint32_t slot)
    uint64_t kvo_stats_now()

cdef extern from "runtime.h" nogil:
    ctypedef struct next_t "struct kvo_next":
        ssize_t (*recv)(int, void *, size_t, int) noexcept nogil
        ssize_t (*send)(int, const void *, size_t, int) noexcept nogil
        ssize_t (*recvmsg)(int, msghdr *, int) noexcept nogil
        ssize_t (*sendmsg)(int, const msghdr *, int) noexcept nogil
        int (*socket)(int, int, int) noexcept nogil
        int (*bind)(int, const sockaddr *, socklen_t) noexcept nogil
        int (*connect)(int, const sockaddr *, socklen_t) noexcept nogil
        int (*accept4)(int, sockaddr *, socklen_t *, int) noexcept nogil
        int (*getsockname)(int, sockaddr *, socklen_t *) noexcept nogil
        int (*getpeername)(int, sockaddr *, socklen_t *) noexcept nogil
        int (*getsockopt)(int, int, int, void *, socklen_t *) noexcept nogil
        int (*setsockopt)(int, int, int, const void *, socklen_t) noexcept nogil
        int (*shutdown)(int, int) noexcept nogil
        int (*close)(int) noexcept nogil
        int (*dup3)(int, int, int) noexcept nogil
        int (*fcntl)(int, int, ...) noexcept nogil
        int (*poll)(pollfd *, nfds_t, int) noexcept nogil
        int (*ioctl)(int, unsigned long, ...) noexcept nogil
        int (*ppoll)(pollfd *, nfds_t, const timespec *, const sigset_t *) noexcept nogil
        int (*epoll_ctl)(int, int, int, epoll_event *) noexcept nogil
        int (*epoll_pwait)(int, epoll_event *, int, int, const sigset_t *) noexcept nogil
    next_t kvo_next

    const int KVO_NO_REASON, KVO_NO_OFFER, KVO_BOUND, KVO_NO_MARK, KVO_NO_RENDEZVOUS, KVO_CREDENTIALS, KVO_NO_SEGMENT
    const int KVO_BAD_OFFER, KVO_OTHER_VERSION, KVO_WITHDRAWN_OFFER, KVO_FORKED, KVO_ANCILLARY, KVO_STDIO, KVO_SIGNALS
    const int KVO_TABLE_FULL, KVO_SHUT_EARLY, KVO_DETACHED
    const int KVO_EXEC, KVO_HANDED, KVO_URGENT, KVO_SPLICED, KVO_NESTED, KVO_LOW_WATER, KVO_PEER_LEFT, KVO_NO_MEMORY, KVO_SHORT, KVO_NAMED_TWICE
    const int KVO_REASONS

    const int KVO_KERNEL, KVO_LISTENER, KVO_INTERNAL, KVO_EPOLL, KVO_EPOLL_INSIDE, KVO_SOCKET, KVO_WATCHED, KVO_TAGGED, KVO_TWICE
    const int KVO_SLOT_BYTES, KVO_SETS_BYTES
    void KVO_IS_WATCHED(size_t bytes)
    void KVO_IS_SLOT(size_t bytes)

    const int KVO_HABITS
    ctypedef struct habit_t "struct kvo_habit":
        uint64_t path
        uint32_t shorts, passed

    ctypedef struct process_t "struct kvo_process":
        int32_t *table
        uint32_t table_len, fd_high, cancelling
        void *slots
        int32_t rendezvous
        uint32_t live, early, memfds, rendezvous_lock, marks, awaiting, warmup
        uint8_t rendezvous_id[8]
        uint32_t slot_limit, slot_high, slot_lock
        void *sets
        void *sets_made
        uint32_t sets_high
        void *watched
        int32_t slot_free, slot_last, internal_from
        uint32_t slots_free
        int32_t pid
        uint32_t foreign_wait
        uint64_t ring_bytes, spin_ticks, pause_ticks, ticks_per_us
        void *unreadable
        uint32_t trial_shift, expedited, log_level
        proc_stats_t *stats
        habit_t habits[8]
    process_t kvo_process

    int kvo_start(const char *paths)
    int kvo_stays_short(const char *path, size_t length)
    void kvo_note_life(const char *path, int ended_short)
    void kvo_fence_everywhere()
    int kvo_single_threaded()
    uint64_t kvo_hold_signals()
    void kvo_release_signals(uint64_t before)
    int kvo_path_selected(const char *path, size_t length)
    int32_t kvo_tid()
    void kvo_forked_child()
    int kvo_sleep_on(const uint32_t *word, uint32_t value, uint64_t ns, bint restart)
    void kvo_wake_all(uint32_t *word)
    int kvo_cpu()
    const char *kvo_reason_name(int reason)
    void kvo_log(const char *text, ...)
    void kvo_cancellation_point()
    ctypedef ssize_t (*transfer_t "kvo_transfer *")(int32_t, int, msghdr *, int) noexcept nogil
    ssize_t kvo_unless_cancelled(int32_t ident, int fd, msghdr *message, int flags, transfer_t go_on)
    ssize_t kvo_send_now(int fd, const void *buffer, size_t n, int flags)
    ssize_t kvo_recv_now(int fd, void *buffer, size_t n, int flags)
    ssize_t kvo_sendmsg_now(int fd, const msghdr *m, int flags)
    ssize_t kvo_recvmsg_now(int fd, msghdr *m, int flags)
    int kvo_connect_now(int fd, const sockaddr *address, socklen_t n)
    int kvo_accept_now(int fd, sockaddr *address, socklen_t *n, int flags)
    int kvo_close_now(int fd)
    int kvo_poll_now(pollfd *fds, nfds_t n)
    int kvo_ppoll_now(pollfd *fds, nfds_t n, const timespec *span, const sigset_t *mask)
    int kvo_epoll_now(int epfd, epoll_event *events, int most, const sigset_t *mask)
    ctypedef int (*sleep_t "kvo_sleep *")(void *) noexcept nogil
    ctypedef void (*sleep_over_t "kvo_sleep_over *")(void *) noexcept nogil
    int kvo_asleep(sleep_t sleep, sleep_over_t over, void *about)
    void kvo_set_errno(int value)
    bint kvo_outside(const void *p)
    bint kvo_nowhere(const void *p)
    int kvo_memfd(const char *name)
    uint64_t kvo_descriptor_limit()
    bint kvo_file_may_have(uint64_t bytes)
    int kvo_random(void *buffer, size_t length)
    int kvo_peer_user(int fd, uint32_t *user)
