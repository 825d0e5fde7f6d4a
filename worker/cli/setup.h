// SPDX-License-Identifier: Apache-2.0
// Everything that needs a model, opened from the configuration in one place: `worker`, `batch` and `submit`
// share it.
#ifndef WORKER_CLI_SETUP_H
#define WORKER_CLI_SETUP_H

#include "config/config.h"
#include "engine/engine.h"
#include "worker/infer/generation.h"
#include "worker/intake/job_parse.h"

struct setup_options {
    const struct config *config; /* borrowed */
    bool with_engine;            /* false: only what parsing a job needs */
    bool show_progress;          /* of loading a large model, to stderr */
    int32_t force_preempt_every; /* tests */
};

/* Memory of the plan, in bytes. */
struct setup_memory {
    uint64_t weights, buffers, logits, block; /* in: what is taken, and the size of one KV block */
    uint64_t limit, pool;                     /* out: what this process may use; of the KV pool */
    uint64_t jobs;                            /* out: of limits.max_inflight_jobs short jobs */
    int32_t context_tokens; /* in: of the longest sequence; out: what the pool holds of it */
    int32_t kv_blocks;      /* out */
};

/* Sizes the KV pool: the configured memory, or a quarter of what is left beside weights and buffers; no more
 * than every sequence at full length could use. Statuses: CONFIG (one sentence: it does not fit). */
MUST_CHECK enum status setup_plan_memory(const struct config *config, struct setup_memory *memory,
                                         struct error *err);

struct setup {
    const struct config *config;
    struct tokenizer *tokenizer;
    struct chat_template *chat_template; /* NULL: the model has none */
    struct hparams hparams;
    struct catalog_store *catalogs; /* NULL: no catalogs.directory */
    struct grammar_store *grammars;
    struct model *model;          /* NULL without engine */
    struct engine *engine;        /* likewise */
    struct setup_memory memory;   /* zeros without engine */
    uint64_t model_private_bytes; /* memory of its own that the process took for the model */
    char model_name[256];         /* name of the directory */
    const char *only_name;        /* served name when the configuration lists none */
    char fingerprint[65];         /* hex */
    struct job_parse_context parse;
    struct generation_context generation;
};

/* Statuses: those of model, tokenizer, template and engine; CONFIG for an impossible memory plan. */
MUST_CHECK enum status setup_open(struct setup **out, const struct setup_options *options, struct error *err);
void setup_close(struct setup *setup);
/* One line about what was opened, for logs and people. */
void setup_describe(const struct setup *setup, struct bytes *out);
/* One line: the memory that this process comes to have for itself when the KV pool is full, by part. "other"
 * is what it has now besides model and engine. */
void setup_describe_memory(const struct setup *setup, struct bytes *out);

#endif
