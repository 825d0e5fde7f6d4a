// SPDX-License-Identifier: Apache-2.0
// A bracket counter over JSON text. It gives the exact bytes of the body (they seed a job that names no seed)
// and the custom_id of a line that is broken elsewhere, so that its answer can still be joined.
#include <string.h>

#include "worker/intake/job_parse_internal.h"

struct cursor {
    const char *text;
    size_t bytes, at;
};

static void skip_space(struct cursor *cursor)
{
    while (cursor->at < cursor->bytes && memchr(" \t\r\n", cursor->text[cursor->at], 4))
        cursor->at++;
}

/* At an opening quote; ends behind the closing one. */
static bool skip_string(struct cursor *cursor)
{
    for (cursor->at++; cursor->at < cursor->bytes; cursor->at++) {
        if (cursor->text[cursor->at] == '\\')
            cursor->at++;
        else if (cursor->text[cursor->at] == '"') {
            cursor->at++;
            return true;
        }
    }
    cursor->at = cursor->bytes;
    return false;
}

/* Ends at the ',' or '}' behind the value. */
static bool skip_value(struct cursor *cursor)
{
    size_t depth = 0;
    while (cursor->at < cursor->bytes) {
        char c = cursor->text[cursor->at];
        if (c == '"') {
            if (!skip_string(cursor))
                return false;
            continue;
        }
        if (depth == 0 && (c == ',' || c == '}'))
            return true;
        if (c == '{' || c == '[')
            depth++;
        else if (c == '}' || c == ']') {
            if (depth == 0)
                return false;
            depth--;
        }
        cursor->at++;
    }
    return false;
}

bool job_parse_span(const char *text, size_t bytes, const char *key, size_t *begin, size_t *end)
{
    struct cursor cursor = {text, bytes, 0};
    size_t key_bytes = strlen(key);
    skip_space(&cursor);
    while (cursor.at < bytes && (text[cursor.at] == '{' || text[cursor.at] == ',')) {
        cursor.at++;
        skip_space(&cursor);
        size_t name = cursor.at + 1;
        if (cursor.at >= bytes || text[cursor.at] != '"' || !skip_string(&cursor))
            return false;
        bool wanted = cursor.at - 1 - name == key_bytes && memcmp(text + name, key, key_bytes) == 0;
        skip_space(&cursor);
        if (cursor.at >= bytes || text[cursor.at] != ':')
            return false;
        cursor.at++;
        skip_space(&cursor);
        *begin = cursor.at;
        if (!skip_value(&cursor))
            return false;
        if (wanted) {
            *end = cursor.at;
            while (*end > *begin && memchr(" \t\r\n", text[*end - 1], 4))
                --*end;
            return true;
        }
    }
    return false;
}
