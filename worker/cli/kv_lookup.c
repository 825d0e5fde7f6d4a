// SPDX-License-Identifier: Apache-2.0
#include "worker/cli/kv_lookup.h"

#include <stdlib.h>
#include <string.h>

#include "base/monotime.h"
#include "kvtier/kvtier.h"
#include "worker/cli/kv_report.h"
#include "worker/cli/line_reader.h"
#include "worker/cli/setup.h"

enum { MAX_BLOCKS = 4096, LIMIT_S = 10 };

struct lookup {
    struct setup *setup;
    struct tier_store *store;
    struct block_key keys[MAX_BLOCKS];
    int64_t line; /* of the file, from 1 */
    bool json;
    struct error *err;
};

static struct kvtier_fetch *describe_chain(struct lookup *lookup, const struct engine_request *request,
                                           size_t count)
{
    const struct engine *engine = lookup->setup->engine;
    uint32_t block_tokens = (uint32_t)lookup->setup->config->engine.block_tokens;
    struct kvtier_fetch *chain = kvtier_fetch_new(count, block_tokens, engine_block_bytes(engine));
    struct block_key parent = block_key_root(engine_fingerprint(engine), request->salt, request->salt_bytes);
    for (size_t i = 0; chain && i < count; i++) {
        struct block_identity *block = &chain->blocks[i];
        memcpy(chain->tokens + i * block_tokens, request->prompt + i * block_tokens,
               block_tokens * sizeof(int32_t));
        block->fingerprint = engine_fingerprint(engine);
        block->parent = parent;
        block->key = parent = lookup->keys[i];
        block->first_position = (uint32_t)i * block_tokens;
    }
    return chain;
}

static enum status look_up_prompt(struct lookup *lookup, const struct job *job, size_t index)
{
    struct engine_request request = {.prompt = job->prompts[index].tokens,
                                     .prompt_tokens = job->prompts[index].count,
                                     .sampling = &job->sampling,
                                     .salt = job->salt,
                                     .salt_bytes = job->salt_bytes};
    size_t count = engine_block_keys(lookup->setup->engine, &request, lookup->keys, MAX_BLOCKS);
    struct kvtier_fetch *chain = describe_chain(lookup, &request, count);
    if (!chain)
        return error_set(lookup->err, STATUS_NO_MEMORY, "no memory for %zu blocks", count);
    struct tier_get get = {.blocks = chain->blocks,
                           .payloads = chain->payloads,
                           .count = count,
                           .deadline_ns = monotime_ns() + LIMIT_S * 1000000000ll};
    enum tier_fault fault = lookup->store->get(lookup->store, &get, lookup->err);
    const struct kv_report_prompt report = {.line = lookup->line,
                                            .custom_id = job->custom_id,
                                            .prompt = index,
                                            .tokens = request.prompt_tokens,
                                            .blocks = count,
                                            .stored = get.loaded,
                                            .miss = get.loaded < count ? get.miss : TIER_MISS_none,
                                            .verdict = get.verdict};
    if (fault == TIER_FAULT_NONE)
        kv_report_prompt(&report, lookup->json);
    kvtier_fetch_free(chain);
    return fault == TIER_FAULT_NONE ? STATUS_OK : STATUS_UNAVAILABLE;
}

static enum status look_up_line(struct lookup *lookup, const struct line_reader *reader, const char *line,
                                size_t bytes)
{
    struct job_record record = {.value = line,
                                .value_bytes = bytes,
                                .cluster_id = "",
                                .topic = reader->path,
                                .offset = reader->lines,
                                .timestamp_ms = -1};
    struct job_fault fault = {.http_status = 0};
    struct job *job = NULL;
    lookup->line = reader->lines;
    enum status status = job_parse(&job, &lookup->setup->parse, &record, &fault);
    if (status_class_of(status) == STATUS_CLASS_REJECT) {
        kv_report_no_job(reader->lines, fault.message, lookup->json);
        return STATUS_OK;
    }
    if (status != STATUS_OK)
        return error_set(lookup->err, status, "no memory for a job");
    for (size_t i = 0; i < job->prompt_count && status == STATUS_OK; i++)
        status = look_up_prompt(lookup, job, i);
    job_close(job);
    return status;
}

static enum status look_up_file(struct lookup *lookup, const char *input)
{
    struct line_reader reader;
    const char *line;
    size_t bytes;
    size_t most = (size_t)lookup->setup->config->limits.max_job_bytes;
    enum status status = line_reader_open(&reader, input, most, lookup->err);
    if (status != STATUS_OK)
        return status;
    while ((status = line_reader_wait(&reader, &line, &bytes, lookup->err)) == STATUS_OK)
        if ((status = look_up_line(lookup, &reader, line, bytes)) != STATUS_OK)
            break;
    line_reader_close(&reader);
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}

enum status kv_lookup(const struct config *config, const struct redis_store_options *redis, const char *input,
                      bool json, struct error *err)
{
    struct lookup *lookup = calloc(1, sizeof *lookup);
    if (!lookup)
        return error_set(err, STATUS_NO_MEMORY, "no memory for a lookup");
    struct setup_options options = {.config = config, .with_engine = true};
    lookup->json = json;
    lookup->err = err;
    enum status status = setup_open(&lookup->setup, &options, err);
    if (status == STATUS_OK)
        status = redis_store_open(&lookup->store, redis, err);
    if (status == STATUS_OK)
        status = look_up_file(lookup, input);
    if (lookup->store)
        lookup->store->close(lookup->store);
    setup_close(lookup->setup);
    free(lookup);
    return status;
}
