/* The end of a connection whose peer may write anything into their segment: `victim PATH SEED ROUNDS` serves ROUNDS
 * connections, each beside an innocent one, whose bytes must stay what they are. hostile.c is the peer.
 *
 * A round: an innocent and a hostile connection are accepted and warmed up; then the victim reads, writes, waits and asks
 * in a random order, and closes. On the hostile one any bytes may come and any call may fail with ECONNRESET, EPIPE or
 * EAGAIN; nothing else. Ends with status 0 and the counts of what was seen; 3: a wrong errno or an innocent byte was
 * wrong; SIGABRT: a round took longer than its watchdog (ROUND_SECONDS) allows. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

enum { MOST = 9000, CALLS = 12, START = 0, OVER = 0xffff };
static uint64_t state;
static unsigned round_number, step;
static char stays; /* the peer's first byte: 's' if it stays until the round is over */
static unsigned long resets, pipes, ends, received, empty;

static uint64_t below(uint64_t n) {
  uint64_t z = state += 0x9E3779B97F4A7C15u;
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
  z = (z ^ z >> 27) * 0x94D049BB133111EBu;
  return (z ^ z >> 31) % n;
}

static void stop(int code, const char *what) {
  fprintf(stderr, "victim: round %u, call %u: %s: %s\n", round_number, step, what, strerror(errno));
  _exit(code);
}

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
enum { ROUND_SECONDS = 80 }; /* all is many times slower */
#else
enum { ROUND_SECONDS = 20 };
#endif

static void on_alarm(int number) {
  static const char text[] = "victim: the watchdog ends a round that does not end\n";
  (void)number;
  (void)!write(2, text, sizeof text - 1);
  abort();
}

/* What a call on the hostile connection may say. */
static long allowed(long r, const char *call) {
  if (r >= 0) return r;
  if (errno == ECONNRESET) resets++;
  else if (errno == EPIPE) pipes++;
  else if (errno == EAGAIN) empty++;
  else if (errno != EINTR) stop(3, call);
  return r;
}

static void innocent_turn(int fd) {
  unsigned char out[600], in[600];
  size_t n = 1 + (size_t)below(sizeof out);
  for (size_t i = 0; i < n; i++) out[i] = (unsigned char)(i * 7 + round_number + step);
  uint16_t head = (uint16_t)n;
  if (send(fd, &head, 2, MSG_NOSIGNAL) != 2 || send(fd, out, n, MSG_NOSIGNAL) != (ssize_t)n) stop(3, "innocent send");
  if (recv(fd, in, n, MSG_WAITALL) != (ssize_t)n) stop(3, "innocent receive");
  if (memcmp(in, out, n)) stop(3, "innocent bytes");
}

static void tell(int fd, uint16_t what) {
  char byte;
  if (send(fd, &what, 2, MSG_NOSIGNAL) != 2 || recv(fd, &byte, 1, 0) != 1) stop(3, "innocent answer");
}

static void hostile_call(int fd, int epfd) {
  unsigned char *bytes = malloc(MOST);
  memset(bytes, 0x5a, MOST);
  size_t n = 1 + (size_t)below(MOST), half = n / 2;
  struct iovec v[2] = {{bytes, half}, {bytes + half, n - half}};
  char control[256];
  struct msghdr m = {.msg_iov = v, .msg_iovlen = 2};
  struct pollfd p = {fd, (short)(POLLIN | (below(2) ? POLLOUT : 0) | (below(2) ? POLLRDHUP : 0)), 0};
  struct epoll_event event[4] = {{.events = EPOLLIN | (below(2) ? EPOLLOUT : 0) | (below(2) ? EPOLLET : 0)}};
  struct timeval span = {0, 2000};
  fd_set set;
  int number;
  long r = 1;
  switch (below(14)) {
    case 0: r = allowed(recv(fd, bytes, n, 0), "recv"); break; /* blocking: SO_RCVTIMEO is set */
    case 1: r = allowed(recv(fd, bytes, n, MSG_DONTWAIT), "recv without waiting"); break;
    case 2: r = allowed(recv(fd, bytes, n, MSG_PEEK | MSG_DONTWAIT), "peek"); break;
    case 3: r = allowed(recv(fd, bytes, n, MSG_WAITALL), "recv all"); break;
    case 4: r = allowed(readv(fd, v, 2), "readv"); break;
    case 5:
      m.msg_control = control, m.msg_controllen = sizeof control;
      r = allowed(recvmsg(fd, &m, (below(2) ? MSG_DONTWAIT : 0) | (below(2) ? MSG_PEEK : 0)), "recvmsg");
      if (r > 0)
        for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c))
          if (c->cmsg_type == SCM_RIGHTS)
            for (size_t i = 0; i < (c->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++) close(((int *)CMSG_DATA(c))[i]);
      break;
    case 6: allowed(send(fd, bytes, n, MSG_NOSIGNAL), "send"); break;
    case 7: allowed(send(fd, bytes, n, MSG_NOSIGNAL | MSG_DONTWAIT), "send without waiting"); break;
    case 8: allowed(writev(fd, v, 2), "writev"); break;
    case 9: allowed(poll(&p, 1, 2), "poll"); break;
    case 10:
      FD_ZERO(&set);
      FD_SET(fd, &set);
      allowed(select(fd + 1, &set, NULL, NULL, &span), "select");
      break;
    case 11:
      event[0].data.fd = fd;
      if (epoll_ctl(epfd, EPOLL_CTL_MOD, fd, event)) stop(3, "epoll_ctl");
      /* fall through */
    case 12: allowed(epoll_wait(epfd, event, 4, 2), "epoll_wait"); break;
    default:
      allowed(ioctl(fd, FIONREAD, &number), "FIONREAD");
      allowed(ioctl(fd, TIOCOUTQ, &number), "TIOCOUTQ");
      /* After SHUT_RD a send does not heed SO_SNDTIMEO yet: only where the peer ends. */
      if (!below(4)) shutdown(fd, below(2) || stays == 's' ? SHUT_WR : SHUT_RD);
  }
  if (r > 0) received += (unsigned long)r;
  if (r == 0) ends++;
  free(bytes);
}

static int accepted(int listener) {
  char byte;
  int fd = accept(listener, NULL, NULL);
  if (fd < 0) stop(3, "accept");
  for (int i = 0; i < 3; i++)
    if (recv(fd, &byte, 1, 0) != 1 || send(fd, &byte, 1, MSG_NOSIGNAL) != 1) stop(3, "warm-up");
  stays = byte;
  return fd;
}

int main(int count, char **words) {
  if (count < 4) return 2;
  struct sockaddr_un at = {.sun_family = AF_UNIX};
  strncpy(at.sun_path, words[1], sizeof at.sun_path - 1);
  state = strtoull(words[2], NULL, 10);
  unsigned rounds = (unsigned)atoi(words[3]);
  signal(SIGALRM, on_alarm);
  signal(SIGPIPE, SIG_IGN);
  int listener = socket(AF_UNIX, SOCK_STREAM, 0);
  if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 4)) stop(2, "listen");
  puts("listening");
  fflush(stdout);
  int innocent = accepted(listener);
  for (round_number = 0; round_number < rounds; round_number++) {
    alarm(ROUND_SECONDS);
    int fd = accepted(listener);
    struct timeval limit = {0, 3000};
    if (below(4) || stays == 's') { /* else a blocking call waits for the peer, which soon ends */
      setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
      setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    }
    if (!below(3)) fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK);
    int epfd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN | (below(2) ? EPOLLET : 0), .data.fd = fd};
    if (epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event)) stop(3, "epoll_ctl ADD");
    tell(innocent, START);
    for (step = 0; step < CALLS; step++) {
      hostile_call(fd, epfd);
      if (step % 4 == 3) innocent_turn(innocent);
    }
    close(epfd);
    close(fd);
    innocent_turn(innocent);
    tell(innocent, OVER);
  }
  alarm(0);
  printf("rounds=%u resets=%lu pipes=%lu ends=%lu received=%lu empty=%lu\n", rounds, resets, pipes, ends, received, empty);
  return 0;
}
