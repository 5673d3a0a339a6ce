/* What the spawner's files share. One thread; nothing is allocated after the start: tables of fixed size, whose pages are touched only
 * when they are used. */
#ifndef KVS_SPAWNER_H
#define KVS_SPAWNER_H

#include "wire.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* What is to be told of a child; a controller that does not read finds it all when it does. */
enum { NEWS_LISTED = 1, NEWS_STARTED = 2, NEWS_ENDED = 4 };

struct child {
  struct kvs_record record; /* what is sent; flags 0: a free place */
  int pipe;                 /* says whether exec succeeded; -1 from then on */
  uint32_t news;
};

/* Watched descriptors: what, and which. */
enum { ON_SIGNAL, ON_LISTENER, ON_CONTROL, ON_PIPE };

enum phase { RUNNING, ASKED, TERMINATED, KILLED };

struct spawner {
  int epoll, null, listener, control; /* control: the controller's connection, or -1 */
  pid_t pid;
  enum phase phase;
  int ended_by;         /* signal that asked for the end; 0: the controller did */
  int64_t deadline;     /* of the phase, in ms; 0: none */
  uint64_t signals;     /* bit n: signal n + 1 has come, and the controller has not been told */
  int alone;            /* no child is left */
  int more_to_reap;
  uint32_t children_used; /* places of the table that were ever in use */
  struct rlimit files;    /* the limit that children get; the spawner's own is higher */
  sigset_t no_signals;
};
extern struct spawner spawner;
extern struct child children[KVS_CHILDREN_MAX];

#define say(...) dprintf(2, "kvoshim-spawner: " __VA_ARGS__)

/* main.c */
int64_t clock_ns(clockid_t clock);
#define now_ms() (clock_ns(CLOCK_MONOTONIC) / 1000000)
void watch(int fd, int operation, uint32_t events, int what, uint32_t which);
void finish(int status);
int is_daemon(pid_t pid, int status);
/* children.c */
struct child *child_of(uint64_t token);
uint64_t start_time(pid_t pid);
int spawn(const struct kvs_spawn *order, uint32_t size, int *fds, uint32_t *step);
void started(struct child *child);
int reap(void);
void signal_everyone(int signo);
/* control.c */
int listen_at(const char *path);
void greet(void);
void talk(void);
void tell_stranger(pid_t pid, int status);
void tell_stop(void);
int send_signal(const struct child *child, int signo, int whole_group);
uint32_t time_left(void);

#endif
