// SPDX-License-Identifier: Apache-2.0
#include "worker/intake/offset_ledger.h"

#include <stdlib.h>
#include <string.h>

enum { MAP_RAW_MAX_BYTES = (OFFSET_MAP_MAX_BYTES - 1) / 4 * 3, MAP_FULL_BYTES = MAP_RAW_MAX_BYTES * 3 / 4 };

/* answered[] is a ring over the offsets base .. next - 1. */
struct offset_ledger {
    size_t window;
    int64_t base; /* lowest offset not answered; -1: not begun */
    int64_t next; /* one past the newest seen */
    size_t open_count;
    size_t runs; /* changes between answered and unanswered within the ring: bounds the metadata */
    uint8_t answered[];
};

enum status offset_ledger_open(struct offset_ledger **out, size_t window, struct error *err)
{
    *out = calloc(1, sizeof **out + window);
    if (!*out)
        return error_set(err, STATUS_NO_MEMORY, "no memory for a partition's offsets");
    (*out)->window = window;
    (*out)->base = (*out)->next = -1;
    return STATUS_OK;
}

void offset_ledger_close(struct offset_ledger *ledger)
{
    free(ledger);
}

static uint8_t *slot(struct offset_ledger *ledger, int64_t offset)
{
    return &ledger->answered[(uint64_t)offset % ledger->window];
}

static bool is_answered(const struct offset_ledger *ledger, int64_t offset)
{
    return ledger->answered[(uint64_t)offset % ledger->window] != 0;
}

static void set_answered(struct offset_ledger *ledger, int64_t offset)
{
    bool before = offset > ledger->base && is_answered(ledger, offset - 1);
    bool after = offset + 1 < ledger->next && is_answered(ledger, offset + 1);
    *slot(ledger, offset) = 1;
    if (!before && !after)
        ledger->runs += 2;
    else if (before && after)
        ledger->runs -= 2;
}

static void advance(struct offset_ledger *ledger)
{
    bool moved = false;
    while (ledger->base < ledger->next && is_answered(ledger, ledger->base)) {
        *slot(ledger, ledger->base++) = 0;
        moved = true;
    }
    if (moved && ledger->runs >= 2)
        ledger->runs -= 2;
}

/* ---- metadata ---- */

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static size_t base64_encode(const uint8_t *raw, size_t bytes, char *out)
{
    size_t count = 0;
    for (size_t i = 0; i < bytes; i += 3) {
        size_t left = bytes - i;
        uint32_t group =
            (uint32_t)raw[i] << 16 | (left > 1 ? (uint32_t)raw[i + 1] << 8 : 0) | (left > 2 ? raw[i + 2] : 0);
        out[count++] = alphabet[group >> 18];
        out[count++] = alphabet[group >> 12 & 63];
        out[count++] = left > 1 ? alphabet[group >> 6 & 63] : '=';
        out[count++] = left > 2 ? alphabet[group & 63] : '=';
    }
    out[count] = '\0';
    return count;
}

static bool base64_decode(const char *text, uint8_t *out, size_t capacity, size_t *bytes)
{
    size_t length = strlen(text), count = 0;
    uint32_t bits = 0;
    int have = 0;
    while (length > 0 && text[length - 1] == '=')
        length--;
    for (size_t i = 0; i < length; i++) {
        const char *at = text[i] ? strchr(alphabet, text[i]) : NULL;
        if (!at)
            return false;
        bits = bits << 6 | (uint32_t)(at - alphabet);
        have += 6;
        if (have >= 8) {
            if (count == capacity)
                return false;
            have -= 8;
            out[count++] = (uint8_t)(bits >> have);
        }
    }
    *bytes = count;
    return true;
}

static size_t put_varint(uint8_t *out, uint64_t value)
{
    size_t count = 0;
    for (; value >= 0x80; value >>= 7)
        out[count++] = (uint8_t)(value | 0x80);
    out[count++] = (uint8_t)value;
    return count;
}

static bool get_varint(const uint8_t *raw, size_t bytes, size_t *at, uint64_t *value)
{
    *value = 0;
    for (int shift = 0; *at < bytes && shift < 35; shift += 7) {
        uint8_t part = raw[(*at)++];
        *value |= (uint64_t)(part & 0x7F) << shift;
        if (!(part & 0x80))
            return true;
    }
    return false;
}

size_t offset_ledger_metadata(const struct offset_ledger *ledger, char out[OFFSET_MAP_MAX_BYTES])
{
    uint8_t raw[MAP_RAW_MAX_BYTES];
    size_t bytes = 0;
    int64_t at = ledger->base;
    raw[bytes++] = OFFSET_MAP_VERSION;
    while (at < ledger->next && bytes + 10 < sizeof raw) {
        int64_t open = at;
        while (open < ledger->next && !is_answered(ledger, open))
            open++;
        if (open == ledger->next)
            break; /* nothing answered beyond */
        int64_t done = open;
        while (done < ledger->next && is_answered(ledger, done))
            done++;
        bytes += put_varint(raw + bytes, (uint64_t)(open - at));
        bytes += put_varint(raw + bytes, (uint64_t)(done - open));
        at = done;
    }
    if (bytes == 1) {
        out[0] = '\0';
        return 0;
    }
    return base64_encode(raw, bytes, out);
}

/* Marks the runs of one map. False: not a map of this version. */
static bool apply_metadata(struct offset_ledger *ledger, const char *metadata)
{
    uint8_t raw[MAP_RAW_MAX_BYTES];
    size_t bytes = 0, at = 1;
    if (!base64_decode(metadata, raw, sizeof raw, &bytes) || bytes == 0 || raw[0] != OFFSET_MAP_VERSION)
        return false;
    while (at < bytes) {
        uint64_t open, done;
        if (!get_varint(raw, bytes, &at, &open) || !get_varint(raw, bytes, &at, &done) ||
            open + done > ledger->window - (uint64_t)(ledger->next - ledger->base))
            return false;
        ledger->next += (int64_t)open;
        for (uint64_t i = 0; i < done; i++) {
            ledger->next++;
            set_answered(ledger, ledger->next - 1);
        }
    }
    return true;
}

enum status offset_ledger_begin(struct offset_ledger *ledger, int64_t committed, const char *metadata)
{
    memset(ledger->answered, 0, ledger->window);
    ledger->base = ledger->next = committed;
    ledger->open_count = ledger->runs = 0;
    if (committed < 0 || !metadata || !*metadata)
        return STATUS_OK;
    if (apply_metadata(ledger, metadata)) {
        /* What the map names lies ahead: it is seen when its records are skipped or taken. */
        return STATUS_OK;
    }
    memset(ledger->answered, 0, ledger->window);
    ledger->next = committed;
    ledger->runs = 0;
    return STATUS_INVALID;
}

bool offset_ledger_take(struct offset_ledger *ledger, int64_t offset)
{
    if (ledger->base < 0)
        ledger->base = ledger->next = offset;
    if (offset < ledger->base)
        return false; /* before what was committed */
    if (offset < ledger->next) {
        if (is_answered(ledger, offset))
            return false;
        ledger->open_count++;
        return true;
    }
    CHECK(offset - ledger->base < (int64_t)ledger->window);
    while (ledger->next < offset) {
        ledger->next++;
        set_answered(ledger, ledger->next - 1);
    }
    ledger->next = offset + 1;
    *slot(ledger, offset) = 0;
    ledger->open_count++;
    advance(ledger);
    return true;
}

bool offset_ledger_has_room(const struct offset_ledger *ledger, int64_t offset)
{
    if (ledger->base < 0 || offset < ledger->next)
        return true;
    /* A run costs at most three bytes: window offsets fit a 21-bit varint. */
    return offset - ledger->base < (int64_t)ledger->window && ledger->runs * 3 < MAP_FULL_BYTES;
}

bool offset_ledger_is_strained(const struct offset_ledger *ledger)
{
    return ledger->next - ledger->base > (int64_t)ledger->window / 2 ||
           !offset_ledger_has_room(ledger, ledger->next);
}

void offset_ledger_answer(struct offset_ledger *ledger, int64_t offset)
{
    CHECK(offset >= ledger->base && offset < ledger->next && !is_answered(ledger, offset) &&
          ledger->open_count > 0);
    set_answered(ledger, offset);
    ledger->open_count--;
    advance(ledger);
}

int64_t offset_ledger_commit_offset(const struct offset_ledger *ledger)
{
    return ledger->base;
}

size_t offset_ledger_open_count(const struct offset_ledger *ledger)
{
    return ledger->open_count;
}
