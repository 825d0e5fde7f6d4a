// SPDX-License-Identifier: Apache-2.0
#include "base/bytes.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void bytes_init(struct bytes *bytes, size_t max_bytes)
{
    *bytes = (struct bytes){.max_bytes = max_bytes};
}

void bytes_release(struct bytes *bytes)
{
    free(bytes->data);
    *bytes = (struct bytes){.max_bytes = bytes->max_bytes};
}

void bytes_reset(struct bytes *bytes)
{
    bytes->count_bytes = 0;
    bytes->failed = false;
    if (bytes->data)
        bytes->data[0] = '\0';
}

enum status bytes_reserve(struct bytes *bytes, size_t extra_bytes)
{
    if (extra_bytes > bytes->max_bytes || bytes->count_bytes > bytes->max_bytes - extra_bytes) {
        bytes->failed = true;
        return STATUS_TOO_LARGE;
    }
    size_t need = bytes->count_bytes + extra_bytes + 1;
    if (need <= bytes->capacity_bytes)
        return STATUS_OK;
    size_t capacity = bytes->capacity_bytes ? bytes->capacity_bytes : 64;
    while (capacity < need)
        capacity *= 2;
    char *data = realloc(bytes->data, capacity);
    if (!data) {
        bytes->failed = true;
        return STATUS_NO_MEMORY;
    }
    bytes->data = data;
    bytes->capacity_bytes = capacity;
    return STATUS_OK;
}

enum status bytes_append(struct bytes *bytes, const void *data, size_t count_bytes)
{
    enum status status = bytes_reserve(bytes, count_bytes);
    if (status != STATUS_OK)
        return status;
    if (count_bytes)
        memcpy(bytes->data + bytes->count_bytes, data, count_bytes);
    bytes->count_bytes += count_bytes;
    bytes->data[bytes->count_bytes] = '\0';
    return STATUS_OK;
}

enum status bytes_append_text(struct bytes *bytes, const char *text)
{
    return bytes_append(bytes, text, strlen(text));
}

enum status bytes_append_char(struct bytes *bytes, char c)
{
    return bytes_append(bytes, &c, 1);
}

enum status bytes_appendf(struct bytes *bytes, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    va_list again;
    va_copy(again, args);
    int count = vsnprintf(NULL, 0, format, args);
    va_end(args);
    CHECK(count >= 0);
    enum status status = bytes_reserve(bytes, (size_t)count);
    if (status == STATUS_OK) {
        vsnprintf(bytes->data + bytes->count_bytes, (size_t)count + 1, format, again);
        bytes->count_bytes += (size_t)count;
    }
    va_end(again);
    return status;
}

char *bytes_take(struct bytes *bytes)
{
    char *data = bytes->data;
    *bytes = (struct bytes){.max_bytes = bytes->max_bytes};
    return data;
}
