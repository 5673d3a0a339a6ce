/* The stream benchmark's client: prints one line of JSON.
 *
 *   client --path PATH --mode rtt|oneway|paced|think|connect|idle [--size BYTES] [--seconds S] [--warm N]
 *          [--cpu N] [--api block|poll|epoll|spin] [--take exact|any] [--think-us T] [--over unix|tcp|pipe]
 *
 * rtt      request and answer of --size bytes, as fast as they go
 * oneway   a stream of messages; the server takes whole ones or what is there; ends with its account.
 *          Times are per message, over 200 slices of the stream as the sender sees it
 * paced    a request every millisecond: both sides sleep in between
 * think    the client sleeps for --think-us between an answer and its next request
 * connect  connect, 8-byte request, answer, close
 * idle     says "ready" after the warm-up, then waits on connection and standard input until that ends
 *
 * --seconds is what the measured stretch should last; how many operations that takes is found in the
 * warm-up, which is at least --warm round trips long. */
#include "other.h"
#include "stream_io.h"
#include "wire.h"

#include <getopt.h>

enum { SLICES = 200, PACE_NS = 1000000, MOST_TRIPS = 2000000 };

static const char *path;
static size_t size = 8;
static double seconds = 0.3;
static uint64_t warm = 5000;
static uint64_t think_ns = 0;
static enum api api = API_BLOCK;
static uint32_t take = TAKE_EXACT;

static void announce(struct stream *s, uint32_t what, uint64_t count) {
    struct phase phase = {what, take, count, size};
    send_all(s, &phase, sizeof phase);
}

static struct usage account_of(struct stream *s, uint64_t count) {
    struct account account;
    must_receive(s, &account, sizeof account);
    if (account.count != count || account.bytes != count * size)
        die("the server counts %llu messages, not %llu", BIG(account.count), BIG(count));
    return (struct usage){account.cpu_ns, account.switches};
}

/* Round trips back to back; how long they took goes to *took. Negotiation happens in the first few. */
static void warm_up(struct stream *s, char *buffer, uint64_t count, uint64_t *took) {
    announce(s, PHASE_ECHO, count);
    uint64_t start = 0;
    for (uint64_t i = 0; i < count; i++) {
        if (i == count / 2) start = now_ns();
        trip(s, buffer, size, i);
    }
    *took = 2 * (now_ns() - start);
    account_of(s, count);
}

static void sleep_until(uint64_t due) {
    struct timespec at = {(time_t)(due / 1000000000u), (long)(due % 1000000000u)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR) {}
}

enum pace { AT_ONCE, PACED, THINKING };

static uint64_t trips_in_time(enum pace pace, uint64_t took) {
    if (pace == PACED) return (uint64_t)(seconds * 1e9 / PACE_NS);
    if (pace == THINKING && think_ns) return (uint64_t)(seconds * 1e9 / (double)(think_ns + took / warm));
    return fill(seconds, warm, took, 200, MOST_TRIPS);
}

static void run_trips(struct stream *s, char *buffer, const char *what, enum pace pace) {
    uint64_t took;
    warm_up(s, buffer, warm, &took);
    uint64_t count = trips_in_time(pace, took);
    if (count < 20) count = 20;
    struct measure m = new_measure(count, size);
    announce(s, PHASE_ECHO, count);
    struct usage start = usage_now();
    uint64_t begin = now_ns(), before = begin;
    for (uint64_t i = 0; i < count; i++) {
        if (pace == PACED || think_ns) {
            sleep_until(pace == PACED ? begin + (i + 1) * PACE_NS : before + think_ns);
            before = now_ns();
        }
        trip(s, buffer, size, i);
        uint64_t after = now_ns();
        m.samples[i] = (double)(after - before);
        before = after;
    }
    m.wall_ns = now_ns() - begin;
    m.near = usage_since(start);
    m.far = account_of(s, count);
    print_measure(what, size, &m);
}

/* Sends `count` numbered messages; the time ends when the server has them all. */
static void stream_messages(struct stream *s, char *buffer, uint64_t count, struct measure *m) {
    uint64_t slice = count / SLICES ? count / SLICES : 1;
    m->count = count;
    m->bytes = count * size;
    m->sample_count = 0;
    announce(s, PHASE_SINK, count);
    struct usage start = usage_now();
    uint64_t begin = now_ns(), before = begin, sliced = 0;
    for (uint64_t i = 0; i < count; i++) {
        memcpy(buffer, &i, sizeof i);
        send_all(s, buffer, size);
        if (++sliced == slice && m->sample_count < SLICES) {
            uint64_t after = now_ns();
            m->samples[m->sample_count++] = (double)(after - before) / (double)slice;
            before = after;
            sliced = 0;
        }
    }
    m->far = account_of(s, count);
    m->wall_ns = now_ns() - begin;
    m->near = usage_since(start);
}

static void run_oneway(struct stream *s, char *buffer) {
    uint64_t took, count = 1000;
    struct measure m = {.samples = new_samples(SLICES)};
    warm_up(s, buffer, warm, &took);
    /* A short stream fits into the buffers and reads too fast: double it until it lasts. */
    do {
        stream_messages(s, buffer, count *= 2, &m);
    } while ((double)m.wall_ns < seconds * 1e8);
    stream_messages(s, buffer, fill(seconds, count, m.wall_ns, 1000, UINT64_MAX / 2), &m);
    print_measure("oneway", size, &m);
}

static void request(uint64_t number, void *answer, size_t answer_size) {
    struct stream s = stream_open(connect_to(path), api);
    send_all(&s, &number, sizeof number);
    must_receive(&s, answer, answer_size);
    stream_close(&s);
}

static void run_connect(void) {
    uint64_t answer, count = warm / 10 ? warm / 10 : 1;
    uint64_t begin = now_ns();
    for (uint64_t i = 0; i < count; i++) request(i, &answer, sizeof answer);
    count = fill(seconds, count, now_ns() - begin, 50, MOST_TRIPS);
    request(REQUEST_RESET, &answer, sizeof answer);

    size = sizeof answer;
    struct measure m = new_measure(count, size);
    struct usage start = usage_now();
    begin = now_ns();
    for (uint64_t i = 0; i < count; i++) {
        uint64_t before = now_ns();
        request(i, &answer, sizeof answer);
        m.samples[i] = (double)(now_ns() - before);
        if (answer != i) die("answer %llu to request %llu", BIG(answer), BIG(i));
    }
    m.wall_ns = now_ns() - begin;
    m.near = usage_since(start);
    struct account account;
    request(REQUEST_END, &account, sizeof account);
    if (account.count != count)
        die("the server answered %llu requests, not %llu", BIG(account.count), BIG(count));
    m.far = (struct usage){account.cpu_ns, account.switches};
    print_measure("connect", size, &m);
}

/* Idle is judged from outside, by the kernel's own books: a process that reads its clock is not idle. */
static void run_idle(struct stream *s, char *buffer) {
    uint64_t took;
    warm_up(s, buffer, warm, &took);
    puts("ready");
    fflush(stdout);
    struct pollfd wanted[2] = {{.fd = s->fd, .events = POLLIN}, {.fd = STDIN_FILENO, .events = POLLIN}};
    while (poll(wanted, 2, -1) < 0)
        if (errno != EINTR) die("poll: %s", strerror(errno));
    if (wanted[0].revents) die("an idle connection became ready (events 0x%x)", (unsigned)wanted[0].revents);
}

int main(int argc, char **argv) {
    static const struct option options[] = {
        {"path", 1, 0, 'p'}, {"mode", 1, 0, 'm'}, {"size", 1, 0, 's'}, {"seconds", 1, 0, 't'},
        {"warm", 1, 0, 'w'}, {"cpu", 1, 0, 'c'},  {"api", 1, 0, 'a'},  {"take", 1, 0, 'k'},
        {"over", 1, 0, 'o'}, {"think-us", 1, 0, 'i'}, {0}};
    const char *mode = "rtt";
    enum over over = OVER_UNIX;
    int cpu = -1;
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (option == 'p') path = optarg;
        else if (option == 'm') mode = optarg;
        else if (option == 's') size = (size_t)number("--size", optarg);
        else if (option == 't') seconds = number("--seconds", optarg);
        else if (option == 'w') warm = (uint64_t)number("--warm", optarg);
        else if (option == 'c') cpu = (int)number("--cpu", optarg);
        else if (option == 'a') api = api_by_name(optarg);
        else if (option == 'k') take = strcmp(optarg, "any") ? TAKE_EXACT : TAKE_ANY;
        else if (option == 'o') over = over_by_name(optarg);
        else if (option == 'i') think_ns = (uint64_t)(1000 * number("--think-us", optarg));
        else return 2;
    }
    if (!path) die("--path is missing");
    if (size < sizeof(uint64_t)) die("--size must be at least 8");
    if (warm < 2) die("--warm must be at least 2");
    die_with_parent();
    pin(cpu);
    if (!strcmp(mode, "connect")) {
        run_connect();
        return 0;
    }
    char *buffer = calloc(1, size);
    if (!buffer) die("no memory for messages of %zu bytes", size);
    struct stream s = connect_over(over, path, api);
    /* Otherwise the kernel may add 50 us to each sleep, to spare wake-ups. */
    if (think_ns) prctl(PR_SET_TIMERSLACK, 1UL);
    if (!strcmp(mode, "rtt")) run_trips(&s, buffer, mode, AT_ONCE);
    else if (!strcmp(mode, "paced")) run_trips(&s, buffer, mode, PACED);
    else if (!strcmp(mode, "think")) run_trips(&s, buffer, mode, THINKING);
    else if (!strcmp(mode, "oneway")) run_oneway(&s, buffer);
    else if (!strcmp(mode, "idle")) run_idle(&s, buffer);
    else die("unknown --mode '%s'; use rtt, oneway, paced, think, connect or idle", mode);
    announce(&s, PHASE_END, 0);
    stream_close(&s);
    free(buffer);
    return 0;
}
