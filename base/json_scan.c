// SPDX-License-Identifier: Apache-2.0
#include "base/json_scan.h"

#include <stdlib.h>
#include <string.h>

size_t json_utf8_length(const char *text, size_t bytes)
{
    const unsigned char *s = (const unsigned char *)text;
    if (bytes == 0)
        return 0;
    if (s[0] < 0x80)
        return 1;
    if (s[0] >= 0xC2 && s[0] <= 0xDF)
        return bytes >= 2 && (s[1] & 0xC0) == 0x80 ? 2 : 0;
    if ((s[0] & 0xF0) == 0xE0) {
        unsigned char low = s[0] == 0xE0 ? 0xA0 : 0x80;
        unsigned char high = s[0] == 0xED ? 0x9F : 0xBF;
        return bytes >= 3 && s[1] >= low && s[1] <= high && (s[2] & 0xC0) == 0x80 ? 3 : 0;
    }
    if (s[0] >= 0xF0 && s[0] <= 0xF4) {
        unsigned char low = s[0] == 0xF0 ? 0x90 : 0x80;
        unsigned char high = s[0] == 0xF4 ? 0x8F : 0xBF;
        return bytes >= 4 && s[1] >= low && s[1] <= high && (s[2] & 0xC0) == 0x80 && (s[3] & 0xC0) == 0x80
                   ? 4
                   : 0;
    }
    return 0;
}

static enum status fault(struct json_scan *scan, const char *what)
{
    return error_set(scan->err, STATUS_INVALID, "not valid JSON: %s at byte %zu", what, scan->at);
}

static void skip_space(struct json_scan *scan)
{
    while (scan->at < scan->bytes && memchr(" \t\r\n", scan->text[scan->at], 4))
        scan->at++;
}

static bool next_is(const struct json_scan *scan, char c)
{
    return scan->at < scan->bytes && scan->text[scan->at] == c;
}

static int hex4(const char *text, size_t at, size_t bytes)
{
    int value = 0;
    if (bytes - at < 4)
        return -1;
    for (size_t i = at; i < at + 4; i++) {
        char c = text[i];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0)
            return -1;
        value = value * 16 + digit;
    }
    return value;
}

/* After a backslash. Sets *nul for an escaped U+0000. */
static enum status scan_escape(struct json_scan *scan, bool *nul)
{
    if (scan->at >= scan->bytes)
        return fault(scan, "unfinished escape");
    char c = scan->text[scan->at];
    if (memchr("\"\\/bfnrt", c, 8)) {
        scan->at++;
        return STATUS_OK;
    }
    int unit = c == 'u' ? hex4(scan->text, scan->at + 1, scan->bytes) : -1;
    if (unit < 0)
        return fault(scan, "unknown escape");
    scan->at += 5;
    if (unit == 0) {
        *nul = true;
        if (scan->limits.reject_nul)
            return fault(scan, "a NUL character inside a string");
    }
    if (unit >= 0xDC00 && unit <= 0xDFFF)
        return fault(scan, "half of a surrogate pair");
    if (unit >= 0xD800 && unit <= 0xDBFF) {
        int low = -1;
        if (scan->bytes - scan->at >= 6 && scan->text[scan->at] == '\\' && scan->text[scan->at + 1] == 'u')
            low = hex4(scan->text, scan->at + 2, scan->bytes);
        if (low < 0xDC00 || low > 0xDFFF)
            return fault(scan, "half of a surrogate pair");
        scan->at += 6;
    }
    return STATUS_OK;
}

/* Grows *items so that one more element fits. */
static bool make_room(void **items, size_t count, size_t *capacity, size_t size)
{
    if (count < *capacity)
        return true;
    size_t grown = *capacity ? *capacity * 2 : 32;
    void *moved = realloc(*items, grown * size);
    if (!moved)
        return false;
    *items = moved;
    *capacity = grown;
    return true;
}

static enum status note_nul_string(struct json_scan *scan, size_t begin)
{
    if (!make_room((void **)&scan->nul_strings, scan->nul_count, &scan->nul_capacity,
                   sizeof *scan->nul_strings))
        return error_set(scan->err, STATUS_NO_MEMORY, "no memory to parse JSON");
    scan->nul_strings[scan->nul_count++] =
        (struct json_scan_string){.ordinal = scan->string_count, .begin = begin, .end = scan->at};
    return STATUS_OK;
}

static enum status scan_string(struct json_scan *scan)
{
    if (!next_is(scan, '"'))
        return fault(scan, "expected a string");
    size_t begin = ++scan->at;
    bool nul = false;
    while (scan->at < scan->bytes && scan->text[scan->at] != '"') {
        unsigned char c = (unsigned char)scan->text[scan->at];
        if (c == '\\') {
            scan->at++;
            enum status status = scan_escape(scan, &nul);
            if (status != STATUS_OK)
                return status;
        } else if (c < 0x20) {
            return fault(scan, "a control character inside a string");
        } else {
            size_t length = json_utf8_length(scan->text + scan->at, scan->bytes - scan->at);
            if (length == 0)
                return fault(scan, "invalid UTF-8");
            scan->at += length;
        }
    }
    if (scan->at >= scan->bytes)
        return fault(scan, "unfinished string");
    enum status status = nul ? note_nul_string(scan, begin) : STATUS_OK;
    scan->string_count++;
    scan->at++;
    return status;
}

static bool scan_digits(struct json_scan *scan)
{
    size_t begin = scan->at;
    while (scan->at < scan->bytes && scan->text[scan->at] >= '0' && scan->text[scan->at] <= '9')
        scan->at++;
    return scan->at > begin;
}

/* The int64 written at text[begin..end), or false when it does not fit. */
static bool exact_integer(const char *text, size_t begin, size_t end, int64_t *out)
{
    bool negative = text[begin] == '-';
    int64_t value = 0;
    for (size_t i = begin + (negative ? 1 : 0); i < end; i++)
        if (__builtin_mul_overflow(value, (int64_t)10, &value) ||
            __builtin_sub_overflow(value, (int64_t)(text[i] - '0'), &value))
            return false;
    if (!negative && value == INT64_MIN)
        return false;
    *out = negative ? value : -value;
    return true;
}

static enum status scan_number(struct json_scan *scan)
{
    size_t begin = scan->at;
    bool integer = true;
    if (next_is(scan, '-'))
        scan->at++;
    size_t first = scan->at;
    if (!scan_digits(scan))
        return fault(scan, "unexpected character");
    if (scan->text[first] == '0' && scan->at - first > 1)
        return fault(scan, "a number with a leading zero");
    if (next_is(scan, '.')) {
        integer = false;
        scan->at++;
        if (!scan_digits(scan))
            return fault(scan, "a number without digits after the point");
    }
    if (next_is(scan, 'e') || next_is(scan, 'E')) {
        integer = false;
        scan->at++;
        if (next_is(scan, '+') || next_is(scan, '-'))
            scan->at++;
        if (!scan_digits(scan))
            return fault(scan, "a number without digits in its exponent");
    }
    if (scan->at - begin > 60) /* cJSON copies numbers into 64 bytes */
        return fault(scan, "a number of more than 60 characters");
    if (!make_room((void **)&scan->numbers, scan->number_count, &scan->number_capacity,
                   sizeof *scan->numbers))
        return error_set(scan->err, STATUS_NO_MEMORY, "no memory to parse JSON");
    struct json_scan_number *number = &scan->numbers[scan->number_count++];
    *number = (struct json_scan_number){0};
    number->is_integer = integer && exact_integer(scan->text, begin, scan->at, &number->integer);
    return STATUS_OK;
}

static enum status scan_literal(struct json_scan *scan, const char *literal)
{
    size_t length = strlen(literal);
    if (scan->bytes - scan->at < length || memcmp(scan->text + scan->at, literal, length) != 0)
        return fault(scan, "unexpected character");
    scan->at += length;
    return STATUS_OK;
}

static enum status scan_value(struct json_scan *scan, int depth);

/* One member of a container; objects have a key before it. */
static enum status scan_member(struct json_scan *scan, bool object, int depth)
{
    if (object) {
        enum status status = scan_string(scan);
        if (status != STATUS_OK)
            return status;
        skip_space(scan);
        if (!next_is(scan, ':'))
            return fault(scan, "expected ':'");
        scan->at++;
    }
    return scan_value(scan, depth);
}

static enum status scan_container(struct json_scan *scan, char close, int depth)
{
    if (depth >= scan->limits.max_depth)
        return fault(scan, "nesting too deep");
    scan->at++;
    skip_space(scan);
    if (next_is(scan, close)) {
        scan->at++;
        return STATUS_OK;
    }
    for (;;) {
        skip_space(scan);
        enum status status = scan_member(scan, close == '}', depth + 1);
        if (status != STATUS_OK)
            return status;
        skip_space(scan);
        if (next_is(scan, close)) {
            scan->at++;
            return STATUS_OK;
        }
        if (!next_is(scan, ','))
            return fault(scan, "expected ',' or the end of the container");
        scan->at++;
    }
}

static enum status scan_value(struct json_scan *scan, int depth)
{
    skip_space(scan);
    if (scan->at >= scan->bytes)
        return fault(scan, "unexpected end");
    scan->value_count++;
    switch (scan->text[scan->at]) {
    case '{':
        return scan_container(scan, '}', depth);
    case '[':
        return scan_container(scan, ']', depth);
    case '"':
        return scan_string(scan);
    case 't':
        return scan_literal(scan, "true");
    case 'f':
        return scan_literal(scan, "false");
    case 'n':
        return scan_literal(scan, "null");
    default:
        return scan_number(scan);
    }
}

enum status json_scan_run(struct json_scan *scan)
{
    enum status status = scan_value(scan, 0);
    if (status != STATUS_OK)
        return status;
    skip_space(scan);
    return scan->at == scan->bytes ? STATUS_OK : fault(scan, "text after the end");
}

void json_scan_release(struct json_scan *scan)
{
    free(scan->numbers);
    free(scan->nul_strings);
}

static size_t put_utf8(unsigned code, char *out)
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (char)(0xC0 | code >> 6);
        out[1] = (char)(0x80 | (code & 0x3F));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (char)(0xE0 | code >> 12);
        out[1] = (char)(0x80 | ((code >> 6) & 0x3F));
        out[2] = (char)(0x80 | (code & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | code >> 18);
    out[1] = (char)(0x80 | ((code >> 12) & 0x3F));
    out[2] = (char)(0x80 | ((code >> 6) & 0x3F));
    out[3] = (char)(0x80 | (code & 0x3F));
    return 4;
}

size_t json_scan_decode(const char *text, size_t begin, size_t end, char *out)
{
    static const char from[] = "\"\\/bfnrt";
    static const char to[] = "\"\\/\b\f\n\r\t";
    size_t count = 0;
    for (size_t i = begin; i < end;) {
        if (text[i] != '\\') {
            out[count++] = text[i++];
            continue;
        }
        if (text[i + 1] != 'u') {
            out[count++] = to[strchr(from, text[i + 1]) - from];
            i += 2;
            continue;
        }
        unsigned code = (unsigned)hex4(text, i + 2, end);
        i += 6;
        if (code >= 0xD800 && code <= 0xDBFF) {
            code = 0x10000 + ((code - 0xD800) << 10) + ((unsigned)hex4(text, i + 2, end) - 0xDC00);
            i += 6;
        }
        count += put_utf8(code, out + count);
    }
    return count;
}
