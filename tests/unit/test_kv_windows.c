// SPDX-License-Identifier: Apache-2.0
// Windows onto the KV pool: blocks in order whatever their place, shared ones once in memory, what happens
// when mappings run short, and the sentences of what cannot be. The mapper is a thread: tests ask until it
// has come.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "engine/kv/kv_windows.h"

enum { BLOCKS = 64, LAYERS = 2, BLOCK_TOKENS = 16, LAYER_BYTES = 4096, MAX_BLOCKS = 16 };

static struct kv_cache *kv;

static int open_pool(void **state)
{
    (void)state;
    struct error err;
    assert_int_equal(kv_cache_open_file(&kv, BLOCKS, LAYERS, BLOCK_TOKENS, LAYER_BYTES, &err), STATUS_OK);
    for (int32_t block = 0; block < BLOCKS; block++)
        memset(kv_cache_block(kv, block), block, kv->block_bytes);
    return 0;
}

static int close_pool(void **state)
{
    (void)state;
    kv_cache_close(kv);
    return 0;
}

static struct kv_windows *open_windows(int32_t count, int32_t max_mappings)
{
    struct kv_windows *windows;
    struct error err;
    const struct kv_windows_options options = {
        .kv = kv, .windows = count, .max_blocks = MAX_BLOCKS, .max_mappings = max_mappings};
    if (kv_windows_open(&windows, &options, &err) != STATUS_OK)
        fail_msg("%s", err.text);
    return windows;
}

/* Asks for up to two seconds. */
static const uint8_t *wait_for(struct kv_windows *windows, struct kv_window *window, const int32_t *table,
                               int32_t blocks)
{
    const uint8_t *base = NULL;
    for (int i = 0; i < 20000 && !base; i++) {
        base = kv_windows_follow(windows, window, table, blocks, blocks);
        usleep(100);
    }
    return base;
}

static void expect_blocks(const uint8_t *base, const int32_t *table, int32_t blocks)
{
    assert_non_null(base);
    for (int32_t i = 0; i < blocks; i++) {
        const uint8_t *block = base + (size_t)i * kv->block_bytes;
        assert_int_equal(block[0], table[i]);
        assert_memory_equal(block, kv_cache_block(kv, table[i]), kv->block_bytes);
        assert_int_equal(kv->consecutive[i], i);
    }
}

static void blocks_follow_one_another(void **state)
{
    (void)state;
    static const int32_t table[] = {40, 41, 42, 7, 3, 60};
    struct kv_windows *windows = open_windows(2, 100);
    struct kv_window *window = kv_windows_take(windows);
    assert_null(kv_windows_follow(windows, window, table, 3, 3)); /* nobody waits */
    expect_blocks(wait_for(windows, window, table, 3), table, 3);
    const uint8_t *base = wait_for(windows, window, table, 6); /* it has grown */
    expect_blocks(base, table, 6);
    kv_cache_block(kv, 7)[11] = 99; /* what is written later is seen */
    assert_int_equal(base[3 * kv->block_bytes + 11], 99);
    kv_cache_block(kv, 7)[11] = 7;
    kv_windows_give(windows, window);
    kv_windows_close(windows);
}

static void a_shared_prefix_is_mapped_twice(void **state)
{
    (void)state;
    static const int32_t a[] = {10, 11, 12, 20}, b[] = {10, 11, 12, 30, 31};
    struct kv_windows *windows = open_windows(2, 100);
    struct kv_window *first = kv_windows_take(windows), *second = kv_windows_take(windows);
    assert_null(kv_windows_take(windows));
    const uint8_t *base_a = wait_for(windows, first, a, 4), *base_b = wait_for(windows, second, b, 5);
    expect_blocks(base_a, a, 4);
    expect_blocks(base_b, b, 5);
    kv_cache_block(kv, 11)[5] = 77;
    assert_int_equal(base_a[kv->block_bytes + 5], 77);
    assert_int_equal(base_b[kv->block_bytes + 5], 77);
    kv_cache_block(kv, 11)[5] = 11;
    kv_windows_give(windows, first);
    first = kv_windows_take(windows); /* what is mapped there is another sequence's */
    static const int32_t c[] = {10, 50, 12};
    expect_blocks(wait_for(windows, first, c, 3), c, 3);
    kv_windows_give(windows, first);
    kv_windows_give(windows, second);
    kv_windows_close(windows);
}

static size_t mappings_of_pool(void)
{
    char line[512];
    size_t count = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    assert_non_null(maps);
    while (fgets(line, sizeof line, maps))
        count += strstr(line, "memfd:") != NULL;
    fclose(maps);
    return count;
}

/* Sixteen scattered blocks are all that may be mapped: whoever comes later reads through its table until
 * others have gone; windows that nobody uses are cleared then. */
static void mappings_are_bounded(void **state)
{
    (void)state;
    int32_t tables[3][8];
    for (int32_t i = 0; i < 24; i++)
        tables[i / 8][i % 8] = i / 8 + 3 * (i % 8); /* no two neighbours */
    struct kv_windows *windows = open_windows(3, 16);
    struct kv_window *window[3];
    for (int i = 0; i < 3; i++)
        window[i] = kv_windows_take(windows);
    expect_blocks(wait_for(windows, window[0], tables[0], 8), tables[0], 8);
    expect_blocks(wait_for(windows, window[1], tables[1], 8), tables[1], 8);
    for (int i = 0; i < 20; i++) {
        assert_null(kv_windows_follow(windows, window[2], tables[2], 8, 1));
        usleep(500);
    }
    assert_true(mappings_of_pool() <= 1 + 16);
    kv_windows_give(windows, window[0]);
    expect_blocks(wait_for(windows, window[2], tables[2], 8), tables[2], 8);
    assert_true(mappings_of_pool() <= 1 + 16);
    kv_windows_give(windows, window[1]);
    kv_windows_give(windows, window[2]);
    kv_windows_close(windows);
    assert_int_equal(mappings_of_pool(), 1);
}

static void expect_refusal(const struct kv_windows_options *options, const char *part)
{
    struct kv_windows *windows;
    struct error err;
    assert_int_equal(kv_windows_open(&windows, options, &err), STATUS_CONFIG);
    assert_null(windows);
    if (!strstr(err.text, part))
        fail_msg("\"%s\" has no \"%s\"", err.text, part);
}

static void what_cannot_be_is_refused(void **state)
{
    (void)state;
    struct kv_cache *odd;
    struct error err;
    assert_int_equal(kv_cache_open_file(&odd, 4, 3, BLOCK_TOKENS, 1024, &err), STATUS_OK);
    expect_refusal(&(struct kv_windows_options){.kv = odd, .windows = 1, .max_blocks = 4, .max_mappings = 10},
                   "whole pages of 4096 bytes, and this model's have 3072");
    kv_cache_close(odd);
    expect_refusal(&(struct kv_windows_options){.kv = kv, .windows = 1, .max_blocks = 11, .max_mappings = 10},
                   "each of the 11 blocks of the longest sequence, and vm.max_map_count leaves 10");
    expect_refusal(
        &(struct kv_windows_options){
            .kv = kv, .windows = 1 << 20, .max_blocks = 1 << 20, .max_mappings = 1 << 20},
        "more addresses");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_follow_one_another),
        cmocka_unit_test(a_shared_prefix_is_mapped_twice),
        cmocka_unit_test(mappings_are_bounded),
        cmocka_unit_test(what_cannot_be_is_refused),
    };
    return cmocka_run_group_tests(tests, open_pool, close_pool);
}
