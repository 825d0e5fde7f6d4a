// SPDX-License-Identifier: Apache-2.0
#include "engine/text/text_scratch.h"

#include <stdlib.h>

enum status text_scratch_init(struct text_scratch *scratch, size_t text_bytes, struct error *err)
{
    const size_t room_bytes = TEXT_SCRATCH_SLACK_BYTES + TEXT_SCRATCH_FACTOR * text_bytes;
    *scratch = (struct text_scratch){.room_bytes = room_bytes};
    arena_init(&scratch->arena, 2 * room_bytes); /* its chunks have ends that stay empty */
    bytes_init(&scratch->normal[0], room_bytes);
    bytes_init(&scratch->normal[1], room_bytes);
    return regex_scratch_open(&scratch->regex, err);
}

void text_scratch_release(struct text_scratch *scratch)
{
    arena_release(&scratch->arena);
    bytes_release(&scratch->normal[0]);
    bytes_release(&scratch->normal[1]);
    regex_scratch_close(scratch->regex);
    free(scratch->segments.spans);
    free(scratch->pieces.spans);
    free(scratch->next_pieces.spans);
    free(scratch->symbols);
    free(scratch->heap);
    free(scratch->nodes);
}

enum status text_scratch_grow(void **array, size_t *capacity, size_t count, size_t size)
{
    if (count <= *capacity)
        return STATUS_OK;
    size_t wanted = *capacity ? *capacity : 64;
    while (wanted < count)
        wanted *= 2;
    void *grown = wanted > SIZE_MAX / size ? NULL : realloc(*array, wanted * size);
    if (!grown)
        return STATUS_NO_MEMORY;
    *array = grown;
    *capacity = wanted;
    return STATUS_OK;
}

enum status span_list_push(struct span_list *list, struct text_span span)
{
    if (span.bytes == 0)
        return STATUS_OK;
    if (list->count == list->capacity) {
        void *spans = list->spans;
        if (text_scratch_grow(&spans, &list->capacity, list->count + 1, sizeof span) != STATUS_OK)
            return STATUS_NO_MEMORY;
        list->spans = spans;
    }
    list->spans[list->count++] = span;
    return STATUS_OK;
}
