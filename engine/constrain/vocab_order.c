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

static void sort(struct vocab_order *order, struct sorted *sorted)
{
    for (int32_t id = 0; id < order->vocab; id++) {
        struct sorted *next = &sorted[order->count];
        next->text = tokenizer_token_bytes(order->tokenizer, id, &next->bytes);
        next->token = id;
        if (next->bytes > 0 && !tokenizer_is_special(order->tokenizer, id))
            order->count++;
    }
    qsort(sorted, order->count, sizeof *sorted, compare);
}

/* False: no memory. */
static bool fill(struct vocab_order *order, const struct sorted *sorted)
{
    size_t at = 0, bytes = 0;
    for (size_t i = 0; i < order->count; i++)
        bytes += sorted[i].bytes;
    order->rest = malloc(bytes + 1);
    if (!order->rest || bytes > UINT32_MAX)
        return false;
    for (size_t i = 0; i < order->count; i++) {
        size_t shared = i ? shared_bytes(&sorted[i - 1], &sorted[i]) : 0, rest = sorted[i].bytes - shared;
        order->entries[i] =
            (struct vocab_entry){sorted[i].token, (uint32_t)shared, (uint32_t)at, (uint32_t)rest};
        memcpy(order->rest + at, sorted[i].text + shared, rest);
        at += rest;
        if (sorted[i].bytes > order->most_bytes)
            order->most_bytes = sorted[i].bytes;
    }
    return true;
}

enum status vocab_order_open(struct vocab_order **out, const struct tokenizer *tokenizer, int32_t vocab,
                             struct error *err)
{
    *out = NULL;
    int32_t known = tokenizer_vocab_size(tokenizer);
    size_t count = (size_t)(known < vocab ? known : vocab) + 1;
    struct vocab_order *order = calloc(1, sizeof *order);
    struct sorted *sorted = malloc(count * sizeof *sorted);
    bool made = false;
    if (order && sorted) {
        *order = (struct vocab_order){.tokenizer = tokenizer,
                                      .vocab = (int32_t)count - 1,
                                      .entries = malloc(count * sizeof *order->entries)};
        sort(order, sorted);
        made = order->entries && fill(order, sorted);
    }
    free(sorted);
    if (!made) {
        vocab_order_close(order);
        return error_set(err, STATUS_NO_MEMORY, "no memory to order the vocabulary");
    }
    *out = order;
    return STATUS_OK;
}

void vocab_order_close(struct vocab_order *order)
{
    if (!order)
        return;
    free(order->rest);
    free(order->entries);
    free(order);
}
