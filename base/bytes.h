// SPDX-License-Identifier: Apache-2.0
// Growable byte buffer whose maximum is given at init: nothing in the tree grows without a bound.
// The content is always followed by a NUL, so `data` may be read as a C string. A failed append leaves
// the content as it was and sets `failed`, so a run of appends needs one check at the end.
#ifndef BASE_BYTES_H
#define BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>

#include "base/check.h"
#include "base/status.h"

struct bytes {
    char *data; /* NUL-terminated once anything was appended; NULL before */
    size_t count_bytes;
    size_t capacity_bytes;
    size_t max_bytes;
    bool failed; /* an append did not fit or memory ran out */
};

void bytes_init(struct bytes *bytes, size_t max_bytes);
void bytes_release(struct bytes *bytes);
void bytes_reset(struct bytes *bytes); /* empties, keeps the memory, clears `failed` */

/* Statuses: OK, TOO_LARGE (over max_bytes), NO_MEMORY. */
enum status bytes_append(struct bytes *bytes, const void *data, size_t count_bytes);
enum status bytes_append_text(struct bytes *bytes, const char *text);
enum status bytes_append_char(struct bytes *bytes, char c);
enum status bytes_appendf(struct bytes *bytes, const char *format, ...) PRINTF_LIKE(2, 3);
enum status bytes_reserve(struct bytes *bytes, size_t extra_bytes);
/* Hands the heap memory to the caller (free()) and leaves the buffer empty. */
char *bytes_take(struct bytes *bytes);

#endif
