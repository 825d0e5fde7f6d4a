// SPDX-License-Identifier: Apache-2.0
// Host memory for evicted blocks, against a list model at random: what is there has its bytes, the least
// recently demoted goes first, a block that was taken stays readable while others come in.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "kvtier/host_store.h"

enum { SLOTS = 7, KEYS = 20, BLOCK = 64, ROUNDS = 20000 };

static uint32_t random_below(uint32_t below)
{
    static uint32_t state = 99;
    state = state * 1664525u + 1013904223u;
    return (state >> 8) % below;
}

static struct block_key key_of(uint32_t number)
{
    struct block_key key = {{0}};
    memcpy(key.bytes, &number, sizeof number);
    return key;
}

static const uint8_t *payload_of(uint32_t number)
{
    static uint8_t payload[BLOCK];
    memset(payload, (int)(number * 11 + 1), sizeof payload);
    return payload;
}

static struct host_store *open_store(size_t slots)
{
    struct host_store *store;
    assert_int_equal(host_store_open(&store, slots * BLOCK + BLOCK / 2, BLOCK, NULL), STATUS_OK);
    return store;
}

struct model { /* numbers of the blocks, least recently demoted first */
    uint32_t order[SLOTS];
    size_t count;
};

static bool model_remove(struct model *model, uint32_t number)
{
    for (size_t i = 0; i < model->count; i++)
        if (model->order[i] == number) {
            memmove(&model->order[i], &model->order[i + 1], (--model->count - i) * sizeof model->order[0]);
            return true;
        }
    return false;
}

static void model_put(struct model *model, uint32_t number)
{
    if (!model_remove(model, number) && model->count == SLOTS)
        model_remove(model, model->order[0]);
    model->order[model->count++] = number;
}

static void a_random_life_agrees_with_the_model(void **state)
{
    (void)state;
    struct host_store *store = open_store(SLOTS);
    struct model model = {0};
    struct host_store_stats stats;
    for (int round = 0; round < ROUNDS; round++) {
        uint32_t number = random_below(KEYS);
        struct block_key key = key_of(number);
        if (random_below(3) > 0) {
            host_store_put(store, &key, payload_of(number));
            model_put(&model, number);
        } else {
            const void *found = host_store_take(store, &key);
            assert_int_equal(found != NULL, model_remove(&model, number));
            if (found) {
                assert_memory_equal(found, payload_of(number), BLOCK);
                host_store_release(store);
            }
        }
        for (uint32_t i = 0; i < KEYS; i++) {
            bool expected = false;
            for (size_t at = 0; at < model.count; at++)
                expected |= model.order[at] == i;
            key = key_of(i);
            assert_int_equal(host_store_has(store, &key), expected);
        }
    }
    host_store_stats_read(store, &stats);
    assert_int_equal(stats.slots, SLOTS);
    assert_int_equal(stats.used, model.count);
    assert_true(stats.dropped > 1000 && stats.promoted > 1000);
    host_store_close(store);
}

/* Writing a block back into the pool evicts others, which come here meanwhile. */
static void a_taken_block_outlives_what_comes_in(void **state)
{
    (void)state;
    struct host_store *store = open_store(2);
    struct block_key keys[4] = {key_of(0), key_of(1), key_of(2), key_of(3)};
    host_store_put(store, &keys[0], payload_of(0));
    host_store_put(store, &keys[1], payload_of(1));
    const void *taken = host_store_take(store, &keys[0]);
    host_store_put(store, &keys[2], payload_of(2)); /* pushes 1 out, not what is being read */
    assert_memory_equal(taken, payload_of(0), BLOCK);
    host_store_release(store);
    host_store_put(store, &keys[3], payload_of(3));
    assert_true(host_store_has(store, &keys[2]) && host_store_has(store, &keys[3]));
    assert_false(host_store_has(store, &keys[0]) || host_store_has(store, &keys[1]));
    host_store_close(store);
}

static void one_slot_that_is_taken_takes_nothing(void **state)
{
    (void)state;
    struct host_store *store = open_store(1);
    struct block_key a = key_of(0), b = key_of(1);
    host_store_put(store, &a, payload_of(0));
    assert_non_null(host_store_take(store, &a));
    host_store_put(store, &b, payload_of(1));
    assert_false(host_store_has(store, &b));
    host_store_release(store);
    host_store_close(store);
}

static void memory_for_less_than_a_block_is_refused(void **state)
{
    (void)state;
    struct host_store *store;
    struct error err;
    assert_int_equal(host_store_open(&store, BLOCK - 1, BLOCK, &err), STATUS_CONFIG);
    assert_non_null(strstr(err.text, "kvtier.host_mb"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_random_life_agrees_with_the_model),
        cmocka_unit_test(a_taken_block_outlives_what_comes_in),
        cmocka_unit_test(one_slot_that_is_taken_takes_nothing),
        cmocka_unit_test(memory_for_less_than_a_block_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
