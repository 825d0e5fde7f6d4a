// SPDX-License-Identifier: Apache-2.0
#include "worker/cli/setup.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sha256.h"
#include "config/config_limits.h"
#include "engine/constrain/catalog_store.h"
#include "engine/constrain/grammar_store.h"
#include "engine/kernels/huge_memory.h"
#include "engine/model/model.h"
#include "worker/cli/progress.h"

#define SHOWN_LOAD_BYTES ((uint64_t)256 << 20) /* a smaller model is there before a bar is drawn */
enum { DEFAULT_KV_SHARE = 4, DEFAULT_KV_MOST_MB = 4096, LEAST_KV_BLOCKS = 8 };
enum { JOB_BYTES = 9216 }; /* of a short job in flight, its sequence and its answer; counted (docs/perf.md) */

static void name_model(struct setup *setup, const char *path)
{
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/')
        end--;
    size_t begin = end;
    while (begin > 0 && path[begin - 1] != '/')
        begin--;
    snprintf(setup->model_name, sizeof setup->model_name, "%.*s", (int)(end - begin), path + begin);
    setup->only_name = setup->model_name;
}

static enum status open_text(struct setup *setup, struct error *err)
{
    const char *path = setup->config->model.path;
    enum status status = hparams_read(&setup->hparams, path, err);
    if (status == STATUS_OK)
        status = tokenizer_open(&setup->tokenizer, path, err);
    if (status != STATUS_OK)
        return status;
    status = chat_template_open(&setup->chat_template, path, err);
    return status == STATUS_NOT_FOUND ? STATUS_OK : status; /* completions work without a template */
}

static enum status open_catalogs(struct setup *setup, struct error *err)
{
    const struct catalog_options options = {.vocab = setup->hparams.vocab,
                                            .eos = setup->hparams.eos,
                                            .eos_count = setup->hparams.eos_count,
                                            .tokenizer = setup->tokenizer};
    const char *directory = setup->config->catalogs.directory;
    return *directory ? catalog_store_open(&setup->catalogs, directory, &options, err) : STATUS_OK;
}

static int threads_of(const struct config *config)
{
    return config->engine.threads > 0 ? (int)config->engine.threads : config_cpu_limit();
}

static void show_loading(void *context, uint64_t done_bytes, uint64_t total_bytes)
{
    struct progress *progress = context;
    if (total_bytes < SHOWN_LOAD_BYTES)
        return;
    progress->total = total_bytes >> 20;
    if (done_bytes < total_bytes)
        progress_show(progress, done_bytes >> 20, NULL);
    else
        progress_end(progress, progress->total, NULL);
}

static enum status open_model(struct setup *setup, bool show_progress, struct error *err)
{
    const struct config *config = setup->config;
    struct progress progress;
    progress_begin(&progress, "load", "MB", 0);
    struct model_options options = {.model_dir = config->model.path,
                                    .kernels = config->model.kernels,
                                    .weight_format = config->model.weight_format,
                                    .kv_format = config->model.kv_format,
                                    .weight_cache = config->model.weight_cache,
                                    .progress = show_progress ? show_loading : NULL,
                                    .progress_context = &progress,
                                    .threads = threads_of(config),
                                    .max_batch_tokens = (int32_t)config->engine.max_batch_tokens,
                                    .max_logit_rows =
                                        engine_max_logit_rows((int32_t)config->engine.max_sequences)};
    const uint64_t before = config_private_bytes();
    enum status status = model_open(&setup->model, &options, err);
    setup->model_private_bytes = config_private_bytes() - before;
    return status;
}

enum status setup_plan_memory(const struct config *config, struct setup_memory *memory, struct error *err)
{
    uint64_t block_tokens = (uint64_t)config->engine.block_tokens;
    memory->jobs = (uint64_t)config->limits.max_inflight_jobs * JOB_BYTES;
    uint64_t taken = memory->weights + memory->buffers + memory->logits + memory->jobs;
    uint64_t bytes = (uint64_t)config->engine.kv_memory_mb << 20;
    memory->limit = config_memory_limit_bytes();
    if (bytes == 0) {
        bytes = memory->limit > taken ? (memory->limit - taken) / DEFAULT_KV_SHARE : 0;
        if (bytes > (uint64_t)DEFAULT_KV_MOST_MB << 20)
            bytes = (uint64_t)DEFAULT_KV_MOST_MB << 20;
    }
    uint64_t blocks = bytes / memory->block;
    if (blocks < LEAST_KV_BLOCKS || taken + bytes > memory->limit)
        return error_set(err, STATUS_CONFIG,
                         "memory does not suffice: weights, buffers and jobs take %llu MB, the KV pool would "
                         "have %llu MB, the "
                         "limit is %llu MB; change engine.kv_memory_mb or use a smaller weight format",
                         (unsigned long long)(taken >> 20), (unsigned long long)(bytes >> 20),
                         (unsigned long long)(memory->limit >> 20));
    uint64_t most =
        ((uint64_t)memory->context_tokens / block_tokens + 1) * (uint64_t)config->engine.max_sequences;
    if (blocks > most)
        blocks = most;
    memory->kv_blocks = blocks > INT32_MAX ? INT32_MAX : (int32_t)blocks;
    memory->pool = (uint64_t)memory->kv_blocks * memory->block;
    if ((uint64_t)memory->kv_blocks * block_tokens < (uint64_t)memory->context_tokens)
        memory->context_tokens = (int32_t)((uint64_t)memory->kv_blocks * block_tokens);
    return STATUS_OK;
}

static int32_t context_of(const struct setup *setup)
{
    int64_t configured = setup->config->engine.max_context_tokens;
    int32_t context = setup->hparams.max_context_tokens;
    return configured > 0 && configured < context ? (int32_t)configured : context;
}

static enum status open_engine(struct setup *setup, const struct setup_options *options, struct error *err)
{
    const struct config *config = setup->config;
    setup->memory = (struct setup_memory){
        .weights = model_weight_bytes(setup->model),
        .buffers = model_buffer_bytes(setup->model),
        .logits = engine_logits_bytes((int32_t)config->engine.max_sequences, setup->hparams.vocab),
        .block = model_block_bytes(setup->model, (int32_t)config->engine.block_tokens),
        .context_tokens = context_of(setup)};
    enum status status = setup_plan_memory(config, &setup->memory, err);
    if (status != STATUS_OK)
        return status;
    struct engine_options engine = {.model = setup->model,
                                    .tokenizer = setup->tokenizer,
                                    .block_tokens = (int32_t)config->engine.block_tokens,
                                    .kv_blocks = setup->memory.kv_blocks,
                                    .max_sequences = (int32_t)config->engine.max_sequences,
                                    .max_batch_tokens = (int32_t)config->engine.max_batch_tokens,
                                    .max_chunk_tokens = (int32_t)config->engine.max_chunk_tokens,
                                    .max_waiting = (int32_t)config->engine.max_waiting,
                                    .max_context_tokens = setup->memory.context_tokens,
                                    .prefix_cache = config->engine.prefix_cache,
                                    .speculative_tokens = (int32_t)config->engine.speculative_tokens,
                                    .contiguous_kv = strcmp(config->engine.kv_backend, "contiguous") == 0,
                                    .max_mappings = config_map_limit() / 2,
                                    .step_target_ns = config->engine.step_target_ms * 1000000,
                                    .force_preempt_every = options->force_preempt_every};
    return engine_open(&setup->engine, &engine, err);
}

static enum status check_fingerprint(struct setup *setup, struct error *err)
{
    const char *required = setup->config->engine.require_fingerprint;
    sha256_hex(model_fingerprint(setup->model), setup->fingerprint);
    if (!*required || strncmp(required, setup->fingerprint, strlen(required)) == 0)
        return STATUS_OK;
    return error_set(err, STATUS_CONFIG,
                     "engine.require_fingerprint is %.64s but this model, format and kernel set have %s",
                     required, setup->fingerprint);
}

static void fill_contexts(struct setup *setup)
{
    const struct config *config = setup->config;
    bool named = config->model.served_model_names.count > 0;
    setup->parse = (struct job_parse_context){
        .config = config,
        .hparams = &setup->hparams,
        .tokenizer = setup->tokenizer,
        .chat_template = setup->chat_template,
        .served_names = named ? config->model.served_model_names.items : &setup->only_name,
        .served_count = named ? config->model.served_model_names.count : 1,
        .max_context_tokens = setup->engine ? setup->memory.context_tokens : context_of(setup),
        .catalogs = setup->catalogs,
        .grammars = setup->grammars};
    setup->generation = (struct generation_context){.tokenizer = setup->tokenizer,
                                                    .system_fingerprint = setup->fingerprint,
                                                    .max_result_bytes = (size_t)config->results.max_bytes,
                                                    .hparams = &setup->hparams};
}

enum status setup_open(struct setup **out, const struct setup_options *options, struct error *err)
{
    *out = NULL;
    if (!*options->config->model.path)
        return error_set(err, STATUS_CONFIG, "no model: name its directory with model.path or -m");
    struct setup *setup = calloc(1, sizeof *setup);
    if (!setup)
        return error_set(err, STATUS_NO_MEMORY, "no memory to open the model");
    setup->config = options->config;
    name_model(setup, options->config->model.path);
    enum status status = open_text(setup, err);
    if (status == STATUS_OK)
        status = open_catalogs(setup, err);
    if (status == STATUS_OK)
        status = grammar_store_open(&setup->grammars, setup->tokenizer, setup->hparams.vocab, err);
    if (status == STATUS_OK && options->with_engine)
        status = open_model(setup, options->show_progress, err);
    if (status == STATUS_OK && options->with_engine)
        status = check_fingerprint(setup, err);
    if (status == STATUS_OK && options->with_engine)
        status = open_engine(setup, options, err);
    if (status != STATUS_OK) {
        setup_close(setup);
        return status;
    }
    fill_contexts(setup);
    *out = setup;
    return STATUS_OK;
}

void setup_close(struct setup *setup)
{
    if (!setup)
        return;
    engine_close(setup->engine);
    model_close(setup->model);
    grammar_store_close(setup->grammars);
    catalog_store_close(setup->catalogs);
    chat_template_close(setup->chat_template);
    tokenizer_close(setup->tokenizer);
    free(setup);
}

/* What became of model.weight_cache, in brackets behind the weights' size. */
static void describe_origin(const struct setup *setup, struct bytes *out)
{
    const char *trouble;
    enum model_weight_origin origin = model_weight_origin(setup->model, &trouble);
    if (origin == MODEL_WEIGHTS_READ)
        bytes_appendf(out, ", read from the weight cache");
    else if (origin == MODEL_WEIGHTS_KEPT)
        bytes_appendf(out, ", packed and kept in the weight cache");
    else if (*trouble)
        bytes_appendf(out, ", packed; weight cache: %s", trouble);
}

void setup_describe(const struct setup *setup, struct bytes *out)
{
    bytes_appendf(out, "model %s, weights %s (%llu MB", setup->model_name,
                  model_weight_format_name(setup->model),
                  (unsigned long long)(model_weight_bytes(setup->model) >> 20));
    describe_origin(setup, out);
    bytes_appendf(out,
                  "), kv %s (%d blocks of %lld tokens), kernels %s, %d threads, "
                  "fingerprint %.12s",
                  model_kv_format_name(setup->model), setup->memory.kv_blocks,
                  (long long)setup->config->engine.block_tokens, model_kernels_name(setup->model),
                  model_threads(setup->model), setup->fingerprint);
}

static double megabytes(uint64_t bytes)
{
    return (double)bytes / (1 << 20);
}

/* Whole huge pages, since that is how the parts are taken. */
void setup_describe_memory(const struct setup *setup, struct bytes *out)
{
    const struct setup_memory *m = &setup->memory;
    const uint64_t weights = huge_memory_bytes(m->weights), pool = huge_memory_bytes(m->pool),
                   buffers = huge_memory_bytes(m->buffers);
    const uint64_t now = config_private_bytes(), known = setup->model_private_bytes + m->logits;
    const uint64_t other = now > known ? now - known : 0;
    bytes_appendf(
        out,
        "memory %.1f MB when the KV pool is full: weights %.1f, KV pool %.1f, step buffers %.1f, logits "
        "%.1f, jobs %.1f, other %.1f",
        megabytes(weights + pool + buffers + m->logits + m->jobs + other), megabytes(weights),
        megabytes(pool), megabytes(buffers), megabytes(m->logits), megabytes(m->jobs), megabytes(other));
}
