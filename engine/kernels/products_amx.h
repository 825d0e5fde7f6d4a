// SPDX-License-Identifier: Apache-2.0
// Matrix products on AMX tiles, over the same operands as the AVX-512 set. Contracts: kernels.h.
#ifndef ENGINE_KERNELS_PRODUCTS_AMX_H
#define ENGINE_KERNELS_PRODUCTS_AMX_H

#include "engine/kernels/kernels.h"

void amx_matmul(float *y, size_t y_stride, const struct weight *w, const struct activation *x,
                const float *bias, int32_t n_begin, int32_t n_end);

struct amx_product { /* the arguments of a matmul */
    float *y;
    size_t y_stride;
    const struct weight *w;
    const struct activation *x;
    const float *bias;
    int32_t n_begin, n_end;
};
void amx_matmul_int4(const struct amx_product *product); /* int4_amx.c */

/* attention_amx.c */
void amx_attention(const struct attention_args *args, int32_t kv_head_begin, int32_t kv_head_end,
                   void *scratch);
void amx_attention_spans(const struct attention_args *args, const struct attention_row *rows,
                         const struct attention_span *spans, int32_t span_count, int32_t kv_head_begin,
                         int32_t kv_head_end, void *scratch);

struct amx_tile_config { /* LDTILECFG's operand */
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};
void amx_configure(const struct amx_tile_config *config);
/* For products of up to 32 rows: tiles 0-3 accumulate, 4 and 5 hold rows, 6 and 7 columns. */
void amx_configure_rows(int32_t rows);

/* The rate of tile products from registers; see machine_limits.h. */
uint64_t amx_peak(enum weight_format format, uint64_t operations);

#endif
