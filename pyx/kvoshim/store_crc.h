/* CRC32C (Castagnoli): by the processor's instructions if it has them, else by a table; all give the same. What is copied is
 * checked on the way, word by word as it was loaded: reading it twice would cost as much again. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#if defined(__aarch64__)
#include <sys/auxv.h>
#elif defined(__x86_64__)
#include <immintrin.h>
#endif

static uint32_t kvoc_table[256];
static int kvoc_hardware;

static int kvoc_available(void) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  return __builtin_cpu_supports("sse4.2") ? 1 : 0;
#elif defined(__aarch64__)
  return (getauxval(AT_HWCAP) >> 7) & 1; /* HWCAP_CRC32 */
#else
  return 0;
#endif
}

__attribute__((constructor)) static void kvoc_setup(void) {
  for (uint32_t i = 0; i < 256; i++) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ (crc & 1 ? 0x82f63b78u : 0);
    kvoc_table[i] = crc;
  }
  kvoc_hardware = kvoc_available();
}

static uint32_t kvoc_software(uint32_t crc, const uint8_t *data, size_t length) {
  while (length--) crc = (crc >> 8) ^ kvoc_table[(crc ^ *data++) & 255];
  return crc;
}

#if defined(__x86_64__) || defined(__aarch64__)
#if defined(__x86_64__)
#define KVOC_TARGET __attribute__((target("sse4.2")))
#define KVOC_STEP(crc, word) (crc) = __builtin_ia32_crc32di((crc), (word))
#else
#define KVOC_TARGET
#define KVOC_STEP(crc, word) __asm__(".arch_extension crc\n\tcrc32cx %w0, %w0, %x1" : "+r"(crc) : "r"(word))
#endif
/* The instruction answers three cycles later and can be begun each cycle: so three strands of KVOC_STRAND bytes run side by
 * side. What a strand of zeros makes of a checksum is linear: kvoc_shift has it for each byte of one, and joins the strands. */
#define KVOC_STRAND 1024
static uint32_t kvoc_shift[4][256];

static inline uint64_t kvoc_word(const uint8_t *data) {
  uint64_t word;
  memcpy(&word, data, 8);
  return word;
}

KVOC_TARGET __attribute__((constructor)) static void kvoc_setup_shift(void) {
  if (!kvoc_available()) return;
  for (int bit = 0; bit < 32; bit++) {
    uint64_t crc = 1u << bit;
    for (int i = 0; i < KVOC_STRAND; i += 8) KVOC_STEP(crc, (uint64_t)0);
    for (int byte = 0; byte < 256; byte++)
      if (byte >> (bit & 7) & 1) kvoc_shift[bit >> 3][byte] ^= (uint32_t)crc;
  }
}

static inline uint64_t kvoc_shifted(uint64_t crc) {
  return kvoc_shift[0][crc & 255] ^ kvoc_shift[1][crc >> 8 & 255] ^ kvoc_shift[2][crc >> 16 & 255] ^ kvoc_shift[3][crc >> 24 & 255];
}

KVOC_TARGET static uint32_t kvoc_instruction(uint32_t crc, const uint8_t *data, size_t length) {
  uint64_t wide = crc;
  for (; length >= 3 * KVOC_STRAND; data += 3 * KVOC_STRAND, length -= 3 * KVOC_STRAND) {
    uint64_t second = 0, third = 0;
    for (const uint8_t *at = data; at < data + KVOC_STRAND; at += 8) {
      KVOC_STEP(wide, kvoc_word(at));
      KVOC_STEP(second, kvoc_word(at + KVOC_STRAND));
      KVOC_STEP(third, kvoc_word(at + 2 * KVOC_STRAND));
    }
    wide = kvoc_shifted(kvoc_shifted(wide) ^ second) ^ third;
  }
  for (; length >= 8; data += 8, length -= 8) KVOC_STEP(wide, kvoc_word(data));
  return kvoc_software((uint32_t)wide, data, length);
}
#endif

#if defined(__x86_64__)
/* Long ones are folded: 128 bytes stand for all before them, which have the same checksum. Each step multiplies them, 64 bits at a
 * time and without carries, by what moves them on by 128 bytes, and adds the next 128. */
#define KVOC_FOLD 128
#define KVOC_FOLD_FROM 256 /* bytes from which that is faster */
static int kvoc_folds;
static uint64_t kvoc_move[2]; /* of the first and the second half of 16 bytes */

/* x to that power modulo the polynomial, its bits reversed as all else here, at the upper end of the word. */
static uint64_t kvoc_power(int power) {
  uint32_t bits = 0x80000000u;
  while (power--) bits = (bits >> 1) ^ (bits & 1 ? 0x82f63b78u : 0);
  return (uint64_t)bits << 32;
}

__attribute__((constructor)) static void kvoc_setup_fold(void) {
  kvoc_folds = kvoc_available() && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("vpclmulqdq");
  /* A product of reversed words is one power too high. */
  kvoc_move[0] = kvoc_power(8 * KVOC_FOLD + 64 - 1);
  kvoc_move[1] = kvoc_power(8 * KVOC_FOLD - 1);
}

/* Folds all whole steps into `left`; returns how many bytes they have. to: where they are copied to as well, or NULL. A function
 * of its own, and `left` not its variable: at its end the upper halves of the registers are cleared, without which the program's
 * next vector instruction would wait for a hundred cycles. */
__attribute__((noinline, target("avx2,vpclmulqdq")))
static size_t kvoc_fold(uint8_t *left, uint32_t crc, uint8_t *to, const uint8_t *from, size_t length) {
  const __m256i move = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)kvoc_move));
  __m256i part[4] = {_mm256_setzero_si256()}, next[4];
  size_t done = 0;
  part[0] = _mm256_zextsi128_si256(_mm_cvtsi32_si128((int)crc));
  for (; length - done >= KVOC_FOLD; done += KVOC_FOLD) {
    for (int i = 0; i < 4; i++) next[i] = _mm256_loadu_si256((const __m256i *)(from + done) + i);
    for (int i = 0; i < 4; i++) {
      if (to) _mm256_storeu_si256((__m256i *)(to + done) + i, next[i]);
      if (done) {
        part[i] = _mm256_xor_si256(_mm256_clmulepi64_epi128(part[i], move, 0x00), _mm256_clmulepi64_epi128(part[i], move, 0x11));
      }
      part[i] = _mm256_xor_si256(part[i], next[i]);
    }
  }
  for (int i = 0; i < 4; i++) _mm256_storeu_si256((__m256i *)left + i, part[i]);
  return done;
}

static uint32_t kvoc_folded(uint32_t crc, uint8_t *to, const uint8_t *from, size_t length) {
  uint8_t left[KVOC_FOLD];
  size_t done = kvoc_fold(left, crc, to, from, length);
  crc = kvoc_instruction(0, left, sizeof(left));
  if (!to) return kvoc_instruction(crc, from + done, length - done);
  memcpy(to + done, from + done, length - done);
  return kvoc_instruction(crc, to + done, length - done);
}
#else
#define KVOC_FOLD_FROM ((size_t)-1)
enum { kvoc_folds = 0 };
static uint32_t kvoc_folded(uint32_t crc, uint8_t *to, const uint8_t *from, size_t length) {
  (void)to, (void)from, (void)length;
  return crc;
}
#endif

/* Continues `crc` (0 to begin with) over `length` bytes. */
static inline uint32_t kvo_crc32c(uint32_t crc, const void *data, size_t length) {
  if (length >= KVOC_FOLD_FROM && kvoc_folds) return ~kvoc_folded(~crc, NULL, (const uint8_t *)data, length);
#if defined(__x86_64__) || defined(__aarch64__)
  if (__builtin_expect(kvoc_hardware, 1)) return ~kvoc_instruction(~crc, (const uint8_t *)data, length);
#endif
  return ~kvoc_software(~crc, (const uint8_t *)data, length);
}

/* Copies `length` bytes, and continues `crc` over what was copied. */
static inline uint32_t kvo_copy_crc32c(uint32_t crc, void *to, const void *from, size_t length) {
  if (length >= KVOC_FOLD_FROM && kvoc_folds) return ~kvoc_folded(~crc, (uint8_t *)to, (const uint8_t *)from, length);
  memcpy(to, from, length);
  return kvo_crc32c(crc, to, length);
}

static inline uint32_t kvo_crc32c_table(uint32_t crc, const void *data, size_t length) {
  return ~kvoc_software(~crc, (const uint8_t *)data, length);
}
