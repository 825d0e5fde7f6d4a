// SPDX-License-Identifier: Apache-2.0
// The AVX2 kernel set: products and attention of its own, row ops from the portable ones.
#include "engine/kernels/attention_avx2.h"
#include "engine/kernels/kernels_generic.h"
#include "engine/kernels/products_avx2.h"

static bool supported(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

const struct kernels kernels_avx2 = {
    .name = "avx2",
    .supported = supported,
    .has_format = avx2_has_format,
    .weight_bytes = avx2_weight_bytes,
    .n_granule = AVX2_PANEL_COLUMNS,
    .weight_pack = avx2_weight_pack,
    .activation_bytes = avx2_activation_bytes,
    .activation_prepare = avx2_activation_prepare,
    .matmul = avx2_matmul,
    .rms_norm = kernels_generic_rms_norm,
    .rope = kernels_generic_rope,
    .swiglu = kernels_generic_swiglu,
    .add = kernels_generic_add,
    .has_kv_int8 = true,
    .kv_block_bytes = avx2_kv_block_bytes,
    .kv_store = avx2_kv_store,
    .attention_scratch_bytes = avx2_attention_scratch_bytes,
    .attention = avx2_attention,
    .attention_spans = avx2_attention_spans,
    .attention_tile_tokens = AVX2_ATTENTION_TILE_TOKENS,
};
