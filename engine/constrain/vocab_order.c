// SPDX-License-Identifier: Apache-2.0
#include "engine/constrain/vocab_order.h"

#include <stdlib.h>
#include <string.h>

struct sorted {
    const char *text;
    size_t bytes;
    int32_t token;
};

static int compare(const void *a, const void *b)
{
    const struct sorted *x = a, *y = b;
    size_t shared = x->bytes < y->bytes ? x->bytes : y->bytes;
    int order = memcmp(x->text, y->text, shared);
    if (order != 0)
        return order;
    return x->bytes != y->bytes ? (x->bytes > y->bytes) - (x->bytes < y->bytes)
                                : (x->token > y->token) - (x->token < y->token);
}

static size_t shared_bytes(const struct sorted *a, const struct sorted *b)
{
    size_t count = 0;
    while (count < a->bytes && count < b->bytes && a->text[count] == b->text[count])
        count++;
    return count;
}

static void fill(struct vocab_order *order, struct sorted *sorted)
{
    for (int32_t id = 0; id < order->vocab; id++) {
        struct sorted *next = &sorted[order->count];
        next->text = tokenizer_token_bytes(order->tokenizer, id, &next->bytes);
        next->token = id;
        if (next->bytes > 0 && !tokenizer_is_special(order->tokenizer, id))
            order->count++;
    }
    qsort(sorted, order->count, sizeof *sorted, compare);
    for (size_t i = 0; i < order->count; i++) {
        order->tokens[i] = sorted[i].token;
        order->shared[i] = i ? (uint32_t)shared_bytes(&sorted[i - 1], &sorted[i]) : 0;
        if (sorted[i].bytes > order->most_bytes)
            order->most_bytes = sorted[i].bytes;
    }
}

enum status vocab_order_open(struct vocab_order **out, const struct tokenizer *tokenizer, int32_t vocab,
                             struct error *err)
{
    *out = NULL;
    int32_t known = tokenizer_vocab_size(tokenizer);
    size_t count = (size_t)(known < vocab ? known : vocab) + 1;
    struct vocab_order *order = calloc(1, sizeof *order);
    struct sorted *sorted = malloc(count * sizeof *sorted);
    if (order) {
        *order = (struct vocab_order){.tokenizer = tokenizer,
                                      .vocab = (int32_t)count - 1,
                                      .tokens = malloc(count * sizeof *order->tokens),
                                      .shared = malloc(count * sizeof *order->shared)};
    }
    if (!order || !sorted || !order->tokens || !order->shared) {
        free(sorted);
        vocab_order_close(order);
        return error_set(err, STATUS_NO_MEMORY, "no memory to order the vocabulary");
    }
    fill(order, sorted);
    free(sorted);
    *out = order;
    return STATUS_OK;
}

void vocab_order_close(struct vocab_order *order)
{
    if (!order)
        return;
    free(order->tokens);
    free(order->shared);
    free(order);
}
