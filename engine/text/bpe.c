// SPDX-License-Identifier: Apache-2.0
// The symbols of a piece form a linked list; a heap holds every adjacent pair that merges, lowest rank first,
// leftmost among equals. A candidate is stale when its pair no longer stands there. Most pieces are one
// token: once a token is seen to encode to itself, the memo skips the merging.
#include "engine/text/bpe.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/text/unicode.h"

#define MAX_AFFIX_BYTES 64

struct merge {
    int32_t left, right; /* left -1: free slot */
    uint32_t rank;
    int32_t merged_id;
};

enum memo { MEMO_UNKNOWN, MEMO_ITSELF, MEMO_MERGED };

struct bpe {
    const struct vocab *vocab;
    const struct vocab *raw;
    struct merge *merges; /* open addressing, merge_slots a power of two */
    size_t merge_slots;
    int32_t byte_ids[256];     /* raw: the id of each byte */
    int32_t fallback_ids[256]; /* byte_fallback: "<0xNN>", -1 when absent */
    int32_t unknown_id;        /* -1: none */
    bool fuse_unknown, byte_fallback, ignore_merges;
    char prefix[MAX_AFFIX_BYTES + 1], suffix[MAX_AFFIX_BYTES + 1];
    _Atomic unsigned char *memo; /* [vocab id_end] enum memo */
};

static struct merge *find_merge(const struct bpe *bpe, int32_t left, int32_t right)
{
    uint64_t hash = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * UINT64_C(0x9E3779B97F4A7C15);
    size_t at = (size_t)(hash ^ hash >> 29) & (bpe->merge_slots - 1);
    while (bpe->merges[at].left >= 0 && (bpe->merges[at].left != left || bpe->merges[at].right != right))
        at = (at + 1) & (bpe->merge_slots - 1);
    return &bpe->merges[at];
}

/* A merge is "left right" or [left, right]. */
static bool merge_texts(const struct json *node, const char *text[2], size_t bytes[2])
{
    if (node->type == JSON_STRING) {
        const char *blank = memchr(node->as.string, ' ', node->count);
        if (!blank)
            return false;
        text[0] = node->as.string;
        bytes[0] = (size_t)(blank - text[0]);
        text[1] = blank + 1;
        bytes[1] = node->count - bytes[0] - 1;
        return !memchr(text[1], ' ', bytes[1]);
    }
    if (node->type != JSON_ARRAY || node->count != 2)
        return false;
    for (int i = 0; i < 2; i++) {
        if (node->as.items[i].type != JSON_STRING)
            return false;
        text[i] = node->as.items[i].as.string;
        bytes[i] = node->as.items[i].count;
    }
    return true;
}

static enum status add_merge(struct bpe *bpe, const struct json *node, uint32_t rank, struct bytes *joined,
                             struct error *err)
{
    const char *text[2];
    size_t bytes[2];
    if (!merge_texts(node, text, bytes))
        return error_set(err, STATUS_INVALID, "merge %u is neither \"a b\" nor [\"a\", \"b\"]", rank);
    const size_t skipped = strlen(bpe->prefix);
    if (bytes[1] < skipped)
        return error_set(err, STATUS_INVALID, "merge %u lacks the continuing_subword_prefix", rank);
    bytes_reset(joined);
    bytes_append(joined, text[0], bytes[0]);
    bytes_append(joined, text[1] + skipped, bytes[1] - skipped);
    if (joined->failed)
        return error_set(err, STATUS_NO_MEMORY, "no memory for merges");
    const int32_t left = vocab_find(bpe->vocab, text[0], bytes[0]);
    const int32_t right = vocab_find(bpe->vocab, text[1], bytes[1]);
    const int32_t merged = vocab_find(bpe->vocab, joined->data, joined->count_bytes);
    if (left < 0 || right < 0 || merged < 0)
        return error_set(err, STATUS_INVALID,
                         "merge %u (\"%.40s\") is about a token that the vocabulary lacks", rank,
                         joined->data);
    *find_merge(bpe, left, right) =
        (struct merge){.left = left, .right = right, .rank = rank, .merged_id = merged};
    return STATUS_OK;
}

static enum status read_merges(struct bpe *bpe, const struct json *merges, struct error *err)
{
    if (!merges || merges->type != JSON_ARRAY || merges->count > UINT32_MAX / 4)
        return error_set(err, STATUS_INVALID, "the BPE model has no list \"merges\"");
    bpe->merge_slots = 16;
    while (bpe->merge_slots < merges->count * 2)
        bpe->merge_slots *= 2;
    bpe->merges = malloc(bpe->merge_slots * sizeof *bpe->merges);
    if (!bpe->merges)
        return error_set(err, STATUS_NO_MEMORY, "no memory for %zu merges", merges->count);
    memset(bpe->merges, 0xFF, bpe->merge_slots * sizeof *bpe->merges);
    struct bytes joined;
    bytes_init(&joined, VOCAB_MAX_POOL_BYTES);
    enum status status = STATUS_OK;
    for (size_t i = 0; i < merges->count && status == STATUS_OK; i++)
        status = add_merge(bpe, &merges->as.items[i], (uint32_t)i, &joined, err);
    bytes_release(&joined);
    return status;
}

static enum status read_affix(char out[MAX_AFFIX_BYTES + 1], const struct json *node, struct error *err)
{
    if (!node || node->type != JSON_STRING)
        return STATUS_OK;
    if (node->count > MAX_AFFIX_BYTES)
        return error_set(err, STATUS_UNSUPPORTED, "a BPE affix over %d bytes is not supported",
                         MAX_AFFIX_BYTES);
    memcpy(out, node->as.string, node->count + 1);
    return STATUS_OK;
}

static enum status read_options(struct bpe *bpe, const struct json *model, struct error *err)
{
    const struct json *unknown = json_member(model, "unk_token");
    if (json_number_or(json_member(model, "dropout"), 0) > 0)
        return error_set(err, STATUS_UNSUPPORTED, "BPE dropout is not supported: encoding would be random");
    bpe->unknown_id = -1;
    if (unknown && unknown->type == JSON_STRING) {
        bpe->unknown_id = vocab_find(bpe->vocab, unknown->as.string, unknown->count);
        if (bpe->unknown_id < 0)
            return error_set(err, STATUS_INVALID, "unk_token %.60s is not in the vocabulary",
                             unknown->as.string);
    }
    bpe->fuse_unknown = json_bool_or(json_member(model, "fuse_unk"), false);
    bpe->byte_fallback = json_bool_or(json_member(model, "byte_fallback"), false);
    bpe->ignore_merges = json_bool_or(json_member(model, "ignore_merges"), false);
    enum status status = read_affix(bpe->prefix, json_member(model, "continuing_subword_prefix"), err);
    return status == STATUS_OK ? read_affix(bpe->suffix, json_member(model, "end_of_word_suffix"), err)
                               : status;
}

static void read_byte_ids(struct bpe *bpe)
{
    for (int byte = 0; byte < 256; byte++) {
        char text[8];
        const char raw = (char)byte;
        snprintf(text, sizeof text, "<0x%02X>", (unsigned)byte);
        bpe->fallback_ids[byte] = vocab_find(bpe->vocab, text, 6);
        bpe->byte_ids[byte] = bpe->raw ? vocab_find(bpe->raw, &raw, 1) : -1;
        if (bpe->raw && bpe->byte_ids[byte] < 0)
            bpe->raw = NULL;
    }
}

enum status bpe_open(struct bpe **out, const struct json *model, const struct vocab *vocab,
                     const struct vocab *raw, struct error *err)
{
    struct bpe *bpe = calloc(1, sizeof *bpe);
    *out = NULL;
    if (!bpe)
        return error_set(err, STATUS_NO_MEMORY, "no memory for a BPE model");
    bpe->vocab = vocab;
    bpe->raw = raw;
    bpe->memo = calloc((size_t)vocab->id_end + 1, sizeof *bpe->memo);
    enum status status = bpe->memo ? read_options(bpe, model, err)
                                   : error_set(err, STATUS_NO_MEMORY, "no memory for a BPE model");
    if (status == STATUS_OK)
        status = read_merges(bpe, json_member(model, "merges"), err);
    if (status != STATUS_OK) {
        bpe_close(bpe);
        return status;
    }
    read_byte_ids(bpe);
    *out = bpe;
    return STATUS_OK;
}

void bpe_close(struct bpe *bpe)
{
    if (!bpe)
        return;
    free(bpe->merges);
    free((void *)bpe->memo);
    free(bpe);
}

bool bpe_takes_raw(const struct bpe *bpe)
{
    return bpe->raw != NULL;
}

/* The symbols of a piece while they are laid out. */
struct layout {
    struct text_scratch *scratch;
    size_t count;
    bool unknown_open; /* an unknown symbol waits to be fused with the next */
};

static void put_symbol(struct layout *layout, int32_t id)
{
    const int32_t at = (int32_t)layout->count++;
    layout->scratch->symbols[at] = (struct bpe_symbol){.id = id, .previous = at - 1, .next = at + 1};
}

/* One character that the vocabulary lacks: its bytes, or the unknown token. */
static void put_missing(const struct bpe *bpe, struct layout *layout, const char *text, size_t bytes)
{
    bool covered = bpe->byte_fallback;
    for (size_t i = 0; i < bytes && covered; i++)
        covered = bpe->fallback_ids[(unsigned char)text[i]] >= 0;
    if (covered) {
        for (size_t i = 0; i < bytes; i++)
            put_symbol(layout, bpe->fallback_ids[(unsigned char)text[i]]);
        return;
    }
    if (bpe->unknown_id < 0)
        return;
    if (layout->unknown_open && !bpe->fuse_unknown)
        put_symbol(layout, bpe->unknown_id);
    layout->unknown_open = true;
}

/* A character with the affixes of its place. */
static size_t with_affixes(const struct bpe *bpe, const struct text_span *piece, size_t at, size_t length,
                           char out[2 * MAX_AFFIX_BYTES + UNICODE_MAX_BYTES + 1])
{
    const bool last = at + length == piece->bytes;
    return (size_t)snprintf(out, 2 * MAX_AFFIX_BYTES + UNICODE_MAX_BYTES + 1, "%s%.*s%s",
                            at > 0 ? bpe->prefix : "", (int)length, piece->text + at,
                            last ? bpe->suffix : "");
}

static void lay_out_characters(const struct bpe *bpe, struct layout *layout, const struct text_span *piece)
{
    const bool affixed = bpe->prefix[0] || bpe->suffix[0];
    for (size_t at = 0; at < piece->bytes;) {
        char joined[2 * MAX_AFFIX_BYTES + UNICODE_MAX_BYTES + 1];
        uint32_t c;
        const size_t length = unicode_decode(piece->text + at, piece->bytes - at, &c);
        const char *text = piece->text + at;
        size_t bytes = length;
        if (affixed && c != 0) {
            bytes = with_affixes(bpe, piece, at, length, joined);
            text = joined;
        }
        const int32_t id = vocab_find(bpe->vocab, text, bytes);
        if (id >= 0) {
            if (layout->unknown_open)
                put_symbol(layout, bpe->unknown_id);
            layout->unknown_open = false;
            put_symbol(layout, id);
        } else {
            put_missing(bpe, layout, text, bytes);
        }
        at += length;
    }
    if (layout->unknown_open)
        put_symbol(layout, bpe->unknown_id);
}

static enum status lay_out(const struct bpe *bpe, struct layout *layout, const struct text_span *piece)
{
    struct text_scratch *scratch = layout->scratch;
    const size_t most = piece->bytes + 2 * MAX_AFFIX_BYTES + 2;
    void *symbols = scratch->symbols, *heap = scratch->heap;
    enum status status =
        text_scratch_grow(&symbols, &scratch->symbol_capacity, most, sizeof *scratch->symbols);
    scratch->symbols = symbols;
    if (status == STATUS_OK) /* a pair at the start, then at most two new ones for each merge */
        status = text_scratch_grow(&heap, &scratch->heap_capacity, 3 * most, sizeof *scratch->heap);
    scratch->heap = heap;
    if (status != STATUS_OK)
        return status;
    if (bpe->raw)
        for (size_t i = 0; i < piece->bytes; i++)
            put_symbol(layout, bpe->byte_ids[(unsigned char)piece->text[i]]);
    else
        lay_out_characters(bpe, layout, piece);
    if (layout->count)
        scratch->symbols[layout->count - 1].next = -1;
    return STATUS_OK;
}

static bool before(const struct bpe_candidate *a, const struct bpe_candidate *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->position < b->position;
}

static void heap_push(struct bpe_candidate *heap, size_t *count, struct bpe_candidate item)
{
    size_t at = (*count)++;
    while (at > 0 && before(&item, &heap[(at - 1) / 2])) {
        heap[at] = heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap[at] = item;
}

static struct bpe_candidate heap_pop(struct bpe_candidate *heap, size_t *count)
{
    const struct bpe_candidate top = heap[0], item = heap[--*count];
    size_t at = 0;
    for (size_t child = 1; child < *count; child = 2 * at + 1) {
        if (child + 1 < *count && before(&heap[child + 1], &heap[child]))
            child++;
        if (!before(&heap[child], &item))
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = item;
    return top;
}

static void consider(const struct bpe *bpe, struct text_scratch *scratch, size_t *heap_count,
                     int32_t position)
{
    const struct bpe_symbol *symbol = &scratch->symbols[position];
    if (symbol->next < 0)
        return;
    const struct merge *merge = find_merge(bpe, symbol->id, scratch->symbols[symbol->next].id);
    if (merge->left >= 0)
        heap_push(
            scratch->heap, heap_count,
            (struct bpe_candidate){.rank = merge->rank, .position = position, .merged_id = merge->merged_id});
}

static void merge_all(const struct bpe *bpe, struct text_scratch *scratch, size_t count)
{
    struct bpe_symbol *symbols = scratch->symbols;
    size_t heap_count = 0;
    for (size_t i = 0; i + 1 < count; i++)
        consider(bpe, scratch, &heap_count, (int32_t)i);
    while (heap_count) {
        const struct bpe_candidate top = heap_pop(scratch->heap, &heap_count);
        struct bpe_symbol *left = &symbols[top.position];
        if (left->id < 0 || left->next < 0)
            continue;
        struct bpe_symbol *right = &symbols[left->next];
        const struct merge *merge = find_merge(bpe, left->id, right->id);
        if (merge->left < 0 || merge->merged_id != top.merged_id)
            continue; /* the pair has changed since */
        left->id = top.merged_id;
        right->id = -1;
        left->next = right->next;
        if (left->next >= 0)
            symbols[left->next].previous = top.position;
        if (left->previous >= 0)
            consider(bpe, scratch, &heap_count, left->previous);
        consider(bpe, scratch, &heap_count, top.position);
    }
}

enum status bpe_encode(const struct bpe *bpe, struct text_scratch *scratch, const struct text_span *piece,
                       struct token_list *out)
{
    const int32_t whole = vocab_find(bpe->raw ? bpe->raw : bpe->vocab, piece->text, piece->bytes);
    if (whole >= 0 &&
        (bpe->ignore_merges || atomic_load_explicit(&bpe->memo[whole], memory_order_relaxed) == MEMO_ITSELF))
        return token_list_push(out, whole);
    struct layout layout = {.scratch = scratch};
    const size_t first = out->count;
    enum status status = lay_out(bpe, &layout, piece);
    if (status != STATUS_OK)
        return status;
    merge_all(bpe, scratch, layout.count);
    for (int32_t at = layout.count ? 0 : -1; at >= 0 && status == STATUS_OK; at = scratch->symbols[at].next)
        status = token_list_push(out, scratch->symbols[at].id);
    if (whole >= 0 && status == STATUS_OK)
        atomic_store_explicit(&bpe->memo[whole],
                              out->count == first + 1 && out->ids[first] == whole ? MEMO_ITSELF : MEMO_MERGED,
                              memory_order_relaxed);
    return status;
}
