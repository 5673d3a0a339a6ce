/* The controller's socket: orders in, news out, and the descriptors that are kept for it. */
#include "spawner.h"

struct held { int fd; uint16_t length; char name[KVS_NAME_MAX]; };
static struct held held[KVS_HELD_MAX]; /* length 0: a free place */
static uint32_t held_used;

static _Alignas(4096) char message[KVS_MESSAGE_MAX];
static union { struct kvs_header h; char bytes[sizeof(struct kvs_header) + KVS_NAME_MAX]; } named;

static uint32_t listing; /* serial of the LIST that is being answered, and how far it has come */
static int64_t list_at = -1;
static int stop_untold, blocked;
static uint32_t watched; /* what epoll looks for on the controller's connection */

/* Ours alone: the lock ends with this process, however it ends. Returns an exit code (docs/services-spawner.md). */
int listen_at(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  struct stat facts;
  if (strlen(path) > 100) return say("the socket's path has more than 100 bytes: %s\n", path), 2;
  strcat(strcpy(address.sun_path, path), ".lock");
  int lock = open(address.sun_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (lock < 0) return say("cannot make %s: %m\n", address.sun_path), 8;
  if (flock(lock, LOCK_EX | LOCK_NB) < 0) return say("another one runs here: %s is locked\n", address.sun_path), 3;
  strcpy(address.sun_path, path);
  if (lstat(path, &facts) == 0 && S_ISSOCK(facts.st_mode)) unlink(path);
  mode_t mask = umask(0177);
  spawner.listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (spawner.listener < 0 || bind(spawner.listener, (void *)&address, sizeof address) < 0 || listen(spawner.listener, 16) < 0)
    return say("cannot listen at %s: %m\n", path), 8;
  umask(mask);
  return 0;
}

static void lose_controller(void) {
  watch(spawner.control, EPOLL_CTL_DEL, 0, 0, 0); /* a child that is about to exec has it too */
  close(spawner.control);
  spawner.control = -1;
  watch(spawner.listener, EPOLL_CTL_MOD, EPOLLIN, ON_LISTENER, 0);
}

/* 1: sent. 0: no room now, or nobody there any more. */
static int send_message(void *packet, uint16_t type, uint32_t size, uint32_t serial, int fd) {
  struct kvs_header *h = packet;
  union { struct cmsghdr head; char bytes[CMSG_SPACE(sizeof(int))]; } extra = {.head = {CMSG_LEN(sizeof fd), SOL_SOCKET, SCM_RIGHTS}};
  struct iovec part = {packet, size};
  struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1};
  if (spawner.control < 0) return 0;
  *h = (struct kvs_header){KVS_MAGIC, type, fd >= 0, size, serial};
  memcpy(CMSG_DATA(&extra.head), &fd, sizeof fd);
  if (fd >= 0) m.msg_control = &extra, m.msg_controllen = sizeof extra;
  if (sendmsg(spawner.control, &m, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) return 1;
  if (errno == EAGAIN) blocked = 1;
  else lose_controller();
  return 0;
}

static void refuse(const struct kvs_header *request, uint64_t token, int error, uint32_t step) {
  struct kvs_refused m = {.token = token, .error = error, .step = step};
  send_message(&m, KVS_REFUSED, sizeof m, request->serial, -1);
}

static void done(const struct kvs_header *request) { send_message(&named, KVS_DONE, sizeof named.h, request->serial, -1); }

static int tell_name(uint16_t type, uint32_t serial, const struct held *one, int fd) {
  memcpy(named.bytes + sizeof named.h, one->name, one->length);
  return send_message(&named, type, sizeof named.h + one->length, serial, fd);
}

void tell_stop(void) { stop_untold = 1; }

void tell_stranger(pid_t pid, int status) {
  struct kvs_stranger m = {.pid = pid, .status = status};
  if (!blocked) send_message(&m, KVS_STRANGER, sizeof m, 0, -1); /* for information only: not kept */
}

/* Tells all news; what does not fit stays news. */
static void tell(void) {
  blocked = 0;
  if (stop_untold) {
    struct kvs_stop m = {.signo = spawner.ended_by, .within_ms = time_left()};
    if (send_message(&m, KVS_STOP, sizeof m, 0, -1)) stop_untold = 0;
  }
  for (int signo = 1; spawner.signals && !blocked && spawner.control >= 0; signo++) {
    struct kvs_signalled m = {.signo = signo};
    uint64_t bit = 1ull << (signo - 1);
    if ((spawner.signals & bit) && send_message(&m, KVS_SIGNALLED, sizeof m, 0, -1)) spawner.signals &= ~bit;
  }
  for (uint32_t i = 0; i < spawner.children_used && !blocked && spawner.control >= 0; i++) {
    struct child *c = &children[i];
    int failed = c->record.flags & KVS_NOT_STARTED;
    if ((c->news & NEWS_LISTED) && send_message(&c->record, KVS_CHILD, sizeof c->record, listing, -1)) c->news = 0;
    if (!(c->news & NEWS_LISTED) && (c->news & NEWS_STARTED) && send_message(&c->record, KVS_SPAWNED, sizeof c->record, 0, -1))
      c->news &= ~NEWS_STARTED;
    if (c->news == NEWS_ENDED && send_message(&c->record, failed ? KVS_FAILED : KVS_EXIT, sizeof c->record, 0, -1)) c->news = 0;
  }
  for (; list_at >= 0 && list_at < held_used && !blocked && spawner.control >= 0; list_at += !blocked)
    if (held[list_at].length) tell_name(KVS_HELD, listing, &held[list_at], -1);
  if (list_at >= held_used && !blocked && send_message(&named, KVS_END, sizeof named.h, listing, -1)) list_at = -1;
}

static void keep(const struct kvs_header *h, int *fds) {
  const char *name = (const char *)(h + 1);
  uint32_t length = h->size - sizeof *h, place = held_used;
  if (!length || length > KVS_NAME_MAX || memchr(name, 0, length) || h->fds != (h->type == KVS_HOLD))
    return refuse(h, 0, EBADMSG, KVS_AT_NAME);
  for (uint32_t i = 0; i < held_used; i++) {
    struct held *one = &held[i];
    if (!one->length && place == held_used) place = i;
    if (one->length != length || memcmp(one->name, name, length)) continue;
    if (h->type == KVS_HOLD) return refuse(h, 0, EEXIST, KVS_AT_NAME);
    if (h->type == KVS_FETCH) return (void)tell_name(KVS_FETCHED, h->serial, one, one->fd);
    one->length = 0, close(one->fd);
    return done(h);
  }
  if (h->type != KVS_HOLD || place == KVS_HELD_MAX || fds[0] + 64ul > spawner.files.rlim_max) /* the rest is for children */
    return refuse(h, 0, h->type == KVS_HOLD ? ENOSPC : ENOENT, KVS_AT_NAME);
  if (place == held_used) held_used++;
  held[place] = (struct held){.fd = fds[0], .length = length};
  memcpy(held[place].name, name, length);
  fds[0] = -1;
  done(h);
}

int send_signal(const struct child *child, int signo, int whole_group) {
  if (!child || (child->record.flags & KVS_ENDED)) return ESRCH; /* its number may be another's by now */
  if (signo < 0 || signo >= _NSIG || (whole_group && !(child->record.flags & (KVS_SESSION | KVS_GROUP)))) return EINVAL;
  /* Just forked, it has no group of its own yet. */
  return (whole_group && kill(-child->record.pid, signo) == 0) || kill(child->record.pid, signo) == 0 ? 0 : errno;
}

static void obey(const struct kvs_header *h, int *fds) {
  const struct kvs_signal *sig = (const void *)h;
  uint64_t token = h->size >= sizeof(struct kvs_ack) ? sig->token : 0; /* each one has it at the same place */
  uint32_t step = KVS_AT_MESSAGE;
  int error = EBADMSG;
  if (h->type == KVS_HOLD || h->type == KVS_FETCH || h->type == KVS_DROP) return keep(h, fds);
  if (h->type == KVS_SPAWN) {
    if (!(error = spawn((const void *)h, h->size, fds, &step))) return; /* answered when it is known */
  } else if (h->type == KVS_LIST && h->size == sizeof *h && !h->fds) {
    for (uint32_t i = 0; i < spawner.children_used; i++) children[i].news = children[i].record.flags ? NEWS_LISTED : 0;
    listing = h->serial;
    return (void)(list_at = 0);
  } else if (h->type == KVS_ACK && h->size == sizeof(struct kvs_ack) && !h->fds) {
    struct child *child = child_of(token);
    step = KVS_AT_TOKEN;
    error = !child ? ESRCH : child->record.flags & KVS_ENDED ? 0 : EBUSY;
    if (!error) memset(child, 0, sizeof *child);
  } else if (h->type == KVS_SIGNAL && h->size == sizeof *sig && !(sig->flags & ~(uint32_t)KVS_WHOLE_GROUP) && !h->fds) {
    step = KVS_AT_SIGNAL;
    error = send_signal(child_of(token), sig->signo, sig->flags != 0);
  } else if (h->type == KVS_FINISH && h->size == sizeof(struct kvs_finish) && !h->fds) {
    error = 0;
    finish(((const struct kvs_finish *)h)->status);
  }
  if (error) refuse(h, token, error, step);
  else done(h);
}

/* One request, taken and answered. 0: there is none. */
static int listen_to_one(void) {
  union { struct cmsghdr head; char bytes[CMSG_SPACE(KVS_FDS_MAX * sizeof(int))]; } extra;
  struct iovec part = {message, sizeof message};
  struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &extra, .msg_controllen = sizeof extra};
  struct kvs_header *h = (void *)message;
  int fds[KVS_FDS_MAX];
  size_t count = 0;
  ssize_t n = recvmsg(spawner.control, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (n <= 0) return n < 0 && errno == EAGAIN ? 0 : (lose_controller(), 0); /* the end; an empty packet looks the same */
  for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c))
    if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) /* the kernel makes one such part of all */
      memcpy(fds, CMSG_DATA(c), (count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int)) * sizeof(int));
  if (n < (ssize_t)sizeof *h) memset(h, 0, sizeof *h);
  if (m.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) refuse(h, 0, m.msg_flags & MSG_TRUNC ? EMSGSIZE : EMFILE, KVS_AT_MESSAGE);
  else if (h->magic != KVS_MAGIC || h->size != n || h->fds != count) refuse(h, 0, EBADMSG, KVS_AT_MESSAGE);
  else obey(h, fds);
  for (size_t i = 0; i < count; i++)
    if (fds[i] >= 0) close(fds[i]);
  if (n > 4096) madvise(message, sizeof message, MADV_DONTNEED); /* the next one is short again */
  return 1;
}

/* Tells what is to be told; then takes requests, as long as their answers are sure to find room. Called in each turn of the loop. */
void talk(void) {
  if (spawner.control >= 0) tell();
  for (int n = 0; n < 64 && !blocked && spawner.control >= 0; n++) {
    struct pollfd room = {spawner.control, POLLOUT, 0};
    blocked = poll(&room, 1, 0) <= 0 || !(room.revents & POLLOUT);
    if (blocked || !listen_to_one()) break;
    tell();
  }
  uint32_t wanted = blocked ? EPOLLOUT : EPOLLIN;
  if (spawner.control >= 0 && wanted != watched) watch(spawner.control, EPOLL_CTL_MOD, watched = wanted, ON_CONTROL, 0);
}

/* A controller has connected. There is one at a time: the next one waits in the queue until it is gone. */
void greet(void) {
  struct ucred who = {0};
  socklen_t size = sizeof who;
  int fd = accept4(spawner.listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (fd < 0) return;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &size) < 0 || who.uid != geteuid()) return (void)close(fd);
  spawner.control = fd;
  watch(spawner.listener, EPOLL_CTL_MOD, 0, ON_LISTENER, 0);
  watch(fd, EPOLL_CTL_ADD, watched = EPOLLIN, ON_CONTROL, 0);
  for (uint32_t i = 0; i < spawner.children_used; i++) children[i].news = 0; /* it asks for a list */
  list_at = -1, stop_untold = spawner.phase == ASKED;
  struct kvs_hello hello = {.pid = spawner.pid, .start = start_time(spawner.pid), .children_max = KVS_CHILDREN_MAX, .held_max = KVS_HELD_MAX,
                            .flags = (spawner.pid == 1 ? KVS_PID_1 : 0) | (spawner.phase ? KVS_STOPPING : 0)};
  send_message(&hello, KVS_HELLO, sizeof hello, 0, -1);
}
