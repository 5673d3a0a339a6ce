#include "settings.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "layout.h"
#include "paths.h"
#include "runtime.h"

struct reader {
  char *const *environment;
  int logged, bad;
};

const char *kvo_variable(char *const environment[], const char *name) {
  size_t n = strlen(name);
  for (; environment && *environment; environment++)
    if (!strncmp(*environment, name, n) && (*environment)[n] == '=') return *environment + n + 1;
  return NULL;
}

static void unusable(struct reader *r, const char *variable, const char *value, const char *reason) {
  if (r->logged) kvo_log("config variable=%s value=%.200s reason=%s", variable, value, reason);
  r->bad = 1;
}

/* A whole number within [low, high], or the one to use instead. */
static uint64_t number(struct reader *r, const char *variable, uint64_t low, uint64_t high, uint64_t otherwise) {
  const char *text = kvo_variable(r->environment, variable);
  if (!text || !*text) return otherwise;
  char *end;
  errno = 0;
  unsigned long long value = strtoull(text, &end, 10);
  if (!errno && !*end && text[0] != '-' && value >= low && value <= high) return value;
  char reason[96];
  snprintf(reason, sizeof reason, "not a whole number from %llu to %llu; staying on kernel sockets", (unsigned long long)low,
           (unsigned long long)high);
  unusable(r, variable, text, reason);
  return otherwise;
}

/* On unless the variable says otherwise. */
static int switched_on(struct reader *r, const char *variable) {
  const char *text = kvo_variable(r->environment, variable);
  if (!text || !*text || !strcmp(text, "on")) return 1;
  if (strcmp(text, "off")) unusable(r, variable, text, "neither 'on' nor 'off'; staying on kernel sockets");
  return 0;
}

int kvo_settings_read(struct kvo_settings *s, char *const environment[], const char *paths, int logged) {
  struct reader r = {environment, logged, 0};
  int saved = errno;
  const char *variable = "KVOSHIM_PATHS";
  s->paths = paths;
  if (!s->paths) {
    s->paths = kvo_variable(environment, variable);
    if (!s->paths || !*s->paths) s->paths = kvo_variable(environment, variable = "USE_TSSX");
  }
  if (!s->paths || !*s->paths) return 0;
  s->spin_us = number(&r, "KVOSHIM_SPIN_US", 0, 1000000, 50);
  s->ring_bytes = number(&r, "KVOSHIM_RING_SIZE", KVO_RING_MIN, KVO_RING_MAX, 256 << 10);
  s->warmup = number(&r, "KVOSHIM_WARMUP", 0, 1000000, 4);
  s->shown = switched_on(&r, "KVOSHIM_STATS");
  const char *why = r.bad ? NULL : kvo_paths_check(s->paths);
  if (why) unusable(&r, variable, s->paths, why);
  errno = saved;
  return !r.bad;
}
