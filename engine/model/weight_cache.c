// SPDX-License-Identifier: Apache-2.0
#include "engine/model/weight_cache.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/model/chunked_hash.h"

#define WRITE_BYTES ((size_t)16 << 20)
#define SLICE_BYTES ((size_t)32 << 20)
enum { HEADER_BYTES = 4096, NAME_DIGITS = 32 };

/* The first bytes of a file; zeros up to HEADER_BYTES. Little endian, as everything that packs weights is. */
struct header {
    char magic[16]; /* with the version of this format */
    uint64_t image_bytes;
    uint8_t key[SHA256_BYTES], tensors[SHA256_BYTES], image[SHA256_BYTES];
    uint8_t digest[SHA256_BYTES]; /* of all fields before */
};
_Static_assert(sizeof(struct header) <= HEADER_BYTES, "the header has a page of its own");

static const char magic[16] = "millrace-pack/2"; /* the layouts of the kernel sets are part of the version */

static void digest_image(uint8_t digest[SHA256_BYTES], const struct weight_cache *cache, const uint8_t *image,
                         size_t bytes, void (*done)(void *context, const uint8_t *data, size_t bytes))
{
    struct sha256 sha;
    sha256_init(&sha);
    chunked_hash(&sha, cache->team, image, bytes, done, NULL);
    sha256_final(&sha, digest);
}

static struct header header_of(const struct weight_cache *cache, const uint8_t *image, size_t bytes)
{
    struct header header = {.image_bytes = bytes};
    memcpy(header.magic, magic, sizeof magic);
    memcpy(header.key, cache->key, SHA256_BYTES);
    memcpy(header.tensors, cache->tensors, SHA256_BYTES);
    digest_image(header.image, cache, image, bytes, NULL);
    sha256_digest(&header, offsetof(struct header, digest), header.digest);
    return header;
}

static enum status path_of(char path[PATH_MAX], const struct weight_cache *cache, const char *suffix,
                           struct error *err)
{
    char name[2 * SHA256_BYTES + 1];
    sha256_hex(cache->key, name);
    int bytes = snprintf(path, PATH_MAX, "%s/%.*s.weights%s", cache->directory, NAME_DIGITS, name, suffix);
    if (bytes < 0 || bytes >= PATH_MAX)
        return error_set(err, STATUS_INVALID, "the path of the weight cache is too long");
    return STATUS_OK;
}

/* The header alone, against what is asked for. */
static enum status check_header(const struct weight_cache *cache, const struct header *header, size_t bytes,
                                struct error *err)
{
    uint8_t digest[SHA256_BYTES];
    sha256_digest(header, offsetof(struct header, digest), digest);
    if (memcmp(header->magic, magic, sizeof magic) != 0)
        return error_set(err, STATUS_INVALID, "it is no weight cache of this version");
    if (memcmp(digest, header->digest, SHA256_BYTES) != 0)
        return error_set(err, STATUS_INVALID, "its header is damaged");
    if (memcmp(header->key, cache->key, SHA256_BYTES) != 0 || header->image_bytes != bytes)
        return error_set(err, STATUS_INVALID, "it belongs to other weights");
    return STATUS_OK;
}

static enum status read_header(const struct weight_cache *cache, int file, size_t bytes,
                               struct header *header, struct error *err)
{
    struct stat status;
    if (pread(file, header, sizeof *header, 0) != (ssize_t)sizeof *header || fstat(file, &status) != 0 ||
        (uint64_t)status.st_size != HEADER_BYTES + (uint64_t)bytes)
        return error_set(err, STATUS_INVALID, "it does not have the size of these weights");
    return check_header(cache, header, bytes, err);
}

struct copy {
    uint8_t *to;
    const uint8_t *from;
    size_t bytes;
};

static void copy_share(void *context, int member, int members)
{
    const struct copy *copy = context;
    size_t begin = copy->bytes / (size_t)members * (size_t)member;
    size_t end = member + 1 < members ? copy->bytes / (size_t)members * (size_t)(member + 1) : copy->bytes;
    memcpy(copy->to + begin, copy->from + begin, end - begin);
}

/* The file still has them; this process's memory stays that of the image. */
static void drop_pages(void *context, const uint8_t *data, size_t bytes)
{
    (void)context;
    madvise((void *)(uintptr_t)data, bytes, MADV_DONTNEED);
}

static void copy_all(const struct weight_cache *cache, uint8_t *image, const uint8_t *mapped, size_t bytes)
{
    for (size_t at = 0; at < bytes; at += SLICE_BYTES) {
        struct copy copy = {image + at, mapped + at, bytes - at < SLICE_BYTES ? bytes - at : SLICE_BYTES};
        thread_team_run(cache->team, copy_share, &copy);
        drop_pages(NULL, copy.from, copy.bytes);
    }
}

static enum status copy_image(struct weight_cache *cache, int file, const struct header *header,
                              uint8_t *image, size_t bytes, struct error *err)
{
    uint8_t digest[SHA256_BYTES];
    uint8_t *mapped = mmap(NULL, bytes, PROT_READ, MAP_SHARED, file, HEADER_BYTES);
    if (mapped == MAP_FAILED)
        return error_set(err, STATUS_NO_MEMORY, "it cannot be mapped: %s", strerror(errno));
    digest_image(digest, cache, mapped, bytes, drop_pages);
    bool whole = memcmp(digest, header->image, SHA256_BYTES) == 0;
    if (whole)
        copy_all(cache, image, mapped, bytes);
    munmap(mapped, bytes);
    if (!whole)
        return error_set(err, STATUS_INVALID, "its weights are damaged");
    memcpy(cache->tensors, header->tensors, SHA256_BYTES);
    return STATUS_OK;
}

enum status weight_cache_read(struct weight_cache *cache, uint8_t *image, size_t bytes, struct error *err)
{
    char path[PATH_MAX];
    struct header header;
    enum status status = path_of(path, cache, "", err);
    if (status != STATUS_OK)
        return status;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return error_set(err, errno == ENOENT ? STATUS_NOT_FOUND : STATUS_IO, "cannot open %.200s: %s", path,
                         strerror(errno));
    status = read_header(cache, file, bytes, &header, err);
    if (status == STATUS_OK)
        status = copy_image(cache, file, &header, image, bytes, err);
    if (status != STATUS_OK)
        error_prefix(err, "%.200s", path);
    close(file);
    return status;
}

static bool write_all(int file, const void *data, size_t bytes)
{
    const uint8_t *at = data;
    while (bytes > 0) {
        ssize_t written = write(file, at, bytes < WRITE_BYTES ? bytes : WRITE_BYTES);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return false;
        at += written;
        bytes -= (size_t)written;
    }
    return true;
}

static bool write_file(int file, const struct header *header, const uint8_t *image, size_t bytes)
{
    uint8_t page[HEADER_BYTES] = {0};
    memcpy(page, header, sizeof *header);
    return write_all(file, page, sizeof page) && write_all(file, image, bytes) && fsync(file) == 0;
}

enum status weight_cache_store(const struct weight_cache *cache, const uint8_t *image, size_t bytes,
                               struct error *err)
{
    char path[PATH_MAX], unfinished[PATH_MAX], suffix[32];
    snprintf(suffix, sizeof suffix, ".%ld.part", (long)getpid());
    enum status status = path_of(path, cache, "", err);
    if (status == STATUS_OK)
        status = path_of(unfinished, cache, suffix, err);
    if (status != STATUS_OK)
        return status;
    const struct header header = header_of(cache, image, bytes);
    int file = open(unfinished, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    bool written = file >= 0 && write_file(file, &header, image, bytes);
    int reason = errno;
    if (file >= 0 && close(file) != 0 && written)
        written = false, reason = errno;
    if (written && rename(unfinished, path) != 0)
        written = false, reason = errno;
    if (written)
        return STATUS_OK;
    if (file >= 0)
        unlink(unfinished);
    return error_set(err, STATUS_IO, "cannot write %.200s: %s", path, strerror(reason));
}
