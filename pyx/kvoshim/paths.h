/* KVOSHIM_PATHS: which socket paths are selected. */
#pragma once
#include <stddef.h>

/* NULL, or a sentence that says why the text is unusable. Allocates nothing. */
const char *kvo_paths_check(const char *text);

/* Splits text at spaces and colons (a backslash makes the next character literal) into a NULL-terminated list of
 * globs. Returns NULL, or a sentence that says why the text is unusable. */
const char *kvo_paths_parse(const char *text, char ***globs);

/* Whether a path as it stands in sun_path selects acceleration. length: bytes of it that count; a leading zero byte
 * means an abstract name, which a glob names with a leading '@'. A relative path is also tried as absolute. */
int kvo_paths_match(char **globs, const char *path, size_t length);
