// SPDX-License-Identifier: Apache-2.0
// Settled text waits in `held` while its end may begin a stop string. A stop is also looked for in an open
// run of byte tokens that is valid text so far (a line feed of a Llama vocabulary is such a run), because the
// sequence would end there and then. Of several stops the one that is complete first counts.
#include "engine/text/detokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "engine/text/decoder.h"

#define DETOKENIZER_MAX_STOP_BYTES ((size_t)1 << 16) /* of one stop string */
#define DETOKENIZER_MAX_HELD_BYTES ((size_t)16 << 20)
#define HELD_RESERVE_BYTES 4096

struct stop {
    char *text;
    size_t bytes;
};

struct detokenizer {
    struct decode_stream stream;
    struct stop *stops; /* [stop_count] */
    size_t stop_count;
    size_t longest_stop_bytes;
    size_t min_tokens, token_count;
    bool include_stop;
    struct bytes held;     /* settled, not released */
    size_t searched_bytes; /* of held: no stop ends in here, or it was too early to count */
    int stopped;           /* index of the stop that ended the sequence; -1 */
};

static enum status copy_stops(struct detokenizer *d, const struct detokenizer_options *options,
                              struct error *err)
{
    d->stops = calloc(options->stop_count + 1, sizeof *d->stops);
    if (!d->stops)
        return error_set(err, STATUS_NO_MEMORY, "no memory for a detokenizer");
    for (size_t i = 0; i < options->stop_count; i++) {
        const size_t bytes = strlen(options->stops[i]);
        if (bytes == 0 || bytes > DETOKENIZER_MAX_STOP_BYTES)
            return error_set(err, STATUS_INVALID, "a stop string must have 1 to %zu bytes",
                             DETOKENIZER_MAX_STOP_BYTES);
        d->stops[i] = (struct stop){.text = strdup(options->stops[i]), .bytes = bytes};
        if (!d->stops[i].text)
            return error_set(err, STATUS_NO_MEMORY, "no memory for a detokenizer");
        d->stop_count++;
        if (bytes > d->longest_stop_bytes)
            d->longest_stop_bytes = bytes;
    }
    return STATUS_OK;
}

enum status detokenizer_open(struct detokenizer **out, const struct tokenizer *tokenizer,
                             const struct detokenizer_options *options, struct error *err)
{
    struct detokenizer *d = calloc(1, sizeof *d);
    *out = NULL;
    if (!d)
        return error_set(err, STATUS_NO_MEMORY, "no memory for a detokenizer");
    d->min_tokens = options->min_tokens;
    d->include_stop = options->include_stop;
    d->stopped = -1;
    bytes_init(&d->held, DETOKENIZER_MAX_HELD_BYTES);
    enum status status = copy_stops(d, options, err);
    if (status == STATUS_OK && (decode_stream_init(&d->stream, tokenizer, options->skip_special_tokens) ||
                                bytes_reserve(&d->held, HELD_RESERVE_BYTES + d->longest_stop_bytes)))
        status = error_set(err, STATUS_NO_MEMORY, "no memory for a detokenizer");
    if (status != STATUS_OK) {
        detokenizer_close(d);
        return status;
    }
    *out = d;
    return STATUS_OK;
}

void detokenizer_close(struct detokenizer *d)
{
    if (!d)
        return;
    decode_stream_release(&d->stream);
    bytes_release(&d->held);
    for (size_t i = 0; i < d->stop_count; i++)
        free(d->stops[i].text);
    free(d->stops);
    free(d);
}

void detokenizer_prime(struct detokenizer *d, const int32_t *ids, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (decode_stream_push(&d->stream, ids[i], &d->held) != STATUS_OK)
            break; /* the next push meets the same shortage and says so */
        bytes_reset(&d->held);
    }
}

/* The stop that is complete first in held and ends after the searched part; -1: none. */
static int find_stop(const struct detokenizer *d, size_t *begin, size_t *end)
{
    int found = -1;
    for (size_t i = 0; i < d->stop_count; i++) {
        const struct stop *stop = &d->stops[i];
        const size_t from = d->searched_bytes >= stop->bytes ? d->searched_bytes - stop->bytes + 1 : 0;
        if (from >= d->held.count_bytes)
            continue;
        const char *at = memmem(d->held.data + from, d->held.count_bytes - from, stop->text, stop->bytes);
        const size_t stop_end = at ? (size_t)(at - d->held.data) + stop->bytes : SIZE_MAX;
        if (at && (found < 0 || stop_end < *end || (stop_end == *end && stop_end - stop->bytes < *begin))) {
            found = (int)i;
            *end = stop_end;
            *begin = stop_end - stop->bytes;
        }
    }
    return found;
}

/* Length of the longest end of held that begins a stop string. */
static size_t undecided_bytes(const struct detokenizer *d)
{
    size_t most = d->longest_stop_bytes ? d->longest_stop_bytes - 1 : 0;
    if (most > d->held.count_bytes)
        most = d->held.count_bytes;
    for (size_t k = most; k > 0; k--)
        for (size_t i = 0; i < d->stop_count; i++)
            if (d->stops[i].bytes > k &&
                memcmp(d->held.data + d->held.count_bytes - k, d->stops[i].text, k) == 0)
                return k;
    return 0;
}

static enum status release(struct detokenizer *d, size_t count, struct bytes *out)
{
    enum status status = bytes_append(out, d->held.data, count);
    if (status != STATUS_OK || count == 0)
        return status;
    d->held.count_bytes -= count;
    memmove(d->held.data, d->held.data + count, d->held.count_bytes);
    d->searched_bytes = d->searched_bytes > count ? d->searched_bytes - count : 0;
    return STATUS_OK;
}

enum status detokenizer_push(struct detokenizer *d, int32_t id, struct bytes *out, int *stop_index)
{
    size_t begin = 0, end = 0;
    *stop_index = d->stopped;
    if (d->stopped >= 0)
        return STATUS_OK;
    d->token_count++;
    enum status status = decode_stream_push(&d->stream, id, &d->held);
    if (status != STATUS_OK)
        return status;
    const size_t settled = d->held.count_bytes;
    if (d->stop_count) {
        status = decode_stream_open_run(&d->stream, &d->held);
        if (status != STATUS_OK)
            return status;
        if (d->token_count > d->min_tokens)
            d->stopped = find_stop(d, &begin, &end);
        d->searched_bytes = d->held.count_bytes;
    }
    *stop_index = d->stopped;
    if (d->stopped >= 0) {
        status = release(d, d->include_stop ? end : begin, out);
        bytes_reset(&d->held);
        return status;
    }
    d->held.count_bytes = settled;
    return release(d, settled - undecided_bytes(d), out);
}

enum status detokenizer_finish(struct detokenizer *d, struct bytes *out)
{
    if (d->stopped >= 0)
        return STATUS_OK;
    enum status status = decode_stream_preview(&d->stream, &d->held);
    return status == STATUS_OK ? release(d, d->held.count_bytes, out) : status;
}
