// SPDX-License-Identifier: Apache-2.0
// Matrix products of the AVX2 set. Contracts: kernels.h.
#ifndef ENGINE_KERNELS_PRODUCTS_AVX2_H
#define ENGINE_KERNELS_PRODUCTS_AVX2_H

#include "engine/kernels/kernels.h"

enum { AVX2_PANEL_COLUMNS = 16 };

bool avx2_has_format(enum weight_format format);
size_t avx2_weight_bytes(enum weight_format format, int32_t n, int32_t k);
void avx2_weight_pack(struct weight *w, const void *src, enum dtype dtype, int32_t n_begin, int32_t n_end);
size_t avx2_activation_bytes(enum weight_format format, int32_t rows, int32_t k);
void avx2_activation_prepare(struct activation *x, int32_t row_begin, int32_t row_end);
void avx2_matmul(float *y, size_t y_stride, const struct weight *w, const struct activation *x,
                 const float *bias, int32_t n_begin, int32_t n_end);

#endif
