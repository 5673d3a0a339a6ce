/* What one call costs on a descriptor that no shim accelerates: prints one line of JSON.
 *
 *   calls NAME --path PATH [--seconds S] [--cpu N]
 *
 * A sample is the time of a call in a short batch: the least of many is free of interruptions. Meanwhile the process
 * holds both ends of a stream connection on PATH, one in an epoll set, so that a shim which selects PATH has something
 * to look after. */
#include "stream_io.h"

#include <getopt.h>
#include <sys/eventfd.h>
#include <sys/select.h>

enum { BATCH = 64, TRIPS = 20, MOST = 1000000 };

/* high: under a large number, where select() has to look through many that are not in its set. */
enum { HIGH = 500 };
static int null, event, high, pair[2], epoll;
static char bytes[8 * BATCH];

/* A batch returns how many of its calls went wrong. */
#define WRONG(call, wanted) \
    int wrong = 0;          \
    for (int i = 0; i < BATCH; i++) wrong += (call) != (wanted); \
    return wrong

static int do_read(void) { WRONG(read(null, bytes, 8), 0); }

static int do_write(void) { WRONG(write(null, bytes, 8), 8); }

static int do_send(void) { WRONG(send(pair[0], bytes, 8, MSG_DONTWAIT), 8); }

static int do_recv(void) { WRONG(recv(pair[1], bytes, 8, MSG_DONTWAIT), 8); }

static int do_recvmsg(void) {
    struct iovec part = {bytes, 8};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    WRONG(recvmsg(pair[1], &message, MSG_DONTWAIT), 8);
}

static int do_poll(void) {
    struct pollfd wanted = {.fd = event, .events = POLLIN};
    WRONG(poll(&wanted, 1, 0), 1);
}

static int select_batch(int fd) {
    struct timeval none = {0, 0};
    fd_set wanted;
    FD_ZERO(&wanted);
    FD_SET(fd, &wanted); /* it is ready, so that it stays in the set */
    WRONG(select(fd + 1, &wanted, NULL, NULL, &none), 1);
}

static int do_select(void) { return select_batch(event); }

static int do_select_high(void) { return select_batch(high); }

static int do_epoll_wait(void) {
    struct epoll_event got;
    WRONG(epoll_wait(epoll, &got, 1, 0), 1);
}

static int do_fcntl(void) { WRONG(fcntl(event, F_GETFL), O_RDWR | O_NONBLOCK); }

static int do_getsockopt(void) {
    int type;
    socklen_t size = sizeof type;
    WRONG(getsockopt(pair[0], SOL_SOCKET, SO_TYPE, &type, &size), 0);
}

/* Two calls, as many as a batch has. */
static int do_dup_close(void) {
    int wrong = 0;
    for (int i = 0; i < BATCH / 2; i++) wrong += close(dup(event)) != 0;
    return wrong;
}

static void empty(void) {
    static char drain[sizeof bytes];
    while (read(pair[1], drain, sizeof drain) > 0) {}
}

static void fill_pair(void) {
    if (write(pair[0], bytes, sizeof bytes) != sizeof bytes) die("write: %s", strerror(errno));
}

static const struct call {
    const char *name;
    int (*batch)(void);
    void (*before)(void); /* each batch; not timed */
} calls[] = {
    {"read", do_read, NULL},
    {"write", do_write, NULL},
    {"send", do_send, empty},
    {"recv", do_recv, fill_pair},
    {"recvmsg", do_recvmsg, fill_pair},
    {"poll", do_poll, NULL},
    {"select", do_select, NULL},
    {"select-500", do_select_high, NULL},
    {"epoll_wait", do_epoll_wait, NULL},
    {"fcntl", do_fcntl, NULL},
    {"dup-close", do_dup_close, NULL},
    {"getsockopt", do_getsockopt, NULL},
};

static const struct call *call_by_name(const char *name) {
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        if (!strcmp(calls[i].name, name)) return &calls[i];
    die("unknown call '%s'", name);
}

static void open_descriptors(void) {
    null = open("/dev/null", O_RDWR | O_CLOEXEC);
    event = eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC);
    high = fcntl(event, F_DUPFD_CLOEXEC, HIGH);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event interest = {.events = EPOLLIN};
    if (null < 0 || event < 0 || high < 0 || epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, event, &interest) ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair))
        die("cannot open the descriptors: %s", strerror(errno));
}

/* Both ends in this one thread: what is received has been sent before. */
static void talk(struct stream *client, struct stream *server) {
    for (uint64_t i = 0, request; i < TRIPS; i++) {
        send_all(client, &i, sizeof i);
        must_receive(server, &request, sizeof request);
        send_all(server, &request, sizeof request);
        must_receive(client, &request, sizeof request);
        if (request != i) die("answer %llu to request %llu", BIG(request), BIG(i));
    }
}

static struct measure measure(const struct call *call, double seconds) {
    struct measure m = {.samples = new_samples(MOST)};
    struct usage start = usage_now();
    uint64_t end = now_ns() + (uint64_t)(seconds * 1e9);
    while (m.sample_count < MOST && (m.sample_count < 10 || now_ns() < end)) {
        if (call->before) call->before();
        uint64_t before = now_ns();
        int wrong = call->batch();
        uint64_t took = now_ns() - before;
        if (wrong) die("%s: %d of %d calls went wrong", call->name, wrong, BATCH);
        m.samples[m.sample_count++] = (double)took / BATCH;
        m.wall_ns += took;
    }
    m.count = m.sample_count * BATCH;
    m.near = usage_since(start);
    return m;
}

int main(int argc, char **argv) {
    static const struct option options[] = {{"path", 1, 0, 'p'}, {"seconds", 1, 0, 't'}, {"cpu", 1, 0, 'c'}, {0}};
    const char *path = NULL;
    double seconds = 0.1;
    int cpu = -1;
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (option == 'p') path = optarg;
        else if (option == 't') seconds = number("--seconds", optarg);
        else if (option == 'c') cpu = (int)number("--cpu", optarg);
        else return 2;
    }
    if (!path) die("--path is missing");
    const struct call *call = call_by_name(optind < argc ? argv[optind] : "");
    die_with_parent();
    pin(cpu);
    open_descriptors();
    int listener = listen_on(path);
    struct stream client = stream_open(connect_to(path), API_BLOCK);
    struct stream server = stream_open(accept_on(listener), API_EPOLL);
    talk(&client, &server);
    struct measure m = measure(call, seconds);
    talk(&client, &server);
    print_measure(call->name, 0, &m);
    free(m.samples);
    return 0;
}
