// SPDX-License-Identifier: Apache-2.0
#include "worker/intake/offset_ledger.h"

#include <stdlib.h>
#include <string.h>

enum {
    MAP_RAW_MAX_BYTES = (OFFSET_MAP_MAX_BYTES - 1) / 4 * 3,
    MAP_FULL_BYTES = MAP_RAW_MAX_BYTES * 3 / 4,
    MAP_HEAD_BYTES = 8,
    MOST_RUN_BYTES = 3, /* a length below 2^19 and its state; at most one run is longer: the head has room */
    OPEN = 0,           /* states of an offset; 1 .. MOST_ATTEMPTS: open, attempted that often */
    ANSWERED = 255
};

/* states[] is a ring over the offsets base .. next - 1. */
struct offset_ledger {
    size_t window;
    int64_t base;            /* lowest offset not answered; -1: not begun */
    int64_t next;            /* one past the newest seen */
    int64_t attempted_until; /* open offsets below were attempted by an earlier owner */
    int64_t reserved_until;  /* ours */
    size_t open_count;
    size_t borders; /* neighbours of unequal states: bounds the metadata */
    uint8_t states[];
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

static uint8_t state_of(const struct offset_ledger *ledger, int64_t offset)
{
    return ledger->states[(uint64_t)offset % ledger->window];
}

/* 1 when the offset's state is not its predecessor's, and both are in the ring. */
static size_t border(const struct offset_ledger *ledger, int64_t offset)
{
    return offset > ledger->base && offset < ledger->next &&
           state_of(ledger, offset) != state_of(ledger, offset - 1);
}

static void set_state(struct offset_ledger *ledger, int64_t offset, uint8_t state)
{
    ledger->borders -= border(ledger, offset) + border(ledger, offset + 1);
    ledger->states[(uint64_t)offset % ledger->window] = state;
    ledger->borders += border(ledger, offset) + border(ledger, offset + 1);
}

static void append(struct offset_ledger *ledger, uint8_t state)
{
    ledger->states[(uint64_t)ledger->next % ledger->window] = state;
    ledger->next++;
    ledger->borders += border(ledger, ledger->next - 1);
}

static void advance(struct offset_ledger *ledger)
{
    while (ledger->base < ledger->next && state_of(ledger, ledger->base) == ANSWERED) {
        ledger->borders -= border(ledger, ledger->base + 1);
        ledger->base++;
    }
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

static size_t put_run(uint8_t *out, int64_t length, uint8_t state)
{
    uint64_t code = state == OPEN ? 0 : state == ANSWERED ? 1 : state == 1 ? 2 : 3;
    size_t count = put_varint(out, (uint64_t)length << 2 | code);
    if (code == 3)
        out[count++] = state;
    return count;
}

size_t offset_ledger_metadata(const struct offset_ledger *ledger, char out[OFFSET_MAP_MAX_BYTES])
{
    uint8_t raw[MAP_RAW_MAX_BYTES];
    size_t bytes = 0;
    int64_t until =
        ledger->attempted_until > ledger->reserved_until ? ledger->attempted_until : ledger->reserved_until;
    raw[bytes++] = OFFSET_MAP_VERSION;
    bytes += put_varint(raw + bytes, until > ledger->base ? (uint64_t)(until - ledger->base) : 0);
    size_t nothing = bytes;
    for (int64_t at = ledger->base, end; at < ledger->next && bytes + 10 < sizeof raw; at = end) {
        uint8_t state = state_of(ledger, at);
        for (end = at; end < ledger->next && state_of(ledger, end) == state;)
            end++;
        if (end < ledger->next || state != OPEN)
            bytes += put_run(raw + bytes, end - at, state);
    }
    if (bytes == nothing && until <= ledger->base) {
        out[0] = '\0';
        return 0;
    }
    return base64_encode(raw, bytes, out);
}

static void append_run(struct offset_ledger *ledger, uint64_t length, uint8_t state)
{
    for (uint64_t i = 0; i < length; i++)
        append(ledger, state == OPEN && ledger->next < ledger->attempted_until ? 1 : state);
}

/* Appends the runs of one map. False: not a map of this version. */
static bool apply_metadata(struct offset_ledger *ledger, const char *metadata)
{
    uint8_t raw[MAP_RAW_MAX_BYTES];
    size_t bytes = 0, at = 1;
    uint64_t until, run;
    if (!base64_decode(metadata, raw, sizeof raw, &bytes) || bytes == 0 || raw[0] != OFFSET_MAP_VERSION ||
        !get_varint(raw, bytes, &at, &until))
        return false;
    ledger->attempted_until = until > 0 ? ledger->base + (int64_t)until : 0;
    while (at < bytes) {
        if (!get_varint(raw, bytes, &at, &run) ||
            run >> 2 > ledger->window - (uint64_t)(ledger->next - ledger->base))
            return false;
        uint64_t state = (run & 3) == 0 ? OPEN : (run & 3) == 1 ? ANSWERED : 1;
        if ((run & 3) == 3 &&
            (!get_varint(raw, bytes, &at, &state) || state < 1 || state > OFFSET_LEDGER_MOST_ATTEMPTS))
            return false;
        append_run(ledger, run >> 2, (uint8_t)state);
    }
    return true;
}

static void begin_at(struct offset_ledger *ledger, int64_t committed)
{
    ledger->base = ledger->next = committed;
    ledger->attempted_until = ledger->reserved_until = 0;
    ledger->open_count = ledger->borders = 0;
}

enum status offset_ledger_begin(struct offset_ledger *ledger, int64_t committed, const char *metadata)
{
    begin_at(ledger, committed);
    if (committed < 0 || !metadata || !*metadata || apply_metadata(ledger, metadata))
        return STATUS_OK; /* what the map names lies ahead: it is seen when its records are skipped or taken
                           */
    begin_at(ledger, committed);
    return STATUS_INVALID;
}

/* Among offsets that an earlier owner saw. */
static bool take_known(struct offset_ledger *ledger, int64_t offset)
{
    if (state_of(ledger, offset) == ANSWERED)
        return false;
    ledger->open_count++;
    return true;
}

bool offset_ledger_take(struct offset_ledger *ledger, int64_t offset)
{
    if (ledger->base < 0)
        ledger->base = ledger->next = offset;
    if (offset < ledger->base)
        return false; /* before what was committed */
    if (offset < ledger->next)
        return take_known(ledger, offset);
    CHECK(offset - ledger->base < (int64_t)ledger->window);
    while (ledger->next < offset)
        append(ledger, ANSWERED);
    append(ledger, offset < ledger->attempted_until ? 1 : OPEN);
    ledger->open_count++;
    advance(ledger);
    return true;
}

bool offset_ledger_has_room(const struct offset_ledger *ledger, int64_t offset)
{
    if (ledger->base < 0 || offset < ledger->next)
        return true;
    return offset - ledger->base < (int64_t)ledger->window &&
           MAP_HEAD_BYTES + (ledger->borders + 2) * MOST_RUN_BYTES < MAP_FULL_BYTES;
}

bool offset_ledger_is_strained(const struct offset_ledger *ledger)
{
    return ledger->next - ledger->base > (int64_t)ledger->window / 2 ||
           !offset_ledger_has_room(ledger, ledger->next);
}

static bool is_open(const struct offset_ledger *ledger, int64_t offset)
{
    return offset >= ledger->base && offset < ledger->next && state_of(ledger, offset) != ANSWERED;
}

void offset_ledger_answer(struct offset_ledger *ledger, int64_t offset)
{
    CHECK(is_open(ledger, offset) && ledger->open_count > 0);
    set_state(ledger, offset, ANSWERED);
    ledger->open_count--;
    advance(ledger);
}

unsigned offset_ledger_attempts(const struct offset_ledger *ledger, int64_t offset)
{
    CHECK(is_open(ledger, offset));
    return state_of(ledger, offset);
}

void offset_ledger_strike(struct offset_ledger *ledger, int64_t offset)
{
    unsigned attempts = offset_ledger_attempts(ledger, offset);
    if (attempts < OFFSET_LEDGER_MOST_ATTEMPTS)
        set_state(ledger, offset, (uint8_t)(attempts + 1));
}

void offset_ledger_forgive(struct offset_ledger *ledger, int64_t offset)
{
    unsigned attempts = offset_ledger_attempts(ledger, offset);
    if (attempts > 0)
        set_state(ledger, offset, (uint8_t)(attempts - 1));
}

void offset_ledger_reserve(struct offset_ledger *ledger, int64_t until)
{
    if (until > ledger->reserved_until)
        ledger->reserved_until = until;
}

int64_t offset_ledger_reserved(const struct offset_ledger *ledger)
{
    return ledger->reserved_until;
}

/* What an earlier owner attempted, and neither it nor anybody since has named in a map, stays marked. All
 * that is in the ring below that mark has its count, so the mark adds nothing to it. */
bool offset_ledger_leave(struct offset_ledger *ledger)
{
    bool news = ledger->reserved_until > 0 && ledger->reserved_until > ledger->base;
    ledger->reserved_until = 0;
    if (ledger->attempted_until <= ledger->next)
        ledger->attempted_until = 0;
    return news;
}

int64_t offset_ledger_commit_offset(const struct offset_ledger *ledger)
{
    return ledger->base;
}

int64_t offset_ledger_next(const struct offset_ledger *ledger)
{
    return ledger->next;
}

size_t offset_ledger_open_count(const struct offset_ledger *ledger)
{
    return ledger->open_count;
}
