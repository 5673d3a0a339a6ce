/* The statistics segment of this process: made, made longer, given up. Nothing here fails visibly: where there can be no
 * segment, the counters stay in private memory, at the same addresses. */
#pragma once
#include "atomics.h"
#include "runtime.h"
#include "stats_layout.h"

/* Reserves the counters' addresses (private memory so far). 0 or -ENOMEM. shown: whether there will be a segment. */
int kvo_stats_reserve(uint32_t slots, int shown);
/* Makes the segment so long that it holds a slot, if that is possible. */
void kvo_stats_extend(uint32_t slot);
/* After fork, in the child: private counters, from zero; the next kvo_stats_extend() makes a segment of its own. */
void kvo_stats_forked(void);
/* Removes the segment's name: the process ends. */
void kvo_stats_remove(void);

static inline struct kvo_stats_connection *kvo_stats_slot(uint32_t slot) {
  return (struct kvo_stats_connection *)(kvo_process.stats + 1) + slot;
}

/* Called where a system call is near; one load and one test most of the time. */
static inline void kvo_stats_cover(uint32_t slot) {
  if (__builtin_expect(slot >= kvo_acquire32(&kvo_process.stats_slots), 0)) kvo_stats_extend(slot);
}

/* Nanoseconds, CLOCK_REALTIME. */
uint64_t kvo_stats_now(void);
