// SPDX-License-Identifier: Apache-2.0
#include "engine/constrain/grammar_utf8.h"

#include "base/check.h"

static size_t encode(uint32_t codepoint, uint8_t out[4])
{
    size_t bytes = codepoint < 0x800 ? 2 : codepoint < 0x10000 ? 3 : 4;
    static const uint8_t marks[5] = {0, 0, 0xC0, 0xE0, 0xF0};
    for (size_t i = bytes; i-- > 1; codepoint >>= 6)
        out[i] = (uint8_t)(0x80 | (codepoint & 0x3F));
    out[0] = (uint8_t)(marks[bytes] | codepoint);
    return bytes;
}

struct output {
    struct utf8_sequence *sequences;
    size_t count;
};

/* first and last have the same length. Cuts where the trailing bytes do not cover their whole range. */
static void add(struct output *out, uint32_t first, uint32_t last)
{
    for (unsigned trailing = 1; trailing < 4; trailing++) {
        uint32_t mask = (1u << 6 * trailing) - 1;
        if ((first & ~mask) == (last & ~mask))
            continue; /* they differ only below */
        if ((first & mask) != 0) {
            add(out, first, first | mask);
            add(out, (first | mask) + 1, last);
            return;
        }
        if ((last & mask) != mask) {
            add(out, first, (last & ~mask) - 1);
            add(out, last & ~mask, last);
            return;
        }
    }
    CHECK(out->count < UTF8_MOST_SEQUENCES);
    struct utf8_sequence *sequence = &out->sequences[out->count++];
    sequence->bytes = encode(first, sequence->first);
    encode(last, sequence->last);
}

size_t utf8_sequences(struct codepoint_range range, struct utf8_sequence out[UTF8_MOST_SEQUENCES])
{
    static const struct codepoint_range lengths[] = {
        {0x80, 0x7FF}, {0x800, 0xD7FF}, {0xE000, 0xFFFF}, {0x10000, 0x10FFFF}};
    struct output output = {out, 0};
    for (int i = 0; i < 4; i++) {
        uint32_t first = range.first > lengths[i].first ? range.first : lengths[i].first;
        uint32_t last = range.last < lengths[i].last ? range.last : lengths[i].last;
        if (first <= last)
            add(&output, first, last);
    }
    return output.count;
}
