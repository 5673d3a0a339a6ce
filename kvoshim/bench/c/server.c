/* The stream benchmark's server.
 *
 *   server --path PATH [--cpu N] [--api block|poll|epoll|spin] [--over unix|tcp|pipe] [--connections]
 *
 * Serves one connection, phase by phase as its client asks, and exits. With --connections it answers one
 * 8-byte request on each of any number of connections. */
#include "other.h"
#include "stream_io.h"
#include "wire.h"

#include <getopt.h>

/* What "takes what is there" means here: a little more than a kernel socket ever holds. */
enum { TAKE_ROOM = 256 * 1024 };

static void echo(struct stream *s, char *buffer, const struct phase *phase) {
    for (uint64_t i = 0; i < phase->count; i++) {
        must_receive(s, buffer, phase->size);
        send_all(s, buffer, phase->size);
    }
}

static void take_messages(struct stream *s, char *buffer, const struct phase *phase) {
    for (uint64_t i = 0; i < phase->count; i++) {
        uint64_t number;
        must_receive(s, buffer, phase->size);
        memcpy(&number, buffer, sizeof number);
        if (number != i) die("message %llu carries number %llu", BIG(i), BIG(number));
    }
}

static void take_bytes(struct stream *s, char *buffer, const struct phase *phase) {
    for (uint64_t left = phase->count * phase->size; left;) {
        size_t got = receive_some(s, buffer, left < TAKE_ROOM ? left : TAKE_ROOM);
        if (!got) die("the stream ended %llu bytes early", BIG(left));
        left -= got;
    }
}

static void serve_phases(struct stream *s) {
    struct phase phase;
    char *buffer = NULL;
    while (receive(s, &phase, sizeof phase) && phase.what != PHASE_END) {
        size_t room = phase.size > TAKE_ROOM ? phase.size : TAKE_ROOM;
        if (!(buffer = realloc(buffer, room))) die("no memory for messages of %llu bytes", BIG(phase.size));
        struct usage start = usage_now();
        if (phase.what == PHASE_ECHO) echo(s, buffer, &phase);
        else if (phase.take == TAKE_EXACT) take_messages(s, buffer, &phase);
        else take_bytes(s, buffer, &phase);
        struct usage used = usage_since(start);
        struct account account = {phase.count, phase.count * phase.size, used.cpu_ns, used.switches};
        send_all(s, &account, sizeof account);
    }
    free(buffer);
}

static void serve_connections(int listener, enum api api) {
    struct usage start = usage_now();
    uint64_t served = 0;
    for (;;) {
        uint64_t request;
        struct stream s = stream_open(accept_on(listener), api);
        must_receive(&s, &request, sizeof request);
        if (request == REQUEST_END) {
            struct usage used = usage_since(start);
            struct account account = {served, served * sizeof request, used.cpu_ns, used.switches};
            send_all(&s, &account, sizeof account);
            stream_close(&s);
            return;
        }
        send_all(&s, &request, sizeof request);
        if (request == REQUEST_RESET) {
            start = usage_now();
            served = 0;
        } else {
            served++;
        }
        if (receive(&s, &request, sizeof request)) die("a second request on one connection");
        stream_close(&s);
    }
}

int main(int argc, char **argv) {
    static const struct option options[] = {{"path", 1, 0, 'p'}, {"cpu", 1, 0, 'c'}, {"api", 1, 0, 'a'},
                                            {"connections", 0, 0, 'n'}, {"over", 1, 0, 'o'}, {0}};
    enum over over = OVER_UNIX;
    const char *path = NULL;
    int cpu = -1, connections = 0;
    enum api api = API_BLOCK;
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (option == 'p') path = optarg;
        else if (option == 'c') cpu = (int)number("--cpu", optarg);
        else if (option == 'a') api = api_by_name(optarg);
        else if (option == 'n') connections = 1;
        else if (option == 'o') over = over_by_name(optarg);
        else return 2;
    }
    if (!path) die("--path is missing");
    die_with_parent();
    pin(cpu);

    if (connections) {
        int listener = listen_on(path);
        serve_connections(listener, api);
        close(listener);
    } else {
        struct stream s = serve_over(over, path, api);
        serve_phases(&s);
        stream_close(&s);
    }
    return 0;
}
