// SPDX-License-Identifier: Apache-2.0
// Stop strings across token borders, withheld text, byte runs, special tokens, min_tokens, priming: on a
// byte-level and on a byte-fallback tokenizer small enough to read here.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "engine/text/detokenizer.h"

#define MAX_TEXT ((size_t)1 << 20)

/* Ids: 0 "a", 1 "b", 2 "ab", 3 "Ġa", 4-6 the bytes of U+20AC in the byte alphabet, 7 "c", 8 <end> (special).
 */
static const char byte_level[] =
    "{\"added_tokens\":[{\"id\":8,\"content\":\"<end>\",\"special\":true}],\"decoder\":{\"type\":"
    "\"ByteLevel\"},"
    "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2,\"\xC4\xA0"
    "a\":3,\"\xC3\xA2\":4,\"\xC4\xA4\":5,\"\xC2\xAC\":6,\"c\":7},\"merges\":[]}}";

/* Ids: 0 "▁a", 1 "b", 2 "<0x0A>", 3 "<0xE2>", 4 "<0x82>", 5 "<0xAC>". */
static const char byte_fallback[] =
    "{\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":{\"String\":"
    "\"\xE2\x96\x81\"},"
    "\"content\":\" \"},{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"},{\"type\":\"Strip\",\"content\":\" "
    "\",\"start\":1,"
    "\"stop\":0}]},\"model\":{\"type\":\"BPE\",\"vocab\":{\"\xE2\x96\x81"
    "a\":0,\"b\":1,\"<0x0A>\":2,\"<0xE2>\":3,\"<0x82>\":4,\"<0xAC>\":5},\"merges\":[]}}";

struct run {
    const char *json;
    struct detokenizer_options options;
    int32_t prime[4], ids[8];
    size_t prime_count, count;
    const char *released[9]; /* after each token, then at the end; NULL: the stop was reached */
    int stop;
};

static void check(const struct run *run)
{
    struct tokenizer *tokenizer;
    struct detokenizer *detokenizer;
    struct bytes out;
    int stop = -1;
    assert_int_equal(tokenizer_open_text(&tokenizer, run->json, strlen(run->json), NULL, 0, NULL), STATUS_OK);
    assert_int_equal(detokenizer_open(&detokenizer, tokenizer, &run->options, NULL), STATUS_OK);
    bytes_init(&out, MAX_TEXT);
    assert_int_equal(bytes_append(&out, "", 0), STATUS_OK);
    detokenizer_prime(detokenizer, run->prime, run->prime_count);
    for (size_t i = 0; i < run->count; i++) {
        assert_int_equal(detokenizer_push(detokenizer, run->ids[i], &out, &stop), STATUS_OK);
        assert_string_equal(out.data, run->released[i]);
        if (stop >= 0)
            assert_int_equal(i + 1, run->count);
    }
    assert_int_equal(stop, run->stop);
    assert_int_equal(detokenizer_finish(detokenizer, &out), STATUS_OK);
    assert_string_equal(out.data, run->released[run->count]);
    bytes_release(&out);
    detokenizer_close(detokenizer);
    tokenizer_close(tokenizer);
}

static const char *const stop_abc[] = {"abc"}, *const stop_two[] = {"bc", "ab"}, *const line_feed[] = {"\n"};

static void text_is_withheld_while_a_stop_is_possible(void **state)
{
    (void)state;
    check(&(struct run){.json = byte_level,
                        .options = {.stops = stop_abc, .stop_count = 1},
                        .stop = -1,
                        .ids = {1, 2, 1, 0},
                        .count = 4,
                        .released = {"b", "b", "babb", "babb", "babba"}});
}

static void a_stop_ends_the_text(void **state)
{
    (void)state;
    check(&(struct run){.json = byte_level,
                        .options = {.stops = stop_abc, .stop_count = 1},
                        .stop = 0,
                        .ids = {1, 0, 1, 7},
                        .count = 4,
                        .released = {"b", "b", "b", "b", "b"}});
    check(&(struct run){.json = byte_level,
                        .options = {.stops = stop_abc, .stop_count = 1, .include_stop = true},
                        .stop = 0,
                        .ids = {1, 2, 7},
                        .count = 3,
                        .released = {"b", "b", "babc", "babc"}});
}

static void the_first_complete_stop_counts(void **state)
{
    (void)state;
    check(&(struct run){.json = byte_level,
                        .options = {.stops = stop_two, .stop_count = 2},
                        .stop = 1,
                        .ids = {7, 2},
                        .count = 2,
                        .released = {"c", "c", "c"}});
}

static void stops_within_min_tokens_are_ignored(void **state)
{
    (void)state;
    check(&(struct run){.json = byte_level,
                        .options = {.stops = stop_abc, .stop_count = 1, .min_tokens = 2},
                        .stop = 0,
                        .ids = {2, 7, 2, 7},
                        .count = 4,
                        .released = {"", "abc", "abc", "abc", "abc"}});
}

static void characters_come_whole(void **state)
{
    (void)state;
    check(&(struct run){.json = byte_level,
                        .stop = -1,
                        .ids = {0, 4, 5, 6, 1},
                        .count = 5,
                        .released = {"a", "a", "a", "a\xE2\x82\xAC",
                                     "a\xE2\x82\xAC"
                                     "b",
                                     "a\xE2\x82\xAC"
                                     "b"}});
    check(&(struct run){.json = byte_level,
                        .stop = -1,
                        .ids = {4, 5, 0, 4},
                        .count = 4,
                        .released = {"", "",
                                     "\xEF\xBF\xBD"
                                     "a",
                                     "\xEF\xBF\xBD"
                                     "a",
                                     "\xEF\xBF\xBD"
                                     "a\xEF\xBF\xBD"}});
}

static void special_tokens_may_be_skipped(void **state)
{
    (void)state;
    check(&(struct run){.json = byte_level,
                        .options = {.skip_special_tokens = true},
                        .stop = -1,
                        .ids = {0, 8, 1},
                        .count = 3,
                        .released = {"a", "a", "ab", "ab"}});
    check(&(struct run){
        .json = byte_level, .stop = -1, .ids = {0, 8}, .count = 2, .released = {"a", "a<end>", "a<end>"}});
}

static void byte_runs_are_settled_by_what_follows(void **state)
{
    (void)state;
    check(&(struct run){.json = byte_fallback,
                        .stop = -1,
                        .ids = {0, 3, 4, 5, 1},
                        .count = 5,
                        .released = {"a", "a", "a", "a",
                                     "a\xE2\x82\xAC"
                                     "b",
                                     "a\xE2\x82\xAC"
                                     "b"}});
    check(&(struct run){.json = byte_fallback,
                        .stop = -1,
                        .ids = {2, 3, 2},
                        .count = 3,
                        .released = {"", "", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD",
                                     "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"}});
}

static void a_stop_in_an_open_byte_run_is_seen_at_once(void **state)
{
    (void)state;
    check(&(struct run){.json = byte_fallback,
                        .options = {.stops = line_feed, .stop_count = 1},
                        .stop = 0,
                        .ids = {0, 1, 2},
                        .count = 3,
                        .released = {"a", "ab", "ab", "ab"}});
}

static void a_primed_sequence_keeps_its_first_blank(void **state)
{
    (void)state;
    check(&(struct run){
        .json = byte_fallback, .stop = -1, .ids = {0, 0}, .count = 2, .released = {"a", "a a", "a a"}});
    check(&(struct run){.json = byte_fallback,
                        .stop = -1,
                        .prime = {1},
                        .prime_count = 1,
                        .ids = {0},
                        .count = 1,
                        .released = {" a", " a"}});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_is_withheld_while_a_stop_is_possible),
        cmocka_unit_test(a_stop_ends_the_text),
        cmocka_unit_test(the_first_complete_stop_counts),
        cmocka_unit_test(stops_within_min_tokens_are_ignored),
        cmocka_unit_test(characters_come_whole),
        cmocka_unit_test(special_tokens_may_be_skipped),
        cmocka_unit_test(byte_runs_are_settled_by_what_follows),
        cmocka_unit_test(a_stop_in_an_open_byte_run_is_seen_at_once),
        cmocka_unit_test(a_primed_sequence_keeps_its_first_blank),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
