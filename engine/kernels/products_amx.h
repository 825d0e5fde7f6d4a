// SPDX-License-Identifier: Apache-2.0
// Matrix products on AMX tiles, over the same operands as the AVX-512 set. Contracts: kernels.h.
#ifndef ENGINE_KERNELS_PRODUCTS_AMX_H
#define ENGINE_KERNELS_PRODUCTS_AMX_H

#include "engine/kernels/kernels.h"

void amx_matmul(float *y, size_t y_stride, const struct weight *w, const struct activation *x,
                const float *bias, int32_t n_begin, int32_t n_end);

/* The rate of tile products from registers; see machine_limits.h. */
uint64_t amx_peak(enum weight_format format, uint64_t operations);

#endif
