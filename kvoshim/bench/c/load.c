/* Requests on many connections at once.
 *
 *   load server --path PATH --connections N [--threads] [--cpu C]
 *   load client --path PATH --connections N [--active K] [--seconds S] [--cpu C]
 *   load client --path PATH --connections N --request TEXT --answer BYTES …   (another program's server)
 *
 * The client holds N connections in one epoll set and keeps a request in flight on K of them (default: on all): a sample
 * is one request's time. The server waits on all with epoll as well, or has a thread for each, and exits when the client
 * is done. Requests are MESSAGE bytes, or with --request that text (\r and \n are understood), to which the answer has
 * always so many bytes. */
#include "stream_io.h"
#include "wire.h"

#include <getopt.h>
#include <pthread.h>

enum { MESSAGE = 64, TRIPS = 6, EVENTS = 64, MOST = 2000000, LONGEST = 1 << 20 };

static const char *path;
static uint64_t connections, active;
static double seconds = 0.3;
static struct usage usage_start;

static void watch(int epoll, int fd, uint64_t number) {
    struct epoll_event interest = {.events = EPOLLIN, .data.u64 = number};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &interest)) die("epoll_ctl: %s", strerror(errno));
}

static int wait_for(int epoll, struct epoll_event *events) {
    int count;
    while ((count = epoll_wait(epoll, events, EVENTS, -1)) < 0)
        if (errno != EINTR) die("epoll_wait: %s", strerror(errno));
    return count;
}

/* Answers one request that has begun to arrive, or that is waited for. Returns 0 at the end of the connection. */
static int answer(struct stream *s) {
    char message[MESSAGE];
    uint64_t number;
    if (!receive(s, message, sizeof message)) return 0;
    memcpy(&number, message, sizeof number);
    if (number == REQUEST_RESET) {
        usage_start = usage_now();
    } else if (number == REQUEST_END) {
        struct usage used = usage_since(usage_start);
        struct account account = {0, 0, used.cpu_ns, used.switches};
        memcpy(message, &account, sizeof account);
    }
    send_all(s, message, sizeof message);
    return 1;
}

static void *serve_one(void *connection) {
    struct stream s = stream_open((int)(intptr_t)connection, API_BLOCK);
    while (answer(&s)) {}
    stream_close(&s);
    return NULL;
}

static void serve_by_threads(int listener) {
    pthread_t *threads = calloc(connections, sizeof *threads);
    pthread_attr_t small;
    if (!threads || pthread_attr_init(&small) || pthread_attr_setstacksize(&small, 256 * 1024)) die("no memory for threads");
    for (uint64_t i = 0; i < connections; i++)
        if (pthread_create(&threads[i], &small, serve_one, (void *)(intptr_t)accept_on(listener)))
            die("cannot start thread %llu", BIG(i));
    for (uint64_t i = 0; i < connections; i++) pthread_join(threads[i], NULL);
    free(threads);
}

static void serve_by_epoll(int listener) {
    struct epoll_event events[EVENTS];
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    watch(epoll, listener, (uint64_t)listener);
    for (uint64_t closed = 0; closed < connections;) {
        int count = wait_for(epoll, events);
        for (int i = 0; i < count; i++) {
            struct stream s = {events[i].data.fd, events[i].data.fd, -1, API_BLOCK, 0};
            if (s.fd == listener) {
                int fd = accept_on(listener);
                watch(epoll, fd, (uint64_t)fd);
            } else if (!answer(&s)) {
                close(s.fd);
                closed++;
            }
        }
    }
    close(epoll);
}

struct client {
    struct stream *all;
    uint64_t *begun; /* when each connection's request was sent */
    const char *request;
    size_t request_size, answer_size;
    char *buffer;
};

/* Sends what is asked on connection i; our own server gets a number, which must come back. */
static void ask(struct client *c, uint64_t i, uint64_t number) {
    char message[MESSAGE] = {0};
    memcpy(message, &number, sizeof number);
    c->begun[i] = now_ns();
    send_all(&c->all[i], c->request ? c->request : message, c->request_size);
}

static uint64_t take_answer(struct client *c, uint64_t i) {
    uint64_t number;
    must_receive(&c->all[i], c->buffer, c->answer_size);
    memcpy(&number, c->buffer, sizeof number);
    return number;
}

static void trip_on(struct client *c, uint64_t i, uint64_t number) {
    ask(c, i, number);
    if (take_answer(c, i) != number && !c->request) die("wrong answer to request %llu", BIG(number));
}

/* Keeps a request in flight on each of the active connections until the time is over. */
static void drive(struct client *c, int epoll, struct measure *m) {
    struct epoll_event events[EVENTS];
    struct usage start = usage_now();
    uint64_t begin = now_ns(), end = begin + (uint64_t)(seconds * 1e9), flying = 0;
    for (uint64_t k = 0; k < active; k++, flying++) ask(c, k * connections / active, k * connections / active);
    while (flying) {
        int count = wait_for(epoll, events);
        for (int e = 0; e < count; e++) {
            uint64_t i = events[e].data.u64;
            if (take_answer(c, i) != i && !c->request) die("another connection's answer on connection %llu", BIG(i));
            uint64_t now = now_ns();
            m->samples[m->sample_count++] = (double)(now - c->begun[i]);
            if (now < end && m->sample_count + connections < MOST) ask(c, i, i);
            else flying--;
        }
    }
    m->wall_ns = now_ns() - begin;
    m->near = usage_since(start);
    m->count = m->sample_count;
    m->bytes = m->count * c->request_size;
}

static void run_client(struct client *c) {
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    c->all = calloc(connections, sizeof *c->all);
    c->begun = calloc(connections, sizeof *c->begun);
    c->buffer = malloc(c->answer_size);
    if (!c->all || !c->begun || !c->buffer) die("no memory for %llu connections", BIG(connections));
    for (uint64_t i = 0; i < connections; i++) {
        c->all[i] = stream_open(connect_to(path), API_BLOCK);
        for (uint64_t k = 0; k < TRIPS; k++) trip_on(c, i, k);
    }
    for (uint64_t i = 0; i < connections; i++) watch(epoll, c->all[i].fd, i);
    double whole = seconds;
    struct measure m = {.samples = new_samples(MOST)};
    seconds = whole / 5; /* warm-up */
    drive(c, epoll, &m);
    m.sample_count = 0;
    seconds = whole;
    if (!c->request) trip_on(c, 0, REQUEST_RESET);
    drive(c, epoll, &m);
    if (!c->request) {
        struct account account;
        ask(c, 0, REQUEST_END);
        take_answer(c, 0);
        memcpy(&account, c->buffer, sizeof account);
        m.far = (struct usage){account.cpu_ns, account.switches};
    }
    print_measure("load", c->request_size, &m);
    for (uint64_t i = 0; i < connections; i++) stream_close(&c->all[i]);
    close(epoll);
}

/* \r and \n in a text become what they mean. */
static void unescape(char *text) {
    char *to = text;
    for (; *text; text++, to++) {
        *to = *text;
        if (text[0] == '\\' && (text[1] == 'r' || text[1] == 'n')) *to = *++text == 'r' ? '\r' : '\n';
    }
    *to = 0;
}

int main(int argc, char **argv) {
    static const struct option options[] = {
        {"path", 1, 0, 'p'},    {"connections", 1, 0, 'n'}, {"active", 1, 0, 'k'}, {"seconds", 1, 0, 't'},
        {"request", 1, 0, 'r'}, {"answer", 1, 0, 'a'},      {"threads", 0, 0, 'h'}, {"cpu", 1, 0, 'c'}, {0}};
    struct client c = {.request_size = MESSAGE, .answer_size = MESSAGE};
    int cpu = -1, threads = 0;
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (option == 'p') path = optarg;
        else if (option == 'n') connections = (uint64_t)number("--connections", optarg);
        else if (option == 'k') active = (uint64_t)number("--active", optarg);
        else if (option == 't') seconds = number("--seconds", optarg);
        else if (option == 'a') c.answer_size = (size_t)number("--answer", optarg);
        else if (option == 'h') threads = 1;
        else if (option == 'c') cpu = (int)number("--cpu", optarg);
        else if (option == 'r') {
            unescape(optarg);
            c.request = optarg;
            c.request_size = strlen(optarg);
        } else return 2;
    }
    const char *role = optind < argc ? argv[optind] : "";
    if (!path) die("--path is missing");
    if (!connections || connections > MOST / 2) die("--connections must be from 1 to %d", MOST / 2);
    if (active > connections) die("--active must be at most --connections");
    if (c.answer_size < sizeof(uint64_t) || c.answer_size > LONGEST) die("--answer must be from 8 to %d", LONGEST);
    if (!active) active = connections;
    die_with_parent();
    pin(cpu);
    if (!strcmp(role, "client")) {
        run_client(&c);
        return 0;
    }
    if (strcmp(role, "server")) die("say which end: server or client");
    int listener = listen_on(path);
    if (threads) serve_by_threads(listener);
    else serve_by_epoll(listener);
    return 0;
}
