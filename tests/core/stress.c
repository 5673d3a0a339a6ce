/* One end of a stress run: `stress server|client PATH key=value ...`; tests/core/rig.py starts both ends.
 *
 * Every byte of each direction is a function of its position, so that a byte that is lost, doubled or out of place is found
 * where it happens. Reading and writing go on at once, by threads, by forked processes, or in one event loop, with
 * any way of waiting on either side; sizes, calls and pauses are random. At the end each process prints one line of totals,
 * which the rig compares: what one end sent is what the other received.
 *
 *   shape=threads|loop|procs|echo   who reads and who writes (echo: request and answer, in one thread)
 *   read=, write=                   block, try, poll, select, lt, et, oneshot
 *   writers=1|2  seconds=  seed=  budget=0 (one long connection) or the most bytes of each of many short ones
 *   pace=hot|mixed|slow-read|slow-write  most=largest message  signals=0|1
 *   fault=none|drop|flip|stall        what a writer thread does wrong after 100,000 bytes, to test the checks
 *
 * Exit codes: 0 good, 3 wrong byte, 4 a call failed, 2 usage. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 200 << 10 };
enum mode { BLOCK, TRY, POLL, SELECT, LT, ET, ONESHOT, MODES };
static const char *const mode_names[MODES] = {"block", "try", "poll", "select", "lt", "et", "oneshot"};

static int is_server, writers = 1, with_signals;
static const char *shape = "threads", *pace = "mixed", *fault = "none";
static enum mode read_mode, write_mode;
static uint64_t seed = 1, budget, most = MOST;
static double seconds = 1, deadline;
static uint64_t total_sent, total_received, connections;

static void fail(int code, const char *format, ...) {
  va_list args;
  int why = errno;
  fprintf(stderr, "stress %s[%d]: ", is_server ? "server" : "client", (int)getpid());
  va_start(args, format);
  vfprintf(stderr, format, args);
  va_end(args);
  fprintf(stderr, code == 4 ? ": %s\n" : "\n", strerror(why));
  _exit(code);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ---- randomness: a state for each thread ---- */

static uint64_t draw(uint64_t *state) {
  uint64_t z = *state += 0x9E3779B97F4A7C15u;
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
  z = (z ^ z >> 27) * 0x94D049BB133111EBu;
  return z ^ z >> 31;
}

static uint64_t below(uint64_t *state, uint64_t n) { return draw(state) % n; }

static size_t some_size(uint64_t *state) {
  static const size_t caps[] = {16, 512, 8192, MOST, 1};
  size_t cap = caps[below(state, 5)];
  return 1 + (size_t)below(state, cap < most ? cap : most);
}

static void dawdle(uint64_t *state, int writing) {
  uint64_t chance = 8;
  if (!strcmp(pace, "hot")) chance = 400;
  if (!strcmp(pace, writing ? "slow-write" : "slow-read")) chance = 2;
  if (below(state, chance)) return;
  switch (below(state, 6)) {
    case 0: sched_yield(); break;
    case 1: usleep((useconds_t)below(state, 300)); break;
    case 2: usleep((useconds_t)below(state, 60)); break;
    case 3: if (!below(state, 20)) usleep(5000); break;
    default:
      for (volatile uint64_t i = below(state, 20000); i; i--) {}
  }
}

/* ---- the pattern ---- */

static uint64_t word_at(uint64_t index, int from_server) {
  return (index + 1) * 0x9E3779B97F4A7C15u ^ (from_server ? 0x5555555555555555u : 0) ^ index >> 7;
}

static void pattern(unsigned char *to, uint64_t at, size_t n, int from_server) {
  while (n) {
    uint64_t w = word_at(at / 8, from_server);
    size_t skip = at % 8, take = 8 - skip < n ? 8 - skip : n;
    memcpy(to, (unsigned char *)&w + skip, take);
    to += take, at += take, n -= take;
  }
}

static void check(const unsigned char *got, uint64_t at, size_t n, const char *call) {
  static __thread unsigned char expected[MOST];
  pattern(expected, at, n, !is_server);
  if (!memcmp(got, expected, n)) return;
  size_t i = 0, bad = 0;
  while (got[i] == expected[i]) i++;
  for (size_t j = i; j < n; j++) bad += got[j] != expected[j];
  /* Where does it belong? */
  long off = n - i < 16 ? 300000 : -300000;
  for (unsigned char probe[16]; off < 300000; off++) {
    if ((int64_t)(at + i) + off < 0) continue;
    pattern(probe, at + i + (uint64_t)off, sizeof probe, !is_server);
    if (!memcmp(probe, got + i, sizeof probe)) break;
  }
  if (off < 300000)
    fail(3, "%s: %zu bytes at %llu: wrong from byte %zu on: what came belongs %ld bytes further on", call, n,
         (unsigned long long)at, i, off);
  fail(3, "%s: %zu bytes at %llu: %zu wrong from byte %zu on (%02x %02x for %02x %02x), from no place near", call, n,
       (unsigned long long)at, bad, i, got[i], i + 1 < n ? got[i + 1] : 0, expected[i], i + 1 < n ? expected[i + 1] : 0);
}

/* ---- waiting ---- */

struct end {
  int fd, epfd;
  int flags; /* 0 or MSG_DONTWAIT */
  enum mode mode;
  uint32_t registered;
  uint64_t random;
};

static void end_open(struct end *e, int fd, enum mode mode, uint32_t events, uint64_t random) {
  *e = (struct end){.fd = fd, .epfd = -1, .mode = mode, .random = random};
  if (mode != BLOCK && !(fcntl(fd, F_GETFL) & O_NONBLOCK)) e->flags = MSG_DONTWAIT;
  if (mode != LT && mode != ET && mode != ONESHOT) return;
  e->epfd = epoll_create1(EPOLL_CLOEXEC);
  if (mode == ET) events |= EPOLLET | EPOLLRDHUP;
  if (mode == ONESHOT) events |= EPOLLONESHOT;
  struct epoll_event v = {.events = events, .data.fd = fd};
  if (epoll_ctl(e->epfd, EPOLL_CTL_ADD, fd, &v)) fail(4, "epoll_ctl ADD");
  e->registered = events;
}

static void end_close(struct end *e) {
  if (e->epfd >= 0) close(e->epfd);
}

/* Waits for some of events (POLLIN, POLLOUT, whose values epoll shares); returns what came. */
static int await(struct end *e, uint32_t events) {
  struct pollfd p = {.fd = e->fd, .events = (short)events};
  struct epoll_event v[4];
  int n;
  if (e->mode == TRY) return usleep((useconds_t)below(&e->random, 100)), (int)events;
  if (e->mode == LT || e->mode == ONESHOT) {
    uint32_t wanted = events | (e->mode == ONESHOT ? (uint32_t)EPOLLONESHOT : 0);
    if (wanted != e->registered || e->mode == ONESHOT) {
      v[0] = (struct epoll_event){.events = wanted, .data.fd = e->fd};
      if (epoll_ctl(e->epfd, EPOLL_CTL_MOD, e->fd, &v[0])) fail(4, "epoll_ctl MOD");
      e->registered = wanted;
    }
  }
  for (;;) {
    if (e->mode == SELECT) {
      fd_set r, w;
      FD_ZERO(&r);
      FD_ZERO(&w);
      if (events & POLLIN) FD_SET(e->fd, &r);
      if (events & POLLOUT) FD_SET(e->fd, &w);
      n = select(e->fd + 1, &r, &w, NULL, NULL);
      if (n > 0) return (FD_ISSET(e->fd, &r) ? POLLIN : 0) | (FD_ISSET(e->fd, &w) ? POLLOUT : 0);
    } else if (e->epfd >= 0) {
      n = epoll_wait(e->epfd, v, 4, -1);
      if (n > 0 && v[0].data.fd != e->fd) fail(3, "epoll_wait: data word %d for %d", v[0].data.fd, e->fd);
      if (n > 0) return (int)v[0].events;
    } else {
      n = poll(&p, 1, -1);
      if (n > 0) return p.revents;
    }
    if (n == 0) fail(3, "%s: a wait without timeout returned 0", mode_names[e->mode]);
    if (errno != EINTR) fail(4, "wait %s", mode_names[e->mode]);
  }
}

/* ---- one call of some kind ---- */

static int split(uint64_t *random, struct iovec *v, unsigned char *at, size_t n) {
  int parts = 1 + (int)below(random, 4), i = 0;
  for (; i < parts - 1 && n > 1; i++) {
    size_t take = (size_t)below(random, n);
    v[i] = (struct iovec){at, take};
    at += take, n -= take;
  }
  v[i++] = (struct iovec){at, n};
  return i;
}

static ssize_t some_send(struct end *e, unsigned char *data, size_t n) {
  int flags = e->flags;
  struct iovec v[4];
  switch (below(&e->random, 4)) {
    case 0: if (!flags) return write(e->fd, data, n); break;
    case 1: if (!flags) return writev(e->fd, v, split(&e->random, v, data, n)); break;
    case 2: {
      struct msghdr m = {.msg_iov = v, .msg_iovlen = (size_t)split(&e->random, v, data, n)};
      return sendmsg(e->fd, &m, flags | MSG_NOSIGNAL);
    }
  }
  return send(e->fd, data, n, flags | MSG_NOSIGNAL);
}

static ssize_t some_receive(struct end *e, unsigned char *data, size_t n, uint64_t at) {
  int flags = e->flags;
  struct iovec v[4];
  switch (below(&e->random, 6)) {
    case 0: if (!flags) return read(e->fd, data, n); break;
    case 1: if (!flags) return readv(e->fd, v, split(&e->random, v, data, n)); break;
    case 2: {
      struct msghdr m = {.msg_iov = v, .msg_iovlen = (size_t)split(&e->random, v, data, n)};
      return recvmsg(e->fd, &m, flags);
    }
    case 3: {
      ssize_t got = recv(e->fd, data, n, flags | MSG_PEEK);
      if (got <= 0) return got;
      check(data, at, (size_t)got, "peek");
      ssize_t again = recv(e->fd, data, (size_t)got, flags);
      if (again > 0 && again != got && !with_signals && writers == 1)
        fail(3, "recv gave %zd bytes after a peek of %zd", again, got);
      return again;
    }
    case 4: if (!flags) flags = MSG_WAITALL; break;
  }
  return recv(e->fd, data, n, flags);
}

static int retry(ssize_t n) { return n < 0 && (errno == EAGAIN || errno == EINTR); }

/* ---- a reader and a writer, each in a thread or a process of its own ---- */

struct flow {
  int fd;
  uint64_t random, position, limit;
  pthread_mutex_t mutex;
  int done;
};

static void *reader(void *argument) {
  struct flow *f = argument;
  struct end e;
  unsigned char *data = malloc(MOST);
  end_open(&e, f->fd, read_mode, EPOLLIN, f->random);
  for (;;) {
    /* Level-triggered ways of waiting must also do when one call follows each wait. */
    if (read_mode != BLOCK && read_mode != ET && read_mode != TRY && below(&e.random, 2)) await(&e, POLLIN);
    ssize_t n = some_receive(&e, data, some_size(&e.random), f->position);
    if (n == 0) break;
    if (retry(n)) {
      if (errno == EAGAIN && read_mode == BLOCK) fail(4, "blocking receive");
      if (errno == EAGAIN) await(&e, POLLIN);
      continue;
    }
    if (n < 0) fail(4, "receive after %llu bytes", (unsigned long long)f->position);
    check(data, f->position, (size_t)n, "receive");
    f->position += (uint64_t)n;
    dawdle(&e.random, 0);
  }
  end_close(&e);
  free(data);
  return NULL;
}

static void *writer(void *argument) {
  struct flow *f = argument;
  struct end e;
  unsigned char *data = malloc(MOST);
  pthread_mutex_lock(&f->mutex);
  end_open(&e, f->fd, write_mode, EPOLLOUT, f->random += 77);
  pthread_mutex_unlock(&f->mutex);
  for (int last = 0; !last;) {
    size_t size = some_size(&e.random), done = 0;
    pthread_mutex_lock(&f->mutex);
    if (f->limit && f->position + size >= f->limit) size = (size_t)(f->limit - f->position);
    pattern(data, f->position, size, is_server);
    if (f->position > 100000 && fault[0] != 'n') {
      if (!strcmp(fault, "stall")) pause();
      if (!strcmp(fault, "flip")) data[size / 2] ^= 1;
      if (!strcmp(fault, "drop")) pattern(data, f->position + 1, size, is_server);
      fault = "none";
    }
    while (done < size) {
      ssize_t n = some_send(&e, data + done, size - done);
      if (retry(n)) {
        if (errno == EAGAIN && write_mode == BLOCK) fail(4, "blocking send");
        if (errno == EAGAIN) await(&e, POLLOUT);
        continue;
      }
      if (n < 0) fail(4, "send after %llu bytes", (unsigned long long)f->position);
      done += (size_t)n;
      f->position += (uint64_t)n;
    }
    last = f->limit ? f->position >= f->limit : now() >= deadline;
    pthread_mutex_unlock(&f->mutex);
    dawdle(&e.random, 1);
  }
  end_close(&e);
  free(data);
  return NULL;
}

static void run_threads(struct flow *in, struct flow *out) {
  pthread_t threads[3];
  for (int i = 0; i < writers; i++) pthread_create(&threads[i], NULL, writer, out);
  pthread_create(&threads[2], NULL, reader, in);
  for (int i = 0; i < writers; i++) pthread_join(threads[i], NULL);
  if (shutdown(out->fd, SHUT_WR)) fail(4, "shutdown");
  pthread_join(threads[2], NULL);
}

static void move_all(struct end *e, struct flow *f, size_t n, int sending, unsigned char *data) {
  while (n) {
    size_t part = n < MOST ? n : MOST;
    if (sending) pattern(data, f->position, part, is_server);
    ssize_t r = sending ? some_send(e, data, part) : some_receive(e, data, part, f->position);
    if (retry(r)) {
      if (errno == EAGAIN && e->mode == BLOCK) fail(4, "blocking call");
      if (errno == EAGAIN) await(e, sending ? POLLOUT : POLLIN);
      continue;
    }
    if (r <= 0) fail(4, sending ? "send" : "receive: end of stream inside an answer");
    if (!sending) check(data, f->position, (size_t)r, "receive");
    f->position += (uint64_t)r;
    n -= (size_t)r;
  }
}

static void run_processes(struct flow *in, struct flow *out) {
  int report[2], status;
  if (pipe(report)) fail(4, "pipe");
  if (!is_server && !budget) { /* a client that forks before it has heard of an offer would stay on the kernel */
    struct end e;
    unsigned char data[4];
    end_open(&e, in->fd, POLL, 0, in->random);
    for (int i = 0; i < 3; i++) move_all(&e, out, 1, 1, data), move_all(&e, in, 1, 0, data);
  }
  pid_t child = fork();
  if (child == 0) {
    reader(in);
    if (write(report[1], &in->position, 8) != 8) fail(4, "report");
    _exit(0);
  }
  writer(out);
  if (shutdown(out->fd, SHUT_WR)) fail(4, "shutdown");
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {}
  if (status) _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 4);
  if (read(report[0], &in->position, 8) != 8) fail(4, "report");
  close(report[0]), close(report[1]);
}

/* ---- one event loop that does both ---- */

static void run_loop(struct flow *in, struct flow *out) {
  struct end e;
  unsigned char *data = malloc(MOST), *message = malloc(MOST);
  size_t size = 0, done = 0;
  int reading = 1, writing = 1, can_read = 1, can_write = 1;
  end_open(&e, in->fd, read_mode, EPOLLIN | EPOLLOUT, in->random);
  while (reading || writing) {
    if (e.mode != ET || !((can_read && reading) || (can_write && writing))) {
      uint32_t events = (reading ? POLLIN : 0) | (writing ? POLLOUT : 0);
      int got = await(&e, events);
      can_read |= (got & (POLLIN | POLLHUP | POLLERR | EPOLLRDHUP)) != 0;
      can_write |= (got & (POLLOUT | POLLERR)) != 0;
    }
    while (reading && can_read) {
      ssize_t n = some_receive(&e, data, some_size(&e.random), in->position);
      if (n == 0) reading = 0;
      if (retry(n)) can_read = errno == EINTR;
      else if (n < 0) fail(4, "receive");
      if (n <= 0) continue;
      check(data, in->position, (size_t)n, "receive");
      in->position += (uint64_t)n;
      dawdle(&e.random, 0);
      if (e.mode != ET && below(&e.random, 2)) can_read = 0;
      if (!below(&e.random, 3)) break;
    }
    while (writing && can_write) {
      if (done == size) {
        if (out->limit ? out->position >= out->limit : now() >= deadline) {
          writing = 0;
          if (shutdown(out->fd, SHUT_WR)) fail(4, "shutdown");
          break;
        }
        size = some_size(&e.random), done = 0;
        if (out->limit && out->position + size > out->limit) size = (size_t)(out->limit - out->position);
        pattern(message, out->position, size, is_server);
        dawdle(&e.random, 1);
      }
      ssize_t n = some_send(&e, message + done, size - done);
      if (retry(n)) can_write = errno == EINTR;
      else if (n < 0) fail(4, "send");
      if (n > 0) done += (size_t)n, out->position += (uint64_t)n;
      if (e.mode != ET && !below(&e.random, 4)) can_write = 0;
      if (!below(&e.random, 3)) break;
    }
  }
  end_close(&e);
  free(data), free(message);
}

/* ---- request and answer: sizes from a common seed ---- */

static int another_byte(struct end *e) {
  unsigned char byte;
  ssize_t n;
  while (retry(n = recv(e->fd, &byte, 1, MSG_PEEK | e->flags)))
    if (errno == EAGAIN) await(e, POLLIN);
  if (n < 0) fail(4, "peek for the next request");
  return n > 0;
}

static void run_echo(struct flow *in, struct flow *out) {
  struct end e;
  unsigned char *data = malloc(MOST);
  uint64_t sizes = seed;
  end_open(&e, in->fd, read_mode, EPOLLIN | EPOLLOUT, in->random);
  for (;;) {
    size_t request = some_size(&sizes), answer = some_size(&sizes);
    if (is_server) {
      if (!another_byte(&e)) break;
      move_all(&e, in, 1 + request, 0, data);
      dawdle(&e.random, 0);
      move_all(&e, out, answer, 1, data);
    } else {
      move_all(&e, out, 1 + request, 1, data);
      dawdle(&e.random, 1);
      move_all(&e, in, answer, 0, data);
      if (out->limit ? out->position >= out->limit : now() >= deadline) break;
    }
  }
  if (shutdown(out->fd, SHUT_WR)) fail(4, "shutdown");
  if (!is_server && another_byte(&e)) fail(3, "a byte after the last answer");
  end_close(&e);
  free(data);
}

/* ---- connections ---- */

static void serve(int fd, uint64_t *random) {
  struct flow in = {.fd = fd, .random = draw(random)}, out = in;
  out.random = draw(random);
  if (budget) out.limit = 1 + below(random, budget);
  pthread_mutex_init(&out.mutex, NULL);
  int any_blocks = read_mode == BLOCK || (strcmp(shape, "loop") && write_mode == BLOCK);
  if (!any_blocks && below(random, 2)) fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK);
  if (!strcmp(shape, "loop")) run_loop(&in, &out);
  else if (!strcmp(shape, "procs")) run_processes(&in, &out);
  else if (!strcmp(shape, "echo")) run_echo(&in, &out);
  else run_threads(&in, &out);
  total_sent += out.position, total_received += in.position, connections++;
  close(fd);
}

static void on_signal(int number) { (void)number; }

static enum mode mode_of(const char *name) {
  for (int i = 0; i < MODES; i++)
    if (!strcmp(name, mode_names[i])) return (enum mode)i;
  fprintf(stderr, "unknown mode %s\n", name);
  exit(2);
}

static void option(const char *text) {
  const char *value = strchr(text, '=');
  if (!value) fprintf(stderr, "not key=value: %s\n", text), exit(2);
  size_t n = (size_t)(value++ - text);
#define IS(key) (n == sizeof key - 1 && !memcmp(text, key, n))
  if (IS("shape")) shape = value;
  else if (IS("read")) read_mode = mode_of(value);
  else if (IS("write")) write_mode = mode_of(value);
  else if (IS("writers")) writers = atoi(value);
  else if (IS("seconds")) seconds = atof(value);
  else if (IS("seed")) seed = strtoull(value, NULL, 10);
  else if (IS("budget")) budget = strtoull(value, NULL, 10);
  else if (IS("most")) most = strtoull(value, NULL, 10);
  else if (IS("pace")) pace = value;
  else if (IS("fault")) fault = value;
  else if (IS("signals")) with_signals = atoi(value);
  else fprintf(stderr, "unknown option %s\n", text), exit(2);
}

int main(int count, char **words) {
  if (count < 3) return 2;
  is_server = !strcmp(words[1], "server");
  for (int i = 3; i < count; i++) option(words[i]);
  if (most > MOST) most = MOST;
  uint64_t random = seed * 2 + (uint64_t)is_server;
  struct sockaddr_un at = {.sun_family = AF_UNIX};
  strncpy(at.sun_path, words[2], sizeof at.sun_path - 1);
  if (with_signals) {
    struct sigaction act = {.sa_handler = on_signal, .sa_flags = seed & 1 ? SA_RESTART : 0};
    sigaction(SIGALRM, &act, NULL);
    struct itimerval every = {{0, 1700}, {0, 1700}};
    setitimer(ITIMER_REAL, &every, NULL);
  }
  deadline = now() + seconds;
  if (is_server) {
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 16)) fail(4, "listen");
    puts("listening");
    fflush(stdout);
    for (;;) {
      int fd;
      while ((fd = accept(listener, NULL, NULL)) < 0 && errno == EINTR) {}
      if (fd < 0) fail(4, "accept");
      char byte;
      ssize_t n = 1;
      if (budget && below(&random, 2)) while ((n = recv(fd, &byte, 1, MSG_PEEK)) < 0 && errno == EINTR) {}
      if (n == 0) break; /* an empty connection ends the run */
      uint64_t before = total_received;
      serve(fd, &random);
      if (!budget || total_received == before) break;
    }
    unlink(words[2]);
  } else {
    do {
      int fd = socket(AF_UNIX, SOCK_STREAM, 0);
      if (connect(fd, (struct sockaddr *)&at, sizeof at)) fail(4, "connect");
      serve(fd, &random);
    } while (budget && now() < deadline);
    if (budget) {
      int fd = socket(AF_UNIX, SOCK_STREAM, 0);
      if (connect(fd, (struct sockaddr *)&at, sizeof at)) fail(4, "connect");
      shutdown(fd, SHUT_WR);
      char scratch[4096];
      ssize_t n;
      while ((n = recv(fd, scratch, sizeof scratch, 0)) > 0 || (n < 0 && errno == EINTR)) {
        if (n > 0) total_received += (uint64_t)n;
      }
      close(fd);
    }
  }
  printf("sent=%llu received=%llu connections=%llu\n", (unsigned long long)total_sent,
         (unsigned long long)total_received, (unsigned long long)connections);
  return 0;
}
