/* A signal in each blocking call: without SA_RESTART it ends the call with EINTR; with it, read and write go on, while
 * poll, select and epoll end all the same. The peer signals when the call sleeps. */
#include "snippet.h"
#include <setjmp.h>

static char big[1 << 20];
static volatile sig_atomic_t jumps;

/* The call of x, interrupted; then what the peer does next ends it, if the signal has not. */
#define INTERRUPTED(x, flags, prepare, call, feed) \
    static void x##_server(int fd) { \
        char b[100] = ""; \
        struct iovec v = {b, 100}; \
        struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1}; \
        struct mmsghdr mm = {.msg_hdr = m}; \
        struct epoll_event e = {EPOLLIN, {0}}; \
        struct pollfd p = {fd, POLLIN, 0}; \
        int ep = OK(epoll_create1(0)); \
        (void)mm, (void)e, (void)p; \
        count_signals(SIGUSR1, flags); \
        barrier(); prepare; barrier(); \
        SHOW(call); \
        say("signals %d", sn_end[0].signals); \
        barrier(); close(ep); close(fd); \
    } \
    static void x##_client(int fd) { \
        barrier(); barrier(); await_peer_sleep(); poke_peer(SIGUSR1); \
        if (flags & SA_RESTART) { await_peer_sleep(); feed; } \
        barrier(); close(fd); \
    }
#define BOTH(x, prepare, call, feed) \
    INTERRUPTED(x##_interrupted, 0, prepare, call, feed) INTERRUPTED(x##_restarted, SA_RESTART, prepare, call, feed)
#define SEND OK(send(fd, "data", 4, 0))
/* To the last byte: what is left over depends on the size of the pieces. */
#define FILL do { OK(fcntl(fd, F_SETFL, O_NONBLOCK)); while (send(fd, big, 4096, 0) > 0 || send(fd, big, 1, 0) > 0) {} \
    OK(fcntl(fd, F_SETFL, 0)); } while (0)
#define DRAIN do { OK(fcntl(fd, F_SETFL, O_NONBLOCK)); while (recv(fd, big, sizeof big, 0) > 0) {} OK(fcntl(fd, F_SETFL, 0)); } while (0)
/* More than fits: a part of it goes, and no signal lets the call begin anew. */
static int partly(long n) { return n > 0 && n < (long)sizeof big; }
static void limit(int fd, int what)
{
    struct timeval t = {20, 0};
    OK(setsockopt(fd, SOL_SOCKET, what, &t, sizeof t));
}
/* Another process has the connection too, until this one ends. */
static void share(void)
{
    int hold[2];
    OK(pipe(hold));
    if (OK(fork())) return;
    close(hold[1]);
    read(hold[0], big, 1);
    _exit(0);
}
#define SET OK(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e))
#define BITS fd_set r; FD_ZERO(&r); FD_SET(fd, &r)

BOTH(read, , read(fd, b, 100), SEND)
BOTH(recv, , recv(fd, b, 100, 0), SEND)
BOTH(peek, , recv(fd, b, 100, MSG_PEEK), SEND)
BOTH(waitall, , recv(fd, b, 4, MSG_WAITALL), SEND)
BOTH(recvfrom, , recvfrom(fd, b, 100, 0, NULL, NULL), SEND)
BOTH(readv, , readv(fd, &v, 1), SEND)
BOTH(recvmsg, , recvmsg(fd, &m, 0), SEND)
BOTH(recvmmsg, , recvmmsg(fd, &mm, 1, 0, NULL), SEND)
BOTH(write, FILL, write(fd, big, 100), DRAIN)
BOTH(send, FILL, send(fd, big, 100, 0), DRAIN)
BOTH(writev, FILL, writev(fd, &v, 1), DRAIN)
BOTH(sendmsg, FILL, sendmsg(fd, &m, 0), DRAIN)
BOTH(part_sent, , partly(send(fd, big, sizeof big, 0)), DRAIN)
BOTH(send_half_shut, FILL; OK(shutdown(fd, SHUT_RD)), send(fd, big, 100, 0), DRAIN)
BOTH(send_shared, FILL; share(), send(fd, big, 100, 0), DRAIN)
BOTH(send_rcvtimeo, FILL; limit(fd, SO_RCVTIMEO), send(fd, big, 100, 0), DRAIN)
BOTH(recv_sndtimeo, limit(fd, SO_SNDTIMEO), recv(fd, b, 100, 0), SEND)
INTERRUPTED(poll_interrupted, 0, , poll(&p, 1, -1), )
INTERRUPTED(ppoll_interrupted, 0, , ppoll(&p, 1, NULL, NULL), )
INTERRUPTED(select_interrupted, 0, BITS, select(600, &r, NULL, NULL, NULL), )
INTERRUPTED(pselect_interrupted, 0, BITS, pselect(600, &r, NULL, NULL, NULL, NULL), )
INTERRUPTED(epoll_wait_interrupted, 0, SET, epoll_wait(ep, &e, 1, -1), )
INTERRUPTED(epoll_pwait2_interrupted, 0, SET, epoll_pwait2(ep, &e, 1, NULL, NULL), )

/* connect() to a full backlog and accept() from an empty one, each interrupted and restarted. */
static char second[120];
static int full_listener(void)
{
    snprintf(second, sizeof second, "%s.2", sn_path());
    return sn_listen(second, 0);
}
static void connecting(int flags)
{
    struct sockaddr_un a;
    int l = full_listener(), first = sn_connect(second), fd = OK(socket(AF_UNIX, SOCK_STREAM, 0));
    socklen_t n = sn_address(&a, second);
    count_signals(SIGUSR1, flags);
    pid_t waker = OK(fork());
    if (!waker) {
        sn_role = 1;
        await_peer_sleep();
        poke_peer(SIGUSR1);
        if (flags & SA_RESTART) {
            await_peer_sleep();
            close(OK(accept(l, NULL, NULL)));
        }
        _exit(0);
    }
    SHOW(connect(fd, (struct sockaddr *)&a, n));
    say("signals %d", sn_end[0].signals);
    OK(waitpid(waker, NULL, 0));
    close(first); close(fd); close(l);
}
static void connect_interrupted(void) { connecting(0); }
static void connect_restarted(void) { connecting(SA_RESTART); }

static void accepting(int flags)
{
    int l = full_listener();
    count_signals(SIGUSR1, flags);
    pid_t waker = OK(fork());
    if (!waker) {
        sn_role = 1;
        await_peer_sleep();
        poke_peer(SIGUSR1);
        if (flags & SA_RESTART) {
            await_peer_sleep();
            close(sn_connect(second));
        }
        _exit(0);
    }
    int fd = accept(l, NULL, NULL);
    say("accepted %d %s, signals %d", fd >= 0, fd < 0 ? err_name(errno) : "", sn_end[0].signals);
    OK(waitpid(waker, NULL, 0));
    close(fd); close(l);
}
static void accept_interrupted(void) { accepting(0); }
static void accept_restarted(void) { accepting(SA_RESTART); }

/* SO_RCVTIMEO and SO_SNDTIMEO: no restart, whatever the handler says. */
static void timed_server(int fd)
{
    char b[10];
    struct timeval t = {20, 0};
    count_signals(SIGUSR1, SA_RESTART);
    OK(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t));
    OK(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t));
    barrier();
    SHOW(recv(fd, b, 10, 0));
    FILL;
    barrier();
    SHOW(send(fd, big, 10, 0));
    barrier();
    close(fd);
}
static void timed_client(int fd)
{
    barrier(); await_peer_sleep(); poke_peer(SIGUSR1);
    barrier(); await_peer_sleep(); poke_peer(SIGUSR1);
    barrier(); close(fd);
}

/* A handler that jumps out of a blocking receive leaves the connection usable. */
static sigjmp_buf out_of_it;
static void jump(int number) { (void)number; sn_end[0].signals++; siglongjmp(out_of_it, 1); }
static void jump_out_server(int fd)
{
    char b[10] = "";
    struct sigaction a = {.sa_handler = jump};
    OK(sigaction(SIGUSR1, &a, NULL));
    for (int i = 0; i < 12; i++) {
        barrier();
        if (!sigsetjmp(out_of_it, 1)) SHOW(recv(fd, b, 10, 0));
        else jumps++;
    }
    say("jumped %d", (int)jumps);
    barrier();
    SHOW(recv(fd, b, 4, MSG_WAITALL)); say("%s", b);
    SHOW(send(fd, "back", 4, 0));
    barrier();
    close(fd);
}
static void jump_out_client(int fd)
{
    char b[10] = "";
    for (int i = 0; i < 12; i++) { barrier(); await_peer_sleep(); poke_peer(SIGUSR1); }
    barrier();
    OK(send(fd, "data", 4, 0));
    SHOW(recv(fd, b, 4, MSG_WAITALL)); say("%s", b);
    barrier();
    close(fd);
}

/* A handler that sends on the connection while the program waits to receive from it. */
static int handled_fd;
static void answer(int number) { (void)number; OK(write(handled_fd, "sig", 3)); sn_end[0].signals++; }
static void handler_sends_server(int fd)
{
    char b[10] = "";
    struct sigaction a = {.sa_handler = answer, .sa_flags = SA_RESTART};
    handled_fd = fd;
    OK(sigaction(SIGUSR1, &a, NULL));
    barrier();
    SHOW(recv(fd, b, 10, 0)); say("%s", b);
    barrier();
    close(fd);
}
static void handler_sends_client(int fd)
{
    char b[10] = "";
    barrier(); await_peer_sleep(); poke_peer(SIGUSR1);
    SHOW(recv(fd, b, 3, MSG_WAITALL)); say("%s", b);
    OK(send(fd, "reply", 5, 0));
    barrier();
    close(fd);
}

/* A timer that fires each millisecond while much is sent and received: no byte is lost, none comes twice. */
static void storm(int fd, int sends, int flags)
{
    enum { ALL = 8 << 20 };
    static char b[70000];
    struct itimerval each = {{0, 1000}, {0, 1000}}, none = {{0, 0}, {0, 0}};
    count_signals(SIGALRM, flags);
    OK(setitimer(ITIMER_REAL, &each, NULL));
    size_t at = 0;
    int bad = 0;
    while (at < ALL) {
        size_t n = 1 + at * 7919 % sizeof b;
        if (n > ALL - at) n = ALL - at;
        if (sends) fill(b, n, at);
        long r = sends ? send(fd, b, n, 0) : recv(fd, b, n, 0);
        if (r < 0 && errno == EINTR && !(flags & SA_RESTART)) continue;
        if (r <= 0) break;
        if (!sends) bad += !good(b, r, at);
        at += r;
    }
    say("%zu bytes, bad %d", at, bad);
    OK(setitimer(ITIMER_REAL, &none, NULL));
    barrier();
    close(fd);
}
static void storm_restarted_server(int fd) { storm(fd, 0, SA_RESTART); }
static void storm_restarted_client(int fd) { storm(fd, 1, SA_RESTART); }
static void storm_interrupted_server(int fd) { storm(fd, 0, 0); }
static void storm_interrupted_client(int fd) { storm(fd, 1, 0); }

/* SIGPIPE: kills by default, can be handled or ignored, is not sent with MSG_NOSIGNAL, and stays pending when blocked. */
static void sigpipe_kills_server(int fd) { close(fd); barrier(); barrier(); }
static void sigpipe_kills_client(int fd)
{
    barrier();
    say("writes");
    write(fd, "x", 1);
    say("FAILED: lives");
}
static void sigpipe_handled_server(int fd) { close(fd); barrier(); barrier(); }
static void sigpipe_handled_client(int fd)
{
    struct iovec v = {"x", 1};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
    struct mmsghdr mm = {.msg_hdr = m};
    count_signals(SIGPIPE, 0);
    barrier();
    SHOW(write(fd, "x", 1)); say("signals %d", sn_end[1].signals);
    SHOW(send(fd, "x", 1, 0)); say("signals %d", sn_end[1].signals);
    SHOW(send(fd, "x", 1, MSG_NOSIGNAL)); say("signals %d", sn_end[1].signals);
    SHOW(writev(fd, &v, 1)); say("signals %d", sn_end[1].signals);
    SHOW(sendmsg(fd, &m, 0)); say("signals %d", sn_end[1].signals);
    SHOW(sendmsg(fd, &m, MSG_NOSIGNAL)); say("signals %d", sn_end[1].signals);
    SHOW(sendmmsg(fd, &mm, 1, 0)); say("signals %d", sn_end[1].signals);
    SHOW(sendto(fd, "x", 1, 0, NULL, 0)); say("signals %d", sn_end[1].signals);
    signal(SIGPIPE, SIG_IGN);
    SHOW(write(fd, "x", 1));
    signal(SIGPIPE, SIG_DFL);
    sigset_t pipes, old, pending;
    sigemptyset(&pipes);
    sigaddset(&pipes, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipes, &old);
    SHOW(write(fd, "x", 1));
    OK(sigpending(&pending));
    say("pending %d", sigismember(&pending, SIGPIPE));
    struct timespec now_ = {0, 0};
    SHOW(sigtimedwait(&pipes, NULL, &now_) == SIGPIPE);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    close(fd);
    barrier();
}

static const struct scene scenes[] = {
    SCENE(read_interrupted),
    SCENE(read_restarted),
    SCENE(recv_interrupted),
    SCENE(recv_restarted),
    SCENE(peek_interrupted),
    SCENE(peek_restarted),
    SCENE(waitall_interrupted),
    SCENE(waitall_restarted),
    SCENE(recvfrom_interrupted),
    SCENE(recvfrom_restarted),
    SCENE(readv_interrupted),
    SCENE(readv_restarted),
    SCENE(recvmsg_interrupted),
    SCENE(recvmsg_restarted),
    SCENE(recvmmsg_interrupted),
    SCENE(recvmmsg_restarted),
    SCENE(write_interrupted),
    SCENE(write_restarted),
    SCENE(send_interrupted),
    SCENE(send_restarted),
    SCENE(writev_interrupted),
    SCENE(writev_restarted),
    SCENE(sendmsg_interrupted),
    SCENE(sendmsg_restarted),
    SCENE(part_sent_interrupted),
    SCENE(part_sent_restarted),
    SCENE(send_half_shut_interrupted),
    SCENE(send_half_shut_restarted),
    SCENE(send_shared_interrupted), // modes: process
    SCENE(send_shared_restarted), // modes: process
    SCENE(send_rcvtimeo_interrupted),
    SCENE(send_rcvtimeo_restarted),
    SCENE(recv_sndtimeo_interrupted),
    SCENE(recv_sndtimeo_restarted),
    SCENE(poll_interrupted),
    SCENE(ppoll_interrupted),
    SCENE(select_interrupted),
    SCENE(pselect_interrupted),
    SCENE(epoll_wait_interrupted),
    SCENE(epoll_pwait2_interrupted),
    ALONE(connect_interrupted), // modes: process; accelerated: any
    ALONE(connect_restarted), // modes: process; accelerated: any
    ALONE(accept_interrupted), // modes: process; accelerated: any
    ALONE(accept_restarted), // modes: process; accelerated: any
    SCENE(timed),
    SCENE(jump_out), // modes: process
    SCENE(handler_sends),
    SCENE(storm_restarted), // modes: process
    SCENE(storm_interrupted), // modes: process
    SCENE(sigpipe_kills), // modes: process
    SCENE(sigpipe_handled), // modes: process
};
PLAY(scenes)
