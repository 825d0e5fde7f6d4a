// SPDX-License-Identifier: Apache-2.0
#include "base/snapshot.h"

#include <stdlib.h>

enum { ASKED_LATELY_MS = 5000, FRESH_MS = 250 };

bool snapshot_wanted(const struct snapshot *snapshot, int64_t now_ms)
{
    int64_t asked_ms = atomic_load(&snapshot->asked_ms);
    return asked_ms != 0 && now_ms - asked_ms < ASKED_LATELY_MS &&
           now_ms - atomic_load(&snapshot->posted_ms) >= FRESH_MS;
}

void snapshot_post(struct snapshot *snapshot, struct bytes *text, int64_t now_ms)
{
    char *taken = text->failed ? NULL : bytes_take(text);
    if (taken)
        free(atomic_exchange(&snapshot->text, taken));
    atomic_store(&snapshot->posted_ms, now_ms);
}

/* The reader holds the text while it copies it, and puts it back unless a newer one has come. */
void snapshot_read(struct snapshot *snapshot, const char *otherwise, int64_t now_ms, struct bytes *out)
{
    char *none = NULL, *text = atomic_exchange(&snapshot->text, NULL);
    bytes_append_text(out, text ? text : otherwise);
    if (text && !atomic_compare_exchange_strong(&snapshot->text, &none, text))
        free(text);
    atomic_store(&snapshot->asked_ms, now_ms);
}

void snapshot_release(struct snapshot *snapshot)
{
    free(atomic_exchange(&snapshot->text, NULL));
}
