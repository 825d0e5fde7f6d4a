// SPDX-License-Identifier: Apache-2.0
#include "kvtier/crc32c.h"

#include <pthread.h>
#include <string.h>

#define POLYNOMIAL 0x82F63B78u /* reversed 0x1EDC6F41 */

static uint32_t table[256];
static pthread_once_t table_once = PTHREAD_ONCE_INIT;

static void fill_table(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? POLYNOMIAL : 0);
        table[i] = crc;
    }
}

uint32_t crc32c_portable(uint32_t crc, const void *data, size_t bytes)
{
    const uint8_t *at = data;
    pthread_once(&table_once, fill_table);
    crc = ~crc;
    for (size_t i = 0; i < bytes; i++)
        crc = crc >> 8 ^ table[(crc ^ at[i]) & 0xFF];
    return ~crc;
}

#if defined(__x86_64__)
/* The instruction gives a result every cycle but takes three for it, so three stripes are summed side by
 * side. The sum is linear: what stands before a stripe counts as if the stripe were zeros, and a table of its
 * four bytes says what zeros make of it. */
enum { STRIPE_BYTES = 2048, STRIPE_WORDS = STRIPE_BYTES / 8 };
static uint32_t over_stripe[4][256];
static pthread_once_t over_once = PTHREAD_ONCE_INIT;

__attribute__((target("sse4.2"))) static void fill_over_stripe(void)
{
    for (int place = 0; place < 4; place++)
        for (uint32_t byte = 0; byte < 256; byte++) {
            uint64_t sum = byte << 8 * place;
            for (int i = 0; i < STRIPE_WORDS; i++)
                sum = __builtin_ia32_crc32di(sum, 0);
            over_stripe[place][byte] = (uint32_t)sum;
        }
}

static uint64_t over(uint64_t sum)
{
    return over_stripe[0][sum & 0xFF] ^ over_stripe[1][sum >> 8 & 0xFF] ^ over_stripe[2][sum >> 16 & 0xFF] ^
           over_stripe[3][sum >> 24 & 0xFF];
}

static uint64_t word_at(const uint8_t *at)
{
    uint64_t word;
    memcpy(&word, at, sizeof word);
    return word;
}

__attribute__((target("sse4.2"))) static uint32_t crc32c_sse42(uint32_t crc, const void *data, size_t bytes)
{
    const uint8_t *at = data;
    uint64_t sum = ~crc;
    pthread_once(&over_once, fill_over_stripe);
    for (; bytes >= 3 * STRIPE_BYTES; bytes -= 3 * STRIPE_BYTES, at += 3 * STRIPE_BYTES) {
        uint64_t second = 0, third = 0;
        for (const uint8_t *end = at + STRIPE_BYTES, *word = at; word < end; word += 8) {
            sum = __builtin_ia32_crc32di(sum, word_at(word));
            second = __builtin_ia32_crc32di(second, word_at(word + STRIPE_BYTES));
            third = __builtin_ia32_crc32di(third, word_at(word + 2 * (size_t)STRIPE_BYTES));
        }
        sum = over(over(sum) ^ second) ^ third;
    }
    for (; bytes >= 8; bytes -= 8, at += 8)
        sum = __builtin_ia32_crc32di(sum, word_at(at));
    for (; bytes > 0; bytes--, at++)
        sum = __builtin_ia32_crc32qi((uint32_t)sum, *at);
    return ~(uint32_t)sum;
}
#endif

uint32_t crc32c(uint32_t crc, const void *data, size_t bytes)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("sse4.2"))
        return crc32c_sse42(crc, data, bytes);
#endif
    return crc32c_portable(crc, data, bytes);
}
