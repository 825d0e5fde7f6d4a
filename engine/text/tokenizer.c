// SPDX-License-Identifier: Apache-2.0
// The pipeline of tokenizer.json: added tokens cut the text, the normalizer rewrites what lies between, added
// tokens of normalized text cut again, the pre-tokenizer makes pieces, the model makes ids, the
// post-processor puts ids around them. Everything is built at open; a call brings its own scratch.
#include "engine/text/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "engine/text/added_tokens.h"
#include "engine/text/bpe.h"
#include "engine/text/decoder.h"
#include "engine/text/post_processor.h"
#include "engine/text/pretokenizer.h"
#include "engine/text/text_file.h"
#include "engine/text/unicode.h"
#include "engine/text/unigram.h"

#define MAX_TOKENIZER_BYTES ((size_t)256 << 20)
#define MAX_CONFIG_BYTES ((size_t)16 << 20)

struct tokenizer {
    struct vocab vocab;     /* the model's strings */
    struct vocab raw_vocab; /* the same as bytes, where pieces come as raw bytes */
    struct added_tokens added;
    struct normalizer *normalizer;
    struct pretokenizer *pretokenizer;
    struct bpe *bpe; /* one of the two models */
    struct unigram *unigram;
    struct post_processor post_processor;
    struct decoder *decoder;
    bool raw_bytes;
    int32_t id_end;
    int32_t bos, eos; /* -1: none */
};

void token_list_release(struct token_list *list)
{
    free(list->ids);
    *list = (struct token_list){0};
}

enum status token_list_push(struct token_list *list, int32_t id)
{
    if (list->count == list->capacity) {
        const size_t capacity = list->capacity ? list->capacity * 2 : 64;
        int32_t *ids = realloc(list->ids, capacity * sizeof *ids);
        if (!ids)
            return STATUS_NO_MEMORY;
        list->ids = ids;
        list->capacity = capacity;
    }
    list->ids[list->count++] = id;
    return STATUS_OK;
}

/* {"text": id, …} of BPE or [["text", score], …] of Unigram. */
static enum status read_vocab(struct vocab *vocab, const struct json *list, size_t json_bytes,
                              struct error *err)
{
    if (!list || (list->type != JSON_OBJECT && list->type != JSON_ARRAY))
        return error_set(err, STATUS_INVALID, "the tokenizer's model has no \"vocab\"");
    if (list->count > VOCAB_MAX_ID)
        return error_set(err, STATUS_TOO_LARGE, "a vocabulary of over %d tokens", VOCAB_MAX_ID);
    enum status status = vocab_reserve(vocab, list->count, json_bytes / 4, (int32_t)list->count, err);
    for (size_t i = 0; i < list->count && status == STATUS_OK; i++) {
        const struct json *item = &list->as.items[i];
        const struct json *text = item->type == JSON_ARRAY && item->count ? &item->as.items[0] : NULL;
        if (list->type == JSON_OBJECT && item->type == JSON_INTEGER && item->as.integer >= 0 &&
            item->as.integer < VOCAB_MAX_ID)
            status = vocab_add(vocab, (int32_t)item->as.integer, item->key, item->key_bytes, err);
        else if (list->type == JSON_ARRAY && text && text->type == JSON_STRING)
            status = vocab_add(vocab, (int32_t)i, text->as.string, text->count, err);
        else
            return error_set(err, STATUS_INVALID, "vocabulary entry %zu is no token with an id below %d", i,
                             VOCAB_MAX_ID);
    }
    return status;
}

/* Bytes of the tokens that lie in the byte alphabet; the others can never be met in a piece. */
static enum status read_raw_vocab(struct tokenizer *t, struct error *err)
{
    enum status status =
        vocab_reserve(&t->raw_vocab, t->vocab.used, t->vocab.pool_bytes, t->vocab.id_end, err);
    char *raw = malloc(t->vocab.max_text_bytes + 1);
    if (!raw)
        return error_set(err, STATUS_NO_MEMORY, "no memory for the vocabulary");
    for (int32_t id = 0; id < t->vocab.id_end && status == STATUS_OK; id++) {
        size_t bytes, count = 0;
        const char *text = vocab_text(&t->vocab, id, &bytes);
        int byte = text && bytes ? 0 : -1;
        for (size_t at = 0; at < bytes && byte >= 0;) {
            uint32_t c;
            at += unicode_decode(text + at, bytes - at, &c);
            byte = unicode_to_byte(c);
            raw[count++] = (char)byte;
        }
        if (byte >= 0)
            status = vocab_add(&t->raw_vocab, id, raw, count, err);
    }
    free(raw);
    return status;
}

static enum status open_bpe(struct tokenizer *t, const struct json *model, struct error *err)
{
    const char *prefix = json_string_or(json_member(model, "continuing_subword_prefix"), "");
    const char *suffix = json_string_or(json_member(model, "end_of_word_suffix"), "");
    const bool raw = pretokenizer_ends_in_bytes(t->pretokenizer) && !*prefix && !*suffix;
    enum status status = raw ? read_raw_vocab(t, err) : STATUS_OK;
    if (status == STATUS_OK)
        status = bpe_open(&t->bpe, model, &t->vocab, raw ? &t->raw_vocab : NULL, err);
    if (status == STATUS_OK)
        t->raw_bytes = bpe_takes_raw(t->bpe);
    return status;
}

static enum status open_model(struct tokenizer *t, const struct json *model, size_t json_bytes,
                              struct error *err)
{
    const char *type = json_string_or(json_member(model, "type"), NULL);
    const struct json *vocab = json_member(model, "vocab");
    if (!type) /* files of old have no type: scores in a list mean Unigram, merges mean BPE */
        type = json_member(model, "merges")         ? "BPE"
               : vocab && vocab->type == JSON_ARRAY ? "Unigram"
                                                    : "(none)";
    const bool unigram = strcmp(type, "Unigram") == 0;
    if (!unigram && strcmp(type, "BPE") != 0)
        return error_set(err, STATUS_UNSUPPORTED, "tokenizer model type %.60s is not supported", type);
    if (vocab && vocab->type != (unigram ? JSON_ARRAY : JSON_OBJECT))
        return error_set(err, STATUS_INVALID, "the %s model's \"vocab\" has the wrong type", type);
    enum status status = read_vocab(&t->vocab, vocab, json_bytes, err);
    if (status != STATUS_OK)
        return status;
    return unigram ? unigram_open(&t->unigram, model, &t->vocab, err) : open_bpe(t, model, err);
}

/* Added tokens first: their text wins over the model's for the same id. */
static enum status fill_decoder(struct tokenizer *t, struct error *err)
{
    struct text_scratch scratch;
    enum status status = text_scratch_init(&scratch, 0, err);
    for (int32_t id = 0; id < t->id_end && status == STATUS_OK; id++) {
        struct text_span text;
        text.text = vocab_text(&t->added.contents, id, &text.bytes);
        if (!text.text)
            text.text = vocab_text(&t->vocab, id, &text.bytes);
        if (text.text)
            status = decoder_add(t->decoder, &scratch, id, text, err);
    }
    text_scratch_release(&scratch);
    return status;
}

static enum status build(struct tokenizer *t, const struct json *root, size_t json_bytes, struct error *err)
{
    enum status status = normalizer_open(&t->normalizer, json_member(root, "normalizer"), err);
    if (status == STATUS_OK)
        status = pretokenizer_open(&t->pretokenizer, json_member(root, "pre_tokenizer"), err);
    if (status == STATUS_OK)
        status = open_model(t, json_member(root, "model"), json_bytes, err);
    if (status == STATUS_OK)
        status =
            added_tokens_init(&t->added, json_member(root, "added_tokens"), &t->vocab, t->normalizer, err);
    if (status == STATUS_OK)
        status = post_processor_init(&t->post_processor, json_member(root, "post_processor"), err);
    if (status == STATUS_OK)
        status = decoder_open(&t->decoder, json_member(root, "decoder"), err);
    t->id_end = t->vocab.id_end > t->added.contents.id_end ? t->vocab.id_end : t->added.contents.id_end;
    return status == STATUS_OK ? fill_decoder(t, err) : status;
}

/* A token name in tokenizer_config.json: a string or {"content": string}. */
static int32_t named_token(const struct tokenizer *t, const struct json *config, const char *key)
{
    const struct json *node = json_member(config, key);
    if (node && node->type == JSON_OBJECT)
        node = json_member(node, "content");
    return node && node->type == JSON_STRING ? tokenizer_token_id(t, node->as.string) : -1;
}

static enum status read_config(struct tokenizer *t, const char *config, size_t bytes, struct error *err)
{
    struct json_document *document;
    const struct json_limits limits = {.max_bytes = MAX_CONFIG_BYTES};
    t->bos = t->eos = -1;
    if (!config)
        return STATUS_OK;
    enum status status = json_parse(&document, config, bytes, &limits, err);
    if (status != STATUS_OK) {
        error_prefix(err, "tokenizer_config.json");
        return status;
    }
    t->bos = named_token(t, json_root(document), "bos_token");
    t->eos = named_token(t, json_root(document), "eos_token");
    json_close(document);
    return STATUS_OK;
}

enum status tokenizer_open_text(struct tokenizer **out, const char *json, size_t json_bytes,
                                const char *config, size_t config_bytes, struct error *err)
{
    struct json_document *document = NULL;
    const struct json_limits limits = {.max_bytes = MAX_TOKENIZER_BYTES};
    *out = NULL;
    struct tokenizer *t = calloc(1, sizeof *t);
    if (!t)
        return error_set(err, STATUS_NO_MEMORY, "no memory for a tokenizer");
    enum status status = json_parse(&document, json, json_bytes, &limits, err);
    if (status == STATUS_OK)
        status = build(t, json_root(document), json_bytes, err);
    if (status != STATUS_OK)
        error_prefix(err, "tokenizer.json");
    json_close(document);
    if (status == STATUS_OK)
        status = read_config(t, config, config_bytes, err);
    if (status != STATUS_OK) {
        tokenizer_close(t);
        return status;
    }
    *out = t;
    return STATUS_OK;
}

enum status tokenizer_open(struct tokenizer **out, const char *model_dir, struct error *err)
{
    struct bytes json, config;
    *out = NULL;
    bytes_init(&json, MAX_TOKENIZER_BYTES);
    bytes_init(&config, MAX_CONFIG_BYTES);
    enum status status = text_file_read(&json, model_dir, "tokenizer.json", err);
    if (status == STATUS_OK) {
        status = text_file_read(&config, model_dir, "tokenizer_config.json", err);
        if (status == STATUS_NOT_FOUND)
            status = STATUS_OK;
    }
    if (status == STATUS_OK)
        status = tokenizer_open_text(out, json.data, json.count_bytes, config.data, config.count_bytes, err);
    bytes_release(&json);
    bytes_release(&config);
    return status;
}

void tokenizer_close(struct tokenizer *tokenizer)
{
    if (!tokenizer)
        return;
    bpe_close(tokenizer->bpe);
    unigram_close(tokenizer->unigram);
    decoder_close(tokenizer->decoder);
    pretokenizer_close(tokenizer->pretokenizer);
    normalizer_close(tokenizer->normalizer);
    added_tokens_release(&tokenizer->added);
    vocab_release(&tokenizer->raw_vocab);
    vocab_release(&tokenizer->vocab);
    free(tokenizer);
}

struct encoding {
    const struct tokenizer *tokenizer;
    const struct encode_options *options;
    struct text_scratch scratch;
    struct token_list *out;
    struct error *err;
};

static enum status encode_pieces(struct encoding *e, struct text_span text)
{
    const struct tokenizer *t = e->tokenizer;
    struct text_scratch *scratch = &e->scratch;
    scratch->pieces.count = 0;
    enum status status = span_list_push(&scratch->pieces, text);
    if (status == STATUS_OK)
        status = pretokenizer_run(t->pretokenizer, scratch, t->raw_bytes, e->err);
    if (status != STATUS_OK)
        return status;
    for (size_t i = 0; i < scratch->pieces.count && status == STATUS_OK; i++)
        status = t->bpe ? bpe_encode(t->bpe, scratch, &scratch->pieces.spans[i], e->out)
                        : unigram_encode(t->unigram, scratch, &scratch->pieces.spans[i], e->out);
    return status == STATUS_OK
               ? status
               : error_set(e->err, status, "%s",
                           status == STATUS_INVALID ? "the text has a character that no token covers"
                                                    : "no memory to encode the text");
}

/* Cuts the text at the tokens of one trie; what lies between goes to `between`. */
static enum status cut(struct encoding *e, const struct trie *trie, struct text_span text,
                       enum status (*between)(struct encoding *, struct text_span))
{
    struct added_cursor cursor = {.span = &text, .skip_special = e->options->plain_special_tokens};
    size_t done = 0;
    enum status status = STATUS_OK;
    while (status == STATUS_OK) {
        const struct added_token *token = added_tokens_next(&e->tokenizer->added, trie, &cursor);
        const size_t end = token ? cursor.begin : text.bytes;
        if (end > done)
            status = between(e, (struct text_span){.text = text.text + done,
                                                   .bytes = end - done,
                                                   .at_start = text.at_start && done == 0});
        if (!token || status != STATUS_OK)
            break;
        status = token_list_push(e->out, token->id);
        done = cursor.at;
    }
    return status;
}

static enum status encode_between(struct encoding *e, struct text_span text)
{
    enum status status = normalizer_apply(e->tokenizer->normalizer, &e->scratch, &text, e->err);
    return status == STATUS_OK ? cut(e, &e->tokenizer->added.normalized, text, encode_pieces) : status;
}

static enum status push_all(struct token_list *out, const int32_t *ids, size_t count)
{
    enum status status = STATUS_OK;
    for (size_t i = 0; i < count && status == STATUS_OK; i++)
        status = token_list_push(out, ids[i]);
    return status;
}

enum status tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t bytes,
                             const struct encode_options *options, struct token_list *out, struct error *err)
{
    struct encoding e = {.tokenizer = tokenizer, .options = options, .out = out, .err = err};
    const struct post_processor *around = &tokenizer->post_processor;
    if (bytes > TEXT_MAX_BYTES)
        return error_set(err, STATUS_INVALID, "a text of %zu bytes is over the limit of %zu", bytes,
                         TEXT_MAX_BYTES);
    const size_t valid = unicode_valid_prefix(text, bytes);
    if (valid < bytes)
        return error_set(err, STATUS_INVALID, "the text is not valid UTF-8 at byte %zu", valid);
    const size_t first = out->count;
    enum status status = text_scratch_init(&e.scratch, bytes, err);
    if (status == STATUS_OK && options->add_special_tokens)
        status = push_all(out, around->before, around->before_count);
    if (status == STATUS_OK)
        status = cut(&e, &tokenizer->added.plain,
                     (struct text_span){.text = text, .bytes = bytes, .at_start = true}, encode_between);
    if (status == STATUS_OK && options->add_special_tokens)
        status = push_all(out, around->after, around->after_count);
    text_scratch_release(&e.scratch);
    if (status == STATUS_NO_MEMORY)
        error_set(err, status, "no memory to encode the text");
    if (status != STATUS_OK)
        out->count = first;
    return status;
}

enum status tokenizer_decode(const struct tokenizer *tokenizer, const int32_t *ids, size_t count,
                             bool skip_special_tokens, struct bytes *out, struct error *err)
{
    struct decode_stream stream;
    enum status status = decode_stream_init(&stream, tokenizer, skip_special_tokens);
    for (size_t i = 0; i < count && status == STATUS_OK; i++)
        status = decode_stream_push(&stream, ids[i], out);
    if (status == STATUS_OK)
        status = decode_stream_preview(&stream, out);
    decode_stream_release(&stream);
    return status == STATUS_OK ? STATUS_OK : error_set(err, status, "the tokens could not be decoded");
}

const struct decoder *tokenizer_decoder(const struct tokenizer *tokenizer)
{
    return tokenizer->decoder;
}

int32_t tokenizer_vocab_size(const struct tokenizer *tokenizer)
{
    return tokenizer->id_end;
}

int32_t tokenizer_token_id(const struct tokenizer *tokenizer, const char *token)
{
    const size_t bytes = strlen(token);
    const int32_t id = vocab_find(&tokenizer->added.contents, token, bytes);
    return id >= 0 ? id : vocab_find(&tokenizer->vocab, token, bytes);
}

bool tokenizer_is_special(const struct tokenizer *tokenizer, int32_t id)
{
    const struct added_token *token = added_tokens_find(&tokenizer->added, id);
    return token && token->special;
}

bool tokenizer_is_valid(const struct tokenizer *tokenizer, int32_t id)
{
    size_t bytes;
    return decoder_piece(tokenizer->decoder, id, &bytes) != NULL;
}

const char *tokenizer_token_bytes(const struct tokenizer *tokenizer, int32_t id, size_t *bytes)
{
    const char *piece = decoder_piece(tokenizer->decoder, id, bytes);
    return piece ? piece : "";
}

int32_t tokenizer_bos(const struct tokenizer *tokenizer)
{
    return tokenizer->bos;
}

int32_t tokenizer_eos(const struct tokenizer *tokenizer)
{
    return tokenizer->eos;
}
