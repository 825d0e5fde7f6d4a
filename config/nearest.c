// SPDX-License-Identifier: Apache-2.0
#include "config/config.h"

#include <string.h>

enum { WORD_BYTES = 64 };

/* Edit distance (Levenshtein 1966) of words of fewer than WORD_BYTES bytes. */
static size_t distance(const char *a, const char *b)
{
    size_t m = strlen(a), n = strlen(b);
    size_t row[WORD_BYTES];
    if (m >= WORD_BYTES || n >= WORD_BYTES)
        return WORD_BYTES;
    for (size_t j = 0; j <= n; j++)
        row[j] = j;
    for (size_t i = 1; i <= m; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= n; j++) {
            size_t replace = diagonal + (a[i - 1] != b[j - 1]);
            size_t insert = row[j - 1] + 1;
            size_t delete = row[j] + 1;
            diagonal = row[j];
            row[j] = replace < insert ? replace : insert;
            if (delete < row[j])
                row[j] = delete;
        }
    }
    return row[n];
}

const char *config_nearest(const char *word, const char *const *known, size_t count)
{
    const char *best = NULL;
    size_t best_distance = 2 + strlen(word) / 3;
    for (size_t i = 0; i < count; i++) {
        size_t d = distance(word, known[i]);
        if (d < best_distance) {
            best = known[i];
            best_distance = d;
        }
    }
    return best;
}
