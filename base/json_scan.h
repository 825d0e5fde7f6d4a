// SPDX-License-Identifier: Apache-2.0
// Strict validation of JSON text ahead of cJSON, and the exact values that cJSON would lose. Private to
// base/json.c. The lists are in document order, the order in which a cJSON tree is walked.
#ifndef BASE_JSON_SCAN_H
#define BASE_JSON_SCAN_H

#include "base/json.h"

struct json_scan_number {
    int64_t integer;
    bool is_integer;
};

struct json_scan_string { /* only strings that contain U+0000 */
    size_t ordinal;       /* counting every string, keys included */
    size_t begin, end;    /* the text between the quotes */
};

struct json_scan {
    const char *text;
    size_t bytes;
    size_t at;
    struct json_limits limits;
    struct json_scan_number *numbers;
    size_t number_count, number_capacity;
    struct json_scan_string *nul_strings;
    size_t nul_count, nul_capacity;
    size_t string_count;
    size_t value_count; /* every value: an upper bound for the tree */
    struct error *err;
};

enum status json_scan_run(struct json_scan *scan);
void json_scan_release(struct json_scan *scan);
/* Decodes the escapes of text[begin..end) into out (at most end - begin bytes); returns the length. */
size_t json_scan_decode(const char *text, size_t begin, size_t end, char *out);

#endif
