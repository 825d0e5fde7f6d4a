// SPDX-License-Identifier: Apache-2.0
// One list of a layer's tensors serves planning, checking and loading. Packing goes straight from the mapped
// file into place, a slice at a time, and the file's pages are dropped after use: peak memory is the packed
// weights and one slice.
#include "engine/model/weights.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/block_key.h"
#include "base/check.h"
#include "engine/kernels/dtype.h"
#include "engine/kernels/huge_memory.h"
#include "engine/model/chunked_hash.h"
#include "engine/model/layer_tensors.h"

#define SLICE_BYTES ((size_t)32 << 20)
enum { ALIGNMENT_BYTES = 64 };

static size_t align_up(size_t bytes)
{
    return (bytes + ALIGNMENT_BYTES - 1) / ALIGNMENT_BYTES * ALIGNMENT_BYTES;
}

static enum weight_format matrix_format(const struct layer_tensor *tensor, enum weight_format format)
{
    return tensor->exact ? WEIGHT_F32 : weights_format(format, tensor->k);
}

static size_t tensor_bytes(const struct layer_tensor *tensor, const struct kernels *kernels,
                           enum weight_format format)
{
    if (tensor->k == 0)
        return align_up((size_t)tensor->n * sizeof(float));
    return align_up(kernels->weight_bytes(matrix_format(tensor, format), tensor->n, tensor->k));
}

static size_t layer_bytes(const struct hparams *hparams, const struct kernels *kernels,
                          enum weight_format format, int32_t layer)
{
    struct layer_tensor tensors[LAYER_TENSORS_MAX], expert[EXPERT_TENSORS];
    size_t count = layer_tensors(tensors, hparams, layer), bytes = 0;
    for (size_t i = 0; i < count; i++)
        bytes += tensor_bytes(&tensors[i], kernels, format);
    if (!hparams_layer_is_sparse(hparams, layer))
        return bytes;
    expert_tensors(expert, hparams, layer, 0);
    for (size_t i = 0; i < EXPERT_TENSORS; i++)
        bytes += (size_t)hparams->experts * tensor_bytes(&expert[i], kernels, format);
    return bytes;
}

size_t weights_bytes(const struct hparams *hparams, const struct kernels *kernels, enum weight_format format)
{
    size_t bytes = align_up((size_t)hparams->hidden * sizeof(float)) +
                   align_up(kernels->weight_bytes(weights_format(format, hparams->hidden), hparams->vocab,
                                                  hparams->hidden));
    for (int32_t layer = 0; layer < hparams->layers; layer++)
        bytes += layer_bytes(hparams, kernels, format, layer);
    return bytes;
}

struct loader {
    const struct weights_source *source;
    struct sha256 sha; /* of the tensors */
    bool filled;       /* all bytes are in place: only find them */
    uint8_t *at;       /* next free byte of the weights' memory */
    uint64_t done_bytes, total_bytes;
};

static enum status find_tensor(const struct tensor **out, const struct weights_source *source,
                               const struct layer_tensor *wanted, struct error *err)
{
    const char *name = wanted->name;
    const int32_t n = wanted->n, k = wanted->k;
    const struct tensor *tensor = safetensors_find(source->checkpoint, name);
    if (!tensor)
        return error_set(err, STATUS_INVALID, "the checkpoint has no tensor %s", name);
    bool fits = k > 0 ? tensor->rank == 2 && tensor->shape[0] == n && tensor->shape[1] == k
                      : tensor->rank == 1 && tensor->shape[0] == n;
    if (!fits && k > 0)
        return error_set(err, STATUS_INVALID,
                         "tensor %s does not have the shape [%d, %d] that config.json asks for", name, n, k);
    if (!fits)
        return error_set(err, STATUS_INVALID,
                         "tensor %s does not have the shape [%d] that config.json asks for", name, n);
    if (!tensor->loadable)
        return error_set(err, STATUS_UNSUPPORTED, "tensor %s has dtype %s; F32, F16 and BF16 are supported",
                         name, tensor->type);
    *out = tensor;
    return STATUS_OK;
}

static void drop_pages(void *context, const uint8_t *data, size_t bytes)
{
    safetensors_drop_pages(context, data, bytes);
}

/* Name, type, shape and data. */
static void hash_tensor(struct loader *loader, const struct tensor *tensor)
{
    char head[TENSOR_NAME_BYTES + 64];
    int length = snprintf(head, sizeof head, "%s %s %" PRId64 " %" PRId64 "\n", tensor->name, tensor->type,
                          tensor->shape[0], tensor->rank > 1 ? tensor->shape[1] : 0);
    sha256_update(&loader->sha, head, (size_t)length);
    chunked_hash(&loader->sha, loader->source->team, tensor->data, tensor->bytes, drop_pages,
                 (void *)loader->source->checkpoint);
}

struct packing {
    const struct kernels *kernels;
    struct weight *matrix;
    const struct tensor *tensor;
    int32_t begin, end; /* rows of this slice */
};

/* Each member packs a run of whole granules. */
static void pack_range(void *context, int member, int members)
{
    const struct packing *p = context;
    int32_t granule = p->kernels->n_granule;
    int64_t granules = (p->end - p->begin + (int64_t)granule - 1) / granule;
    int64_t begin = p->begin + granules * member / members * granule;
    int64_t end = p->begin + granules * (member + 1) / members * granule;
    if (begin < end)
        p->kernels->weight_pack(p->matrix, p->tensor->data, p->tensor->dtype, (int32_t)begin,
                                (int32_t)(end < p->end ? end : p->end));
}

static void pack_matrix(struct loader *loader, struct weight *matrix, const struct tensor *tensor)
{
    const struct kernels *kernels = loader->source->kernels;
    const size_t row_bytes = (size_t)matrix->k * dtype_bytes(tensor->dtype);
    const int64_t rows = ((int64_t)(SLICE_BYTES / row_bytes) / kernels->n_granule + 1) * kernels->n_granule;
    for (int64_t begin = 0; begin < matrix->n; begin += rows) {
        int64_t end = begin + rows < matrix->n ? begin + rows : matrix->n;
        struct packing packing = {kernels, matrix, tensor, (int32_t)begin, (int32_t)end};
        thread_team_run(loader->source->team, pack_range, &packing);
        safetensors_drop_pages(loader->source->checkpoint, tensor->data + (size_t)begin * row_bytes,
                               (size_t)(end - begin) * row_bytes);
    }
}

static void widen_vector(float *vector, const struct tensor *tensor)
{
    for (int64_t i = 0; i < tensor->shape[0]; i++)
        vector[i] = dtype_load(tensor->data, (size_t)i, tensor->dtype);
}

static void fill(struct loader *loader, void *place, const struct layer_tensor *wanted,
                 const struct tensor *tensor)
{
    if (wanted->k > 0)
        pack_matrix(loader, place, tensor);
    else
        widen_vector(*(float **)place, tensor);
}

static void report_progress(struct loader *loader, uint64_t bytes)
{
    loader->done_bytes += bytes;
    if (loader->source->progress)
        loader->source->progress(loader->source->progress_context, loader->done_bytes, loader->total_bytes);
}

static struct weight matrix_at(const struct loader *loader, const struct layer_tensor *wanted)
{
    return (struct weight){.format = matrix_format(wanted, loader->source->format),
                           .n = wanted->n,
                           .k = wanted->k,
                           .data = loader->at};
}

/* `holder`: the structure that the tensor's offset counts from. */
static enum status load_tensor(struct loader *loader, void *holder, const struct layer_tensor *wanted,
                               struct error *err)
{
    const struct tensor *tensor = NULL;
    enum status status = find_tensor(&tensor, loader->source, wanted, err);
    if (status != STATUS_OK)
        return status;
    void *place = (uint8_t *)holder + wanted->offset;
    if (wanted->k > 0)
        *(struct weight *)place = matrix_at(loader, wanted);
    else
        *(float **)place = (float *)loader->at;
    if (!loader->filled) {
        hash_tensor(loader, tensor);
        fill(loader, place, wanted, tensor);
    }
    loader->at += tensor_bytes(wanted, loader->source->kernels, loader->source->format);
    report_progress(loader, tensor->bytes);
    return STATUS_OK;
}

static enum status load_expert(struct loader *loader, struct expert_weights *out, int32_t layer,
                               int32_t expert, struct error *err)
{
    struct layer_tensor tensors[EXPERT_TENSORS];
    expert_tensors(tensors, loader->source->hparams, layer, expert);
    for (size_t i = 0; i < EXPERT_TENSORS; i++) {
        enum status status = load_tensor(loader, out, &tensors[i], err);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

static enum status load_layer(struct loader *loader, struct layer_weights *out, int32_t layer,
                              struct error *err)
{
    struct layer_tensor tensors[LAYER_TENSORS_MAX];
    const struct hparams *h = loader->source->hparams;
    const size_t count = layer_tensors(tensors, h, layer);
    for (size_t i = 0; i < count; i++) {
        enum status status = load_tensor(loader, out, &tensors[i], err);
        if (status != STATUS_OK)
            return status;
    }
    for (int32_t expert = 0; out->experts && expert < h->experts; expert++) {
        enum status status = load_expert(loader, &out->experts[expert], layer, expert, err);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

/* The embedding is looked up in place; an untied head is its own tensor. */
static enum status load_ends(struct weights *out, struct loader *loader, struct error *err)
{
    const struct hparams *h = loader->source->hparams;
    const struct layer_tensor embedding = {"model.embed_tokens.weight", h->vocab, h->hidden, false,
                                           offsetof(struct weights, head)};
    const struct layer_tensor head = {"lm_head.weight", h->vocab, h->hidden, false,
                                      offsetof(struct weights, head)};
    const struct layer_tensor norm = {"model.norm.weight", h->hidden, 0, false,
                                      offsetof(struct weights, final_norm)};
    enum status status = find_tensor(&out->embedding, loader->source, &embedding, err);
    if (status != STATUS_OK)
        return status;
    if ((status = load_tensor(loader, out, &norm, err)) != STATUS_OK)
        return status;
    if (h->tied_embeddings)
        return load_tensor(loader, out, &embedding, err);
    if (!loader->filled)
        hash_tensor(loader, out->embedding);
    report_progress(loader, out->embedding->bytes);
    return load_tensor(loader, out, &head, err);
}

static uint64_t checkpoint_bytes(const struct safetensors *checkpoint)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < safetensors_count(checkpoint); i++)
        bytes += safetensors_tensor(checkpoint, i)->bytes;
    return bytes;
}

/* The layers' structures, and the experts' for the sparse ones among them. */
static bool allocate_layers(struct weights *out, const struct hparams *h)
{
    size_t sparse = 0;
    CHECK(h->layers > 0);
    for (int32_t layer = 0; layer < h->layers; layer++)
        sparse += hparams_layer_is_sparse(h, layer);
    out->layers = calloc((size_t)h->layers, sizeof *out->layers);
    if (sparse > 0)
        out->experts = calloc(sparse * (size_t)h->experts, sizeof *out->experts);
    if (!out->layers || (sparse > 0 && !out->experts))
        return false;
    struct expert_weights *experts = out->experts;
    for (int32_t layer = 0; layer < h->layers; layer++)
        if (hparams_layer_is_sparse(h, layer)) {
            out->layers[layer].experts = experts;
            experts += h->experts;
        }
    return true;
}

static enum status open_memory(struct weights *out, const struct weights_source *source, struct error *err)
{
    out->memory = allocate_layers(out, source->hparams) ? huge_memory_map(out->memory_bytes) : NULL;
    if (!out->memory)
        return error_set(err, STATUS_NO_MEMORY, "no memory for %zu MB of weights", out->memory_bytes >> 20);
    return STATUS_OK;
}

static bool read_cache(struct weights *out, const struct weights_source *source)
{
    struct weight_cache *cache = source->cache;
    return cache && weight_cache_read(cache, out->memory, out->memory_bytes, &cache->trouble) == STATUS_OK;
}

static void keep_in_cache(const struct weights *weights, struct weight_cache *cache,
                          const uint8_t tensors[SHA256_BYTES])
{
    memcpy(cache->tensors, tensors, SHA256_BYTES);
    cache->kept =
        weight_cache_store(cache, weights->memory, weights->memory_bytes, &cache->trouble) == STATUS_OK;
}

/* Checks every tensor, gives it its place and, unless the places are filled already, fills it. */
static enum status load_all(struct weights *out, struct loader *loader, struct error *err)
{
    enum status status = STATUS_OK;
    for (int32_t layer = 0; status == STATUS_OK && layer < loader->source->hparams->layers; layer++)
        status = load_layer(loader, &out->layers[layer], layer, err);
    if (status == STATUS_OK)
        status = load_ends(out, loader, err);
    if (status == STATUS_OK && loader->done_bytes < loader->total_bytes)
        report_progress(loader, loader->total_bytes - loader->done_bytes); /* tensors that no layer uses */
    return status;
}

enum status weights_load(struct weights *out, const struct weights_source *source,
                         uint8_t tensors[SHA256_BYTES], struct error *err)
{
    *out = (struct weights){.memory_bytes = weights_bytes(source->hparams, source->kernels, source->format)};
    enum status status = open_memory(out, source, err);
    if (status != STATUS_OK)
        return status;
    out->cached = read_cache(out, source);
    struct loader loader = {.source = source,
                            .filled = out->cached,
                            .at = out->memory,
                            .total_bytes = checkpoint_bytes(source->checkpoint)};
    sha256_init(&loader.sha);
    status = load_all(out, &loader, err);
    if (status != STATUS_OK)
        return status;
    sha256_final(&loader.sha, tensors);
    if (out->cached)
        memcpy(tensors, source->cache->tensors, SHA256_BYTES);
    else if (source->cache)
        keep_in_cache(out, source->cache, tensors);
    return STATUS_OK;
}

void weights_release(struct weights *weights)
{
    free(weights->layers);
    free(weights->experts);
    huge_memory_unmap(weights->memory, weights->memory_bytes);
    *weights = (struct weights){0};
}
