// SPDX-License-Identifier: Apache-2.0
// The block pool against a plain model of it: every block's references and key, and one list of cached blocks
// from the least to the most recently used.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "engine/kv/block_pool.h"

static struct block_key key_of(uint32_t number)
{
    struct block_key key = {{0}};
    key.bytes[0] = (uint8_t)(number % 4); /* few hash values: chains in the buckets */
    memcpy(key.bytes + 8, &number, sizeof number);
    return key;
}

static struct block_pool *open_pool(int32_t blocks)
{
    struct block_pool *pool;
    assert_int_equal(block_pool_open(&pool, blocks, NULL), STATUS_OK);
    return pool;
}

static int32_t take_keyed(struct block_pool *pool, uint32_t number)
{
    struct block_key key = key_of(number);
    int32_t block = block_pool_take(pool);
    assert_true(block_pool_set_key(pool, block, &key));
    return block;
}

static bool cached(const struct block_pool *pool, uint32_t number)
{
    struct block_key key = key_of(number);
    return block_pool_find(pool, &key) != BLOCK_NONE;
}

static void blocks_run_out_and_come_back(void **state)
{
    (void)state;
    struct block_pool *pool = open_pool(3);
    int32_t blocks[3];
    for (int i = 0; i < 3; i++) {
        blocks[i] = block_pool_take(pool);
        assert_int_equal(block_pool_references(pool, blocks[i]), 1);
    }
    assert_true(blocks[0] != blocks[1] && blocks[1] != blocks[2] && blocks[0] != blocks[2]);
    assert_int_equal(block_pool_take(pool), BLOCK_NONE);
    block_pool_release(pool, blocks[1]);
    assert_int_equal(block_pool_available(pool), 1);
    assert_int_equal(block_pool_take(pool), blocks[1]);
    block_pool_check_invariants(pool);
    block_pool_close(pool);
}

static void a_block_is_free_only_after_its_last_reference(void **state)
{
    (void)state;
    struct block_pool *pool = open_pool(1);
    int32_t block = take_keyed(pool, 1);
    block_pool_reference(pool, block);
    block_pool_release(pool, block);
    assert_int_equal(block_pool_available(pool), 0);
    block_pool_release(pool, block);
    assert_int_equal(block_pool_available(pool), 1);
    assert_int_equal(block_pool_cached(pool), 1);
    block_pool_reference(pool, block); /* back from the cache, with what it holds */
    assert_int_equal(block_pool_available(pool), 0);
    assert_true(cached(pool, 1));
    block_pool_close(pool);
}

/* A chain released tail first is evicted leaf first; what holds nothing is taken before what does. */
static void the_least_recently_used_goes_first(void **state)
{
    (void)state;
    struct block_pool *pool = open_pool(4);
    int32_t root = take_keyed(pool, 1), middle = take_keyed(pool, 2), leaf = take_keyed(pool, 3);
    int32_t plain = block_pool_take(pool);
    block_pool_release(pool, leaf);
    block_pool_release(pool, middle);
    block_pool_release(pool, root);
    block_pool_release(pool, plain);
    assert_int_equal(block_pool_take(pool), plain);
    assert_true(cached(pool, 1) && cached(pool, 2) && cached(pool, 3));
    assert_int_equal(block_pool_take(pool), leaf);
    assert_true(cached(pool, 1) && cached(pool, 2) && !cached(pool, 3));
    block_pool_reference(pool, middle); /* used again: younger than the root now */
    block_pool_release(pool, middle);
    assert_int_equal(block_pool_take(pool), root);
    assert_true(!cached(pool, 1) && cached(pool, 2));
    block_pool_close(pool);
}

static void one_key_has_one_block(void **state)
{
    (void)state;
    struct block_pool *pool = open_pool(2);
    struct block_key key = key_of(9);
    int32_t first = take_keyed(pool, 9), second = block_pool_take(pool);
    assert_false(block_pool_set_key(pool, second, &key));
    assert_int_equal(block_pool_find(pool, &key), first);
    block_pool_release(pool, second); /* without a key: free, not cached */
    assert_int_equal(block_pool_cached(pool), 0);
    block_pool_check_invariants(pool);
    block_pool_close(pool);
}

/* ---- at random, against the model ---- */

enum { BLOCKS = 13, KEYS = 40, ROUNDS = 20000 };

struct model {
    int32_t references[BLOCKS];
    uint32_t key[BLOCKS]; /* 0: none */
    int32_t order[BLOCKS];
    int32_t ordered; /* unreferenced blocks with a key, least recently used first */
    uint32_t evicted;
};

static uint32_t random_below(uint32_t below)
{
    static uint32_t state = 12345;
    state = state * 1664525u + 1013904223u;
    return (state >> 8) % below;
}

static void note_eviction(void *context, const struct block_key *key, int32_t block)
{
    struct model *model = context;
    assert_in_range(block, 0, BLOCKS - 1);
    assert_memory_equal(&model->key[block], key->bytes + 8, sizeof model->key[block]); /* still its key */
    memcpy(&model->evicted, key->bytes + 8, sizeof model->evicted);
}

static void forget(struct model *model, int32_t block)
{
    int32_t at = 0;
    while (model->order[at] != block)
        at++;
    for (model->ordered--; at < model->ordered; at++)
        model->order[at] = model->order[at + 1];
}

static int32_t unreferenced(const struct model *model)
{
    int32_t count = 0;
    for (int32_t i = 0; i < BLOCKS; i++)
        count += model->references[i] == 0;
    return count;
}

static void take(struct block_pool *pool, struct model *model)
{
    int32_t plain = unreferenced(model) - model->ordered;
    model->evicted = 0;
    int32_t block = block_pool_take(pool);
    if (plain + model->ordered == 0) {
        assert_int_equal(block, BLOCK_NONE);
        return;
    }
    assert_int_equal(model->references[block], 0);
    if (plain > 0) {
        assert_true(model->key[block] == 0 && model->evicted == 0);
    } else {
        assert_int_equal(block, model->order[0]);
        assert_int_equal(model->evicted, model->key[block]);
        forget(model, block);
    }
    model->references[block] = 1;
    model->key[block] = 0;
}

static void set_key(struct block_pool *pool, struct model *model, int32_t block, uint32_t number)
{
    bool known = false;
    struct block_key key = key_of(number);
    for (int32_t i = 0; i < BLOCKS; i++)
        known = known || model->key[i] == number;
    assert_int_equal(block_pool_set_key(pool, block, &key), !known);
    if (!known)
        model->key[block] = number;
}

static void change_references(struct block_pool *pool, struct model *model, int32_t block)
{
    bool found = model->key[block] && model->references[block] == 0;
    if (found) {
        block_pool_reference(pool, block);
        forget(model, block);
        model->references[block] = 1;
    } else if (model->references[block] > 0 && model->references[block] < 3 && random_below(3) == 0) {
        block_pool_reference(pool, block);
        model->references[block]++;
    } else if (model->references[block] > 0) {
        block_pool_release(pool, block);
        if (--model->references[block] == 0 && model->key[block])
            model->order[model->ordered++] = block;
    }
}

static void compare(const struct block_pool *pool, const struct model *model)
{
    block_pool_check_invariants(pool);
    assert_int_equal(block_pool_available(pool), unreferenced(model));
    assert_int_equal(block_pool_cached(pool), model->ordered);
    for (int32_t i = 0; i < BLOCKS; i++)
        assert_int_equal(block_pool_references(pool, i), model->references[i]);
    for (uint32_t number = 1; number < KEYS; number++) {
        struct block_key key = key_of(number);
        int32_t expected = BLOCK_NONE;
        for (int32_t i = 0; i < BLOCKS; i++)
            expected = model->key[i] == number ? i : expected;
        assert_int_equal(block_pool_find(pool, &key), expected);
    }
}

static void a_random_life_agrees_with_the_model(void **state)
{
    (void)state;
    struct block_pool *pool = open_pool(BLOCKS);
    struct model model = {0};
    block_pool_on_evict(pool, note_eviction, &model);
    for (int round = 0; round < ROUNDS; round++) {
        int32_t block = (int32_t)random_below(BLOCKS);
        if (random_below(3) == 0)
            take(pool, &model);
        else if (model.references[block] > 0 && model.key[block] == 0 && random_below(2))
            set_key(pool, &model, block, 1 + random_below(KEYS - 1));
        else
            change_references(pool, &model, block);
        compare(pool, &model);
    }
    block_pool_close(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_run_out_and_come_back),
        cmocka_unit_test(a_block_is_free_only_after_its_last_reference),
        cmocka_unit_test(the_least_recently_used_goes_first),
        cmocka_unit_test(one_key_has_one_block),
        cmocka_unit_test(a_random_life_agrees_with_the_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
