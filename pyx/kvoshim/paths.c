#include "paths.h"

#include <fnmatch.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LONGEST = 512 };

static const char *check(const char *glob) {
  int open = 0;
  for (const char *c = glob; *c; c++) {
    if (*c == '\\' && c[1]) c++;
    else if (*c == '[') open = 1;
    else if (*c == ']') open = 0;
  }
  if (open) return "a '[' without its ']'; staying on kernel sockets";
  if (strlen(glob) > LONGEST) return "a path of more than 512 characters; staying on kernel sockets";
  return NULL;
}

/* Copies the next glob of the text to glob, at most LONGEST + 2 bytes, and moves on behind it. 1, 0 at the text's end, -1: *why not. */
static int next_glob(const char **text, char *glob, const char **why) {
  const char *in = *text;
  size_t length = 0;
  while (*in == ' ' || *in == ':') in++;
  if (!*in) return 0;
  while (*in && *in != ' ' && *in != ':' && length <= LONGEST) {
    if (*in == '\\') {
      if (!in[1]) return *why = "it ends in a lone backslash; staying on kernel sockets", -1;
      if (in[1] == ' ' || in[1] == ':') in++; /* other escapes are the glob's own */
    }
    glob[length++] = *in++;
  }
  glob[length] = 0;
  *text = in;
  return (*why = check(glob)) ? -1 : 1;
}

const char *kvo_paths_check(const char *text) {
  char glob[LONGEST + 2];
  const char *why;
  int count = 0, more;
  while ((more = next_glob(&text, glob, &why)) > 0) count++;
  if (more < 0) return why;
  return count ? NULL : "it names no path; staying on kernel sockets";
}

const char *kvo_paths_parse(const char *text, char ***globs) {
  const char *why = kvo_paths_check(text);
  if (why) return why;
  size_t length = strlen(text);
  char *copy = malloc(length + 1);
  char **list = calloc(length + 2, sizeof *list);
  if (!copy || !list) {
    free(copy);
    free(list);
    return "no memory";
  }
  for (size_t count = 0; next_glob(&text, copy, &why) > 0; copy += strlen(copy) + 1) list[count++] = copy;
  *globs = list;
  return NULL;
}

/* Collapses "//" and "/./"; ".." is left alone, since a directory may be a link. */
static void tidy(char *path) {
  char *out = path;
  for (const char *in = path; *in; in++) {
    if (*in == '/' && in[1] == '/') continue;
    if (*in == '/' && in[1] == '.' && (in[2] == '/' || !in[2])) {
      in++;
      continue;
    }
    *out++ = *in;
  }
  *out = 0;
}

static int matches(char **globs, const char *name) {
  for (; *globs; globs++)
    if (!strcmp(*globs, name) || !fnmatch(*globs, name, 0)) return 1;
  return 0;
}

int kvo_paths_match(char **globs, const char *path, size_t length) {
  char name[PATH_MAX + 256];
  if (!globs || !length || length > 200) return 0;
  if (!path[0]) {
    name[0] = '@';
    memcpy(name + 1, path + 1, length - 1);
    name[length] = 0;
    return matches(globs, name);
  }
  length = strnlen(path, length);
  memcpy(name, path, length);
  name[length] = 0;
  if (matches(globs, name)) return 1;
  if (name[0] != '/') {
    char cwd[PATH_MAX];
    if (!getcwd(cwd, sizeof cwd)) return 0;
    size_t n = strlen(cwd);
    memcpy(name, cwd, n);
    name[n] = '/';
    memcpy(name + n + 1, path, length);
    name[n + 1 + length] = 0;
  }
  tidy(name);
  return matches(globs, name);
}
