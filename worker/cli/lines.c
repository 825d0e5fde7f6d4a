// SPDX-License-Identifier: Apache-2.0
#include "worker/cli/lines.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum status lines_open(struct lines *lines, const char *path, struct error *err)
{
    *lines = (struct lines){.path = path};
    lines->file = strcmp(path, "-") == 0 ? stdin : fopen(path, "r");
    return lines->file ? STATUS_OK
                       : error_set(err, STATUS_NOT_FOUND, "cannot open %.200s: %s", path, strerror(errno));
}

void lines_close(struct lines *lines)
{
    if (lines->file && lines->file != stdin)
        fclose(lines->file);
    free(lines->text);
    *lines = (struct lines){0};
}

enum status lines_next(struct lines *lines, struct error *err)
{
    for (;;) {
        ssize_t bytes = getline(&lines->text, &lines->capacity, lines->file);
        if (bytes < 0)
            return ferror(lines->file)
                       ? error_set(err, STATUS_IO, "cannot read %.200s: %s", lines->path, strerror(errno))
                       : STATUS_NOT_FOUND;
        lines->number++;
        while (bytes > 0 && (lines->text[bytes - 1] == '\n' || lines->text[bytes - 1] == '\r'))
            bytes--;
        lines->text[bytes] = '\0';
        lines->bytes = (size_t)bytes;
        if (bytes > 0)
            return STATUS_OK;
    }
}
