// SPDX-License-Identifier: Apache-2.0
// File = u64le header length | JSON header | data. The header maps a name to {dtype, shape, data_offsets};
// the offsets count from the end of the header.
#include "engine/model/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json.h"
#include "engine/model/model_file.h"

#define MAX_HEADER_BYTES ((size_t)100000000) /* the format's own limit */
#define MAX_INDEX_BYTES ((size_t)64 << 20)
enum { LENGTH_BYTES = 8, MAX_SHARDS = 1024 };

/* Changes whenever the file's bytes may have changed: nobody can set a ctime. */
struct file_version {
    uint64_t inode, bytes;
    int64_t modified_ns, changed_ns;
};

struct shard {
    char *name;       /* file name in the model directory */
    uint8_t *mapping; /* NULL: borrowed memory */
    size_t mapping_bytes;
    struct file_version version;
    struct json_document *header; /* owns the tensors' names */
    struct tensor *tensors;       /* [count], by name */
    size_t count;
};

struct safetensors {
    struct shard *shards; /* [shard_count] */
    size_t shard_count;
    struct json_document *index;   /* NULL: one file */
    const struct tensor **tensors; /* [count], by name */
    size_t count;
};

static const struct {
    const char *name;
    size_t element_bytes;
    bool loadable;
    enum dtype dtype;
} types[] = {
    {"F32", 4, true, DTYPE_F32},      {"F16", 2, true, DTYPE_F16},      {"BF16", 2, true, DTYPE_BF16},
    {"BOOL", 1, false, DTYPE_F32},    {"U8", 1, false, DTYPE_F32},      {"I8", 1, false, DTYPE_F32},
    {"F8_E4M3", 1, false, DTYPE_F32}, {"F8_E5M2", 1, false, DTYPE_F32}, {"U16", 2, false, DTYPE_F32},
    {"I16", 2, false, DTYPE_F32},     {"U32", 4, false, DTYPE_F32},     {"I32", 4, false, DTYPE_F32},
    {"U64", 8, false, DTYPE_F32},     {"I64", 8, false, DTYPE_F32},     {"F64", 8, false, DTYPE_F32},
};

static enum status read_type(struct tensor *tensor, const struct json *entry, size_t *element_bytes,
                             struct error *err)
{
    const char *name = json_string_or(json_member(entry, "dtype"), NULL);
    if (!name)
        return error_set(err, STATUS_INVALID, "tensor %.100s has no dtype", tensor->name);
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (strcmp(name, types[i].name) == 0) {
            tensor->type = types[i].name;
            tensor->loadable = types[i].loadable;
            tensor->dtype = types[i].dtype;
            *element_bytes = types[i].element_bytes;
            return STATUS_OK;
        }
    return error_set(err, STATUS_UNSUPPORTED, "tensor %.100s has the unknown dtype %.32s", tensor->name,
                     name);
}

/* Shape, and the bytes that it asks for. */
static enum status read_shape(struct tensor *tensor, const struct json *entry, size_t element_bytes,
                              struct error *err)
{
    const struct json *shape = json_member(entry, "shape");
    if (!shape || shape->type != JSON_ARRAY || shape->count > TENSOR_MAX_RANK)
        return error_set(err, STATUS_INVALID, "tensor %.100s must have a shape of at most %d dimensions",
                         tensor->name, TENSOR_MAX_RANK);
    tensor->rank = (int32_t)shape->count;
    tensor->bytes = element_bytes;
    for (size_t i = 0; i < shape->count; i++) {
        const struct json *size = &shape->as.items[i];
        if (size->type != JSON_INTEGER || size->as.integer < 0 ||
            __builtin_mul_overflow(tensor->bytes, (size_t)size->as.integer, &tensor->bytes))
            return error_set(err, STATUS_INVALID, "tensor %.100s has an impossible shape", tensor->name);
        tensor->shape[i] = size->as.integer;
    }
    return STATUS_OK;
}

static enum status read_offsets(struct tensor *tensor, const struct json *entry, const uint8_t *data,
                                size_t data_bytes, struct error *err)
{
    const struct json *offsets = json_member(entry, "data_offsets");
    if (!offsets || offsets->type != JSON_ARRAY || offsets->count != 2 ||
        offsets->as.items[0].type != JSON_INTEGER || offsets->as.items[1].type != JSON_INTEGER)
        return error_set(err, STATUS_INVALID, "tensor %.100s must have two data_offsets", tensor->name);
    int64_t begin = offsets->as.items[0].as.integer, end = offsets->as.items[1].as.integer;
    if (begin < 0 || end < begin || (uint64_t)end > data_bytes)
        return error_set(err, STATUS_INVALID,
                         "tensor %.100s lies outside the file; is the download complete?", tensor->name);
    if ((uint64_t)(end - begin) != tensor->bytes)
        return error_set(err, STATUS_INVALID, "tensor %.100s has %lld bytes where its shape needs %zu",
                         tensor->name, (long long)(end - begin), tensor->bytes);
    tensor->data = data + begin;
    return STATUS_OK;
}

static int compare_place(const void *a, const void *b)
{
    const struct tensor *left = a, *right = b;
    if (left->data != right->data)
        return left->data < right->data ? -1 : 1;
    return (left->bytes > right->bytes) - (left->bytes < right->bytes); /* empty ones first */
}

static int compare_name(const void *a, const void *b)
{
    return strcmp(((const struct tensor *)a)->name, ((const struct tensor *)b)->name);
}

/* The tensors must cover the data exactly: no byte twice, no byte unused. */
static enum status check_tiling(struct shard *shard, const uint8_t *data, size_t data_bytes,
                                struct error *err)
{
    const uint8_t *at = data;
    qsort(shard->tensors, shard->count, sizeof *shard->tensors, compare_place);
    for (size_t i = 0; i < shard->count; i++) {
        const struct tensor *tensor = &shard->tensors[i];
        if (tensor->data != at)
            return error_set(err, STATUS_INVALID, "tensor %.100s %s", tensor->name,
                             tensor->data < at ? "overlaps another" : "is preceded by a hole in the data");
        at += tensor->bytes;
    }
    if (at != data + data_bytes)
        return error_set(err, STATUS_INVALID, "%zu bytes at the end belong to no tensor",
                         (size_t)(data + data_bytes - at));
    qsort(shard->tensors, shard->count, sizeof *shard->tensors, compare_name);
    return STATUS_OK;
}

static enum status read_tensor(struct tensor *tensor, const struct json *entry, const uint8_t *data,
                               size_t data_bytes, struct error *err)
{
    size_t element_bytes = 0;
    tensor->name = entry->key;
    enum status status;
    if ((status = read_type(tensor, entry, &element_bytes, err)) != STATUS_OK ||
        (status = read_shape(tensor, entry, element_bytes, err)) != STATUS_OK)
        return status;
    return read_offsets(tensor, entry, data, data_bytes, err);
}

static enum status read_header(struct shard *shard, const uint8_t *data, size_t data_bytes, struct error *err)
{
    const struct json *root = json_root(shard->header);
    if (root->type != JSON_OBJECT)
        return error_set(err, STATUS_INVALID, "the header is not a JSON object");
    shard->tensors = calloc(root->count + 1, sizeof *shard->tensors);
    if (!shard->tensors)
        return error_set(err, STATUS_NO_MEMORY, "no memory for %zu tensors", root->count);
    for (size_t i = 0; i < root->count; i++) {
        const struct json *entry = &root->as.items[i];
        if (strcmp(entry->key, "__metadata__") == 0)
            continue;
        enum status status = read_tensor(&shard->tensors[shard->count], entry, data, data_bytes, err);
        if (status != STATUS_OK)
            return status;
        shard->count++;
    }
    return check_tiling(shard, data, data_bytes, err);
}

static enum status shard_parse(struct shard *shard, const uint8_t *bytes, size_t count, struct error *err)
{
    if (count < LENGTH_BYTES)
        return error_set(err, STATUS_INVALID, "too short to be a safetensors file");
    uint64_t header_bytes = 0;
    for (int i = LENGTH_BYTES - 1; i >= 0; i--)
        header_bytes = header_bytes << 8 | bytes[i];
    if (header_bytes > count - LENGTH_BYTES || header_bytes > MAX_HEADER_BYTES)
        return error_set(err, STATUS_INVALID,
                         "the header's length does not fit the file; is it a safetensors file?");
    const struct json_limits limits = {.max_bytes = MAX_HEADER_BYTES, .max_depth = 4, .reject_nul = true};
    enum status status =
        json_parse(&shard->header, (const char *)bytes + LENGTH_BYTES, (size_t)header_bytes, &limits, err);
    if (status != STATUS_OK)
        return status;
    size_t begin = LENGTH_BYTES + (size_t)header_bytes;
    return read_header(shard, bytes + begin, count - begin, err);
}

static int64_t nanoseconds(struct timespec time)
{
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static enum status map_file(struct shard *shard, const char *model_dir, struct error *err)
{
    char path[PATH_MAX];
    enum status status = model_file_path(path, sizeof path, model_dir, shard->name, err);
    if (status != STATUS_OK)
        return status;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return error_set(err, errno == ENOENT ? STATUS_NOT_FOUND : STATUS_IO, "cannot be opened: %s",
                         strerror(errno));
    struct stat stat;
    void *mapping = MAP_FAILED;
    bool regular = fstat(fd, &stat) == 0 && S_ISREG(stat.st_mode) && stat.st_size > 0;
    if (regular)
        mapping = mmap(NULL, (size_t)stat.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    if (!regular)
        return error_set(err, STATUS_INVALID, "not a file, or empty");
    if (mapping == MAP_FAILED)
        return error_set(err, errno == ENOMEM ? STATUS_NO_MEMORY : STATUS_IO, "cannot be mapped: %s",
                         strerror(errno));
    shard->mapping = mapping;
    shard->mapping_bytes = (size_t)stat.st_size;
    shard->version = (struct file_version){.inode = stat.st_ino,
                                           .bytes = (uint64_t)stat.st_size,
                                           .modified_ns = nanoseconds(stat.st_mtim),
                                           .changed_ns = nanoseconds(stat.st_ctim)};
    return STATUS_OK;
}

static enum status shard_open(struct shard *shard, const char *model_dir, const char *name, struct error *err)
{
    shard->name = strdup(name);
    if (!shard->name)
        return error_set(err, STATUS_NO_MEMORY, "no memory for a file name");
    enum status status = map_file(shard, model_dir, err);
    if (status == STATUS_OK)
        status = shard_parse(shard, shard->mapping, shard->mapping_bytes, err);
    if (status != STATUS_OK)
        error_prefix(err, "%s", name);
    return status;
}

static void shard_release(struct shard *shard)
{
    free(shard->tensors);
    json_close(shard->header);
    if (shard->mapping)
        munmap(shard->mapping, shard->mapping_bytes);
    free(shard->name);
}

static const struct tensor *shard_find(const struct shard *shard, const char *name)
{
    const struct tensor key = {.name = name};
    return bsearch(&key, shard->tensors, shard->count, sizeof *shard->tensors, compare_name);
}

static int compare_entry_name(const void *a, const void *b)
{
    return strcmp((*(const struct tensor *const *)a)->name, (*(const struct tensor *const *)b)->name);
}

/* A plain name, so that an index cannot reach outside its directory. */
static bool is_plain_name(const char *name)
{
    return name && name[0] != '\0' && name[0] != '.' && !strchr(name, '/') && strlen(name) <= NAME_MAX;
}

static enum status shard_for(struct safetensors *safetensors, const struct shard **out, const char *model_dir,
                             const char *name, struct error *err)
{
    for (size_t i = safetensors->shard_count;
         i-- > 0;) /* backwards: an index names a shard many times in a row */
        if (strcmp(safetensors->shards[i].name, name) == 0) {
            *out = &safetensors->shards[i];
            return STATUS_OK;
        }
    if (safetensors->shard_count == MAX_SHARDS)
        return error_set(err, STATUS_INVALID, "the index names more than %d files", MAX_SHARDS);
    struct shard *shard = &safetensors->shards[safetensors->shard_count];
    enum status status = shard_open(shard, model_dir, name, err);
    if (!shard->name)
        return status;
    safetensors->shard_count++; /* released by close, opened wholly or not */
    *out = shard;
    return status;
}

static enum status open_index_entry(struct safetensors *safetensors, const struct json *entry,
                                    const char *model_dir, struct error *err)
{
    const struct shard *shard = NULL;
    const char *file = json_string_or(entry, NULL);
    if (!is_plain_name(file))
        return error_set(err, STATUS_INVALID, "the index gives no plain file name for tensor %.100s",
                         entry->key);
    enum status status = shard_for(safetensors, &shard, model_dir, file, err);
    if (status != STATUS_OK)
        return status;
    const struct tensor *tensor = shard_find(shard, entry->key);
    if (!tensor)
        return error_set(err, STATUS_INVALID, "tensor %.100s is not in %.100s as the index says", entry->key,
                         file);
    safetensors->tensors[safetensors->count++] = tensor;
    return STATUS_OK;
}

static enum status open_shards(struct safetensors *safetensors, const char *model_dir, struct error *err)
{
    const struct json *map = json_member(json_root(safetensors->index), "weight_map");
    if (!map || map->type != JSON_OBJECT)
        return error_set(err, STATUS_INVALID, "the index has no weight_map");
    safetensors->shards = calloc(MAX_SHARDS, sizeof *safetensors->shards);
    safetensors->tensors = calloc(map->count + 1, sizeof(void *));
    if (!safetensors->shards || !safetensors->tensors)
        return error_set(err, STATUS_NO_MEMORY, "no memory for %zu tensors", map->count);
    for (size_t i = 0; i < map->count; i++) {
        enum status status = open_index_entry(safetensors, &map->as.items[i], model_dir, err);
        if (status != STATUS_OK)
            return status;
    }
    qsort(safetensors->tensors, safetensors->count, sizeof(void *), compare_entry_name);
    return STATUS_OK;
}

/* One shard, all of whose tensors are visible. */
static enum status publish_shard(struct safetensors *safetensors, struct error *err)
{
    const struct shard *shard = &safetensors->shards[0];
    safetensors->tensors = calloc(shard->count + 1, sizeof(void *));
    if (!safetensors->tensors)
        return error_set(err, STATUS_NO_MEMORY, "no memory for %zu tensors", shard->count);
    for (size_t i = 0; i < shard->count; i++)
        safetensors->tensors[i] = &shard->tensors[i];
    safetensors->count = shard->count;
    return STATUS_OK;
}

static struct safetensors *allocate_single(void)
{
    struct safetensors *safetensors = calloc(1, sizeof *safetensors);
    if (!safetensors)
        return NULL;
    safetensors->shards = calloc(1, sizeof *safetensors->shards);
    if (!safetensors->shards) {
        free(safetensors);
        return NULL;
    }
    safetensors->shard_count = 1;
    return safetensors;
}

static enum status finish_open(struct safetensors **out, struct safetensors *safetensors, enum status status)
{
    if (status != STATUS_OK)
        safetensors_close(safetensors);
    else
        *out = safetensors;
    return status;
}

static enum status open_indexed(struct safetensors **out, const char *model_dir, struct error *err)
{
    static const char name[] = "model.safetensors.index.json";
    char *text = NULL;
    size_t bytes = 0;
    enum status status = model_file_read(&text, &bytes, model_dir, name, MAX_INDEX_BYTES, err);
    if (status == STATUS_NOT_FOUND)
        return error_set(err, status, "%.300s has neither model.safetensors nor %s", model_dir, name);
    struct safetensors *safetensors = status == STATUS_OK ? calloc(1, sizeof *safetensors) : NULL;
    if (!safetensors) {
        free(text);
        return status == STATUS_OK ? error_set(err, STATUS_NO_MEMORY, "no memory for the checkpoint")
                                   : status;
    }
    const struct json_limits limits = {.max_bytes = MAX_INDEX_BYTES, .max_depth = 8, .reject_nul = true};
    status = json_parse(&safetensors->index, text, bytes, &limits, err);
    free(text);
    if (status != STATUS_OK)
        error_prefix(err, "%s", name);
    else
        status = open_shards(safetensors, model_dir, err);
    return finish_open(out, safetensors, status);
}

enum status safetensors_open(struct safetensors **out, const char *model_dir, struct error *err)
{
    static const char name[] = "model.safetensors";
    char path[PATH_MAX];
    *out = NULL;
    enum status status = model_file_path(path, sizeof path, model_dir, name, err);
    if (status != STATUS_OK)
        return status;
    if (access(path, F_OK) != 0)
        return open_indexed(out, model_dir, err);
    struct safetensors *safetensors = allocate_single();
    if (!safetensors)
        return error_set(err, STATUS_NO_MEMORY, "no memory for the checkpoint");
    status = shard_open(&safetensors->shards[0], model_dir, name, err);
    if (status == STATUS_OK)
        status = publish_shard(safetensors, err);
    return finish_open(out, safetensors, status);
}

enum status safetensors_open_memory(struct safetensors **out, const void *data, size_t bytes,
                                    struct error *err)
{
    *out = NULL;
    struct safetensors *safetensors = allocate_single();
    if (!safetensors)
        return error_set(err, STATUS_NO_MEMORY, "no memory for the checkpoint");
    enum status status = shard_parse(&safetensors->shards[0], data, bytes, err);
    if (status == STATUS_OK)
        status = publish_shard(safetensors, err);
    return finish_open(out, safetensors, status);
}

void safetensors_close(struct safetensors *safetensors)
{
    if (!safetensors)
        return;
    for (size_t i = 0; i < safetensors->shard_count; i++)
        shard_release(&safetensors->shards[i]);
    free(safetensors->shards);
    free(safetensors->tensors);
    json_close(safetensors->index);
    free(safetensors);
}

const struct tensor *safetensors_find(const struct safetensors *safetensors, const char *name)
{
    const struct tensor key = {.name = name}, *entry = &key;
    const struct tensor *const *found =
        bsearch(&entry, safetensors->tensors, safetensors->count, sizeof entry, compare_entry_name);
    return found ? *found : NULL;
}

bool safetensors_version(const struct safetensors *safetensors, struct sha256 *sha)
{
    for (size_t i = 0; i < safetensors->shard_count; i++) {
        const struct shard *shard = &safetensors->shards[i];
        if (!shard->mapping)
            return false;
        sha256_update(sha, shard->name, strlen(shard->name) + 1);
        sha256_update(sha, &shard->version, sizeof shard->version);
    }
    return true;
}

size_t safetensors_count(const struct safetensors *safetensors)
{
    return safetensors->count;
}

const struct tensor *safetensors_tensor(const struct safetensors *safetensors, size_t index)
{
    return safetensors->tensors[index];
}

void safetensors_drop_pages(const struct safetensors *safetensors, const uint8_t *data, size_t bytes)
{
    size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    for (size_t i = 0; i < safetensors->shard_count; i++) {
        const struct shard *shard = &safetensors->shards[i];
        if (!shard->mapping || data < shard->mapping || data >= shard->mapping + shard->mapping_bytes)
            continue;
        /* Only whole pages: the bytes beside may be in use. */
        size_t offset = (size_t)(data - shard->mapping);
        size_t begin = (offset + page_bytes - 1) / page_bytes * page_bytes;
        size_t end = (offset + bytes) / page_bytes * page_bytes;
        if (end > begin)
            madvise(shard->mapping + begin, end - begin, MADV_DONTNEED);
    }
}
