// SPDX-License-Identifier: Apache-2.0
#include "engine/constrain/grammar_store.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/sha256.h"
#include "engine/constrain/grammar_constraint.h"
#include "engine/constrain/grammar_ebnf.h"
#include "engine/constrain/grammar_regex.h"
#include "engine/constrain/grammar_schema.h"

enum { MOST_SOURCE_BYTES = 8 << 20 };

struct stored {
    uint8_t digest[32];
    struct constraint *constraint; /* NULL: free */
    uint64_t used;                 /* 0: free */
};

struct grammar_store {
    struct vocab_order *order;
    int32_t vocab;
    uint64_t clock;
    struct stored stored[GRAMMAR_STORE_MAX];
};

enum status grammar_store_open(struct grammar_store **out, const struct tokenizer *tokenizer, int32_t vocab,
                               struct error *err)
{
    *out = NULL;
    struct grammar_store *store = calloc(1, sizeof *store);
    if (!store)
        return error_set(err, STATUS_NO_MEMORY, "no memory for the table of grammars");
    store->vocab = vocab;
    enum status status = vocab_order_open(&store->order, tokenizer, vocab, err);
    if (status == STATUS_OK)
        *out = store;
    else
        free(store);
    return status;
}

void grammar_store_close(struct grammar_store *store)
{
    if (!store)
        return;
    for (int i = 0; i < GRAMMAR_STORE_MAX; i++)
        constraint_give_back(store->stored[i].constraint);
    vocab_order_close(store->order);
    free(store);
}

/* ---- compiling ---- */

static enum status choice_node(struct grammar_builder *builder, const struct json *list,
                               struct grammar_node **out, struct error *err)
{
    if (list->type != JSON_ARRAY || list->count == 0 || list->count > GRAMMAR_MAX_CHOICES)
        return error_set(err, STATUS_INVALID, "a choice must be a list of 1 to %d strings",
                         GRAMMAR_MAX_CHOICES);
    *out = NULL;
    for (size_t i = 0; i < list->count; i++) {
        const struct json *one = &list->as.items[i];
        if (one->type != JSON_STRING || one->count == 0)
            return error_set(err, STATUS_INVALID, "a choice must be a list of strings that are not empty");
        struct grammar_node *node = grammar_literal(builder, one->as.string, one->count);
        *out = *out ? grammar_alt(builder, *out, node) : node;
    }
    return STATUS_OK;
}

static enum status schema_text(struct grammar_builder *builder, const struct json *text,
                               struct grammar_node **out, struct error *err)
{
    struct json_document *document;
    enum status status = json_parse(&document, text->as.string, text->count, NULL, err);
    if (status != STATUS_OK)
        return status;
    status = grammar_schema(builder, json_root(document), out, err);
    json_close(document);
    return status;
}

static enum status source_node(struct grammar_builder *builder, enum grammar_kind kind,
                               const struct json *value, struct grammar_node **out, struct error *err)
{
    bool is_text = value && value->type == JSON_STRING;
    switch (kind) {
    case GRAMMAR_OF_CHOICE:
        return choice_node(builder, value, out, err);
    case GRAMMAR_OF_SCHEMA:
        return is_text ? schema_text(builder, value, out, err) : grammar_schema(builder, value, out, err);
    case GRAMMAR_OF_OBJECT:
        return grammar_json_object(builder, out, err);
    default:
        if (!is_text)
            return error_set(err, STATUS_INVALID, "it must be a string");
        return kind == GRAMMAR_OF_REGEX
                   ? grammar_regex(builder, value->as.string, value->count, false, out, err)
                   : grammar_ebnf(builder, value->as.string, value->count, out, err);
    }
}

enum status grammar_compile(enum grammar_kind kind, const struct json *value, struct grammar **out,
                            struct error *err)
{
    struct grammar_builder *builder;
    struct grammar_node *node = NULL;
    *out = NULL;
    enum status status = grammar_builder_open(&builder, err);
    if (status != STATUS_OK)
        return status;
    status = source_node(builder, kind, value, &node, err);
    if (status == STATUS_OK)
        status = grammar_finish(builder, node, out, err);
    grammar_builder_close(builder);
    return status;
}

/* ---- finding ---- */

static enum status digest_of(enum grammar_kind kind, const struct json *value, uint8_t digest[32],
                             struct error *err)
{
    struct bytes text;
    bytes_init(&text, MOST_SOURCE_BYTES);
    bytes_append_char(&text, (char)('0' + kind));
    if (value && kind != GRAMMAR_OF_OBJECT)
        json_append_node(&text, value);
    if (!text.failed)
        sha256_digest(text.data, text.count_bytes, digest);
    enum status status = text.failed ? error_set(err, STATUS_TOO_LARGE, "the grammar is larger than %d bytes",
                                                 MOST_SOURCE_BYTES)
                                     : STATUS_OK;
    bytes_release(&text);
    return status;
}

static void let_go(struct stored *stored)
{
    constraint_give_back(stored->constraint);
    *stored = (struct stored){0};
}

/* The place that is free, or else the one that was not used longest. */
static struct stored *oldest_stored(struct grammar_store *store)
{
    struct stored *oldest = &store->stored[0];
    for (int i = 1; i < GRAMMAR_STORE_MAX; i++)
        if (store->stored[i].used < oldest->used)
            oldest = &store->stored[i];
    return oldest;
}

/* Machines grow while they are used, so what they have together is looked at each time. */
static void keep_within_bounds(struct grammar_store *store)
{
    size_t bytes = 0;
    for (int i = 0; i < GRAMMAR_STORE_MAX; i++) {
        struct stored *stored = &store->stored[i];
        if (stored->constraint && grammar_constraint_is_worn(stored->constraint))
            let_go(stored);
        bytes += stored->constraint ? grammar_constraint_bytes(stored->constraint) : 0;
    }
    if (bytes > GRAMMAR_STORE_MAX_BYTES)
        for (int i = 0; i < GRAMMAR_STORE_MAX; i++)
            let_go(&store->stored[i]);
}

static struct stored *find_stored(struct grammar_store *store, const uint8_t digest[32])
{
    for (int i = 0; i < GRAMMAR_STORE_MAX; i++)
        if (store->stored[i].constraint && memcmp(store->stored[i].digest, digest, 32) == 0)
            return &store->stored[i];
    struct stored *oldest = oldest_stored(store);
    let_go(oldest);
    memcpy(oldest->digest, digest, 32);
    return oldest;
}

enum status grammar_store_find(struct grammar_store *store, enum grammar_kind kind, const struct json *value,
                               struct constraint **out, struct error *err)
{
    uint8_t digest[32];
    struct grammar *grammar;
    *out = NULL;
    enum status status = digest_of(kind, value, digest, err);
    if (status != STATUS_OK)
        return status;
    keep_within_bounds(store);
    struct stored *stored = find_stored(store, digest);
    if (!stored->constraint) {
        status = grammar_compile(kind, value, &grammar, err);
        if (status == STATUS_OK)
            status = grammar_constraint_open(&stored->constraint, grammar, store->order, store->vocab, err);
        if (status != STATUS_OK)
            return status;
    }
    stored->used = ++store->clock;
    constraint_take(stored->constraint);
    *out = stored->constraint;
    return STATUS_OK;
}
