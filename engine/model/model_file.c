// SPDX-License-Identifier: Apache-2.0
#include "engine/model/model_file.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum status model_file_path(char *path, size_t path_bytes, const char *dir, const char *name,
                            struct error *err)
{
    int length = snprintf(path, path_bytes, "%s/%s", dir, name);
    if (length < 0 || (size_t)length >= path_bytes)
        return error_set(err, STATUS_INVALID, "the path of %s in the model directory is too long", name);
    return STATUS_OK;
}

/* Reads one byte more than allowed, so that a file that is too large is noticed without asking its size. */
static enum status read_stream(FILE *file, char **text, size_t *bytes, size_t max_bytes)
{
    char *buffer = NULL;
    size_t count = 0, capacity = 0;
    for (;;) {
        if (count == capacity) {
            capacity = capacity ? capacity * 2 : 4096;
            char *grown = realloc(buffer, capacity + 1);
            if (!grown) {
                free(buffer);
                return STATUS_NO_MEMORY;
            }
            buffer = grown;
        }
        size_t got = fread(buffer + count, 1, capacity - count, file);
        count += got;
        if (got == 0 || count > max_bytes)
            break;
    }
    if (ferror(file) || count > max_bytes) {
        free(buffer);
        return ferror(file) ? STATUS_IO : STATUS_TOO_LARGE;
    }
    buffer[count] = '\0';
    *text = buffer;
    *bytes = count;
    return STATUS_OK;
}

enum status model_file_read(char **text, size_t *bytes, const char *dir, const char *name, size_t max_bytes,
                            struct error *err)
{
    char path[PATH_MAX];
    *text = NULL;
    enum status status = model_file_path(path, sizeof path, dir, name, err);
    if (status != STATUS_OK)
        return status;
    FILE *file = fopen(path, "rbe");
    if (!file)
        return error_set(err, errno == ENOENT || errno == ENOTDIR ? STATUS_NOT_FOUND : STATUS_IO,
                         "%.300s cannot be opened: %s", path, strerror(errno));
    status = read_stream(file, text, bytes, max_bytes);
    fclose(file);
    if (status != STATUS_OK)
        return error_set(err, status, "%.300s: %s (at most %zu bytes are read)", path, status_text(status),
                         max_bytes);
    return STATUS_OK;
}
