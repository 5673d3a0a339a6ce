/* One thread is in the midst of something that takes a while (fault.c: SLOW), another does something to the same connection.
 * Both ends are here. Prints what came of it.
 *
 * usage: meanwhile PATH SCENE */
#include <dirent.h>
#include <err.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define TRY(call) ({ long r_ = (long)(call); if (r_ < 0) err(1, "line %d: %s", __LINE__, #call); r_; })

static int server, client;

/* Until the other thread is there. */
static void wait_for_the_slow_call(void) {
  while (access(getenv("KVO_FAULT_HITS"), F_OK)) usleep(1000);
}

static void *looks(void *fd) {
  char byte;
  recv(*(int *)fd, &byte, 1, MSG_DONTWAIT);
  return NULL;
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
  return 0;
}
