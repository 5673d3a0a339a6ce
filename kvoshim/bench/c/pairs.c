/* Several pairs of processes that talk at the same time: who gets how much of the CPUs?
 *
 *   pairs --path PATH --pairs N [--size BYTES] [--seconds S]
 *
 * N servers wait on one listening socket, N clients have one connection each and send requests back to back for the same
 * S seconds. A sample is the mean time of a round trip of one pair. */
#include "stream_io.h"

#include <getopt.h>
#include <sys/mman.h>
#include <sys/wait.h>

enum { WARM = 200, MOST = 1000 };

struct pair {
    uint64_t count, cpu_client_ns, cpu_server_ns, switches_client, switches_server;
};

static size_t size = 64;
static double seconds = 0.3;

static void serve(int listener, struct pair *pair) {
    struct stream s = stream_open(accept_on(listener), API_BLOCK);
    char *buffer = malloc(size);
    uint64_t served = 0;
    struct usage start = usage_now();
    while (receive(&s, buffer, size)) {
        if (++served == WARM) start = usage_now();
        send_all(&s, buffer, size);
    }
    struct usage used = usage_since(start);
    pair->cpu_server_ns = used.cpu_ns;
    pair->switches_server = used.switches;
    _exit(0);
}

/* Says that it is ready on one pipe, and begins when the other is closed. */
static void ask(const char *path, int ready, int go, struct pair *pair) {
    char *buffer = calloc(1, size), byte = 0;
    struct stream s = stream_open(connect_to(path), API_BLOCK);
    for (uint64_t i = 0; i < WARM; i++) trip(&s, buffer, size, i);
    if (write(ready, &byte, 1) != 1 || read(go, &byte, 1)) die("the start went wrong");
    struct usage start = usage_now();
    uint64_t end = now_ns() + (uint64_t)(seconds * 1e9), count = 0;
    do trip(&s, buffer, size, ++count);
    while (now_ns() < end);
    struct usage used = usage_since(start);
    pair->count = count;
    pair->cpu_client_ns = used.cpu_ns;
    pair->switches_client = used.switches;
    stream_close(&s);
    _exit(0);
}

/* start: the pipe's end whose closing is the start; the parent alone may hold it. */
static pid_t child(int start) {
    pid_t pid = fork();
    if (pid < 0) die("fork: %s", strerror(errno));
    if (!pid) {
        die_with_parent();
        close(start);
    }
    return pid;
}

static void add(struct measure *m, const struct pair *pair) {
    m->count += pair->count;
    m->near.cpu_ns += pair->cpu_client_ns;
    m->near.switches += pair->switches_client;
    m->far.cpu_ns += pair->cpu_server_ns;
    m->far.switches += pair->switches_server;
    m->samples[m->sample_count++] = (double)m->wall_ns / (double)pair->count;
}

int main(int argc, char **argv) {
    static const struct option options[] = {{"path", 1, 0, 'p'}, {"pairs", 1, 0, 'n'}, {"size", 1, 0, 's'},
                                            {"seconds", 1, 0, 't'}, {0}};
    const char *path = NULL;
    uint64_t count = 0;
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (option == 'p') path = optarg;
        else if (option == 'n') count = (uint64_t)number("--pairs", optarg);
        else if (option == 's') size = (size_t)number("--size", optarg);
        else if (option == 't') seconds = number("--seconds", optarg);
        else return 2;
    }
    if (!path) die("--path is missing");
    if (!count || count > MOST) die("--pairs must be from 1 to %d", MOST);
    if (size < sizeof(uint64_t)) die("--size must be at least 8");
    die_with_parent();
    struct pair *pairs = mmap(NULL, count * sizeof *pairs, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int ready[2], go[2], listener = listen_on(path);
    if (pairs == MAP_FAILED || pipe(ready) || pipe(go)) die("no memory or no pipe: %s", strerror(errno));
    for (uint64_t i = 0; i < count; i++) {
        if (!child(go[1])) serve(listener, &pairs[i]);
        if (!child(go[1])) ask(path, ready[1], go[0], &pairs[i]);
    }
    char byte;
    for (uint64_t i = 0; i < count; i++)
        if (read(ready[0], &byte, 1) != 1) die("a pair failed");
    struct measure m = {.samples = new_samples(count)};
    uint64_t begin = now_ns();
    close(go[1]);
    for (uint64_t i = 0; i < 2 * count; i++) {
        int status;
        if (wait(&status) < 0 || status) die("a process failed (status %d)", status);
    }
    m.wall_ns = now_ns() - begin;
    for (uint64_t i = 0; i < count; i++) add(&m, &pairs[i]);
    m.bytes = m.count * size;
    print_measure("pairs", size, &m);
    return 0;
}
