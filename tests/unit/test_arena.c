// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdalign.h>
#include <string.h>

#include "base/arena.h"

static void memory_is_zeroed_aligned_and_apart(void **state)
{
    (void)state;
    struct arena arena;
    unsigned char *blocks[200];
    arena_init(&arena, 1 << 20);
    for (size_t i = 0; i < 200; i++) {
        blocks[i] = arena_alloc(&arena, i + 1);
        assert_non_null(blocks[i]);
        assert_int_equal((uintptr_t)blocks[i] % alignof(max_align_t), 0);
        for (size_t j = 0; j <= i; j++)
            assert_int_equal(blocks[i][j], 0);
        memset(blocks[i], (int)i, i + 1);
    }
    for (size_t i = 0; i < 200; i++)
        for (size_t j = 0; j <= i; j++)
            assert_int_equal(blocks[i][j], i);
    arena_release(&arena);
}

static void the_maximum_is_never_passed(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, 10000);
    assert_null(arena_alloc(&arena, 10001));
    assert_non_null(arena_alloc(&arena, 6000));
    assert_null(arena_alloc(&arena, 6000));
    assert_true(arena.total_bytes <= 10000);
    arena_release(&arena);
    assert_non_null(arena_alloc(&arena, 10000)); /* usable again, with its limit */
    assert_null(arena_alloc(&arena, 1));
    arena_release(&arena);
}

static void sizes_that_overflow_are_refused(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, SIZE_MAX);
    assert_null(arena_alloc(&arena, SIZE_MAX));
    assert_null(arena_alloc(&arena, SIZE_MAX - 4));
    assert_null(arena_alloc_array(&arena, SIZE_MAX / 4 + 2, 4));
    assert_null(arena_copy(&arena, "", SIZE_MAX));
    assert_non_null(arena_alloc_array(&arena, 3, 5));
    arena_release(&arena);
}

static void a_copy_ends_with_nul(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, 1 << 16);
    char *copy = arena_copy(&arena, "a\0bcd", 3);
    assert_memory_equal(copy, "a\0b", 4);
    assert_string_equal(arena_copy(&arena, NULL, 0), "");
    arena_release(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_zeroed_aligned_and_apart),
        cmocka_unit_test(the_maximum_is_never_passed),
        cmocka_unit_test(sizes_that_overflow_are_refused),
        cmocka_unit_test(a_copy_ends_with_nul),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
