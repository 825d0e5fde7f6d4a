// SPDX-License-Identifier: Apache-2.0
// The blocks that this worker has promised the others to compute (it holds their lease), until each is in
// the engine or its lease is over. Requests that need one of them wait for it. Owner: the engine thread.
#ifndef WORKER_INFER_KV_CLAIMS_H
#define WORKER_INFER_KV_CLAIMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/block_key.h"

enum { KV_CLAIMS_MOST = 8192 };

struct kv_claims {
    size_t count;
    struct {
        struct block_key key;
        int64_t until_ns;
    } claims[KV_CLAIMS_MOST];
};

/* What finds no room is not remembered: others of this worker then compute it in the engine, which shares it.
 */
void kv_claims_add(struct kv_claims *claims, const struct block_key *keys, size_t count, int64_t until_ns);
bool kv_claims_has(const struct kv_claims *claims, const struct block_key *key);
void kv_claims_end(struct kv_claims *claims, const struct block_key *key);
/* Ends those whose lease is over; false: none. */
bool kv_claims_expire(struct kv_claims *claims, int64_t now_ns);

#endif
