// SPDX-License-Identifier: Apache-2.0
// Matching follows AddedVocabulary of Hugging Face `tokenizers`: single_word looks at the neighbours, lstrip
// takes the blanks before (not those that the previous token took), rstrip those after.
#include "engine/text/added_tokens.h"

#include <stdlib.h>

#include "engine/text/unicode.h"

#define MAX_ADDED_TOKENS ((size_t)1 << 20)

void added_tokens_release(struct added_tokens *added)
{
    vocab_release(&added->contents);
    trie_release(&added->plain);
    trie_release(&added->normalized);
    free(added->tokens);
    *added = (struct added_tokens){0};
}

/* The normalized trie holds what the normalizer makes of the token's text. */
static enum status add_normalized(struct added_tokens *added, const struct normalizer *normalizer,
                                  struct text_span text, struct error *err)
{
    struct text_scratch scratch;
    enum status status = text_scratch_init(&scratch, text.bytes, err);
    if (status == STATUS_OK)
        status = normalizer_apply(normalizer, &scratch, &text, err);
    if (status == STATUS_OK && text.bytes)
        status = trie_add(&added->normalized, text.text, text.bytes, (int32_t)added->count, err);
    text_scratch_release(&scratch);
    return status;
}

static enum status add(struct added_tokens *added, const struct json *node, const struct vocab *model,
                       const struct normalizer *normalizer, struct error *err)
{
    const struct json *content = json_member(node, "content");
    const int64_t given = json_integer_or(json_member(node, "id"), -1);
    if (!content || content->type != JSON_STRING || given < 0 || given >= VOCAB_MAX_ID)
        return error_set(err, STATUS_INVALID, "an added token needs a \"content\" and an \"id\" below %d",
                         VOCAB_MAX_ID);
    if (content->count == 0)
        return STATUS_OK;
    const int32_t known = vocab_find(model, content->as.string, content->count);
    struct added_token token = {.id = known >= 0 ? known : (int32_t)given,
                                .single_word = json_bool_or(json_member(node, "single_word"), false),
                                .lstrip = json_bool_or(json_member(node, "lstrip"), false),
                                .rstrip = json_bool_or(json_member(node, "rstrip"), false),
                                .special = json_bool_or(json_member(node, "special"), false)};
    token.normalized = json_bool_or(json_member(node, "normalized"), !token.special);
    if (vocab_find(&added->contents, content->as.string, content->count) >= 0)
        return STATUS_OK;
    enum status status = vocab_add(&added->contents, token.id, content->as.string, content->count, err);
    if (status != STATUS_OK)
        return status;
    const struct text_span text = {.text = content->as.string, .bytes = content->count};
    status = token.normalized ? add_normalized(added, normalizer, text, err)
                              : trie_add(&added->plain, text.text, text.bytes, (int32_t)added->count, err);
    added->tokens[added->count++] = token;
    return status;
}

static int by_id(const void *a, const void *b)
{
    const int32_t x = ((const struct added_token *)a)->id, y = ((const struct added_token *)b)->id;
    return (x > y) - (x < y);
}

/* Sorted by id for added_tokens_find; the tries are told the new places. */
static enum status sort_tokens(struct added_tokens *added, struct error *err)
{
    int32_t *places = malloc((added->count + 1) * sizeof *places);
    struct added_token *sorted = malloc((added->count + 1) * sizeof *sorted);
    if (!places || !sorted) {
        free(places);
        free(sorted);
        return error_set(err, STATUS_NO_MEMORY, "no memory for added tokens");
    }
    for (size_t i = 0; i < added->count; i++)
        sorted[i] = added->tokens[i];
    qsort(sorted, added->count, sizeof *sorted, by_id);
    for (size_t i = 0; i < added->count; i++) {
        const struct added_token *place =
            bsearch(&added->tokens[i], sorted, added->count, sizeof *sorted, by_id);
        places[i] = (int32_t)(place - sorted);
    }
    struct trie *const tries[] = {&added->plain, &added->normalized};
    for (size_t t = 0; t < 2; t++)
        for (uint32_t s = 0; s < tries[t]->state_count; s++)
            if (tries[t]->values[s] >= 0)
                tries[t]->values[s] = places[tries[t]->values[s]];
    free(places);
    free(added->tokens);
    added->tokens = sorted;
    return STATUS_OK;
}

enum status added_tokens_init(struct added_tokens *added, const struct json *list, const struct vocab *model,
                              const struct normalizer *normalizer, struct error *err)
{
    *added = (struct added_tokens){0};
    if (!list || list->type == JSON_NULL)
        return STATUS_OK;
    if (list->type != JSON_ARRAY || list->count > MAX_ADDED_TOKENS)
        return error_set(err, STATUS_INVALID, "added_tokens must be a list of at most %zu", MAX_ADDED_TOKENS);
    added->tokens = calloc(list->count + 1, sizeof *added->tokens);
    enum status status =
        added->tokens ? STATUS_OK : error_set(err, STATUS_NO_MEMORY, "no memory for added tokens");
    for (size_t i = 0; i < list->count && status == STATUS_OK; i++)
        status = add(added, &list->as.items[i], model, normalizer, err);
    if (status == STATUS_OK)
        status = sort_tokens(added, err);
    if (status != STATUS_OK)
        added_tokens_release(added);
    return status;
}

const struct added_token *added_tokens_find(const struct added_tokens *added, int32_t id)
{
    const struct added_token key = {.id = id};
    return added->count ? bsearch(&key, added->tokens, added->count, sizeof key, by_id) : NULL;
}

/* The longest token that begins at `at`, or -1. */
static int32_t longest_at(const struct trie *trie, const struct text_span *span, size_t at, size_t *end)
{
    int32_t found = -1;
    uint32_t state = TRIE_ROOT;
    while (at < span->bytes) {
        state = trie_step(trie, state, (unsigned char)span->text[at++]);
        if (state == TRIE_DEAD)
            break;
        if (trie_value(trie, state) >= 0) {
            found = trie_value(trie, state);
            *end = at;
        }
    }
    return found;
}

static bool stands_alone(const struct text_span *span, size_t begin, size_t end)
{
    uint32_t c;
    if (begin > 0) {
        const size_t last = unicode_last(span->text, begin);
        unicode_decode(span->text + last, begin - last, &c);
        if (unicode_is_word(c))
            return false;
    }
    if (end < span->bytes) {
        unicode_decode(span->text + end, span->bytes - end, &c);
        if (unicode_is_word(c))
            return false;
    }
    return true;
}

static size_t blanks_before(const struct text_span *span, size_t begin, size_t floor)
{
    uint32_t c;
    while (begin > floor) {
        const size_t last = unicode_last(span->text, begin);
        unicode_decode(span->text + last, begin - last, &c);
        if (!unicode_is_space(c))
            break;
        begin = last;
    }
    return begin;
}

static size_t blanks_after(const struct text_span *span, size_t end)
{
    uint32_t c;
    while (end < span->bytes) {
        const size_t length = unicode_decode(span->text + end, span->bytes - end, &c);
        if (!unicode_is_space(c))
            break;
        end += length;
    }
    return end;
}

const struct added_token *added_tokens_next(const struct added_tokens *added, const struct trie *trie,
                                            struct added_cursor *cursor)
{
    const struct text_span *span = cursor->span;
    while (trie->state_count && cursor->from < span->bytes) {
        size_t begin = cursor->from, end = begin;
        const int32_t index =
            trie->root[(unsigned char)span->text[begin]] ? longest_at(trie, span, begin, &end) : -1;
        cursor->from = index < 0 ? begin + 1 : end;
        if (index < 0)
            continue;
        const struct added_token *token = &added->tokens[index];
        if ((cursor->skip_special && token->special) ||
            (token->single_word && !stands_alone(span, begin, end)))
            continue;
        cursor->begin = token->lstrip ? blanks_before(span, begin, cursor->at) : begin;
        if (cursor->begin < cursor->at)
            cursor->begin = cursor->at; /* the token lies in blanks that the one before has taken */
        cursor->at = token->rstrip ? blanks_after(span, end) : end;
        return token;
    }
    return NULL;
}
