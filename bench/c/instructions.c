/* Counts instructions, under callgrind: each call between two of its requests, in one dump a case.
 *
 *   instructions PATH OPERATIONS CONNECTIONS
 *
 * The peer is a process of its own, as elsewhere, but not under callgrind. It does what it is told, over a socket that
 * is never accelerated, and nothing while a call is counted: so every call finds what it needs, nothing sleeps, and the
 * same instructions run each time. */
#include "stream_io.h"

#include <sys/eventfd.h>
#include <sys/wait.h>
#include <valgrind/callgrind.h>

/* After SETTLED_US no wait asks the kernel first on account of connections that have just switched. */
enum { WARM_UP = 64, TRIPS = 8, LARGE = 4096, EVENTS = 64, QUIET_MS = 200, SETTLED_US = 50000 };
enum task { CONNECT, TAKE, GIVE };

struct order {
    enum task task;
    int which;
    uint32_t size;
};

static int control, listener;
static int *connections, opened; /* with the peer */
static int both[2];      /* both ends of one more */
static int sets[3];      /* by the case's connection: an epoll set that it is in */
static int others[2], event, foreign; /* none of ours */
static const char *path;
static char bytes[LARGE];

static void exactly(ssize_t done, size_t wanted, const char *what) {
    if (done != (ssize_t)wanted) die("%s: %zd of %zu bytes: %s", what, done, wanted, strerror(errno));
}

/* ---- the peer ---- */

static int obey(int orders, int most) {
    int *mine = calloc((size_t)most, sizeof *mine), count = 0;
    struct order order;
    char done = 1;
    if (!mine) die("no memory");
    while (read(orders, &order, sizeof order) == sizeof order) {
        if (order.task == CONNECT && count < most) mine[count++] = connect_to(path);
        else if (order.task == TAKE) exactly(recv(mine[order.which], bytes, order.size, 0), order.size, "peer: recv");
        else exactly(send(mine[order.which], bytes, order.size, 0), order.size, "peer: send");
        exactly(write(orders, &done, 1), 1, "peer: write");
    }
    return 0;
}

/* Returns when it is done. */
static void have(enum task task, int which, size_t size) {
    struct order order = {task, which, (uint32_t)size};
    char done;
    exactly(write(control, &order, sizeof order), sizeof order, "order");
    exactly(read(control, &done, 1), 1, "the peer's answer");
}

/* ---- what is counted, and what is done uncounted before and after each call ---- */

/* The connection of the case. ALONE, it is the only one until the cases with other connections begin. Those in an epoll set are
 * in no other, and the first is in none. */
enum { ALONE, IN_SET_OF_ONE, IN_SET_OF_ALL, BOTH_ENDS };
static int at;

static void nothing(void) {}

/* What every case is compared with: as many instructions as it takes to call something that does nothing. */
__attribute__((noinline, noipa)) static ssize_t do_nothing(int fd, void *buffer, size_t n, int flags) {
    (void)fd, (void)buffer, (void)flags;
    return (ssize_t)n;
}

static void empty_call(void) { exactly(do_nothing(connections[at], bytes, 8, 0), 8, "an empty call"); }

static void send_bytes(size_t n) { exactly(send(connections[at], bytes, n, 0), n, "send"); }
static void recv_bytes(size_t n) { exactly(recv(connections[at], bytes, n, 0), n, "recv"); }
static void send_8(void) { send_bytes(8); }
static void send_64(void) { send_bytes(64); }
static void recv_8(void) { recv_bytes(8); }
static void recv_64(void) { recv_bytes(64); }
static void recv_large(void) { exactly(recv(connections[at], bytes, LARGE, 0), 8, "recv"); }
static void write_8(void) { exactly(write(connections[at], bytes, 8), 8, "write"); }
static void read_8(void) { exactly(read(connections[at], bytes, 8), 8, "read"); }

/* Sends and receives come in turn, as in any conversation: streams of one direction take other ways now and then. */
static void ask(size_t n) {
    send_bytes(n);
    have(TAKE, at, n);
    have(GIVE, at, n);
}

static void ask_8(void) { ask(8); }
static void ask_64(void) { ask(64); }

static void hear(size_t n) {
    have(TAKE, at, n);
    have(GIVE, at, n);
    recv_bytes(n);
}

static void hear_8(void) { hear(8); }
static void hear_64(void) { hear(64); }

static void round_trip(void) {
    exactly(send(both[0], bytes, 8, 0), 8, "send");
    exactly(recv(both[1], bytes, 8, 0), 8, "recv");
    exactly(send(both[1], bytes, 8, 0), 8, "send");
    exactly(recv(both[0], bytes, 8, 0), 8, "recv");
}

static void poll_on(int fd) {
    struct pollfd wanted = {.fd = fd, .events = POLLIN};
    exactly(poll(&wanted, 1, -1), 1, "poll");
}

static void poll_ours(void) { poll_on(connections[at]); }
static void poll_foreign(void) { poll_on(event); }

static void wait_on_set(void) {
    struct epoll_event events[EVENTS];
    exactly(epoll_wait(sets[at], events, EVENTS, -1), 1, "epoll_wait");
}

static void open_foreign(void) { foreign = dup(event); }
static void close_foreign(void) { exactly(close(foreign), 0, "close"); }
static void read_foreign(void) { exactly(read(others[1], bytes, 8), 8, "read"); }
static void write_foreign(void) { exactly(write(others[0], bytes, 8), 8, "write"); }
static void recv_foreign(void) { exactly(recv(others[1], bytes, 8, 0), 8, "recv"); }
static void send_foreign(void) { exactly(send(others[0], bytes, 8, 0), 8, "send"); }

static const struct counted {
    const char *name;
    void (*before)(void), (*call)(void), (*after)(void);
    int at;
} cases[] = {
    {"empty call", nothing, empty_call, nothing, ALONE},
    {"send 8 B", nothing, send_8, hear_8, ALONE},
    {"recv 8 B", ask_8, recv_8, nothing, ALONE},
    {"recv 8 B into 4 KiB", ask_8, recv_large, nothing, ALONE},
    {"write 8 B", nothing, write_8, hear_8, ALONE},
    {"read 8 B", ask_8, read_8, nothing, ALONE},
    {"send 64 B", nothing, send_64, hear_64, ALONE},
    {"recv 64 B", ask_64, recv_64, nothing, ALONE},
    {"poll", ask_8, poll_ours, recv_8, ALONE},
    {"read, not ours", write_foreign, read_foreign, nothing, ALONE},
    {"write, not ours", nothing, write_foreign, read_foreign, ALONE},
    {"recv, not ours", write_foreign, recv_foreign, nothing, ALONE},
    {"send, not ours", nothing, send_foreign, read_foreign, ALONE},
    {"poll, not ours", nothing, poll_foreign, nothing, ALONE},
    {"close, not ours", open_foreign, close_foreign, nothing, ALONE},
    {"send 8 B, many connections", nothing, send_8, hear_8, IN_SET_OF_ALL},
    {"epoll_wait, 1 connection", ask_8, wait_on_set, recv_8, IN_SET_OF_ONE},
    {"epoll_wait, many connections", ask_8, wait_on_set, recv_8, IN_SET_OF_ALL},
    {"round trip 8 B, both ends", nothing, round_trip, nothing, BOTH_ENDS},
};

static void count(const struct counted *c, int operations) {
    at = c->at;
    for (int i = -WARM_UP; i < operations; i++) {
        c->before();
        if (i >= 0) CALLGRIND_TOGGLE_COLLECT;
        c->call();
        if (i >= 0) CALLGRIND_TOGGLE_COLLECT;
        c->after();
    }
    CALLGRIND_DUMP_STATS_AT(c->name);
}

/* ---- setting up ---- */

static int new_set(int first, int last) {
    struct epoll_event interest = {.events = EPOLLIN}, events[EVENTS];
    int set = epoll_create1(EPOLL_CLOEXEC);
    for (int i = first; i < last; i++)
        if (set < 0 || epoll_ctl(set, EPOLL_CTL_ADD, connections[i], &interest)) die("epoll: %s", strerror(errno));
    /* A wait that sleeps: from here on the idle ones are asked no more. */
    exactly(epoll_wait(set, events, EVENTS, QUIET_MS), 0, "epoll_wait on idle connections");
    return set;
}

/* Until both directions have switched, if they do. */
static void talk(void) {
    for (int i = 0; i < TRIPS; i++) {
        ask_8();
        recv_8();
    }
}

static void open_connections(int last) {
    for (; opened < last; opened++) {
        have(CONNECT, opened, 0);
        connections[opened] = accept_on(listener);
        at = opened;
        talk();
    }
}

static void open_many(int wanted) {
    open_connections(wanted);
    both[0] = connect_to(path);
    both[1] = accept_on(listener);
    for (int i = 0; i < TRIPS; i++) round_trip();
    sets[IN_SET_OF_ONE] = new_set(IN_SET_OF_ONE, IN_SET_OF_ONE + 1);
    sets[IN_SET_OF_ALL] = new_set(IN_SET_OF_ALL, wanted);
    usleep(SETTLED_US);
}

static void open_foreign_ones(void) {
    event = eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC);
    if (event < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, others)) die("cannot open: %s", strerror(errno));
}

static void start_peer(const char *program, const char *most) {
    int pair[2];
    char orders[16];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair)) die("socketpair: %s", strerror(errno));
    snprintf(orders, sizeof orders, "%d", pair[1]);
    switch (fork()) {
    case -1: die("fork: %s", strerror(errno));
    case 0:
        close(pair[0]);
        execl(program, program, path, "0", most, orders, (char *)NULL);
        die("exec: %s", strerror(errno));
    }
    close(pair[1]);
    control = pair[0];
}

int main(int count_of_words, char **words) {
    if (count_of_words < 4) die("PATH OPERATIONS CONNECTIONS");
    int operations = (int)number("OPERATIONS", words[2]), wanted = (int)number("CONNECTIONS", words[3]);
    die_with_parent();
    path = words[1];
    if (count_of_words > 4) return obey((int)number("ORDERS", words[4]), wanted);
    listener = listen_on(path);
    start_peer(words[0], words[3]);
    connections = calloc((size_t)wanted, sizeof *connections);
    if (!connections) die("no memory");
    open_foreign_ones();
    open_connections(1);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (cases[i].at != ALONE && opened < wanted) open_many(wanted);
        count(&cases[i], operations);
    }
    close(control);
    return wait(NULL) < 0;
}
