// SPDX-License-Identifier: Apache-2.0
// The kernel set in plain C: the oracle that every other set is compared with, and the fallback of any
// machine. Runs on the kernel team, each call on one thread.
//
// Fixed order: a dot product keeps 16 partial sums, partial sum i taking the elements whose index is i
// modulo 16 in ascending order, and folds them in one fixed tree. The compiler may put the 16 sums into
// vector lanes, but may not reorder (no -ffast-math, no contraction), so every machine computes the same
// bytes. No libm function is used but sqrtf, which IEEE 754 defines exactly.
#include "engine/kernels/kernels_generic.h"

#include <math.h>
#include <string.h>

#include "base/check.h"
#include "engine/kernels/dtype.h"
#include "engine/kernels/exp.h"

enum { LANES = 16, TILE_TOKENS = 16, ROW_BLOCK = 4 };

static float fold_lanes(float lanes[LANES])
{
    for (int width = LANES / 2; width > 0; width /= 2)
        for (int i = 0; i < width; i++)
            lanes[i] += lanes[i + width];
    return lanes[0];
}

static float dot_f32(const float *a, const float *b, int32_t n)
{
    float lanes[LANES] = {0};
    int32_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int lane = 0; lane < LANES; lane++)
            lanes[lane] += a[i + lane] * b[i + lane];
    for (; i < n; i++)
        lanes[i % LANES] += a[i] * b[i];
    return fold_lanes(lanes);
}

static float dot_bf16(const float *a, const uint16_t *b, int32_t n)
{
    float lanes[LANES] = {0};
    int32_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int lane = 0; lane < LANES; lane++)
            lanes[lane] += a[i + lane] * dtype_f32_from_bf16(b[i + lane]);
    for (; i < n; i++)
        lanes[i % LANES] += a[i] * dtype_f32_from_bf16(b[i]);
    return fold_lanes(lanes);
}

static bool always_supported(void)
{
    return true;
}

static bool has_format(enum weight_format format)
{
    return format == WEIGHT_F32 || format == WEIGHT_BF16;
}

/* Weights stay row-major [n][k], f32 or bf16. */
static size_t weight_bytes(enum weight_format format, int32_t n, int32_t k)
{
    CHECK(has_format(format) && n > 0 && k > 0);
    return (size_t)n * (size_t)k * (format == WEIGHT_F32 ? sizeof(float) : sizeof(uint16_t));
}

static void weight_pack(struct weight *w, const void *src, enum dtype dtype, int32_t n_begin, int32_t n_end)
{
    size_t begin = (size_t)n_begin * (size_t)w->k, end = (size_t)n_end * (size_t)w->k;
    if (dtype == (w->format == WEIGHT_F32 ? DTYPE_F32 : DTYPE_BF16)) {
        size_t element_bytes = dtype_bytes(dtype);
        memcpy((uint8_t *)w->data + begin * element_bytes, (const uint8_t *)src + begin * element_bytes,
               (end - begin) * element_bytes);
        return;
    }
    if (w->format == WEIGHT_F32) {
        float *data = w->data;
        for (size_t i = begin; i < end; i++)
            data[i] = dtype_load(src, i, dtype);
        return;
    }
    uint16_t *data = w->data;
    for (size_t i = begin; i < end; i++)
        data[i] = dtype_bf16_from_f32(dtype_load(src, i, dtype));
}

/* Products read the f32 rows themselves: nothing to convert. */
static size_t activation_bytes(enum weight_format format, int32_t rows, int32_t k)
{
    (void)format, (void)rows, (void)k;
    return 0;
}

static void activation_prepare(struct activation *x, int32_t row_begin, int32_t row_end)
{
    (void)x, (void)row_begin, (void)row_end;
}

static float dot_weight(const struct weight *w, int32_t n, const float *x)
{
    size_t offset = (size_t)n * (size_t)w->k;
    return w->format == WEIGHT_F32 ? dot_f32(x, (const float *)w->data + offset, w->k)
                                   : dot_bf16(x, (const uint16_t *)w->data + offset, w->k);
}

/* A few rows at a time, so that a weight row is read from memory once for all of them. */
static void matmul(float *y, size_t y_stride, const struct weight *w, const struct activation *x,
                   const float *bias, int32_t n_begin, int32_t n_end)
{
    CHECK(x->k == w->k && n_begin >= 0 && n_end <= w->n);
    for (int32_t row = 0; row < x->rows; row += ROW_BLOCK) {
        int32_t row_end = row + ROW_BLOCK < x->rows ? row + ROW_BLOCK : x->rows;
        for (int32_t n = n_begin; n < n_end; n++)
            for (int32_t r = row; r < row_end; r++) {
                float sum = dot_weight(w, n, activation_source(x, r));
                y[(size_t)r * y_stride + (size_t)n] = bias ? sum + bias[n] : sum;
            }
    }
}

void kernels_generic_rms_norm(float *y, const float *x, const float *weight, int32_t n, float eps)
{
    float scale = 1.0f / sqrtf(dot_f32(x, x, n) / (float)n + eps);
    for (int32_t i = 0; i < n; i++)
        y[i] = x[i] * scale * weight[i];
}

void kernels_generic_rope(float *x, int32_t heads, int32_t head_dim, const float *cos, const float *sin)
{
    int32_t half = head_dim / 2;
    for (int32_t head = 0; head < heads; head++, x += head_dim)
        for (int32_t i = 0; i < half; i++) {
            float a = x[i], b = x[i + half];
            x[i] = a * cos[i] - b * sin[i];
            x[i + half] = b * cos[i] + a * sin[i];
        }
}

void kernels_generic_swiglu(float *y, const float *gate, const float *up, int32_t n)
{
    for (int32_t i = 0; i < n; i++)
        y[i] = gate[i] / (1.0f + exp_f32(-gate[i])) * up[i];
}

void kernels_generic_add(float *y, const float *x, int32_t n)
{
    for (int32_t i = 0; i < n; i++)
        y[i] += x[i];
}

static size_t kv_row_bytes(enum kv_format format, int32_t head_dim)
{
    if (format == KV_INT8)
        return sizeof(float) + (size_t)head_dim;
    return (size_t)head_dim * (format == KV_F32 ? sizeof(float) : sizeof(uint16_t));
}

size_t kernels_generic_kv_block_bytes(enum kv_format format, int32_t block_tokens, int32_t kv_heads,
                                      int32_t head_dim)
{
    return 2 * (size_t)kv_heads * (size_t)block_tokens * kv_row_bytes(format, head_dim);
}

/* The scale, then whole multiples of it from -127 to 127. */
static void store_int8(uint8_t *out, const float *x, int32_t n)
{
    float max = 0.0f;
    for (int32_t i = 0; i < n; i++)
        max = fmaxf(max, fabsf(x[i]));
    const float scale = max / 127.0f, inverse = max > 0.0f ? 127.0f / max : 0.0f;
    memcpy(out, &scale, sizeof scale);
    for (int32_t i = 0; i < n; i++)
        out[sizeof scale + (size_t)i] = (uint8_t)(int8_t)rintf(x[i] * inverse);
}

static void store_row(uint8_t *out, enum kv_format format, const float *x, int32_t n)
{
    if (format == KV_INT8) {
        store_int8(out, x, n);
        return;
    }
    if (format == KV_F32) {
        memcpy(out, x, (size_t)n * sizeof *x);
        return;
    }
    for (int32_t i = 0; i < n; i++)
        ((uint16_t *)out)[i] = dtype_bf16_from_f32(x[i]);
}

void kernels_generic_kv_store(uint8_t *block, enum kv_format format, int32_t slot, int32_t block_tokens,
                              int32_t kv_heads, int32_t head_dim, const float *k, const float *v)
{
    size_t row_bytes = kv_row_bytes(format, head_dim);
    size_t v_offset = kernels_generic_kv_block_bytes(format, block_tokens, kv_heads, head_dim) / 2;
    for (int32_t head = 0; head < kv_heads; head++) {
        uint8_t *out = block + ((size_t)head * (size_t)block_tokens + (size_t)slot) * row_bytes;
        store_row(out, format, k + (size_t)head * (size_t)head_dim, head_dim);
        store_row(out + v_offset, format, v + (size_t)head * (size_t)head_dim, head_dim);
    }
}

/* Keys and values of one kv head, addressed by position. */
struct kv_view {
    const struct attention_args *args;
    size_t head_offset, row_bytes, v_offset;
};

static const uint8_t *kv_row(const struct kv_view *view, int32_t position)
{
    const struct attention_args *args = view->args;
    const uint8_t *block = args->layer_base + (size_t)args->block_table[position / args->block_tokens] *
                                                  args->block_stride_bytes;
    return block + view->head_offset + (size_t)(position % args->block_tokens) * view->row_bytes;
}

static float scale_of(const uint8_t *row)
{
    float scale;
    memcpy(&scale, row, sizeof scale);
    return scale;
}

static float dot_int8(const float *a, const uint8_t *row, int32_t n)
{
    const int8_t *b = (const int8_t *)(row + sizeof(float));
    float lanes[LANES] = {0};
    for (int32_t i = 0; i < n; i++)
        lanes[i % LANES] += a[i] * (float)b[i];
    return fold_lanes(lanes) * scale_of(row);
}

static float dot_key(const struct attention_args *args, const float *q, const uint8_t *k)
{
    switch (args->kv_format) {
    case KV_F32:
        return dot_f32(q, (const float *)k, args->head_dim);
    case KV_BF16:
        return dot_bf16(q, (const uint16_t *)k, args->head_dim);
    default:
        return dot_int8(q, k, args->head_dim);
    }
}

static void add_scaled_row(float *acc, float p, const uint8_t *row, enum kv_format format, int32_t n)
{
    if (format == KV_INT8) {
        const int8_t *v = (const int8_t *)(row + sizeof(float));
        p *= scale_of(row);
        for (int32_t i = 0; i < n; i++)
            acc[i] += p * (float)v[i];
        return;
    }
    if (format == KV_F32) {
        const float *v = (const float *)row;
        for (int32_t i = 0; i < n; i++)
            acc[i] += p * v[i];
        return;
    }
    const uint16_t *v = (const uint16_t *)row;
    for (int32_t i = 0; i < n; i++)
        acc[i] += p * dtype_f32_from_bf16(v[i]);
}

struct softmax {
    float max, sum;
};

/* Adds positions [begin, end), all of one tile, to the running softmax in `acc` (Milakov and Gimelshein,
 * "Online normalizer calculation for softmax", 2018). */
static void attend_tile(const struct kv_view *view, const float *q, int32_t begin, int32_t end,
                        struct softmax *softmax, float *acc)
{
    const struct attention_args *args = view->args;
    float scores[TILE_TOKENS];
    float max = softmax->max;
    for (int32_t i = begin; i < end; i++) {
        scores[i - begin] = dot_key(args, q, kv_row(view, i)) * args->scale;
        if (scores[i - begin] > max)
            max = scores[i - begin];
    }
    float decay = exp_f32(softmax->max - max);
    softmax->max = max;
    softmax->sum *= decay;
    for (int32_t d = 0; d < args->head_dim; d++)
        acc[d] *= decay;
    for (int32_t i = begin; i < end; i++) {
        float p = exp_f32(scores[i - begin] - max);
        softmax->sum += p;
        add_scaled_row(acc, p, kv_row(view, i) + view->v_offset, args->kv_format, args->head_dim);
    }
}

/* One query at `position`; `values` is its accumulator. Tiles are cut at multiples of 16 positions, whatever
 * block_tokens is, and taken from the first visible position upward: the result is a function of position,
 * keys, window and the positions asked for alone. */
static struct softmax attend(const struct kv_view *view, const float *q, int32_t position, float *values)
{
    const struct attention_args *args = view->args;
    const int32_t oldest = args->window > 0 && position >= args->window ? position - args->window + 1 : 0;
    const int32_t last = args->end < position + 1 ? args->end : position + 1;
    struct softmax softmax = {.max = -INFINITY, .sum = 0.0f};
    memset(values, 0, (size_t)args->head_dim * sizeof *values);
    for (int32_t begin = oldest > args->begin ? oldest : args->begin; begin < last;) {
        int32_t end = (begin / TILE_TOKENS + 1) * TILE_TOKENS;
        end = end < last ? end : last;
        attend_tile(view, q, begin, end, &softmax, values);
        begin = end;
    }
    return softmax;
}

/* Query `index` of those of a kv head: its attention, or its state. */
static void attend_query(const struct kv_view *view, int32_t kv_head, int32_t index, void *states)
{
    const struct attention_args *args = view->args;
    const int32_t group = args->heads / args->kv_heads, row = index / group;
    const size_t column = (size_t)(kv_head * group + index % group) * (size_t)args->head_dim;
    const float *q = args->q + (size_t)row * (size_t)args->q_stride + column;
    if (states) {
        struct attention_state *state = attention_state_at(states, (size_t)index, args->head_dim);
        const struct softmax softmax = attend(view, q, args->first_position + row, state->values);
        state->max = softmax.max, state->sum = softmax.sum;
        return;
    }
    float *out = args->out + (size_t)row * (size_t)args->out_stride + column;
    const float scale = 1.0f / attend(view, q, args->first_position + row, out).sum;
    for (int32_t d = 0; d < args->head_dim; d++)
        out[d] = out[d] * scale + 0.0f; /* as attention_state_finish */
}

size_t kernels_generic_attention_scratch_bytes(int32_t heads, int32_t kv_heads, int32_t head_dim,
                                               int32_t max_rows)
{
    (void)heads, (void)kv_heads, (void)head_dim, (void)max_rows;
    return 0; /* the output row is the accumulator */
}

void kernels_generic_attention(const struct attention_args *args, int32_t kv_head_begin, int32_t kv_head_end,
                               void *scratch)
{
    (void)scratch;
    const int32_t queries = args->heads / args->kv_heads * args->rows;
    uint8_t *states = args->states;
    struct kv_view view = {
        .args = args,
        .row_bytes = kv_row_bytes(args->kv_format, args->head_dim),
        .v_offset = kernels_generic_kv_block_bytes(args->kv_format, args->block_tokens, args->kv_heads,
                                                   args->head_dim) /
                    2,
    };
    for (int32_t kv_head = kv_head_begin; kv_head < kv_head_end; kv_head++) {
        view.head_offset = (size_t)kv_head * (size_t)args->block_tokens * view.row_bytes;
        for (int32_t i = 0; i < queries; i++)
            attend_query(&view, kv_head, i, states);
        if (states)
            states += (size_t)queries * attention_state_bytes(args->head_dim);
    }
}

const struct kernels kernels_generic = {
    .name = "generic",
    .supported = always_supported,
    .has_format = has_format,
    .weight_bytes = weight_bytes,
    .n_granule = 1,
    .weight_pack = weight_pack,
    .activation_bytes = activation_bytes,
    .activation_prepare = activation_prepare,
    .matmul = matmul,
    .rms_norm = kernels_generic_rms_norm,
    .rope = kernels_generic_rope,
    .swiglu = kernels_generic_swiglu,
    .add = kernels_generic_add,
    .has_kv_int8 = true,
    .kv_block_bytes = kernels_generic_kv_block_bytes,
    .kv_store = kernels_generic_kv_store,
    .attention_scratch_bytes = kernels_generic_attention_scratch_bytes,
    .attention = kernels_generic_attention,
};
