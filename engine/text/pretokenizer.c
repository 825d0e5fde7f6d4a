// SPDX-License-Identifier: Apache-2.0
// Three kinds of stage serve every type of the file: a split by a pattern with a behavior, Metaspace, and
// ByteLevel. Semantics: Hugging Face `tokenizers`, pre_tokenizers and NormalizedString::split.
#include "engine/text/pretokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "engine/text/pattern.h"
#include "engine/text/unicode.h"

#define GPT2_PATTERN "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
/* \w of UTS 18, which Whitespace uses, spelt out: that of Split patterns differs a little. */
#define WORD_CLASS "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\u200c\\u200d"
#define WORD_PATTERN "[" WORD_CLASS "]+|[^" WORD_CLASS "\\s]+"

enum stage_kind { STAGE_SPLIT, STAGE_METASPACE, STAGE_BYTES };
enum behavior { REMOVED, ISOLATED, MERGED_WITH_PREVIOUS, MERGED_WITH_NEXT, CONTIGUOUS };
enum prepend_scheme { PREPEND_ALWAYS, PREPEND_FIRST, PREPEND_NEVER };

struct stage {
    enum stage_kind kind;
    struct pattern pattern; /* SPLIT; METASPACE: the replacement */
    enum behavior behavior;
    bool inverted;
    enum prepend_scheme scheme; /* METASPACE, BYTES (always or never, a blank) */
};

struct pretokenizer {
    struct stage stages[PRETOKENIZER_MAX_STAGES];
    size_t count;
};

static enum status read_behavior(struct stage *stage, const char *name, struct error *err)
{
    static const char *const names[][2] = {
        [REMOVED] = {"Removed", "removed"},
        [ISOLATED] = {"Isolated", "isolated"},
        [MERGED_WITH_PREVIOUS] = {"MergedWithPrevious", "merged_with_previous"},
        [MERGED_WITH_NEXT] = {"MergedWithNext", "merged_with_next"},
        [CONTIGUOUS] = {"Contiguous", "contiguous"}};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(name, names[i][0]) == 0 || strcmp(name, names[i][1]) == 0) {
            stage->behavior = (enum behavior)i;
            return STATUS_OK;
        }
    return error_set(err, STATUS_UNSUPPORTED, "pre_tokenizer behavior %.40s is not supported", name);
}

static enum status new_stage(struct pretokenizer *p, enum stage_kind kind, struct stage **out,
                             struct error *err)
{
    if (p->count == PRETOKENIZER_MAX_STAGES)
        return error_set(err, STATUS_TOO_LARGE, "more than %d pre_tokenizers", PRETOKENIZER_MAX_STAGES);
    *out = &p->stages[p->count++];
    **out = (struct stage){.kind = kind, .behavior = ISOLATED, .scheme = PREPEND_NEVER};
    return STATUS_OK;
}

static enum status add_class(struct pretokenizer *p, bool (*is_member)(uint32_t), enum behavior behavior,
                             struct error *err)
{
    struct stage *stage = NULL;
    enum status status = new_stage(p, STAGE_SPLIT, &stage, err);
    if (status == STATUS_OK) {
        stage->pattern.is_member = is_member;
        stage->behavior = behavior;
    }
    return status;
}

static enum status add_regex(struct pretokenizer *p, const char *regex, bool inverted, struct error *err)
{
    struct stage *stage = NULL;
    enum status status = new_stage(p, STAGE_SPLIT, &stage, err);
    if (status != STATUS_OK)
        return status;
    stage->inverted = inverted;
    stage->behavior = inverted ? REMOVED : ISOLATED;
    return pattern_init_regex(&stage->pattern, regex, err);
}

static enum status add_split(struct pretokenizer *p, const struct json *node, struct error *err)
{
    struct stage *stage = NULL;
    enum status status = new_stage(p, STAGE_SPLIT, &stage, err);
    if (status == STATUS_OK)
        status = read_behavior(stage, json_string_or(json_member(node, "behavior"), "(none)"), err);
    if (status != STATUS_OK)
        return status;
    stage->inverted = json_bool_or(json_member(node, "invert"), false);
    return pattern_init(&stage->pattern, json_member(node, "pattern"), err);
}

static enum status add_bytes(struct pretokenizer *p, const struct json *node, struct error *err)
{
    struct stage *stage = NULL;
    enum status status = new_stage(p, STAGE_BYTES, &stage, err);
    if (status != STATUS_OK)
        return status;
    stage->scheme =
        json_bool_or(json_member(node, "add_prefix_space"), true) ? PREPEND_ALWAYS : PREPEND_NEVER;
    stage->behavior = ISOLATED;
    return json_bool_or(json_member(node, "use_regex"), true)
               ? pattern_init_regex(&stage->pattern, GPT2_PATTERN, err)
               : STATUS_OK;
}

static enum status read_scheme(struct stage *stage, const struct json *node, struct error *err)
{
    const char *scheme = json_string_or(json_member(node, "prepend_scheme"), NULL);
    if (!scheme)
        scheme = json_bool_or(json_member(node, "add_prefix_space"), true) ? "always" : "never";
    stage->scheme = strcmp(scheme, "always") == 0  ? PREPEND_ALWAYS
                    : strcmp(scheme, "first") == 0 ? PREPEND_FIRST
                                                   : PREPEND_NEVER;
    return stage->scheme == PREPEND_NEVER && strcmp(scheme, "never") != 0
               ? error_set(err, STATUS_UNSUPPORTED, "Metaspace prepend_scheme %.40s is not supported", scheme)
               : STATUS_OK;
}

static enum status add_metaspace(struct pretokenizer *p, const struct json *node, struct error *err)
{
    struct stage *stage = NULL;
    const char *replacement = json_string_or(json_member(node, "replacement"), "\xE2\x96\x81");
    enum status status = new_stage(p, STAGE_METASPACE, &stage, err);
    if (status == STATUS_OK)
        status = read_scheme(stage, node, err);
    if (status != STATUS_OK)
        return status;
    stage->behavior = json_bool_or(json_member(node, "split"), true) ? MERGED_WITH_NEXT : ISOLATED;
    return pattern_init_literal(&stage->pattern, replacement, strlen(replacement), err);
}

static enum status add_delimiter(struct pretokenizer *p, const struct json *node, struct error *err)
{
    const struct json *delimiter = json_member(node, "delimiter");
    struct stage *stage = NULL;
    if (!delimiter || delimiter->type != JSON_STRING || delimiter->count == 0)
        return error_set(err, STATUS_INVALID, "CharDelimiterSplit needs a \"delimiter\"");
    enum status status = new_stage(p, STAGE_SPLIT, &stage, err);
    if (status != STATUS_OK)
        return status;
    stage->behavior = REMOVED;
    return pattern_init_literal(&stage->pattern, delimiter->as.string, delimiter->count, err);
}

static enum status add_punctuation(struct pretokenizer *p, const struct json *node, struct error *err)
{
    enum status status = add_class(p, unicode_is_punctuation, ISOLATED, err);
    const char *behavior = json_string_or(json_member(node, "behavior"), NULL);
    return status == STATUS_OK && behavior ? read_behavior(&p->stages[p->count - 1], behavior, err) : status;
}

static enum status add_digits(struct pretokenizer *p, const struct json *node, struct error *err)
{
    const bool one_by_one = json_bool_or(json_member(node, "individual_digits"), false);
    return add_class(p, unicode_is_numeric, one_by_one ? ISOLATED : CONTIGUOUS, err);
}

static enum status add_whitespace(struct pretokenizer *p, const struct json *node, struct error *err)
{
    (void)node;
    return add_regex(p, WORD_PATTERN, true, err);
}

static enum status add_whitespace_split(struct pretokenizer *p, const struct json *node, struct error *err)
{
    (void)node;
    return add_class(p, unicode_is_space, REMOVED, err);
}

static enum status add_bert(struct pretokenizer *p, const struct json *node, struct error *err)
{
    enum status status = add_whitespace_split(p, node, err);
    return status == STATUS_OK ? add_class(p, unicode_is_punctuation, ISOLATED, err) : status;
}

static enum status add_stages(struct pretokenizer *p, const struct json *node, int depth, struct error *err)
{
    static const struct {
        const char *type;
        enum status (*add)(struct pretokenizer *, const struct json *, struct error *);
    } types[] = {{"Split", add_split},
                 {"ByteLevel", add_bytes},
                 {"Metaspace", add_metaspace},
                 {"Digits", add_digits},
                 {"Punctuation", add_punctuation},
                 {"Whitespace", add_whitespace},
                 {"WhitespaceSplit", add_whitespace_split},
                 {"CharDelimiterSplit", add_delimiter},
                 {"BertPreTokenizer", add_bert}};
    const char *type = json_string_or(json_member(node, "type"), NULL);
    if (!type || depth > 8)
        return error_set(err, STATUS_INVALID, "a pre_tokenizer has no type or is nested too deep");
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (strcmp(type, types[i].type) == 0)
            return types[i].add(p, node, err);
    const struct json *list = json_member(node, "pretokenizers");
    if (strcmp(type, "Sequence") != 0 || !list || list->type != JSON_ARRAY)
        return error_set(err, STATUS_UNSUPPORTED, "pre_tokenizer type %.60s is not supported", type);
    enum status status = STATUS_OK;
    for (size_t i = 0; i < list->count && status == STATUS_OK; i++)
        status = add_stages(p, &list->as.items[i], depth + 1, err);
    return status;
}

enum status pretokenizer_open(struct pretokenizer **out, const struct json *node, struct error *err)
{
    *out = NULL;
    if (!node || node->type == JSON_NULL)
        return STATUS_OK;
    struct pretokenizer *p = calloc(1, sizeof *p);
    if (!p)
        return error_set(err, STATUS_NO_MEMORY, "no memory for a pre_tokenizer");
    enum status status = add_stages(p, node, 0, err);
    if (status != STATUS_OK) {
        pretokenizer_close(p);
        return status;
    }
    *out = p;
    return STATUS_OK;
}

void pretokenizer_close(struct pretokenizer *pretokenizer)
{
    if (!pretokenizer)
        return;
    for (size_t i = 0; i < pretokenizer->count; i++)
        pattern_release(&pretokenizer->stages[i].pattern);
    free(pretokenizer);
}

bool pretokenizer_ends_in_bytes(const struct pretokenizer *p)
{
    return p && p->count && p->stages[p->count - 1].kind == STAGE_BYTES;
}

/* A split in progress: parts arrive in order, each a hit or what lies between hits, and are joined as the
 * behavior says before they go out. */
struct splitter {
    const struct stage *stage;
    const struct text_span *span;
    struct span_list *out;
    size_t open_begin, open_end; /* the part that may still grow; empty: none */
    bool open_is_hit, has_open;
};

static enum status put_open(struct splitter *s)
{
    if (!s->has_open)
        return STATUS_OK;
    s->has_open = false;
    return span_list_push(s->out, (struct text_span){.text = s->span->text + s->open_begin,
                                                     .bytes = s->open_end - s->open_begin,
                                                     .at_start = s->span->at_start && s->open_begin == 0});
}

static bool joins(const struct splitter *s, bool is_hit)
{
    switch (s->stage->behavior) {
    case CONTIGUOUS:
        return s->open_is_hit == is_hit;
    case MERGED_WITH_PREVIOUS:
        return is_hit && !s->open_is_hit;
    case MERGED_WITH_NEXT:
        return !is_hit && s->open_is_hit;
    case REMOVED:
    case ISOLATED:
        break;
    }
    return false;
}

static enum status put_part(struct splitter *s, size_t begin, size_t end, bool is_hit)
{
    is_hit = is_hit != s->stage->inverted;
    if (s->has_open && joins(s, is_hit)) {
        s->open_end = end;
        s->open_is_hit = s->stage->behavior == MERGED_WITH_NEXT ? false : is_hit;
        return STATUS_OK;
    }
    enum status status = put_open(s);
    if (s->stage->behavior == REMOVED && is_hit)
        return status;
    s->has_open = true;
    s->open_begin = begin;
    s->open_end = end;
    s->open_is_hit = is_hit;
    return status;
}

static enum status split(const struct stage *stage, struct text_scratch *scratch,
                         const struct text_span *span)
{
    struct splitter s = {.stage = stage, .span = span, .out = &scratch->next_pieces};
    size_t from = 0, copied = 0;
    enum status status = STATUS_OK;
    while (from < span->bytes && status == STATUS_OK) {
        struct regex_hit hit;
        status = pattern_find(&stage->pattern, scratch->regex, span, from, &hit);
        if (status != STATUS_OK || !hit.found)
            break;
        if (hit.begin > copied)
            status = put_part(&s, copied, hit.begin, false);
        if (status == STATUS_OK)
            status = put_part(&s, hit.begin, hit.end, true);
        copied = from = hit.end;
        if (hit.end == hit.begin && hit.end < span->bytes) {
            uint32_t c;
            from += unicode_decode(span->text + hit.end, span->bytes - hit.end, &c);
        }
    }
    if (status == STATUS_OK && copied < span->bytes)
        status = put_part(&s, copied, span->bytes, false);
    return status == STATUS_OK ? put_open(&s) : status;
}

static bool begins_with(const struct text_span *span, const char *text, size_t bytes)
{
    return span->bytes >= bytes && memcmp(span->text, text, bytes) == 0;
}

/* Room in the arena, not yet shared by anyone. */
static enum status take_room(struct text_scratch *scratch, size_t bytes, char **out)
{
    if (bytes > scratch->room_bytes)
        return STATUS_TOO_LARGE;
    scratch->room_bytes -= bytes;
    *out = arena_alloc(&scratch->arena, bytes);
    return *out ? STATUS_OK : STATUS_NO_MEMORY;
}

static enum status metaspace(const struct stage *stage, struct text_scratch *scratch, struct text_span span)
{
    const char *mark = stage->pattern.literal;
    const size_t mark_bytes = stage->pattern.literal_bytes;
    const bool wanted = stage->scheme == PREPEND_ALWAYS || (stage->scheme == PREPEND_FIRST && span.at_start);
    const bool marked = begins_with(&span, mark, mark_bytes) || span.text[0] == ' ';
    char *text;
    size_t count = 0;
    enum status status = take_room(scratch, (span.bytes + 1) * mark_bytes + span.bytes, &text);
    if (status != STATUS_OK)
        return status;
    if (wanted && !marked) {
        memcpy(text, mark, mark_bytes);
        count = mark_bytes;
    }
    for (size_t i = 0; i < span.bytes; i++)
        if (span.text[i] == ' ') {
            memcpy(text + count, mark, mark_bytes);
            count += mark_bytes;
        } else {
            text[count++] = span.text[i];
        }
    span.text = text;
    span.bytes = count;
    return stage->behavior == MERGED_WITH_NEXT ? split(stage, scratch, &span)
                                               : span_list_push(&scratch->next_pieces, span);
}

static enum status to_alphabet(struct text_scratch *scratch, struct text_span *span)
{
    char *text;
    size_t count = 0;
    enum status status = take_room(scratch, span->bytes * 2 + 1, &text);
    if (status != STATUS_OK)
        return status;
    for (size_t i = 0; i < span->bytes; i++)
        count += unicode_encode(unicode_from_byte((uint8_t)span->text[i]), text + count);
    span->text = text;
    span->bytes = count;
    return STATUS_OK;
}

static enum status byte_level(const struct stage *stage, struct text_scratch *scratch, struct text_span span,
                              bool raw)
{
    struct span_list *out = &scratch->next_pieces;
    enum status status = STATUS_OK;
    if (stage->scheme == PREPEND_ALWAYS && span.text[0] != ' ') {
        char *text;
        status = take_room(scratch, span.bytes + 1, &text);
        if (status != STATUS_OK)
            return status;
        text[0] = ' ';
        memcpy(text + 1, span.text, span.bytes);
        span.text = text;
        span.bytes++;
    }
    size_t first = out->count;
    status = stage->pattern.regex ? split(stage, scratch, &span) : span_list_push(out, span);
    for (size_t i = first; i < out->count && status == STATUS_OK && !raw; i++)
        status = to_alphabet(scratch, &out->spans[i]);
    return status;
}

static enum status run_stage(const struct stage *stage, struct text_scratch *scratch, bool raw)
{
    enum status status = STATUS_OK;
    scratch->next_pieces.count = 0;
    for (size_t i = 0; i < scratch->pieces.count && status == STATUS_OK; i++) {
        const struct text_span *span = &scratch->pieces.spans[i];
        status = stage->kind == STAGE_SPLIT       ? split(stage, scratch, span)
                 : stage->kind == STAGE_METASPACE ? metaspace(stage, scratch, *span)
                                                  : byte_level(stage, scratch, *span, raw);
    }
    struct span_list swap = scratch->pieces;
    scratch->pieces = scratch->next_pieces;
    scratch->next_pieces = swap;
    return status;
}

enum status pretokenizer_run(const struct pretokenizer *p, struct text_scratch *scratch, bool raw_bytes,
                             struct error *err)
{
    enum status status = STATUS_OK;
    for (size_t i = 0; p && i < p->count && status == STATUS_OK; i++) {
        const bool identity = raw_bytes && i + 1 == p->count && !p->stages[i].pattern.regex &&
                              p->stages[i].scheme == PREPEND_NEVER;
        if (!identity)
            status = run_stage(&p->stages[i], scratch, raw_bytes && i + 1 == p->count);
    }
    if (status == STATUS_INVALID)
        return error_set(err, status,
                         "a regular expression of the tokenizer needs too many steps on this text");
    if (status == STATUS_TOO_LARGE)
        return error_set(err, status, "the tokenizer's pre_tokenizer makes this text far too long");
    return status == STATUS_OK ? STATUS_OK : error_set(err, status, "no memory to encode the text");
}
