// SPDX-License-Identifier: Apache-2.0
// The AVX2 kernel set: products of its own, everything else from the portable ops.
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
    .kv_block_bytes = kernels_generic_kv_block_bytes,
    .kv_store = kernels_generic_kv_store,
    .attention_scratch_bytes = kernels_generic_attention_scratch_bytes,
    .attention = kernels_generic_attention,
};
