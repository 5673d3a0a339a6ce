/* The settings that decide whether the library goes to work, from its own environment or from that of a successor by exec. */
#pragma once
#include <stdint.h>

struct kvo_settings {
  const char *paths; /* of the environment's memory, or the caller's */
  uint64_t spin_us, ring_bytes, warmup;
  int shown; /* KVOSHIM_STATS is not off */
};

/* What getenv() would say in a program with this environment. */
const char *kvo_variable(char *const environment[], const char *name);

/* Reads and checks the settings; paths overrides the variable when not NULL. 0: the library does not go to work with them, for
 * they select nothing or are unusable, which is logged if wanted. Allocates nothing: a child of vfork asks too. */
int kvo_settings_read(struct kvo_settings *settings, char *const environment[], const char *paths, int logged);
