// SPDX-License-Identifier: Apache-2.0
#include "engine/text/text_file.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

enum status text_file_read(struct bytes *out, const char *dir, const char *name, struct error *err)
{
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/%s", dir, name) >= (int)sizeof path)
        return error_set(err, STATUS_INVALID, "the path of %s is too long", name);
    FILE *file = fopen(path, "rb");
    if (!file)
        return error_set(err, errno == ENOENT || errno == ENOTDIR ? STATUS_NOT_FOUND : STATUS_IO, "%s: %s",
                         path, strerror(errno));
    enum status status = STATUS_OK;
    size_t count;
    do {
        status = bytes_reserve(out, 65536);
        count = status == STATUS_OK ? fread(out->data + out->count_bytes, 1, 65536, file) : 0;
        out->count_bytes += count;
    } while (count > 0);
    if (out->data)
        out->data[out->count_bytes] = '\0';
    const bool failed = ferror(file) != 0;
    fclose(file);
    if (status == STATUS_OK && failed)
        return error_set(err, STATUS_IO, "%s could not be read", path);
    return status == STATUS_OK
               ? STATUS_OK
               : error_set(err, status, "%s is over %zu bytes, or memory is short", path, out->max_bytes);
}
