// SPDX-License-Identifier: Apache-2.0
#include "worker/cli/batch_results.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json.h"
#include "base/monotime.h"

enum { SYNC_MS = 1000 };

static enum status io_error(const struct batch_results *results, const char *what, struct error *err)
{
    return error_set(err, STATUS_IO, "cannot %s %s: %s", what, results->path, strerror(errno));
}

static enum status remember(struct id_map *answered, const struct json *line, struct error *err)
{
    bool added;
    const char *name = json_string_or(json_member(line, "custom_id"), NULL);
    if (!name)
        name = json_string_or(json_member(line, "id"), NULL);
    return name ? id_map_put(answered, name, &added, err) : STATUS_INVALID;
}

static enum status read_line(struct batch_results *results, const char *line, size_t bytes,
                             struct id_map *answered, struct error *err)
{
    struct json_document *document;
    enum status status = json_parse(&document, line, bytes, NULL, err);
    if (status == STATUS_OK) {
        status = remember(answered, json_root(document), err);
        json_close(document);
    }
    if (status_class_of(status) == STATUS_CLASS_REJECT)
        return error_set(
            err, STATUS_CONFIG,
            "line %llu of %s is no result; -o must name a new file or one that `millrace batch` wrote",
            (unsigned long long)results->lines + 1, results->path);
    results->lines++;
    return status;
}

/* Reads what an earlier run left and cuts a half line off the end. */
static enum status resume(struct batch_results *results, struct id_map *answered, struct error *err)
{
    int copy = dup(results->fd);
    FILE *file = copy >= 0 ? fdopen(copy, "rb") : NULL;
    if (!file)
        return io_error(results, "read", err);
    char *line = NULL;
    size_t capacity = 0;
    off_t whole = 0;
    ssize_t length;
    enum status status = STATUS_OK;
    rewind(file);
    while (status == STATUS_OK && (length = getline(&line, &capacity, file)) > 0 &&
           line[length - 1] == '\n') {
        status = read_line(results, line, (size_t)length - 1, answered, err);
        whole += length;
    }
    bool failed = ferror(file) != 0;
    free(line);
    fclose(file);
    if (status == STATUS_OK && (failed || ftruncate(results->fd, whole) != 0))
        status = io_error(results, "resume", err);
    return status;
}

enum status batch_results_open(struct batch_results *out, const char *path, struct id_map *answered,
                               struct error *err)
{
    struct stat info;
    *out = (struct batch_results){.path = path, .fd = STDOUT_FILENO};
    if (strcmp(path, "-") == 0)
        return STATUS_OK;
    out->fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (out->fd < 0)
        return io_error(out, "write", err);
    enum status status = STATUS_OK;
    if (fstat(out->fd, &info) != 0)
        status = io_error(out, "look at", err);
    out->regular = status == STATUS_OK && S_ISREG(info.st_mode);
    if (out->regular) {
        out->device = info.st_dev;
        out->inode = info.st_ino;
        if (flock(out->fd, LOCK_EX | LOCK_NB) != 0)
            status = error_set(err, STATUS_CONFIG, "another run is writing %s", path);
        else
            status = resume(out, answered, err);
    }
    if (status != STATUS_OK)
        close(out->fd);
    return status;
}

enum status batch_results_close(struct batch_results *results, struct error *err)
{
    enum status status = batch_results_sync(results, true, err);
    if (results->fd != STDOUT_FILENO && close(results->fd) != 0 && status == STATUS_OK)
        status = io_error(results, "close", err);
    return status;
}

enum status batch_results_append(struct batch_results *results, struct bytes *line, struct error *err)
{
    line->max_bytes++; /* the newline is not the line's */
    if (bytes_append_char(line, '\n') != STATUS_OK)
        return error_set(err, STATUS_NO_MEMORY, "no memory for a result line");
    size_t done = 0;
    while (done < line->count_bytes) { /* once for a file, unless the disk is full */
        ssize_t wrote = write(results->fd, line->data + done, line->count_bytes - done);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote < 0)
            return io_error(results, "write", err);
        done += (size_t)wrote;
    }
    if (!results->unsynced)
        results->synced_ns = monotime_ns();
    results->unsynced = true;
    return STATUS_OK;
}

enum status batch_results_sync(struct batch_results *results, bool now, struct error *err)
{
    if (!results->unsynced || (!now && monotime_ns() - results->synced_ns < (int64_t)SYNC_MS * 1000000))
        return STATUS_OK;
    results->unsynced = false;
    if (results->regular && fdatasync(results->fd) != 0)
        return io_error(results, "sync", err);
    return STATUS_OK;
}
