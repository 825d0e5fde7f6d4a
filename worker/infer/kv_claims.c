// SPDX-License-Identifier: Apache-2.0
#include "worker/infer/kv_claims.h"

void kv_claims_add(struct kv_claims *claims, const struct block_key *keys, size_t count, int64_t until_ns)
{
    for (size_t i = 0; i < count && claims->count < KV_CLAIMS_MOST; i++) {
        claims->claims[claims->count].key = keys[i];
        claims->claims[claims->count++].until_ns = until_ns;
    }
}

static size_t find(const struct kv_claims *claims, const struct block_key *key)
{
    size_t at = 0;
    while (at < claims->count && !block_key_equal(&claims->claims[at].key, key))
        at++;
    return at;
}

bool kv_claims_has(const struct kv_claims *claims, const struct block_key *key)
{
    return find(claims, key) < claims->count;
}

void kv_claims_end(struct kv_claims *claims, const struct block_key *key)
{
    size_t at = find(claims, key);
    if (at < claims->count)
        claims->claims[at] = claims->claims[--claims->count];
}

bool kv_claims_expire(struct kv_claims *claims, int64_t now_ns)
{
    size_t before = claims->count;
    for (size_t i = 0; i < claims->count;)
        if (claims->claims[i].until_ns <= now_ns)
            claims->claims[i] = claims->claims[--claims->count];
        else
            i++;
    return claims->count < before;
}
