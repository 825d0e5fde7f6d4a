// SPDX-License-Identifier: Apache-2.0
// A stored block is used only when every byte of it is what was asked for.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "kvtier/block_codec.h"
#include "kvtier/breaker.h"
#include "kvtier/crc32c.h"

enum { TOKENS = 16, PAYLOAD = 1000 };

static const uint8_t fingerprint[32] = {7, 1, 200};
static const int32_t tokens[TOKENS] = {5, 6, 7, 100000, 151642};
static uint8_t payload[PAYLOAD];

static struct block_identity identity(void)
{
    struct block_identity block = {.fingerprint = fingerprint,
                                   .tokens = tokens,
                                   .token_count = TOKENS,
                                   .first_position = 32,
                                   .payload_bytes = PAYLOAD};
    block.parent = block_key_root(fingerprint, "salt", 4);
    block.key = block_key_next(&block.parent, tokens, TOKENS);
    for (int i = 0; i < PAYLOAD; i++)
        payload[i] = (uint8_t)(i * 31);
    return block;
}

static enum block_verdict read_back(const struct block_identity *asked, const uint8_t *head,
                                    const uint8_t *body)
{
    uint32_t crc = 0;
    enum block_verdict verdict = block_codec_check_head(asked, head, &crc);
    return verdict == BLOCK_VERDICT_OK ? block_codec_check_payload(asked, body, crc) : verdict;
}

static void crc32c_matches_rfc_3720(void **state)
{
    (void)state;
    uint8_t zeros[32] = {0}, ones[32], up[32];
    memset(ones, 0xFF, sizeof ones);
    for (int i = 0; i < 32; i++)
        up[i] = (uint8_t)i;
    assert_int_equal(crc32c(0, zeros, 32), 0x8A9136AA);
    assert_int_equal(crc32c(0, ones, 32), 0x62A8AB43);
    assert_int_equal(crc32c(0, up, 32), 0x46DD794E);
    assert_int_equal(crc32c_portable(0, up, 32), 0x46DD794E);
    assert_int_equal(crc32c(crc32c(0, up, 13), up + 13, 19), 0x46DD794E);
}

static void long_sums_are_those_of_the_table(void **state)
{
    (void)state;
    enum { MOST = 65536 };
    uint8_t *data = malloc(MOST + 1);
    for (size_t i = 0; i <= MOST; i++)
        data[i] = (uint8_t)((uint32_t)i * 2654435761u >> 24); /* no stripe is like another */
    for (size_t bytes = 1; bytes <= MOST; bytes += bytes < 20000 ? 61 : 4099)
        assert_int_equal(crc32c(7, data + 1, bytes), crc32c_portable(7, data + 1, bytes));
    free(data);
}

static void any_flipped_bit_is_a_miss(void **state)
{
    (void)state;
    struct block_identity block = identity();
    size_t head_bytes = block_codec_head_bytes(TOKENS);
    uint8_t *value = malloc(head_bytes + PAYLOAD);
    block_codec_encode(&block, payload, 1700000000000u, value);
    memcpy(value + head_bytes, payload, PAYLOAD);
    assert_int_equal(read_back(&block, value, value + head_bytes), BLOCK_VERDICT_OK);
    for (size_t bit = 0; bit < (head_bytes + PAYLOAD) * 8; bit++) {
        value[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_not_equal(read_back(&block, value, value + head_bytes), BLOCK_VERDICT_OK);
        value[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    free(value);
}

static void a_block_of_something_else_is_a_miss(void **state)
{
    (void)state;
    static const uint8_t other_model[32] = {7, 1, 201};
    int32_t other_tokens[TOKENS];
    struct block_identity block = identity();
    uint8_t head[BLOCK_CODEC_HEADER_BYTES + 4 * TOKENS];
    block_codec_encode(&block, payload, 1, head);

    struct block_identity asked = block;
    asked.fingerprint = other_model;
    assert_int_equal(read_back(&asked, head, payload), BLOCK_VERDICT_FINGERPRINT);
    asked = block;
    asked.key.bytes[31] ^= 1;
    assert_int_equal(read_back(&asked, head, payload), BLOCK_VERDICT_KEY);
    asked = block;
    asked.parent.bytes[0] ^= 1;
    assert_int_equal(read_back(&asked, head, payload), BLOCK_VERDICT_PARENT);
    asked = block;
    memcpy(other_tokens, tokens, sizeof tokens);
    other_tokens[15] = 9;
    asked.tokens = other_tokens;
    assert_int_equal(read_back(&asked, head, payload), BLOCK_VERDICT_TOKENS);
    asked = block;
    asked.first_position = 48;
    assert_int_equal(read_back(&asked, head, payload), BLOCK_VERDICT_TOKENS);
    asked = block;
    asked.payload_bytes = PAYLOAD - 1;
    assert_int_equal(read_back(&asked, head, payload), BLOCK_VERDICT_LENGTH);
}

static void breaker_opens_probes_and_closes(void **state)
{
    (void)state;
    struct breaker breaker;
    breaker_init(&breaker, 42);
    for (int i = 0; i < BREAKER_FAILURES; i++) {
        assert_true(breaker_allows(&breaker, 1000));
        breaker_failure(&breaker, 1000);
    }
    assert_false(breaker_allows(&breaker, 1999));
    assert_true(breaker_allows(&breaker, 2251)); /* 1 s and at most a quarter of jitter later */
    breaker_failure(&breaker, 2251);             /* the probe fails: twice as long */
    assert_false(breaker_allows(&breaker, 4250));
    assert_true(breaker_allows(&breaker, 4752));
    breaker_success(&breaker);
    assert_false(breaker_is_open(&breaker));
    for (int i = 0; i < 20; i++) {
        breaker_failure(&breaker, 100000);
        breaker_failure(&breaker, 100000);
        breaker_failure(&breaker, 100000);
    }
    assert_true(breaker_allows(&breaker, 100000 + BREAKER_LONGEST_OPEN_MS * 5 / 4));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crc32c_matches_rfc_3720),
        cmocka_unit_test(long_sums_are_those_of_the_table),
        cmocka_unit_test(any_flipped_bit_is_a_miss),
        cmocka_unit_test(a_block_of_something_else_is_a_miss),
        cmocka_unit_test(breaker_opens_probes_and_closes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
