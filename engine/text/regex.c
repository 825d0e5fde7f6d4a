// SPDX-License-Identifier: Apache-2.0
// pcre2 behind engine/text/regex.h. Compiled once with JIT; a search is bounded in steps and heap, so that no
// text can stall an intake thread. Where the JIT's own stack does not reach, the interpreter runs the search.
#define PCRE2_CODE_UNIT_WIDTH 8
#include "engine/text/regex.h"

#include <pcre2.h>
#include <stdlib.h>

#define REGEX_MAX_HEAP_KIB 65536

struct regex {
    pcre2_code *code;
};

struct regex_scratch {
    pcre2_match_data *match;
    pcre2_match_context *limits;
};

static enum status compile(struct regex *regex, const struct bytes *pattern, struct error *err)
{
    int code;
    PCRE2_SIZE at;
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (!context)
        return error_set(err, STATUS_NO_MEMORY, "no memory for a regular expression");
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    regex->code =
        pcre2_compile((PCRE2_SPTR)pattern->data, pattern->count_bytes,
                      PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &code, &at, context);
    pcre2_compile_context_free(context);
    if (!regex->code) {
        PCRE2_UCHAR text[256];
        pcre2_get_error_message(code, text, sizeof text);
        if (code == PCRE2_ERROR_HEAP_FAILED)
            return error_set(err, STATUS_NO_MEMORY, "no memory for a regular expression");
        return error_set(err, STATUS_INVALID, "regular expression \"%.200s\": %s (byte %zu)", pattern->data,
                         (const char *)text, (size_t)at);
    }
    (void)pcre2_jit_compile(regex->code, PCRE2_JIT_COMPLETE); /* without JIT the interpreter serves */
    return STATUS_OK;
}

enum status regex_open(struct regex **out, const char *pattern, size_t bytes, struct error *err)
{
    struct bytes translated;
    *out = NULL;
    if (bytes > REGEX_MAX_PATTERN_BYTES)
        return error_set(err, STATUS_TOO_LARGE, "a regular expression of %zu bytes is over the limit of %d",
                         bytes, REGEX_MAX_PATTERN_BYTES);
    bytes_init(&translated, (size_t)REGEX_MAX_PATTERN_BYTES * 64);
    struct regex *regex = calloc(1, sizeof *regex);
    enum status status = regex ? regex_translate(pattern, bytes, &translated, err)
                               : error_set(err, STATUS_NO_MEMORY, "no memory for a regular expression");
    if (status == STATUS_OK)
        status = compile(regex, &translated, err);
    bytes_release(&translated);
    if (status != STATUS_OK) {
        regex_close(regex);
        return status;
    }
    *out = regex;
    return STATUS_OK;
}

void regex_close(struct regex *regex)
{
    if (!regex)
        return;
    pcre2_code_free(regex->code);
    free(regex);
}

enum status regex_scratch_open(struct regex_scratch **out, struct error *err)
{
    struct regex_scratch *scratch = calloc(1, sizeof *scratch);
    *out = scratch;
    if (scratch) {
        scratch->match = pcre2_match_data_create(1, NULL);
        scratch->limits = pcre2_match_context_create(NULL);
    }
    if (!scratch || !scratch->match || !scratch->limits) {
        regex_scratch_close(scratch);
        *out = NULL;
        return error_set(err, STATUS_NO_MEMORY, "no memory to match a regular expression");
    }
    pcre2_set_match_limit(scratch->limits, REGEX_MAX_STEPS);
    pcre2_set_heap_limit(scratch->limits, REGEX_MAX_HEAP_KIB);
    return STATUS_OK;
}

void regex_scratch_close(struct regex_scratch *scratch)
{
    if (!scratch)
        return;
    pcre2_match_data_free(scratch->match);
    pcre2_match_context_free(scratch->limits);
    free(scratch);
}

enum status regex_find(const struct regex *regex, struct regex_scratch *scratch, const char *text,
                       size_t bytes, size_t from, struct regex_hit *hit)
{
    const uint32_t checked = PCRE2_NO_UTF_CHECK; /* the caller has checked the whole text once */
    int count =
        pcre2_match(regex->code, (PCRE2_SPTR)text, bytes, from, checked, scratch->match, scratch->limits);
    if (count == PCRE2_ERROR_JIT_STACKLIMIT)
        count = pcre2_match(regex->code, (PCRE2_SPTR)text, bytes, from, checked | PCRE2_NO_JIT,
                            scratch->match, scratch->limits);
    *hit = (struct regex_hit){0};
    if (count == PCRE2_ERROR_NOMATCH)
        return STATUS_OK;
    if (count < 0)
        return count == PCRE2_ERROR_NOMEMORY ? STATUS_NO_MEMORY : STATUS_INVALID;
    const PCRE2_SIZE *range = pcre2_get_ovector_pointer(scratch->match);
    *hit = (struct regex_hit){.found = range[1] >= range[0], .begin = range[0], .end = range[1]};
    return STATUS_OK;
}
