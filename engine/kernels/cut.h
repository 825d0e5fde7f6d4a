// SPDX-License-Identifier: Apache-2.0
// Blocking of loops: even parts under a limit.
#ifndef ENGINE_KERNELS_CUT_H
#define ENGINE_KERNELS_CUT_H

#include <stdint.h>

/* Cuts `count` into the fewest parts of at most `limit`, as equal as can be: no part is a costly rest. */
struct cut {
    int32_t count, parts;
};

static inline struct cut cut_evenly(int32_t count, int32_t limit)
{
    return (struct cut){.count = count, .parts = (count + limit - 1) / limit};
}

static inline int32_t cut_at(struct cut cut, int32_t part)
{
    return (int32_t)((int64_t)cut.count * part / cut.parts);
}

/* The part that `index` is in. */
static inline int32_t cut_part(struct cut cut, int32_t index)
{
    return (int32_t)((((int64_t)index + 1) * cut.parts - 1) / cut.count);
}

#endif
