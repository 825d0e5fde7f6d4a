// SPDX-License-Identifier: Apache-2.0
// Memory layout of AVX-512 operands. Weights lie in panels of 32 columns (outputs), each panel the whole of k
// one after the other, so that a product streams them once, front to back:
//   f32, bf16  [units][32] units
//   int8       scales f32 [32], corrections int32 [32] (-128 times the column's sum), [units][32] units
//   int4       per group of 64 k: scales bf16 [32], [16 units][16 bytes x 4]: low nibbles are columns 0-15,
//              high nibbles columns 16-31; a nibble is the value plus 8
// Activation rows: [units] padded to a line; then int8: scale f32; int4: scale f32 and per group int32
// -8 times the group's sum. Row strides are an odd number of cache lines, so that the rows of a register tile
// do not compete for the same cache sets. 16 units of 16 columns, or of 16 rows, are an AMX tile as they lie.
#ifndef ENGINE_KERNELS_PANELS_AVX512_H
#define ENGINE_KERNELS_PANELS_AVX512_H

#include "engine/kernels/cut.h"
#include "engine/kernels/quantise.h"
#include "engine/kernels/simd_avx512.h"

enum {
    LINE_BYTES = 64,
    UNIT_BYTES = 4,
    PANEL_UNIT_BYTES = AVX512_PANEL_COLUMNS * UNIT_BYTES,
    TILE_UNITS = 16, /* bf16 and int8: k is padded with zeros to whole AMX tiles */
    INT8_HEADER_BYTES = 2 * AVX512_PANEL_COLUMNS * 4,
    INT4_GROUP_UNITS = INT4_GROUP / 4,
    INT4_SCALE_BYTES = AVX512_PANEL_COLUMNS * 2,
    INT4_GROUP_BYTES = INT4_SCALE_BYTES + INT4_GROUP_UNITS * LINE_BYTES
};

static inline int32_t unit_elements(enum weight_format format)
{
    return format == WEIGHT_F32 ? 1 : format == WEIGHT_BF16 ? 2 : 4;
}

static inline int32_t row_units(enum weight_format format, int32_t k)
{
    if (format == WEIGHT_INT4)
        return int4_groups(k) * INT4_GROUP_UNITS;
    const int32_t units = (k + unit_elements(format) - 1) / unit_elements(format);
    return format == WEIGHT_F32 ? units : (units + TILE_UNITS - 1) / TILE_UNITS * TILE_UNITS;
}

static inline size_t panel_bytes(enum weight_format format, int32_t k)
{
    if (format == WEIGHT_INT4)
        return (size_t)int4_groups(k) * INT4_GROUP_BYTES;
    return (size_t)row_units(format, k) * PANEL_UNIT_BYTES + (format == WEIGHT_INT8 ? INT8_HEADER_BYTES : 0);
}

/* Offset of what follows the units of an activation row. */
static inline size_t activation_tail(enum weight_format format, int32_t k)
{
    return ((size_t)row_units(format, k) * UNIT_BYTES + LINE_BYTES - 1) / LINE_BYTES * LINE_BYTES;
}

static inline size_t activation_stride(enum weight_format format, int32_t k)
{
    size_t bytes = activation_tail(format, k);
    if (format == WEIGHT_INT8)
        bytes += sizeof(float);
    if (format == WEIGHT_INT4)
        bytes += sizeof(float) + (size_t)int4_groups(k) * sizeof(int32_t);
    return ((bytes + LINE_BYTES - 1) / LINE_BYTES | 1) * LINE_BYTES;
}

#endif
