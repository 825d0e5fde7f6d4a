// SPDX-License-Identifier: Apache-2.0
#include "engine/speculate/prompt_lookup.h"

#include <stdbool.h>

#include "base/check.h"

enum { LONGEST_AGREEMENT = 32 }; /* that is looked for: the last place with so much is taken */
#define NEW_SHARE 0.0625F        /* of the newest guess in what is known of its length */

/* Until a text has said how it is: about what files of answers show. */
static const float expected[LOOKUP_LENGTHS] = {0.15F, 0.35F, 0.6F, 0.75F, 0.85F, 0.9F};

static uint32_t length_class(uint32_t agreed)
{
    uint32_t class = 0;
    while (agreed > 1 && class < LOOKUP_LENGTHS - 1) {
        agreed /= 2;
        class ++;
    }
    return class;
}

/* The next token is there: was it the guess? */
static void settle_guess(struct prompt_lookup *lookup, const int32_t *tokens)
{
    const bool right = tokens[lookup->place] == tokens[lookup->known];
    float *share = &lookup->come_true[length_class(lookup->agreed)];
    *share += NEW_SHARE * ((right ? 1.0F : 0.0F) - *share);
    lookup->agreed = right ? lookup->agreed + 1 : 0;
    lookup->place++;
}

static uint32_t agreement(const int32_t *tokens, uint32_t end, uint32_t count)
{
    uint32_t agreed = 0;
    while (agreed < end && agreed < LONGEST_AGREEMENT &&
           tokens[end - 1 - agreed] == tokens[count - 1 - agreed])
        agreed++;
    return agreed;
}

/* The place behind the longest agreement with the end of the text, the last of equally long ones. */
static void find_place(struct prompt_lookup *lookup, const int32_t *tokens, uint32_t count)
{
    const int32_t last = tokens[count - 1];
    for (uint32_t end = count - 1; end > 0 && lookup->agreed < LONGEST_AGREEMENT; end--) {
        if (tokens[end - 1] != last)
            continue;
        const uint32_t agreed = agreement(tokens, end, count);
        if (agreed > lookup->agreed) {
            lookup->agreed = agreed;
            lookup->place = end;
        }
    }
}

void prompt_lookup_follow(struct prompt_lookup *lookup, const int32_t *tokens, uint32_t count)
{
    if (lookup->known == 0)
        for (int i = 0; i < LOOKUP_LENGTHS; i++)
            lookup->come_true[i] = expected[i];
    for (; lookup->known < count && lookup->agreed > 0; lookup->known++)
        settle_guess(lookup, tokens);
    lookup->known = count;
    if (lookup->agreed == 0 && count > 0)
        find_place(lookup, tokens, count);
}

double prompt_lookup_chance(const struct prompt_lookup *lookup, uint32_t ahead)
{
    return lookup->agreed > 0 ? (double)lookup->come_true[length_class(lookup->agreed + ahead)] : 0;
}

void prompt_lookup_guess(const struct prompt_lookup *lookup, int32_t *tokens, uint32_t count)
{
    CHECK(lookup->agreed > 0);
    for (uint32_t i = 0; i < count; i++) /* a place near the end reads what was guessed before */
        tokens[lookup->known + i] = tokens[lookup->place + i];
}
