// SPDX-License-Identifier: Apache-2.0
// The portable ops by name, for kernel sets that replace only some of them. Contracts: kernels.h.
//
// KV layout of one layer of one block, shared by every set that uses these three ops; elements are f32, bf16
// or int8 as kv_format says, a row of int8 begins with its scale (f32):
//   K [kv_heads][block_tokens][head_dim]  then  V [kv_heads][block_tokens][head_dim]
#ifndef ENGINE_KERNELS_KERNELS_GENERIC_H
#define ENGINE_KERNELS_KERNELS_GENERIC_H

#include "engine/kernels/kernels.h"

void kernels_generic_rms_norm(float *y, const float *x, const float *weight, int32_t n, float eps);
void kernels_generic_rope(float *x, int32_t heads, int32_t head_dim, const float *cos, const float *sin);
void kernels_generic_swiglu(float *y, const float *gate, const float *up, int32_t n);
void kernels_generic_add(float *y, const float *x, int32_t n);

size_t kernels_generic_kv_block_bytes(enum kv_format format, int32_t block_tokens, int32_t kv_heads,
                                      int32_t head_dim);
void kernels_generic_kv_store(uint8_t *block, enum kv_format format, int32_t slot, int32_t block_tokens,
                              int32_t kv_heads, int32_t head_dim, const float *k, const float *v);
size_t kernels_generic_attention_scratch_bytes(int32_t heads, int32_t kv_heads, int32_t head_dim,
                                               int32_t max_rows);
void kernels_generic_attention(const struct attention_args *args, int32_t kv_head_begin, int32_t kv_head_end,
                               void *scratch);

#endif
