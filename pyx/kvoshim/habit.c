/* Paths whose connections end before their warm-up. Even a mark that leads to nothing costs such a connection a fifth of its time
 * (nginx to uWSGI, a connection for each request), so a process that has seen many of them in a row on a path marks only some of
 * those that follow, to find out when that changes: one that lives on has all marked again.
 *
 * In C, and so never inlined: as inline functions of the core they made gcc arrange the quick way worse, by a tenth of a Python
 * program's round trip. */
#include "atomics.h"
#include "runtime.h"

enum {
  SHORTS = 32,        /* connections in a row that make a habit */
  SAMPLE = 16,        /* of so many, one is marked all the same, */
  SAMPLE_MOST = 1024, /* and of ever more, while the habit lasts */
};

/* FNV-1a, up to the first zero but one at the beginning (an abstract name's; connections write '@' for it). Never 0. */
static uint64_t path_hash(const char *path, size_t length) {
  uint64_t h = 0xcbf29ce484222325u;
  for (size_t i = 0; i < length && (path[i] || !i); i++) h = (h ^ (uint8_t)(path[i] ? path[i] : '@')) * 0x100000001b3u;
  return h | 1;
}

static struct kvo_habit *habit_of(uint64_t path) { return &kvo_process.habits[path >> 32 & (KVO_HABITS - 1)]; }

/* A count that steers and decides nothing: threads may lose one. */
static void bump(uint32_t *word) { kvo_store32(word, kvo_load32(word) + 1); }

/* Of how many one is marked: of twice as many after each SHORTS of those. */
static uint32_t sample_of(uint32_t shorts) {
  uint32_t times = (shorts - SHORTS) / SHORTS;
  return times < 6 ? SAMPLE << times : SAMPLE_MOST;
}

int kvo_stays_short(const char *path, size_t length) {
  if (kvo_process.warmup == 0) return 0;
  uint64_t wanted = path_hash(path, length);
  struct kvo_habit *h = habit_of(wanted);
  uint32_t shorts = kvo_load32(&h->shorts);
  if (kvo_load64(&h->path) != wanted || shorts < SHORTS) return 0;
  if (kvo_load32(&h->passed) + 1 >= sample_of(shorts)) {
    kvo_store32(&h->passed, 0);
    return 0;
  }
  bump(&h->passed);
  return 1;
}

void kvo_note_life(const char *path, int ended_short) {
  uint64_t wanted = path_hash(path, 107);
  struct kvo_habit *h = habit_of(wanted);
  if (kvo_load64(&h->path) != wanted) {
    kvo_store64(&h->path, wanted);
    kvo_store32(&h->shorts, 0);
  }
  if (ended_short)
    bump(&h->shorts);
  else
    kvo_store32(&h->shorts, 0);
}
