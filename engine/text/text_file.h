// SPDX-License-Identifier: Apache-2.0
// Reads one small file of a model directory for the text room.
#ifndef ENGINE_TEXT_TEXT_FILE_H
#define ENGINE_TEXT_TEXT_FILE_H

#include "base/bytes.h"
#include "base/error.h"

/* Appends dir/name to `out`. Statuses: NOT_FOUND, TOO_LARGE (out's bound), IO, NO_MEMORY. */
MUST_CHECK enum status text_file_read(struct bytes *out, const char *dir, const char *name,
                                      struct error *err);

#endif
