// SPDX-License-Identifier: Apache-2.0
// The AMX kernel set: the AVX-512 set with bf16, int8 and int4 products, and attention over bf16, on tiles. A
// set of its own, because a tile adds bf16 products in another order than VDPBF16PS does.
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/kernels/products_amx.h"
#include "engine/kernels/simd_avx512.h"

enum { REQUEST_STATE_PERMISSION = 0x1023, TILE_DATA_STATE = 18 }; /* Linux arch_prctl, since 5.16 */
enum { AMX_BF16_BIT = 22, AMX_TILE_BIT = 24, AMX_INT8_BIT = 25 };

/* Tile state is given to a process only on request. */
static bool supported(void)
{
    unsigned eax, ebx, ecx, edx = 0;
    const unsigned needed = 1u << AMX_BF16_BIT | 1u << AMX_TILE_BIT | 1u << AMX_INT8_BIT;
    return avx512_supported() && __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) &&
           (edx & needed) == needed &&
           syscall(SYS_arch_prctl, REQUEST_STATE_PERMISSION, TILE_DATA_STATE) == 0;
}

static bool has_format(enum weight_format format)
{
    return format == WEIGHT_F32 || format == WEIGHT_BF16 || format == WEIGHT_INT8 || format == WEIGHT_INT4;
}

const struct kernels kernels_amx = {
    .name = "amx",
    .supported = supported,
    .has_format = has_format,
    .weight_bytes = avx512_weight_bytes,
    .n_granule = AVX512_PANEL_COLUMNS,
    .weight_pack = avx512_weight_pack,
    .activation_bytes = avx512_activation_bytes,
    .activation_prepare = avx512_activation_prepare,
    .matmul = amx_matmul,
    .rms_norm = avx512_rms_norm,
    .rope = avx512_rope,
    .swiglu = avx512_swiglu,
    .add = avx512_add,
    .kv_block_bytes = avx512_kv_block_bytes,
    .kv_store = avx512_kv_store,
    .attention_scratch_bytes = avx512_attention_scratch_bytes,
    .attention = amx_attention,
    .attention_spans = amx_attention_spans,
    .attention_tile_tokens = AVX512_ATTENTION_TILE_TOKENS,
};
