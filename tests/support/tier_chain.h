// SPDX-License-Identifier: Apache-2.0
// A chain of blocks whose bytes are a function of block and place, for tests of stores: what comes back is
// either equal or a failure of the test.
#ifndef TESTS_SUPPORT_TIER_CHAIN_H
#define TESTS_SUPPORT_TIER_CHAIN_H

#include "kvtier/tier_store.h"

enum { TIER_CHAIN_TOKENS = 16, TIER_CHAIN_MAX = 256 };

struct tier_chain {
    size_t count, payload_bytes;
    uint8_t fingerprint[32];
    struct block_identity blocks[TIER_CHAIN_MAX];
    int32_t tokens[TIER_CHAIN_MAX][TIER_CHAIN_TOKENS];
    uint8_t *payloads[TIER_CHAIN_MAX]; /* what was read last */
};

void tier_chain_init(struct tier_chain *chain, size_t count, size_t payload_bytes);
/* After a change of its fingerprint: the keys that the blocks have then. */
void tier_chain_key(struct tier_chain *chain);
uint8_t tier_chain_byte(size_t block, size_t at);
void tier_chain_release(struct tier_chain *chain);
/* Puts every block; returns how many were taken. */
size_t tier_chain_put(const struct tier_chain *chain, struct tier_store *store);
/* Gets all; fails the test when a loaded byte is wrong. */
enum tier_fault tier_chain_get(struct tier_chain *chain, struct tier_store *store, int limit_ms,
                               struct tier_get *get, struct error *err);

#endif
