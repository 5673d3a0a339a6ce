/* A program with a bug, on accelerated connections: `planted race` receives into one buffer from two threads and `planted
 * overflow` more than its buffer holds, which only the shim's memory accesses show; `planted leak` forgets memory and `planted
 * undefined` overflows a number. */
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { BYTES = 64 };
static int listener, ends[2][2];
static struct sockaddr_un at = {.sun_family = AF_UNIX, .sun_path = "\0kvoshim-planted"};
static char shared[BYTES];

static void move(int from, int to) {
  char bytes[BYTES] = {0};
  if (write(from, bytes, BYTES) != BYTES || read(to, bytes, BYTES) != BYTES) _exit(2);
}

static void connected(int *pair) {
  pair[0] = socket(AF_UNIX, SOCK_STREAM, 0);
  if (connect(pair[0], (struct sockaddr *)&at, sizeof at) || (pair[1] = accept(listener, NULL, NULL)) < 0) _exit(2);
  for (int i = 0; i < 4; i++) move(pair[0], pair[1]), move(pair[1], pair[0]);
}

static void *receiver(void *pair) {
  return recv(((int *)pair)[1], shared, BYTES, 0) == BYTES ? NULL : pair;
}

static int race(void) {
  pthread_t threads[2];
  for (int i = 0; i < 2; i++) pthread_create(&threads[i], NULL, receiver, ends[i]);
  for (int i = 0; i < 2; i++) (void)!send(ends[i][0], shared, BYTES, 0);
  for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
  return 0;
}

static int overflow(void) {
  char *small = malloc(8);
  if (send(ends[0][0], shared, BYTES, 0) != BYTES) return 2;
  return recv(ends[0][1], small, BYTES, 0) != BYTES;
}

static int leak(void) {
  static char *volatile forgotten;
  forgotten = malloc(8);
  forgotten = NULL;
  return 0;
}

int main(int count, char **words) {
  listener = socket(AF_UNIX, SOCK_STREAM, 0);
  if (count < 2 || bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 2)) return 2;
  connected(ends[0]), connected(ends[1]);
  if (!strcmp(words[1], "race")) return race();
  if (!strcmp(words[1], "overflow")) return overflow();
  if (!strcmp(words[1], "leak")) return leak();
  volatile int number = INT_MAX;
  number += count;
  return 0;
}
