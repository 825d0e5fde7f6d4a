// SPDX-License-Identifier: Apache-2.0
// Element types of checkpoints and their exact conversions. Widening (bf16, f16 -> f32) is exact; narrowing
// to bf16 rounds to nearest, ties to even, and keeps a NaN a NaN.
#ifndef ENGINE_KERNELS_DTYPE_H
#define ENGINE_KERNELS_DTYPE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "engine/kernels/kernels.h"

static inline size_t dtype_bytes(enum dtype dtype)
{
    return dtype == DTYPE_F32 ? 4 : 2;
}

static inline uint32_t dtype_f32_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float dtype_f32_from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline float dtype_f32_from_bf16(uint16_t half)
{
    return dtype_f32_from_bits((uint32_t)half << 16);
}

static inline uint16_t dtype_bf16_from_f32(float value)
{
    uint32_t bits = dtype_f32_bits(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)((bits >> 16) | 0x40u); /* quiet NaN */
    return (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

/* IEEE 754 binary16. A subnormal is its integer significand times 2^-24, which f32 holds exactly. */
static inline float dtype_f32_from_f16(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
    uint32_t exponent = (half >> 10) & 0x1fu;
    uint32_t fraction = half & 0x3ffu;
    if (exponent == 0) {
        float magnitude = (float)fraction * 0x1p-24f;
        return sign ? -magnitude : magnitude;
    }
    uint32_t wide = exponent == 31 ? 0xffu : exponent + 112u;
    return dtype_f32_from_bits(sign | (wide << 23) | (fraction << 13));
}

/* Element `index` of an array of `dtype`; `data` need not be aligned. */
static inline float dtype_load(const void *data, size_t index, enum dtype dtype)
{
    if (dtype == DTYPE_F32) {
        float value;
        memcpy(&value, (const uint8_t *)data + index * 4, sizeof value);
        return value;
    }
    uint16_t half;
    memcpy(&half, (const uint8_t *)data + index * 2, sizeof half);
    return dtype == DTYPE_F16 ? dtype_f32_from_f16(half) : dtype_f32_from_bf16(half);
}

#endif
