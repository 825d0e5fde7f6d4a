// SPDX-License-Identifier: Apache-2.0
// What `millrace kv` says: lines for people, or with --json one object per line whose names are stable
// (docs/formats/kv_report.md).
#ifndef WORKER_CLI_KV_REPORT_H
#define WORKER_CLI_KV_REPORT_H

#include "kvtier/redis_admin.h"

enum { KV_REPORT_MODELS = 64, KV_REPORT_FINGERPRINT_BYTES = 17 };

struct kv_report_server {
    const char *address;
    bool up; /* else memory is empty */
    struct redis_admin_memory memory;
};

struct kv_report_models { /* the first ones met; more are not listed */
    size_t count;
    char fingerprints[KV_REPORT_MODELS][KV_REPORT_FINGERPRINT_BYTES];
    uint64_t blocks[KV_REPORT_MODELS];
};

struct kv_report_prompt {
    int64_t line; /* of the file of jobs, from 1 */
    const char *custom_id;
    size_t prompt, tokens, blocks, stored; /* which of the job's prompts; full blocks; of them in the tier */
    enum tier_miss miss;                   /* why it ends there */
    enum block_verdict verdict;            /* with miss corrupt */
};

void kv_report_stats(const struct kv_report_server *servers, size_t count,
                     const struct kv_report_models *models, bool json);
void kv_report_verify(const struct redis_admin_verify *tally, bool json);
void kv_report_clear(uint64_t removed, bool json);
void kv_report_prompt(const struct kv_report_prompt *prompt, bool json);
void kv_report_no_job(int64_t line, const char *why, bool json);

#endif
