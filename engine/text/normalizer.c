// SPDX-License-Identifier: Apache-2.0
// Steps in the order of the file; sequences inside sequences are flattened. A step that would change nothing
// (ASCII in NFC, no match of a replacement) copies nothing. Semantics: Hugging Face `tokenizers`,
// normalizers.
#include "engine/text/normalizer.h"

#include <stdlib.h>
#include <string.h>

#include "engine/text/charsmap.h"
#include "engine/text/pattern.h"
#include "engine/text/unicode.h"

enum step_kind {
    STEP_FORM,
    STEP_LOWER,
    STEP_STRIP,
    STEP_STRIP_MARKS,
    STEP_PREPEND,
    STEP_REPLACE,
    STEP_NMT,
    STEP_CHARSMAP,
    STEP_BYTES
};

struct step {
    enum step_kind kind;
    enum unicode_form form;
    bool left, right;       /* STRIP */
    struct pattern pattern; /* REPLACE; PREPEND keeps its text in pattern.literal */
    struct pattern content; /* REPLACE: the literal to put in */
    struct charsmap *charsmap;
};

struct normalizer {
    struct step steps[NORMALIZER_MAX_STEPS];
    size_t count;
};

static enum status read_form(struct step *step, const char *type)
{
    static const char *const names[] = {
        [UNICODE_NFC] = "NFC", [UNICODE_NFD] = "NFD", [UNICODE_NFKC] = "NFKC", [UNICODE_NFKD] = "NFKD"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(type, names[i]) == 0) {
            step->kind = STEP_FORM;
            step->form = (enum unicode_form)i;
            return STATUS_OK;
        }
    return STATUS_NOT_FOUND;
}

static enum status read_simple(struct step *step, const char *type, const struct json *node)
{
    static const struct {
        const char *type;
        enum step_kind kind;
    } kinds[] = {{"Lowercase", STEP_LOWER},
                 {"StripAccents", STEP_STRIP_MARKS},
                 {"Nmt", STEP_NMT},
                 {"ByteLevel", STEP_BYTES},
                 {"Strip", STEP_STRIP}};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (strcmp(type, kinds[i].type) == 0) {
            step->kind = kinds[i].kind;
            step->left = json_bool_or(json_member(node, "strip_left"), true);
            step->right = json_bool_or(json_member(node, "strip_right"), true);
            return STATUS_OK;
        }
    return read_form(step, type);
}

static enum status read_replace(struct step *step, const struct json *node, struct error *err)
{
    const struct json *content = json_member(node, "content");
    step->kind = STEP_REPLACE;
    if (!content || content->type != JSON_STRING)
        return error_set(err, STATUS_INVALID, "normalizer Replace needs a string \"content\"");
    enum status status = pattern_init(&step->pattern, json_member(node, "pattern"), err);
    return status == STATUS_OK ? pattern_init_literal(&step->content, content->as.string, content->count, err)
                               : status;
}

static enum status add_steps(struct normalizer *normalizer, const struct json *node, int depth,
                             struct error *err);

static enum status add_sequence(struct normalizer *normalizer, const struct json *node, int depth,
                                struct error *err)
{
    const struct json *list = json_member(node, "normalizers");
    if (!list || list->type != JSON_ARRAY || depth > 8)
        return error_set(err, STATUS_INVALID, "normalizer Sequence needs a list \"normalizers\"");
    for (size_t i = 0; i < list->count; i++) {
        enum status status = add_steps(normalizer, &list->as.items[i], depth + 1, err);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

static enum status add_steps(struct normalizer *normalizer, const struct json *node, int depth,
                             struct error *err)
{
    const char *type = json_string_or(json_member(node, "type"), NULL);
    if (!type)
        return error_set(err, STATUS_INVALID, "a normalizer has no type");
    if (strcmp(type, "Sequence") == 0)
        return add_sequence(normalizer, node, depth, err);
    if (normalizer->count == NORMALIZER_MAX_STEPS)
        return error_set(err, STATUS_TOO_LARGE, "more than %d normalizers", NORMALIZER_MAX_STEPS);
    struct step *step = &normalizer->steps[normalizer->count++];
    if (strcmp(type, "Replace") == 0)
        return read_replace(step, node, err);
    if (strcmp(type, "Prepend") == 0) {
        const struct json *text = json_member(node, "prepend");
        step->kind = STEP_PREPEND;
        return pattern_init_literal(&step->pattern, json_string_or(text, ""),
                                    text && text->type == JSON_STRING ? text->count : 0, err);
    }
    if (strcmp(type, "Precompiled") == 0) {
        step->kind = STEP_CHARSMAP;
        return charsmap_open(&step->charsmap, json_member(node, "precompiled_charsmap"), err);
    }
    if (read_simple(step, type, node) == STATUS_OK)
        return STATUS_OK;
    return error_set(err, STATUS_UNSUPPORTED, "normalizer type %.60s is not supported", type);
}

enum status normalizer_open(struct normalizer **out, const struct json *node, struct error *err)
{
    *out = NULL;
    if (!node || node->type == JSON_NULL)
        return STATUS_OK;
    struct normalizer *normalizer = calloc(1, sizeof *normalizer);
    if (!normalizer)
        return error_set(err, STATUS_NO_MEMORY, "no memory for a normalizer");
    enum status status = add_steps(normalizer, node, 0, err);
    if (status != STATUS_OK) {
        normalizer_close(normalizer);
        return status;
    }
    *out = normalizer;
    return STATUS_OK;
}

void normalizer_close(struct normalizer *normalizer)
{
    if (!normalizer)
        return;
    for (size_t i = 0; i < normalizer->count; i++) {
        pattern_release(&normalizer->steps[i].pattern);
        pattern_release(&normalizer->steps[i].content);
        charsmap_close(normalizer->steps[i].charsmap);
    }
    free(normalizer);
}

static void strip(const struct step *step, struct text_span *span)
{
    uint32_t c;
    while (step->left && span->bytes) {
        const size_t length = unicode_decode(span->text, span->bytes, &c);
        if (!unicode_is_space(c))
            break;
        span->text += length;
        span->bytes -= length;
        span->at_start = false;
    }
    while (step->right && span->bytes) {
        const size_t at = unicode_last(span->text, span->bytes);
        unicode_decode(span->text + at, span->bytes - at, &c);
        if (!unicode_is_space(c))
            break;
        span->bytes = at;
    }
}

static enum status replace(const struct step *step, struct text_scratch *scratch,
                           const struct text_span *span, struct bytes *out)
{
    size_t from = 0, copied = 0;
    while (from <= span->bytes) {
        struct regex_hit hit;
        enum status status = pattern_find(&step->pattern, scratch->regex, span, from, &hit);
        if (status != STATUS_OK)
            return status;
        if (!hit.found)
            break;
        bytes_append(out, span->text + copied, hit.begin - copied);
        bytes_append(out, step->content.literal, step->content.literal_bytes);
        copied = hit.end;
        uint32_t c;
        from = hit.end > hit.begin ? hit.end
               : hit.end >= span->bytes
                   ? span->bytes + 1
                   : hit.end + unicode_decode(span->text + hit.end, span->bytes - hit.end, &c);
    }
    return bytes_append(out, span->text + copied, span->bytes - copied);
}

/* What SentencePiece's nmt rules make of a character: itself, a space, or nothing. */
static uint32_t nmt(uint32_t c)
{
    if ((c >= 0x01 && c <= 0x08) || c == 0x0B || (c >= 0x0E && c <= 0x1F) || c == 0x7F || c == 0x8F ||
        c == 0x9F)
        return 0;
    const bool blank = c == 0x09 || c == 0x0A || c == 0x0C || c == 0x0D || c == 0x1680 ||
                       (c >= 0x200B && c <= 0x200F) || c == 0x2028 || c == 0x2029 || c == 0x2581 ||
                       c == 0xFEFF || c == 0xFFFD;
    return blank ? ' ' : c;
}

/* Marks younger than Unicode 9, whose tables Hugging Face's StripAccents has: it leaves them standing. */
static bool is_young_mark(uint32_t c)
{
    static const uint32_t ranges[][2] = {
        {0x7FD, 0x7FD},     {0x898, 0x89F},     {0x8CA, 0x8D3},     {0x9FE, 0x9FE},     {0xAFA, 0xAFF},
        {0xB55, 0xB55},     {0xC04, 0xC04},     {0xC3C, 0xC3C},     {0xD00, 0xD00},     {0xD3B, 0xD3C},
        {0xD81, 0xD81},     {0xEBA, 0xEBA},     {0x1715, 0x1715},   {0x180F, 0x180F},   {0x1ABF, 0x1ACE},
        {0x1CF7, 0x1CF7},   {0x1DF6, 0x1DFA},   {0xA82C, 0xA82C},   {0xA8FF, 0xA8FF},   {0x10D24, 0x10D27},
        {0x10EAB, 0x10EAC}, {0x10F46, 0x10F50}, {0x10F82, 0x10F85}, {0x11070, 0x11070}, {0x11073, 0x11074},
        {0x110C2, 0x110C2}, {0x11145, 0x11146}, {0x111C9, 0x111C9}, {0x111CE, 0x111CF}, {0x1133B, 0x1133B},
        {0x1145E, 0x1145E}, {0x1182C, 0x1183A}, {0x11930, 0x11935}, {0x11937, 0x11938}, {0x1193B, 0x1193E},
        {0x11940, 0x11940}, {0x11942, 0x11943}, {0x119D1, 0x119D7}, {0x119DA, 0x119E0}, {0x119E4, 0x119E4},
        {0x11A01, 0x11A0A}, {0x11A33, 0x11A39}, {0x11A3B, 0x11A3E}, {0x11A47, 0x11A47}, {0x11A51, 0x11A5B},
        {0x11A8A, 0x11A99}, {0x11D31, 0x11D36}, {0x11D3A, 0x11D3A}, {0x11D3C, 0x11D3D}, {0x11D3F, 0x11D45},
        {0x11D47, 0x11D47}, {0x11D8A, 0x11D8E}, {0x11D90, 0x11D91}, {0x11D93, 0x11D97}, {0x11EF3, 0x11EF6},
        {0x16F4F, 0x16F4F}, {0x16F7F, 0x16F87}, {0x16FE4, 0x16FE4}, {0x16FF0, 0x16FF1}, {0x1CF00, 0x1CF2D},
        {0x1CF30, 0x1CF46}, {0x1E130, 0x1E136}, {0x1E2AE, 0x1E2AE}, {0x1E2EC, 0x1E2EF}};
    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0] && c >= ranges[i][0]; i++)
        if (c <= ranges[i][1])
            return true;
    return false;
}

static enum status filter(const struct step *step, const struct text_span *span, struct bytes *out)
{
    for (size_t at = 0; at < span->bytes;) {
        uint32_t c;
        char text[UNICODE_MAX_BYTES];
        at += unicode_decode(span->text + at, span->bytes - at, &c);
        const bool dropped =
            step->kind == STEP_NMT ? nmt(c) == 0 && c != 0 : unicode_is_mark(c) && !is_young_mark(c);
        if (!dropped)
            bytes_append(out, text, unicode_encode(step->kind == STEP_NMT ? nmt(c) : c, text));
    }
    return bytes_append(out, "", 0);
}

static enum status to_byte_alphabet(const struct text_span *span, struct bytes *out)
{
    for (size_t i = 0; i < span->bytes; i++) {
        char text[UNICODE_MAX_BYTES];
        bytes_append(out, text, unicode_encode(unicode_from_byte((uint8_t)span->text[i]), text));
    }
    return bytes_append(out, "", 0);
}

static enum status prepend(const struct step *step, const struct text_span *span, struct bytes *out)
{
    bytes_append(out, step->pattern.literal, step->pattern.literal_bytes);
    return bytes_append(out, span->text, span->bytes);
}

static enum status rewrite(const struct step *step, struct text_scratch *scratch,
                           const struct text_span *span, struct bytes *out)
{
    switch (step->kind) {
    case STEP_FORM:
        return unicode_normalize(step->form, span->text, span->bytes, out);
    case STEP_LOWER:
        return unicode_lower(span->text, span->bytes, out);
    case STEP_STRIP_MARKS:
    case STEP_NMT:
        return filter(step, span, out);
    case STEP_PREPEND:
        return prepend(step, span, out);
    case STEP_REPLACE:
        return replace(step, scratch, span, out);
    case STEP_CHARSMAP:
        return charsmap_apply(step->charsmap, span->text, span->bytes, out);
    case STEP_BYTES:
        return to_byte_alphabet(span, out);
    case STEP_STRIP:
        break;
    }
    UNREACHABLE();
}

enum status normalizer_apply(const struct normalizer *normalizer, struct text_scratch *scratch,
                             struct text_span *span, struct error *err)
{
    int next = 0;
    for (size_t i = 0; normalizer && i < normalizer->count && span->bytes; i++) {
        const struct step *step = &normalizer->steps[i];
        if (step->kind == STEP_STRIP) {
            strip(step, span);
            continue;
        }
        if (step->kind == STEP_FORM && unicode_is_normal(step->form, span->text, span->bytes))
            continue;
        struct bytes *out = &scratch->normal[next];
        bytes_reset(out);
        enum status status = rewrite(step, scratch, span, out);
        if (status == STATUS_OK && out->failed)
            status = out->count_bytes < TEXT_SCRATCH_SLACK_BYTES ? STATUS_NO_MEMORY : STATUS_TOO_LARGE;
        if (status != STATUS_OK)
            return error_set(err, status, "the text could not be normalized: %s",
                             status == STATUS_INVALID ? "it takes too many steps" : status_text(status));
        span->text = out->data;
        span->bytes = out->count_bytes;
        next = !next;
    }
    return STATUS_OK;
}
