/* What the benchmark's C programs share: clock, affinity, statistics, one line of JSON.
 *
 * The programs are ordinary users of sockets: they know nothing of kvoshim, so that the same binary is
 * measured on the kernel's sockets and under the preload library. */
#pragma once

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define BIG(number) ((unsigned long long)(number)) /* for %llu */

#if defined(__x86_64__)
#define cpu_pause() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define cpu_pause() __asm__ volatile("isb" ::: "memory")
#else
#define cpu_pause() __asm__ volatile("" ::: "memory")
#endif

__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "%s: ", program_invocation_short_name);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

static inline uint64_t now_ns(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (uint64_t)at.tv_sec * 1000000000u + (uint64_t)at.tv_nsec;
}

/* cpu < 0 leaves the process where the scheduler puts it. */
static inline void pin(int cpu) {
    if (cpu < 0) return;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (sched_setaffinity(0, sizeof set, &set)) die("cannot run on CPU %d: %s", cpu, strerror(errno));
}

/* A driver must not outlive the process that started it, whatever happened to that one. */
static inline void die_with_parent(void) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
}

/* CPU time and voluntary context switches of this process since it began. */
struct usage {
    uint64_t cpu_ns, switches;
};

static inline struct usage usage_now(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    struct usage result = {0, (uint64_t)used.ru_nvcsw};
    result.cpu_ns = ((uint64_t)used.ru_utime.tv_sec + (uint64_t)used.ru_stime.tv_sec) * 1000000000u +
                    ((uint64_t)used.ru_utime.tv_usec + (uint64_t)used.ru_stime.tv_usec) * 1000u;
    return result;
}

static inline struct usage usage_since(struct usage start) {
    struct usage end = usage_now();
    end.cpu_ns -= start.cpu_ns;
    end.switches -= start.switches;
    return end;
}

/* One measured stretch. samples: nanoseconds for one operation (a round trip, a message), any order. */
struct measure {
    uint64_t count, bytes, wall_ns;
    double *samples;
    size_t sample_count;
    struct usage near, far; /* this process; the process at the other end */
};

static int compare_doubles(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

/* The sample below which so many per cent of them lie; they are sorted. */
static inline double quantile(const struct measure *m, double percent) {
    return m->samples[(size_t)((double)(m->sample_count - 1) * percent / 100)];
}

static const double QUANTILES[] = {0, 1, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 99, 99.9, 99.99, 100};

/* Prints the one line that a driver owes its caller. Sorts the samples. */
static inline void print_measure(const char *what, size_t size, struct measure *m) {
    qsort(m->samples, m->sample_count, sizeof *m->samples, compare_doubles);
    double seconds = (double)m->wall_ns / 1e9;
    printf("{\"what\": \"%s\", \"size\": %zu, \"count\": %llu, \"seconds\": %.9f, "
           "\"median_ns\": %.3f, \"p99_ns\": %.3f, \"p999_ns\": %.3f, \"min_ns\": %.3f, \"mean_ns\": %.3f, "
           "\"messages_per_s\": %.3f, \"bytes_per_s\": %.3f, "
           "\"cpu_client_s\": %.6f, \"cpu_server_s\": %.6f, "
           "\"switches_client\": %llu, \"switches_server\": %llu, \"quantiles_ns\": [",
           what, size, BIG(m->count), seconds, quantile(m, 50), quantile(m, 99), quantile(m, 99.9), m->samples[0],
           (double)m->wall_ns / (double)m->count, (double)m->count / seconds, (double)m->bytes / seconds,
           (double)m->near.cpu_ns / 1e9, (double)m->far.cpu_ns / 1e9, BIG(m->near.switches), BIG(m->far.switches));
    for (size_t i = 0; i < sizeof QUANTILES / sizeof *QUANTILES; i++)
        printf("%s%.3f", i ? ", " : "", quantile(m, QUANTILES[i]));
    puts("]}");
    fflush(stdout);
}

static inline double *new_samples(size_t count) {
    double *samples = malloc(count * sizeof *samples);
    if (!samples) die("no memory for %zu samples", count);
    /* Touch the pages now: a fault in the middle of a round trip would be counted as the transport's. */
    memset(samples, 0xff, count * sizeof *samples);
    return samples;
}

/* Room for one sample of each of `count` operations on `size` bytes. */
static inline struct measure new_measure(uint64_t count, size_t size) {
    double *samples = new_samples(count);
    return (struct measure){.count = count, .bytes = count * size, .samples = samples, .sample_count = count};
}

/* How many operations fill `seconds`, given that `done` took `took_ns`. */
static inline uint64_t fill(double seconds, uint64_t done, uint64_t took_ns, uint64_t least, uint64_t most) {
    double wanted = seconds * 1e9 * (double)done / (double)(took_ns ? took_ns : 1);
    if (wanted < (double)least) return least;
    return wanted > (double)most ? most : (uint64_t)wanted;
}

/* A number from the command line, or the end of the program. */
static inline double number(const char *option, const char *text) {
    char *end;
    double value = text ? strtod(text, &end) : 0;
    if (!text || end == text || *end) die("%s needs a number, not '%s'", option, text ? text : "");
    return value;
}
