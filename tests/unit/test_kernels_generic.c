// SPDX-License-Identifier: Apache-2.0
// The oracle itself against formulas in double precision, and the row-independence of both portable sets.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/kernels/dtype.h"
#include "engine/kernels/kernels.h"

static uint32_t seed = 1;

static float uniform(void) /* [-1, 1) */
{
    seed = seed * 1664525u + 1013904223u;
    return (float)(int32_t)(seed & 0xffffff00u) / 2147483648.0f;
}

static float *uniform_array(size_t count)
{
    float *array = aligned_alloc(64, (count * sizeof(float) + 63) / 64 * 64);
    assert_non_null(array);
    for (size_t i = 0; i < count; i++)
        array[i] = uniform();
    return array;
}

static void *allocate(size_t bytes)
{
    void *memory = aligned_alloc(64, (bytes + 64) / 64 * 64);
    assert_non_null(memory);
    return memory;
}

static void conversions_are_exact_and_round_to_even(void **state)
{
    (void)state;
    assert_true(dtype_f32_from_f16(0x3c00) == 1.0f && dtype_f32_from_f16(0xc001) == -2.001953125f);
    assert_true(dtype_f32_from_f16(0x0001) == 0x1p-24f && dtype_f32_from_f16(0x83ff) == -0x3ffp-24f);
    assert_true(isinf(dtype_f32_from_f16(0x7c00)) && isnan(dtype_f32_from_f16(0x7e00)));
    for (uint32_t half = 0; half < 0x7f80; half++)
        assert_int_equal(dtype_bf16_from_f32(dtype_f32_from_bf16((uint16_t)half)), half);
    assert_int_equal(dtype_bf16_from_f32(0x1.01p0f), 0x3f80); /* tie to even, down */
    assert_int_equal(dtype_bf16_from_f32(0x1.03p0f), 0x3f82); /* tie to even, up */
    assert_true(isnan(dtype_f32_from_bf16(dtype_bf16_from_f32(NAN))));
}

/* All products of random shapes within 1e-5 of double precision, bias added. */
static void check_matmul(const struct kernels *set, enum weight_format format, int32_t rows, int32_t n,
                         int32_t k)
{
    float *source = uniform_array((size_t)n * (size_t)k), *x = uniform_array((size_t)rows * (size_t)k);
    float *bias = uniform_array((size_t)n), *y = uniform_array((size_t)rows * (size_t)n);
    struct weight w = {.format = format, .n = n, .k = k, .data = allocate(set->weight_bytes(format, n, k))};
    set->weight_pack(&w, source, DTYPE_F32, 0, n);
    struct activation act = {.format = format, .rows = rows, .k = k, .source = x};
    act.data = allocate(set->activation_bytes(format, rows, k));
    set->activation_prepare(&act, 0, rows);
    set->matmul(y, (size_t)n, &w, &act, bias, 0, n);
    for (int32_t r = 0; r < rows; r++)
        for (int32_t i = 0; i < n; i++) {
            double sum = (double)bias[i];
            for (int32_t j = 0; j < k; j++) {
                float element = source[(size_t)i * (size_t)k + (size_t)j];
                if (format == WEIGHT_BF16)
                    element = dtype_f32_from_bf16(dtype_bf16_from_f32(element));
                sum += (double)element * (double)x[(size_t)r * (size_t)k + (size_t)j];
            }
            assert_true(fabs(sum - (double)y[(size_t)r * (size_t)n + (size_t)i]) < 1e-5);
        }
    free(source), free(x), free(bias), free(y), free(w.data), free(act.data);
}

static void products_agree_with_double_precision(void **state)
{
    (void)state;
    const int32_t shapes[][3] = {{1, 1, 1}, {3, 7, 33}, {17, 65, 64}, {5, 130, 172}};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        check_matmul(&kernels_generic, WEIGHT_F32, shapes[i][0], shapes[i][1], shapes[i][2]);
        check_matmul(&kernels_generic, WEIGHT_BF16, shapes[i][0], shapes[i][1], shapes[i][2]);
        check_matmul(&kernels_openblas, WEIGHT_F32, shapes[i][0], shapes[i][1], shapes[i][2]);
    }
}

/* The bytes of a row's products: alone against every place in batches of up to 40 rows, whole n against
 * granule by granule. */
static void check_row_bytes(const struct kernels *set, enum weight_format format, int32_t k)
{
    enum { N = 192, ROWS = 40 };
    float *source = uniform_array((size_t)N * (size_t)k), *x = uniform_array((size_t)ROWS * (size_t)k);
    float alone[ROWS][N], together[ROWS][N];
    struct weight w = {.format = format, .n = N, .k = k, .data = allocate(set->weight_bytes(format, N, k))};
    set->weight_pack(&w, source, DTYPE_F32, 0, N);
    struct activation act = {
        .format = format, .k = k, .data = allocate(set->activation_bytes(format, ROWS, k))};
    for (int32_t r = 0; r < ROWS; r++) {
        act.source = x + (size_t)r * (size_t)k, act.rows = 1;
        set->activation_prepare(&act, 0, 1);
        set->matmul(alone[r], N, &w, &act, NULL, 0, N);
    }
    for (int32_t first = 0; first < ROWS; first += 5)
        for (int32_t rows = 1; first + rows <= ROWS; rows++) {
            act.source = x + (size_t)first * (size_t)k, act.rows = rows;
            set->activation_prepare(&act, 0, rows / 2);
            set->activation_prepare(&act, rows / 2, rows);
            for (int32_t n = 0; n < N; n += set->n_granule)
                set->matmul(together[0], N, &w, &act, NULL, n, n + set->n_granule);
            assert_memory_equal(together[0], alone[first], (size_t)rows * sizeof alone[0]);
        }
    free(source), free(x), free(w.data), free(act.data);
}

static void a_row_is_the_same_in_any_company(void **state)
{
    (void)state;
    const int32_t depths[] = {8, 64, 172, 1024};
    for (size_t i = 0; i < sizeof depths / sizeof depths[0]; i++) {
        check_row_bytes(&kernels_generic, WEIGHT_F32, depths[i]);
        check_row_bytes(&kernels_generic, WEIGHT_BF16, depths[i]);
        if (kernels_openblas.supported())
            check_row_bytes(&kernels_openblas, WEIGHT_F32, depths[i]);
        else
            print_message(
                "openblas: this CPU's OpenBLAS kernels depend on a row's place; the set is refused\n");
    }
}

static void row_ops_follow_their_formulas(void **state)
{
    (void)state;
    enum { N = 130 };
    float *x = uniform_array(N), *weight = uniform_array(N), y[N];
    double squares = 0.0;
    for (int i = 0; i < N; i++)
        squares += (double)x[i] * (double)x[i];
    kernels_generic.rms_norm(y, x, weight, N, 1e-6f);
    for (int i = 0; i < N; i++) {
        double expected = (double)x[i] / sqrt(squares / N + 1e-6) * (double)weight[i];
        assert_true(fabs(expected - (double)y[i]) < 1e-6);
    }
    for (float gate = -100.0f; gate < 100.0f; gate += 0.37f) {
        float up = 1.7f, out;
        kernels_generic.swiglu(&out, &gate, &up, 1);
        double expected = (double)gate / (1.0 + exp((double)-gate)) * (double)up;
        assert_true(fabs(expected - (double)out) <= 4e-7 * fabs(expected) + 1e-30);
    }
    float pair[4] = {1.0f, 2.0f, 3.0f, 4.0f}, cosine[2] = {0.6f, 0.0f}, sine[2] = {0.8f, 1.0f};
    kernels_generic.rope(pair, 1, 4, cosine, sine); /* pairs are (x0, x2) and (x1, x3) */
    const float rotated[4] = {0.6f * 1 - 0.8f * 3, -4.0f, 0.6f * 3 + 0.8f * 1, 2.0f};
    for (int i = 0; i < 4; i++)
        assert_true(fabsf(pair[i] - rotated[i]) < 1e-6f);
    free(x), free(weight);
}

enum {
    HEADS = 6,
    KV_HEADS = 2,
    HEAD_DIM = 24,
    POSITIONS = 70,
    WIDTH = HEADS * HEAD_DIM,
    KV_WIDTH = KV_HEADS * HEAD_DIM,
    MAX_BLOCKS = 5
};

struct cache {
    struct attention_args args;
    int32_t table[MAX_BLOCKS];
    uint8_t *memory;
    float *q, *k, *v;
};

/* Random keys and values of POSITIONS tokens, in blocks laid out backwards. */
static void cache_init(struct cache *cache, int32_t block_tokens, enum kv_format format, int32_t window)
{
    seed = 7;
    size_t block_bytes = kernels_generic.kv_block_bytes(format, block_tokens, KV_HEADS, HEAD_DIM);
    cache->memory = allocate(block_bytes * MAX_BLOCKS);
    cache->q = uniform_array((size_t)POSITIONS * WIDTH);
    cache->k = uniform_array((size_t)POSITIONS * KV_WIDTH);
    cache->v = uniform_array((size_t)POSITIONS * KV_WIDTH);
    for (int32_t i = 0; i < MAX_BLOCKS; i++)
        cache->table[i] = MAX_BLOCKS - 1 - i;
    for (int32_t i = 0; i < POSITIONS; i++)
        kernels_generic.kv_store(cache->memory + (size_t)cache->table[i / block_tokens] * block_bytes, format,
                                 i % block_tokens, block_tokens, KV_HEADS, HEAD_DIM, cache->k + i * KV_WIDTH,
                                 cache->v + i * KV_WIDTH);
    cache->args = (struct attention_args){.q_stride = WIDTH,
                                          .out_stride = WIDTH,
                                          .block_table = cache->table,
                                          .layer_base = cache->memory,
                                          .block_stride_bytes = block_bytes,
                                          .block_tokens = block_tokens,
                                          .heads = HEADS,
                                          .kv_heads = KV_HEADS,
                                          .head_dim = HEAD_DIM,
                                          .window = window,
                                          .scale = 2.0f,
                                          .kv_format = format};
}

static void cache_release(struct cache *cache)
{
    free(cache->memory), free(cache->q), free(cache->k), free(cache->v);
}

static void attend_rows(struct cache *cache, int32_t first, int32_t rows, float *out)
{
    cache->args.first_position = first, cache->args.rows = rows, cache->args.end = first + rows;
    cache->args.q = cache->q + first * WIDTH, cache->args.out = out + first * WIDTH;
    for (int32_t kv_head = 0; kv_head < KV_HEADS; kv_head++)
        kernels_generic.attention(&cache->args, kv_head, kv_head + 1, NULL);
}

static double expected_attention(const struct cache *cache, int32_t position, int32_t head, int32_t d)
{
    int32_t begin = cache->args.window > 0 ? position - cache->args.window + 1 : 0;
    double total = 0.0, value = 0.0;
    for (int32_t i = begin < 0 ? 0 : begin; i <= position; i++) {
        size_t kv = (size_t)(i * KV_WIDTH + head / (HEADS / KV_HEADS) * HEAD_DIM);
        double dot = 0.0;
        for (int32_t j = 0; j < HEAD_DIM; j++)
            dot +=
                (double)cache->q[position * WIDTH + head * HEAD_DIM + j] * (double)cache->k[kv + (size_t)j];
        double p = exp(dot * (double)cache->args.scale);
        total += p;
        value += p * (double)cache->v[kv + (size_t)d];
    }
    return value / total;
}

static void attention_agrees_with_double_precision(void **state)
{
    (void)state;
    for (int32_t window = 0; window <= 20; window += 20) {
        struct cache cache;
        float out[POSITIONS * WIDTH];
        cache_init(&cache, 16, KV_F32, window);
        attend_rows(&cache, 0, POSITIONS, out);
        for (int32_t i = 0; i < POSITIONS * WIDTH; i++)
            assert_true(fabs(expected_attention(&cache, i / WIDTH, i % WIDTH / HEAD_DIM, i % HEAD_DIM) -
                             (double)out[i]) < 2e-6);
        cache_release(&cache);
    }
}

/* In bytes: one row at a time, chunks of 7, and blocks of 32 tokens instead of 16. */
static void attention_does_not_see_chunks_or_blocks(void **state)
{
    (void)state;
    for (int variant = 0; variant < 4; variant++) {
        enum kv_format format = variant & 1 ? KV_BF16 : KV_F32;
        int32_t window = variant & 2 ? 19 : 0;
        struct cache cache, wide;
        float whole[POSITIONS * WIDTH], chunks[POSITIONS * WIDTH];
        cache_init(&cache, 16, format, window);
        cache_init(&wide, 32, format, window);
        attend_rows(&cache, 0, POSITIONS, whole);
        for (int32_t first = 0; first < POSITIONS; first += 7)
            attend_rows(&cache, first, 7, chunks);
        assert_memory_equal(whole, chunks, sizeof whole);
        for (int32_t first = 0; first < POSITIONS; first++)
            attend_rows(&wide, first, 1, chunks);
        assert_memory_equal(whole, chunks, sizeof whole);
        cache_release(&cache), cache_release(&wide);
    }
}

static void sets_are_found_by_name(void **state)
{
    (void)state;
    assert_ptr_equal(kernels_find("generic"), &kernels_generic);
    assert_ptr_equal(kernels_find("openblas"), kernels_openblas.supported() ? &kernels_openblas : NULL);
    assert_non_null(kernels_find("auto"));
    assert_null(kernels_find("quantum"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conversions_are_exact_and_round_to_even),
        cmocka_unit_test(products_agree_with_double_precision),
        cmocka_unit_test(a_row_is_the_same_in_any_company),
        cmocka_unit_test(row_ops_follow_their_formulas),
        cmocka_unit_test(attention_agrees_with_double_precision),
        cmocka_unit_test(attention_does_not_see_chunks_or_blocks),
        cmocka_unit_test(sets_are_found_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
