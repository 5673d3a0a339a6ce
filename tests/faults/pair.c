/* One end of a connection: pair server LISTENER SCENE, with a listening descriptor, or pair client PATH SCENE. Both ends play
 * the same scene, each its part, and print what they saw: it is the same whether a fault came between or not. Bytes carry a
 * pattern by their place in the stream. The last lines say which descriptors are open still and whether the end was clean. */
#include <errno.h>
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static int server, fd = -1, listener = -1;
static const char *path, *scene, *self;
static uint64_t sent, received;
static char buffer[1 << 20];

static void fail(const char *what) {
  printf("FAILED %s: %s (sent %lu, received %lu)\n", what, strerror(errno), sent, received);
  fflush(stdout);
  _exit(1);
}

#define TRY(call) ({ __auto_type r_ = (call); if (r_ < 0) fail(#call); r_; })

/* ---- few descriptors ---- */

static int fillers[4096], filled;

static void give_one_back(void) { close(fillers[--filled]); }

/* SPARE: takes all numbers below the limit but so many of the highest (-n: of the lowest). */
static void take_descriptors(void) {
  const char *spare = getenv("SPARE");
  int one;
  if (!spare) return;
  while (filled < 4096 && (one = dup(0)) >= 0) fillers[filled++] = one;
  for (int n = atoi(spare), i = 0; n < 0; n++, i++) fillers[i] = (close(fillers[i]), fillers[--filled]);
  for (int n = atoi(spare); n > 0; n--) give_one_back();
}

/* How many there are left, as the program sees it. */
static void count_descriptors(void) {
  int all[4096], n = 0;
  if (!getenv("SPARE")) return;
  while (n < 4096 && (all[n] = dup(fd)) >= 0) n++;
  printf("%d more, then %s\n", n, strerror(errno));
  while (n) close(all[--n]);
}

/* A call that makes a descriptor; if it can't, it says why and is given one. */
#define MAKE(call)                                            \
  ({                                                          \
    int made = (call);                                        \
    if (made < 0) printf("%.9s: %s\n", #call, strerror(errno)); \
    if (made < 0 && filled) give_one_back(), made = (call);   \
    TRY(made);                                                \
  })

/* ---- bytes with a pattern ---- */

static char at(uint64_t place, int side) { return (char)(place * 31 + (place >> 8) * 7 + (place >> 16) + (unsigned)side * 101); }

static size_t fill(size_t n) {
  if (n > sizeof buffer) n = sizeof buffer;
  for (size_t i = 0; i < n; i++) buffer[i] = at(sent + i, server);
  return n;
}

static void check(size_t n) {
  for (size_t i = 0; i < n; i++)
    if (buffer[i] != at(received + i, !server)) {
      printf("FAILED: byte %lu is wrong\n", received + i);
      fflush(stdout);
      _exit(1);
    }
  received += n;
}

static void put(size_t n) {
  while (n) {
    ssize_t k = TRY(write(fd, buffer, fill(n)));
    sent += (size_t)k;
    n -= (size_t)k;
  }
}

static void get(size_t n) {
  while (n) {
    ssize_t k = TRY(read(fd, buffer, n < sizeof buffer ? n : sizeof buffer));
    if (k == 0) errno = 0, fail("early end");
    check((size_t)k);
    n -= (size_t)k;
  }
}

static void turns(int count, size_t n) {
  for (int i = 0; i < count; i++) {
    if (server) get(n), put(n);
    else put(n), get(n);
  }
}

/* Moves one direction or both without blocking, as far as it goes; what is left to do, as poll events. */
static short moves(uint64_t *out, uint64_t *in) {
  ssize_t k;
  while (*out && (k = send(fd, buffer, fill(*out < 60000 ? *out : 60000), MSG_DONTWAIT)) > 0) sent += (size_t)k, *out -= (size_t)k;
  if (*out && k < 0 && errno != EAGAIN) fail("send");
  while (*in && (k = recv(fd, buffer, *in < 60000 ? *in : 60000, MSG_DONTWAIT)) > 0) check((size_t)k), *in -= (size_t)k;
  if (*in && k < 0 && errno != EAGAIN) fail("recv");
  if (*in && k == 0) errno = 0, fail("early end");
  return (short)((*out ? POLLOUT : 0) | (*in ? POLLIN : 0));
}

static void both_by_poll(uint64_t n, nfds_t others) {
  struct pollfd p[300];
  uint64_t out = n, in = n;
  int quiet[2];
  TRY(pipe(quiet));
  for (nfds_t i = 0; i < others; i++) p[i] = (struct pollfd){quiet[0], POLLIN, 0};
  for (short events; (events = moves(&out, &in));) {
    p[others] = (struct pollfd){fd, events, 0};
    if (TRY(poll(p, others + 1, -1)) != 1) fail("poll reports others");
  }
  close(quiet[0]), close(quiet[1]);
}

static void both_by_select(uint64_t n, int high) {
  uint64_t out = n, in = n;
  int quiet[2], low = fd, top = TRY(fcntl(fd, F_DUPFD, high));
  TRY(pipe(quiet));
  fd = top;
  for (short events; (events = moves(&out, &in));) {
    fd_set r, w;
    FD_ZERO(&r);
    FD_ZERO(&w);
    FD_SET(quiet[0], &r);
    if (events & POLLIN) FD_SET(fd, &r);
    if (events & POLLOUT) FD_SET(fd, &w);
    TRY(select(fd + 1, &r, &w, NULL, NULL));
    if (FD_ISSET(quiet[0], &r)) fail("select reports others");
  }
  close(quiet[0]), close(quiet[1]), close(top);
  fd = low;
}

static void both_by_epoll(int set, uint64_t n, uint32_t flags, int modify) {
  uint64_t out = n, in = n;
  struct epoll_event e;
  for (short events; (events = moves(&out, &in));) {
    e = (struct epoll_event){(events & POLLIN ? EPOLLIN : 0) | (events & POLLOUT ? EPOLLOUT : 0) | flags, {.fd = 7}};
    if (modify) TRY(epoll_ctl(set, EPOLL_CTL_MOD, fd, &e));
    TRY(epoll_wait(set, &e, 1, -1));
    if (e.data.fd != 7) fail("epoll reports others");
  }
}

static int set_with(uint32_t events) {
  int set = MAKE(epoll_create1(0));
  TRY(epoll_ctl(set, EPOLL_CTL_ADD, fd, &(struct epoll_event){events, {.fd = 7}}));
  return set;
}

/* ---- scenes ---- */

enum { MUCH = 2000000 };

static void s_turns(void) { turns(40, 100); }
static void s_poll(void) { turns(12, 8), both_by_poll(MUCH, 0); }
static void s_early_poll(void) { both_by_poll(MUCH, 0), turns(12, 8); }
static void s_many(void) { turns(12, 8), both_by_poll(MUCH, 200), both_by_select(MUCH, 900); }

static void s_epoll(void) {
  turns(12, 8);
  int set = set_with(EPOLLIN);
  both_by_epoll(set, MUCH, 0, 1);
  turns(3, 8);
  close(set);
}

static void s_early_epoll(void) {
  int set = set_with(EPOLLIN | EPOLLOUT | EPOLLET), many = TRY(epoll_create1(0)), spare[40];
  both_by_epoll(set, MUCH, EPOLLET, 0);
  for (int i = 0; i < 40; i++) { /* their table grows */
    spare[i] = TRY(dup(fd));
    TRY(epoll_ctl(many, EPOLL_CTL_ADD, spare[i], &(struct epoll_event){EPOLLIN, {.fd = 7}}));
  }
  turns(12, 8);
  for (int i = 0; i < 40; i++) close(spare[i]);
  close(set), close(many);
}

static void s_exclusive(void) {
  int set = set_with(EPOLLIN | EPOLLOUT | EPOLLEXCLUSIVE);
  turns(12, 8);
  both_by_epoll(set, MUCH, 0, 0);
  close(set);
}

static void s_sleep(void) { /* bells both ways */
  for (int i = 0; i < 60; i++) {
    if (i & 1) usleep(500);
    turns(1, 50);
  }
  for (int i = 0; i < 4; i++) { /* and for room */
    if (server) usleep(3000), get(700000);
    else put(700000);
  }
}

/* The rest is for a child; the parent goes on when that has ended. */
static void in_child(void (*rest)(void)) {
  fflush(stdout);
  pid_t child = TRY(fork());
  if (child == 0) {
    rest();
    printf("child: sent %lu, received %lu\n", sent, received);
    fflush(stdout);
    _exit(0);
  }
  int status;
  TRY(waitpid(child, &status, 0));
  if (status) fail("child");
}
static void rest_of_fork(void) { both_by_poll(MUCH, 0), turns(12, 8); }
static void s_fork(void) { in_child(rest_of_fork); }
static void s_late_fork(void) { turns(12, 8), in_child(rest_of_fork); }

static void s_dup(void) {
  int names[3] = {TRY(dup(fd)), TRY(fcntl(fd, F_DUPFD, 30)), TRY(dup2(fd, 40))};
  turns(12, 8);
  close(fd), fd = names[1];
  both_by_poll(MUCH, 0);
  close(names[0]), close(names[2]);
  turns(3, 8);
}

/* SETTING: a variable that is another for the successor (NAME=VALUE) or is missing (NAME). */
static char **environment_of_successor(int shimmed) {
  static char *kept[256], text[4][300];
  char *setting = getenv("SETTING");
  size_t name = setting ? strcspn(setting, "=") : 0;
  int n = 0, own = 0;
  for (char **e = environ; *e && n < 240; e++)
    if (strncmp(*e, "KVO_FAULT=", 10) && (shimmed || strncmp(*e, "LD_PRELOAD=", 11)) &&
        !(setting && !strncmp(*e, setting, name) && (*e)[name] == '=')) kept[n++] = *e;
  if (setting && setting[name]) kept[n++] = setting;
  if (getenv("KVO_FAULT_NEXT")) kept[n++] = text[own], snprintf(text[own++], 300, "KVO_FAULT=%s", getenv("KVO_FAULT_NEXT"));
  kept[n++] = text[own], snprintf(text[own++], 300, "SENT=%lu", sent);
  kept[n++] = text[own], snprintf(text[own++], 300, "RECEIVED=%lu", received);
  return kept;
}

static void become(int shimmed) {
  char where[16];
  snprintf(where, sizeof where, "%d", fd);
  fflush(stdout);
  execve(self, (char *[]){(char *)self, server ? "server" : "client", where, (char *)scene, "again", NULL},
         environment_of_successor(shimmed));
  fail("execve");
}

/* Bytes of the peer's lie unread when the program is replaced. */
static void s_exec(void) {
  turns(12, 8);
  if (server) get(50000), become(1);
  put(120000);
}
static void s_exec_client(void) {
  turns(12, 8);
  if (!server) get(50000), become(1);
  put(120000);
}
static void s_exec_plain(void) {
  turns(12, 8);
  if (server) get(50000), become(0);
  put(120000);
}
static void after_exec(void) {
  get(70000);
  turns(12, 8);
}

/* A child gets the connection as standard input and output. */
static void s_spawn(void) {
  turns(12, 8);
  if (server) {
    posix_spawn_file_actions_t actions;
    pid_t child;
    posix_spawn_file_actions_init(&actions);
    TRY(posix_spawn_file_actions_adddup2(&actions, fd, 0));
    TRY(posix_spawn_file_actions_adddup2(&actions, fd, 1));
    TRY(-(errno = posix_spawn(&child, self, &actions, NULL, (char *[]){(char *)self, "echo", NULL}, environment_of_successor(1))));
    posix_spawn_file_actions_destroy(&actions);
    int status;
    TRY(waitpid(child, &status, 0));
    printf("child's status %d\n", status);
    return;
  }
  char line[100];
  for (int i = 0; i < 20; i++) {
    int n = snprintf(line, sizeof line, "line %d\n", i);
    TRY(write(fd, line, (size_t)n));
    char back[100];
    for (int got = 0; got < n;) got += (int)TRY(read(fd, back + got, (size_t)(n - got)));
    printf("%s", memcmp(line, back, (size_t)n) ? "differs\n" : "");
  }
  TRY(write(fd, "end\n", 4));
}
static int echo(void) {
  char line[100];
  while (fgets(line, sizeof line, stdin) && strcmp(line, "end\n")) fputs(line, stdout), fflush(stdout);
  return 0;
}

/* ---- descriptors in the stream ---- */

static void give(int number, int passed) {
  char control[CMSG_SPACE(sizeof(int))] = {0}, text[16];
  struct iovec v = {text, (size_t)snprintf(text, sizeof text, "record %04d\n", number)};
  struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  struct cmsghdr *c = CMSG_FIRSTHDR(&m);
  c->cmsg_level = SOL_SOCKET, c->cmsg_type = SCM_RIGHTS, c->cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(c), &passed, sizeof(int));
  TRY(sendmsg(fd, &m, 0));
}

static void take(int flags) {
  char control[CMSG_SPACE(sizeof(int))] = {0}, text[16] = {0}, inside[32] = "";
  struct iovec v = {text, 12};
  struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  ssize_t n = TRY(recvmsg(fd, &m, flags));
  struct cmsghdr *c = CMSG_FIRSTHDR(&m);
  if (c && c->cmsg_type == SCM_RIGHTS) {
    int passed;
    memcpy(&passed, CMSG_DATA(c), sizeof(int));
    if (pread(passed, inside, sizeof inside - 1, 0) < 0) snprintf(inside, sizeof inside, "%s", strerror(errno));
    close(passed);
  }
  printf("%ld bytes, \"%.11s\", with %s%s\n", n, text, *inside ? inside : "nothing", m.msg_flags & MSG_CTRUNC ? ", cut off" : "");
}

static void s_rights(void) {
  turns(12, 8);
  if (server) put(4), take(MSG_PEEK);
  else get(4);
  for (int i = 0; i < 12; i++) {
    if (server) {
      take(0);
      continue;
    }
    int file = TRY(memfd_create("passed", 0));
    TRY(dprintf(file, "file %d", i));
    give(i, file);
    close(file);
  }
  turns(12, 8);
}

/* The connection itself is given to a child through a socket of its own. */
static void s_handed(void) {
  turns(12, 8);
  if (!server) return turns(20, 3000);
  int way[2];
  TRY(socketpair(AF_UNIX, SOCK_STREAM, 0, way));
  fflush(stdout);
  pid_t child = TRY(fork());
  if (child == 0) {
    char byte, control[CMSG_SPACE(sizeof(int))];
    struct iovec v = {&byte, 1};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    close(fd);
    TRY(recvmsg(way[1], &m, 0));
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(int));
    turns(20, 3000);
    _exit(0);
  }
  int whole = fd, status;
  fd = way[0];
  char control[CMSG_SPACE(sizeof(int))] = {0}, byte = 0;
  struct iovec v = {&byte, 1};
  struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  struct cmsghdr *c = CMSG_FIRSTHDR(&m);
  c->cmsg_level = SOL_SOCKET, c->cmsg_type = SCM_RIGHTS, c->cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(c), &whole, sizeof(int));
  TRY(sendmsg(fd, &m, 0));
  TRY(waitpid(child, &status, 0));
  close(way[0]), close(way[1]);
  fd = whole;
  sent += 20 * 3000, received += 20 * 3000;
  printf("child's status %d\n", status);
}

/* The server leaves the rings with bytes in them. */
static void s_back(void) {
  turns(12, 8);
  if (server) {
    get(1000);
    usleep(20000);
    TRY(fcntl(fd, F_SETFL, O_ASYNC));
    get(149000);
  } else {
    put(150000);
  }
  both_by_poll(MUCH, 0);
}

/* The same with more bytes than the kernel socket takes at once, while the client waits for the answer to all of them. */
static void s_answer(void) {
  turns(12, 8);
  if (!server) return put(40000000), get(8);
  for (int bytes = 0, before = -1, same = 0; same < 20; same = bytes == before ? same + 1 : 0) { /* it sends no more */
    usleep(5000);
    before = bytes;
    TRY(ioctl(fd, FIONREAD, &bytes));
  }
  TRY(fcntl(fd, F_SETFL, O_ASYNC));
  get(40000000), put(8);
}

/* ---- calls with memory of their own ---- */

static void s_copies(void) {
  turns(12, 8);
  int pipes[2], file = TRY(memfd_create("data", 0));
  TRY(pipe(pipes));
  if (server) {
    for (int i = 0; i < 60; i++) {
      ssize_t k = TRY(splice(fd, NULL, pipes[1], NULL, 5000, 0));
      for (ssize_t left = k, n; left; left -= n, check((size_t)n)) n = TRY(read(pipes[0], buffer, (size_t)left));
      if (received >= 96 + 200000) break;
    }
    get(96 + 300000 - received);
  } else {
    TRY(write(file, buffer, fill(100000)));
    sent += 100000;
    for (off_t at = 0; at < 100000;) TRY(sendfile(fd, file, &at, (size_t)(100000 - at)));
    for (int i = 0; i < 50; i++) {
      TRY(write(pipes[1], buffer, fill(4000)));
      for (ssize_t left = 4000; left;) left -= TRY(splice(pipes[0], NULL, fd, NULL, (size_t)left, 0));
      sent += 4000;
    }
  }
  close(pipes[0]), close(pipes[1]), close(file);
  turns(3, 8);
}

static void s_prints(void) {
  turns(12, 8);
  char text[2001] = "";
  if (server) {
    memset(text, 'x', 2000);
    int done = dprintf(fd, "%.1500s\n", text);
    printf("dprintf, %s\n", done < 0 ? strerror(errno) : "done");
    if (done < 0) TRY(write(fd, text, 1501));
  } else {
    printf("%ld bytes\n", TRY(recv(fd, text, 1501, MSG_WAITALL)));
  }
  int name = TRY(dup(fd));
  FILE *stream = fdopen(name, "r+");
  printf("fdopen, %s\n", stream ? "done" : strerror(errno));
  if (!stream) close(name);
  if (server && stream) fputs("by a stream\n", stream), fflush(stream);
  else if (server) TRY(write(fd, "by a stream\n", 12));
  else if (stream) printf("%s", fgets(text, sizeof text, stream));
  else printf("%.*s", (int)TRY(recv(fd, text, 12, MSG_WAITALL)), text);
  if (stream) fclose(stream);
  turns(3, 8);
}

/* A thread waits for what another takes. */
static void *waits(void *turns_left) {
  struct pollfd p = {fd, POLLIN, 0};
  while (__atomic_load_n((int *)turns_left, __ATOMIC_ACQUIRE)) poll(&p, 1, 2);
  return NULL;
}
static void s_threads(void) {
  pthread_t thread;
  int more = 1;
  turns(12, 8);
  pthread_create(&thread, NULL, waits, &more);
  for (int i = 0; i < 60; i++) {
    if (i % 3 == 0) usleep(700);
    turns(1, 50);
  }
  __atomic_store_n(&more, 0, __ATOMIC_RELEASE);
  pthread_join(thread, NULL);
}

static const struct {
  const char *name;
  void (*play)(void);
} scenes[] = {{"turns", s_turns},         {"poll", s_poll},           {"early_poll", s_early_poll}, {"many", s_many},
              {"epoll", s_epoll},         {"early_epoll", s_early_epoll}, {"exclusive", s_exclusive},
              {"sleep", s_sleep},         {"fork", s_fork},           {"late_fork", s_late_fork},   {"dup", s_dup},
              {"exec", s_exec},           {"exec_client", s_exec_client}, {"exec_plain", s_exec_plain}, {"spawn", s_spawn},
              {"rights", s_rights},       {"handed", s_handed},       {"back", s_back}, {"answer", s_answer},             {"copies", s_copies},
              {"prints", s_prints}, {"threads", s_threads},      {"watched", s_turns},       {"refused", s_turns}};

/* ---- beginning and end ---- */

static void open_connection(const char *where) {
  if (server) {
    listener = atoi(where);
    struct sockaddr_un peer; /* not printed: where the library could not start, the client's mark shows */
    socklen_t n = sizeof peer;
    take_descriptors();
    fd = MAKE(accept(listener, (struct sockaddr *)&peer, &n));
    close(listener);
    return;
  }
  struct sockaddr_un to = {.sun_family = AF_UNIX}, other = to;
  path = where;
  snprintf(to.sun_path, sizeof to.sun_path, "%s", where);
  snprintf(other.sun_path, sizeof other.sun_path, "%s-none", where);
  take_descriptors();
  fd = getenv("SOCKET") ? atoi(getenv("SOCKET")) : MAKE(socket(AF_UNIX, SOCK_STREAM, 0));
  if (!strcmp(scene, "refused")) {
    printf("%s, ", connect(fd, (struct sockaddr *)&other, sizeof other) ? strerror(errno) : "connected");
    printf("%s\n", bind(fd, (struct sockaddr *)&other, sizeof other) ? strerror(errno) : "bound");
    unlink(other.sun_path);
  }
  int set = !strcmp(scene, "watched") ? set_with(EPOLLIN | EPOLLOUT | EPOLLET) : -1;
  TRY(connect(fd, (struct sockaddr *)&to, sizeof to));
  if (set < 0) return;
  turns(12, 8);
  both_by_epoll(set, MUCH, EPOLLET, 0);
  close(set);
}

/* The library's own, which a process keeps for all its connections. */
static int rendezvous(int fd) {
  struct sockaddr_un name = {0};
  return !getsockname(fd, (struct sockaddr *)&name, &(socklen_t){sizeof name}) && !memcmp(name.sun_path, "\0kvo2r", 6);
}

static void open_descriptors(void) {
  DIR *directory = opendir("/proc/self/fd");
  printf("open:");
  for (struct dirent *e; (e = readdir(directory));)
    if (*e->d_name != '.' && atoi(e->d_name) != dirfd(directory) && !rendezvous(atoi(e->d_name))) printf(" %s", e->d_name);
  closedir(directory);
  printf("\n");
}

/* For the test: a copy of the statistics, before the end takes them away. */
static void keep_statistics(void) {
  const char *to = getenv("STATISTICS");
  char name[64], command[300];
  DIR *directory = to ? opendir("/dev/shm") : NULL;
  snprintf(name, sizeof name, "-%d-", (int)getpid());
  for (struct dirent *e; directory && (e = readdir(directory));) {
    if (strncmp(e->d_name, "kvoshim-stats-", 14) || !strstr(e->d_name, name)) continue;
    snprintf(command, sizeof command, "/dev/shm/%s", e->d_name);
    int in = open(command, O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    for (ssize_t n; (n = read(in, buffer, sizeof buffer)) > 0;)
      if (write(out, buffer, (size_t)n) != n) break;
    close(in), close(out);
  }
  if (directory) closedir(directory);
}

int main(int argc, char **argv) {
  self = "/proc/self/exe";
  if (argc == 2) return echo();
  server = !strcmp(argv[1], "server");
  scene = argv[3];
  signal(SIGPIPE, SIG_IGN);
  setvbuf(stdout, NULL, _IOFBF, 1 << 16);
  if (argc > 4) {
    fd = atoi(argv[2]);
    sent = strtoul(getenv("SENT"), NULL, 10), received = strtoul(getenv("RECEIVED"), NULL, 10);
    after_exec();
  } else {
    open_connection(argv[2]);
    if (!strcmp(scene, "watched") && server) turns(12, 8), both_by_poll(MUCH, 0);
    for (size_t i = 0; i < sizeof scenes / sizeof *scenes; i++)
      if (!strcmp(scene, scenes[i].name)) scenes[i].play();
    if (!strncmp(scene, "exec", 4)) turns(12, 8);
  }
  count_descriptors();
  printf("shutdown %d\n", shutdown(fd, SHUT_WR));
  ssize_t end = read(fd, buffer, 1);
  printf("sent %lu, received %lu, then %ld %s\n", sent, received, end, end < 0 ? strerror(errno) : "");
  close(fd);
  while (filled) give_one_back();
  keep_statistics();
  open_descriptors();
  return 0;
}
