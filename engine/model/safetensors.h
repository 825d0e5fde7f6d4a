// SPDX-License-Identifier: Apache-2.0
// Checkpoints in safetensors format (huggingface/safetensors, README "Format"), one file or shards under
// model.safetensors.index.json, mapped read-only. Nothing in a file is trusted: every length, offset, shape
// and type is checked against the file before a tensor can be seen, and the tensors must tile the data
// exactly. Immutable after open, so any thread may read.
#ifndef ENGINE_MODEL_SAFETENSORS_H
#define ENGINE_MODEL_SAFETENSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/sha256.h"
#include "engine/kernels/kernels.h"

enum { TENSOR_MAX_RANK = 8 };

struct tensor {
    const char *name;
    const char *type; /* as written: "BF16" */
    bool loadable;    /* the type is one of enum dtype */
    enum dtype dtype; /* when loadable */
    int32_t rank;
    int64_t shape[TENSOR_MAX_RANK];
    const uint8_t *data; /* in the mapping; aligned for nothing */
    size_t bytes;
};

struct safetensors;

/* Opens model_dir/model.safetensors, else the shards of model_dir/model.safetensors.index.json.
 * Statuses: NOT_FOUND, INVALID (which file, which tensor, what), UNSUPPORTED, IO, NO_MEMORY. */
MUST_CHECK enum status safetensors_open(struct safetensors **out, const char *model_dir, struct error *err);
/* One file's bytes, borrowed until close (tests, fuzzing). */
MUST_CHECK enum status safetensors_open_memory(struct safetensors **out, const void *data, size_t bytes,
                                               struct error *err);
void safetensors_close(struct safetensors *safetensors);

/* NULL: no tensor has this name. */
const struct tensor *safetensors_find(const struct safetensors *safetensors, const char *name);
size_t safetensors_count(const struct safetensors *safetensors);
const struct tensor *safetensors_tensor(const struct safetensors *safetensors, size_t index); /* by name */
/* Feeds what the system knows of the files (names, inodes, sizes, times) to `sha`: equal as long as no file
 * was replaced or written to. False: borrowed memory, of which nothing is known. */
bool safetensors_version(const struct safetensors *safetensors, struct sha256 *sha);
/* These bytes of a tensor will not be read soon: the system may drop their pages (the file still has them).
 */
void safetensors_drop_pages(const struct safetensors *safetensors, const uint8_t *data, size_t bytes);

#endif
