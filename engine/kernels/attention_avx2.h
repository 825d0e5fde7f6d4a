// SPDX-License-Identifier: Apache-2.0
// Paged attention of the AVX2 set. Contracts: kernels.h.
//
// KV layout of one layer of one block: [kv_heads][block_tokens / 16] groups of 16 tokens, each K then V,
// head_dim padded with zeros to a multiple of 16:
//   f32   K [head_dim][16 tokens]         V [16 tokens][head_dim]
//   bf16  K [head_dim / 2][16 tokens][2]  V [16 tokens / 2][head_dim][2]   neighbours share a 32-bit lane
//   int8  as f32; behind K and behind V the scales of the 16 tokens, f32
#ifndef ENGINE_KERNELS_ATTENTION_AVX2_H
#define ENGINE_KERNELS_ATTENTION_AVX2_H

#include "engine/kernels/kernels.h"

enum { AVX2_ATTENTION_TILE_TOKENS = 64 };

size_t avx2_kv_block_bytes(enum kv_format format, int32_t block_tokens, int32_t kv_heads, int32_t head_dim);
void avx2_kv_store(uint8_t *block, enum kv_format format, int32_t slot, int32_t block_tokens,
                   int32_t kv_heads, int32_t head_dim, const float *k, const float *v);
size_t avx2_attention_scratch_bytes(int32_t heads, int32_t kv_heads, int32_t head_dim, int32_t max_rows);
void avx2_attention(const struct attention_args *args, int32_t kv_head_begin, int32_t kv_head_end,
                    void *scratch);
void avx2_attention_spans(const struct attention_args *args, const struct attention_row *rows,
                          const struct attention_span *spans, int32_t span_count, int32_t kv_head_begin,
                          int32_t kv_head_end, void *scratch);

#endif
