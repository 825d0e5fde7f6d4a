// SPDX-License-Identifier: Apache-2.0
// Rows that an activation takes from anywhere in its source give the bytes of a gathered copy, for every
// kernel set and weight format of this machine: what grouped products of experts rest on.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "engine/kernels/kernels.h"

enum { SOURCE_ROWS = 20, ROWS = 13, N = 70, K = 65 };

static const char *const sets[] = {"generic", "openblas", "avx2", "avx512", "amx"};
static const int32_t from[ROWS] = {19, 3, 3, 0, 7, 18, 1, 1, 12, 5, 4, 11, 2}; /* any order, and twice */

static void *allocate(size_t bytes)
{
    void *memory = aligned_alloc(64, (bytes + 127) / 64 * 64);
    assert_non_null(memory);
    memset(memory, 0xee, (bytes + 127) / 64 * 64);
    return memory;
}

static void fill(float *values, size_t count)
{
    for (size_t i = 0; i < count; i++)
        values[i] = (float)((int)(i * 37 % 101) - 50) * 0.0173f;
}

static void multiply(float *y, const struct kernels *set, const struct weight *w, struct activation x)
{
    x.data = allocate(set->activation_bytes(x.format, x.rows, x.k));
    set->activation_prepare(&x, 0, 4);
    set->activation_prepare(&x, 4, x.rows);
    set->matmul(y, N, w, &x, NULL, 0, N);
    free(x.data);
}

static void check(const struct kernels *set, enum weight_format format)
{
    static float matrix[N * K], source[SOURCE_ROWS * K], copy[ROWS * K], expected[ROWS * N], y[ROWS * N];
    fill(matrix, N * K), fill(source, SOURCE_ROWS * K);
    for (int i = 0; i < ROWS; i++)
        memcpy(copy + i * K, source + from[i] * K, K * sizeof *copy);
    struct weight w = {.format = format, .n = N, .k = K, .data = allocate(set->weight_bytes(format, N, K))};
    set->weight_pack(&w, matrix, DTYPE_F32, 0, N);
    multiply(expected, set, &w, (struct activation){.format = format, .rows = ROWS, .k = K, .source = copy});
    multiply(y, set, &w, (struct activation){format, ROWS, K, source, NULL, from});
    free(w.data);
    assert_memory_equal(y, expected, sizeof y);
}

static void gathered_rows_have_the_bytes_of_a_copy(void **state)
{
    (void)state;
    int checked = 0;
    for (size_t i = 0; i < sizeof sets / sizeof sets[0]; i++)
        for (int format = WEIGHT_F32; format <= WEIGHT_INT4; format++) {
            const struct kernels *set = kernels_find(sets[i]);
            if (set && set->has_format((enum weight_format)format))
                check(set, (enum weight_format)format), checked++;
            else
                print_message("kernel set %s, format %d: not on this machine\n", sets[i], format);
        }
    assert_true(checked >= 2); /* the generic set runs anywhere */
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(gathered_rows_have_the_bytes_of_a_copy)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
