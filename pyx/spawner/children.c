/* The children: started by an order, reaped, and remembered until the controller acknowledges their end. */
#include "spawner.h"

struct child children[KVS_CHILDREN_MAX];

struct report { int32_t error; uint32_t step; };

/* An order, taken apart: pointers into the message. */
struct plan {
  const struct kvs_spawn *order;
  const struct kvs_limit *limits;
  const uint32_t *groups;
  const int32_t *targets;
  const char *directory, *program;
  char *args[KVS_STRINGS_MAX + 1], *envs[KVS_STRINGS_MAX + 1];
};
static struct plan plan;

struct child *child_of(uint64_t token) {
  for (uint32_t i = 0; i < spawner.children_used; i++)
    if (children[i].record.flags && children[i].record.token == token) return &children[i];
  return NULL;
}

/* In clock ticks since boot; 0 if /proc does not say. With the PID it names a process for good. */
uint64_t start_time(pid_t pid) {
  char path[32], text[1024], *field;
  snprintf(path, sizeof path, "/proc/%d/stat", pid);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  ssize_t n = read(fd, text, sizeof text - 1);
  close(fd);
  text[n > 0 ? n : 0] = 0;
  field = strrchr(text, ')'); /* the command's name may contain anything */
  for (int i = 2; field && i < 22; i++) field = strchr(field + 1, ' ');
  return field ? strtoull(field, NULL, 10) : 0;
}

/* Cuts `count` strings off the text. */
static const char *take(const char *text, const char *end, char **strings, uint32_t count) {
  for (uint32_t i = 0; i < count; i++, text++) {
    strings[i] = (char *)text;
    if (!(text = memchr(text, 0, end - text))) return NULL;
  }
  strings[count] = NULL;
  return text;
}

/* Whether the order is what its sizes say; fills the plan. */
static int understand(const struct kvs_spawn *o, uint32_t size) {
  char *two[3];
  if (size < sizeof *o || o->limits > KVS_LIMITS_MAX || !o->args || o->args > KVS_STRINGS_MAX || o->envs > KVS_STRINGS_MAX ||
      o->cgroup > o->h.fds || (o->flags & ~(uint32_t)(KVS_SESSION | KVS_GROUP | KVS_IDS | KVS_DIE_TOO)))
    return 0;
  if (sizeof *o + o->limits * sizeof(struct kvs_limit) + o->groups * 4ull + o->h.fds * 4ull + o->text != size) return 0;
  plan.order = o;
  plan.limits = (const void *)(o + 1);
  plan.groups = (const void *)(plan.limits + o->limits);
  plan.targets = (const void *)(plan.groups + o->groups);
  for (int i = 0; i < o->h.fds; i++)
    if (plan.targets[i] < -1 || plan.targets[i] > KVS_TARGET_MAX) return 0;
  const char *text = (const void *)(plan.targets + o->h.fds), *end = text + o->text;
  if (!(text = take(text, end, two, 2)) || !(text = take(text, end, plan.args, o->args)) || !(text = take(text, end, plan.envs, o->envs)))
    return 0;
  plan.directory = two[0], plan.program = two[1];
  return text == end && *plan.program;
}

static _Noreturn void fail(int pipe, uint32_t step) {
  struct report report = {errno, step};
  (void)!write(pipe, &report, sizeof report);
  _exit(127);
}

/* The child's side: system calls, and nothing that would take memory or a lock. All descriptors but those meant for it are closed by exec. */
static _Noreturn void become(int *fds, int pipe) {
  const struct kvs_spawn *o = plan.order;
  int floor = 3; /* above all targets: from there no descriptor is overwritten before it is used */
  for (int i = 0; i < o->h.fds; i++)
    if (plan.targets[i] >= floor) floor = plan.targets[i] + 1;
  int high = fcntl(pipe, F_DUPFD_CLOEXEC, floor);
  if (high < 0 || dup2(spawner.null, 0) < 0) fail(pipe, KVS_AT_DESCRIPTORS); /* output not given goes where the spawner's goes */
  pipe = high;
  for (int i = 0; i < o->h.fds; i++)
    if ((fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, floor)) < 0) fail(pipe, KVS_AT_DESCRIPTORS);
  for (int i = 0; i < o->h.fds; i++)
    if (plan.targets[i] >= 0 && dup2(fds[i], plan.targets[i]) < 0) fail(pipe, KVS_AT_DESCRIPTORS);
  if (((o->flags & KVS_SESSION) && setsid() < 0) || ((o->flags & (KVS_GROUP | KVS_SESSION)) == KVS_GROUP && setpgid(0, 0) < 0))
    fail(pipe, KVS_AT_SESSION);
  if (o->cgroup && write(fds[o->cgroup - 1], "0", 1) != 1) fail(pipe, KVS_AT_CGROUP);
  setrlimit(RLIMIT_NOFILE, &spawner.files);
  for (const struct kvs_limit *l = plan.limits; l < plan.limits + o->limits; l++)
    if (setrlimit(l->resource, &(struct rlimit){l->soft, l->hard}) < 0) fail(pipe, KVS_AT_LIMITS);
  if (o->umask != KVS_UNCHANGED) umask(o->umask & 0777);
  if ((o->flags & KVS_IDS) && (setgroups(o->groups, plan.groups) < 0 || setresgid(o->gid, o->gid, o->gid) < 0 ||
                               setresuid(o->uid, o->uid, o->uid) < 0))
    fail(pipe, KVS_AT_IDS);
  if (*plan.directory && chdir(plan.directory) < 0) fail(pipe, KVS_AT_DIRECTORY); /* as the user that it runs as */
  if (o->flags & KVS_DIE_TOO) { /* after the change of user, which would undo it */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (errno = ESRCH, getppid() != spawner.pid) fail(pipe, KVS_AT_PARENT);
  }
  for (char **one = plan.envs; *one; one++)
    if (!strcmp(*one, KVS_LISTEN_PID)) snprintf(strchr(*one, '=') + 1, 11, "%d", getpid());
  sigprocmask(SIG_SETMASK, &spawner.no_signals, NULL); /* what is done on a signal was made the default at the start */
  execve(plan.program, plan.args, plan.envs);
  fail(pipe, KVS_AT_EXEC);
}

/* Starts a child: fork, as this process is small, and then is not held up by an exec that hangs (vfork would be). Returns 0, or an errno
 * and where. Whether exec succeeds is told by the pipe. */
int spawn(const struct kvs_spawn *order, uint32_t size, int *fds, uint32_t *step) {
  int ends[2];
  uint32_t place = 0;
  while (place < KVS_CHILDREN_MAX && children[place].record.flags) place++;
  if (*step = KVS_AT_MESSAGE, !understand(order, size)) return EBADMSG;
  if (*step = KVS_AT_TOKEN, child_of(order->token)) return EEXIST;
  if (*step = KVS_AT_END, spawner.phase >= TERMINATED) return ESHUTDOWN;
  if (*step = KVS_AT_ROOM, place == KVS_CHILDREN_MAX) return EAGAIN;
  if (*step = KVS_AT_PIPE, pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0) return errno;
  *step = KVS_AT_FORK;
  pid_t pid = fork();
  int error = errno;
  if (pid == 0) become(fds, ends[1]);
  close(ends[1]);
  if (pid < 0) return close(ends[0]), error;
  spawner.alone = 0;
  if (place >= spawner.children_used) spawner.children_used = place + 1;
  struct child *child = &children[place];
  *child = (struct child){.pipe = ends[0], .record = {.token = order->token, .pid = pid, .start = start_time(pid),
                                                      .flags = order->flags | KVS_STARTING}};
  watch(ends[0], EPOLL_CTL_ADD, EPOLLIN, ON_PIPE, place);
  return 0;
}

/* The pipe of a new child is closed, by exec or by its end, or says what failed. */
void started(struct child *child) {
  struct report report;
  if (child->pipe < 0) return;
  ssize_t n = read(child->pipe, &report, sizeof report);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  watch(child->pipe, EPOLL_CTL_DEL, 0, 0, 0); /* another child that is about to exec has it too */
  close(child->pipe);
  child->pipe = -1;
  child->record.flags ^= KVS_STARTING | (n == sizeof report ? KVS_NOT_STARTED : KVS_RUNNING);
  if (n == sizeof report) child->record.status = report.error, child->record.step = report.step; /* told when it is reaped */
  else child->news |= NEWS_STARTED;
}

static void ended(struct child *child, int status, const struct rusage *usage) {
  struct kvs_record *r = &child->record;
  started(child);
  r->flags = (r->flags & ~(uint32_t)(KVS_STARTING | KVS_RUNNING)) | KVS_ENDED;
  if (!(r->flags & KVS_NOT_STARTED)) r->status = status;
  if (WIFSIGNALED(status) && WCOREDUMP(status)) r->flags |= KVS_CORE;
  r->user_us = usage->ru_utime.tv_sec * 1000000ull + usage->ru_utime.tv_usec;
  r->system_us = usage->ru_stime.tv_sec * 1000000ull + usage->ru_stime.tv_usec;
  r->max_rss = usage->ru_maxrss;
  r->ended = clock_ns(CLOCK_BOOTTIME);
  child->news |= NEWS_ENDED;
}

static struct child *running(pid_t pid) {
  struct child *child = children, *end = children + spawner.children_used;
  while (child < end && (child->record.pid != pid || (child->record.flags & KVS_ENDED))) child++;
  return child < end ? child : NULL;
}

/* All that have ended: children, daemons, and strangers whose parents have left them to us. In portions, so that a storm of them does not
 * keep the controller waiting. Returns whether there are any left. */
int reap(void) {
  struct rusage usage;
  int status;
  spawner.more_to_reap = 0;
  for (int n = 0; n < 256; n++) {
    pid_t pid = wait4(-1, &status, WNOHANG | __WALL, &usage);
    if (pid <= 0) return !(spawner.alone = pid < 0 && errno == ECHILD);
    struct child *child = running(pid);
    if (child) ended(child, status, &usage);
    else if (!is_daemon(pid, status)) tell_stranger(pid, status);
  }
  return spawner.more_to_reap = 1;
}

/* Every process below: as PID 1 all there are; else whoever is a child, adopted ones and daemons included, and the children's groups. */
void signal_everyone(int signo) {
  char text[4096];
  if (spawner.pid == 1) return (void)kill(-1, signo);
  int fd = open("/proc/thread-self/children", O_RDONLY | O_CLOEXEC);
  pid_t pid = 0;
  for (ssize_t n; (n = read(fd, text, sizeof text)) > 0;)
    for (ssize_t i = 0; i < n; i++)
      if (text[i] != ' ') pid = pid * 10 + (text[i] - '0');
      else {
        struct child *child = running(pid);
        if (!child || send_signal(child, signo, child->record.flags & (KVS_SESSION | KVS_GROUP))) kill(pid, signo);
        pid = 0;
      }
  close(fd);
}
