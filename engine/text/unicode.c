// SPDX-License-Identifier: Apache-2.0
// Unicode for the text room over utf8proc. Pure functions; any thread. White_Space and the few Alphabetic
// symbols are listed here, because utf8proc's tables hold general categories only.
#include "engine/text/unicode.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/json.h"

static bool is_ascii(const char *text, size_t bytes)
{
    uint64_t word;
    size_t i = 0;
    for (; i + sizeof word <= bytes; i += sizeof word) {
        memcpy(&word, text + i, sizeof word);
        if (word & UINT64_C(0x8080808080808080))
            return false;
    }
    for (; i < bytes; i++)
        if ((unsigned char)text[i] >= 0x80)
            return false;
    return true;
}

size_t unicode_valid_prefix(const char *text, size_t bytes)
{
    size_t at = 0;
    while (at < bytes) {
        uint64_t word;
        if (at + sizeof word <= bytes) {
            memcpy(&word, text + at, sizeof word);
            if (!(word & UINT64_C(0x8080808080808080))) {
                at += sizeof word;
                continue;
            }
        }
        size_t length = json_utf8_length(text + at, bytes - at);
        if (!length)
            return at;
        at += length;
    }
    return at;
}

size_t unicode_decode(const char *text, size_t bytes, uint32_t *code_point)
{
    const unsigned char *s = (const unsigned char *)text;
    if (s[0] < 0x80 || bytes < 2) {
        *code_point = s[0];
        return 1;
    }
    if (s[0] < 0xE0 || bytes < 3) {
        *code_point = (uint32_t)(s[0] & 0x1F) << 6 | (s[1] & 0x3Fu);
        return 2;
    }
    if (s[0] < 0xF0 || bytes < 4) {
        *code_point = (uint32_t)(s[0] & 0x0F) << 12 | (uint32_t)(s[1] & 0x3F) << 6 | (s[2] & 0x3Fu);
        return 3;
    }
    *code_point = (uint32_t)(s[0] & 0x07) << 18 | (uint32_t)(s[1] & 0x3F) << 12 |
                  (uint32_t)(s[2] & 0x3F) << 6 | (s[3] & 0x3Fu);
    return 4;
}

size_t unicode_encode(uint32_t c, char out[UNICODE_MAX_BYTES])
{
    return (size_t)utf8proc_encode_char((utf8proc_int32_t)c, (utf8proc_uint8_t *)out);
}

size_t unicode_last(const char *text, size_t bytes)
{
    size_t at = bytes - 1;
    while (at > 0 && ((unsigned char)text[at] & 0xC0) == 0x80)
        at--;
    return at;
}

/* How many bytes the sequence that starts with `lead` has, and the range of its second byte. */
static size_t sequence_length(unsigned char lead, unsigned char *low, unsigned char *high)
{
    *low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    *high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    if (lead >= 0xC2 && lead <= 0xDF)
        return 2;
    if (lead >= 0xE0 && lead <= 0xEF)
        return 3;
    return lead >= 0xF0 && lead <= 0xF4 ? 4 : 1;
}

size_t unicode_ill_formed(const char *text, size_t bytes, bool *incomplete)
{
    const unsigned char *s = (const unsigned char *)text;
    unsigned char low, high;
    const size_t wanted = sequence_length(s[0], &low, &high);
    size_t length = 1;
    while (length < wanted && length < bytes && s[length] >= low && s[length] <= high) {
        length++;
        low = 0x80;
        high = 0xBF;
    }
    *incomplete = length < wanted && length == bytes;
    return length;
}

bool unicode_is_space(uint32_t c)
{
    if (c < 0x80)
        return c == ' ' || (c >= '\t' && c <= '\r');
    return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
           c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

static utf8proc_category_t category(uint32_t c)
{
    return utf8proc_category((utf8proc_int32_t)c);
}

bool unicode_is_mark(uint32_t c)
{
    const utf8proc_category_t kind = category(c);
    return kind == UTF8PROC_CATEGORY_MN || kind == UTF8PROC_CATEGORY_MC || kind == UTF8PROC_CATEGORY_ME;
}

bool unicode_is_numeric(uint32_t c)
{
    const utf8proc_category_t kind = category(c);
    return kind == UTF8PROC_CATEGORY_ND || kind == UTF8PROC_CATEGORY_NL || kind == UTF8PROC_CATEGORY_NO;
}

bool unicode_is_other(uint32_t c)
{
    const utf8proc_category_t kind = category(c);
    return kind == UTF8PROC_CATEGORY_CC || kind == UTF8PROC_CATEGORY_CF || kind == UTF8PROC_CATEGORY_CN ||
           kind == UTF8PROC_CATEGORY_CO;
}

bool unicode_is_punctuation(uint32_t c)
{
    if (c < 0x80)
        return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') ||
               (c >= '{' && c <= '~');
    const utf8proc_category_t kind = category(c);
    return kind >= UTF8PROC_CATEGORY_PC && kind <= UTF8PROC_CATEGORY_PO;
}

bool unicode_is_word(uint32_t c)
{
    const utf8proc_category_t kind = category(c);
    if (kind >= UTF8PROC_CATEGORY_LU && kind <= UTF8PROC_CATEGORY_NL)
        return true; /* letters, marks, Nd, Nl: they are neighbours in utf8proc's list */
    return kind == UTF8PROC_CATEGORY_PC || c == 0x200C || c == 0x200D || (c >= 0x24B6 && c <= 0x24E9) ||
           (c >= 0x1F130 && c <= 0x1F149) || (c >= 0x1F150 && c <= 0x1F169) || (c >= 0x1F170 && c <= 0x1F189);
}

bool unicode_is_normal(enum unicode_form form, const char *text, size_t bytes)
{
    if (is_ascii(text, bytes))
        return true;
    if (form != UNICODE_NFC)
        return false;
    for (size_t i = 0; i < bytes; i++) /* below U+0300 nothing combines and nothing decomposes for good */
        if ((unsigned char)text[i] >= 0xCC)
            return false;
    return true;
}

/* Sorting marks is quadratic in the run; a run that no language writes is refused instead. */
static bool marks_bounded(const char *text, size_t bytes)
{
    size_t run = 0;
    for (size_t at = 0; at < bytes;) {
        uint32_t c;
        at += unicode_decode(text + at, bytes - at, &c);
        run = c >= 0x300 && utf8proc_get_property((utf8proc_int32_t)c)->combining_class ? run + 1 : 0;
        if (run > UNICODE_MAX_MARKS)
            return false;
    }
    return true;
}

enum status unicode_normalize(enum unicode_form form, const char *text, size_t bytes, struct bytes *out)
{
    static const utf8proc_option_t options[] = {
        [UNICODE_NFC] = UTF8PROC_STABLE | UTF8PROC_COMPOSE,
        [UNICODE_NFD] = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE,
        [UNICODE_NFKC] = UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT,
        [UNICODE_NFKD] = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT,
    };
    if (bytes > INT_MAX)
        return STATUS_TOO_LARGE;
    if (bytes == 0 || unicode_is_normal(form, text, bytes))
        return bytes_append(out, text, bytes);
    if (!marks_bounded(text, bytes))
        return STATUS_INVALID;
    utf8proc_uint8_t *normal = NULL;
    const utf8proc_ssize_t length =
        utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)bytes, &normal, options[form]);
    if (length < 0)
        return length == UTF8PROC_ERROR_NOMEM ? STATUS_NO_MEMORY : STATUS_INVALID;
    const enum status status = bytes_append(out, normal, (size_t)length);
    free(normal);
    return status;
}

static enum status map_case(const char *text, size_t bytes, utf8proc_int32_t (*map)(utf8proc_int32_t),
                            struct bytes *out)
{
    enum status status = STATUS_OK;
    for (size_t at = 0; at < bytes && status == STATUS_OK;) {
        uint32_t c;
        char text_out[UNICODE_MAX_BYTES];
        at += unicode_decode(text + at, bytes - at, &c);
        if (c == 0x130 && map == utf8proc_tolower)
            status = bytes_append(out, "i\xCC\x87", 3); /* the one full lower-case mapping that grows */
        else if (c == 0xDF && map == utf8proc_toupper)
            status = bytes_append(out, "SS", 2);
        else
            status =
                bytes_append(out, text_out, unicode_encode((uint32_t)map((utf8proc_int32_t)c), text_out));
    }
    return status;
}

enum status unicode_lower(const char *text, size_t bytes, struct bytes *out)
{
    return map_case(text, bytes, utf8proc_tolower, out);
}

enum status unicode_upper(const char *text, size_t bytes, struct bytes *out)
{
    return map_case(text, bytes, utf8proc_toupper, out);
}

size_t unicode_grapheme(const char *text, size_t bytes)
{
    uint32_t c, next;
    utf8proc_int32_t state = 0;
    size_t at = unicode_decode(text, bytes, &c);
    while (at < bytes) {
        const size_t length = unicode_decode(text + at, bytes - at, &next);
        if (utf8proc_grapheme_break_stateful((utf8proc_int32_t)c, (utf8proc_int32_t)next, &state))
            break;
        at += length;
        c = next;
    }
    return at;
}

static bool byte_is_printable(uint32_t byte)
{
    return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

/* Bytes that do not print follow one another from U+0100: 0x00-0x20, 0x7F-0xA0, 0xAD. */
uint32_t unicode_from_byte(uint8_t byte)
{
    if (byte_is_printable(byte))
        return byte;
    if (byte <= 0x20)
        return 0x100u + byte;
    return byte == 0xAD ? 0x143 : 0x121u + (byte - 0x7Fu);
}

int unicode_to_byte(uint32_t c)
{
    if (c <= 0xFF)
        return byte_is_printable(c) ? (int)c : -1;
    if (c <= 0x120)
        return (int)(c - 0x100);
    if (c <= 0x142)
        return (int)(c - 0x121 + 0x7F);
    return c == 0x143 ? 0xAD : -1;
}
