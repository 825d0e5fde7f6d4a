// SPDX-License-Identifier: Apache-2.0
// `millrace bench prefix`: what a long shared prefix costs a worker that computes it, and one that finds it
// in Redis; and what handing blocks to Redis costs the one that computes. Random weights, a real Redis; three
// engines take turns with the same prompts, round after round: without a tier, with an empty one, and with
// one that another worker has filled; over a slow link that one loads what comes in time. All three must say
// the same token with the same log-probability.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/monotime.h"
#include "engine/model/model.h"
#include "engine/philox.h"
#include "kvtier/redis_store.h"
#include "worker/cli/bench.h"
#include "worker/cli/cli.h"
#include "worker/infer/kv_bridge.h"

enum {
    BLOCK_TOKENS = 16,
    SUFFIX_TOKENS = 16, /* of each prompt, after the prefix: always computed */
    MAX_ROUNDS = 15,
    FETCHES = 8,
    STORE_LIMIT_S = 60,
    TURN_MS = 1
};
#define TIER_BYTES ((size_t)1 << 30)

static const char usage[] =
    "usage: millrace bench prefix [--address redis://HOST:PORT] [--shape qwen3-0.6b] "
    "[--tokens 1024]\n"
    "         [--format bf16] [--kv-format bf16|f32] [--threads N] [--rounds N] [--json]";

enum way { WAY_NONE, WAY_COLD, WAY_WARM, WAYS };

struct run {
    const char *address, *shape, *format, *kv_format;
    int threads, rounds, tokens;
    bool json;
    struct hparams hparams;
    struct model *model;
    int32_t *prompt;                  /* [tokens + SUFFIX_TOKENS] */
    double seconds[WAYS][MAX_ROUNDS]; /* to the first token */
    double cpu[WAYS][MAX_ROUNDS];     /* of this process, until all is stored */
    double writing[MAX_ROUNDS];       /* time that the writer took to store the prompt's blocks */
    double handing[MAX_ROUNDS];       /* time that the engine's thread took to hand them over */
    double handing_s;                 /* so far, of this round */
    int32_t token[WAYS];
    float logprob[WAYS];
    uint32_t tier_tokens[WAYS];
};

struct rig { /* an engine and what surrounds it in a worker */
    struct engine *engine;
    struct channel *done;
    struct kvtier *tier;
    struct kv_bridge *bridge;
};

static void close_rig(struct rig *rig)
{
    kv_bridge_close(rig->bridge);
    kvtier_close(rig->tier, 0);
    if (rig->done)
        channel_close(rig->done);
    engine_close(rig->engine);
}

static enum status open_tier(struct rig *rig, const struct run *run, struct error *err)
{
    struct redis_store_options redis = {.address = run->address, .ttl_s = 60};
    struct kvtier_options options = {
        .max_put_bytes = TIER_BYTES, .max_fetch_bytes = TIER_BYTES, .max_fetches = FETCHES};
    enum status status = redis_store_open(&options.reader, &redis, err);
    redis.writer = true;
    if (status == STATUS_OK && (status = redis_store_open(&options.writer, &redis, err)) != STATUS_OK)
        options.reader->close(options.reader);
    if (status == STATUS_OK)
        status = channel_open(&rig->done, FETCHES, err);
    options.done = rig->done;
    if (status == STATUS_OK)
        status = kvtier_open(&rig->tier, &options, err);
    struct kv_bridge_options bridge = {.engine = rig->engine,
                                       .tier = rig->tier,
                                       .done = rig->done,
                                       .block_tokens = BLOCK_TOKENS,
                                       .max_context_tokens = run->tokens + SUFFIX_TOKENS + 1,
                                       .singleflight = true};
    return status == STATUS_OK ? kv_bridge_open(&rig->bridge, &bridge, err) : status;
}

static enum status open_rig(struct rig *rig, const struct run *run, bool with_tier, struct error *err)
{
    *rig = (struct rig){0};
    struct engine_options options = {.model = run->model,
                                     .block_tokens = BLOCK_TOKENS,
                                     .kv_blocks = (run->tokens + 2 * SUFFIX_TOKENS) / BLOCK_TOKENS + 2,
                                     .max_sequences = 1,
                                     .max_batch_tokens = BENCH_CHUNK_TOKENS,
                                     .max_chunk_tokens = BENCH_CHUNK_TOKENS,
                                     .max_waiting = 1,
                                     .prefix_cache = true};
    enum status status = engine_open(&rig->engine, &options, err);
    return status == STATUS_OK && with_tier ? open_tier(rig, run, err) : status;
}

/* One step of the engine; true when the first token has come. */
static bool step(struct run *run, enum way way, struct rig *rig)
{
    const struct engine_event *events;
    size_t count;
    bool first = false;
    struct engine_stats before, after;
    int64_t begin_ns = monotime_ns();
    engine_stats_read(rig->engine, &before);
    CHECK(engine_step(rig->engine, &events, &count, NULL) == STATUS_OK);
    engine_stats_read(rig->engine, &after);
    if (rig->bridge) {
        kv_bridge_note_prefill(rig->bridge, after.prompt_tokens - before.prompt_tokens,
                               monotime_ns() - begin_ns);
        begin_ns = monotime_ns();
        kv_bridge_spill(rig->bridge, events, count);
        run->handing_s += (double)(monotime_ns() - begin_ns) / 1e9;
    }
    for (size_t i = 0; i < count; i++)
        if (events[i].type == ENGINE_EVENT_TOKEN) {
            run->token[way] = events[i].token;
            run->logprob[way] = events[i].logprob;
            first = true;
        }
    return first;
}

/* From the arrival of the job to its first token. */
static enum status first_token(struct run *run, enum way way, struct rig *rig, const char *salt,
                               double *seconds, struct error *err)
{
    struct sampling_params sampling = sampling_defaults();
    sampling.temperature = 0;
    sampling.max_tokens = 1;
    sampling.logprobs = 0;
    sampling.ignore_eos = true;
    struct engine_request request = {.prompt = run->prompt,
                                     .prompt_tokens = (size_t)run->tokens + SUFFIX_TOKENS,
                                     .sampling = &sampling,
                                     .salt = salt,
                                     .salt_bytes = strlen(salt)};
    struct kv_bridge_ready ready = {0};
    int64_t begin_ns = monotime_ns();
    if (rig->bridge && kv_bridge_hold(rig->bridge, &request, &request, &ready.tier_tokens))
        while (!kv_bridge_receive(rig->bridge, TURN_MS, &ready))
            continue;
    run->tier_tokens[way] = ready.tier_tokens;
    enum status status = engine_submit(rig->engine, &request, err);
    while (status == STATUS_OK && !step(run, way, rig))
        continue;
    *seconds = (double)(monotime_ns() - begin_ns) / 1e9;
    while (status == STATUS_OK && !engine_idle(rig->engine))
        step(run, way, rig);
    return status;
}

static enum status wait_stored(const struct run *run, const struct rig *rig, double *writing,
                               struct error *err)
{
    struct kvtier_stats stats;
    uint64_t blocks = (uint64_t)(run->tokens / BLOCK_TOKENS);
    int64_t limit_ms = monotime_ms() + STORE_LIMIT_S * 1000;
    do {
        usleep(1000);
        kvtier_stats_read(rig->tier, &stats);
        *writing = (double)stats.store_ns / 1e9;
        if (stats.stored_blocks >= blocks)
            return STATUS_OK;
    } while (monotime_ms() < limit_ms && stats.dropped_failed + stats.dropped_breaker == 0);
    return error_set(err, STATUS_UNAVAILABLE, "Redis at %s stored %llu of %llu blocks", run->address,
                     (unsigned long long)stats.stored_blocks, (unsigned long long)blocks);
}

static double cpu_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static enum status run_way(struct run *run, enum way way, int round, struct error *err)
{
    char salt[64];
    struct rig rig;
    snprintf(salt, sizeof salt, "bench-%lld-%d", (long long)getpid(), round);
    enum status status = open_rig(&rig, run, way != WAY_NONE, err);
    if (status == STATUS_OK && way == WAY_WARM) /* it has computed before: it knows what loading may take */
        kv_bridge_note_prefill(rig.bridge, (uint64_t)run->tokens,
                               (int64_t)(run->seconds[WAY_COLD][round] * 1e9));
    double begin_s = cpu_seconds();
    run->handing_s = 0;
    if (status == STATUS_OK)
        status = first_token(run, way, &rig, salt, &run->seconds[way][round], err);
    if (status == STATUS_OK && way == WAY_COLD)
        status = wait_stored(run, &rig, &run->writing[round], err);
    run->cpu[way][round] = cpu_seconds() - begin_s;
    if (way == WAY_COLD)
        run->handing[round] = run->handing_s;
    close_rig(&rig);
    return status;
}

static enum status check_equal(const struct run *run, struct error *err)
{
    for (int way = WAY_COLD; way < WAYS; way++)
        if (run->token[way] != run->token[WAY_NONE] ||
            memcmp(&run->logprob[way], &run->logprob[WAY_NONE], sizeof(float)) != 0)
            return error_set(err, STATUS_CORRUPT, "the answer differs with the tier: token %d, not %d",
                             run->token[way], run->token[WAY_NONE]);
    return STATUS_OK;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, int count)
{
    qsort(values, (size_t)count, sizeof *values, compare);
    return values[count / 2];
}

static void print_result(struct run *run)
{
    double seconds[WAYS], cpu[WAYS];
    for (int way = 0; way < WAYS; way++) {
        seconds[way] = median(run->seconds[way], run->rounds);
        cpu[way] = median(run->cpu[way], run->rounds);
    }
    double warm = seconds[WAY_WARM] / seconds[WAY_COLD], tax = cpu[WAY_COLD] / cpu[WAY_NONE] - 1,
           writing = median(run->writing, run->rounds) / seconds[WAY_NONE],
           handing = median(run->handing, run->rounds) / seconds[WAY_NONE];
    if (run->json)
        printf("{\"work\":\"prefix\",\"shape\":\"%s\",\"format\":\"%s\",\"kv_format\":\"%s\",\"threads\":%d,"
               "\"prefix_tokens\":%d,\"loaded_tokens\":%u,\"no_tier_seconds\":%.4f,"
               "\"cold_seconds\":%.4f,\"warm_seconds\":%.4f,"
               "\"warm_share_of_cold\":%.4f,\"spill_cpu_share\":%.4f,\"spill_writer_share\":%.4f,"
               "\"spill_engine_share\":%.4f}\n",
               run->shape, run->format, run->kv_format, run->threads, run->tokens, run->tier_tokens[WAY_WARM],
               seconds[WAY_NONE], seconds[WAY_COLD], seconds[WAY_WARM], warm, tax, writing, handing);
    else
        printf(
            "%s %s, KV %s, %d threads, prefix of %d tokens, to the first token (median of %d):\n"
            "  no tier %.3f s   computed and stored %.3f s   %u tokens loaded from Redis %.3f s, %.1f %% of "
            "computed\n"
            "  storing kept the engine's thread busy for %.2f %% of that time and the writer for %.1f %%, "
            "CPU "
            "time of the process %+.1f %%; all three answers are equal\n",
            run->shape, run->format, run->kv_format, run->threads, run->tokens, run->rounds,
            seconds[WAY_NONE], seconds[WAY_COLD], run->tier_tokens[WAY_WARM], seconds[WAY_WARM], 100 * warm,
            100 * handing, 100 * writing, 100 * tax);
}

static enum status open_model(struct run *run, struct error *err)
{
    enum status status = bench_shape(&run->hparams, run->shape, err);
    const struct model_options options = {.kernels = "auto",
                                          .weight_format = run->format,
                                          .kv_format = run->kv_format,
                                          .threads = run->threads,
                                          .max_batch_tokens = BENCH_CHUNK_TOKENS,
                                          .max_logit_rows = engine_max_logit_rows(1)};
    if (status == STATUS_OK)
        status = model_open_synthetic(&run->model, &run->hparams, &options, 1, err);
    size_t count = (size_t)run->tokens + SUFFIX_TOKENS;
    run->prompt = malloc(count * sizeof *run->prompt);
    if (status == STATUS_OK && !run->prompt)
        status = error_set(err, STATUS_NO_MEMORY, "no memory for the prompt");
    for (size_t i = 0; status == STATUS_OK && i < count; i++)
        run->prompt[i] = (int32_t)(philox_uniform(1, 2, (uint32_t)i) * run->hparams.vocab);
    return status;
}

static enum status run_all(struct run *run, struct error *err)
{
    enum status status = open_model(run, err);
    for (int round = 0; round < run->rounds && status == STATUS_OK; round++) {
        for (int way = 0; way < WAYS && status == STATUS_OK; way++)
            status = run_way(run, (enum way)way, round, err);
        if (status == STATUS_OK)
            status = check_equal(run, err);
    }
    if (status == STATUS_OK)
        print_result(run);
    free(run->prompt);
    model_close(run->model);
    return status;
}

int bench_prefix(int argc, char **argv)
{
    struct run run = {.address = "redis://127.0.0.1:6379",
                      .shape = "qwen3-0.6b",
                      .format = "bf16",
                      .kv_format = "bf16",
                      .threads = 2,
                      .rounds = 3,
                      .tokens = 1024};
    const struct bench_option options[] = {{"--address", .text = &run.address},
                                           {"--shape", .text = &run.shape},
                                           {"--format", .text = &run.format},
                                           {"--kv-format", .text = &run.kv_format},
                                           {"--threads", .number = &run.threads},
                                           {"--rounds", .number = &run.rounds, .most = MAX_ROUNDS},
                                           {"--tokens", .number = &run.tokens, .most = 1 << 16},
                                           {"--json", .flag = &run.json},
                                           {0}};
    int exit_code;
    if (!bench_options(options, argc, argv, "bench prefix", usage, &exit_code))
        return exit_code;
    if (run.tokens % BLOCK_TOKENS != 0)
        return cli_usage("bench prefix", "--tokens must be a multiple of %d", BLOCK_TOKENS);
    struct error err = {0};
    return run_all(&run, &err) == STATUS_OK ? EXIT_DONE : cli_fail(&err);
}
