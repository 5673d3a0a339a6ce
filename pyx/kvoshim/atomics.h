/* The only memory-order operations of the project. Each release store names, at its place of use, the acquire load
 * that pairs with it (SYNC POINT comments). aarch64 gets its ordering from these builtins too, nothing relies on TSO. */
#pragma once
#include <stdint.h>

static inline uint32_t kvo_load32(const uint32_t *p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }
static inline uint64_t kvo_load64(const uint64_t *p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }
static inline uint32_t kvo_acquire32(const uint32_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
static inline uint64_t kvo_acquire64(const uint64_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
static inline void *kvo_load_pointer(const void *p) { return __atomic_load_n((void *const *)p, __ATOMIC_ACQUIRE); }
static inline void kvo_store32(uint32_t *p, uint32_t v) { __atomic_store_n(p, v, __ATOMIC_RELAXED); }
static inline void kvo_store64(uint64_t *p, uint64_t v) { __atomic_store_n(p, v, __ATOMIC_RELAXED); }
static inline void kvo_release32(uint32_t *p, uint32_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }
static inline void kvo_release64(uint64_t *p, uint64_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }
static inline void kvo_store_pointer(void *p, void *v) { __atomic_store_n((void **)p, v, __ATOMIC_RELEASE); }

/* For words that only one thread has to do with: one instruction, where a load and a store in order would be three. */
static inline void kvo_raise_alone32(uint32_t *p, uint32_t n) { *p += n; }
static inline void kvo_raise_alone64(uint64_t *p, uint64_t n) { *p += n; }

/* For ThreadSanitizer alone. A process that holds both ends of a connection has the segment mapped twice, and the sanitizer
 * takes one word at two addresses for two words; so threads of a program that order their work by what they send each
 * other would seem not to. The connection's nonce is the same at both ends: it names the object that orders them. */
#ifdef __SANITIZE_THREAD__
void __tsan_acquire(void *object);
void __tsan_release(void *object);
static inline void *kvo_segment_object(const void *nonce) {
  static char objects[4096];
  uint16_t name;
  __builtin_memcpy(&name, nonce, sizeof name);
  return &objects[name % sizeof objects];
}
static inline void kvo_sent(const void *nonce) { __tsan_release(kvo_segment_object(nonce)); }
static inline void kvo_received(const void *nonce) { __tsan_acquire(kvo_segment_object(nonce)); }
#else
static inline void kvo_sent(const void *nonce) { (void)nonce; }
static inline void kvo_received(const void *nonce) { (void)nonce; }
#endif

/* Read-modify-write operations are sequentially consistent. Each is a full fence on x86-64; where later loads must stay behind
 * one, kvo_fence_after_rmw() follows. */
static inline uint32_t kvo_exchange32(uint32_t *p, uint32_t v) { return __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST); }
static inline uint32_t kvo_or32(uint32_t *p, uint32_t v) { return __atomic_fetch_or(p, v, __ATOMIC_SEQ_CST); }
static inline uint32_t kvo_and32(uint32_t *p, uint32_t v) { return __atomic_fetch_and(p, v, __ATOMIC_SEQ_CST); }
static inline uint32_t kvo_add32(uint32_t *p, uint32_t v) { return __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST); }
static inline uint64_t kvo_add64(uint64_t *p, uint64_t v) { return __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST); }
static inline void *kvo_exchange_pointer(void **p, void *v) { return __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST); }
static inline int kvo_cas_pointer(void **p, void *expected, void *v) {
  return __atomic_compare_exchange_n(p, &expected, v, 0, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
}
static inline int kvo_cas32(uint32_t *p, uint32_t expected, uint32_t v) {
  return __atomic_compare_exchange_n(p, &expected, v, 0, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
}
/* Raises a number that only grows. */
static inline void kvo_raise32(uint32_t *p, uint32_t least) {
  for (uint32_t now; (now = kvo_load32(p)) < least && !kvo_cas32(p, now, least);) continue;
}

/* Orders every earlier store before every later load: the StoreLoad fence of the arm/ring protocol. */
static inline void kvo_fence(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
/* Around words that are read while they may be written (latest.pxd). No instruction on x86-64. */
static inline void kvo_fence_before_stores(void) { __atomic_thread_fence(__ATOMIC_RELEASE); }
static inline void kvo_fence_after_loads(void) { __atomic_thread_fence(__ATOMIC_ACQUIRE); }

/* The same behind a read-modify-write operation of the store's own: that is the fence on x86-64, but not on aarch64, where a
 * later load may overtake the store of an LL/SC pair. */
static inline void kvo_fence_after_rmw(void) {
#if defined(__x86_64__)
  __atomic_signal_fence(__ATOMIC_SEQ_CST);
#else
  kvo_fence();
#endif
}

/* Orders them for the compiler only. Where the other side has promised to make all CPUs fence (kvo_fence_everywhere)
 * between its own store and load, this is enough on ours. */
static inline void kvo_light_fence(void) { __atomic_signal_fence(__ATOMIC_SEQ_CST); }

/* Earlier loads stay before later loads and stores; earlier loads and stores stay before later stores. For data that
 * other processes copy while it may be rewritten, and check afterwards (the value store). */
static inline void kvo_fence_acquire(void) { __atomic_thread_fence(__ATOMIC_ACQUIRE); }
static inline void kvo_fence_release(void) { __atomic_thread_fence(__ATOMIC_RELEASE); }

static inline void kvo_relax(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("isb" ::: "memory");
#endif
}

/* A counter that runs at a constant rate on every core; its rate is measured once (runtime.c). */
static inline uint64_t kvo_ticks(void) {
#if defined(__x86_64__)
  return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
  uint64_t v;
  __asm__ volatile("mrs %0, cntvct_el0" : "=r"(v));
  return v;
#endif
}
