// SPDX-License-Identifier: Apache-2.0
// Source of the encoding: the MessagePack specification; of the fields: vLLM's kv_events.py.
#include "worker/emit/kv_event_batch.h"

#include <stdlib.h>
#include <string.h>

enum { BATCH_BYTES_MOST = 64 << 20, NIL = 0xc0 };
static const char medium[] = "CPU";

/* ---- msgpack ---- */

static void put_be(struct bytes *out, uint8_t type, uint64_t value, int bytes)
{
    bytes_append_char(out, (char)type);
    for (int i = bytes - 1; i >= 0; i--)
        bytes_append_char(out, (char)(value >> (8 * i)));
}

static void put_nil(struct bytes *out)
{
    bytes_append_char(out, (char)NIL);
}

static void put_unsigned(struct bytes *out, uint64_t value)
{
    if (value < 0x80)
        bytes_append_char(out, (char)value);
    else if (value <= UINT8_MAX)
        put_be(out, 0xcc, value, 1);
    else if (value <= UINT16_MAX)
        put_be(out, 0xcd, value, 2);
    else if (value <= UINT32_MAX)
        put_be(out, 0xce, value, 4);
    else
        put_be(out, 0xcf, value, 8);
}

static void put_array(struct bytes *out, size_t count)
{
    if (count < 16)
        bytes_append_char(out, (char)(0x90 | count));
    else if (count <= UINT16_MAX)
        put_be(out, 0xdc, count, 2);
    else
        put_be(out, 0xdd, count, 4);
}

static void put_text(struct bytes *out, const char *text)
{
    size_t bytes = strlen(text); /* of names: under 32 */
    bytes_append_char(out, (char)(0xa0 | bytes));
    bytes_append(out, text, bytes);
}

static void put_double(struct bytes *out, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    put_be(out, 0xcb, bits, 8);
}

/* ---- events ---- */

static void put_hash(struct bytes *out, const struct block_key *key)
{
    uint64_t hash = 0;
    for (int i = SHA256_BYTES - 8; i < SHA256_BYTES; i++)
        hash = hash << 8 | key->bytes[i];
    put_unsigned(out, hash);
}

struct kv_event_batch *kv_event_batch_new(void)
{
    struct kv_event_batch *batch = calloc(1, sizeof *batch);
    if (batch)
        bytes_init(&batch->events, BATCH_BYTES_MOST);
    return batch;
}

void kv_event_batch_free(struct kv_event_batch *batch)
{
    if (!batch)
        return;
    bytes_release(&batch->events);
    free(batch);
}

void kv_event_batch_stored(struct kv_event_batch *batch, const struct block_key *key,
                           const struct block_key *parent, const int32_t *tokens, uint32_t token_count)
{
    struct bytes *out = &batch->events;
    put_array(out, 8);
    put_text(out, "BlockStored");
    put_array(out, 1);
    put_hash(out, key);
    if (parent)
        put_hash(out, parent);
    else
        put_nil(out);
    put_array(out, token_count);
    for (uint32_t i = 0; i < token_count; i++)
        put_unsigned(out, (uint64_t)tokens[i]);
    put_unsigned(out, token_count);
    put_nil(out); /* lora_id */
    put_text(out, medium);
    put_nil(out); /* lora_name */
    batch->count++;
}

void kv_event_batch_removed(struct kv_event_batch *batch, const struct block_key *key)
{
    struct bytes *out = &batch->events;
    put_array(out, 3);
    put_text(out, "BlockRemoved");
    put_array(out, 1);
    put_hash(out, key);
    put_text(out, medium);
    batch->count++;
}

void kv_event_batch_cleared(struct kv_event_batch *batch)
{
    put_array(&batch->events, 1);
    put_text(&batch->events, "AllBlocksCleared");
    batch->count++;
}

void kv_event_batch_encode(const struct kv_event_batch *batch, double unix_s, struct bytes *out)
{
    put_array(out, 3);
    put_double(out, unix_s);
    put_array(out, batch->count);
    bytes_append(out, batch->events.data, batch->events.count_bytes);
    put_unsigned(out, 0); /* data_parallel_rank */
}
