// SPDX-License-Identifier: Apache-2.0
// Workers that share a Redis: engine, bridge and tier of each, driven by hand. One computes what all need; a
// worker that dies costs the others a bounded wait; what the pool evicts comes back from host memory; and
// whatever way a prefix took, the answer has the same bytes.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/monotime.h"
#include "kvtier/redis_store.h"
#include "tests/support/engine_fixture.h"
#include "tests/support/redis_server.h"
#include "worker/infer/kv_bridge.h"

enum { ASKED = 24, PROMPT = 200, PREFIX = 192, FETCHES = 64, PATIENCE_MS = 60000 };
/* What computing a token is said to take: deadlines and leases follow from it, whatever this machine does. */
enum { USUAL_US = 20000, QUICK_US = 1000 };

static const char *const roomy[] = {"--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru", NULL};
static struct redis_server server;

struct worker {
    struct engine *engine;
    struct channel *done;
    struct kvtier *tier;
    struct host_store *host;
    struct kv_bridge *bridge;
    struct asked asked[ASKED];
    uint32_t tier_tokens[ASKED];
    bool submitted[ASKED];
};

struct setting {
    int32_t blocks;
    size_t host_blocks;
    bool no_tier, no_singleflight;
    int64_t token_us;   /* 0: USUAL_US */
    size_t land_blocks; /* 0: the usual bytes */
};

static void open_tier(struct worker *worker)
{
    struct redis_store_options redis = {.address = server.address, .ttl_s = 3600};
    struct kvtier_options options = {
        .max_put_bytes = 64 << 20, .max_fetch_bytes = 64 << 20, .max_fetches = FETCHES};
    assert_int_equal(redis_store_open(&options.reader, &redis, NULL), STATUS_OK);
    redis.writer = true;
    assert_int_equal(redis_store_open(&options.writer, &redis, NULL), STATUS_OK);
    assert_int_equal(channel_open(&worker->done, FETCHES, NULL), STATUS_OK);
    options.done = worker->done;
    assert_int_equal(kvtier_open(&worker->tier, &options, NULL), STATUS_OK);
}

static struct worker *open_worker(const struct setting *setting)
{
    struct worker *worker = calloc(1, sizeof *worker);
    struct engine_options options = engine_fixture_options();
    options.kv_blocks = setting->blocks ? setting->blocks : 128;
    worker->engine = engine_fixture_open(&options);
    if (!setting->no_tier)
        open_tier(worker);
    size_t block_bytes = engine_block_bytes(worker->engine);
    if (setting->host_blocks)
        assert_int_equal(
            host_store_open(&worker->host, setting->host_blocks * block_bytes, block_bytes, NULL), STATUS_OK);
    struct kv_bridge_options bridge = {.engine = worker->engine,
                                       .tier = worker->tier,
                                       .done = worker->done,
                                       .host = worker->host,
                                       .block_tokens = FIXTURE_BLOCK_TOKENS,
                                       .max_context_tokens = FIXTURE_MAX_TOKENS,
                                       .land_bytes = setting->land_blocks * block_bytes,
                                       .singleflight = !setting->no_singleflight};
    assert_int_equal(kv_bridge_open(&worker->bridge, &bridge, NULL), STATUS_OK);
    int64_t token_us = setting->token_us ? setting->token_us : USUAL_US;
    kv_bridge_note_prefill(worker->bridge, 1000, 1000 * 1000 * token_us);
    return worker;
}

static void close_worker(struct worker *worker)
{
    kv_bridge_close(worker->bridge);
    kvtier_close(worker->tier, 2000);
    if (worker->done)
        channel_close(worker->done);
    host_store_close(worker->host);
    engine_close(worker->engine);
    free(worker);
}

static void submit(struct worker *worker, size_t i)
{
    worker->submitted[i] = true;
    asked_submit(&worker->asked[i], worker->engine);
}

/* Request i of `family`: it shares PREFIX tokens with the others of its family. */
static void ask(struct worker *worker, size_t i, uint64_t id, uint64_t family)
{
    struct asked *asked = &worker->asked[i];
    asked_init(asked, id, PROMPT, PREFIX, family);
    asked->request.id = i;
    asked->sampling.max_tokens = 4;
    asked->request.prompt = asked->prompt;
    asked->request.sampling = &asked->sampling;
    worker->submitted[i] = false;
    if (!kv_bridge_hold(worker->bridge, &asked->request, (void *)(uintptr_t)(i + 1), &worker->tier_tokens[i]))
        submit(worker, i);
}

static void receive(struct worker *worker)
{
    struct kv_bridge_ready ready;
    while (kv_bridge_receive(worker->bridge, 0, &ready)) {
        size_t i = (size_t)(uintptr_t)ready.context - 1;
        worker->tier_tokens[i] = ready.tier_tokens;
        submit(worker, i);
    }
}

/* One turn of the engine loop. */
static void turn(struct worker *worker)
{
    const struct engine_event *events;
    size_t count;
    receive(worker);
    if (engine_idle(worker->engine))
        return;
    assert_int_equal(engine_step(worker->engine, &events, &count, NULL), STATUS_OK);
    kv_bridge_spill(worker->bridge, events, count);
    asked_record(worker->asked, events, count);
}

static bool is_idle(const struct worker *worker)
{
    return kv_bridge_held(worker->bridge) == 0 && engine_idle(worker->engine);
}

static void run(struct worker *a, struct worker *b)
{
    int64_t end_ms = monotime_ms() + PATIENCE_MS;
    while (!is_idle(a) || (b && !is_idle(b))) {
        assert_true(monotime_ms() < end_ms);
        turn(a);
        if (b)
            turn(b);
        usleep(200);
    }
}

static uint64_t computed(const struct worker *worker)
{
    struct engine_stats stats;
    engine_stats_read(worker->engine, &stats);
    return stats.prompt_tokens;
}

static uint64_t stored(const struct worker *worker)
{
    struct kvtier_stats stats;
    kvtier_stats_read(worker->tier, &stats);
    return stats.stored_blocks;
}

static uint64_t touched(const struct worker *worker)
{
    struct kvtier_stats stats;
    kvtier_stats_read(worker->tier, &stats);
    return stats.touched_blocks;
}

static void wait_for(const struct worker *worker, uint64_t (*count)(const struct worker *), uint64_t least)
{
    int64_t end_ms = monotime_ms() + PATIENCE_MS;
    while (count(worker) < least) {
        assert_true(monotime_ms() < end_ms);
        usleep(1000);
    }
}

static struct kv_bridge_stats stats_of(const struct worker *worker)
{
    struct kv_bridge_stats stats;
    kv_bridge_stats_read(worker->bridge, &stats);
    for (int i = 0; i < KV_BRIDGE_STATE_COUNT; i++)
        assert_int_equal(stats.held[i], 0); /* nobody is held any more */
    return stats;
}

/* What the same request says in an engine of its own. */
static void compare_alone(struct worker *worker, size_t i)
{
    static struct asked alone[ASKED];
    struct engine_options options = engine_fixture_options();
    struct engine *engine = engine_fixture_open(&options);
    memcpy(&alone[i], &worker->asked[i], sizeof alone[i]);
    asked_submit(&alone[i], engine);
    asked_run(alone, engine);
    asked_compare(&worker->asked[i], &alone[i], "with the tier");
    engine_close(engine);
}

static int start_redis(void **state)
{
    (void)state;
    return redis_server_start(&server, roomy) ? 0 : -1;
}

static int stop_redis(void **state)
{
    (void)state;
    redis_server_stop(&server);
    redis_server_remove(&server);
    return 0;
}

static int close_model(void **state)
{
    (void)state;
    engine_fixture_close_model();
    return 0;
}

static void of_two_workers_one_computes(void **state)
{
    (void)state;
    struct setting setting = {0};
    struct worker *a = open_worker(&setting), *b = open_worker(&setting);
    for (size_t i = 0; i < 8; i++) {
        ask(a, i, i, 1);
        ask(b, i, 8 + i, 1);
    }
    run(a, b);
    assert_int_equal(computed(a) + computed(b), PREFIX + 16 * (PROMPT - PREFIX));
    struct kv_bridge_stats of_a = stats_of(a), of_b = stats_of(b);
    /* One request of the other worker, the rest is behind it; none, if it looked when all was stored already.
     */
    assert_in_range(of_a.waits + of_b.waits, 0, 1);
    for (size_t i = 0; i < 8; i++) {
        compare_alone(a, i);
        compare_alone(b, i);
    }
    close_worker(a);
    close_worker(b);
}

/* Without a lease the same two workers compute twice: the test above can fail. */
static void without_singleflight_both_compute(void **state)
{
    (void)state;
    struct setting setting = {.no_singleflight = true};
    struct worker *a = open_worker(&setting), *b = open_worker(&setting);
    ask(a, 0, 0, 1);
    ask(b, 0, 1, 1);
    while (!a->submitted[0] || !b->submitted[0]) { /* both have looked before either has computed */
        receive(a);
        receive(b);
    }
    run(a, b);
    assert_int_equal(computed(a) + computed(b), 2 * PROMPT);
    close_worker(a);
    close_worker(b);
}

static void a_worker_that_dies_costs_its_lease(void **state)
{
    (void)state;
    struct setting setting = {.token_us = QUICK_US};
    struct worker *a = open_worker(&setting), *b = open_worker(&setting);
    ask(a, 0, 0, 1);
    while (!a->submitted[0])
        receive(a); /* it has the lease, and goes no further */
    ask(b, 0, 1, 1);
    int64_t begin_ms = monotime_ms();
    run(b, NULL);
    assert_in_range(monotime_ms() - begin_ms, 100,
                    5000); /* 2 x 192 tokens at 1 ms, and the machine's moods */
    assert_int_equal(computed(b), PROMPT);
    assert_int_equal(stats_of(b).waits, 1);
    compare_alone(b, 0);
    run(a, NULL);
    close_worker(a);
    close_worker(b);
}

static void a_cancelled_wait_ends_at_once(void **state)
{
    (void)state;
    struct setting setting = {0};
    struct kv_bridge_ready ready;
    struct worker *a = open_worker(&setting), *b = open_worker(&setting);
    ask(a, 0, 0, 1);
    while (!a->submitted[0])
        receive(a);
    ask(b, 0, 1, 1);
    ask(b, 1, 2, 1); /* behind it */
    for (int i = 0; i < 50; i++) {
        usleep(1000);
        receive(b);
    }
    assert_int_equal(kv_bridge_held(b->bridge), 2);
    kv_bridge_cancel(b->bridge, (void *)(uintptr_t)1);
    bool back = false;
    for (int i = 0; i < 100 && !back; i++) { /* unless it is asking just now, at once */
        kv_bridge_cancel(b->bridge, (void *)(uintptr_t)1);
        back = kv_bridge_receive(b->bridge, 1, &ready);
    }
    assert_true(back);
    assert_int_equal((uintptr_t)ready.context, 1);
    run(a, b); /* the one behind it takes its place */
    assert_int_equal(b->tier_tokens[1], PREFIX);
    close_worker(a);
    close_worker(b);
}

static void without_redis_everybody_computes(void **state)
{
    (void)state;
    struct setting setting = {.token_us = QUICK_US};
    struct worker *a = open_worker(&setting);
    redis_server_signal(&server, SIGSTOP);
    for (size_t i = 0; i < 6; i++)
        ask(a, i, i, i / 3);
    run(a, NULL);
    redis_server_signal(&server, SIGCONT);
    assert_int_equal(computed(a), 2 * PREFIX + 6 * (PROMPT - PREFIX));
    for (size_t i = 0; i < 6; i++)
        compare_alone(a, i);
    close_worker(a);
}

/* A pool of 16 blocks has room for one prefix, host memory for three more. */
static void evicted_blocks_come_back_from_host_memory(void **state)
{
    (void)state;
    struct setting setting = {.blocks = 16, .host_blocks = 40, .no_tier = true};
    struct worker *a = open_worker(&setting);
    for (size_t i = 0; i < 4; i++) {
        ask(a, i, i, i);
        run(a, NULL);
    }
    assert_int_equal(computed(a), 4 * PROMPT);
    assert_true(stats_of(a).host.demoted >= 4 * PREFIX / FIXTURE_BLOCK_TOKENS - 16);
    for (size_t i = 0; i < 4; i++) { /* other requests with the same prefixes */
        ask(a, 4 + i, 100 + i, i);
        run(a, NULL);
        compare_alone(a, 4 + i);
    }
    assert_int_equal(computed(a), 4 * PROMPT + 4 * (PROMPT - PREFIX));
    assert_true(stats_of(a).host.promoted >= 4 * PREFIX / FIXTURE_BLOCK_TOKENS - 16);
    assert_int_equal(stats_of(a).host.dropped, 0);
    close_worker(a);
}

/* The end of a chain is pushed out of host memory before its beginning: what is left is of use. */
static void too_little_host_memory_keeps_beginnings(void **state)
{
    (void)state;
    struct setting setting = {.blocks = 16, .host_blocks = 6, .no_tier = true};
    struct worker *a = open_worker(&setting);
    ask(a, 0, 0, 0);
    run(a, NULL);
    ask(a, 1, 1, 1);
    run(a, NULL);
    ask(a, 2, 2, 0);
    run(a, NULL);
    compare_alone(a, 2);
    assert_true(stats_of(a).host.dropped > 0);
    assert_true(computed(a) <= 3 * PROMPT - 6 * FIXTURE_BLOCK_TOKENS);
    close_worker(a);
}

static void local_hits_are_told_to_redis(void **state)
{
    (void)state;
    struct setting setting = {0};
    struct worker *a = open_worker(&setting), *b = open_worker(&setting);
    ask(a, 0, 0, 1);
    run(a, NULL);
    wait_for(a, stored, PREFIX / FIXTURE_BLOCK_TOKENS);
    ask(b, 0, 1, 1);
    run(b, NULL);
    assert_int_equal(b->tier_tokens[0], PREFIX);
    ask(b, 1, 2, 1); /* now local: b has not said so yet */
    ask(b, 2, 3, 1); /* and then not again within the minute */
    run(b, NULL);
    wait_for(b, touched, PREFIX / FIXTURE_BLOCK_TOKENS);
    usleep(50000);
    assert_int_equal(touched(b), PREFIX / FIXTURE_BLOCK_TOKENS);
    close_worker(a);
    close_worker(b);
}

static size_t blocks_here(const struct worker *worker, size_t i)
{
    struct block_key keys[PREFIX / FIXTURE_BLOCK_TOKENS];
    size_t count =
        engine_block_keys(worker->engine, &worker->asked[i].request, keys, sizeof keys / sizeof *keys);
    size_t here = 0;
    for (size_t b = 0; b < count; b++)
        here += engine_block_has(worker->engine, &keys[b]);
    return here;
}

/* The most blocks of request i's prefix that one look of the engine's loop brought. */
static size_t most_at_once(struct worker *worker, size_t i)
{
    int64_t end_ms = monotime_ms() + PATIENCE_MS;
    size_t most = 0;
    while (!worker->submitted[i]) {
        size_t before = blocks_here(worker, i);
        assert_true(monotime_ms() < end_ms);
        receive(worker);
        size_t came = blocks_here(worker, i) - before;
        most = came > most ? came : most;
    }
    return most;
}

/* Between two steps of other requests a loaded prefix is taken in pieces; when nobody waits, in one go. */
static void a_loaded_prefix_does_not_hold_up_steps(void **state)
{
    (void)state;
    struct setting setting = {0}, bounded = {.land_blocks = 2};
    struct worker *a = open_worker(&setting), *b = open_worker(&bounded), *idle = open_worker(&bounded);
    ask(a, 0, 0, 1);
    run(a, NULL);
    wait_for(a, stored, PREFIX / FIXTURE_BLOCK_TOKENS);
    struct asked *busy = &b->asked[1];
    asked_init(busy, 50, 8, 0, 2);
    busy->request.id = 1;
    busy->sampling.max_tokens = 4;
    submit(b, 1); /* and not stepped: b's engine has work all the while */
    ask(b, 0, 1, 1);
    assert_int_equal(most_at_once(b, 0), 2);
    assert_int_equal(b->tier_tokens[0], PREFIX);
    ask(idle, 0, 1, 1);
    assert_int_equal(most_at_once(idle, 0), PREFIX / FIXTURE_BLOCK_TOKENS);
    run(b, idle);
    compare_alone(b, 0);
    compare_alone(b, 1);
    compare_alone(idle, 0);
    close_worker(a);
    close_worker(b);
    close_worker(idle);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(of_two_workers_one_computes, start_redis, stop_redis),
        cmocka_unit_test_setup_teardown(without_singleflight_both_compute, start_redis, stop_redis),
        cmocka_unit_test_setup_teardown(a_worker_that_dies_costs_its_lease, start_redis, stop_redis),
        cmocka_unit_test_setup_teardown(a_cancelled_wait_ends_at_once, start_redis, stop_redis),
        cmocka_unit_test_setup_teardown(without_redis_everybody_computes, start_redis, stop_redis),
        cmocka_unit_test_setup_teardown(local_hits_are_told_to_redis, start_redis, stop_redis),
        cmocka_unit_test_setup_teardown(a_loaded_prefix_does_not_hold_up_steps, start_redis, stop_redis),
        cmocka_unit_test(evicted_blocks_come_back_from_host_memory),
        cmocka_unit_test(too_little_host_memory_keeps_beginnings),
    };
    return cmocka_run_group_tests(tests, NULL, close_model);
}
