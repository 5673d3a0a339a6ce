/* A signal handler that reads and writes on the very connection that it interrupts, from its first byte on, and opens and closes
 * others: on many connections, each with a parent that counts. Prints what came of it; ends with 0 if every byte is there. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CONNECTIONS = 200, MESSAGES = 400 };

static volatile sig_atomic_t current = -1;
static volatile int from_handler;
static struct sockaddr_un address = {.sun_family = AF_UNIX};

static void on_alarm(int signal) {
  int saved = errno, fd = current;
  (void)signal;
  if (fd >= 0 && send(fd, "h", 1, MSG_NOSIGNAL) == 1) from_handler++;
  int other = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
  if (other >= 0) {
    connect(other, (struct sockaddr *)&address, sizeof address); /* taken or not: nobody answers it */
    close(other);
  }
  errno = saved;
}

static void must(int good, const char *what) {
  if (good) return;
  perror(what);
  _exit(1);
}

static void serve(int listener) {
  char buffer[4096];
  for (int done = 0; done < CONNECTIONS;) {
    int fd = accept(listener, NULL, NULL);
    must(fd >= 0, "accept");
    unsigned messages = 0, extra = 0, told[2];
    int ended = 0;
    ssize_t n;
    while (!ended && (n = recv(fd, buffer, sizeof buffer, 0)) > 0) {
      ended = buffer[n - 1] == 'e'; /* nothing comes behind it */
      n -= ended;
      for (ssize_t i = 0; i < n; i++)
        buffer[i] == 'm' ? messages++ : extra++;
      if (!ended && messages % 4 == 0) send(fd, "a", 1, MSG_NOSIGNAL);
    }
    must(n >= 0 || errno == ECONNRESET, "recv");
    if (!ended) { /* a handler's */
      must(!messages, "a connection without its end");
      close(fd);
      continue;
    }
    told[0] = messages;
    told[1] = extra;
    must(send(fd, told, sizeof told, 0) == sizeof told, "send");
    close(fd);
    done++;
  }
}

static void client(void) {
  struct itimerval often = {{0, 300}, {0, 300}}, never = {{0, 0}, {0, 0}};
  char buffer[4096];
  for (int i = 0; i < CONNECTIONS; i++) {
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    from_handler = 0;
    must(connect(fd, (struct sockaddr *)&address, sizeof address) == 0, "connect");
    current = fd;
    setitimer(ITIMER_REAL, &often, NULL);
    for (int m = 0; m < MESSAGES; m++) {
      ssize_t n;
      while ((n = send(fd, "m", 1, 0)) < 0 && errno == EINTR) {}
      must(n == 1, "send");
      while (recv(fd, buffer, sizeof buffer, MSG_DONTWAIT) > 0) {}
    }
    setitimer(ITIMER_REAL, &never, NULL);
    current = -1;
    must(send(fd, "e", 1, 0) == 1, "end");
    unsigned told[2];
    size_t got = 0;
    while (got < sizeof told) {
      ssize_t n = recv(fd, buffer, 1, 0);
      must(n == 1, "account");
      if (got == 0 && buffer[0] == 'a') continue;
      ((char *)told)[got++] = buffer[0];
    }
    if (told[0] != MESSAGES || told[1] != (unsigned)from_handler) {
      printf("connection %d: %u messages of %d, %u of the handler's %d\n", i, told[0], MESSAGES, told[1], from_handler);
      exit(1);
    }
    close(fd);
  }
}

int main(int argc, char **argv) {
  must(argc == 2, "usage: handler PATH");
  strncpy(address.sun_path, argv[1], sizeof address.sun_path - 1);
  int listener = socket(AF_UNIX, SOCK_STREAM, 0), status;
  must(bind(listener, (struct sockaddr *)&address, sizeof address) == 0 && listen(listener, 128) == 0, "listen");
  pid_t server = fork();
  if (server == 0) {
    serve(listener);
    _exit(0);
  }
  close(listener);
  signal(SIGALRM, on_alarm);
  client();
  must(waitpid(server, &status, 0) == server && status == 0, "server");
  puts("every byte");
  return 0;
}
