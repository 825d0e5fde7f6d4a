// SPDX-License-Identifier: Apache-2.0
#include "tests/support/tier_chain.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/monotime.h"

uint8_t tier_chain_byte(size_t block, size_t at)
{
    return (uint8_t)(block * 7 + at * 13 + (at >> 8));
}

void tier_chain_init(struct tier_chain *chain, size_t count, size_t payload_bytes)
{
    memset(chain, 0, sizeof *chain);
    chain->count = count;
    chain->payload_bytes = payload_bytes;
    chain->fingerprint[3] = 9;
    for (size_t i = 0; i < count; i++) {
        for (int j = 0; j < TIER_CHAIN_TOKENS; j++)
            chain->tokens[i][j] = (int32_t)(i * TIER_CHAIN_TOKENS + (size_t)j);
        chain->blocks[i] = (struct block_identity){.fingerprint = chain->fingerprint,
                                                   .tokens = chain->tokens[i],
                                                   .token_count = TIER_CHAIN_TOKENS,
                                                   .first_position = (uint32_t)i * TIER_CHAIN_TOKENS,
                                                   .payload_bytes = payload_bytes};
        chain->payloads[i] = malloc(payload_bytes);
    }
    tier_chain_key(chain);
}

void tier_chain_key(struct tier_chain *chain)
{
    struct block_key parent = block_key_root(chain->fingerprint, NULL, 0);
    for (size_t i = 0; i < chain->count; i++) {
        chain->blocks[i].parent = parent;
        parent = chain->blocks[i].key = block_key_next(&parent, chain->tokens[i], TIER_CHAIN_TOKENS);
    }
}

void tier_chain_release(struct tier_chain *chain)
{
    for (size_t i = 0; i < chain->count; i++)
        free(chain->payloads[i]);
}

static int64_t deadline_in(int ms)
{
    return monotime_ns() + (int64_t)ms * 1000000;
}

size_t tier_chain_put(const struct tier_chain *chain, struct tier_store *store)
{
    uint8_t *payload = malloc(chain->payload_bytes);
    size_t taken = 0;
    for (size_t i = 0; i < chain->count; i++) {
        for (size_t at = 0; at < chain->payload_bytes; at++)
            payload[at] = tier_chain_byte(i, at);
        taken += store->put(store, &chain->blocks[i], payload, deadline_in(2000), NULL) == TIER_FAULT_NONE;
    }
    free(payload);
    return taken;
}

enum tier_fault tier_chain_get(struct tier_chain *chain, struct tier_store *store, int limit_ms,
                               struct tier_get *get, struct error *err)
{
    *get = (struct tier_get){.blocks = chain->blocks,
                             .payloads = chain->payloads,
                             .count = chain->count,
                             .deadline_ns = deadline_in(limit_ms)};
    for (size_t i = 0; i < chain->count; i++)
        memset(chain->payloads[i], 0xEE, chain->payload_bytes);
    enum tier_fault fault = store->get(store, get, err);
    for (size_t i = 0; i < get->loaded; i++)
        for (size_t at = 0; at < chain->payload_bytes; at++)
            if (chain->payloads[i][at] != tier_chain_byte(i, at))
                fail_msg("block %zu differs at byte %zu", i, at);
    return fault;
}
