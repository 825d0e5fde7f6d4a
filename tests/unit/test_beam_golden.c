// SPDX-License-Identifier: Apache-2.0
// Beam searches against Hugging Face transformers in float32 (tests/golden/beams.jsonl, made by
// tools/make_beam_golden.py): free ones and ones constrained to items, on every miniature model and every
// kernel set of this machine. The same sequences come out in the same order, and their scores differ by at
// most 1e-4.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/json.h"
#include "engine/constrain/catalog.h"
#include "engine/engine.h"
#include "engine/model/model.h"

#define GOLDEN MILLRACE_SOURCE_DIR "/tests/golden/"
enum { MOST_PROMPT = 64, MOST_BEAMS = 16, MOST_TOKENS = 16, MOST_WAITING = 64 };

static const char *const sets[] = {"generic", "openblas", "avx2", "avx512", "amx"};

struct beam {
    int32_t tokens[MOST_TOKENS];
    uint32_t count;
    double sum;
    bool finished, absent;
};

struct run {
    struct engine_request request;
    struct sampling_params sampling;
    int32_t prompt[MOST_PROMPT];
    struct beam beams[MOST_BEAMS];
};

struct machine {
    const char *name; /* of the model; NULL: none is open */
    struct model *model;
    struct engine *engine;
};

static bool open_machine(struct machine *machine, const char *name, const char *set)
{
    char path[512];
    struct error err = {0};
    snprintf(path, sizeof path, GOLDEN "models/%s", name);
    struct model_options options = {.model_dir = path,
                                    .kernels = set,
                                    .weight_format = "f32",
                                    .kv_format = "f32",
                                    .threads = 1,
                                    .max_batch_tokens = 64,
                                    .max_logit_rows = engine_max_logit_rows(32)};
    enum status status = model_open(&machine->model, &options, &err);
    if (status == STATUS_UNSUPPORTED)
        return false; /* not on this machine */
    if (status != STATUS_OK)
        fail_msg("%s: %s", path, err.text);
    struct engine_options engine = {.model = machine->model,
                                    .block_tokens = 16,
                                    .kv_blocks = 256,
                                    .max_sequences = 32,
                                    .max_batch_tokens = 64,
                                    .max_chunk_tokens = 16,
                                    .max_waiting = MOST_WAITING,
                                    .prefix_cache = true};
    assert_int_equal(engine_open(&machine->engine, &engine, &err), STATUS_OK);
    machine->name = name;
    return true;
}

static void close_machine(struct machine *machine)
{
    engine_close(machine->engine);
    model_close(machine->model);
    *machine = (struct machine){0};
}

static struct constraint *open_items(const struct json *items, const struct hparams *hparams)
{
    struct bytes text;
    struct catalog *catalog;
    struct constraint *constraint;
    struct error err = {0};
    const struct catalog_options options = {
        .vocab = hparams->vocab, .eos = hparams->eos, .eos_count = hparams->eos_count};
    if (items->count == 0)
        return NULL;
    bytes_init(&text, 1 << 20);
    for (size_t i = 0; i < items->count; i++) {
        bytes_appendf(&text, "{\"item_id\":\"%zu\",\"token_ids\":", i);
        json_append_node(&text, &items->as.items[i]);
        bytes_append_text(&text, "}\n");
    }
    assert_int_equal(catalog_open_text(&catalog, text.data, text.count_bytes, &options, &err), STATUS_OK);
    assert_int_equal(catalog_constraint(&constraint, catalog, NULL, 0, &err), STATUS_OK);
    catalog_give_back(catalog);
    bytes_release(&text);
    return constraint;
}

static void note(struct run *runs, const struct engine_event *event)
{
    struct beam *beam = &runs[event->request_id].beams[event->choice];
    if (event->type == ENGINE_EVENT_TOKEN) {
        assert_true(beam->count < MOST_TOKENS && !beam->finished);
        beam->tokens[beam->count++] = event->token;
        beam->sum += (double)event->logprob;
    } else if (event->type == ENGINE_EVENT_FINISHED) {
        assert_false(beam->finished);
        assert_true(event->finish != ENGINE_FINISH_ABSENT || beam->count == 0);
        beam->finished = true;
        beam->absent = event->finish == ENGINE_FINISH_ABSENT;
    }
}

static void run_all(struct machine *machine, struct run *runs)
{
    while (!engine_idle(machine->engine)) {
        const struct engine_event *events;
        size_t count;
        assert_int_equal(engine_step(machine->engine, &events, &count, NULL), STATUS_OK);
        for (size_t i = 0; i < count; i++)
            note(runs, &events[i]);
        engine_check_invariants(machine->engine);
    }
}

static void start(struct machine *machine, struct run *run, uint64_t id, const struct json *golden)
{
    const struct json *prompt = json_member(golden, "prompt");
    struct error err = {0};
    memset(run, 0, sizeof *run);
    run->sampling = sampling_defaults();
    run->sampling.use_beam_search = true;
    run->sampling.n = (uint32_t)json_integer_or(json_member(golden, "width"), 0);
    run->sampling.length_penalty = (float)json_number_or(json_member(golden, "length_penalty"), 0);
    run->sampling.early_stopping = json_bool_or(json_member(golden, "early_stopping"), false);
    run->sampling.max_tokens = (uint32_t)json_integer_or(json_member(golden, "max_tokens"), 0);
    run->sampling.constraint = open_items(json_member(golden, "items"), model_hparams(machine->model));
    assert_true(prompt->count <= MOST_PROMPT && run->sampling.n <= MOST_BEAMS);
    for (size_t i = 0; i < prompt->count; i++)
        run->prompt[i] = (int32_t)prompt->as.items[i].as.integer;
    run->request = (struct engine_request){
        .id = id, .prompt = run->prompt, .prompt_tokens = prompt->count, .sampling = &run->sampling};
    if (engine_submit(machine->engine, &run->request, &err) != STATUS_OK)
        fail_msg("%s", err.text);
}

static double compare(const struct run *run, const struct json *golden, size_t line, const char *set)
{
    const struct json *beams = json_member(golden, "beams");
    double worst = 0;
    for (size_t i = 0; i < run->sampling.n; i++) {
        const struct beam *beam = &run->beams[i];
        assert_true(beam->finished);
        if (beam->absent != (i >= beams->count))
            fail_msg("%s, case %zu: %zu sequences, choice %zu is %s", set, line, beams->count, i,
                     beam->absent ? "absent" : "there");
        if (beam->absent)
            continue;
        const struct json *tokens = json_member(&beams->as.items[i], "tokens");
        bool equal = tokens->count == beam->count;
        for (size_t t = 0; t < beam->count && equal; t++)
            equal = tokens->as.items[t].as.integer == beam->tokens[t];
        if (!equal)
            fail_msg("%s, case %zu, choice %zu differs", set, line, i);
        double score = beam->sum / pow(beam->count, (double)run->sampling.length_penalty);
        double difference = fabs(score - json_number_or(json_member(&beams->as.items[i], "score"), 1e9));
        worst = difference > worst ? difference : worst;
    }
    return worst;
}

/* Cases of one model, all at once and each alone. */
static double check_cases(struct machine *machine, const struct json *const *cases, size_t count,
                          const char *set)
{
    struct run *together = calloc(count, sizeof *together), *alone = calloc(1, sizeof *alone);
    double worst = 0;
    for (size_t i = 0; i < count; i++)
        start(machine, &together[i], i, cases[i]);
    run_all(machine, together);
    for (size_t i = 0; i < count; i++) {
        double difference = compare(&together[i], cases[i], i, set);
        worst = difference > worst ? difference : worst;
        start(machine, alone, 0, cases[i]);
        run_all(machine, alone);
        assert_memory_equal(alone->beams, together[i].beams, sizeof alone->beams);
        constraint_give_back(alone->sampling.constraint);
        constraint_give_back(together[i].sampling.constraint);
    }
    struct engine_stats stats;
    engine_stats_read(machine->engine, &stats);
    assert_int_equal(stats.blocks_used, 0);
    free(alone);
    free(together);
    return worst;
}

static size_t read_cases(struct json_document **documents, size_t most)
{
    FILE *file = fopen(GOLDEN "beams.jsonl", "r");
    char *line = NULL;
    size_t capacity = 0, count = 0;
    ssize_t bytes;
    assert_non_null(file);
    while ((bytes = getline(&line, &capacity, file)) > 0) {
        assert_true(count < most);
        assert_int_equal(json_parse(&documents[count++], line, (size_t)bytes, NULL, NULL), STATUS_OK);
    }
    free(line);
    fclose(file);
    return count;
}

static void beams_are_those_of_transformers(void **state)
{
    enum { MOST_CASES = 512 };
    static struct json_document *documents[MOST_CASES];
    const struct json *cases[MOST_WAITING];
    size_t count = read_cases(documents, MOST_CASES), checked = 0, constrained = 0;
    (void)state;
    for (size_t i = 0; i < count; i++)
        constrained += json_member(json_root(documents[i]), "items")->count > 0;
    assert_true(constrained >= 200 && constrained < count);
    for (size_t set = 0; set < sizeof sets / sizeof sets[0]; set++)
        for (size_t first = 0, end; first < count; first = end) {
            struct machine machine = {0};
            const char *name = json_string_or(json_member(json_root(documents[first]), "model"), "?");
            for (end = first; end < count && end - first < MOST_WAITING &&
                              json_is_string(json_member(json_root(documents[end]), "model"), name);
                 end++)
                cases[end - first] = json_root(documents[end]);
            if (!open_machine(&machine, name, sets[set]))
                continue;
            double worst = check_cases(&machine, cases, end - first, sets[set]);
            if (!(worst <= 1e-4))
                fail_msg("%s on %s: scores differ by %g", sets[set], name, worst);
            close_machine(&machine);
            checked += end - first;
        }
    assert_true(checked >= count);
    for (size_t i = 0; i < count; i++)
        json_close(documents[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(beams_are_those_of_transformers)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
