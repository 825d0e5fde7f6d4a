// SPDX-License-Identifier: Apache-2.0
// Kernel set "openblas": f32 products through cblas_sgemm, everything else from the generic set. The only
// file that knows cblas.h. Called on the kernel team; OpenBLAS itself is held to one thread.
//
// OpenBLAS chooses kernels, and with them summation orders, by the shape of a call. So every call here has
// one shape per k: TILE_ROWS rows by TILE_N outputs, missing rows and outputs padded with zeros, and at
// start a probe checks in bytes that a row's products do not depend on its place in the tile.
#include "engine/kernels/kernels_generic.h"

#include <cblas.h>
#include <stdatomic.h>
#include <string.h>

#include "base/check.h"
#include "engine/kernels/dtype.h"

enum { TILE_ROWS = 8, TILE_N = 64, PROBE_MAX_K = 512 };

static size_t round_up(int32_t value, int32_t multiple)
{
    return ((size_t)value + (size_t)multiple - 1) / (size_t)multiple * (size_t)multiple;
}

/* y[TILE_ROWS][TILE_N] = x[TILE_ROWS][k] * w[TILE_N][k]^T */
static void multiply_tile(float *y, const float *x, const float *w, int32_t k)
{
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, TILE_ROWS, TILE_N, k, 1.0f, x, k, w, k, 0.0f, y,
                TILE_N);
}

static void fill(float *values, int count, float scale, float offset)
{
    for (int i = 0; i < count; i++)
        values[i] = (float)(i * 37 % 101) * scale + offset;
}

/* The same row at every place of the tile, beside rows of other values, must give the same bytes. */
static bool probe_row_independence(int32_t k)
{
    float x[TILE_ROWS * PROBE_MAX_K], w[TILE_N * PROBE_MAX_K], y[TILE_ROWS][TILE_N], expected[TILE_N];
    fill(w, TILE_N * k, 0.143f, -6.3f);
    for (int32_t place = 0; place < TILE_ROWS; place++) {
        fill(x, TILE_ROWS * k, 0.37f, -11.7f * (float)place);
        fill(x + place * k, k, 0.119f, -3.1f);
        multiply_tile(y[0], x, w, k);
        if (place == 0)
            memcpy(expected, y[0], sizeof expected);
        if (memcmp(expected, y[place], sizeof expected) != 0)
            return false;
    }
    return true;
}

static bool supported(void)
{
    static atomic_int answer; /* 0: not asked yet, 1: yes, 2: no */
    int known = atomic_load(&answer);
    if (known == 0) {
        openblas_set_num_threads(1);
        known = probe_row_independence(33) && probe_row_independence(PROBE_MAX_K) ? 1 : 2;
        atomic_store(&answer, known);
    }
    return known == 1;
}

static bool has_format(enum weight_format format)
{
    return format == WEIGHT_F32;
}

/* Row-major [n rounded up to TILE_N][k]; the rows beyond n are zero. */
static size_t weight_bytes(enum weight_format format, int32_t n, int32_t k)
{
    CHECK(has_format(format) && n > 0 && k > 0);
    return round_up(n, TILE_N) * (size_t)k * sizeof(float);
}

static void weight_pack(struct weight *w, const void *src, enum dtype dtype, int32_t n_begin, int32_t n_end)
{
    float *data = w->data;
    size_t end = (size_t)n_end * (size_t)w->k;
    for (size_t i = (size_t)n_begin * (size_t)w->k; i < end; i++)
        data[i] = dtype_load(src, i, dtype);
    if (n_end == w->n)
        memset(data + end, 0, weight_bytes(w->format, w->n, w->k) - end * sizeof *data);
}

/* A copy of the rows, padded to whole tiles. */
static size_t activation_bytes(enum weight_format format, int32_t rows, int32_t k)
{
    CHECK(has_format(format));
    return round_up(rows, TILE_ROWS) * (size_t)k * sizeof(float);
}

static void activation_prepare(struct activation *x, int32_t row_begin, int32_t row_end)
{
    float *data = x->data;
    size_t row_bytes = (size_t)x->k * sizeof *data;
    for (int32_t row = row_begin; row < row_end; row++)
        memcpy(data + (size_t)row * (size_t)x->k, activation_source(x, row), row_bytes);
    if (row_end == x->rows)
        memset(data + (size_t)row_end * (size_t)x->k, 0,
               (round_up(x->rows, TILE_ROWS) - (size_t)x->rows) * row_bytes);
}

static void matmul(float *y, size_t y_stride, const struct weight *w, const struct activation *x,
                   const float *bias, int32_t n_begin, int32_t n_end)
{
    CHECK(x->k == w->k && n_begin % TILE_N == 0 && (n_end % TILE_N == 0 || n_end == w->n));
    float tile[TILE_ROWS][TILE_N];
    for (int32_t n = n_begin; n < n_end; n += TILE_N) {
        int32_t columns = n_end - n < TILE_N ? n_end - n : TILE_N;
        for (int32_t row = 0; row < x->rows; row += TILE_ROWS) {
            multiply_tile(tile[0], (const float *)x->data + (size_t)row * (size_t)x->k,
                          (const float *)w->data + (size_t)n * (size_t)w->k, w->k);
            for (int32_t r = 0; r < TILE_ROWS && row + r < x->rows; r++) {
                float *out = y + (size_t)(row + r) * y_stride + (size_t)n;
                for (int32_t c = 0; c < columns; c++)
                    out[c] = bias ? tile[r][c] + bias[n + c] : tile[r][c];
            }
        }
    }
}

void kernels_openblas_product(float *y, int32_t y_stride, const float *w, const float *x, int32_t rows,
                              int32_t n, int32_t k)
{
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, rows, n, k, 1.0f, x, k, w, k, 0.0f, y, y_stride);
}

const struct kernels kernels_openblas = {
    .name = "openblas",
    .supported = supported,
    .has_format = has_format,
    .weight_bytes = weight_bytes,
    .n_granule = TILE_N,
    .weight_pack = weight_pack,
    .activation_bytes = activation_bytes,
    .activation_prepare = activation_prepare,
    .matmul = matmul,
    .rms_norm = kernels_generic_rms_norm,
    .rope = kernels_generic_rope,
    .swiglu = kernels_generic_swiglu,
    .add = kernels_generic_add,
    .kv_block_bytes = kernels_generic_kv_block_bytes,
    .kv_store = kernels_generic_kv_store,
    .attention_scratch_bytes = kernels_generic_attention_scratch_bytes,
    .attention = kernels_generic_attention,
};
