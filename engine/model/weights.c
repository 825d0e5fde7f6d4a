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
#include "engine/kernels/dtype.h"
#include "engine/kernels/huge_memory.h"

#define CHUNK_BYTES ((size_t)1 << 20) /* hashed by one thread; part of the fingerprint's definition */
#define SLICE_BYTES ((size_t)32 << 20)
enum { MAX_PIECES = 18, CHUNKS_PER_ROUND = 32, ALIGNMENT_BYTES = 64, NAME_BYTES = 96 };

/* One tensor of a layer and where it goes: a matrix [n][k], or a vector [n] when k is 0. */
struct piece {
    const char *name; /* behind "model.layers.<i>." */
    int32_t n, k;
    struct weight *matrix;
    float **vector;
};

static size_t layer_pieces(struct piece pieces[MAX_PIECES], const struct hparams *h, struct layer_weights *w)
{
    int32_t q = h->heads * h->head_dim, kv = h->kv_heads * h->head_dim;
    const struct {
        bool present;
        struct piece piece;
    } all[MAX_PIECES] = {
        {true, {"input_layernorm.weight", h->hidden, 0, NULL, &w->input_norm}},
        {true, {"self_attn.q_proj.weight", q, h->hidden, &w->q, NULL}},
        {true, {"self_attn.k_proj.weight", kv, h->hidden, &w->k, NULL}},
        {true, {"self_attn.v_proj.weight", kv, h->hidden, &w->v, NULL}},
        {h->qkv_bias, {"self_attn.q_proj.bias", q, 0, NULL, &w->q_bias}},
        {h->qkv_bias, {"self_attn.k_proj.bias", kv, 0, NULL, &w->k_bias}},
        {h->qkv_bias, {"self_attn.v_proj.bias", kv, 0, NULL, &w->v_bias}},
        {h->qk_norm, {"self_attn.q_norm.weight", h->head_dim, 0, NULL, &w->q_norm}},
        {h->qk_norm, {"self_attn.k_norm.weight", h->head_dim, 0, NULL, &w->k_norm}},
        {true, {"self_attn.o_proj.weight", h->hidden, q, &w->o, NULL}},
        {h->output_bias, {"self_attn.o_proj.bias", h->hidden, 0, NULL, &w->o_bias}},
        {true, {"post_attention_layernorm.weight", h->hidden, 0, NULL, &w->post_norm}},
        {true, {"mlp.gate_proj.weight", h->intermediate, h->hidden, &w->gate, NULL}},
        {true, {"mlp.up_proj.weight", h->intermediate, h->hidden, &w->up, NULL}},
        {true, {"mlp.down_proj.weight", h->hidden, h->intermediate, &w->down, NULL}},
        {h->mlp_bias, {"mlp.gate_proj.bias", h->intermediate, 0, NULL, &w->gate_bias}},
        {h->mlp_bias, {"mlp.up_proj.bias", h->intermediate, 0, NULL, &w->up_bias}},
        {h->mlp_bias, {"mlp.down_proj.bias", h->hidden, 0, NULL, &w->down_bias}},
    };
    size_t count = 0;
    for (size_t i = 0; i < MAX_PIECES; i++)
        if (all[i].present)
            pieces[count++] = all[i].piece;
    return count;
}

static size_t align_up(size_t bytes)
{
    return (bytes + ALIGNMENT_BYTES - 1) / ALIGNMENT_BYTES * ALIGNMENT_BYTES;
}

static size_t piece_bytes(const struct piece *piece, const struct kernels *kernels, enum weight_format format)
{
    return align_up(piece->k > 0 ? kernels->weight_bytes(format, piece->n, piece->k)
                                 : (size_t)piece->n * sizeof(float));
}

size_t weights_bytes(const struct hparams *hparams, const struct kernels *kernels, enum weight_format format)
{
    struct layer_weights layer;
    struct piece pieces[MAX_PIECES];
    size_t count = layer_pieces(pieces, hparams, &layer), bytes = 0;
    for (size_t i = 0; i < count; i++)
        bytes += piece_bytes(&pieces[i], kernels, format);
    return bytes * (size_t)hparams->layers + align_up((size_t)hparams->hidden * sizeof(float)) +
           align_up(kernels->weight_bytes(format, hparams->vocab, hparams->hidden));
}

struct loader {
    const struct weights_source *source;
    struct sha256 *sha;
    uint8_t *at; /* next free byte of the weights' memory */
    uint64_t done_bytes, total_bytes;
};

static enum status find_tensor(const struct tensor **out, const struct weights_source *source,
                               const char *name, int32_t n, int32_t k, struct error *err)
{
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

struct hash_round {
    const struct tensor *tensor;
    size_t first_chunk;
    int count;
    uint8_t digests[CHUNKS_PER_ROUND][SHA256_BYTES];
};

static void hash_chunks(void *context, int member, int members)
{
    struct hash_round *round = context;
    for (int i = member; i < round->count; i += members) {
        size_t begin = (round->first_chunk + (size_t)i) * CHUNK_BYTES;
        size_t left = round->tensor->bytes - begin;
        sha256_digest(round->tensor->data + begin, left < CHUNK_BYTES ? left : CHUNK_BYTES,
                      round->digests[i]);
    }
}

/* Name, type, shape, and the digests of the data's chunks, which the team computes in parallel. */
static void hash_tensor(const struct loader *loader, const struct tensor *tensor)
{
    char head[NAME_BYTES + 64];
    int length = snprintf(head, sizeof head, "%s %s %" PRId64 " %" PRId64 "\n", tensor->name, tensor->type,
                          tensor->shape[0], tensor->rank > 1 ? tensor->shape[1] : 0);
    sha256_update(loader->sha, head, (size_t)length);
    size_t chunks = (tensor->bytes + CHUNK_BYTES - 1) / CHUNK_BYTES;
    for (size_t chunk = 0; chunk < chunks; chunk += CHUNKS_PER_ROUND) {
        size_t left = chunks - chunk;
        struct hash_round round = {.tensor = tensor,
                                   .first_chunk = chunk,
                                   .count = (int)(left < CHUNKS_PER_ROUND ? left : CHUNKS_PER_ROUND)};
        thread_team_run(loader->source->team, hash_chunks, &round);
        sha256_update(loader->sha, round.digests, (size_t)round.count * SHA256_BYTES);
        size_t begin = chunk * CHUNK_BYTES, end = begin + (size_t)round.count * CHUNK_BYTES;
        end = end < tensor->bytes ? end : tensor->bytes;
        safetensors_drop_pages(loader->source->checkpoint, tensor->data + begin, end - begin);
    }
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

static void pack_matrix(struct loader *loader, const struct piece *piece, const struct tensor *tensor)
{
    const struct kernels *kernels = loader->source->kernels;
    *piece->matrix =
        (struct weight){.format = loader->source->format, .n = piece->n, .k = piece->k, .data = loader->at};
    const size_t row_bytes = (size_t)piece->k * dtype_bytes(tensor->dtype);
    const int64_t rows = ((int64_t)(SLICE_BYTES / row_bytes) / kernels->n_granule + 1) * kernels->n_granule;
    for (int64_t begin = 0; begin < piece->n; begin += rows) {
        int64_t end = begin + rows < piece->n ? begin + rows : piece->n;
        struct packing packing = {kernels, piece->matrix, tensor, (int32_t)begin, (int32_t)end};
        thread_team_run(loader->source->team, pack_range, &packing);
        safetensors_drop_pages(loader->source->checkpoint, tensor->data + (size_t)begin * row_bytes,
                               (size_t)(end - begin) * row_bytes);
    }
}

static void widen_vector(struct loader *loader, const struct piece *piece, const struct tensor *tensor)
{
    float *vector = (float *)loader->at;
    for (int32_t i = 0; i < piece->n; i++)
        vector[i] = dtype_load(tensor->data, (size_t)i, tensor->dtype);
    *piece->vector = vector;
}

static void report_progress(struct loader *loader, uint64_t bytes)
{
    loader->done_bytes += bytes;
    if (loader->source->progress)
        loader->source->progress(loader->source->progress_context, loader->done_bytes, loader->total_bytes);
}

static enum status load_piece(struct loader *loader, const struct piece *piece, const char *name,
                              struct error *err)
{
    const struct tensor *tensor = NULL;
    enum status status = find_tensor(&tensor, loader->source, name, piece->n, piece->k, err);
    if (status != STATUS_OK)
        return status;
    hash_tensor(loader, tensor);
    if (piece->matrix)
        pack_matrix(loader, piece, tensor);
    else
        widen_vector(loader, piece, tensor);
    loader->at += piece_bytes(piece, loader->source->kernels, loader->source->format);
    report_progress(loader, tensor->bytes);
    return STATUS_OK;
}

static enum status load_layer(struct loader *loader, struct layer_weights *layer, int32_t index,
                              struct error *err)
{
    struct piece pieces[MAX_PIECES];
    size_t count = layer_pieces(pieces, loader->source->hparams, layer);
    for (size_t i = 0; i < count; i++) {
        char name[NAME_BYTES];
        snprintf(name, sizeof name, "model.layers.%" PRId32 ".%s", index, pieces[i].name);
        enum status status = load_piece(loader, &pieces[i], name, err);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

/* The embedding is looked up in place; an untied head is its own tensor. */
static enum status load_ends(struct weights *out, struct loader *loader, struct error *err)
{
    static const char embedding[] = "model.embed_tokens.weight";
    const struct hparams *h = loader->source->hparams;
    enum status status = find_tensor(&out->embedding, loader->source, embedding, h->vocab, h->hidden, err);
    if (status != STATUS_OK)
        return status;
    const struct piece norm = {NULL, h->hidden, 0, NULL, &out->final_norm};
    const struct piece head = {NULL, h->vocab, h->hidden, &out->head, NULL};
    if ((status = load_piece(loader, &norm, "model.norm.weight", err)) != STATUS_OK)
        return status;
    if (h->tied_embeddings)
        return load_piece(loader, &head, embedding, err);
    hash_tensor(loader, out->embedding);
    report_progress(loader, out->embedding->bytes);
    return load_piece(loader, &head, "lm_head.weight", err);
}

static uint64_t checkpoint_bytes(const struct safetensors *checkpoint)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < safetensors_count(checkpoint); i++)
        bytes += safetensors_tensor(checkpoint, i)->bytes;
    return bytes;
}

enum status weights_load(struct weights *out, const struct weights_source *source, struct sha256 *sha,
                         struct error *err)
{
    *out = (struct weights){.memory_bytes = weights_bytes(source->hparams, source->kernels, source->format)};
    out->layers = calloc((size_t)source->hparams->layers, sizeof *out->layers);
    out->memory = out->layers ? huge_memory_map(out->memory_bytes) : NULL;
    if (!out->memory)
        return error_set(err, STATUS_NO_MEMORY, "no memory for %zu MB of weights", out->memory_bytes >> 20);
    struct loader loader = {
        .source = source, .sha = sha, .at = out->memory, .total_bytes = checkpoint_bytes(source->checkpoint)};
    for (int32_t layer = 0; layer < source->hparams->layers; layer++) {
        enum status status = load_layer(&loader, &out->layers[layer], layer, err);
        if (status != STATUS_OK)
            return status;
    }
    enum status status = load_ends(out, &loader, err);
    if (status == STATUS_OK && loader.done_bytes < loader.total_bytes)
        report_progress(&loader, loader.total_bytes - loader.done_bytes); /* tensors that no layer uses */
    return status;
}

void weights_release(struct weights *weights)
{
    free(weights->layers);
    huge_memory_unmap(weights->memory, weights->memory_bytes);
    *weights = (struct weights){0};
}
