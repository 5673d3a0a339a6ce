/* CRC32C (Castagnoli): the processor's instruction if it has one, else a table; both give the same. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#if defined(__aarch64__)
#include <sys/auxv.h>
#endif

static uint32_t kvoc_table[256];
static int kvoc_hardware;

__attribute__((constructor)) static void kvoc_setup(void) {
  for (uint32_t i = 0; i < 256; i++) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ (crc & 1 ? 0x82f63b78u : 0);
    kvoc_table[i] = crc;
  }
#if defined(__x86_64__)
  __builtin_cpu_init();
  kvoc_hardware = __builtin_cpu_supports("sse4.2") ? 1 : 0;
#elif defined(__aarch64__)
  kvoc_hardware = (getauxval(AT_HWCAP) >> 7) & 1; /* HWCAP_CRC32 */
#endif
}

static uint32_t kvoc_software(uint32_t crc, const uint8_t *data, size_t length) {
  while (length--) crc = (crc >> 8) ^ kvoc_table[(crc ^ *data++) & 255];
  return crc;
}

#if defined(__x86_64__) || defined(__aarch64__)
#if defined(__x86_64__)
__attribute__((target("sse4.2")))
#endif
static uint32_t kvoc_instruction(uint32_t crc, const uint8_t *data, size_t length) {
  uint64_t word, wide = crc;
  for (; length >= 8; data += 8, length -= 8) {
    memcpy(&word, data, 8);
#if defined(__x86_64__)
    wide = __builtin_ia32_crc32di(wide, word);
#else
    __asm__(".arch_extension crc\n\tcrc32cx %w0, %w0, %x1" : "+r"(wide) : "r"(word));
#endif
  }
  return kvoc_software((uint32_t)wide, data, length);
}
#endif

/* Continues `crc` (0 to begin with) over `length` bytes. */
static inline uint32_t kvo_crc32c(uint32_t crc, const void *data, size_t length) {
#if defined(__x86_64__) || defined(__aarch64__)
  if (__builtin_expect(kvoc_hardware, 1)) return ~kvoc_instruction(~crc, (const uint8_t *)data, length);
#endif
  return ~kvoc_software(~crc, (const uint8_t *)data, length);
}
static inline uint32_t kvo_crc32c_table(uint32_t crc, const void *data, size_t length) {
  return ~kvoc_software(~crc, (const uint8_t *)data, length);
}
