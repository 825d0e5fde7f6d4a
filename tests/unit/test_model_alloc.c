// SPDX-License-Identifier: Apache-2.0
// Failing-allocation sweep over model_open and kv_cache_open: whichever allocation fails, the answer is
// NO_MEMORY with a sentence, nothing leaks (ASan build), and the next try succeeds.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>

#include "engine/kv/kv_cache.h"
#include "engine/model/model.h"
#include "tests/support/failing_alloc.h"

/* Returns the number of allocations that could fail. */
static int sweep(const char *golden, const char *kernels, int threads)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/tests/golden/models/%s", MILLRACE_SOURCE_DIR, golden);
    const struct model_options options = {.model_dir = path,
                                          .kernels = kernels,
                                          .weight_format = "auto",
                                          .kv_format = "auto",
                                          .threads = threads,
                                          .max_batch_tokens = 16,
                                          .max_logit_rows = 4};
    for (int nth = 1;; nth++) {
        struct model *model = NULL;
        struct error err = {0};
        failing_alloc_arm(nth);
        enum status status = model_open(&model, &options, &err);
        bool failed = failing_alloc_disarm();
        if (!failed) {
            assert_int_equal(status, STATUS_OK);
            model_close(model);
            return nth - 1;
        }
        if (status != STATUS_NO_MEMORY)
            fail_msg("allocation %d of %s: %s (%s)", nth, golden, status_name(status), err.text);
        assert_null(model);
        assert_true(err.text[0] != '\0');
    }
}

static void every_allocation_of_model_open_may_fail(void **state)
{
    (void)state;
    int single = sweep("qwen3", "generic", 1), sharded = sweep("llama-yarn", "auto", 2),
        experts = sweep("qwen3-moe", "auto", 2);
    print_message("allocations made to fail: %d, %d with shards, %d with experts\n", single, sharded,
                  experts);
    assert_true(single > 10 && sharded > single && experts > single);
}

static void every_allocation_of_kv_cache_open_may_fail(void **state)
{
    (void)state;
    struct kv_cache *kv = NULL;
    for (int nth = 1; nth <= 2; nth++) {
        failing_alloc_arm(nth);
        assert_int_equal(kv_cache_open(&kv, 4, 2, 16, 1024, NULL), STATUS_NO_MEMORY);
        assert_true(failing_alloc_disarm());
        assert_null(kv);
    }
    assert_int_equal(kv_cache_open(&kv, 4, 2, 16, 1024, NULL), STATUS_OK);
    kv_cache_close(kv);
    assert_int_equal(kv_cache_open(&kv, INT32_MAX, INT32_MAX, 16, SIZE_MAX / 2, NULL), STATUS_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_allocation_of_model_open_may_fail),
        cmocka_unit_test(every_allocation_of_kv_cache_open_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
