// SPDX-License-Identifier: Apache-2.0
// Layout: u32le trie bytes | trie units u32le (Darts-clone) | NUL-terminated replacements. A unit holds a
// label (bits 0-7), whether a value follows (bit 8), an offset (bits 10-31, scaled by bit 9). Source:
// SentencePiece normalizer; Hugging Face applies it to a grapheme of under six bytes first, then per
// character.
#include "engine/text/charsmap.h"

#include <stdlib.h>
#include <string.h>

#include "engine/text/unicode.h"

#define MAX_GRAPHEME_BYTES 6 /* longer ones are mapped character by character */

struct charsmap {
    uint8_t *blob;
    const uint8_t *units; /* [unit_count] u32le */
    size_t unit_count;
    const char *replacements; /* [replacement_bytes], ends with a NUL */
    size_t replacement_bytes;
};

static int base64_value(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
}

/* Returns the decoded length, or SIZE_MAX for a character outside the alphabet. */
static size_t decode_base64(const char *text, size_t bytes, uint8_t *out)
{
    size_t count = 0;
    uint32_t bits = 0;
    int bit_count = 0;
    while (bytes > 0 && text[bytes - 1] == '=')
        bytes--;
    for (size_t i = 0; i < bytes; i++) {
        const int value = base64_value(text[i]);
        if (value < 0)
            return SIZE_MAX;
        bits = bits << 6 | (uint32_t)value;
        bit_count += 6;
        if (bit_count >= 8) {
            bit_count -= 8;
            out[count++] = (uint8_t)(bits >> bit_count);
        }
    }
    return count;
}

static uint32_t unit_at(const uint8_t *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static enum status read_layout(struct charsmap *charsmap, size_t bytes, struct error *err)
{
    const size_t trie_bytes = bytes >= 4 ? unit_at(charsmap->blob) : 0;
    if (bytes < 4 || trie_bytes % 4 || trie_bytes == 0 || trie_bytes > bytes - 4)
        return error_set(err, STATUS_INVALID, "precompiled_charsmap: its trie does not fit in it");
    charsmap->units = charsmap->blob + 4;
    charsmap->unit_count = trie_bytes / 4;
    charsmap->replacements = (const char *)charsmap->blob + 4 + trie_bytes;
    charsmap->replacement_bytes = bytes - 4 - trie_bytes;
    return STATUS_OK;
}

enum status charsmap_open(struct charsmap **out, const struct json *node, struct error *err)
{
    *out = NULL;
    if (!node || node->type == JSON_NULL || (node->type == JSON_STRING && node->count == 0))
        return STATUS_OK;
    if (node->type != JSON_STRING)
        return error_set(err, STATUS_INVALID, "precompiled_charsmap must be a string");
    struct charsmap *charsmap = calloc(1, sizeof *charsmap);
    if (charsmap)
        charsmap->blob = malloc(node->count + 1);
    enum status status = STATUS_OK;
    if (!charsmap || !charsmap->blob)
        status = error_set(err, STATUS_NO_MEMORY, "no memory for precompiled_charsmap");
    if (status == STATUS_OK) {
        const size_t bytes = decode_base64(node->as.string, node->count, charsmap->blob);
        status = bytes == SIZE_MAX ? error_set(err, STATUS_INVALID, "precompiled_charsmap is not base64")
                                   : read_layout(charsmap, bytes, err);
    }
    if (status != STATUS_OK) {
        charsmap_close(charsmap);
        return status;
    }
    *out = charsmap;
    return STATUS_OK;
}

void charsmap_close(struct charsmap *charsmap)
{
    if (!charsmap)
        return;
    free(charsmap->blob);
    free(charsmap);
}

static size_t unit_offset(uint32_t unit)
{
    return (size_t)(unit >> 10) << ((unit & 1u << 9) >> 6);
}

/* The replacement of the shortest key that begins `text`, or NULL. */
static const char *find(const struct charsmap *charsmap, const char *text, size_t bytes, size_t *found_bytes)
{
    size_t node = unit_offset(unit_at(charsmap->units));
    for (size_t i = 0; i < bytes && text[i]; i++) {
        node ^= (unsigned char)text[i];
        if (node >= charsmap->unit_count)
            return NULL;
        const uint32_t unit = unit_at(charsmap->units + 4 * node);
        if ((unit & (1u << 31 | 0xFF)) != (unsigned char)text[i])
            return NULL;
        node ^= unit_offset(unit);
        if (node >= charsmap->unit_count)
            return NULL;
        if (unit & 1u << 8) {
            const size_t at = unit_at(charsmap->units + 4 * node) & 0x7FFFFFFF;
            if (at >= charsmap->replacement_bytes)
                return NULL;
            *found_bytes = strnlen(charsmap->replacements + at, charsmap->replacement_bytes - at);
            return charsmap->replacements + at;
        }
    }
    return NULL;
}

enum status charsmap_apply(const struct charsmap *charsmap, const char *text, size_t bytes, struct bytes *out)
{
    size_t at = 0;
    while (charsmap && at < bytes) {
        const size_t grapheme_bytes = unicode_grapheme(text + at, bytes - at);
        size_t length;
        const char *mapped =
            grapheme_bytes < MAX_GRAPHEME_BYTES ? find(charsmap, text + at, grapheme_bytes, &length) : NULL;
        const size_t end = at + grapheme_bytes;
        if (mapped) {
            bytes_append(out, mapped, length);
            at = end;
        }
        while (at < end) {
            uint32_t c;
            const size_t char_bytes = unicode_decode(text + at, end - at, &c);
            mapped = find(charsmap, text + at, char_bytes, &length);
            bytes_append(out, mapped ? mapped : text + at, mapped ? length : char_bytes);
            at += char_bytes;
        }
    }
    return bytes_append(out, text + at, bytes - at);
}
