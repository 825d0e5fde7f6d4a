// SPDX-License-Identifier: Apache-2.0
// Memory layout of AVX2 operands. Weights lie in panels of 16 columns (outputs), each panel the whole of k
// one after the other, so that a product streams them once, front to back. A panel is made of lines of 64
// bytes:
//   f32    1 k  [16]
//   bf16   2 k  [4][2][4]: four columns of each k in turn, as the halves of unpacked 16-byte lanes
//   int8   4 k  [2][16][2]; before the first line scales f32 [16]
//   int4   8 k  [2][8][4]: low nibbles are columns 0-7, high nibbles columns 8-15; a nibble is the value plus
//          8; before each group of 64 k scales bf16 [16]
// Activation rows lie in tiles of up to 6 rows of nearly equal height h, and in a tile by units of 4 bytes:
// [units][h]. A unit is 1 f32 (f32 and bf16 panels), 2 16-bit values of a byte's range (int8) or 4 bytes
// (int4); k is padded with zeros to whole lines (int4: groups). So a register tile reads its operands front
// to back, and no two rows compete for a bank or a set of the cache. Behind all tiles, tile by tile, int8:
// scales f32 [h]; int4: scales f32 [h], then [groups][h] pairs of int16: -8 times the sum of the row's group
// over k modulo 4 = 0 and 1, and over the others.
#ifndef ENGINE_KERNELS_PANELS_AVX2_H
#define ENGINE_KERNELS_PANELS_AVX2_H

#include "engine/kernels/cut.h"
#include "engine/kernels/quantise.h"
#include "engine/kernels/simd_avx2.h"

enum {
    LINE_BYTES = 64,
    UNIT_BYTES = 4,
    TILE_ROWS = 6, /* 12 accumulators, 2 weights, 1 operand and 1 product fill 16 registers */
    INT8_HEADER_BYTES = AVX2_PANEL_COLUMNS * 4,
    INT4_GROUP_LINES = INT4_GROUP / 8,
    INT4_SCALE_BYTES = AVX2_PANEL_COLUMNS * 2,
    INT4_GROUP_BYTES = INT4_SCALE_BYTES + INT4_GROUP_LINES * LINE_BYTES
};

/* k of one line. */
static inline int32_t line_depth(enum weight_format format)
{
    return format == WEIGHT_F32 ? 1 : format == WEIGHT_BF16 ? 2 : format == WEIGHT_INT8 ? 4 : 8;
}

/* Units of an activation row that a line is multiplied with. */
static inline int32_t line_units(enum weight_format format)
{
    return format == WEIGHT_F32 ? 1 : 2;
}

static inline int32_t panel_lines(enum weight_format format, int32_t k)
{
    if (format == WEIGHT_INT4)
        return int4_groups(k) * INT4_GROUP_LINES;
    return (k + line_depth(format) - 1) / line_depth(format);
}

static inline size_t panel_bytes(enum weight_format format, int32_t k)
{
    if (format == WEIGHT_INT4)
        return (size_t)int4_groups(k) * INT4_GROUP_BYTES;
    return (size_t)panel_lines(format, k) * LINE_BYTES + (format == WEIGHT_INT8 ? INT8_HEADER_BYTES : 0);
}

static inline size_t row_bytes(enum weight_format format, int32_t k)
{
    return (size_t)(panel_lines(format, k) * line_units(format)) * UNIT_BYTES;
}

/* Bytes behind the tiles for each row. */
static inline size_t row_tail_bytes(enum weight_format format, int32_t k)
{
    if (format == WEIGHT_INT4)
        return sizeof(float) + (size_t)int4_groups(k) * UNIT_BYTES;
    return format == WEIGHT_INT8 ? sizeof(float) : 0;
}

static inline struct cut activation_tiles(int32_t rows)
{
    return cut_evenly(rows, TILE_ROWS);
}

#endif
