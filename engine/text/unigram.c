// SPDX-License-Identifier: Apache-2.0
// Candidates at a position come from a trie of the vocabulary, so a piece of n bytes costs n times the
// longest token. A character without a token of its own may be unknown, ten below the worst score;
// neighbouring unknowns are one token, or bytes when byte_fallback is set. Source of the ties: Hugging Face
// `tokenizers`.
#include "engine/text/unigram.h"

#include <stdio.h>
#include <stdlib.h>

#include "engine/text/trie.h"
#include "engine/text/unicode.h"

#define UNKNOWN_PENALTY 10.0

struct unigram {
    const struct vocab *vocab;
    struct trie trie;
    double *scores; /* [vocab id_end] */
    int32_t unknown_id;
    double unknown_score;
    bool byte_fallback;
    int32_t fallback_ids[256]; /* -1: absent */
};

static enum status read_piece(struct unigram *unigram, const struct json *entry, int32_t id,
                              struct error *err)
{
    const bool valid = entry->type == JSON_ARRAY && entry->count == 2 &&
                       entry->as.items[0].type == JSON_STRING &&
                       (entry->as.items[1].type == JSON_NUMBER || entry->as.items[1].type == JSON_INTEGER);
    if (!valid)
        return error_set(err, STATUS_INVALID, "unigram vocabulary entry %d is not [text, score]", id);
    const struct json *text = &entry->as.items[0];
    unigram->scores[id] = json_number_or(&entry->as.items[1], 0);
    if (unigram->scores[id] < unigram->unknown_score)
        unigram->unknown_score = unigram->scores[id];
    return text->count ? trie_add(&unigram->trie, text->as.string, text->count, id, err) : STATUS_OK;
}

static enum status read_model(struct unigram *unigram, const struct json *model, struct error *err)
{
    const struct json *entries = json_member(model, "vocab");
    const int64_t unknown = json_integer_or(json_member(model, "unk_id"), -1);
    if (!entries || entries->type != JSON_ARRAY || entries->count > VOCAB_MAX_ID)
        return error_set(err, STATUS_INVALID, "the Unigram model has no list \"vocab\"");
    if (unknown >= (int64_t)entries->count || unknown < -1)
        return error_set(err, STATUS_INVALID, "unk_id %lld is not in the vocabulary", (long long)unknown);
    unigram->unknown_id = (int32_t)unknown;
    unigram->byte_fallback = json_bool_or(json_member(model, "byte_fallback"), false);
    unigram->scores = calloc(entries->count + 1, sizeof *unigram->scores);
    if (!unigram->scores)
        return error_set(err, STATUS_NO_MEMORY, "no memory for a Unigram model");
    unigram->unknown_score = 1e300;
    enum status status = STATUS_OK;
    for (size_t i = 0; i < entries->count && status == STATUS_OK; i++)
        status = read_piece(unigram, &entries->as.items[i], (int32_t)i, err);
    unigram->unknown_score -= UNKNOWN_PENALTY;
    for (unsigned byte = 0; byte < 256; byte++) {
        char text[8];
        snprintf(text, sizeof text, "<0x%02X>", byte);
        unigram->fallback_ids[byte] = vocab_find(unigram->vocab, text, 6);
    }
    return status;
}

enum status unigram_open(struct unigram **out, const struct json *model, const struct vocab *vocab,
                         struct error *err)
{
    struct unigram *unigram = calloc(1, sizeof *unigram);
    *out = NULL;
    if (!unigram)
        return error_set(err, STATUS_NO_MEMORY, "no memory for a Unigram model");
    unigram->vocab = vocab;
    enum status status = read_model(unigram, model, err);
    if (status != STATUS_OK) {
        unigram_close(unigram);
        return status;
    }
    *out = unigram;
    return STATUS_OK;
}

void unigram_close(struct unigram *unigram)
{
    if (!unigram)
        return;
    trie_release(&unigram->trie);
    free(unigram->scores);
    free(unigram);
}

static void offer(struct unigram_node *node, double score, int32_t id, size_t begin)
{
    if (node->begin < 0 || score > node->score)
        *node = (struct unigram_node){.score = score, .id = id, .begin = (int32_t)begin};
}

/* Best way to every position of the piece. False: a character is not covered. */
static bool search(const struct unigram *unigram, struct unigram_node *nodes, const struct text_span *piece)
{
    for (size_t i = 0; i <= piece->bytes; i++)
        nodes[i] = (struct unigram_node){.begin = -1};
    for (size_t at = 0; at < piece->bytes;) {
        uint32_t c;
        const size_t char_bytes = unicode_decode(piece->text + at, piece->bytes - at, &c);
        bool single = false;
        uint32_t state = TRIE_ROOT;
        for (size_t end = at; end < piece->bytes;) {
            state = trie_step(&unigram->trie, state, (unsigned char)piece->text[end++]);
            if (state == TRIE_DEAD)
                break;
            const int32_t id = trie_value(&unigram->trie, state);
            if (id < 0)
                continue;
            offer(&nodes[end], unigram->scores[id] + nodes[at].score, id, at);
            single = single || end - at == char_bytes;
        }
        if (!single) {
            if (unigram->unknown_id < 0)
                return false;
            offer(&nodes[at + char_bytes], unigram->unknown_score + nodes[at].score, unigram->unknown_id, at);
        }
        at += char_bytes;
    }
    return true;
}

static enum status put_unknown(const struct unigram *unigram, const char *text, size_t bytes,
                               struct token_list *out)
{
    const int32_t known = vocab_find(unigram->vocab, text, bytes);
    if (known >= 0)
        return token_list_push(out, known);
    bool covered = unigram->byte_fallback;
    for (size_t i = 0; i < bytes && covered; i++)
        covered = unigram->fallback_ids[(unsigned char)text[i]] >= 0;
    if (!covered)
        return token_list_push(out, unigram->unknown_id);
    enum status status = STATUS_OK;
    for (size_t i = 0; i < bytes && status == STATUS_OK; i++)
        status = token_list_push(out, unigram->fallback_ids[(unsigned char)text[i]]);
    return status;
}

/* Turns the backward links of the best path into forward ones, so that it is read in order. */
static void reverse_path(struct unigram_node *nodes, size_t bytes)
{
    size_t end = bytes;
    int32_t next = -1;
    while (end > 0) {
        const size_t begin = (size_t)nodes[end].begin;
        nodes[end].begin = next; /* from here on: where the following token ends */
        next = (int32_t)end;
        end = begin;
    }
    nodes[0].begin = next;
}

enum status unigram_encode(const struct unigram *unigram, struct text_scratch *scratch,
                           const struct text_span *piece, struct token_list *out)
{
    void *nodes = scratch->nodes;
    enum status status =
        text_scratch_grow(&nodes, &scratch->node_capacity, piece->bytes + 1, sizeof *scratch->nodes);
    scratch->nodes = nodes;
    if (status != STATUS_OK)
        return status;
    if (!search(unigram, scratch->nodes, piece))
        return STATUS_INVALID;
    reverse_path(scratch->nodes, piece->bytes);
    size_t begin = 0;
    for (int32_t end = scratch->nodes[0].begin; end > 0 && status == STATUS_OK;) {
        const struct unigram_node *node = &scratch->nodes[end];
        int32_t next = node->begin;
        if (node->id != unigram->unknown_id) {
            status = token_list_push(out, node->id);
        } else {
            while (next > 0 && scratch->nodes[next].id == unigram->unknown_id) {
                end = next;
                next = scratch->nodes[end].begin;
            }
            status = put_unknown(unigram, piece->text + begin, (size_t)end - begin, out);
        }
        begin = (size_t)end;
        end = next;
    }
    return status;
}
