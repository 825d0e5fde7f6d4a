// SPDX-License-Identifier: Apache-2.0
// A checkpoint in memory: a safetensors header followed by the same 64 MiB of random bf16 values mapped again
// and again, so that a model of any size costs its packed weights only and takes the ordinary way in.
#include "engine/model/synthetic.h"

#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "engine/kernels/dtype.h"
#include "engine/model/layer_tensors.h"

#define PATTERN_BYTES ((size_t)64 << 20)
#define MAX_HEADER_BYTES ((size_t)64 << 20)

struct header_text {
    struct bytes text;
    uint64_t data_bytes; /* offset behind the last tensor */
};

static void add_tensor(struct header_text *header, const char *name, int64_t n, int64_t k)
{
    const uint64_t begin = header->data_bytes;
    header->data_bytes += (uint64_t)n * (uint64_t)(k > 0 ? k : 1) * sizeof(uint16_t);
    bytes_appendf(&header->text, "%s\"%s\":{\"dtype\":\"BF16\",\"shape\":[%" PRId64, begin > 0 ? "," : "{",
                  name, n);
    if (k > 0)
        bytes_appendf(&header->text, ",%" PRId64, k);
    bytes_appendf(&header->text, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", begin, header->data_bytes);
}

static void add_layer(struct header_text *header, const struct hparams *h, int32_t layer)
{
    struct layer_tensor tensors[LAYER_TENSORS_MAX];
    const size_t count = layer_tensors(tensors, h, layer);
    for (size_t i = 0; i < count; i++)
        add_tensor(header, tensors[i].name, tensors[i].n, tensors[i].k);
    for (int32_t expert = 0; hparams_layer_is_sparse(h, layer) && expert < h->experts; expert++) {
        expert_tensors(tensors, h, layer, expert);
        for (size_t i = 0; i < EXPERT_TENSORS; i++)
            add_tensor(header, tensors[i].name, tensors[i].n, tensors[i].k);
    }
}

/* Length field and JSON, padded with spaces to whole pages so that the data can be mapped behind it. */
static void write_header(struct header_text *header, const struct hparams *h)
{
    uint64_t length = 0;
    bytes_append(&header->text, &length, sizeof length);
    for (int32_t layer = 0; layer < h->layers; layer++)
        add_layer(header, h, layer);
    add_tensor(header, "model.embed_tokens.weight", h->vocab, h->hidden);
    if (!h->tied_embeddings)
        add_tensor(header, "lm_head.weight", h->vocab, h->hidden);
    add_tensor(header, "model.norm.weight", h->hidden, 0);
    bytes_append_char(&header->text, '}');
    const size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    while (!header->text.failed && header->text.count_bytes % page_bytes != 0)
        bytes_append_char(&header->text, ' ');
    length = header->text.count_bytes - sizeof length;
    if (!header->text.failed)
        memcpy(header->text.data, &length, sizeof length);
}

static void fill_pattern(uint16_t *pattern, uint64_t seed)
{
    for (size_t i = 0; i < PATTERN_BYTES / sizeof *pattern; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        float uniform = (float)(int32_t)(seed >> 32) * 0x1p-31f;
        pattern[i] = dtype_bf16_from_f32(uniform * 0.05f);
    }
}

/* Maps `file` over all of the data. */
static bool map_pattern(uint8_t *data, size_t data_bytes, int file)
{
    for (size_t at = 0; at < data_bytes; at += PATTERN_BYTES) {
        size_t left = data_bytes - at < PATTERN_BYTES ? data_bytes - at : PATTERN_BYTES;
        if (mmap(data + at, left, PROT_READ, MAP_SHARED | MAP_FIXED, file, 0) == MAP_FAILED)
            return false;
    }
    return true;
}

static bool map_data(uint8_t *data, size_t data_bytes, uint64_t seed)
{
    int file = memfd_create("millrace-synthetic", MFD_CLOEXEC);
    if (file < 0)
        return false;
    bool mapped = ftruncate(file, PATTERN_BYTES) == 0;
    uint16_t *pattern = MAP_FAILED;
    if (mapped)
        pattern = mmap(NULL, PATTERN_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    mapped = pattern != MAP_FAILED;
    if (mapped) {
        fill_pattern(pattern, seed);
        munmap(pattern, PATTERN_BYTES);
        mapped = map_pattern(data, data_bytes, file);
    }
    close(file);
    return mapped;
}

enum status synthetic_open(struct synthetic *out, const struct hparams *hparams, uint64_t seed,
                           struct error *err)
{
    struct header_text header = {0};
    *out = (struct synthetic){0};
    bytes_init(&header.text, MAX_HEADER_BYTES);
    write_header(&header, hparams);
    const size_t bytes = header.text.count_bytes + header.data_bytes;
    uint8_t *memory = MAP_FAILED;
    if (!header.text.failed)
        memory =
            mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    enum status status = STATUS_OK;
    if (memory != MAP_FAILED) {
        *out = (struct synthetic){.memory = memory, .bytes = bytes};
        memcpy(memory, header.text.data, header.text.count_bytes);
    }
    if (memory == MAP_FAILED || !map_data(memory + header.text.count_bytes, header.data_bytes, seed)) {
        synthetic_close(out);
        status = error_set(err, STATUS_NO_MEMORY, "no memory for a synthetic checkpoint");
    }
    bytes_release(&header.text);
    return status;
}

void synthetic_close(struct synthetic *synthetic)
{
    if (synthetic->memory)
        munmap(synthetic->memory, synthetic->bytes);
    *synthetic = (struct synthetic){0};
}
