// SPDX-License-Identifier: Apache-2.0
// Opens a model directory: configuration, checkpoint, kernel set and formats, packed weights, step buffers,
// fingerprint. Everything the forward pass needs is allocated here.
#include "engine/model/forward.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sha256.h"
#include "engine/kernels/dtype.h"
#include "engine/kernels/huge_memory.h"
#include "engine/model/rope.h"

/* Raised whenever an unchanged model, format and kernel set would give other bytes than before. */
#define NUMERICS_VERSION "millrace/numerics/3"

enum { PLAN_BLOCK_TOKENS = 16, MAX_THREADS = 1024, MAX_ROWS = 1 << 20 };

static const char *const weight_format_names[] = {
    [WEIGHT_F32] = "f32", [WEIGHT_BF16] = "bf16", [WEIGHT_INT8] = "int8", [WEIGHT_INT4] = "int4"};
static const char *const kv_format_names[] = {[KV_F32] = "f32", [KV_BF16] = "bf16", [KV_INT8] = "int8"};

static int index_of(const char *name, const char *const *names, int count)
{
    for (int i = 0; i < count; i++)
        if (strcmp(name, names[i]) == 0)
            return i;
    return -1;
}

static enum status check_limits(const struct model_options *options, struct error *err)
{
    if (options->threads < 1 || options->threads > MAX_THREADS)
        return error_set(err, STATUS_INVALID, "threads must be from 1 to %d", MAX_THREADS);
    if (options->max_batch_tokens < 1 || options->max_batch_tokens > MAX_ROWS ||
        options->max_logit_rows < 1 || options->max_logit_rows > MAX_ROWS)
        return error_set(err, STATUS_INVALID, "rows and logit rows of a step must be from 1 to %d", MAX_ROWS);
    return STATUS_OK;
}

static enum status choose_kernels(struct model *model, const char *name, struct error *err)
{
    model->kernels = kernels_find(name);
    if (!model->kernels)
        return error_set(err, STATUS_UNSUPPORTED,
                         "kernel set %.32s is unknown or this CPU cannot run it; use \"auto\"", name);
    return STATUS_OK;
}

/* "auto" keeps what the checkpoint has as far as the kernel set can; f16 becomes f32, which holds it. */
static enum status choose_weight_format(struct model *model, const char *name, enum dtype checkpoint,
                                        struct error *err)
{
    int index = index_of(name, weight_format_names, 4);
    if (strcmp(name, "auto") == 0)
        index =
            checkpoint == DTYPE_BF16 && model->kernels->has_format(WEIGHT_BF16) ? WEIGHT_BF16 : WEIGHT_F32;
    if (index < 0)
        return error_set(err, STATUS_INVALID,
                         "weight format %.32s is unknown; use auto, f32, bf16, int8 or int4", name);
    if (!model->kernels->has_format((enum weight_format)index))
        return error_set(err, STATUS_UNSUPPORTED, "kernel set %s has no %s weights", model->kernels->name,
                         weight_format_names[index]);
    model->weight_format = (enum weight_format)index;
    return STATUS_OK;
}

static enum status choose_kv_format(struct model *model, const char *name, enum dtype checkpoint,
                                    struct error *err)
{
    int index = index_of(name, kv_format_names, 3);
    if (strcmp(name, "auto") == 0)
        index = checkpoint == DTYPE_F32 ? KV_F32 : KV_BF16;
    if (index < 0)
        return error_set(err, STATUS_INVALID, "KV format %.32s is unknown; use auto, f32, bf16 or int8",
                         name);
    if (index == KV_INT8 && !model->kernels->has_kv_int8)
        return error_set(err, STATUS_UNSUPPORTED, "kernel set %s has no int8 KV", model->kernels->name);
    model->kv_format = (enum kv_format)index;
    return STATUS_OK;
}

static const char *or_auto(const char *name)
{
    return name ? name : "auto";
}

static enum status choose(struct model *model, const struct model_options *options, enum dtype checkpoint,
                          struct error *err)
{
    enum status status;
    if ((status = check_limits(options, err)) != STATUS_OK ||
        (status = choose_kernels(model, or_auto(options->kernels), err)) != STATUS_OK ||
        (status = choose_weight_format(model, or_auto(options->weight_format), checkpoint, err)) !=
            STATUS_OK ||
        (status = choose_kv_format(model, or_auto(options->kv_format), checkpoint, err)) != STATUS_OK)
        return status;
    model->max_batch_tokens = options->max_batch_tokens;
    model->max_logit_rows = options->max_logit_rows;
    return STATUS_OK;
}

static void plan_steps(struct model *model, int threads)
{
    const struct step_team team = {.members = threads, .granule = model->kernels->n_granule};
    step_plans_build(&model->plans, &model->hparams, team, model->max_batch_tokens);
}

/* Of the matrices that int4 leaves out; NULL: there are none. */
static const char *narrow_format_name(const struct model *model)
{
    const struct hparams *h = &model->hparams;
    const int32_t depths[] = {h->hidden, h->heads * h->head_dim, h->intermediate, h->expert_width,
                              h->shared_expert_width};
    for (size_t i = 0; i < sizeof depths / sizeof depths[0]; i++)
        if (depths[i] > 0 && weights_format(model->weight_format, depths[i]) != model->weight_format)
            return weight_format_names[weights_format(model->weight_format, depths[i])];
    return NULL;
}

enum status model_plan(const struct model_options *options, struct model_plan *out, struct error *err)
{
    struct model model = {0};
    *out = (struct model_plan){0};
    enum status status = hparams_read(&model.hparams, options->model_dir, err);
    if (status != STATUS_OK)
        return status;
    if ((status = choose(&model, options, model.hparams.checkpoint_dtype, err)) != STATUS_OK)
        return status;
    plan_steps(&model, options->threads);
    forward_layout(&model.buffers, &model, options->threads, NULL);
    const struct hparams *h = &model.hparams;
    *out = (struct model_plan){
        .hparams = *h,
        .kernels = model.kernels->name,
        .weight_format = weight_format_names[model.weight_format],
        .kv_format = kv_format_names[model.kv_format],
        .narrow_weight_format = narrow_format_name(&model),
        .weight_bytes = weights_bytes(h, model.kernels, model.weight_format),
        .embedding_bytes = (uint64_t)h->vocab * (uint64_t)h->hidden * dtype_bytes(h->checkpoint_dtype),
        .buffer_bytes = model.buffers.memory_bytes,
        .kv_token_bytes = model_block_bytes(&model, PLAN_BLOCK_TOKENS) / PLAN_BLOCK_TOKENS,
    };
    return STATUS_OK;
}

static void hash_text(struct sha256 *sha, const char *text)
{
    sha256_update(sha, text, strlen(text) + 1);
}

/* int4 is not one format: the rule that mixes it is part of its name. */
static void hash_weight_format(struct sha256 *sha, enum weight_format format)
{
    char rule[32];
    hash_text(sha, weight_format_names[format]);
    snprintf(rule, sizeof rule, "int8 for k < %d", WEIGHTS_INT4_MIN_K);
    if (format == WEIGHT_INT4)
        hash_text(sha, rule);
}

static void hash_experts(struct sha256 *sha, const struct hparams *h)
{
    char text[128];
    int length = snprintf(text, sizeof text, "%d %d %d %d %d", h->experts, h->experts_per_token,
                          h->expert_width, h->shared_expert_width, h->norm_topk);
    sha256_update(sha, text, (size_t)length + 1);
    sha256_update(sha, h->sparse_layers, sizeof h->sparse_layers);
}

/* All that shapes a token besides the tensors. Frequencies are hashed as computed, so a libm with another
 * pow() cannot pass unnoticed. */
static void hash_model(struct sha256 *sha, const struct model *model)
{
    const struct hparams *h = &model->hparams;
    char text[512];
    hash_text(sha, NUMERICS_VERSION);
    hash_text(sha, model->kernels->name);
    hash_weight_format(sha, model->weight_format);
    hash_text(sha, kv_format_names[model->kv_format]);
    hash_text(sha, h->architecture);
    int length =
        snprintf(text, sizeof text, "%d %d %d %d %d %d %d %d %d %a %d%d%d%d%d %a", h->vocab, h->hidden,
                 h->intermediate, h->layers, h->heads, h->kv_heads, h->head_dim, h->max_context_tokens,
                 h->sliding_window, (double)h->norm_eps, h->qkv_bias, h->output_bias, h->mlp_bias, h->qk_norm,
                 h->tied_embeddings, h->rope_attention_factor);
    sha256_update(sha, text, (size_t)length + 1);
    sha256_update(sha, h->sliding_layers, sizeof h->sliding_layers);
    if (h->experts > 0) /* a dense model's fingerprint is what it was before there were experts */
        hash_experts(sha, h);
    sha256_update(sha, model->inverse_frequencies, (size_t)(h->head_dim / 2) * sizeof(float));
    length = snprintf(text, sizeof text, "%d %d %d%d%d%d%d %a %a %a %a %d", h->bos, h->eos_count,
                      h->has_temperature, h->has_top_p, h->has_top_k, h->has_min_p, h->has_repetition_penalty,
                      (double)h->temperature, (double)h->top_p, (double)h->min_p,
                      (double)h->repetition_penalty, h->top_k);
    sha256_update(sha, text, (size_t)length + 1);
    sha256_update(sha, h->eos, sizeof h->eos);
}

enum { PROBE_N = 77, PROBE_K = 192 };

/* What packing makes of a small matrix stands for the kernel set's layout, so that an image of another build
 * that packs differently is never taken for one of ours. False: no memory. */
static bool hash_layout(struct sha256 *sha, const struct kernels *kernels, enum weight_format format)
{
    float values[PROBE_N * PROBE_K];
    for (int32_t i = 0; i < PROBE_N * PROBE_K; i++)
        values[i] = (float)(i * 31 % 257 - 128) / 64.0F;
    size_t bytes = kernels->weight_bytes(format, PROBE_N, PROBE_K);
    struct weight probe = {.format = format, .n = PROBE_N, .k = PROBE_K, .data = huge_memory_map(bytes)};
    if (!probe.data)
        return false;
    kernels->weight_pack(&probe, values, DTYPE_F32, 0, PROBE_N);
    sha256_update(sha, probe.data, bytes);
    huge_memory_unmap(probe.data, bytes);
    return true;
}

/* Names the image of these tensors for this kernel set and format. False: there is none to keep. */
static bool describe_cache(struct weight_cache *cache, const struct model *model, const char *directory)
{
    struct sha256 sha;
    *cache = (struct weight_cache){.directory = directory, .team = model->team};
    if (!directory || !*directory)
        return false;
    sha256_init(&sha);
    hash_model(&sha, model);
    bool known =
        hash_layout(&sha, model->kernels, model->weight_format) &&
        hash_layout(&sha, model->kernels, weights_format(model->weight_format, 1)) && /* narrow ones */
        hash_layout(&sha, model->kernels, WEIGHT_F32) &&                              /* routers keep it */
        safetensors_version(model->checkpoint, &sha);
    sha256_final(&sha, cache->key);
    return known;
}

static void note_cache(struct model *model, const struct weight_cache *cache)
{
    model->weight_origin = model->weights.cached ? MODEL_WEIGHTS_READ
                           : cache->kept         ? MODEL_WEIGHTS_KEPT
                                                 : MODEL_WEIGHTS_PACKED;
    if (!model->weights.cached && !cache->kept)
        model->cache_trouble = cache->trouble;
}

static enum status load_weights(struct model *model, const struct model_options *options, struct error *err)
{
    struct weight_cache cache;
    bool cached = describe_cache(&cache, model, options->weight_cache);
    const struct weights_source source = {.hparams = &model->hparams,
                                          .kernels = model->kernels,
                                          .format = model->weight_format,
                                          .checkpoint = model->checkpoint,
                                          .team = model->team,
                                          .cache = cached ? &cache : NULL,
                                          .progress = options->progress,
                                          .progress_context = options->progress_context};
    uint8_t tensors[SHA256_BYTES];
    enum status status = weights_load(&model->weights, &source, tensors, err);
    if (status != STATUS_OK)
        return status;
    note_cache(model, &cache);
    struct sha256 sha;
    sha256_init(&sha);
    hash_model(&sha, model);
    sha256_update(&sha, tensors, sizeof tensors);
    sha256_final(&sha, model->fingerprint);
    return STATUS_OK;
}

static enum status allocate_buffers(struct model *model, int threads, struct error *err)
{
    plan_steps(model, threads);
    forward_layout(&model->buffers, model, threads, NULL);
    size_t bytes = model->buffers.memory_bytes;
    uint8_t *memory = huge_memory_map(bytes);
    model->inverse_frequencies = malloc((size_t)(model->hparams.head_dim / 2) * sizeof(float));
    if (memory)
        forward_layout(&model->buffers, model, threads, memory);
    const struct hparams *h = &model->hparams;
    if (h->experts > 0)
        model->expert_rows = calloc((size_t)h->layers * (size_t)h->experts, sizeof *model->expert_rows);
    if (!memory || !model->inverse_frequencies || (h->experts > 0 && !model->expert_rows))
        return error_set(err, STATUS_NO_MEMORY,
                         "no memory for %zu MB of step buffers; lower engine.max_batch_tokens", bytes >> 20);
    huge_memory_touch(memory, bytes);
    rope_frequencies(model->inverse_frequencies, &model->hparams);
    return STATUS_OK;
}

/* The type of a matrix that every model has stands for the checkpoint's. */
static enum dtype checkpoint_dtype(const struct model *model)
{
    const struct tensor *tensor =
        safetensors_find(model->checkpoint, "model.layers.0.self_attn.q_proj.weight");
    return tensor && tensor->loadable ? tensor->dtype : DTYPE_F32;
}

/* Everything behind hparams and checkpoint. */
static enum status open_rest(struct model *model, const struct model_options *options, struct error *err)
{
    enum status status;
    if ((status = choose(model, options, checkpoint_dtype(model), err)) != STATUS_OK ||
        (status = thread_team_open(&model->team, options->threads, err)) != STATUS_OK ||
        (status = allocate_buffers(model, options->threads, err)) != STATUS_OK)
        return status;
    return load_weights(model, options, err);
}

static enum status open_directory(struct model *model, const struct model_options *options, struct error *err)
{
    enum status status;
    if ((status = hparams_read(&model->hparams, options->model_dir, err)) != STATUS_OK ||
        (status = safetensors_open(&model->checkpoint, options->model_dir, err)) != STATUS_OK)
        return status;
    return open_rest(model, options, err);
}

static enum status open_synthetic(struct model *model, const struct model_options *options, uint64_t seed,
                                  struct error *err)
{
    enum status status;
    if ((status = synthetic_open(&model->synthetic, &model->hparams, seed, err)) != STATUS_OK ||
        (status = safetensors_open_memory(&model->checkpoint, model->synthetic.memory, model->synthetic.bytes,
                                          err)) != STATUS_OK)
        return status;
    return open_rest(model, options, err);
}

static enum status hand_over(struct model **out, struct model *model, enum status status)
{
    if (status == STATUS_OK)
        *out = model;
    else
        model_close(model);
    return status;
}

enum status model_open_synthetic(struct model **out, const struct hparams *hparams,
                                 const struct model_options *options, uint64_t seed, struct error *err)
{
    *out = NULL;
    struct model *model = calloc(1, sizeof *model);
    if (!model)
        return error_set(err, STATUS_NO_MEMORY, "no memory for the model");
    model->hparams = *hparams;
    return hand_over(out, model, open_synthetic(model, options, seed, err));
}

enum status model_open(struct model **out, const struct model_options *options, struct error *err)
{
    *out = NULL;
    struct model *model = calloc(1, sizeof *model);
    if (!model)
        return error_set(err, STATUS_NO_MEMORY, "no memory for the model");
    return hand_over(out, model, open_directory(model, options, err));
}

void model_close(struct model *model)
{
    if (!model)
        return;
    thread_team_close(model->team);
    weights_release(&model->weights);
    huge_memory_unmap(model->buffers.memory, model->buffers.memory_bytes);
    free(model->inverse_frequencies);
    free(model->expert_rows);
    safetensors_close(model->checkpoint);
    synthetic_close(&model->synthetic);
    free(model);
}

const struct hparams *model_hparams(const struct model *model)
{
    return &model->hparams;
}

const uint8_t *model_fingerprint(const struct model *model)
{
    return model->fingerprint;
}

uint64_t model_weight_bytes(const struct model *model)
{
    return model->weights.memory_bytes;
}

uint64_t model_buffer_bytes(const struct model *model)
{
    return model->buffers.memory_bytes;
}

enum model_weight_origin model_weight_origin(const struct model *model, const char **trouble)
{
    *trouble = model->cache_trouble.text;
    return model->weight_origin;
}

const char *model_kernels_name(const struct model *model)
{
    return model->kernels->name;
}

const char *model_weight_format_name(const struct model *model)
{
    return weight_format_names[model->weight_format];
}

const char *model_kv_format_name(const struct model *model)
{
    return kv_format_names[model->kv_format];
}

int model_threads(const struct model *model)
{
    return thread_team_size(model->team);
}

struct thread_team *model_team(const struct model *model)
{
    return model->team;
}

struct expert_load model_expert_load(const struct model *model)
{
    return model->expert_load;
}

const uint64_t *model_expert_rows(const struct model *model, int32_t layer)
{
    return model->expert_rows ? model->expert_rows + (size_t)layer * (size_t)model->hparams.experts : NULL;
}

size_t model_block_bytes(const struct model *model, int32_t block_tokens)
{
    const struct hparams *h = &model->hparams;
    return (size_t)h->layers *
           model->kernels->kv_block_bytes(model->kv_format, block_tokens, h->kv_heads, h->head_dim);
}
