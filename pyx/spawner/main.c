/* kvoshim-spawner: the parent of all services. It starts, holds and reaps processes as its controller orders, and keeps two daemons alive:
 * so the controller may crash, and finds everything again. As PID 1 it is the init of a container. docs/services-spawner.md.
 *
 *   kvoshim-spawner --socket PATH [--grace-ms N] [--term-ms N] [--ok CODE]... [--daemon PROGRAM ARGUMENT...]... */
#include "spawner.h"

enum { DAEMONS_MAX = 8, QUICK_MS = 1000, FIRST_DELAY_MS = 50, KILL_MS = 2000 };

struct daemon { char **args; pid_t pid; int64_t started, due; int delay; }; /* pid 0: it is to start when it is due */
static struct daemon daemons[DAEMONS_MAX];
static int daemon_count, grace_ms = 30000, term_ms = 5000, finish_status = -1;
static uint8_t is_ok[256];

extern char __executable_start, etext; /* the linker's: pages that only the start needs are let go */
struct spawner spawner = {.control = -1, .listener = -1};

int64_t clock_ns(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return t.tv_sec * 1000000000ll + t.tv_nsec;
}

void watch(int fd, int operation, uint32_t events, int what, uint32_t which) {
  struct epoll_event e = {events, {.u64 = (uint64_t)what << 32 | which}};
  epoll_ctl(spawner.epoll, operation, fd, &e);
}

uint32_t time_left(void) { return spawner.deadline > now_ms() ? spawner.deadline - now_ms() : 0; }

static void begin(struct daemon *d) {
  d->started = now_ms();
  d->pid = fork();
  if (d->pid == 0) {
    setsid();
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    setrlimit(RLIMIT_NOFILE, &spawner.files);
    dup2(spawner.null, 0);
    sigprocmask(SIG_SETMASK, &spawner.no_signals, NULL);
    execv(d->args[0], d->args);
    say("cannot run %s: %m\n", d->args[0]);
    _exit(127);
  }
  if (d->pid < 0) d->pid = 0, d->due = now_ms() + QUICK_MS;
  else spawner.alone = 0;
}

/* Whether it was one; it starts again: at once if it has lived, else after a growing delay, for ever. */
int is_daemon(pid_t pid, int status) {
  for (struct daemon *d = daemons; d < daemons + daemon_count; d++) {
    if (d->pid != pid) continue;
    d->delay = now_ms() - d->started >= QUICK_MS ? 0 : d->delay ? d->delay * 2 : FIRST_DELAY_MS;
    if (d->delay > QUICK_MS) d->delay = QUICK_MS;
    d->pid = 0, d->due = now_ms() + d->delay;
    if (spawner.phase < TERMINATED) say("%s ended: code %d, signal %d\n", d->args[0], WEXITSTATUS(status), WTERMSIG(status));
    return 1;
  }
  return 0;
}

/* The end, step by step: the controller stops the services in order; what is left is asked, then killed. */
static void enter(enum phase phase) {
  spawner.phase = phase;
  spawner.deadline = now_ms() + (phase == ASKED ? grace_ms : phase == TERMINATED ? term_ms : KILL_MS);
  if (phase == ASKED) return tell_stop();
  signal_everyone(phase == TERMINATED ? SIGTERM : SIGKILL);
  if (phase == TERMINATED) signal_everyone(SIGCONT);
}

void finish(int status) {
  finish_status = status & 0xffff;
  if (spawner.phase < TERMINATED) enter(TERMINATED);
}

static void take_signals(int fd) {
  struct signalfd_siginfo s;
  while (read(fd, &s, sizeof s) == sizeof s) {
    if (s.ssi_signo == SIGCHLD) spawner.more_to_reap = 1;
    else if (s.ssi_signo != SIGTERM && s.ssi_signo != SIGINT) spawner.signals |= 1ull << (s.ssi_signo - 1);
    else if (spawner.phase < TERMINATED) {
      if (spawner.phase == RUNNING) spawner.ended_by = s.ssi_signo;
      enter(spawner.phase == ASKED || (!daemon_count && spawner.control < 0) ? TERMINATED : ASKED); /* a second one is impatient */
    }
  }
}

/* What is due; returns how long nothing is, in ms, -1: for ever. */
static int turn(void) {
  int64_t now = now_ms(), next = INT64_MAX;
  if (spawner.phase >= ASKED && spawner.deadline <= now && spawner.phase < KILLED) enter(spawner.phase + 1);
  if (spawner.phase >= ASKED) next = spawner.deadline;
  for (struct daemon *d = daemons; d < daemons + daemon_count && spawner.phase < TERMINATED; d++) {
    if (!d->pid && d->due <= now) begin(d);
    if (!d->pid && d->due < next) next = d->due;
  }
  return spawner.more_to_reap ? 0 : next == INT64_MAX ? -1 : next > now ? next - now + 1 : 0;
}

static int run(int signals) {
  struct epoll_event events[32];
  while (spawner.phase < TERMINATED || !(spawner.alone || (spawner.phase == KILLED && spawner.deadline <= now_ms()))) {
    int n = epoll_wait(spawner.epoll, events, 32, turn());
    for (int i = 0; i < n; i++) {
      uint64_t what = events[i].data.u64 >> 32;
      if (what == ON_SIGNAL) take_signals(signals);
      else if (what == ON_LISTENER) greet();
      else if (what == ON_PIPE) started(&children[(uint32_t)events[i].data.u64]);
    }
    if (spawner.more_to_reap && reap() && spawner.phase == KILLED) signal_everyone(SIGKILL); /* what has become ours */
    talk();
  }
  int end = finish_status, code = end < 0 ? 128 + spawner.ended_by : WIFSIGNALED(end) ? 128 + WTERMSIG(end) : WEXITSTATUS(end);
  return is_ok[code & 255] ? 0 : code;
}

/* Signals come as events, except those that a fault of this program makes; all have their default action, as children inherit that. */
static int take_over_signals(void) {
  static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS};
  sigset_t all;
  sigfillset(&all);
  for (unsigned i = 0; i < sizeof faults / sizeof *faults; i++) sigdelset(&all, faults[i]);
  sigprocmask(SIG_SETMASK, &all, NULL);
  for (int signo = 1; signo < _NSIG; signo++) signal(signo, SIG_DFL);
  sigdelset(&all, SIGPIPE); /* blocked, and of no interest */
  return signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
}

#define USAGE "--socket PATH [--grace-ms N] [--term-ms N] [--ok CODE]... [--daemon PROGRAM ARGUMENT...]..."
static int usage(const char *what) { return say("%s is wrong or missing: " USAGE "\n", what), 2; }

int main(int argc, char **argv) {
  const char *path = NULL;
  int i = 1, error;
  for (; i + 1 < argc && strcmp(argv[i], "--daemon"); i += 2) {
    char *end;
    long number = strtol(argv[i + 1], &end, 10);
    int whole = *argv[i + 1] && !*end && number >= 0;
    if (!strcmp(argv[i], "--socket")) path = argv[i + 1];
    else if (!strcmp(argv[i], "--grace-ms") && whole && number <= 86400000) grace_ms = number;
    else if (!strcmp(argv[i], "--term-ms") && whole && number <= 86400000) term_ms = number;
    else if (!strcmp(argv[i], "--ok") && whole && number < 256) is_ok[number] = 1;
    else return usage(argv[i]);
  }
  while (i < argc) { /* the command lines, cut out of ours */
    if (daemon_count == DAEMONS_MAX || strcmp(argv[i], "--daemon") || i + 1 >= argc) return usage(argv[i]);
    argv[i++] = NULL;
    for (daemons[daemon_count++].args = argv + i; i < argc && strcmp(argv[i], "--daemon");) i++;
  }
  if (!path || !*path) return usage("--socket");
  while ((spawner.null = open("/dev/null", O_RDWR | O_CLOEXEC)) >= 0 && spawner.null < 3) fcntl(spawner.null, F_SETFD, 0);
  syscall(SYS_close_range, 3u, ~0u, 4u /* CLOSE_RANGE_CLOEXEC: nothing that we were started with is for the children */);
  spawner.pid = getpid();
  getrlimit(RLIMIT_NOFILE, &spawner.files);
  setrlimit(RLIMIT_NOFILE, &(struct rlimit){spawner.files.rlim_max, spawner.files.rlim_max});
  if (spawner.null < 0 || (spawner.epoll = epoll_create1(EPOLL_CLOEXEC)) < 0) return say("cannot begin: %m\n"), 1;
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  int signals = take_over_signals();
  if (signals < 0) return say("cannot take signals: %m\n"), 7;
  if ((error = listen_at(path))) return error;
  watch(signals, EPOLL_CTL_ADD, EPOLLIN, ON_SIGNAL, 0);
  watch(spawner.listener, EPOLL_CTL_ADD, EPOLLIN, ON_LISTENER, 0);
  spawner.more_to_reap = 1; /* whatever ended before we listened to signals */
  madvise(&__executable_start, (&etext - &__executable_start) & ~4095l, MADV_DONTNEED);
  error = run(signals);
  unlink(path);
  return error;
}
