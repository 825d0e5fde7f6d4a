// SPDX-License-Identifier: Apache-2.0
// The exponential function of the generic kernels: the same bytes on every machine, whatever its libm.
#ifndef ENGINE_KERNELS_EXP_H
#define ENGINE_KERNELS_EXP_H

#include <math.h>

#include "engine/kernels/dtype.h"

/* e^x within 1 ulp for normal results: x = n ln 2 + r, Taylor series of degree 7 in r (|r| <= ln2 / 2, so
 * the first term left out is below 6e-9), from -87.33 to 88.37; no branch, so that a loop of it becomes one
 * of vectors. */
static inline float exp_f32_in_range(float x)
{
    const float shift = 0x1.8p23f; /* adding it rounds to an integer, left in the low mantissa bits */
    float shifted = x * 0x1.715476p+0f + shift;
    float n = shifted - shift;
    float r = (x - n * 0x1.62e4p-1f) - n * 0x1.7f7d1cp-20f; /* ln 2 in two parts; n * first part is exact */
    float p = 1.0f / 5040.0f;
    p = p * r + 1.0f / 720.0f;
    p = p * r + 1.0f / 120.0f;
    p = p * r + 1.0f / 24.0f;
    p = p * r + 1.0f / 6.0f;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    return p * dtype_f32_from_bits((dtype_f32_bits(shifted) << 23) + 0x3f800000u);
}

/* e^x of any x. Results under 2^-126 become 0. */
static inline float exp_f32(float x)
{
    if (x < -87.33f)
        return 0.0f;
    if (x > 88.37f)
        return INFINITY;
    return exp_f32_in_range(x);
}

#endif
