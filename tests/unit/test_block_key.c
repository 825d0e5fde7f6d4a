// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "base/block_key.h"
#include "base/sha256.h"

static struct block_key root_of(const char *salt)
{
    uint8_t fingerprint[SHA256_BYTES];
    for (int i = 0; i < SHA256_BYTES; i++)
        fingerprint[i] = (uint8_t)i;
    return block_key_root(fingerprint, salt, strlen(salt));
}

/* Keys outlive a process, so their encoding is a format. Computed with Python's hashlib from the
 * definition in base/block_key.h; tokens 1, -2, 70000 after the root of fingerprint 00 01 … 1f, salt "salt".
 */
static void keys_follow_the_written_format(void **state)
{
    (void)state;
    char hex[65];
    struct block_key root = root_of("salt");
    struct block_key key = block_key_next(&root, (const int32_t[]){1, -2, 70000}, 3);
    sha256_hex(root.bytes, hex);
    assert_string_equal(hex, "89e87a48e52b8c36138a37ec91f366abdc14a568f7cf6f062c7d0d02cbe42c74");
    sha256_hex(key.bytes, hex);
    assert_string_equal(hex, "cf510970dc1bc2adfa0fb4a888cd7a039f0c7d022ef65e5cdf5e468800a6f474");
    assert_true(block_key_hash(&key) == 0xadc21bdc700951cf);
}

static void anything_that_differs_gives_another_key(void **state)
{
    (void)state;
    const int32_t tokens[] = {1, 2, 3, 4};
    struct block_key a = root_of("a"), b = root_of("b"), none = root_of("");
    assert_false(block_key_equal(&a, &b) || block_key_equal(&a, &none));
    struct block_key whole = block_key_next(&a, tokens, 4);
    struct block_key half = block_key_next(&a, tokens, 2);
    struct block_key halves = block_key_next(&half, tokens + 2, 2);
    struct block_key other = block_key_next(&b, tokens, 4);
    struct block_key again = block_key_next(&a, tokens, 4);
    assert_false(block_key_equal(&whole, &halves)); /* how a prefix was cut is part of its identity */
    assert_false(block_key_equal(&whole, &other));
    assert_true(block_key_equal(&whole, &again));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_follow_the_written_format),
        cmocka_unit_test(anything_that_differs_gives_another_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
