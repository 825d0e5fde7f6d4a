// SPDX-License-Identifier: Apache-2.0
// How weights become small integers, for every kernel set alike: symmetric int8 with one scale per output,
// and int4 with one scale per group of k. Inline, so that each set compiles it for its own instructions.
#ifndef ENGINE_KERNELS_QUANTISE_H
#define ENGINE_KERNELS_QUANTISE_H

#include <math.h>

#include "engine/kernels/dtype.h"

enum { INT4_GROUP = 64 /* k per scale */, INT4_CANDIDATES = 9 };

static inline int32_t quantise(float value, float inverse_scale, int32_t low, int32_t high)
{
    float scaled = rintf(value * inverse_scale);
    return scaled < (float)low ? low : scaled > (float)high ? high : (int32_t)scaled;
}

static inline int32_t int4_groups(int32_t k)
{
    return (k + INT4_GROUP - 1) / INT4_GROUP;
}

static inline float int4_squared_error(const float values[INT4_GROUP], float scale)
{
    const float inverse = 1.0f / scale;
    float error = 0.0f;
    for (int32_t i = 0; i < INT4_GROUP; i++) {
        float difference = values[i] - scale * (float)quantise(values[i], inverse, -8, 7);
        error += difference * difference;
    }
    return error;
}

/* The scale, representable in bf16, with the least squared error among a few that map the largest element to
 * between 7 and 9 steps; its sign lets that element use the longer, negative side. */
static inline float int4_scale(const float values[INT4_GROUP])
{
    float largest = 0.0f;
    for (int32_t i = 0; i < INT4_GROUP; i++)
        largest = fabsf(values[i]) > fabsf(largest) ? values[i] : largest;
    if (!(fabsf(largest) > 0.0f))
        return 0.0f;
    float best = 0.0f, best_error = INFINITY;
    for (int candidate = 0; candidate < INT4_CANDIDATES; candidate++) {
        float scale = dtype_f32_from_bf16(dtype_bf16_from_f32(largest / (-7.0f - 0.25f * (float)candidate)));
        float error = scale != 0.0f ? int4_squared_error(values, scale) : INFINITY;
        if (error < best_error)
            best = scale, best_error = error;
    }
    return best;
}

#endif
