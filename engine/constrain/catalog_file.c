// SPDX-License-Identifier: Apache-2.0
// The catalogue's file: JSONL, read whole, each line checked on its own. The first bad line refuses the file:
// half a catalogue would be another catalogue.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/sha256.h"
#include "engine/constrain/catalog_internal.h"

enum { MAX_FILE_BYTES = 1 << 30, READ_BYTES = 1 << 20 };

struct catalog_reader {
    const struct catalog_options *options;
    struct catalog_item *items;
    size_t count, capacity, line;
    struct token_list tokens; /* of all items */
    struct bytes ids;
    struct error *err;
};

static enum status wrong(const struct catalog_reader *reader, const char *rule)
{
    return error_set(reader->err, STATUS_INVALID, "line %zu of the catalogue: %s", reader->line, rule);
}

static enum status add_token(struct catalog_reader *reader, int64_t token)
{
    const struct catalog_options *o = reader->options;
    if (token < 0 || token >= o->vocab)
        return wrong(reader, "a token id is outside the vocabulary");
    for (int32_t i = 0; i < o->eos_count; i++)
        if (o->eos[i] == token)
            return wrong(reader, "an item must not hold an end-of-sequence token");
    return token_list_push(&reader->tokens, (int32_t)token);
}

static enum status add_token_ids(struct catalog_reader *reader, const struct json *list)
{
    enum status status = STATUS_OK;
    if (list->type != JSON_ARRAY)
        return wrong(reader, "token_ids must be a list of integers");
    for (size_t i = 0; i < list->count && status == STATUS_OK; i++)
        status = list->as.items[i].type == JSON_INTEGER ? add_token(reader, list->as.items[i].as.integer)
                                                        : wrong(reader, "token_ids must be integers");
    return status;
}

static enum status add_text(struct catalog_reader *reader, const struct json *text)
{
    const struct encode_options plain = {.plain_special_tokens = true};
    struct token_list ids = {0};
    if (text->type != JSON_STRING || !reader->options->tokenizer)
        return wrong(reader, "text must be a string, and needs a tokenizer");
    enum status status =
        tokenizer_encode(reader->options->tokenizer, text->as.string, text->count, &plain, &ids, reader->err);
    for (size_t i = 0; i < ids.count && status == STATUS_OK; i++)
        status = add_token(reader, ids.ids[i]);
    token_list_release(&ids);
    return status;
}

static enum status add_id(struct catalog_reader *reader, const struct json *id, uint32_t *at)
{
    if (!id || id->type != JSON_STRING || id->count == 0 || id->count > CATALOG_MAX_ID_BYTES ||
        strlen(id->as.string) != id->count)
        return wrong(reader, "it needs an item_id, a string of 1 to 256 bytes without NUL");
    *at = (uint32_t)reader->ids.count_bytes;
    return bytes_append(&reader->ids, id->as.string, id->count + 1);
}

static struct catalog_item *new_item(struct catalog_reader *reader)
{
    if (reader->count == reader->capacity) {
        size_t capacity = reader->capacity ? 2 * reader->capacity : 256;
        struct catalog_item *items = realloc(reader->items, capacity * sizeof *items);
        if (!items)
            return NULL;
        reader->items = items;
        reader->capacity = capacity;
    }
    return &reader->items[reader->count++];
}

static enum status add_item(struct catalog_reader *reader, const struct json *root)
{
    const struct json *ids = json_member(root, "token_ids"), *text = json_member(root, "text");
    if (root->type != JSON_OBJECT || (ids != NULL) == (text != NULL))
        return wrong(reader, "it must be an object with an item_id and either token_ids or text");
    if (reader->count == CATALOG_MAX_ITEMS)
        return error_set(reader->err, STATUS_TOO_LARGE, "the catalogue has more than %d items",
                         CATALOG_MAX_ITEMS);
    struct catalog_item *item = new_item(reader);
    if (!item)
        return STATUS_NO_MEMORY;
    *item = (struct catalog_item){.first = reader->tokens.count};
    enum status status = add_id(reader, json_member(root, "item_id"), &item->id_at);
    if (status == STATUS_OK)
        status = ids ? add_token_ids(reader, ids) : add_text(reader, text);
    size_t count = reader->tokens.count - item->first;
    if (status == STATUS_OK && (count == 0 || count > CATALOG_MAX_ITEM_TOKENS))
        status = wrong(reader, "an item must have 1 to 255 tokens");
    item->count = (uint32_t)count;
    return status;
}

static enum status read_line(struct catalog_reader *reader, const char *text, size_t bytes)
{
    const struct json_limits limits = {.max_bytes = CATALOG_MAX_LINE_BYTES, .max_depth = 8};
    struct json_document *document;
    struct error detail = {0};
    if (strspn(text, " \t\r") >= bytes) /* the text ends with a newline or a NUL */
        return STATUS_OK;
    enum status status = json_parse(&document, text, bytes, &limits, &detail);
    if (status != STATUS_OK)
        return status == STATUS_NO_MEMORY ? status : wrong(reader, detail.text);
    status = add_item(reader, json_root(document));
    json_close(document);
    return status;
}

static enum status read_lines(struct catalog_reader *reader, const char *text, size_t bytes)
{
    enum status status = STATUS_OK;
    for (size_t begin = 0; begin < bytes && status == STATUS_OK;) {
        const char *newline = memchr(text + begin, '\n', bytes - begin);
        size_t end = newline ? (size_t)(newline - text) : bytes;
        reader->line++;
        status = read_line(reader, text + begin, end - begin);
        begin = end + 1;
    }
    if (status == STATUS_OK && reader->count == 0)
        return error_set(reader->err, STATUS_INVALID, "the catalogue has no items");
    return status;
}

static enum status build(struct catalog *catalog, struct catalog_reader *reader)
{
    for (size_t i = 0; i < reader->count; i++)
        reader->items[i].tokens = reader->tokens.ids + reader->items[i].first;
    catalog->id_bytes = reader->ids.count_bytes;
    catalog->ids = bytes_take(&reader->ids);
    return catalog_build(catalog, reader->items, (uint32_t)reader->count, reader->err);
}

enum status catalog_open_text(struct catalog **out, const char *text, size_t bytes,
                              const struct catalog_options *options, struct error *err)
{
    struct catalog_reader reader = {.options = options, .err = err};
    uint8_t digest[32];
    *out = NULL;
    struct catalog *catalog = calloc(1, sizeof *catalog);
    if (!catalog)
        return error_set(err, STATUS_NO_MEMORY, "no memory for a catalogue");
    catalog->references = 1;
    catalog->vocab = options->vocab;
    sha256_digest(text, bytes, digest);
    sha256_hex(digest, catalog->digest);
    bytes_init(&reader.ids, MAX_FILE_BYTES);
    enum status status = read_lines(&reader, text, bytes);
    if (status == STATUS_OK)
        status = build(catalog, &reader);
    bytes_release(&reader.ids);
    token_list_release(&reader.tokens);
    free(reader.items);
    if (status == STATUS_OK) {
        *out = catalog;
        return STATUS_OK;
    }
    catalog_give_back(catalog);
    return status == STATUS_NO_MEMORY ? error_set(err, status, "no memory for a catalogue") : status;
}

static enum status read_file(FILE *file, struct bytes *text)
{
    enum status status = STATUS_OK;
    while (status == STATUS_OK && !feof(file)) {
        status = bytes_reserve(text, READ_BYTES);
        if (status != STATUS_OK)
            break;
        text->count_bytes += fread(text->data + text->count_bytes, 1, READ_BYTES - 1, file);
        text->data[text->count_bytes] = '\0';
        if (ferror(file))
            status = STATUS_INVALID;
    }
    return status;
}

enum status catalog_open(struct catalog **out, const char *path, const struct catalog_options *options,
                         struct error *err)
{
    struct bytes text;
    *out = NULL;
    FILE *file = fopen(path, "rb");
    if (!file)
        return error_set(err, STATUS_NOT_FOUND, "there is no catalogue file %s", path);
    bytes_init(&text, MAX_FILE_BYTES);
    enum status status = read_file(file, &text);
    fclose(file);
    if (status == STATUS_OK)
        status = catalog_open_text(out, text.data ? text.data : "", text.count_bytes, options, err);
    else
        (void)error_set(err, status, "cannot read the catalogue %s, or it is over %d bytes", path,
                        MAX_FILE_BYTES);
    bytes_release(&text);
    return status;
}
