// SPDX-License-Identifier: Apache-2.0
// Small text files of a model directory (configuration), read whole and bounded.
#ifndef ENGINE_MODEL_MODEL_FILE_H
#define ENGINE_MODEL_MODEL_FILE_H

#include <stddef.h>

#include "base/error.h"

/* Reads dir/name into *text (heap, NUL-terminated, owner frees) and its length into *bytes.
 * Statuses: NOT_FOUND, TOO_LARGE (over max_bytes), IO, NO_MEMORY. */
MUST_CHECK enum status model_file_read(char **text, size_t *bytes, const char *dir, const char *name,
                                       size_t max_bytes, struct error *err);
/* "dir/name" into path. Statuses: INVALID (too long). */
MUST_CHECK enum status model_file_path(char *path, size_t path_bytes, const char *dir, const char *name,
                                       struct error *err);

#endif
