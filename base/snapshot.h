// SPDX-License-Identifier: Apache-2.0
// A text that one thread writes now and then and another reads, without either waiting: the owner of some
// state describes it only while somebody has asked lately. One writer, one reader.
#ifndef BASE_SNAPSHOT_H
#define BASE_SNAPSHOT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"

struct snapshot { /* zero-initialised */
    char *_Atomic text;
    _Atomic int64_t asked_ms, posted_ms;
};

/* Writer: is a new text wanted now? Asked within the last seconds, and the last one is not fresh. */
bool snapshot_wanted(const struct snapshot *snapshot, int64_t now_ms);
/* Writer: takes ownership of what `text` holds. */
void snapshot_post(struct snapshot *snapshot, struct bytes *text, int64_t now_ms);
/* Reader: appends the latest text, or `otherwise` while there is none. */
void snapshot_read(struct snapshot *snapshot, const char *otherwise, int64_t now_ms, struct bytes *out);
void snapshot_release(struct snapshot *snapshot);

#endif
