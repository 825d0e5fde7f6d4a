// SPDX-License-Identifier: Apache-2.0
// `millrace bench speculate`: tokens per second with guessed tokens and without, on a model of random weights
// that is made to say given texts: what is computed and what a step costs is a real model's, and how often
// guesses come true is the text's. Two texts: `copy` repeats runs of 6 to 40 tokens of its prompt with a few
// tokens of its own between them, as an extraction or a rewriting does; `free` is made of words that come as
// often as words do (Zipf), so that what followed a word once seldom follows it again.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/monotime.h"
#include "engine/constrain/constraint.h"
#include "engine/engine.h"
#include "engine/model/model.h"
#include "engine/philox.h"
#include "worker/cli/bench.h"
#include "worker/cli/cli.h"

enum {
    BLOCK_TOKENS = 16,
    MOST_BATCH = 64,
    MOST_ROUNDS = 99,
    MOST_TOKENS = 2048, /* of a prompt, of what is said */
    WORDS = 4000,
    LONGEST_WORD = 3,
    WORKS = 2
};
static const char *const work_names[WORKS] = {"copy", "free"};

static const char usage[] =
    "usage: millrace bench speculate [--shape qwen3-0.6b|...] [--layers N] [--format F] [--kernels K]\n"
    "         [--threads N] [--text all|copy|free] [--batches 1,2,4] [--tokens 8] [--prompt 256] [--generate "
    "128] [--rounds 3]";

/* A constraint that allows one text. */
struct script {
    struct constraint constraint;
    int32_t prompt[MOST_TOKENS], said[MOST_TOKENS];
};

struct speculate {
    const char *shape, *format, *kernels, *batches, *text;
    int layers, threads, tokens, prompt_tokens, generate, rounds;
    struct hparams hparams;
    struct model *model;
    struct engine *engines[2]; /* without, with */
    struct script scripts[MOST_BATCH];
    double rates[2][MOST_ROUNDS];
    uint64_t random;
};

/* ---- texts ---- */

static double next_uniform(struct speculate *b)
{
    const uint64_t at = b->random++;
    return philox_uniform(5, (uint32_t)(at >> 20), (uint32_t)(at & 0xfffff));
}

static int32_t next_below(struct speculate *b, int32_t below)
{
    return (int32_t)(next_uniform(b) * below);
}

/* Words of one to three tokens; the word of rank r comes about 1 / r as often as the first. */
static void write_words(struct speculate *b, int32_t *tokens, int32_t count)
{
    for (int32_t at = 0; at < count;) {
        int32_t word = 0;
        for (double rest = next_uniform(b) * 8.9; word < WORDS - 1 && rest > 1.0 / (word + 1); word++)
            rest -= 1.0 / (word + 1);
        for (int32_t i = 0; i <= word % LONGEST_WORD && at < count; i++)
            tokens[at++] = 100 + LONGEST_WORD * word + i;
    }
}

static void write_copy(struct speculate *b, const int32_t *prompt, int32_t *tokens)
{
    for (int32_t at = 0; at < b->generate;) {
        const int32_t from = next_below(b, (int32_t)b->prompt_tokens - 40), run = 6 + next_below(b, 35);
        for (int32_t i = 0; i < run && at < b->generate; i++)
            tokens[at++] = prompt[from + i];
        const int32_t own = 1 + next_below(b, 5);
        write_words(b, tokens + at, own < b->generate - at ? own : (int32_t)b->generate - at);
        at += own;
    }
}

static size_t allowed_token(struct constraint *constraint, uint32_t state, const int32_t **tokens)
{
    *tokens = ((struct script *)constraint)->said + state;
    return 1;
}

static uint32_t next_state(struct constraint *constraint, uint32_t state, int32_t token)
{
    return token == ((struct script *)constraint)->said[state] ? state + 1 : CONSTRAINT_DEAD;
}

static bool may_end(struct constraint *constraint, uint32_t state)
{
    (void)constraint, (void)state;
    return false;
}

static void write_script(struct speculate *b, struct script *script, int work)
{
    static const struct constraint_ops ops = {
        .tokens = allowed_token, .next = next_state, .accepts = may_end};
    script->constraint = (struct constraint){.ops = &ops, .references = 1};
    write_words(b, script->prompt, (int32_t)b->prompt_tokens);
    if (work == 0)
        write_copy(b, script->prompt, script->said);
    else
        write_words(b, script->said, (int32_t)b->generate);
}

/* ---- runs ---- */

/* Tokens per second of the steps that compute no prompt. */
static enum status run(struct speculate *b, struct engine *engine, int batch, double *rate, struct error *err)
{
    static struct sampling_params sampling[MOST_BATCH];
    enum status status = STATUS_OK;
    uint64_t said = 0;
    int64_t took_ns = 0;
    for (int i = 0; i < batch && status == STATUS_OK; i++) {
        sampling[i] = sampling_defaults();
        sampling[i].max_tokens = (uint32_t)b->generate;
        sampling[i].ignore_eos = true;
        sampling[i].constraint = &b->scripts[i].constraint;
        const struct engine_request request = {.id = (uint64_t)i,
                                               .prompt = b->scripts[i].prompt,
                                               .prompt_tokens = (size_t)b->prompt_tokens,
                                               .sampling = &sampling[i]};
        status = engine_submit(engine, &request, err);
    }
    while (status == STATUS_OK && !engine_idle(engine)) {
        const struct engine_event *events;
        struct engine_stats before, after;
        size_t count, tokens = 0;
        engine_stats_read(engine, &before);
        const int64_t begin_ns = monotime_ns();
        status = engine_step(engine, &events, &count, err);
        const int64_t step_ns = monotime_ns() - begin_ns;
        engine_note_step(engine, step_ns);
        engine_stats_read(engine, &after);
        for (size_t i = 0; i < count; i++)
            tokens += events[i].type == ENGINE_EVENT_TOKEN;
        if (after.prompt_tokens > before.prompt_tokens)
            continue;
        said += tokens;
        took_ns += step_ns;
    }
    *rate = took_ns > 0 ? (double)said / (double)took_ns * 1e9 : 0;
    return status;
}

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print_result(struct speculate *b, int work, int batch, const struct engine_stats *before)
{
    struct engine_stats stats;
    engine_stats_read(b->engines[1], &stats);
    const double generated = (double)(stats.generated_tokens - before->generated_tokens),
                 drafted = (double)(stats.drafted_tokens - before->drafted_tokens),
                 accepted = (double)(stats.accepted_tokens - before->accepted_tokens);
    for (int on = 0; on < 2; on++)
        qsort(b->rates[on], (size_t)b->rounds, sizeof(double), compare);
    const double without = b->rates[0][b->rounds / 2], with = b->rates[1][b->rounds / 2];
    printf("%-5s %6d %10.1f %10.1f %8.2f %10.2f %9.0f %%\n", work_names[work], batch, without, with,
           with / without, drafted / generated, drafted > 0 ? 100 * accepted / drafted : 0);
    fflush(stdout);
}

/* In turn, so that what else the machine does falls on both. */
static enum status measure(struct speculate *b, int work, int batch, struct error *err)
{
    enum status status = STATUS_OK;
    struct engine_stats before;
    engine_stats_read(b->engines[1], &before);
    for (int round = 0; round < b->rounds; round++) {
        for (int i = 0; i < batch; i++)
            write_script(b, &b->scripts[i], work);
        for (int on = 0; on < 2 && status == STATUS_OK; on++)
            status = run(b, b->engines[on], batch, &b->rates[on][round], err);
    }
    if (status == STATUS_OK)
        print_result(b, work, batch, &before);
    return status;
}

static enum status measure_all(struct speculate *b, struct error *err)
{
    char batches[64];
    enum status status = STATUS_OK;
    printf("%s, %s, %s kernels, %d threads, %d tokens guessed at most; tokens per second of decoding\n"
           "text   batch    without       with    ratio    guessed      right\n",
           b->shape, model_weight_format_name(b->model), model_kernels_name(b->model), b->threads, b->tokens);
    for (int work = 0; work < WORKS; work++) {
        snprintf(batches, sizeof batches, "%s", b->batches);
        char *rest = batches;
        if (strcmp(b->text, "all") != 0 && strcmp(b->text, work_names[work]) != 0)
            continue;
        for (char *batch = strsep(&rest, ","); batch && status == STATUS_OK; batch = strsep(&rest, ",")) {
            const long sequences = strtol(batch, NULL, 10);
            if (sequences < 1 || sequences > MOST_BATCH)
                return error_set(err, STATUS_USAGE, "--batches are from 1 to %d", MOST_BATCH);
            status = measure(b, work, (int)sequences, err);
        }
    }
    return status;
}

static enum status open_engines(struct speculate *b, struct error *err)
{
    enum status status = STATUS_OK;
    const int blocks = (b->prompt_tokens + b->generate) / BLOCK_TOKENS + 1;
    for (int on = 0; on < 2 && status == STATUS_OK; on++) {
        const struct engine_options options = {.model = b->model,
                                               .block_tokens = BLOCK_TOKENS,
                                               .kv_blocks = blocks * MOST_BATCH,
                                               .max_sequences = MOST_BATCH,
                                               .max_batch_tokens = BENCH_CHUNK_TOKENS,
                                               .max_chunk_tokens = BENCH_CHUNK_TOKENS,
                                               .max_waiting = MOST_BATCH,
                                               .speculative_tokens = on ? b->tokens : 0};
        status = engine_open(&b->engines[on], &options, err);
    }
    return status;
}

static enum status run_model(struct speculate *b, struct error *err)
{
    const struct model_options options = {.kernels = b->kernels,
                                          .weight_format = b->format,
                                          .kv_format = "bf16",
                                          .threads = b->threads,
                                          .max_batch_tokens = BENCH_CHUNK_TOKENS,
                                          .max_logit_rows = engine_max_logit_rows(MOST_BATCH)};
    enum status status = bench_shape(&b->hparams, b->shape, err);
    if (status == STATUS_OK && b->layers < b->hparams.layers)
        b->hparams.layers = b->layers;
    if (status == STATUS_OK && b->hparams.vocab < 100 + LONGEST_WORD * WORDS)
        status = error_set(err, STATUS_USAGE, "the vocabulary of %s is too small", b->shape);
    if (status == STATUS_OK)
        status = model_open_synthetic(&b->model, &b->hparams, &options, 1, err);
    if (status == STATUS_OK)
        status = open_engines(b, err);
    if (status == STATUS_OK)
        status = measure_all(b, err);
    engine_close(b->engines[0]);
    engine_close(b->engines[1]);
    model_close(b->model);
    return status;
}

int bench_speculate(int argc, char **argv)
{
    static struct speculate bench; /* a megabyte */
    bench = (struct speculate){.shape = "qwen3-0.6b",
                               .format = "bf16",
                               .kernels = "auto",
                               .batches = "1,2,4",
                               .text = "all",
                               .layers = 1 << 20,
                               .threads = 2,
                               .tokens = 8,
                               .prompt_tokens = 256,
                               .generate = 128,
                               .rounds = 3};
    const struct bench_option options[] = {{"--shape", .text = &bench.shape},
                                           {"--format", .text = &bench.format},
                                           {"--kernels", .text = &bench.kernels},
                                           {"--batches", .text = &bench.batches},
                                           {"--text", .text = &bench.text},
                                           {"--layers", .number = &bench.layers},
                                           {"--threads", .number = &bench.threads, .most = 1024},
                                           {"--tokens", .number = &bench.tokens, .most = 64},
                                           {"--prompt", .number = &bench.prompt_tokens, .most = MOST_TOKENS},
                                           {"--generate", .number = &bench.generate, .most = MOST_TOKENS},
                                           {"--rounds", .number = &bench.rounds, .most = MOST_ROUNDS},
                                           {0}};
    int exit_code;
    if (!bench_options(options, argc, argv, "bench speculate", usage, &exit_code))
        return exit_code;
    if (bench.prompt_tokens < 64)
        return cli_usage("bench speculate", "--prompt must be at least 64");
    struct error err = {0};
    return run_model(&bench, &err) == STATUS_OK ? EXIT_DONE : cli_fail(&err);
}
