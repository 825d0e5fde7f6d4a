// SPDX-License-Identifier: Apache-2.0
// Patterns as machines over bytes: what matches whole, what begins a match, what is refused and why; the same
// for the content of JSON strings; and masks against trying every token alone.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "engine/constrain/grammar_constraint.h"
#include "engine/constrain/grammar_regex.h"
#include "engine/constrain/grammar_store.h"
#include "engine/constrain/matcher.h"

#define MODEL MILLRACE_SOURCE_DIR "/examples/models/shop-qwen3"

static struct grammar *compile(const char *pattern, bool json, enum status expected, struct error *err)
{
    struct grammar_builder *builder;
    struct grammar_node *node;
    struct grammar *grammar = NULL;
    assert_int_equal(grammar_builder_open(&builder, err), STATUS_OK);
    enum status status = grammar_regex(builder, pattern, strlen(pattern), json, &node, err);
    if (status == STATUS_OK)
        status = grammar_finish(builder, node, &grammar, err);
    grammar_builder_close(builder);
    if (status != expected)
        fail_msg("%s: status %d, %s", pattern, (int)status, err->text);
    return grammar;
}

static struct matcher *open_matcher(const char *pattern, bool json)
{
    struct matcher *matcher;
    struct error err = {0};
    assert_int_equal(matcher_open(&matcher, compile(pattern, json, STATUS_OK, &err), &err), STATUS_OK);
    return matcher;
}

static uint32_t walk(struct matcher *matcher, const char *text)
{
    uint32_t state = MATCHER_START;
    for (; *text && state != MATCHER_DEAD; text++)
        state = matcher_step(matcher, state, (unsigned char)*text);
    return state;
}

static bool matches(struct matcher *matcher, const char *text)
{
    uint32_t state = walk(matcher, text);
    return state != MATCHER_DEAD && matcher_accepts(matcher, state);
}

struct sample {
    const char *pattern;
    const char *yes[6], *no[8];
};

static void check(const struct sample *sample, bool json)
{
    struct matcher *matcher = open_matcher(sample->pattern, json);
    for (int i = 0; i < 6 && sample->yes[i]; i++)
        if (!matches(matcher, sample->yes[i]))
            fail_msg("%s does not match %s", sample->pattern, sample->yes[i]);
    for (int i = 0; i < 8 && sample->no[i]; i++)
        if (matches(matcher, sample->no[i]))
            fail_msg("%s matches %s", sample->pattern, sample->no[i]);
    matcher_close(matcher);
}

static void patterns_match_whole(void **state)
{
    static const struct sample samples[] = {
        {"abc", {"abc"}, {"", "ab", "abcd", "xabc"}},
        {"^a|b$", {"a", "b"}, {"ab", "", "^a"}},
        {"(ab)*", {"", "ab", "abab"}, {"a", "aba"}},
        {"(?:a|bc)+d?", {"a", "bcad", "abc"}, {"d", "", "b"}},
        {"x{2,3}", {"xx", "xxx"}, {"x", "xxxx"}},
        {"x{2}", {"xx"}, {"x", "xxx"}},
        {"x{2,}", {"xx", "xxxxxxx"}, {"x"}},
        {"x{,2}", {"", "x", "xx"}, {"xxx"}},
        {"a{b", {"a{b"}, {"ab"}},
        {"(abc){3}", {"abcabcabc"}, {"abcabc", "abcabcabcabc"}},
        {"[a-c]", {"a", "b", "c"}, {"d", "", "ab"}},
        {"[^a-c]", {"d", "\xc3\xa9", "\xf0\x9f\x98\x80", "\n"}, {"a", "", "\xc3"}},
        {"[]x]", {"]", "x"}, {"", "a"}},
        {"[\\d_-]+", {"1_-2"}, {"a"}},
        {"\\w+@\\w+\\.com", {"a_1@b.com"}, {"@b.com", "a@bxcom", "\xc3\xa9@b.com"}},
        {".", {"a", "\xe2\x82\xac", "\t"}, {"\n", "\r", "\xe2\x80\xa8", "", "\xe2\x82", "ab"}},
        /* only what every reader takes for it: a digit, a letter, a space somewhere is none of these */
        {"\\D\\S\\W", {"ab ", "-\xc3\xa9-"}, {"1b ", "a  ", "\xd9\xa1z ", "ab\xc3\xa9", "a\xc2\xa0 "}},
        {"[^\\w]", {" ", "-"}, {"a", "_", "\xc3\xa9"}},
        {"[^\\S]", {" ", "\n"}, {"a", "\xc3\xa9", "\x1f"}},
        {"\\x41\\u00e9\\ud83d\\ude00", {"A\xc3\xa9\xf0\x9f\x98\x80"}, {"A"}},
        {"[\\u0400-\\u04ff]+", {"\xd0\xb6\xd1\x83"}, {"a", "\xcf\xbf"}},
        {"a*?b+?", {"b", "aab", "bb"}, {"a"}},
        {"(a*)*b", {"b", "aaab"}, {"a", ""}},
        {"(?P<n>a)(?<m>b)", {"ab"}, {"a"}},
        {"", {""}, {"a"}},
        {"(|a)(b|)", {"", "a", "b", "ab"}, {"ba"}},
        {"\\.\\*\\[\\\\\\/\\-", {".*[\\/-"}, {""}},
    };
    (void)state;
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++)
        check(&samples[i], false);
}

static void patterns_in_json_strings_are_escaped_and_found_anywhere(void **state)
{
    static const struct sample samples[] = {
        {"b", {"b", "abc", "\\\"b", "b\\u0000"}, {"", "a", "b\"", "b\n"}},
        {"^a.c$", {"abc", "a\\tc", "a\\\\c", "a\\\"c"}, {"a\nc", "a\\nc", "xabc", "a\"c", "a\\c", "abcd"}},
        {"^[\\t\"]+$", {"\\t\\\""}, {"\t", "\"", "\\u0009"}},
        {"^a|b$", {"a", "ax", "xb"}, {"x", "xa"}},
        {"^\\S*$", {"ab", "\xc3\xa9"}, {"a b", "\\n"}},
    };
    (void)state;
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++)
        check(&samples[i], true);
}

static void what_is_not_supported_is_named(void **state)
{
    static const struct {
        const char *pattern, *word;
        enum status status;
    } samples[] = {
        {"(", "closing bracket", STATUS_INVALID},
        {")", "opening", STATUS_INVALID},
        {"[a", "closing bracket", STATUS_INVALID},
        {"*a", "repetition of nothing", STATUS_INVALID},
        {"(?=a)", "look-around", STATUS_UNSUPPORTED},
        {"(?<!a)b", "look-around", STATUS_UNSUPPORTED},
        {"(a)\\1", "back references", STATUS_UNSUPPORTED},
        {"\\bword", "\\b", STATUS_UNSUPPORTED},
        {"\\p{L}", "\\p", STATUS_UNSUPPORTED},
        {"a^b", "anchor", STATUS_UNSUPPORTED},
        {"a$b", "anchor", STATUS_UNSUPPORTED},
        {"[z-a]", "wrong way", STATUS_INVALID},
        {"a\\", "backslash", STATUS_INVALID},
        {"\\x4", "hexadecimal", STATUS_INVALID},
        {"a{3,2}", "bounds", STATUS_INVALID},
        {"a{99999}", "bounds", STATUS_INVALID},
        {"((a{1000}){1000}){1000}b{9000}((c{10000}){10000}){10000}", "", STATUS_OK},
        {"\xff", "UTF-8", STATUS_INVALID},
        {"[[:alpha:]]", "POSIX", STATUS_UNSUPPORTED},
    };
    (void)state;
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
        struct error err = {0};
        struct grammar *grammar = compile(samples[i].pattern, false, samples[i].status, &err);
        if (!grammar && !strstr(err.text, samples[i].word))
            fail_msg("%s: %s", samples[i].pattern, err.text);
        grammar_close(grammar);
    }
}

static void bounds_hold(void **state)
{
    struct error err = {0};
    char deep[1024];
    (void)state;
    memset(deep, '(', 500);
    deep[500] = '\0';
    compile(deep, false, STATUS_INVALID, &err);
    struct matcher *matcher = open_matcher("(a|b)*a(a|b){60}", false); /* 2^60 states, were they all built */
    uint32_t at = MATCHER_START;
    for (int i = 0; i < 3000; i++)
        at = matcher_step(matcher, at, "ab"[i * 7 % 5 % 2]);
    assert_true(at != MATCHER_DEAD && matcher_states(matcher) < 4000);
    matcher_close(matcher);
}

/* ---- masks ---- */

static struct tokenizer *tokenizer;
static struct vocab_order *order;

static struct constraint *open_machine(const char *pattern)
{
    struct constraint *machine;
    struct error err = {0};
    assert_int_equal(grammar_constraint_open(&machine, compile(pattern, false, STATUS_OK, &err), order,
                                             tokenizer_vocab_size(tokenizer), &err),
                     STATUS_OK);
    return machine;
}

static uint32_t follow(struct constraint *machine, const char *text)
{
    struct token_list ids = {0};
    struct encode_options options = {.plain_special_tokens = true};
    struct error err = {0};
    uint32_t at = CONSTRAINT_START;
    assert_int_equal(tokenizer_encode(tokenizer, text, strlen(text), &options, &ids, &err), STATUS_OK);
    for (size_t i = 0; i < ids.count && at != CONSTRAINT_DEAD; i++)
        at = machine->ops->next(machine, at, ids.ids[i]);
    token_list_release(&ids);
    return at;
}

/* Every token tried alone is in the mask if and only if the text stays inside. Returns how many are. */
static int32_t check_mask(struct constraint *machine, uint32_t at, struct matcher *alone, uint32_t same)
{
    int32_t allowed = 0;
    const uint64_t *mask = machine->ops->mask(machine, at);
    for (int32_t id = 0; id < tokenizer_vocab_size(tokenizer); id++) {
        size_t bytes;
        const char *text = tokenizer_token_bytes(tokenizer, id, &bytes);
        uint32_t next = tokenizer_is_special(tokenizer, id) || bytes == 0 ? MATCHER_DEAD : same;
        for (size_t i = 0; i < bytes && next != MATCHER_DEAD; i++)
            next = matcher_step(alone, next, (unsigned char)text[i]);
        assert_int_equal(mask[id / 64] >> id % 64 & 1, next != MATCHER_DEAD);
        assert_int_equal(machine->ops->next(machine, at, id) != CONSTRAINT_DEAD, next != MATCHER_DEAD);
        allowed += next != MATCHER_DEAD;
    }
    return allowed;
}

static int32_t check_text(struct constraint *machine, struct matcher *alone, const char *text)
{
    uint32_t at = follow(machine, text), same = walk(alone, text);
    assert_int_equal(at == CONSTRAINT_DEAD, same == MATCHER_DEAD);
    if (same == MATCHER_DEAD)
        return 0;
    assert_int_equal(machine->ops->accepts(machine, at), matcher_accepts(alone, same));
    return check_mask(machine, at, alone, same);
}

static void masks_are_what_each_token_says(void **state)
{
    static const char *const patterns[] = {"[a-z ]{1,20}\\.", "(yes|no|maybe)", ".*", "[^e]*",
                                           "\\d+(\\.\\d\\d)?"};
    static const char *const texts[] = {"", "ma", "12", "the ", "no"};
    int32_t allowed = 0;
    (void)state;
    for (int p = 0; p < 5; p++) {
        struct constraint *machine = open_machine(patterns[p]);
        struct matcher *alone = open_matcher(patterns[p], false);
        for (int t = 0; t < 5; t++)
            allowed += check_text(machine, alone, texts[t]);
        matcher_close(alone);
        constraint_give_back(machine);
    }
    assert_true(allowed > 1000);
}

/* Long repetitions: at every distance from their end, and where one lies within another. */
static void masks_of_repetitions_are_what_each_token_says(void **state)
{
    static const char *const patterns[] = {"[a-z ]{300}\\.", "[a-z ]{140,300}", "(the |a{1,150} ?){130,260}x",
                                           "((a|the ){150}\\.){150}", "a{150}[a-z ]{150}"};
    static const int counts[] = {0, 1, 5, 9, 11, 20, 24, 35, 37, 38, 65, 74, 75};
    char text[4 * 75 + 1];
    int32_t allowed = 0;
    (void)state;
    for (size_t p = 0; p < sizeof patterns / sizeof patterns[0]; p++) {
        struct constraint *machine = open_machine(patterns[p]);
        struct matcher *alone = open_matcher(patterns[p], false);
        for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++)
            for (int spare = 0; spare < 4; spare++) {
                for (int i = 0; i < 4 * counts[c]; i++)
                    text[i] = p == 4 && i < 150 ? 'a' : "the "[i % 4];
                text[4 * counts[c] - (counts[c] ? spare : 0)] = '\0';
                allowed += check_text(machine, alone, text);
            }
        matcher_close(alone);
        constraint_give_back(machine);
    }
    assert_true(allowed > 1000);
}

static void places_of_a_long_repetition_share_one_mask(void **state)
{
    static const char *const patterns[] = {"[a-z ]{4000}", "(the |a){4000}", "(?:(?:the ){2}){9,4000}",
                                           "([a-z]{1,9} ){4000}"};
    (void)state;
    for (size_t p = 0; p < sizeof patterns / sizeof patterns[0]; p++) {
        struct constraint *machine = open_machine(patterns[p]);
        char text[8 * 25 + 1] = "";
        const uint64_t *first = NULL;
        for (int i = 0; i < 25; i++) {
            memcpy(text + (size_t)i * 8, "the the ", 9);
            const uint64_t *mask = machine->ops->mask(machine, follow(machine, text));
            if (i >= 9) { /* nine are mandatory in the third pattern */
                first = first ? first : mask;
                assert_ptr_equal(mask, first);
            }
        }
        constraint_give_back(machine);
    }
}

/* A form whose states are too many ends where its bound is, and whoever asks for it next begins anew. */
static void a_form_that_grows_too_large_ends(void **state)
{
    static const char pattern[] = "([^a]{0,50}[^b]{0,50}){50}";
    const struct json value = {
        .type = JSON_STRING, .count = sizeof pattern - 1, .as.string = (char *)(uintptr_t)pattern};
    struct grammar_store *store;
    struct constraint *first, *second;
    struct error err = {0};
    uint32_t at = CONSTRAINT_START, tokens = 0;
    (void)state;
    assert_int_equal(grammar_store_open(&store, tokenizer, tokenizer_vocab_size(tokenizer), &err), STATUS_OK);
    assert_int_equal(grammar_store_find(store, GRAMMAR_OF_REGEX, &value, &first, &err), STATUS_OK);
    for (const uint64_t *mask; (mask = first->ops->mask(first, at)); tokens++) {
        int32_t id = 100 + (int32_t)(tokens * 37 % 1000);
        while (!(mask[id / 64] >> id % 64 & 1))
            id = (id + 1) % tokenizer_vocab_size(tokenizer);
        at = first->ops->next(first, at, id);
        assert_int_not_equal(at, CONSTRAINT_DEAD); /* never mistaken for the end of the text */
    }
    assert_true(tokens > 0 && tokens < 2000);
    assert_true(grammar_constraint_bytes(first) < MATCHER_MAX_BYTES + (MATCHER_MAX_BYTES >> 3));
    assert_false(first->ops->accepts(first, at));
    assert_int_equal(grammar_store_find(store, GRAMMAR_OF_REGEX, &value, &second, &err), STATUS_OK);
    assert_ptr_not_equal(first, second);
    assert_non_null(second->ops->mask(second, CONSTRAINT_START));
    constraint_give_back(first);
    constraint_give_back(second);
    grammar_store_close(store);
}

static int open_vocabulary(void **state)
{
    struct error err = {0};
    (void)state;
    assert_int_equal(tokenizer_open(&tokenizer, MODEL, &err), STATUS_OK);
    assert_int_equal(vocab_order_open(&order, tokenizer, tokenizer_vocab_size(tokenizer), &err), STATUS_OK);
    return 0;
}

static int close_vocabulary(void **state)
{
    (void)state;
    vocab_order_close(order);
    tokenizer_close(tokenizer);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(patterns_match_whole),
        cmocka_unit_test(patterns_in_json_strings_are_escaped_and_found_anywhere),
        cmocka_unit_test(what_is_not_supported_is_named),
        cmocka_unit_test(bounds_hold),
        cmocka_unit_test(masks_are_what_each_token_says),
        cmocka_unit_test(masks_of_repetitions_are_what_each_token_says),
        cmocka_unit_test(places_of_a_long_repetition_share_one_mask),
        cmocka_unit_test(a_form_that_grows_too_large_ends),
    };
    return cmocka_run_group_tests(tests, open_vocabulary, close_vocabulary);
}
