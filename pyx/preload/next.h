/* Shared by the interposers: the next symbols, the table look-up, errno. */
#pragma once
#include "atomics.h"
#include "core.h"

#define EXPORT __attribute__((visibility("default")))
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

void kvo_resolve(void);
void kvo_standard_streams(void);

/* A constructor of another library may call us before our own has run. */
#define NEXT(name) (likely(kvo_next.name != NULL) ? kvo_next.name : (kvo_resolve(), kvo_next.name))

/* One load and one sign test decide every call. */
static inline int32_t ident_of(int fd) {
  return (unsigned)fd < kvo_process.table_len ? (int32_t)kvo_load32((const uint32_t *)&kvo_process.table[fd]) : 0;
}

/* A call that makes a descriptor. When the program has used up its numbers, it gets those of ours that it can have: the kept
 * memfds first, then the rendezvous. */
#define MAKE(call, failure) \
  ({ \
    int saved_ = errno; \
    __auto_type made_ = (call); \
    for (int twice_ = 2; unlikely(made_ == (failure)) && errno == EMFILE && twice_-- && kvo_spare_descriptors();) { \
      errno = saved_; \
      made_ = (call); \
    } \
    made_; \
  })
#define MAKE_DESCRIPTOR(call) MAKE(call, -1)

/* Core results to C library results; errno is touched only on failure. */
static inline ssize_t result(ssize_t r, int saved) {
  errno = r < 0 ? (int)-r : saved;
  return r < 0 ? -1 : r;
}
