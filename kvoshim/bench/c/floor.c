/* The limits that transports are held against: two processes, shared memory, no kernel on the way.
 *
 *   floor line|rtt|oneway|copy [--cpus A,B] [--size BYTES] [--seconds S] [--yield-after N]
 *         [--capacity BYTES]
 *
 * line    L: one cache line to and fro; timed in batches, since a clock reading would be a third of it
 * rtt     R: a round trip through two single-producer single-consumer byte rings, one clock reading a trip,
 *         as in the stream client
 * oneway  messages through one such ring
 * copy    memcpy() of a message into the memory of such a ring, by the one process: what each side does at least
 *
 * --yield-after N gives up the CPU after N looks in vain; 0 at once (both on one CPU), -1 never (a CPU each). */
#include "common.h"

#include <getopt.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>

/* LINE: two cache lines, since some processors fetch lines in pairs. */
enum { LINE = 128, BATCH = 256, PUBLISH = 16 * 1024, SLICES = 200, MOST = 2000000 };

struct line {
    _Alignas(LINE) _Atomic uint64_t turn;
};

struct ring {
    _Alignas(LINE) _Atomic uint64_t tail; /* bytes written, ever */
    _Alignas(LINE) _Atomic uint64_t head; /* bytes read, ever */
};

struct shared {
    struct line there, control; /* control: how many trips or messages the next stretch has; 0 ends */
    struct line done;           /* counts the stretches that the child has finished */
    struct ring ring[2];
    _Atomic uint64_t child_cpu_ns, child_switches;
    _Alignas(4096) unsigned char bytes[]; /* two rings of `capacity` */
};

/* One side's view of a ring: its own index, and the other's as last seen. */
struct end {
    struct ring *ring;
    unsigned char *bytes;
    uint64_t own, seen;
};

static struct shared *shared;
static size_t size = 8, capacity = 256 * 1024;
static long yield_after = -1;
static double seconds = 0.1;

static inline void relax(long *looks) {
    if (yield_after >= 0 && ++*looks > yield_after) sched_yield();
    else cpu_pause();
}

static inline uint64_t await_change(_Atomic uint64_t *word, uint64_t old) {
    long looks = 0;
    uint64_t value;
    while ((value = atomic_load_explicit(word, memory_order_acquire)) == old) relax(&looks);
    return value;
}

static inline struct end end_of(int which) {
    return (struct end){&shared->ring[which], shared->bytes + (size_t)which * capacity, 0, 0};
}

static inline void ring_copy(struct end *e, unsigned char *other, size_t part, int in) {
    size_t at = e->own & (capacity - 1), first = capacity - at < part ? capacity - at : part;
    memcpy(in ? e->bytes + at : other, in ? other : e->bytes + at, first);
    memcpy(in ? e->bytes : other + first, in ? other + first : e->bytes, part - first);
}

/* Large messages are published in pieces, so that the reader copies while the writer goes on. */
static inline void ring_write(struct end *e, unsigned char *from, size_t left) {
    while (left) {
        size_t part = left < PUBLISH ? left : PUBLISH;
        long looks = 0;
        while (capacity - (e->own - e->seen) < part) {
            e->seen = atomic_load_explicit(&e->ring->head, memory_order_acquire);
            if (capacity - (e->own - e->seen) < part) relax(&looks);
        }
        ring_copy(e, from, part, 1);
        e->own += part;
        atomic_store_explicit(&e->ring->tail, e->own, memory_order_release);
        from += part;
        left -= part;
    }
}

static inline void ring_read(struct end *e, unsigned char *into, size_t left) {
    while (left) {
        long looks = 0;
        while (e->seen == e->own) {
            e->seen = atomic_load_explicit(&e->ring->tail, memory_order_acquire);
            if (e->seen == e->own) relax(&looks);
        }
        size_t part = e->seen - e->own < left ? e->seen - e->own : left;
        ring_copy(e, into, part, 0);
        e->own += part;
        atomic_store_explicit(&e->ring->head, e->own, memory_order_release);
        into += part;
        left -= part;
    }
}

/* The child runs the stretches that the parent announces. */
static void child(char mode, int cpu) {
    die_with_parent();
    pin(cpu);
    unsigned char *buffer = calloc(1, size);
    struct end in = end_of(0), out = end_of(1);
    uint64_t turn = 0, stretch = 0, told;
    while ((told = await_change(&shared->control.turn, stretch)) != UINT64_MAX) {
        uint64_t count = told - stretch; /* the control word grows by the count: each stretch changes it */
        struct usage start = usage_now();
        for (uint64_t i = 0; i < count; i++) {
            if (mode == 'l') {
                turn = await_change(&shared->there.turn, turn) + 1;
                atomic_store_explicit(&shared->there.turn, turn, memory_order_release);
            } else {
                ring_read(&in, buffer, size);
                if (mode == 'r') ring_write(&out, buffer, size);
            }
        }
        struct usage used = usage_since(start);
        atomic_store(&shared->child_cpu_ns, used.cpu_ns);
        atomic_store(&shared->child_switches, used.switches);
        stretch = told;
        atomic_store_explicit(&shared->done.turn, stretch, memory_order_release);
    }
    _exit(0);
}

/* Copies `count` messages to places one after the other, so that they are as cold as in a ring. */
static void copies(const unsigned char *message, uint64_t count, struct measure *m) {
    size_t room = 2 * capacity, at = 0;
    if (size > room) die("--size is more than two rings of --capacity");
    m->count = count;
    m->bytes = count * size;
    m->sample_count = 0;
    struct usage start = usage_now();
    uint64_t begin = now_ns();
    for (uint64_t i = 0; i < count; i++) {
        memcpy(shared->bytes + at, message, size);
        __asm__ volatile("" ::: "memory"); /* the copy is made, though nobody reads it */
        at = at + 2 * size <= room ? at + size : 0;
    }
    m->wall_ns = now_ns() - begin;
    m->near = usage_since(start);
}

static void measure_copies(struct measure *m, const unsigned char *message) {
    uint64_t count = 16;
    do copies(message, count *= 2, m);
    while ((double)m->wall_ns < seconds * 1e8);
    copies(message, fill(seconds, count, m->wall_ns, 16, UINT64_MAX / 2), m);
    m->samples[m->sample_count++] = (double)m->wall_ns / (double)m->count;
}

struct parent {
    unsigned char *buffer;
    struct end out, in;
    uint64_t turn, stretch;
};

/* Runs `count` operations against the child, with a clock reading every `slice` of them. */
static void stretch(struct parent *p, char mode, uint64_t count, uint64_t slice, struct measure *m) {
    m->count = count;
    m->bytes = mode == 'l' ? count * sizeof(uint64_t) : count * size;
    m->sample_count = 0;
    uint64_t previous = p->stretch;
    p->stretch += count;
    atomic_store_explicit(&shared->control.turn, p->stretch, memory_order_release);
    struct usage start = usage_now();
    uint64_t begin = now_ns(), before = begin, sliced = 0;
    for (uint64_t i = 0; i < count; i++) {
        if (mode == 'l') {
            atomic_store_explicit(&shared->there.turn, p->turn + 1, memory_order_release);
            p->turn = await_change(&shared->there.turn, p->turn + 1);
        } else {
            ring_write(&p->out, p->buffer, size);
            if (mode == 'r') ring_read(&p->in, p->buffer, size);
        }
        if (++sliced == slice && m->sample_count < MOST) {
            uint64_t after = now_ns();
            m->samples[m->sample_count++] = (double)(after - before) / (double)slice;
            before = after;
            sliced = 0;
        }
    }
    await_change(&shared->done.turn, previous);
    m->wall_ns = now_ns() - begin;
    m->near = usage_since(start);
    m->far = (struct usage){atomic_load(&shared->child_cpu_ns), atomic_load(&shared->child_switches)};
}

int main(int argc, char **argv) {
    static const struct option options[] = {{"cpus", 1, 0, 'c'}, {"size", 1, 0, 's'}, {"seconds", 1, 0, 't'},
                                            {"yield-after", 1, 0, 'y'}, {"capacity", 1, 0, 'k'}, {0}};
    int cpus[2] = {-1, -1};
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (option == 'c') {
            if (sscanf(optarg, "%d,%d", &cpus[0], &cpus[1]) != 2) die("--cpus needs two numbers: A,B");
        } else if (option == 's') size = (size_t)number("--size", optarg);
        else if (option == 't') seconds = number("--seconds", optarg);
        else if (option == 'y') yield_after = (long)number("--yield-after", optarg);
        else if (option == 'k') capacity = (size_t)number("--capacity", optarg);
        else return 2;
    }
    const char *what = optind < argc ? argv[optind] : "";
    char mode = !strcmp(what, "line") ? 'l' : !strcmp(what, "rtt") ? 'r' : !strcmp(what, "oneway") ? 'o' :
                !strcmp(what, "copy") ? 'c' : 0;
    if (!mode) die("say which floor: line, rtt, oneway or copy");
    if (!size) die("--size must be at least 1");
    if (capacity < PUBLISH || capacity & (capacity - 1))
        die("--capacity must be a power of two of at least %d", PUBLISH);
    die_with_parent();
    size_t room = sizeof *shared + 2 * capacity;
    shared = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) die("mmap: %s", strerror(errno));
    memset(shared->bytes, 0, 2 * capacity);

    struct measure m = {.samples = new_samples(MOST)};
    if (mode == 'c') {
        pin(cpus[1]);
        unsigned char *message = calloc(1, size);
        measure_copies(&m, message);
        print_measure(what, size, &m);
        free(message);
        free(m.samples);
        munmap(shared, room);
        return 0;
    }
    pid_t pid = fork();
    if (pid < 0) die("fork: %s", strerror(errno));
    if (!pid) child(mode, cpus[0]);
    pin(cpus[1]);
    struct parent p = {.buffer = calloc(1, size), .out = end_of(0), .in = end_of(1)};
    uint64_t count = 1000;
    do {
        count *= 2;
        stretch(&p, mode, count, count, &m);
    } while ((double)m.wall_ns < seconds * 1e8);
    count = fill(seconds, count, m.wall_ns, 1000, mode == 'r' ? MOST : UINT64_MAX / 2);
    uint64_t slice = mode == 'l' ? BATCH : mode == 'r' ? 1 : count / SLICES ? count / SLICES : 1;
    stretch(&p, mode, count, slice, &m);
    if (!m.sample_count) m.samples[m.sample_count++] = (double)m.wall_ns / (double)count;
    atomic_store_explicit(&shared->control.turn, UINT64_MAX, memory_order_release);
    int status;
    if (waitpid(pid, &status, 0) != pid || status) die("the other process failed (status %d)", status);
    print_measure(what, mode == 'l' ? sizeof(uint64_t) : size, &m);
    free(m.samples);
    free(p.buffer);
    munmap(shared, room);
    return 0;
}
