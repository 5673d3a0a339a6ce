/* The peer of victim.c: `hostile PATH SEED`, under the preload library. It keeps the innocent connection honest; for each
 * round a child connects, warms up, and writes random bytes over its whole mapped segment, and to the kernel socket, at
 * random moments. Half of the children end soon; the others stay until the round is over, so that no call of the victim
 * can be saved by the peer's end. */
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum { START = 0, OVER = 0xffff, HEADER = 4096, MOVING = 64, END = 128 + 2 * 768 }; /* layout.h: from the news to the end of both sides */
static uint64_t state;
static struct sockaddr_un at = {.sun_family = AF_UNIX};

static uint64_t draw(void) {
  uint64_t z = state += 0x9E3779B97F4A7C15u;
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
  z = (z ^ z >> 27) * 0x94D049BB133111EBu;
  return z ^ z >> 31;
}

static uint64_t below(uint64_t n) { return draw() % n; }

static unsigned long innocent_inode;

/* The mapped segment that is not the innocent connection's; its bytes and inode. */
static unsigned char *segment(size_t *bytes, unsigned long *inode) {
  FILE *maps = fopen("/proc/self/maps", "r");
  char line[512];
  unsigned long from, to;
  unsigned char *found = NULL;
  while (maps && fgets(line, sizeof line, maps))
    if (strstr(line, "memfd:kvoshim") && sscanf(line, "%lx-%lx %*s %*s %*s %lu", &from, &to, inode) == 3 &&
        *inode != innocent_inode) {
      found = (unsigned char *)from, *bytes = to - from;
      break;
    }
  fclose(maps);
  return found;
}

static int connected(char kind) {
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  if (connect(fd, (struct sockaddr *)&at, sizeof at)) _exit(4);
  for (int i = 0; i < 3; i++) {
    char byte = kind;
    if (send(fd, &byte, 1, MSG_NOSIGNAL) != 1 || recv(fd, &byte, 1, 0) != 1) _exit(4);
  }
  return fd;
}

static uint64_t some_value(void) {
  switch (below(6)) {
    case 0: return below(8);
    case 1: return below(1 << 16);
    case 2: return (uint64_t)-1 - below(5000);
    case 3: return 1ull << below(64);
    default: return draw();
  }
}

static void scribble(unsigned char *at_, size_t bytes, int fd) {
  size_t word = below((END - MOVING) / 4);
  uint64_t value = some_value();
  switch (below(6)) {
    case 0: /* everything */
      for (size_t i = 0; i + 8 <= bytes; i += 8) value = draw(), memcpy(at_ + i, &value, 8);
      break;
    case 1: /* what moves */
      for (size_t i = MOVING; i < END; i += 4) value = some_value(), memcpy(at_ + i, &value, 4);
      break;
    case 2: memcpy(at_ + MOVING + 4 * word / 8 * 8, &value, 8); break;
    case 3: /* a word, added to */
      value = *(uint32_t *)(at_ + MOVING + 4 * word) + below(40000);
      /* fall through */
    case 4: memcpy(at_ + MOVING + 4 * word, &value, 4); break;
    default:
      for (uint64_t n = below(20); n; n--) syscall(SYS_sendto, fd, &value, 1 + below(8), MSG_DONTWAIT | MSG_NOSIGNAL, NULL, 0);
  }
}

static void attack(int ready, int go) {
  int stays = (int)below(2);
  size_t bytes = 0;
  unsigned long inode;
  char byte;
  int fd = connected(stays ? 's' : 'h');
  unsigned char *at_ = segment(&bytes, &inode);
  if (!at_ || write(ready, "r", 1) != 1 || read(go, &byte, 1) != 1) _exit(4);
  for (uint64_t n = 1 + below(60); n || stays; n -= n > 0) {
    if (n) scribble(at_, bytes, fd);
    if (!n || below(2)) usleep((useconds_t)below(n ? 400 : 20000));
  }
  _exit(0);
}

int main(int count, char **words) {
  if (count < 3) return 2;
  strncpy(at.sun_path, words[1], sizeof at.sun_path - 1);
  state = strtoull(words[2], NULL, 10);
  int innocent = connected('i'), ready[2], go[2];
  unsigned rounds = 0;
  size_t size;
  unsigned long inode;
  if (!segment(&size, &inode)) return 4;
  innocent_inode = inode;
  for (;;) {
    if (pipe(ready) || pipe(go)) return 4;
    uint64_t seed = draw();
    pid_t child = fork();
    if (child == 0) {
      state = seed;
      close(go[1]);
      attack(ready[1], go[0]);
    }
    close(go[0]), close(ready[1]);
    unsigned char bytes[65536], byte = 1;
    uint16_t head = START;
    do {
      if (recv(innocent, &head, 2, MSG_WAITALL) != 2) break; /* the victim has had its rounds */
      if (head == START && (read(ready[0], &byte, 1) != 1 || write(go[1], "g", 1) != 1)) return 4;
      if (head == START || head == OVER) {
        if (send(innocent, &byte, 1, MSG_NOSIGNAL) != 1) return 4;
      } else if (recv(innocent, bytes, head, MSG_WAITALL) != head || send(innocent, bytes, head, MSG_NOSIGNAL) != head) {
        return 4;
      }
    } while (head != OVER);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    close(ready[0]), close(go[1]);
    if (head != OVER) break;
    rounds++;
  }
  printf("rounds=%u\n", rounds);
  return 0;
}
