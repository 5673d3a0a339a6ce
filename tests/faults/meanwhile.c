/* One thread is in the midst of something that takes a while (fault.c: SLOW), another does something to the same connection.
 * (s_forked: a process.) Both ends are here. Prints what came of it.
 *
 * usage: meanwhile PATH SCENE */
#include <dirent.h>
#include <err.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define TRY(call) ({ long r_ = (long)(call); if (r_ < 0) err(1, "line %d: %s", __LINE__, #call); r_; })

static int server, client, passed;

/* Until the other thread is there. */
static void wait_for_the_slow_call(void) {
  while (access(getenv("KVO_FAULT_HITS"), F_OK)) usleep(1000);
}

static void *looks(void *fd) {
  char byte;
  recv(*(int *)fd, &byte, 1, MSG_DONTWAIT);
  return NULL;
}

static void *passes(void *unused) {
  char byte = 7, control[CMSG_SPACE(sizeof(int))] = {0};
  struct iovec v = {&byte, 1};
  struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  struct cmsghdr *c = CMSG_FIRSTHDR(&m);
  c->cmsg_level = SOL_SOCKET, c->cmsg_type = SCM_RIGHTS, c->cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(c), &passed, sizeof(int));
  TRY(sendmsg(client, &m, 0));
  return unused;
}

static void exchange(int a, int b) {
  char byte = 0;
  TRY(send(a, &byte, 1, 0));
  TRY(recv(b, &byte, 1, 0));
}

static void kept_memfds(void) {
  char target[64];
  int found = 0;
  DIR *directory = opendir("/proc/self/fd");
  for (struct dirent *e; (e = readdir(directory));) {
    ssize_t n = readlinkat(dirfd(directory), e->d_name, target, sizeof target);
    found += n > 7 && !memcmp(target, "/memfd:", 7);
  }
  closedir(directory);
  printf("%d memfds are left\n", found);
}

static void s_offering(void) {
  pthread_t thread;
  pthread_create(&thread, NULL, looks, &server);
  wait_for_the_slow_call();
  TRY(close(server));
  pthread_join(thread, NULL);
  TRY(close(client));
  kept_memfds();
}

static void s_passing(void) {
  pthread_t thread;
  char byte, control[CMSG_SPACE(sizeof(int))];
  struct iovec v = {&byte, 1};
  struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  for (int i = 0; i < 10; i++) exchange(client, server), exchange(server, client);
  passed = TRY(open("/dev/null", O_RDONLY));
  pthread_create(&thread, NULL, passes, NULL);
  wait_for_the_slow_call();
  TRY(fcntl(server, F_SETFL, O_ASYNC));
  TRY(recvmsg(server, &m, 0));
  pthread_join(thread, NULL);
  struct cmsghdr *c = CMSG_FIRSTHDR(&m);
  printf("byte %d %s descriptor\n", byte, c && c->cmsg_type == SCM_RIGHTS ? "with its" : "without its");
}

static void *receives(void *bytes) {
  char byte;
  for (int i = 0; i < *(int *)bytes; i++) TRY(recv(server, &byte, 1, 0));
  return NULL;
}

/* A child has waited once on a set of its own, and does something else. */
static void s_forked(void) {
  pthread_t thread;
  int ready[2], bytes = 50;
  char byte;
  for (int i = 0; i < 10; i++) exchange(client, server), exchange(server, client);
  TRY(pipe(ready));
  pid_t child = TRY(fork());
  if (child == 0) {
    struct epoll_event event = {EPOLLIN, {.fd = server}};
    int set = TRY(epoll_create1(0));
    TRY(epoll_ctl(set, EPOLL_CTL_ADD, server, &event));
    TRY(epoll_wait(set, &event, 1, 20));
    TRY(write(ready[1], "", 1));
    while (1) pause();
  }
  TRY(read(ready[0], &byte, 1));
  exchange(client, server);
  pthread_create(&thread, NULL, receives, &bytes);
  for (int i = 0; i < bytes; i++) usleep(5000), TRY(send(client, "", 1, 0));
  pthread_join(thread, NULL);
  kill(child, SIGKILL);
  TRY(close(client)), TRY(close(server));
}

int main(int argc, char **argv) {
  struct sockaddr_un at = {.sun_family = AF_UNIX};
  int listener = TRY(socket(AF_UNIX, SOCK_STREAM, 0));
  if (argc != 3) return 2;
  snprintf(at.sun_path, sizeof at.sun_path, "%s", argv[1]);
  TRY(bind(listener, (struct sockaddr *)&at, sizeof at));
  TRY(listen(listener, 1));
  client = TRY(socket(AF_UNIX, SOCK_STREAM, 0));
  TRY(connect(client, (struct sockaddr *)&at, sizeof at));
  server = TRY(accept(listener, NULL, NULL));
  if (!strcmp(argv[2], "offering")) s_offering();
  if (!strcmp(argv[2], "forked")) s_forked();
  if (!strcmp(argv[2], "passing")) s_passing();
  return 0;
}
