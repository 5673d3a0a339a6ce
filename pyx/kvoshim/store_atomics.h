/* The only ways in which Key-Value Observation's shared words are read and written. Each release names the acquire
 * with which it pairs at its place of use (SYNC POINT). */
#pragma once
#include <stdint.h>

static inline uint64_t kvoa_load_relaxed(const uint64_t *word) { return __atomic_load_n(word, __ATOMIC_RELAXED); }
static inline uint64_t kvoa_load_acquire(const uint64_t *word) { return __atomic_load_n(word, __ATOMIC_ACQUIRE); }
static inline void kvoa_store_relaxed(uint64_t *word, uint64_t value) {
  __atomic_store_n(word, value, __ATOMIC_RELAXED);
}
static inline void kvoa_store_release(uint64_t *word, uint64_t value) {
  __atomic_store_n(word, value, __ATOMIC_RELEASE);
}
static inline uint32_t kvoa_load32_relaxed(const uint32_t *word) { return __atomic_load_n(word, __ATOMIC_RELAXED); }
static inline uint32_t kvoa_load32_acquire(const uint32_t *word) { return __atomic_load_n(word, __ATOMIC_ACQUIRE); }
static inline void kvoa_store32_relaxed(uint32_t *word, uint32_t value) {
  __atomic_store_n(word, value, __ATOMIC_RELAXED);
}
static inline void kvoa_store32_release(uint32_t *word, uint32_t value) {
  __atomic_store_n(word, value, __ATOMIC_RELEASE);
}
/* Earlier loads stay before later loads and stores. */
static inline void kvoa_fence_acquire(void) { __atomic_thread_fence(__ATOMIC_ACQUIRE); }
/* Earlier loads and stores stay before later stores. */
static inline void kvoa_fence_release(void) { __atomic_thread_fence(__ATOMIC_RELEASE); }
/* Nothing crosses: the store before it is visible before the load after it is made. */
static inline void kvoa_fence_full(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
static inline void kvoa_pause(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ __volatile__("yield");
#endif
}
