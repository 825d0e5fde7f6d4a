// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/channel.h"
#include "base/monotime.h"

enum { PRODUCERS = 3, CONSUMERS = 2, ITEMS = 2000 };

static struct channel *open_channel(size_t capacity)
{
    struct channel *channel;
    assert_int_equal(channel_open(&channel, capacity, NULL), STATUS_OK);
    return channel;
}

static bool readable(const struct channel *channel)
{
    struct pollfd fd = {.fd = channel_fd(channel), .events = POLLIN};
    return poll(&fd, 1, 0) == 1;
}

static void items_come_out_in_order_and_never_more_than_fit(void **state)
{
    (void)state;
    static int items[5];
    struct channel *channel = open_channel(3);
    for (int round = 0; round < 4; round++) { /* the ring wraps */
        for (int i = 0; i < 3; i++)
            assert_true(channel_try_send(channel, &items[i]));
        assert_false(channel_try_send(channel, &items[3]));
        assert_false(channel_send(channel, &items[3], 5));
        assert_int_equal(channel_count(channel), 3);
        for (int i = 0; i < 3; i++)
            assert_ptr_equal(channel_receive(channel, 0), &items[i]);
        assert_null(channel_receive(channel, 0));
    }
    channel_close(channel);
}

static void the_descriptor_is_readable_exactly_while_there_is_something(void **state)
{
    (void)state;
    int item;
    struct channel *channel = open_channel(2);
    assert_false(readable(channel));
    assert_true(channel_try_send(channel, &item) && channel_try_send(channel, &item));
    assert_true(readable(channel));
    assert_non_null(channel_receive(channel, 0));
    assert_true(readable(channel));
    assert_non_null(channel_receive(channel, 0));
    assert_false(readable(channel));
    channel_shut(channel);
    assert_true(readable(channel));
    channel_close(channel);
}

static void a_shut_channel_drains_and_refuses(void **state)
{
    (void)state;
    int item;
    struct channel *channel = open_channel(2);
    assert_true(channel_try_send(channel, &item));
    channel_shut(channel);
    assert_true(channel_is_shut(channel));
    assert_false(channel_send(channel, &item, -1));
    assert_ptr_equal(channel_receive(channel, -1), &item);
    assert_null(channel_receive(channel, -1)); /* at once, although the wait is for ever */
    channel_close(channel);
}

static void a_wait_ends_in_time(void **state)
{
    (void)state;
    struct channel *channel = open_channel(1);
    int64_t began = monotime_ms();
    assert_null(channel_receive(channel, 50));
    assert_in_range(monotime_ms() - began, 49, 5000);
    channel_close(channel);
}

struct shared {
    struct channel *channel;
    _Atomic long sum, count;
};

static void *produce(void *context)
{
    struct shared *shared = context;
    for (long i = 1; i <= ITEMS; i++) {
        long *item = malloc(sizeof *item);
        *item = i;
        if (!channel_send(shared->channel, item, -1))
            abort();
    }
    return NULL;
}

static void *consume(void *context)
{
    struct shared *shared = context;
    for (long *item; (item = channel_receive(shared->channel, -1)); free(item)) {
        shared->sum += *item;
        shared->count++;
    }
    return NULL;
}

static void many_threads_lose_and_double_nothing(void **state)
{
    (void)state;
    struct shared shared = {.channel = open_channel(7)};
    pthread_t producers[PRODUCERS], consumers[CONSUMERS];
    for (int i = 0; i < CONSUMERS; i++)
        assert_int_equal(pthread_create(&consumers[i], NULL, consume, &shared), 0);
    for (int i = 0; i < PRODUCERS; i++)
        assert_int_equal(pthread_create(&producers[i], NULL, produce, &shared), 0);
    for (int i = 0; i < PRODUCERS; i++)
        pthread_join(producers[i], NULL);
    channel_shut(shared.channel);
    for (int i = 0; i < CONSUMERS; i++)
        pthread_join(consumers[i], NULL);
    assert_int_equal(shared.count, PRODUCERS * ITEMS);
    assert_int_equal(shared.sum, (long)PRODUCERS * ITEMS * (ITEMS + 1) / 2);
    channel_close(shared.channel);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(items_come_out_in_order_and_never_more_than_fit),
        cmocka_unit_test(the_descriptor_is_readable_exactly_while_there_is_something),
        cmocka_unit_test(a_shut_channel_drains_and_refuses),
        cmocka_unit_test(a_wait_ends_in_time),
        cmocka_unit_test(many_threads_lose_and_double_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
