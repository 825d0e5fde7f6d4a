// SPDX-License-Identifier: Apache-2.0
// A decoder is a list of operations on single tokens, at most one of {byte level, byte fallback} that looks
// across tokens, and a strip of the whole text. An order outside that shape is refused by name. Pieces are
// computed once, at open. Semantics: Hugging Face `tokenizers`, decoders.
#include "engine/text/decoder.h"

#include <stdlib.h>
#include <string.h>

#include "engine/text/pattern.h"
#include "engine/text/text_scratch.h"
#include "engine/text/unicode.h"
#include "engine/text/vocab.h"

enum op_kind { OP_REPLACE, OP_STRIP, OP_METASPACE, OP_WORD_END };

struct op {
    enum op_kind kind;
    struct pattern pattern; /* what to replace; METASPACE: its mark; WORD_END: the suffix */
    struct pattern content; /* REPLACE: what to put; STRIP: the character */
    size_t start, stop;     /* STRIP */
    bool drops_first;       /* METASPACE: marks of the first token vanish */
};

struct decoder {
    struct op ops[DECODER_MAX_OPS];
    size_t op_count;
    bool joins_with_blanks; /* no decoder at all */
    bool byte_level, byte_fallback, fused;
    char strip_text[UNICODE_MAX_BYTES + 1]; /* of the whole text; "" none */
    size_t strip_start;
    struct vocab pieces;
    struct vocab contents; /* only when the first token is decoded otherwise than the rest */
    bool first_differs;
};

static enum status new_op(struct decoder *d, enum op_kind kind, struct op **out, struct error *err)
{
    if (d->byte_level || d->byte_fallback || d->fused)
        return error_set(err, STATUS_UNSUPPORTED,
                         "a decoder on tokens after ByteLevel, ByteFallback or Fuse is not supported");
    if (d->op_count == DECODER_MAX_OPS)
        return error_set(err, STATUS_TOO_LARGE, "more than %d decoders", DECODER_MAX_OPS);
    *out = &d->ops[d->op_count++];
    (*out)->kind = kind;
    return STATUS_OK;
}

static enum status add_replace(struct decoder *d, const struct json *node, struct error *err)
{
    struct op *op = NULL;
    const struct json *content = json_member(node, "content");
    if (!content || content->type != JSON_STRING)
        return error_set(err, STATUS_INVALID, "decoder Replace needs a string \"content\"");
    enum status status = new_op(d, OP_REPLACE, &op, err);
    if (status == STATUS_OK)
        status = pattern_init(&op->pattern, json_member(node, "pattern"), err);
    return status == STATUS_OK ? pattern_init_literal(&op->content, content->as.string, content->count, err)
                               : status;
}

static enum status add_strip(struct decoder *d, const struct json *node, struct error *err)
{
    const struct json *content = json_member(node, "content");
    const int64_t start = json_integer_or(json_member(node, "start"), 0);
    const int64_t stop = json_integer_or(json_member(node, "stop"), 0);
    struct op *op = NULL;
    if (!content || content->type != JSON_STRING || content->count == 0 ||
        content->count > UNICODE_MAX_BYTES || start < 0 || stop < 0 || start > 65536 || stop > 65536)
        return error_set(err, STATUS_INVALID, "decoder Strip needs one character and counts up to 65536");
    if (d->byte_level || d->fused) {
        if (stop || d->strip_text[0])
            return error_set(err, STATUS_UNSUPPORTED,
                             "decoder Strip: a \"stop\" after Fuse is not supported");
        memcpy(d->strip_text, content->as.string, content->count + 1);
        d->strip_start = (size_t)start;
        return STATUS_OK;
    }
    enum status status = new_op(d, OP_STRIP, &op, err);
    if (status != STATUS_OK)
        return status;
    op->start = (size_t)start;
    op->stop = (size_t)stop;
    return pattern_init_literal(&op->content, content->as.string, content->count, err);
}

static enum status add_metaspace(struct decoder *d, const struct json *node, struct error *err)
{
    struct op *op = NULL;
    const char *mark = json_string_or(json_member(node, "replacement"), "\xE2\x96\x81");
    const char *scheme = json_string_or(json_member(node, "prepend_scheme"), NULL);
    enum status status = new_op(d, OP_METASPACE, &op, err);
    if (status != STATUS_OK)
        return status;
    op->drops_first =
        scheme ? strcmp(scheme, "never") != 0 : json_bool_or(json_member(node, "add_prefix_space"), true);
    d->first_differs = d->first_differs || op->drops_first;
    return pattern_init_literal(&op->pattern, mark, strlen(mark), err);
}

static enum status add_word_end(struct decoder *d, const struct json *node, struct error *err)
{
    struct op *op = NULL;
    const char *suffix = json_string_or(json_member(node, "suffix"), "</w>");
    if (d->op_count)
        return error_set(err, STATUS_UNSUPPORTED, "decoder BPEDecoder after another one is not supported");
    enum status status = new_op(d, OP_WORD_END, &op, err);
    return status == STATUS_OK ? pattern_init_literal(&op->pattern, suffix, strlen(suffix), err) : status;
}

static enum status add_ops(struct decoder *d, const struct json *node, int depth, struct error *err);

static enum status add_sequence(struct decoder *d, const struct json *node, int depth, struct error *err)
{
    const struct json *list = json_member(node, "decoders");
    if (!list || list->type != JSON_ARRAY || depth > 8)
        return error_set(err, STATUS_INVALID, "decoder Sequence needs a list \"decoders\"");
    enum status status = STATUS_OK;
    for (size_t i = 0; i < list->count && status == STATUS_OK; i++)
        status = add_ops(d, &list->as.items[i], depth + 1, err);
    return status;
}

static enum status add_ops(struct decoder *d, const struct json *node, int depth, struct error *err)
{
    const char *type = json_string_or(json_member(node, "type"), NULL);
    if (!type)
        return error_set(err, STATUS_INVALID, "a decoder has no type");
    if (strcmp(type, "Sequence") == 0)
        return add_sequence(d, node, depth, err);
    if (strcmp(type, "Replace") == 0)
        return add_replace(d, node, err);
    if (strcmp(type, "Strip") == 0)
        return add_strip(d, node, err);
    if (strcmp(type, "Metaspace") == 0)
        return add_metaspace(d, node, err);
    if (strcmp(type, "BPEDecoder") == 0)
        return add_word_end(d, node, err);
    if (strcmp(type, "Fuse") == 0) {
        d->fused = true;
        return STATUS_OK;
    }
    const bool bytes = strcmp(type, "ByteLevel") == 0;
    if (!bytes && strcmp(type, "ByteFallback") != 0)
        return error_set(err, STATUS_UNSUPPORTED, "decoder type %.60s is not supported", type);
    if (d->byte_level || d->byte_fallback || d->fused)
        return error_set(err, STATUS_UNSUPPORTED,
                         "decoder %s after ByteLevel, ByteFallback or Fuse is not supported", type);
    *(bytes ? &d->byte_level : &d->byte_fallback) = true;
    return STATUS_OK;
}

enum status decoder_open(struct decoder **out, const struct json *node, struct error *err)
{
    struct decoder *d = calloc(1, sizeof *d);
    *out = NULL;
    if (!d)
        return error_set(err, STATUS_NO_MEMORY, "no memory for a decoder");
    enum status status = STATUS_OK;
    if (!node || node->type == JSON_NULL)
        d->joins_with_blanks = true;
    else
        status = add_ops(d, node, 0, err);
    if (status != STATUS_OK) {
        decoder_close(d);
        return status;
    }
    *out = d;
    return STATUS_OK;
}

void decoder_close(struct decoder *decoder)
{
    if (!decoder)
        return;
    for (size_t i = 0; i < decoder->op_count; i++) {
        pattern_release(&decoder->ops[i].pattern);
        pattern_release(&decoder->ops[i].content);
    }
    vocab_release(&decoder->pieces);
    vocab_release(&decoder->contents);
    free(decoder);
}

static enum status replace_all(const struct op *op, struct regex_scratch *regex, struct text_span text,
                               struct bytes *out)
{
    size_t copied = 0;
    while (copied < text.bytes) {
        struct regex_hit hit;
        enum status status = pattern_find(&op->pattern, regex, &text, copied, &hit);
        if (status != STATUS_OK)
            return status;
        if (!hit.found || hit.end == hit.begin)
            break;
        bytes_append(out, text.text + copied, hit.begin - copied);
        bytes_append(out, op->content.literal, op->content.literal_bytes);
        copied = hit.end;
    }
    return bytes_append(out, text.text + copied, text.bytes - copied);
}

static enum status strip(const struct op *op, struct text_span text, struct bytes *out)
{
    const size_t unit = op->content.literal_bytes;
    for (size_t i = 0; i < op->start && text.bytes >= unit && !memcmp(text.text, op->content.literal, unit);
         i++) {
        text.text += unit;
        text.bytes -= unit;
    }
    for (size_t i = 0; i < op->stop && text.bytes >= unit &&
                       !memcmp(text.text + text.bytes - unit, op->content.literal, unit);
         i++)
        text.bytes -= unit;
    return bytes_append(out, text.text, text.bytes);
}

/* Every occurrence of the mark becomes `with`. */
static enum status swap_mark(const struct op *op, const char *with, struct text_span text, struct bytes *out)
{
    while (text.bytes) {
        const char *mark = op->pattern.literal_bytes
                               ? memmem(text.text, text.bytes, op->pattern.literal, op->pattern.literal_bytes)
                               : NULL;
        const size_t before = mark ? (size_t)(mark - text.text) : text.bytes;
        bytes_append(out, text.text, before);
        if (mark)
            bytes_append_text(out, with);
        const size_t step = before + (mark ? op->pattern.literal_bytes : 0);
        text.text += step;
        text.bytes -= step;
    }
    return bytes_append(out, "", 0);
}

static enum status apply(const struct op *op, struct regex_scratch *regex, bool first, struct text_span text,
                         struct bytes *out)
{
    switch (op->kind) {
    case OP_REPLACE:
        return replace_all(op, regex, text, out);
    case OP_STRIP:
        return strip(op, text, out);
    case OP_METASPACE:
        return swap_mark(op, first && op->drops_first ? "" : " ", text, out);
    case OP_WORD_END:
        return swap_mark(op, " ", text, out);
    }
    UNREACHABLE();
}

/* The token's own operations, in turn; the result is in *text, held by one of the scratch buffers. */
static enum status run_ops(const struct decoder *d, struct text_scratch *scratch, bool first,
                           struct text_span *text)
{
    for (size_t i = 0; i < d->op_count; i++) {
        struct bytes *out = &scratch->normal[i % 2];
        bytes_reset(out);
        enum status status = apply(&d->ops[i], scratch->regex, first, *text, out);
        if (status != STATUS_OK || out->failed)
            return status != STATUS_OK ? status : STATUS_NO_MEMORY;
        text->text = out->data;
        text->bytes = out->count_bytes;
    }
    return STATUS_OK;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* The byte of "<0xNN>", or -1. */
static int fallback_byte(const char *text, size_t bytes)
{
    if (bytes != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>')
        return -1;
    const int high = text[3] == '+' ? 0 : hex_digit(text[3]), low = hex_digit(text[4]);
    return high < 0 || low < 0 ? -1 : high << 4 | low;
}

/* Byte alphabet back to bytes; a token with any other character stands for its own text. */
static size_t alphabet_to_bytes(const char *text, size_t bytes, char *out)
{
    size_t count = 0;
    for (size_t at = 0; at < bytes;) {
        uint32_t c;
        at += unicode_decode(text + at, bytes - at, &c);
        const int byte = unicode_to_byte(c);
        if (byte < 0) {
            memcpy(out, text, bytes);
            return bytes;
        }
        out[count++] = (char)byte;
    }
    return count;
}

static enum status add_piece(struct decoder *d, int32_t id, struct text_span text, struct error *err)
{
    char fixed[256];
    char *room = text.bytes <= sizeof fixed ? fixed : malloc(text.bytes);
    if (!room)
        return error_set(err, STATUS_NO_MEMORY, "no memory for a token of %zu bytes", text.bytes);
    const int byte = d->byte_fallback ? fallback_byte(text.text, text.bytes) : -1;
    size_t bytes = text.bytes;
    if (d->byte_level)
        bytes = alphabet_to_bytes(text.text, text.bytes, room);
    else if (byte >= 0)
        room[0] = (char)byte, bytes = 1;
    else
        memcpy(room, text.text, text.bytes);
    enum status status = vocab_add(&d->pieces, id, room, bytes, err);
    if (room != fixed)
        free(room);
    return status;
}

enum status decoder_add(struct decoder *d, struct text_scratch *scratch, int32_t id, struct text_span text,
                        struct error *err)
{
    enum status status = STATUS_OK;
    if (d->first_differs || d->byte_fallback)
        status = vocab_add(&d->contents, id, text.text, text.bytes, err);
    if (status != STATUS_OK)
        return status;
    status = run_ops(d, scratch, false, &text);
    return status == STATUS_OK ? add_piece(d, id, text, err)
                               : error_set(err, status, "token %d could not be decoded", id);
}

const char *decoder_piece(const struct decoder *decoder, int32_t id, size_t *bytes)
{
    return vocab_text(&decoder->pieces, id, bytes);
}

enum status decode_stream_init(struct decode_stream *stream, const struct tokenizer *tokenizer,
                               bool skip_special)
{
    const struct decoder *d = tokenizer_decoder(tokenizer);
    *stream = (struct decode_stream){.tokenizer = tokenizer, .skip_special = skip_special};
    stream->strip_left = d->strip_start;
    bytes_init(&stream->tail, DECODE_MAX_RUN_BYTES);
    return bytes_reserve(&stream->tail, 4096);
}

void decode_stream_release(struct decode_stream *stream)
{
    bytes_release(&stream->tail);
}

/* Appends final text, less what the strip of the whole text takes from its start. */
static enum status put_text(size_t *strip_left, const struct decoder *d, struct text_span text,
                            struct bytes *out)
{
    const size_t unit = strlen(d->strip_text);
    while (*strip_left && text.bytes) {
        if (unit == 0 || text.bytes < unit || memcmp(text.text, d->strip_text, unit) != 0) {
            *strip_left = 0;
            break;
        }
        text.text += unit;
        text.bytes -= unit;
        --*strip_left;
    }
    return bytes_append(out, text.text, text.bytes);
}

static enum status put_replacements(size_t *strip_left, const struct decoder *d, size_t count,
                                    struct bytes *out)
{
    const struct text_span mark = {.text = UNICODE_REPLACEMENT, .bytes = 3};
    enum status status = STATUS_OK;
    while (count-- && status == STATUS_OK)
        status = put_text(strip_left, d, mark, out);
    return status;
}

/* Byte level: everything in the tail that is settled; at the end (last) all of it. */
static enum status settle_tail(struct decode_stream *s, const struct decoder *d, struct bytes *out)
{
    size_t at = 0;
    enum status status = STATUS_OK;
    while (at < s->tail.count_bytes && status == STATUS_OK) {
        const char *text = s->tail.data + at;
        const size_t left = s->tail.count_bytes - at;
        const size_t valid = unicode_valid_prefix(text, left);
        bool incomplete = false;
        if (valid)
            status = put_text(&s->strip_left, d, (struct text_span){.text = text, .bytes = valid}, out);
        at += valid;
        if (valid == left || status != STATUS_OK)
            break;
        const size_t bad = unicode_ill_formed(text + valid, left - valid, &incomplete);
        if (incomplete)
            break;
        status = put_replacements(&s->strip_left, d, 1, out);
        at += bad;
    }
    if (at) {
        memmove(s->tail.data, s->tail.data + at, s->tail.count_bytes - at);
        s->tail.count_bytes -= at;
    }
    return status;
}

/* Byte fallback: the run ends. Valid as a whole it is text; otherwise each of its bytes is a U+FFFD. */
static enum status preview_run(const struct decode_stream *s, const struct decoder *d, size_t *strip_left,
                               struct bytes *out)
{
    const size_t count = s->tail.count_bytes;
    if (s->run_is_bad)
        return STATUS_OK; /* they went out one by one */
    if (unicode_valid_prefix(s->tail.data, count) < count)
        return put_replacements(strip_left, d, count, out);
    return put_text(strip_left, d, (struct text_span){.text = s->tail.data, .bytes = count}, out);
}

static enum status push_run_byte(struct decode_stream *s, const struct decoder *d, const char *byte,
                                 struct bytes *out)
{
    if (s->run_is_bad)
        return put_replacements(&s->strip_left, d, 1, out);
    enum status status = bytes_append(&s->tail, byte, 1);
    if (status != STATUS_OK)
        return status;
    const size_t valid = unicode_valid_prefix(s->tail.data, s->tail.count_bytes);
    bool incomplete = true;
    if (valid < s->tail.count_bytes)
        unicode_ill_formed(s->tail.data + valid, s->tail.count_bytes - valid, &incomplete);
    if (incomplete)
        return STATUS_OK;
    s->run_is_bad = true; /* no later byte can mend it, so the whole run is settled */
    status = put_replacements(&s->strip_left, d, s->tail.count_bytes, out);
    bytes_reset(&s->tail);
    return status;
}

/* A first token whose marks vanish is decoded anew; this happens once in a sequence. */
static enum status put_first(struct decode_stream *s, const struct decoder *d, int32_t id, struct bytes *out)
{
    struct text_span text;
    struct text_scratch scratch;
    text.text = vocab_text(&d->contents, id, &text.bytes);
    enum status status = text_scratch_init(&scratch, text.bytes, NULL);
    if (status == STATUS_OK)
        status = run_ops(d, &scratch, true, &text);
    if (status == STATUS_OK)
        status = put_text(&s->strip_left, d, text, out);
    text_scratch_release(&scratch);
    return status;
}

/* Joining blanks and word ends: a blank stands between tokens, none at the end. */
static enum status put_spaced(struct decode_stream *s, const struct decoder *d, struct text_span piece,
                              struct bytes *out)
{
    enum status status = STATUS_OK;
    if (d->joins_with_blanks && s->begun)
        status = bytes_append_char(out, ' ');
    if (!d->joins_with_blanks && s->tail.count_bytes) { /* the blank that ended the token before */
        status = bytes_append(out, s->tail.data, s->tail.count_bytes);
        bytes_reset(&s->tail);
    }
    const bool word_end = !d->joins_with_blanks && d->op_count && d->ops[0].kind == OP_WORD_END &&
                          piece.bytes && piece.text[piece.bytes - 1] == ' ';
    if (word_end && status == STATUS_OK) {
        piece.bytes--;
        status = bytes_append_char(&s->tail, ' ');
    }
    return status == STATUS_OK ? put_text(&s->strip_left, d, piece, out) : status;
}

enum status decode_stream_push(struct decode_stream *s, int32_t id, struct bytes *out)
{
    const struct decoder *d = tokenizer_decoder(s->tokenizer);
    struct text_span piece;
    piece.text = decoder_piece(d, id, &piece.bytes);
    if (!piece.text || (s->skip_special && tokenizer_is_special(s->tokenizer, id)))
        return STATUS_OK;
    const bool first = !s->begun;
    enum status status = STATUS_OK;
    if (d->byte_level) {
        status = bytes_append(&s->tail, piece.text, piece.bytes);
        if (status == STATUS_OK)
            status = settle_tail(s, d, out);
    } else if (d->byte_fallback) {
        size_t content_bytes;
        const char *content = vocab_text(&d->contents, id, &content_bytes);
        if (fallback_byte(content, content_bytes) >= 0)
            status = push_run_byte(s, d, piece.text, out);
        else {
            status = preview_run(s, d, &s->strip_left, out);
            bytes_reset(&s->tail);
            s->run_is_bad = false;
            if (status == STATUS_OK)
                status = first && d->first_differs ? put_first(s, d, id, out)
                                                   : put_text(&s->strip_left, d, piece, out);
        }
    } else {
        status = first && d->first_differs ? put_first(s, d, id, out) : put_spaced(s, d, piece, out);
    }
    s->begun = true;
    return status;
}

enum status decode_stream_preview(const struct decode_stream *s, struct bytes *out)
{
    const struct decoder *d = tokenizer_decoder(s->tokenizer);
    size_t strip_left = s->strip_left;
    if (d->byte_level) /* what is left can only be the beginning of one sequence */
        return s->tail.count_bytes ? put_replacements(&strip_left, d, 1, out) : STATUS_OK;
    return d->byte_fallback ? preview_run(s, d, &strip_left, out) : STATUS_OK;
}

enum status decode_stream_open_run(const struct decode_stream *s, struct bytes *out)
{
    const struct decoder *d = tokenizer_decoder(s->tokenizer);
    size_t strip_left = s->strip_left;
    const bool whole = d->byte_fallback && !s->run_is_bad && s->tail.count_bytes &&
                       unicode_valid_prefix(s->tail.data, s->tail.count_bytes) == s->tail.count_bytes;
    return whole ? preview_run(s, d, &strip_left, out) : STATUS_OK;
}
