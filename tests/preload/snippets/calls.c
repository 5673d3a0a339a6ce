/* Corners of single calls: arrays of messages, options, errors, descriptors, threads that are cancelled. */
#include "snippet.h"
#include <sys/resource.h>
#include <sys/sendfile.h>

#define TURN do { barrier(); barrier(); } while (0) /* the other end does its part in between */

/* recvmmsg waits for all its messages, or for one with MSG_WAITFORONE; at the end of the stream it is filled up. */
static void mmsg_waits_server(int fd)
{
    char b[4][4] = {"", "", "", ""};
    struct iovec v[4] = {{b[0], 4}, {b[1], 4}, {b[2], 4}, {b[3], 4}};
    struct mmsghdr m[4] = {{.msg_hdr = {.msg_iov = v, .msg_iovlen = 1}}, {.msg_hdr = {.msg_iov = v + 1, .msg_iovlen = 1}},
                           {.msg_hdr = {.msg_iov = v + 2, .msg_iovlen = 1}}, {.msg_hdr = {.msg_iov = v + 3, .msg_iovlen = 1}}};
    barrier();
    SHOW(recvmmsg(fd, m, 2, 0, NULL)); say("%d %d", m[0].msg_len, m[1].msg_len);
    TURN;
    SHOW(recvmmsg(fd, m, 4, MSG_WAITFORONE, NULL)); say("%d", m[0].msg_len);
    SHOW(recvmmsg(fd, m, 4, MSG_DONTWAIT, NULL));
    SHOW(recvmmsg(fd, m, 0, 0, NULL));
    struct timespec wrong = {0, -1}, none = {0, 0};
    SHOW(recvmmsg(fd, m, 1, MSG_DONTWAIT, &wrong));
    TURN;
    SHOW(recvmmsg(fd, m, 4, 0, &none)); say("%d", m[0].msg_len);
    TURN;
    SHOW(recvmmsg(fd, m, 4, 0, NULL)); say("%d %d %d %d", m[0].msg_len, m[1].msg_len, m[2].msg_len, m[3].msg_len);
    close(fd);
}
static void mmsg_waits_client(int fd)
{
    barrier();
    OK(send(fd, "1234", 4, 0));
    await_peer_sleep();
    OK(send(fd, "5678", 4, 0));
    barrier(); OK(send(fd, "9", 1, 0)); barrier();
    barrier(); OK(send(fd, "0", 1, 0)); barrier();
    barrier(); OK(send(fd, "last", 4, 0)); close(fd); barrier();
}

/* sendmmsg takes 1024 messages at most, and stops before the one that fails. */
static void mmsg_many_server(int fd)
{
    char b[2000];
    TURN;
    SHOW(recv(fd, b, sizeof b, MSG_DONTWAIT));
    barrier();
    close(fd);
}
static void mmsg_many_client(int fd)
{
    static struct mmsghdr m[1100];
    static struct iovec v[1100];
    for (int i = 0; i < 1100; i++) {
        v[i] = (struct iovec){"x", 1};
        m[i].msg_hdr = (struct msghdr){.msg_iov = v + i, .msg_iovlen = 1};
    }
    barrier();
    SHOW(sendmmsg(fd, m, 0, 0));
    m[3].msg_hdr.msg_iovlen = 1025;
    m[3].msg_hdr.msg_iov = v;
    SHOW(sendmmsg(fd, m, 5, 0));
    SHOW(sendmmsg(fd, m + 3, 1, 0));
    barrier(); barrier();
    close(fd);
}

/* Options: what they answer to wrong lengths and values, and that they read back what was set. */
static void options_server(int fd)
{
    int v = 7, back = -1;
    socklen_t n = 2;
    SHOW(getsockopt(fd, SOL_SOCKET, SO_TYPE, &back, &n)); say("%d", (int)n);
    n = 0; SHOW(getsockopt(fd, SOL_SOCKET, SO_ERROR, &back, &n)); say("%d", (int)n);
    n = 2; SHOW(getsockopt(fd, SOL_SOCKET, SO_ERROR, &back, &n)); say("%d", (int)n);
    SHOW(getsockopt(fd, SOL_SOCKET, SO_ERROR, NULL, &n));
    SHOW(getsockopt(fd, SOL_SOCKET, SO_ERROR, &back, NULL));
    SHOW(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &v, 1));
    struct timeval t = {0, 1000000};
    SHOW(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t));
    struct linger l = {1, 3};
    SHOW(setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof l));
    l.l_linger = 0; n = sizeof l;
    SHOW(getsockopt(fd, SOL_SOCKET, SO_LINGER, &l, &n)); say("%d %d", l.l_onoff, l.l_linger);
    SHOW(setsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &v, sizeof v));
    SHOW(setsockopt(fd, SOL_SOCKET, 9999, &v, sizeof v));
    SHOW(setsockopt(fd, SOL_SOCKET, SO_PASSCRED, NULL, sizeof v));
    struct ucred u = {0}; n = sizeof u;
    OK(getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &u, &n));
    say("the client's %d", u.pid == sn_end[1].pid);
    TURN;
    close(fd);
}
static void options_client(int fd) { TURN; close(fd); }

/* SO_RCVLOWAT holds a receive back until so many bytes are there. */
static void low_water_server(int fd)
{
    int v = 5;
    char b[10];
    OK(setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &v, sizeof v));
    barrier();
    SHOW(recv(fd, b, 10, 0));
    TURN;
    close(fd);
}
static void low_water_client(int fd)
{
    barrier();
    OK(send(fd, "123", 3, 0));
    await_peer_sleep();
    OK(send(fd, "45", 2, 0));
    TURN;
    close(fd);
}

/* What is no business of sockets. */
static void not_for_sockets_server(int fd)
{
    char b[10];
    struct iovec v = {b, 10};
    struct stat st;
    struct flock lock = {.l_type = F_WRLCK};
    SHOW(lseek(fd, 0, SEEK_SET));
    SHOW(pread(fd, b, 1, 0));
    SHOW(pwrite(fd, b, 1, 0));
    SHOW(preadv(fd, &v, 1, 0));
    SHOW(pwritev(fd, &v, 1, 0));
    SHOW(preadv2(fd, &v, 1, 3, 0));
    SHOW(ftruncate(fd, 0));
    SHOW(fsync(fd));
    SHOW(fallocate(fd, 0, 0, 1));
    SHOW((intptr_t)mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0));
    SHOW(fcntl(fd, F_SETLK, &lock));
    SHOW(fstat(fd, &st)); say("socket %d", S_ISSOCK(st.st_mode));
    SHOW(isatty(fd));
    SHOW(listen(fd, 1));
    SHOW(accept(fd, NULL, NULL));
    TURN;
    SHOW(recv(fd, b, 10, 0));
    close(fd);
}
static void not_for_sockets_client(int fd) { barrier(); OK(send(fd, "alive", 5, 0)); barrier(); close(fd); }

/* read and write at the current position by preadv2 and pwritev2. */
static void position_server(int fd)
{
    char b[10] = "";
    struct iovec v = {b, 10};
    TURN;
    SHOW(preadv2(fd, &v, 1, -1, 0)); say("%s", b);
    v = (struct iovec){"back", 4};
    SHOW(pwritev2(fd, &v, 1, -1, 0));
    barrier();
    close(fd);
}
static void position_client(int fd)
{
    char b[10] = "";
    barrier(); OK(send(fd, "data", 4, 0)); barrier();
    SHOW(recv(fd, b, 10, 0)); say("%s", b);
    barrier();
    close(fd);
}

/* /proc/self/fd shows a socket, which can't be opened by that name. */
static void proc_link_server(int fd)
{
    char path[64], text[64] = "";
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    SHOW(readlink(path, text, 63) > 0); say("%.8s", text);
    SHOW(open(path, O_RDWR));
    TURN;
    close(fd);
}
static void proc_link_client(int fd) { TURN; close(fd); }

/* sendfile with sources and offsets of all kinds. */
static void sendfile_errors_server(int fd)
{
    char b[100] = "";
    TURN;
    SHOW(recv(fd, b, 100, 0)); say("%s", b);
    barrier();
    close(fd);
}
static void sendfile_errors_client(int fd)
{
    int file = OK(memfd_create("data", MFD_CLOEXEC)), writes = OK(open("/dev/null", O_WRONLY)), p[2];
    off_t at = 100;
    OK(write(file, "0123456789", 10));
    OK(pipe(p));
    barrier();
    SHOW(sendfile(fd, -1, NULL, 5));
    SHOW(sendfile(fd, writes, NULL, 5));
    SHOW(sendfile(fd, file, &at, 5)); say("at %ld", (long)at);
    SHOW(sendfile(fd, file, NULL, 5)); say("at %ld", (long)lseek(file, 0, SEEK_CUR));
    at = 0; SHOW(sendfile(fd, file, &at, 0)); say("at %ld", (long)at);
    at = -1; SHOW(sendfile(fd, file, &at, 5));
    at = 4; SHOW(sendfile(fd, file, &at, 3)); say("at %ld", (long)at);
    OK(lseek(file, 8, SEEK_SET)); SHOW(sendfile(fd, file, NULL, 50)); say("at %ld", (long)lseek(file, 0, SEEK_CUR));
    barrier(); barrier();
    close(file); close(writes); close(p[0]); close(p[1]); close(fd);
}

/* select() on a number above FD_SETSIZE, with sets made large enough. */
static void select_high_server(int fd)
{
    struct rlimit limit;
    OK(getrlimit(RLIMIT_NOFILE, &limit));
    limit.rlim_cur = limit.rlim_max < 4096 ? limit.rlim_max : 4096;
    OK(setrlimit(RLIMIT_NOFILE, &limit));
    int high = OK(fcntl(fd, F_DUPFD, 3000));
    unsigned long sets[2][64] = {{0}};
    TURN;
    sets[0][high / 64] |= 1ul << high % 64;
    sets[1][high / 64] |= 1ul << high % 64;
    SHOW(select(high + 1, (fd_set *)sets[0], (fd_set *)sets[1], NULL, NULL));
    say("readable %d writable %d", !!(sets[0][high / 64] >> high % 64 & 1), !!(sets[1][high / 64] >> high % 64 & 1));
    show_poll("high", high, ALL_EVENTS, 0);
    barrier();
    close(fd);
    close(high);
}
static void select_high_client(int fd) { barrier(); OK(send(fd, "x", 1, 0)); TURN; close(fd); }

/* No numbers left: accept() and dup() say EMFILE; the connections that are there go on, and so does one made later. */
static void no_numbers_server(int fd)
{
    struct rlimit limit, low;
    char b[10] = "";
    int full[64], count = 0, first = OK(dup(fd));
    OK(getrlimit(RLIMIT_NOFILE, &limit));
    low = limit;
    low.rlim_cur = first + 8;
    close(first);
    OK(setrlimit(RLIMIT_NOFILE, &low));
    while (count < 64 && (full[count] = dup(fd)) >= 0) count++;
    say("%d %s", count > 0 && count < 64, err_name(errno));
    SHOW(dup(0));
    SHOW(fcntl(fd, F_DUPFD, 0));
    TURN;
    SHOW(recv(fd, b, 10, 0));
    SHOW(send(fd, "answer", 6, 0));
    while (count) close(full[--count]);
    OK(setrlimit(RLIMIT_NOFILE, &limit));
    TURN;
    close(fd);
}
static void no_numbers_client(int fd)
{
    char b[10];
    barrier(); OK(send(fd, "hello", 5, 0)); barrier();
    SHOW(recv(fd, b, 10, 0));
    TURN;
    close(fd);
}

/* Two connections change numbers by way of a third number. */
static void swap_numbers_server(int fd)
{
    char b[11] = "";
    int p[2];
    OK(pipe(p));
    int spare = OK(dup(fd));
    OK(dup2(p[0], fd));
    OK(dup2(spare, p[0]));
    close(spare);
    barrier();
    OK(write(p[1], "pipe", 4));
    SHOW(read(fd, b, 10)); say("%s", b);
    SHOW(recv(fd, b, 10, 0));
    SHOW(recv(p[0], b, 10, MSG_WAITALL | 0)); say("%s", b);
    TURN;
    close(fd); close(p[0]); close(p[1]);
}
static void swap_numbers_client(int fd) { OK(send(fd, "0123456789", 10, 0)); barrier(); TURN; close(fd); }

/* A thread that is cancelled in a blocking call leaves nothing locked: others go on with the same connection. */
static int shared;
static pid_t worker;
static char big[1 << 16];
enum { IN_READ, IN_RECV, IN_POLL, IN_EPOLL, IN_WRITE };
static void *blocked(void *how)
{
    char b[10];
    struct pollfd p = {shared, POLLIN, 0};
    struct epoll_event e = {EPOLLIN, {0}};
    sn_role = 0;
    __atomic_store_n(&worker, gettid(), __ATOMIC_RELEASE);
    switch ((intptr_t)how) {
    case IN_READ: read(shared, b, 10); break;
    case IN_RECV: recv(shared, b, 10, 0); break;
    case IN_POLL: poll(&p, 1, -1); break;
    case IN_EPOLL: {
        int ep = OK(epoll_create1(0));
        OK(epoll_ctl(ep, EPOLL_CTL_ADD, shared, &e));
        epoll_wait(ep, &e, 1, -1);
        break;
    }
    default: while (write(shared, big, sizeof big) > 0) ;
    }
    say("FAILED: not cancelled");
    return NULL;
}
static void cancel(int fd, int how)
{
    pthread_t t;
    void *end;
    char b[10] = "";
    shared = fd;
    for (int i = 0; i < 12; i++) {
        worker = 0;
        OK(pthread_create(&t, NULL, blocked, (void *)(intptr_t)how));
        while (!__atomic_load_n(&worker, __ATOMIC_ACQUIRE)) pause_ms(1);
        await_sleep(getpid(), worker);
        OK(pthread_cancel(t));
        OK(pthread_join(t, &end));
        CHECK(end == PTHREAD_CANCELED);
    }
    barrier();
    SHOW(recv(fd, b, 4, MSG_WAITALL)); say("%s", b);
    if (how == IN_WRITE) barrier();
    SHOW(send(fd, "back", 4, 0));
    barrier();
    close(fd);
}
static void cancelled(int fd, int how)
{
    static char b[1 << 22];
    barrier();
    OK(send(fd, "data", 4, 0));
    if (how == IN_WRITE) {
        OK(fcntl(fd, F_SETFL, O_NONBLOCK));
        while (recv(fd, b, sizeof b, 0) > 0) ;
        OK(fcntl(fd, F_SETFL, 0));
        barrier();
    }
    SHOW(recv(fd, b, 4, MSG_WAITALL)); say("%.4s", b);
    barrier();
    close(fd);
}
#define CANCEL(name, how) \
    static void name##_server(int fd) { cancel(fd, how); } static void name##_client(int fd) { cancelled(fd, how); }
CANCEL(cancel_read, IN_READ)
CANCEL(cancel_recv, IN_RECV)
CANCEL(cancel_poll, IN_POLL)
CANCEL(cancel_epoll, IN_EPOLL)
CANCEL(cancel_write, IN_WRITE)

/* Cancelled before it begins: these calls are cancellation points even when they need not wait. */
static int barrier_pipe[2];
enum { PENDING_READ, PENDING_RECV, PENDING_PEEK, PENDING_READV, PENDING_RECVMSG, PENDING_RECVMMSG, PENDING_WRITE, PENDING_SEND,
       PENDING_WRITEV, PENDING_SENDMSG, PENDING_SENDMMSG, PENDING_POLL, PENDING_SELECT, PENDING_EPOLL, PENDING_ACCEPT,
       PENDING_CONNECT, PENDING_CLOSE, PENDING_CALLS };
static void *cancelled_early(void *how)
{
    char b[10] = "";
    struct iovec v = {b, 10};
    struct mmsghdr m = {.msg_hdr = {.msg_iov = &v, .msg_iovlen = 1}};
    struct pollfd p = {shared, POLLIN, 0};
    struct epoll_event e = {EPOLLIN, {0}};
    struct sockaddr_un a;
    socklen_t n = sn_address(&a, "@nobody listens here");
    fd_set set;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    int ep = OK(epoll_create1(0)), other = OK(socket(AF_UNIX, SOCK_STREAM, 0));
    OK(epoll_ctl(ep, EPOLL_CTL_ADD, shared, &e));
    FD_ZERO(&set);
    FD_SET(shared, &set);
    read(barrier_pipe[0], b, 1);
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
    switch ((intptr_t)how) {
    case PENDING_READ: read(shared, b, 10); break;
    case PENDING_RECV: recv(shared, b, 10, MSG_DONTWAIT); break;
    case PENDING_PEEK: recv(shared, b, 10, MSG_PEEK); break;
    case PENDING_READV: readv(shared, &v, 1); break;
    case PENDING_RECVMSG: recvmsg(shared, &m.msg_hdr, 0); break;
    case PENDING_RECVMMSG: recvmmsg(shared, &m, 1, 0, NULL); break;
    case PENDING_WRITE: write(shared, b, 10); break;
    case PENDING_SEND: send(shared, b, 10, MSG_DONTWAIT); break;
    case PENDING_WRITEV: writev(shared, &v, 1); break;
    case PENDING_SENDMSG: sendmsg(shared, &m.msg_hdr, 0); break;
    case PENDING_SENDMMSG: sendmmsg(shared, &m, 1, 0); break;
    case PENDING_POLL: poll(&p, 1, 0); break;
    case PENDING_SELECT: select(shared + 1, &set, NULL, NULL, NULL); break;
    case PENDING_EPOLL: epoll_wait(ep, &e, 1, 0); break;
    case PENDING_ACCEPT: accept(shared, NULL, NULL); break;
    case PENDING_CONNECT: connect(other, (struct sockaddr *)&a, n); break;
    default: close(shared);
    }
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    return NULL;
}
static void cancel_pending_server(int fd)
{
    pthread_t t;
    void *end;
    char b[10] = "";
    shared = fd;
    OK(pipe(barrier_pipe));
    TURN;
    for (int how = 0; how < PENDING_CALLS; how++) {
        OK(pthread_create(&t, NULL, cancelled_early, (void *)(intptr_t)how));
        OK(pthread_cancel(t));
        OK(write(barrier_pipe[1], "x", 1));
        OK(pthread_join(t, &end));
        say("%d cancelled %d", how, end == PTHREAD_CANCELED);
    }
    SHOW(recv(fd, b, 10, MSG_DONTWAIT)); say("%s", b);
    close(fd);
}
static void cancel_pending_client(int fd) { barrier(); OK(send(fd, "data", 4, 0)); barrier(); close(fd); }

/* A stream that is read line by line, pushed back, positioned in vain, ended and cleared. */
static void lines_server(int fd)
{
    char *line = NULL;
    size_t room = 0;
    FILE *f = fdopen(fd, "r");
    TURN;
    SHOW(getline(&line, &room, f)); say("%.3s", line);
    int c = fgetc(f);
    SHOW(ungetc(c, f) == c);
    SHOW(getdelim(&line, &room, ';', f)); say("%s", line);
    SHOW(fseek(f, 0, SEEK_SET));
    SHOW(ftell(f));
    SHOW(getline(&line, &room, f)); say("%s", line);
    SHOW(getline(&line, &room, f));
    SHOW(feof(f)); SHOW(ferror(f));
    clearerr(f);
    SHOW(feof(f));
    SHOW(fgetc(f));
    SHOW(fclose(f));
    SHOW(fcntl(fd, F_GETFD));
    SHOW(fdopen(fd, "r") == NULL);
    free(line);
}
static void lines_client(int fd) { barrier(); OK(send(fd, "one\ntwo;three", 13, 0)); close(fd); barrier(); }

static const struct scene scenes[] = {
    SCENE(mmsg_waits),
    SCENE(mmsg_many),
    SCENE(options),
    SCENE(low_water),
    SCENE(not_for_sockets),
    SCENE(position),
    SCENE(proc_link),
    SCENE(sendfile_errors),
    SCENE(select_high),
    SCENE(no_numbers), // modes: process
    SCENE(swap_numbers),
    SCENE(cancel_read),
    SCENE(cancel_recv),
    SCENE(cancel_poll),
    SCENE(cancel_epoll),
    SCENE(cancel_write),
    SCENE(cancel_pending),
    SCENE(lines), // accelerated: any
};
PLAY(scenes)
