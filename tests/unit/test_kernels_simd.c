// SPDX-License-Identifier: Apache-2.0
// The hand-vectorised kernel sets that this CPU can run: every op against the generic set (the oracle) within
// a stated tolerance, and the bytes of a row's result in every company.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/kernels/dtype.h"
#include "engine/kernels/kernels.h"

static uint32_t seed = 7;

static float uniform(void) /* [-1, 1) */
{
    seed = seed * 1664525u + 1013904223u;
    return (float)(int32_t)(seed & 0xffffff00u) / 2147483648.0f;
}

static int32_t below(int32_t limit)
{
    seed = seed * 1664525u + 1013904223u;
    return (int32_t)((seed >> 8) % (uint32_t)limit);
}

static void *allocate(size_t bytes)
{
    void *memory = aligned_alloc(64, (bytes + 64) / 64 * 64);
    assert_non_null(memory);
    memset(memory, 0xee, (bytes + 64) / 64 * 64);
    return memory;
}

static float *uniform_array(size_t count)
{
    float *array = allocate(count * sizeof *array);
    for (size_t i = 0; i < count; i++)
        array[i] = uniform();
    return array;
}

static const char *const set_names[] = {"amx", "avx512", "avx2"};

typedef void check_set(const struct kernels *set);

/* Skipped, not passed, where the CPU can run none of the sets. */
static void for_each_set(check_set *check)
{
    int sets = 0;
    for (size_t i = 0; i < sizeof set_names / sizeof set_names[0]; i++) {
        const struct kernels *set = kernels_find(set_names[i]);
        if (set) {
            check(set);
            sets++;
        }
    }
    if (sets == 0)
        skip();
}

struct operands {
    struct weight w;
    struct activation x;
    float *source, *rows, *bias;
};

static void convert(const struct kernels *set, struct operands *o)
{
    const int32_t n = o->w.n, rows = o->x.rows;
    for (int32_t begin = 0; begin < n; begin += set->n_granule)
        set->weight_pack(&o->w, o->source, DTYPE_F32, begin,
                         begin + set->n_granule < n ? begin + set->n_granule : n);
    set->activation_prepare(&o->x, 0, rows / 2);
    set->activation_prepare(&o->x, rows / 2, rows);
}

static struct operands operands_of(const struct kernels *set, enum weight_format format, int32_t rows,
                                   int32_t n, int32_t k)
{
    struct operands o = {.source = uniform_array((size_t)n * (size_t)k),
                         .rows = uniform_array((size_t)rows * (size_t)k),
                         .bias = uniform_array((size_t)n)};
    o.w =
        (struct weight){.format = format, .n = n, .k = k, .data = allocate(set->weight_bytes(format, n, k))};
    o.x = (struct activation){.format = format, .rows = rows, .k = k, .source = o.rows};
    o.x.data = allocate(set->activation_bytes(format, rows, k));
    convert(set, &o);
    return o;
}

static void release(struct operands *o)
{
    free(o->w.data), free(o->x.data), free(o->source), free(o->rows), free(o->bias);
}

/* Root mean square of the error over that of the result, against double precision on unrounded operands. */
static double relative_error(const struct operands *o, const float *y, bool bias)
{
    double error = 0.0, size = 0.0;
    for (int32_t r = 0; r < o->x.rows; r++)
        for (int32_t i = 0; i < o->w.n; i++) {
            double sum = 0.0;
            for (int32_t j = 0; j < o->w.k; j++)
                sum += (double)o->source[(size_t)i * (size_t)o->w.k + (size_t)j] *
                       (double)o->rows[(size_t)r * (size_t)o->w.k + (size_t)j];
            double difference =
                (double)y[(size_t)r * (size_t)o->w.n + (size_t)i] - sum - (bias ? (double)o->bias[i] : 0.0);
            error += difference * difference, size += sum * sum;
        }
    return sqrt(error / size);
}

/* What rounding uniform operands must cost at most: f32 none to speak of, bf16 2^-9 / sqrt(3) per operand,
 * int8 half a step of 1/127 on each side, int4 half a step of 1/8. */
static const double product_tolerance[] = {
    [WEIGHT_F32] = 1e-6, [WEIGHT_BF16] = 3e-3, [WEIGHT_INT8] = 8e-3, [WEIGHT_INT4] = 8e-2};

static void check_products(const struct kernels *set)
{
    const int32_t shapes[][3] = {{1, 1, 1},     {1, 33, 7},    {2, 31, 63},   {3, 64, 129},  {12, 96, 64},
                                 {13, 40, 256}, {25, 100, 96}, {70, 65, 172}, {97, 32, 2050}};
    for (int format = WEIGHT_F32; format <= WEIGHT_INT4; format++)
        for (size_t i = 0;
             set->has_format((enum weight_format)format) && i < sizeof shapes / sizeof shapes[0]; i++) {
            const int32_t rows = shapes[i][0], n = shapes[i][1], k = shapes[i][2];
            struct operands o = operands_of(set, (enum weight_format)format, rows, n, k);
            float *y = allocate((size_t)rows * (size_t)n * sizeof *y);
            set->matmul(y, (size_t)n, &o.w, &o.x, o.bias, 0, n);
            double allowed = product_tolerance[format] * (n * rows < 100 ? 4.0 : 1.0); /* few samples vary */
            double error = relative_error(&o, y, true);
            if (error > allowed)
                fail_msg("%s, format %d, %d rows [%d][%d]: error %g over %g", set->name, format, rows, n, k,
                         error, allowed);
            free(y), release(&o);
        }
}

static void products_agree_with_double_precision(void **state)
{
    (void)state;
    for_each_set(check_products);
}

/* All values are the largest that a quantised format has, of one sign or of signs that change: nothing may
 * saturate, and as all of them are whole numbers nothing may be rounded. */
static void check_largest_sums(const struct kernels *set)
{
    enum { ROWS = 13, N = 40, K = 256 };
    for (int format = WEIGHT_INT8; format <= WEIGHT_INT4; format++) {
        if (!set->has_format((enum weight_format)format))
            continue;
        struct operands o = operands_of(set, (enum weight_format)format, ROWS, N, K);
        const float largest = format == WEIGHT_INT8 ? 127.0f : 8.0f;
        for (int32_t i = 0; i < N * K; i++)
            o.source[i] = i / K % 2 == 0 ? -largest : largest;
        for (int32_t i = 0; i < ROWS * K; i++)
            o.rows[i] = (i / K % 3 == 0 ? i / 2 % 2 : i / K % 3 == 1) ? 127.0f : -127.0f;
        convert(set, &o);
        float y[ROWS * N];
        set->matmul(y, N, &o.w, &o.x, NULL, 0, N);
        for (int32_t i = 0; i < ROWS * N; i++) {
            const int32_t row = i / N, column = i % N;
            const float sum = row % 3 == 0 ? 0.0f : (float)K * 127.0f * (row % 3 == 1 ? largest : -largest);
            if (y[i] != (column % 2 == 0 ? -sum : sum))
                fail_msg("%s, format %d, row %d, column %d: %g", set->name, format, row, column,
                         (double)y[i]);
        }
        release(&o);
    }
}

static void the_largest_sums_are_exact(void **state)
{
    (void)state;
    for_each_set(check_largest_sums);
}

/* Rows [first, first + rows) of x as a batch of their own. */
static void multiply_rows(const struct kernels *set, const struct operands *o, int32_t first, int32_t rows,
                          float *y)
{
    struct activation x = {.format = o->w.format, .rows = rows, .k = o->w.k};
    x.source = o->rows + (size_t)first * (size_t)o->w.k;
    x.data = allocate(set->activation_bytes(o->w.format, rows, o->w.k));
    set->activation_prepare(&x, 0, rows);
    int32_t n = 0;
    while (n < o->w.n) { /* random ranges */
        int32_t end = n + set->n_granule * (1 + below(12));
        end = end < o->w.n ? end : o->w.n;
        set->matmul(y, (size_t)o->w.n, &o->w, &x, o->bias, n, end);
        n = end;
    }
    free(x.data);
}

static void check_row_bytes(const struct kernels *set, enum weight_format format, int32_t n, int32_t k)
{
    enum { ROWS = 130 };
    struct operands o = operands_of(set, format, ROWS, n, k);
    const size_t row_bytes = (size_t)n * sizeof(float);
    float *alone = allocate(ROWS * row_bytes), *together = allocate(ROWS * row_bytes);
    for (int32_t r = 0; r < ROWS; r++)
        multiply_rows(set, &o, r, 1, alone + (size_t)r * (size_t)n);
    for (int32_t rows = 1; rows <= ROWS; rows += rows < 70 ? 1 : 19) {
        int32_t first = below(ROWS - rows + 1);
        multiply_rows(set, &o, first, rows, together);
        if (memcmp(together, alone + (size_t)first * (size_t)n, (size_t)rows * row_bytes) != 0)
            fail_msg("%s, format %d: rows %d from %d of [%d][%d] differ from the same rows alone", set->name,
                     (int)format, rows, first, n, k);
    }
    free(alone), free(together), release(&o);
}

static void check_bytes(const struct kernels *set)
{
    for (int format = WEIGHT_F32; format <= WEIGHT_INT4; format++)
        if (set->has_format((enum weight_format)format)) {
            check_row_bytes(set, (enum weight_format)format, 215, 100);
            check_row_bytes(set, (enum weight_format)format, 84, 4200); /* long k, cut into blocks */
        }
}

static void a_row_has_the_same_bytes_in_any_company(void **state)
{
    (void)state;
    for_each_set(check_bytes);
}

static void assert_near(const float *a, const float *b, size_t count, double tolerance)
{
    for (size_t i = 0; i < count; i++)
        if (!(fabs((double)a[i] - (double)b[i]) <= tolerance * (1.0 + fabs((double)b[i]))))
            fail_msg("element %zu: %g, the oracle has %g", i, (double)a[i], (double)b[i]);
}

/* Row ops within 1e-6, at lengths around the vector width, in place, and nothing written past the end. */
static void check_row_ops(const struct kernels *set)
{
    const int32_t lengths[] = {1, 15, 16, 17, 64, 96, 100, 1027};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        const int32_t n = lengths[i];
        const size_t bytes = (size_t)(n + 1) * sizeof(float);
        float *x = uniform_array((size_t)n + 1), *w = uniform_array((size_t)n + 1);
        float *expected = allocate(bytes), *y = allocate(bytes);
        memcpy(expected, x, bytes), memcpy(y, x, bytes);
        kernels_generic.rms_norm(expected, expected, w, n, 1e-6f), set->rms_norm(y, y, w, n, 1e-6f);
        assert_near(y, expected, (size_t)n + 1, 1e-6);
        for (int32_t j = 0; j < n; j++)
            y[j] = expected[j] = x[j] * 100.0f; /* exponents overflow and underflow */
        kernels_generic.swiglu(expected, expected, w, n), set->swiglu(y, y, w, n);
        assert_near(y, expected, (size_t)n + 1, 1e-6);
        kernels_generic.add(expected, w, n), set->add(y, w, n);
        assert_near(y, expected, (size_t)n + 1, 1e-6);
        free(x), free(w), free(expected), free(y);
    }
}

static void row_ops_agree_with_the_oracle(void **state)
{
    (void)state;
    for_each_set(check_row_ops);
}

static void check_rope(const struct kernels *set)
{
    const int32_t dims[] = {2, 24, 64, 80, 128};
    for (size_t i = 0; i < sizeof dims / sizeof dims[0]; i++) {
        const size_t count = (size_t)dims[i] * 3;
        float *x = uniform_array(count + 1), *cosine = uniform_array((size_t)dims[i]);
        float *expected = allocate((count + 1) * sizeof *expected);
        memcpy(expected, x, (count + 1) * sizeof *x);
        kernels_generic.rope(expected, 3, dims[i], cosine, cosine + dims[i] / 2);
        set->rope(x, 3, dims[i], cosine, cosine + dims[i] / 2);
        assert_near(x, expected, count + 1, 1e-6);
        free(x), free(cosine), free(expected);
    }
}

static void rope_agrees_with_the_oracle(void **state)
{
    (void)state;
    for_each_set(check_rope);
}

/* A sequence of `tokens` in a KV cache of two layers' width, blocks in shuffled order, stale NaN elsewhere.
 */
struct sequence {
    const struct kernels *set;
    struct attention_args args;
    float *q, *k, *v;
    uint8_t *memory;
    int32_t *table;
};

static void store_sequence(struct sequence *s, int32_t tokens, int32_t blocks)
{
    const struct attention_args *a = &s->args;
    const int32_t width = a->kv_heads * a->head_dim;
    for (int32_t i = 0; i < blocks; i++)
        s->table[i] = (i * 5 + 3) % blocks; /* blocks is no multiple of 5 */
    for (int32_t t = 0; t < tokens; t++) {
        uint8_t *block = s->memory + (size_t)s->table[t / a->block_tokens] * a->block_stride_bytes;
        s->set->kv_store(block, a->kv_format, t % a->block_tokens, a->block_tokens, a->kv_heads, a->head_dim,
                         s->k + t * width, s->v + t * width);
    }
}

static struct sequence sequence_of(const struct kernels *set, struct attention_args shape, int32_t tokens,
                                   const struct sequence *same)
{
    int32_t blocks = (tokens + shape.block_tokens - 1) / shape.block_tokens;
    blocks += blocks % 5 == 0;
    const size_t kv = (size_t)tokens * (size_t)(shape.kv_heads * shape.head_dim);
    const size_t qs = (size_t)tokens * (size_t)(shape.heads * shape.head_dim);
    struct sequence s = {.set = set, .args = shape};
    s.q = same ? same->q : uniform_array(qs), s.k = same ? same->k : uniform_array(kv);
    s.v = same ? same->v : uniform_array(kv);
    s.args.block_stride_bytes =
        set->kv_block_bytes(shape.kv_format, shape.block_tokens, shape.kv_heads, shape.head_dim) * 2;
    s.memory = allocate((size_t)blocks * s.args.block_stride_bytes);
    memset(s.memory, 0xff, (size_t)blocks * s.args.block_stride_bytes);
    s.table = calloc((size_t)blocks, sizeof *s.table);
    assert_non_null(s.table);
    s.args.block_table = s.table, s.args.layer_base = s.memory;
    s.args.q_stride = s.args.out_stride = shape.heads * shape.head_dim;
    s.args.scale = 2.0f / sqrtf((float)shape.head_dim);
    store_sequence(&s, tokens, blocks);
    return s;
}

/* Positions [first, first + rows), heads one at a time or all at once. */
static void attend(const struct sequence *s, int32_t first, int32_t rows, float *out)
{
    struct attention_args args = s->args;
    args.rows = rows, args.first_position = first, args.end = first + rows;
    args.q = s->q + (size_t)first * (size_t)args.q_stride, args.out = out;
    void *scratch = allocate(s->set->attention_scratch_bytes(args.heads, args.kv_heads, args.head_dim, rows));
    if (rows % 2 != 0)
        s->set->attention(&args, 0, args.kv_heads, scratch);
    for (int32_t head = 0; rows % 2 == 0 && head < args.kv_heads; head++)
        s->set->attention(&args, head, head + 1, scratch);
    free(scratch);
}

/* avx512 and amx round queries and weights to bf16 beside bf16 keys and values; avx2 keeps them f32. */
static double attention_tolerance(const struct kernels *set, enum kv_format format)
{
    return format == KV_F32 || strcmp(set->name, "avx2") == 0 ? 2e-6 : 1e-2;
}

static void check_sequence(const struct kernels *set, struct attention_args shape, int32_t tokens)
{
    struct sequence s = sequence_of(set, shape, tokens, NULL);
    struct sequence oracle = sequence_of(&kernels_generic, shape, tokens, &s);
    const size_t width = (size_t)s.args.out_stride, bytes = (size_t)tokens * width * sizeof(float);
    float *out = allocate(bytes), *expected = allocate(bytes), *chunk = allocate(bytes);
    for (int32_t position = 0; position < tokens; position++)
        attend(&s, position, 1, out + (size_t)position * width);
    attend(&oracle, 0, tokens, expected);
    assert_near(out, expected, (size_t)tokens * width, attention_tolerance(set, shape.kv_format));
    for (int32_t first = 0; first < tokens;) {
        int32_t rows = 1 + below(tokens - first < 64 ? tokens - first : 64);
        attend(&s, first, rows, chunk + (size_t)first * width);
        first += rows;
    }
    assert_memory_equal(chunk, out, bytes);
    free(s.q), free(s.k), free(s.v), free(s.memory), free(s.table), free(oracle.memory), free(oracle.table);
    free(out), free(expected), free(chunk);
}

static int last_kv_format(const struct kernels *set)
{
    return set->has_kv_int8 ? KV_INT8 : KV_BF16;
}

static void check_attention(const struct kernels *set)
{
    const struct attention_args shapes[] = {
        {.heads = 4, .kv_heads = 2, .head_dim = 64, .block_tokens = 16},
        {.heads = 2, .kv_heads = 1, .head_dim = 128, .block_tokens = 32},
        {.heads = 6, .kv_heads = 2, .head_dim = 24, .block_tokens = 16, .window = 37},
        {.heads = 8, .kv_heads = 1, .head_dim = 80, .block_tokens = 48, .window = 1},
        {.heads = 3, .kv_heads = 3, .head_dim = 16, .block_tokens = 16, .window = 130},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        for (int format = KV_F32; format <= last_kv_format(set); format++) {
            struct attention_args shape = shapes[i];
            shape.kv_format = (enum kv_format)format;
            check_sequence(set, shape, 1);
            check_sequence(set, shape, 203);
        }
}

/* 1 to 8 query heads share a kv head; the dimensions of real models; with and without a window. */
static void check_groups(const struct kernels *set)
{
    static const int32_t dims[] = {64, 80, 96, 128}, windows[] = {0, 0, 70, 129};
    for (int32_t group = 1; group <= 8; group++)
        for (int format = KV_F32; format <= last_kv_format(set); format++) {
            const struct attention_args shape = {.heads = 2 * group,
                                                 .kv_heads = 2,
                                                 .head_dim = dims[group % 4],
                                                 .block_tokens = group % 2 != 0 ? 16 : 32,
                                                 .window = windows[(group + format) % 4],
                                                 .kv_format = (enum kv_format)format};
            check_sequence(set, shape, 150 + group);
        }
}

static void attention_agrees_for_every_group_of_heads(void **state)
{
    (void)state;
    for_each_set(check_groups);
}

static void attention_agrees_with_the_oracle_and_itself_in_chunks(void **state)
{
    (void)state;
    for_each_set(check_attention);
}

/* The states of a segment: heads one at a time or all at once. */
static void attend_segment(const struct sequence *s, struct attention_args *args, void *scratch)
{
    uint8_t *states = args->states;
    const size_t queries = (size_t)(args->heads / args->kv_heads * args->rows);
    if (args->rows % 2 != 0)
        s->set->attention(args, 0, args->kv_heads, scratch);
    for (int32_t head = 0; args->rows % 2 == 0 && head < args->kv_heads; head++) {
        args->states = states + (size_t)head * queries * attention_state_bytes(args->head_dim);
        s->set->attention(args, head, head + 1, scratch);
    }
    args->states = states;
}

/* As attend(), in segments of so many positions. */
static void attend_segments(const struct sequence *s, int32_t segment, int32_t first, int32_t rows,
                            float *out)
{
    struct attention_args args = s->args;
    const int32_t group = args.heads / args.kv_heads, dim = args.head_dim, queries = rows * args.heads;
    void *scratch = allocate(s->set->attention_scratch_bytes(args.heads, args.kv_heads, dim, rows));
    void *total = allocate((size_t)queries * attention_state_bytes(dim));
    void *next = allocate((size_t)queries * attention_state_bytes(dim));
    args.rows = rows, args.first_position = first;
    args.q = s->q + (size_t)first * (size_t)args.q_stride;
    for (args.begin = 0; args.begin < first + rows; args.begin += segment) {
        args.end = args.begin + segment;
        args.states = args.begin == 0 ? total : next;
        attend_segment(s, &args, scratch);
        for (size_t i = 0; args.begin > 0 && i < (size_t)queries; i++)
            attention_state_merge(attention_state_at(total, i, dim), attention_state_at(next, i, dim), dim);
    }
    for (int32_t i = 0; i < queries; i++) {
        const int32_t row = i / group % rows, head = i / (group * rows) * group + i % group;
        attention_state_finish(out + (size_t)row * (size_t)args.out_stride + head * dim,
                               attention_state_at(total, (size_t)i, dim), dim);
    }
    free(scratch), free(total), free(next);
}

/* Rows around every multiple of `segment` against the oracle, and in chunks against themselves. */
static void check_segments(const struct kernels *set, struct attention_args shape, int32_t tokens,
                           int32_t segment)
{
    struct sequence s = sequence_of(set, shape, tokens, NULL);
    struct sequence oracle = sequence_of(&kernels_generic, shape, tokens, &s);
    enum { AROUND = 9 };
    const size_t width = (size_t)s.args.out_stride, bytes = 2 * AROUND * width * sizeof(float);
    float *out = allocate(bytes), *expected = allocate(bytes), *chunk = allocate(bytes);
    for (int32_t i = 0, first = 0; first + 2 * AROUND <= tokens; first = ++i * segment - AROUND) {
        attend(&oracle, first, 2 * AROUND, expected);
        for (int32_t row = 0; row < 2 * AROUND; row++)
            attend_segments(&s, segment, first + row, 1, out + (size_t)row * width);
        assert_near(out, expected, 2 * AROUND * width, attention_tolerance(set, shape.kv_format));
        for (int32_t row = 0, rows; row < 2 * AROUND; row += rows) {
            rows = 1 + below(2 * AROUND - row);
            attend_segments(&s, segment, first + row, rows, chunk + (size_t)row * width);
        }
        assert_memory_equal(chunk, out, bytes);
        if (i > 0)
            continue; /* the first segment: as if there were none */
        attend(&s, first, 2 * AROUND, chunk);
        assert_memory_equal(chunk, out, bytes);
    }
    free(s.q), free(s.k), free(s.v), free(s.memory), free(s.table), free(oracle.memory), free(oracle.table);
    free(out), free(expected), free(chunk);
}

static void check_long_contexts(const struct kernels *set)
{
    static const struct attention_args shapes[] = {
        {.heads = 4, .kv_heads = 1, .head_dim = 64, .block_tokens = 16},
        {.heads = 4, .kv_heads = 2, .head_dim = 40, .block_tokens = 48},
        {.heads = 7, .kv_heads = 1, .head_dim = 24, .block_tokens = 16, .window = 100},
        {.heads = 2, .kv_heads = 2, .head_dim = 128, .block_tokens = 32, .window = 300},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        for (int format = KV_F32; format <= last_kv_format(set); format++) {
            struct attention_args shape = shapes[i];
            shape.kv_format = (enum kv_format)format;
            check_segments(set, shape, 600, 64);
            check_segments(set, shape, 600, 192);
            check_segments(set, shape, 3 * 2048 + 70, 2048);
        }
}

static void a_context_in_segments_agrees_with_the_oracle(void **state)
{
    (void)state;
    for_each_set(check_long_contexts);
}

/* K and V of slots not yet written must not be looked at: they may be anything, NaN included. */
static void check_stale_slots(const struct kernels *set)
{
    const struct attention_args shape = {
        .heads = 2, .kv_heads = 1, .head_dim = 32, .block_tokens = 16, .kv_format = KV_BF16};
    for (int32_t tokens = 1; tokens <= 70; tokens += 3) {
        struct sequence s = sequence_of(set, shape, tokens, NULL); /* the rest of the last block is NaN */
        float out[64];
        attend(&s, tokens - 1, 1, out);
        for (int i = 0; i < 64; i++)
            assert_true(fabsf(out[i]) <= 1.01f);
        free(s.q), free(s.k), free(s.v), free(s.memory), free(s.table);
    }
}

static void stale_slots_are_not_read(void **state)
{
    (void)state;
    for_each_set(check_stale_slots);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_agree_with_double_precision),
        cmocka_unit_test(the_largest_sums_are_exact),
        cmocka_unit_test(a_row_has_the_same_bytes_in_any_company),
        cmocka_unit_test(row_ops_agree_with_the_oracle),
        cmocka_unit_test(rope_agrees_with_the_oracle),
        cmocka_unit_test(attention_agrees_with_the_oracle_and_itself_in_chunks),
        cmocka_unit_test(attention_agrees_for_every_group_of_heads),
        cmocka_unit_test(a_context_in_segments_agrees_with_the_oracle),
        cmocka_unit_test(stale_slots_are_not_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
