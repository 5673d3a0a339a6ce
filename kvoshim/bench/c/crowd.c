/* Many connections on which, after a few requests, nothing happens: server and client in one program.
 *
 *   crowd server|client --path PATH --connections N [--cpu N]
 *
 * The client opens N connections, has TRIPS requests answered on each, says "ready", and waits on all of them and on
 * standard input until that ends. The server waits on all of them too; it exits when the N-th is closed. What they
 * use meanwhile is read from outside. */
#include "stream_io.h"

#include <getopt.h>

enum { TRIPS = 6, EVENTS = 64 };

static void watch(int epoll, int fd) {
    struct epoll_event interest = {.events = EPOLLIN, .data.fd = fd};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &interest)) die("epoll_ctl: %s", strerror(errno));
}

static int wait_for(int epoll, struct epoll_event *events) {
    int count;
    while ((count = epoll_wait(epoll, events, EVENTS, -1)) < 0)
        if (errno != EINTR) die("epoll_wait: %s", strerror(errno));
    return count;
}

/* Answers what is there. Returns 0 at the end of the connection. */
static int answer(int fd) {
    uint64_t request;
    ssize_t got = recv(fd, &request, sizeof request, MSG_DONTWAIT);
    if (!got) return 0;
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return 1;
    if (got != sizeof request) die("recv: %s", got < 0 ? strerror(errno) : "a part of a request");
    if (send(fd, &request, sizeof request, MSG_NOSIGNAL) != sizeof request) die("send: %s", strerror(errno));
    return 1;
}

static void serve(int epoll, const char *path, uint64_t wanted) {
    struct epoll_event events[EVENTS];
    int listener = listen_on(path);
    watch(epoll, listener);
    for (uint64_t closed = 0; closed < wanted;) {
        int count = wait_for(epoll, events);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                watch(epoll, accept_on(listener));
            } else if (!answer(fd)) {
                close(fd);
                closed++;
            }
        }
    }
}

static void hold(int epoll, const char *path, uint64_t wanted) {
    struct epoll_event event[EVENTS];
    struct stream *all = calloc(wanted, sizeof *all);
    if (!all) die("no memory for %llu connections", BIG(wanted));
    for (uint64_t i = 0; i < wanted; i++) {
        char buffer[sizeof(uint64_t)];
        all[i] = stream_open(connect_to(path), API_BLOCK);
        for (uint64_t k = 0; k < TRIPS; k++) trip(&all[i], buffer, sizeof buffer, TRIPS * i + k);
    }
    for (uint64_t i = 0; i < wanted; i++) watch(epoll, all[i].fd);
    watch(epoll, STDIN_FILENO);
    puts("ready");
    fflush(stdout);
    wait_for(epoll, event);
    if (event[0].data.fd != STDIN_FILENO) die("an idle connection became ready (events 0x%x)", event[0].events);
    for (uint64_t i = 0; i < wanted; i++) stream_close(&all[i]);
    free(all);
}

int main(int argc, char **argv) {
    static const struct option options[] = {{"path", 1, 0, 'p'}, {"connections", 1, 0, 'n'}, {"cpu", 1, 0, 'c'}, {0}};
    const char *path = NULL;
    uint64_t connections = 0;
    int cpu = -1;
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (option == 'p') path = optarg;
        else if (option == 'n') connections = (uint64_t)number("--connections", optarg);
        else if (option == 'c') cpu = (int)number("--cpu", optarg);
        else return 2;
    }
    if (!path) die("--path is missing");
    if (!connections) die("--connections must be at least 1");
    const char *role = optind < argc ? argv[optind] : "";
    die_with_parent();
    pin(cpu);
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0) die("epoll_create1: %s", strerror(errno));
    if (!strcmp(role, "server")) serve(epoll, path, connections);
    else if (!strcmp(role, "client")) hold(epoll, path, connections);
    else die("say which end: server or client");
    close(epoll);
    return 0;
}
