/* cancelled PATH SCENE client|server: a thread, "victim", uses a connection until it is cancelled (cancel.c) or has finished.
 * After that the others go on: another thread takes the victim's end over, all that was sent before gets through, an epoll set
 * tells of it, it closes, and new connections can be made. Says which of both has come, and when all is closed it leaves a copy of
 * its statistics where STATISTICS names a file. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { ROUNDS = 6, MUCH = 40000 };
enum { PLAIN = 'x', ASK = 'q', GIVE = 'g', RIGHTS = 'r', LAST = 0xFF }; /* what a byte asks the peer for */

static struct sockaddr_un address = {.sun_family = AF_UNIX};
static int listener, mine, theirs, set = -1, other[2];

#define TRY(call) ({ long r_ = (long)(call); if (r_ < 0) printf("FAILED %s: %s\n", #call, strerror(errno)), exit(1); r_; })

static int connected(void) {
  int fd = mine = (int)TRY(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  TRY(connect(fd, (struct sockaddr *)&address, sizeof address));
  return fd;
}

/* One byte, with a descriptor if it is RIGHTS. */
static void put(int fd, int byte) {
  char c = (char)byte;
  union { struct cmsghdr header; char room[CMSG_SPACE(sizeof(int))]; } control = {0};
  struct iovec v = {&c, 1};
  struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
  if (byte == RIGHTS) {
    m.msg_control = &control, m.msg_controllen = sizeof control;
    control.header = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
    memcpy(CMSG_DATA(&control.header), &other[0], sizeof(int));
  }
  if (sendmsg(fd, &m, MSG_NOSIGNAL) < 0 && errno != EPIPE) TRY(-1);
}

static ssize_t get(int fd, void *buffer, size_t n, int flags) {
  union { struct cmsghdr header; char room[CMSG_SPACE(8 * sizeof(int))]; } control;
  struct iovec v = {buffer, n};
  struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  ssize_t r = recvmsg(fd, &m, flags);
  struct cmsghdr *part = r > 0 ? CMSG_FIRSTHDR(&m) : NULL;
  if (part && part->cmsg_type == SCM_RIGHTS)
    for (size_t i = 0; i < (part->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++) close(((int *)CMSG_DATA(part))[i]);
  return r;
}

/* The peer's side of one connection, until the last byte or its end. True: it was the last byte. */
static int serve(int fd) {
  static char much[MUCH];
  unsigned char buffer[512];
  ssize_t n;
  memset(much, PLAIN, sizeof much);
  while ((n = get(fd, buffer, sizeof buffer, 0)) > 0)
    for (ssize_t i = 0; i < n; i++) {
      if (buffer[i] == GIVE) TRY(send(fd, much, sizeof much, MSG_NOSIGNAL));
      else if (buffer[i] != PLAIN) put(fd, buffer[i]);
      if (buffer[i] == LAST) return 1;
    }
  if (n < 0 && errno != ECONNRESET) TRY(n);
  return 0;
}

static void *peer(void *fd) {
  if (fd) return serve(*(int *)fd), NULL;
  for (int last = 0; !last; close(theirs)) last = serve(theirs = (int)TRY(accept4(listener, NULL, NULL, SOCK_CLOEXEC)));
  return NULL;
}

/* ---- what the victim does ---- */

static char buffer[MUCH];

static void answer(int fd, size_t n) {
  while (n) n -= (size_t)TRY(get(fd, buffer, n, 0));
}

static void s_stream(void) {
  for (int i = 0; i < ROUNDS; i++) {
    put(mine, ASK), answer(mine, 1);
    memset(buffer, PLAIN, sizeof buffer);
    for (size_t n = 0; n < sizeof buffer;) n += (size_t)TRY(send(mine, buffer + n, sizeof buffer - n, MSG_NOSIGNAL));
    put(mine, GIVE), answer(mine, MUCH);
  }
}

static void s_rights(void) {
  put(mine, ASK), answer(mine, 1);
  put(mine, ASK), answer(mine, 1);
  for (int i = 0; i < ROUNDS; i++) put(mine, RIGHTS), answer(mine, 1);
}

static void s_poll(void) {
  struct pollfd both[2] = {{mine, 0, 0}, {other[0], POLLIN, 0}};
  TRY(fcntl(mine, F_SETFL, O_NONBLOCK));
  for (int i = 0; i < ROUNDS; i++) {
    memset(buffer, PLAIN, sizeof buffer);
    buffer[MUCH - 1] = GIVE;
    for (size_t out = 0, in = 0; in < MUCH;) {
      both[0].events = out < MUCH ? POLLIN | POLLOUT : POLLIN;
      TRY(poll(both, 2, -1));
      ssize_t n = out < MUCH ? send(mine, buffer + out, MUCH - out, MSG_NOSIGNAL) : 0;
      if (n > 0) out += (size_t)n;
      static char given[MUCH];
      if ((n = get(mine, given, MUCH - in, 0)) > 0) in += (size_t)n;
    }
  }
}

static void s_epoll(void) {
  struct epoll_event e = {EPOLLIN, {.fd = mine}}, many[4];
  TRY(fcntl(mine, F_SETFL, O_NONBLOCK));
  TRY(epoll_ctl(set, EPOLL_CTL_ADD, mine, &e));
  e.data.fd = other[0];
  TRY(epoll_ctl(set, EPOLL_CTL_ADD, other[0], &e));
  for (int i = 0; i < 4 * ROUNDS; i++) {
    put(mine, ASK);
    TRY(epoll_wait(set, many, 4, 0));
    TRY(epoll_wait(set, many, 4, -1));
    while (get(mine, buffer, 1, 0) < 0) TRY(epoll_wait(set, many, 4, -1));
  }
  TRY(epoll_ctl(set, EPOLL_CTL_DEL, mine, NULL));
}

static void s_back(void) { /* the connection goes back to the kernel socket with much on its way */
  put(mine, ASK), answer(mine, 1);
  put(mine, GIVE), answer(mine, MUCH / 2);
  TRY(fcntl(mine, F_SETFL, O_ASYNC));
  answer(mine, MUCH / 2);
  for (int i = 0; i < ROUNDS; i++) put(mine, ASK), answer(mine, 1);
}

static void s_connect(void) {
  for (int i = 0; i < ROUNDS; i++) {
    connected();
    put(mine, ASK), answer(mine, 1);
    put(mine, ASK), answer(mine, 1);
    close(mine); /* which acts on a cancellation before it does anything, or not at all */
    mine = -1;
  }
}

static const struct { const char *name; void (*play)(void); } scenes[] = {
    {"stream", s_stream}, {"rights", s_rights}, {"poll", s_poll}, {"epoll", s_epoll}, {"back", s_back}, {"connect", s_connect},
};

static void *victim(void *play) {
  pthread_setname_np(pthread_self(), "victim");
  ((void (*)(void))play)();
  return NULL;
}

/* ---- and then ---- */

/* Another thread at the victim's end: reads all that was under way, until the answer to its own last byte comes. */
static void take_over(int fd) {
  static unsigned char rest[MUCH];
  int asked = 0;
  TRY(fcntl(fd, F_SETFL, O_NONBLOCK));
  for (int done = 0; !done;) {
    struct pollfd p = {fd, POLLIN | (asked ? 0 : POLLOUT), 0};
    TRY(poll(&p, 1, -1));
    if (p.revents & POLLOUT) asked = send(fd, &(char){(char)LAST}, 1, MSG_NOSIGNAL) == 1;
    for (ssize_t n; !done && (n = get(fd, rest, sizeof rest, 0)) > 0;) done = memchr(rest, LAST, (size_t)n) != NULL;
  }
}

static void tells_of(int fd) {
  struct epoll_event e = {EPOLLIN | EPOLLOUT | EPOLLET, {.fd = fd}};
  if (epoll_ctl(set, EPOLL_CTL_ADD, fd, &e)) TRY(epoll_ctl(set, EPOLL_CTL_MOD, fd, &e));
  do TRY(epoll_wait(set, &e, 1, -1));
  while (e.data.fd != fd);
  TRY(epoll_ctl(set, EPOLL_CTL_DEL, fd, NULL));
}

static void keep_statistics(void) {
  char mine_is[32], from[300];
  DIR *directory = opendir("/dev/shm");
  snprintf(mine_is, sizeof mine_is, "-%d-", (int)getpid());
  for (struct dirent *e; directory && (e = readdir(directory));) {
    if (strncmp(e->d_name, "kvoshim-stats-", 14) || !strstr(e->d_name, mine_is)) continue;
    snprintf(from, sizeof from, "/dev/shm/%s", e->d_name);
    int in = (int)TRY(open(from, O_RDONLY)), out = (int)TRY(open(getenv("STATISTICS"), O_WRONLY | O_CREAT | O_TRUNC, 0600));
    for (ssize_t n; (n = TRY(read(in, buffer, sizeof buffer))) > 0;) TRY(write(out, buffer, (size_t)n));
    close(in), close(out);
  }
  closedir(directory);
}

int main(int argc, char **argv) {
  pthread_t one, two;
  void *end;
  int alone = 0;
  if (argc != 4) return 2;
  alarm(20);
  signal(SIGIO, SIG_IGN);
  setvbuf(stdout, NULL, _IOLBF, 0);
  strcpy(address.sun_path, argv[1]);
  TRY(listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  TRY(bind(listener, (struct sockaddr *)&address, sizeof address));
  TRY(listen(listener, 8));
  TRY(pipe(other));
  TRY(set = epoll_create1(EPOLL_CLOEXEC));
  alone = !strcmp(argv[2], "connect");
  if (!alone) {
    connected();
    TRY(theirs = accept4(listener, NULL, NULL, SOCK_CLOEXEC));
    if (!strcmp(argv[3], "server")) {
      int fd = mine;
      mine = theirs, theirs = fd;
    }
  }
  pthread_create(&two, NULL, peer, alone ? NULL : &theirs);
  for (size_t i = 0; i < sizeof scenes / sizeof *scenes; i++)
    if (!strcmp(scenes[i].name, argv[2])) pthread_create(&one, NULL, victim, (void *)scenes[i].play);
  pthread_join(one, &end);
  if (alone) { /* the connection that it has left, and the next */
    if (mine >= 0) close(mine);
    connected();
  }
  take_over(mine);
  pthread_join(two, NULL);
  tells_of(mine);
  close(mine);
  if (!alone) close(theirs);
  close(set);
  keep_statistics();
  puts(end == PTHREAD_CANCELED ? "cancelled" : "finished");
  return 0;
}
