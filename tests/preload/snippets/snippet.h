/* Common ground of the snippets: small programs that are run once on kernel sockets and once under the preload
 * library, and that must print the same both times.
 *
 * A snippet has two ends, server(fd) and client(fd), connected over the socket that SNIPPET_PATH names. SNIPPET_MODE
 * says whether the client is a process of its own (process) or a thread (thread). Before the interesting part, both
 * exchange SNIPPET_WARM small messages, so that the connection has switched to the rings; with 0 it has not yet.
 * Whatever an end observes it prints with say() or SHOW(); both logs come out at the end, one after the other, so the
 * output does not depend on who was faster. Nothing that differs from run to run belongs in there: no pids, no times,
 * no counts that depend on buffer sizes.
 */
#ifndef SNIPPET_H
#define SNIPPET_H
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

typedef void end_fn(int fd);

static int sn_log[2];                      /* memfds: what server (0) and client (1) said; survive a killed client */
static int sn_pipe[2][2];                  /* [r]: end r writes there when it reaches a barrier */
static _Thread_local int sn_role;          /* 0 server, 1 client */
static struct { pid_t pid, tid; int signals; } *sn_end; /* of each end, where both see it */
enum { SN_WATCHDOG = 23 };                 /* seconds that a snippet may take */

__attribute__((unused, format(printf, 1, 2))) static void say(const char *fmt, ...)
{
    char line[4096];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(line, sizeof line - 1, fmt, ap);
    va_end(ap);
    if (n > (int)sizeof line - 2)
        n = sizeof line - 2;
    line[n++] = '\n';
    if (write(sn_log[sn_role], line, n) != n)
        abort();
}

static void sn_give_up(void);
static const char *err_name(int e) { return e ? strerrorname_np(e) : "-"; }

/* Print the expression, its result, and the name of errno when it is negative. */
#define SHOW(expr) ({ errno = 0; long r_ = (long)(expr); int e_ = errno; \
    if (r_ < 0) say("%s -> %ld %s", #expr, r_, err_name(e_)); else say("%s -> %ld", #expr, r_); errno = e_; r_; })
/* The expression must not be negative: anything else ends this process at once. */
#define OK(expr) ({ errno = 0; long r_ = (long)(expr); if (r_ < 0) { \
    say("FAILED line %d: %s: %s", __LINE__, #expr, err_name(errno)); sn_give_up(); } r_; })
#define CHECK(cond) do { if (!(cond)) say("FAILED line %d: %s", __LINE__, #cond); } while (0)

__attribute__((unused)) static const char *mask_name(int m)
{
    static const struct { int bit; const char *name; } bits[] = {
        {POLLIN, "IN"}, {POLLPRI, "PRI"}, {POLLOUT, "OUT"}, {POLLERR, "ERR"}, {POLLHUP, "HUP"},
        {POLLNVAL, "NVAL"}, {POLLRDNORM, "RDNORM"}, {POLLWRNORM, "WRNORM"}, {POLLRDHUP, "RDHUP"}};
    static _Thread_local char text[128];
    text[0] = 0;
    for (size_t i = 0; i < sizeof bits / sizeof *bits; i++)
        if (m & bits[i].bit) {
            if (text[0]) strcat(text, "|");
            strcat(text, bits[i].name);
        }
    return text[0] ? text : "0";
}

/* Poll one descriptor for `events`, at most `ms` milliseconds, and say what came. */
__attribute__((unused)) static int show_poll(const char *what, int fd, int events, int ms)
{
    struct pollfd p = {fd, events, 0};
    int r = poll(&p, 1, ms);
    say("%s: poll -> %d %s", what, r, mask_name(p.revents));
    return p.revents;
}
#define ALL_EVENTS (POLLIN | POLLOUT | POLLRDHUP | POLLPRI)

/* Both ends wait here for each other; a peer that has ended does not hold the other up. */
__attribute__((unused)) static void barrier(void)
{
    char c = 'b';
    if (write(sn_pipe[sn_role][1], &c, 1) != 1)
        abort();
    while (read(sn_pipe[!sn_role][0], &c, 1) < 0 && errno == EINTR)
        ;
}

__attribute__((unused)) static void pause_ms(int ms)
{
    struct timespec t = {ms / 1000, ms % 1000 * 1000000L};
    while (nanosleep(&t, &t) && errno == EINTR)
        ;
}

static __attribute__((unused)) double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

/* A byte stream in which each byte is known by its position: a lost, doubled or swapped byte shows. */
static inline unsigned char pattern(uint64_t at)
{
    uint64_t x = (at / 8 + 1) * 0x9E3779B97F4A7C15ull;
    return (unsigned char)(x >> (at % 8 * 8)) ^ (unsigned char)(x >> 29);
}
__attribute__((unused)) static void fill(void *buf, size_t n, uint64_t at)
{
    for (size_t i = 0; i < n; i++) ((unsigned char *)buf)[i] = pattern(at + i);
}
__attribute__((unused)) static int good(const void *buf, size_t n, uint64_t at)
{
    for (size_t i = 0; i < n; i++)
        if (((const unsigned char *)buf)[i] != pattern(at + i)) return 0;
    return 1;
}

static void send_all(int fd, const void *buf, size_t n)
{
    for (size_t done = 0; done < n;)
        done += OK(send(fd, (const char *)buf + done, n - done, MSG_NOSIGNAL));
}
static size_t recv_all(int fd, void *buf, size_t n)
{
    size_t done = 0;
    while (done < n) {
        long r = OK(recv(fd, (char *)buf + done, n - done, 0));
        if (!r) break;
        done += r;
    }
    return done;
}

static const char *sn_path(void) { const char *p = getenv("SNIPPET_PATH"); return p ? p : "/tmp/snippet.sock"; }
static int sn_warm(void) { const char *w = getenv("SNIPPET_WARM"); return w ? atoi(w) : 50; }

/* The address of a path; a leading @ makes it an abstract name. */
static socklen_t sn_address(struct sockaddr_un *a, const char *path)
{
    memset(a, 0, sizeof *a);
    a->sun_family = AF_UNIX;
    size_t n = strlen(path);
    memcpy(a->sun_path, path, n > sizeof a->sun_path ? sizeof a->sun_path : n);
    if (path[0] == '@') {
        a->sun_path[0] = 0;
        return offsetof(struct sockaddr_un, sun_path) + n;
    }
    return n >= sizeof a->sun_path ? sizeof *a : offsetof(struct sockaddr_un, sun_path) + n + 1;
}
__attribute__((unused)) static int sn_listen(const char *path, int backlog)
{
    struct sockaddr_un a;
    socklen_t n = sn_address(&a, path);
    int fd = OK(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    OK(bind(fd, (struct sockaddr *)&a, n));
    OK(listen(fd, backlog));
    return fd;
}
__attribute__((unused)) static int sn_connect(const char *path)
{
    struct sockaddr_un a;
    socklen_t n = sn_address(&a, path);
    int fd = OK(socket(AF_UNIX, SOCK_STREAM, 0));
    OK(connect(fd, (struct sockaddr *)&a, n));
    return fd;
}

/* Small messages to and fro. The client speaks first, unless SNIPPET_FIRST=server. */
__attribute__((unused)) static void warm_up(int fd, int is_server)
{
    const char *first = getenv("SNIPPET_FIRST");
    int speaks_first = is_server == (first && !strcmp(first, "server"));
    char out[8], in[8];
    for (int i = 0; i < sn_warm(); i++) {
        fill(out, 8, i);
        if (speaks_first) send_all(fd, out, 8);
        if (recv_all(fd, in, 8) != 8 || memcmp(in, out, 8)) { say("FAILED: warm-up message %d", i); sn_give_up(); }
        if (!speaks_first) send_all(fd, out, 8);
    }
}

static int sn_mode_thread(void)
{
    const char *m = getenv("SNIPPET_MODE");
    return m && !strcmp(m, "thread");
}

static void sn_print_logs(void);
static void sn_on_term(int unused)
{
    (void)unused;
    sn_print_logs();                           /* the test gave up waiting: show how far it came */
    _exit(97);
}

/* This thread is the end that sn_role says. */
static void sn_begin_end(void)
{
    sn_end[sn_role].pid = getpid();
    sn_end[sn_role].tid = gettid();
}

/* A snippet that hangs shows how far it came and ends, whoever started it. Not alarm(): that is for the snippets. */
static void sn_watch(void)
{
    struct itimerspec limit = {.it_value.tv_sec = SN_WATCHDOG};
    struct sigevent term = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGTERM};
    timer_t timer;
    if (timer_create(CLOCK_MONOTONIC, &term, &timer) || timer_settime(timer, 0, &limit, NULL)) abort();
}

static void sn_open_logs(void)
{
    signal(SIGTERM, sn_on_term);
    sn_watch();
    sn_end = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (sn_end == MAP_FAILED) abort();
    sn_begin_end();
    for (int i = 0; i < 2; i++) {
        sn_log[i] = memfd_create("snippet-log", MFD_CLOEXEC);
        if (sn_log[i] < 0 || pipe2(sn_pipe[i], O_CLOEXEC)) abort();
    }
}
static void sn_print_logs(void)
{
    for (int i = 0; i < 2; i++) {
        off_t end = lseek(sn_log[i], 0, SEEK_END);
        char *text = malloc(end + 1);
        if (pread(sn_log[i], text, end, 0) != end) abort();
        text[end] = 0;
        for (char *save, *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
            printf("%s> %s\n", i ? "client" : "server", line);
        free(text);
    }
    fflush(stdout);
}

/* End this process (and, with threads, both ends); whoever holds the logs prints them. */
static void sn_give_up(void)
{
    if (sn_role == 0 || sn_mode_thread())
        sn_print_logs();
    _exit(99);
}

static end_fn *sn_client_fn;
static void sn_client_end(void)
{
    sn_role = 1;
    sn_begin_end();
    int fd = sn_connect(sn_path());
    warm_up(fd, 0);
    sn_client_fn(fd);
    close(sn_pipe[1][1]);                      /* who waits for the other end waits no more */
}
__attribute__((unused)) static void *sn_client_thread(void *unused)
{
    (void)unused;
    sn_client_end();
    return NULL;
}

/* Connect both ends, warm up, let them run, and print what they said. The ends close their descriptors themselves. */
__attribute__((unused)) static int sn_run(end_fn *server, end_fn *client)
{
    pid_t pid = 0;
    pthread_t thread;
    sn_open_logs();
    sn_client_fn = client;
    int listener = sn_listen(sn_path(), 16);
    if (sn_mode_thread()) {
        if (pthread_create(&thread, NULL, sn_client_thread, NULL)) abort();
    } else if (!(pid = fork())) {
        close(listener);
        close(sn_pipe[0][1]);
        sn_watch();
        sn_client_end();
        exit(0);
    } else {
        close(sn_pipe[1][1]);
    }
    int fd = OK(accept(listener, NULL, NULL));
    warm_up(fd, 1);
    server(fd);
    close(sn_pipe[0][1]);
    if (pid) {
        int status = 0;
        if (waitpid(pid, &status, 0) != pid) abort();
        if (WIFSIGNALED(status)) say("client ended by signal %d", WTERMSIG(status));
        else say("client exit %d", WEXITSTATUS(status));
    } else {
        pthread_join(thread, NULL);
    }
    close(listener);
    sn_print_logs();
    return 0;
}

/* The state letter of a thread (0: it is gone), and how often it has slept. */
static char sn_state(pid_t pid, pid_t tid, long *slept)
{
    char path[64], text[2048], *at;
    snprintf(path, sizeof path, "/proc/%d/task/%d/status", pid, tid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    long n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0) return 0;
    text[n] = 0;
    *slept = (at = strstr(text, "\nvoluntary_ctxt_switches:")) ? atol(at + 26) : 0;
    return (at = strstr(text, "State:")) ? at[7] : 0;
}
/* Wait until that thread sleeps, and go on only when it stays asleep; whatever it does before, it does. */
__attribute__((unused)) static void await_sleep(pid_t pid, pid_t tid)
{
    long before = -1, slept = 0;
    for (int calm = 0; calm < 5; before = slept) {
        char state = sn_state(pid, tid, &slept);
        if (!state) return;
        calm = state == 'S' && slept == before ? calm + 1 : 0;
        pause_ms(2);
    }
}
__attribute__((unused)) static void await_peer_sleep(void) { await_sleep(sn_end[!sn_role].pid, sn_end[!sn_role].tid); }

__attribute__((unused)) static void sn_count_signal(int number)
{
    (void)number;
    __atomic_fetch_add(&sn_end[sn_role].signals, 1, __ATOMIC_RELEASE);
}
/* Signals to this end are counted from now on; flags as for sigaction(). */
__attribute__((unused)) static void count_signals(int number, int flags)
{
    struct sigaction a = {.sa_handler = sn_count_signal, .sa_flags = flags};
    sn_end[sn_role].signals = 0;
    OK(sigaction(number, &a, NULL));
}
/* Signal the other end, which sleeps; its handler has run when this returns. */
__attribute__((unused)) static void poke_peer(int number)
{
    int before = __atomic_load_n(&sn_end[!sn_role].signals, __ATOMIC_ACQUIRE);
    OK(syscall(SYS_tgkill, sn_end[!sn_role].pid, sn_end[!sn_role].tid, number));
    while (__atomic_load_n(&sn_end[!sn_role].signals, __ATOMIC_ACQUIRE) == before) pause_ms(1);
}

/* Several scenes in one program, one of which is named on the command line. SCENE(x) has two ends, x_server() and
 * x_client(); ALONE(x) is x(), which makes its own connections. */
struct scene { const char *name; end_fn *server, *client; void (*alone)(void); };
#define SCENE(name) {#name, name##_server, name##_client, NULL}
#define ALONE(name) {#name, NULL, NULL, name}
__attribute__((unused)) static int sn_play(const struct scene *scenes, size_t count, int argc, char **argv)
{
    for (size_t i = 0; i < count; i++)
        if (argc > 1 && !strcmp(scenes[i].name, argv[1])) {
            if (!scenes[i].alone) return sn_run(scenes[i].server, scenes[i].client);
            sn_open_logs();
            scenes[i].alone();
            sn_print_logs();
            return 0;
        }
    printf("FAILED: no such scene\n");
    return 2;
}
#define PLAY(scenes) int main(int argc, char **argv) { return sn_play(scenes, sizeof scenes / sizeof *scenes, argc, argv); }
#endif
