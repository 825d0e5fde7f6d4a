// SPDX-License-Identifier: Apache-2.0
// What one tokenizer_encode call works in: pieces of text on their way from the input to token ids. Owned by
// the call, so that the tokenizer itself stays read-only and any thread may encode.
#ifndef ENGINE_TEXT_TEXT_SCRATCH_H
#define ENGINE_TEXT_TEXT_SCRATCH_H

#include <stdint.h>

#include "base/arena.h"
#include "base/bytes.h"
#include "engine/text/regex.h"

#define TEXT_MAX_BYTES ((size_t)256 << 20) /* of one text to encode */
/* Rewritten text of one call, by the bytes of its input: stages that each make it longer multiply. */
#define TEXT_SCRATCH_FACTOR ((size_t)32)
#define TEXT_SCRATCH_SLACK_BYTES ((size_t)4 << 20)

struct text_span {
    const char *text; /* in the input, or in the scratch */
    size_t bytes;
    bool at_start; /* begins where the whole input begins (Metaspace "first") */
};

struct span_list {
    struct text_span *spans;
    size_t count, capacity;
};

struct bpe_symbol {
    int32_t id; /* -1: merged away */
    int32_t previous, next;
};

struct bpe_candidate {
    uint32_t rank;
    int32_t position;
    int32_t merged_id;
};

struct unigram_node {
    double score;
    int32_t id;
    int32_t begin; /* -1: not reached */
};

struct text_scratch {
    struct arena arena;
    size_t room_bytes;      /* what the arena may still hand out */
    struct bytes normal[2]; /* a normalizer reads one and writes the other */
    struct regex_scratch *regex;
    struct span_list segments, pieces, next_pieces;
    struct bpe_symbol *symbols;
    size_t symbol_capacity;
    struct bpe_candidate *heap;
    size_t heap_capacity;
    struct unigram_node *nodes;
    size_t node_capacity;
};

/* For an input of `text_bytes`. */
MUST_CHECK enum status text_scratch_init(struct text_scratch *scratch, size_t text_bytes, struct error *err);
void text_scratch_release(struct text_scratch *scratch);
/* Empty spans are dropped: no stage keeps them. */
MUST_CHECK enum status span_list_push(struct span_list *list, struct text_span span);
/* Grows *array to hold `count` elements of `size` bytes. */
MUST_CHECK enum status text_scratch_grow(void **array, size_t *capacity, size_t count, size_t size);

#endif
