// SPDX-License-Identifier: Apache-2.0
// Prompt lookup: what a text says next is guessed to be what followed the last place that agrees longest with
// its end. No model and no index: a place is searched for by reading the tokens backwards, four bytes for
// each, where attention reads thousands for each in the same step; while guesses come true the place only
// moves on.
//
// How often guesses come true is learnt by the length of the agreement, from every token that the text gains,
// whether a step computed the guess or not: so a guess is priced before anything is spent on it. A function
// of the tokens alone. Owner: the engine thread.
#ifndef ENGINE_SPECULATE_PROMPT_LOOKUP_H
#define ENGINE_SPECULATE_PROMPT_LOOKUP_H

#include <stdint.h>

enum { LOOKUP_LENGTHS = 6 }; /* of agreement: 1, 2 to 3, 4 to 7, …, 32 tokens and more */

/* All zero: of an empty text. */
struct prompt_lookup {
    uint32_t known;                  /* tokens of the text that were looked at */
    uint32_t place;                  /* of the tokens that are guessed to follow; < known */
    uint32_t agreed;                 /* tokens before it equal the last ones of the text; 0: no guess */
    float come_true[LOOKUP_LENGTHS]; /* share of the guesses, recent ones count more */
};

/* The text has `count` tokens now; the first `known` are as they were. */
void prompt_lookup_follow(struct prompt_lookup *lookup, const int32_t *tokens, uint32_t count);
/* How likely the guess `ahead` tokens behind the text comes true if those before it do. */
double prompt_lookup_chance(const struct prompt_lookup *lookup, uint32_t ahead);
/* Writes guesses behind the text, of which `tokens` has room for `count` more. There must be a guess. */
void prompt_lookup_guess(const struct prompt_lookup *lookup, int32_t *tokens, uint32_t count);

#endif
