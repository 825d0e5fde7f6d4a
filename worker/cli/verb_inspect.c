// SPDX-License-Identifier: Apache-2.0
// `millrace inspect MODEL_DIR`: what a model directory holds and what running it takes. Works from
// config.json alone; with --tokenize and --render it needs the tokenizer and the chat template too.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/monotime.h"
#include "engine/model/model.h"
#include "engine/model/model_file.h"
#include "engine/text/chat_template.h"
#include "engine/text/tokenizer.h"
#include "config/config_limits.h"
#include "worker/cli/cli.h"
#include "worker/cli/setup.h"
#include "worker/intake/chat_messages.h"

enum { MAX_FLAGS = 64, MAX_TEXT_BYTES = 16 << 20, RENDER_ARENA_BYTES = 256 << 20, MB_SHIFT = 20 };

static const char help[] =
    "millrace inspect - look at a model directory\n\n"
    "  millrace inspect MODEL_DIR                       architecture, sizes, memory plan, sampling defaults\n"
    "  millrace inspect MODEL_DIR --json                the same for a machine\n"
    "  millrace inspect MODEL_DIR --tokenize TEXT       token ids and pieces of a text\n"
    "  millrace inspect MODEL_DIR --render FILE         messages (a JSON list, or a chat body) as the model "
    "sees them\n"
    "  -c FILE, --SECTION.KEY=VALUE                     configuration that the plan follows\n";

struct options {
    const char *dir, *config_path, *text, *messages;
    const char *flags[MAX_FLAGS];
    size_t flag_count;
    char path_flag[4200];
    bool json;
};

struct inspection {
    const struct config *config;
    struct model_plan plan;
    struct setup_memory memory;
    struct error memory_error; /* why there is no plan of the pool; OK otherwise */
    int threads;
};

/* ---- text ---- */

static int print_tokens(const struct options *options, struct error *err)
{
    struct tokenizer *tokenizer = NULL;
    struct token_list ids = {0};
    struct encode_options encode = {.add_special_tokens = true};
    enum status status = tokenizer_open(&tokenizer, options->dir, err);
    if (status == STATUS_OK)
        status = tokenizer_encode(tokenizer, options->text, strlen(options->text), &encode, &ids, err);
    for (size_t i = 0; i < ids.count && status == STATUS_OK; i++) {
        size_t bytes;
        const char *piece = tokenizer_token_bytes(tokenizer, ids.ids[i], &bytes);
        struct bytes quoted;
        bytes_init(&quoted, MAX_TEXT_BYTES);
        json_append_string(&quoted, piece ? piece : "", piece ? bytes : 0);
        if (options->json)
            printf("%s{\"id\":%d,\"text\":%s}%s", i ? "," : "[", ids.ids[i], quoted.data,
                   i + 1 == ids.count ? "]\n" : "");
        else
            printf("%7d  %s\n", ids.ids[i], quoted.data);
        bytes_release(&quoted);
    }
    if (status == STATUS_OK && !options->json)
        printf("%zu tokens\n", ids.count);
    else if (status == STATUS_OK && ids.count == 0)
        printf("[]\n");
    token_list_release(&ids);
    tokenizer_close(tokenizer);
    return status == STATUS_OK ? EXIT_DONE : cli_fail(err);
}

static bool is_true(const struct json *body, const char *name, bool when_absent)
{
    const struct json *value = json_member(body, name);
    return value ? value->type == JSON_TRUE : when_absent;
}

static enum status render_messages(const struct json *root, const struct chat_template *chat_template,
                                   struct bytes *out, struct error *err)
{
    const struct json *messages = root->type == JSON_OBJECT ? json_member(root, "messages") : root;
    const bool continues = is_true(root, "continue_final_message", false);
    struct arena arena;
    struct json prepared;
    if (!messages)
        return error_set(err, STATUS_INVALID, "the file holds neither a list of messages nor a chat body");
    arena_init(&arena, RENDER_ARENA_BYTES);
    enum status status =
        chat_messages_prepare(&arena, messages, chat_template_reads_parts(chat_template), &prepared, err);
    const struct chat_render_options options = {.messages = &prepared,
                                                .tools = json_member(root, "tools"),
                                                .documents = json_member(root, "documents"),
                                                .kwargs = json_member(root, "chat_template_kwargs"),
                                                .add_generation_prompt =
                                                    is_true(root, "add_generation_prompt", !continues),
                                                .continue_final_message = continues,
                                                .now_ms = walltime_ms()};
    if (status == STATUS_OK)
        status = chat_template_render(chat_template, &options, out, err);
    arena_release(&arena);
    return status;
}

/* The file holds a list of messages, or the body of a chat job; they are prepared as a job's are. */
static enum status render_file(const struct options *options, const struct chat_template *chat_template,
                               struct bytes *out, struct error *err)
{
    char *text = NULL;
    size_t bytes = 0;
    struct json_document *document = NULL;
    enum status status = model_file_read(&text, &bytes, *options->messages == '/' ? "" : ".",
                                         options->messages, MAX_TEXT_BYTES, err);
    if (status == STATUS_OK)
        status = json_parse(&document, text, bytes, NULL, err);
    free(text);
    if (status == STATUS_OK)
        status = render_messages(json_root(document), chat_template, out, err);
    json_close(document);
    return status;
}

static int print_rendered(const struct options *options, struct error *err)
{
    struct chat_template *chat_template = NULL;
    struct bytes out;
    bytes_init(&out, MAX_TEXT_BYTES);
    enum status status = chat_template_open(&chat_template, options->dir, err);
    if (status == STATUS_OK)
        status = render_file(options, chat_template, &out, err);
    if (status == STATUS_OK)
        fwrite(out.data ? out.data : "", 1, out.count_bytes, stdout);
    chat_template_close(chat_template);
    bytes_release(&out);
    return status == STATUS_OK ? EXIT_DONE : cli_fail(err);
}

/* ---- sizes ---- */

static const char *origin(bool has)
{
    return has ? "generation_config.json" : "library";
}

static void print_defaults(const struct hparams *h)
{
    printf(
        "sampling   temperature %g (%s), top_p %g (%s), top_k %d (%s), min_p %g (%s), repetition_penalty %g "
        "(%s)\n",
        h->has_temperature ? (double)h->temperature : 1, origin(h->has_temperature),
        h->has_top_p ? (double)h->top_p : 1, origin(h->has_top_p), h->has_top_k ? h->top_k : 0,
        origin(h->has_top_k), h->has_min_p ? (double)h->min_p : 0, origin(h->has_min_p),
        h->has_repetition_penalty ? (double)h->repetition_penalty : 1, origin(h->has_repetition_penalty));
    printf("ends on   ");
    for (int32_t i = 0; i < h->eos_count; i++)
        printf(" %d", h->eos[i]);
    printf(h->eos_count ? "\n" : " nothing: no eos_token_id\n");
}

static int sparse_layers(const struct hparams *h)
{
    int count = 0;
    for (int32_t layer = 0; layer < h->layers; layer++)
        count += hparams_layer_is_sparse(h, layer);
    return count;
}

static void print_experts(const struct hparams *h)
{
    if (h->experts == 0)
        return;
    printf("experts    %d of width %d in %d of %d layers, %d for each token", h->experts, h->expert_width,
           sparse_layers(h), h->layers, h->experts_per_token);
    if (h->shared_expert_width > 0)
        printf(", and one of width %d for all", h->shared_expert_width);
    printf("\n");
}

static unsigned long long mb(uint64_t bytes)
{
    return (unsigned long long)((bytes + (1 << MB_SHIFT) - 1) >> MB_SHIFT);
}

static void print_text(const struct inspection *in)
{
    const struct model_plan *plan = &in->plan;
    const struct hparams *h = &plan->hparams;
    printf(
        "model      %s: %d layers, hidden %d, %d heads (%d KV) of %d, MLP %d, vocabulary %d, context %d%s\n",
        h->architecture, h->layers, h->hidden, h->heads, h->kv_heads, h->head_dim, h->intermediate, h->vocab,
        h->max_context_tokens, h->tied_embeddings ? ", tied embeddings" : "");
    print_experts(h);
    printf("formats    weights %s%s%s, KV %s, kernels %s, %d threads\n", plan->weight_format,
           plan->narrow_weight_format ? ", narrow ones " : "",
           plan->narrow_weight_format ? plan->narrow_weight_format : "", plan->kv_format, plan->kernels,
           in->threads);
    printf("weights    %llu MB, embedding table %llu MB, step buffers %llu MB\n", mb(plan->weight_bytes),
           mb(plan->embedding_bytes), mb(plan->buffer_bytes));
    printf("kv         %llu bytes per token, %llu bytes per block of %lld tokens\n",
           (unsigned long long)plan->kv_token_bytes, (unsigned long long)in->memory.block,
           (long long)in->config->engine.block_tokens);
    if (in->memory_error.status != STATUS_OK)
        printf("plan       impossible here: %s\n", in->memory_error.text);
    else
        printf("plan       %llu MB of %llu MB: KV pool %llu MB, logits %llu MB, %d blocks, %lld tokens; one "
               "sequence "
               "up to %d tokens\n",
               mb(in->memory.weights + in->memory.buffers + in->memory.logits + in->memory.pool),
               mb(in->memory.limit), mb(in->memory.pool), mb(in->memory.logits), in->memory.kv_blocks,
               (long long)in->memory.kv_blocks * (long long)in->config->engine.block_tokens,
               in->memory.context_tokens);
    print_defaults(h);
}

static void print_json_hparams(const struct hparams *h)
{
    printf(
        "{\"architecture\":\"%s\",\"layers\":%d,\"hidden\":%d,\"heads\":%d,\"kv_heads\":%d,\"head_dim\":%d,"
        "\"intermediate\":%d,\"vocab\":%d,\"max_context_tokens\":%d,\"tied_embeddings\":%s,",
        h->architecture, h->layers, h->hidden, h->heads, h->kv_heads, h->head_dim, h->intermediate, h->vocab,
        h->max_context_tokens, h->tied_embeddings ? "true" : "false");
    if (h->experts > 0)
        printf("\"experts\":%d,\"experts_per_token\":%d,\"expert_width\":%d,\"shared_expert_width\":%d,"
               "\"sparse_layers\":%d,",
               h->experts, h->experts_per_token, h->expert_width, h->shared_expert_width, sparse_layers(h));
    printf(
        "\"sampling\":{\"temperature\":%g,\"top_p\":%g,\"top_k\":%d,\"min_p\":%g,\"repetition_penalty\":%g},",
        h->has_temperature ? (double)h->temperature : 1, h->has_top_p ? (double)h->top_p : 1,
        h->has_top_k ? h->top_k : 0, h->has_min_p ? (double)h->min_p : 0,
        h->has_repetition_penalty ? (double)h->repetition_penalty : 1);
    printf("\"eos\":[");
    for (int32_t i = 0; i < h->eos_count; i++)
        printf(i ? ",%d" : "%d", h->eos[i]);
    printf("],");
}

static void print_json(const struct inspection *in)
{
    const struct model_plan *plan = &in->plan;
    bool possible = in->memory_error.status == STATUS_OK;
    struct bytes reason;
    bytes_init(&reason, ERROR_TEXT_BYTES * 8);
    json_append_string(&reason, in->memory_error.text, possible ? 0 : strlen(in->memory_error.text));
    print_json_hparams(&plan->hparams);
    if (plan->narrow_weight_format)
        printf("\"narrow_weight_format\":\"%s\",", plan->narrow_weight_format);
    printf("\"weight_format\":\"%s\",\"kv_format\":\"%s\",\"kernels\":\"%s\",\"threads\":%d,",
           plan->weight_format, plan->kv_format, plan->kernels, in->threads);
    printf("\"weight_bytes\":%llu,\"embedding_bytes\":%llu,\"buffer_bytes\":%llu,\"logits_bytes\":%llu,"
           "\"kv_token_bytes\":%llu,"
           "\"block_tokens\":%lld,\"kv_blocks\":%d,\"kv_pool_bytes\":%llu,\"memory_limit_bytes\":%llu,"
           "\"sequence_tokens\":%d,\"impossible\":%s}\n",
           (unsigned long long)plan->weight_bytes, (unsigned long long)plan->embedding_bytes,
           (unsigned long long)plan->buffer_bytes, (unsigned long long)in->memory.logits,
           (unsigned long long)plan->kv_token_bytes, (long long)in->config->engine.block_tokens,
           in->memory.kv_blocks, (unsigned long long)in->memory.pool, (unsigned long long)in->memory.limit,
           possible ? in->memory.context_tokens : 0, possible ? "null" : reason.data);
    bytes_release(&reason);
}

static enum status plan_model(struct inspection *in, struct error *err)
{
    const struct config *config = in->config;
    in->threads = config->engine.threads > 0 ? (int)config->engine.threads : config_cpu_limit();
    struct model_options options = {.model_dir = config->model.path,
                                    .kernels = config->model.kernels,
                                    .weight_format = config->model.weight_format,
                                    .kv_format = config->model.kv_format,
                                    .threads = in->threads,
                                    .max_batch_tokens = (int32_t)config->engine.max_batch_tokens,
                                    .max_logit_rows =
                                        engine_max_logit_rows((int32_t)config->engine.max_sequences)};
    enum status status = model_plan(&options, &in->plan, err);
    if (status != STATUS_OK)
        return status;
    int64_t configured = config->engine.max_context_tokens;
    int32_t context = in->plan.hparams.max_context_tokens;
    in->memory = (struct setup_memory){
        .weights = in->plan.weight_bytes,
        .buffers = in->plan.buffer_bytes,
        .logits = engine_logits_bytes((int32_t)config->engine.max_sequences, in->plan.hparams.vocab),
        .block = in->plan.kv_token_bytes * (uint64_t)config->engine.block_tokens,
        .context_tokens = configured > 0 && configured < context ? (int32_t)configured : context};
    in->memory_error.status = setup_plan_memory(config, &in->memory, &in->memory_error);
    return STATUS_OK; /* a model that does not fit here can still be looked at */
}

static int print_model(struct options *options, struct error *err)
{
    struct inspection in = {0};
    struct config_source source = {
        .path = options->config_path, .flags = options->flags, .flag_count = options->flag_count};
    enum status status = config_open(&in.config, &source, err);
    if (status != STATUS_OK)
        return cli_fail(err);
    status = plan_model(&in, err);
    if (status == STATUS_OK && options->json)
        print_json(&in);
    else if (status == STATUS_OK)
        print_text(&in);
    config_close(in.config);
    return status == STATUS_OK ? EXIT_DONE : cli_fail(err);
}

/* ---- options ---- */

static bool parse_options(int argc, char **argv, struct options *options)
{
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--json") == 0)
            options->json = true;
        else if (strncmp(argv[i], "--", 2) == 0 && strchr(argv[i], '.') && strchr(argv[i], '=') &&
                 options->flag_count + 1 < MAX_FLAGS)
            options->flags[options->flag_count++] = argv[i] + 2;
        else if (value && strcmp(argv[i], "--tokenize") == 0 && ++i)
            options->text = value;
        else if (value && strcmp(argv[i], "--render") == 0 && ++i)
            options->messages = value;
        else if (value && (strcmp(argv[i], "-c") == 0 || strcmp(argv[i], "--config") == 0) && ++i)
            options->config_path = value;
        else if (value && strcmp(argv[i], "-m") == 0 && ++i)
            options->dir = value;
        else if (argv[i][0] != '-' && !options->dir)
            options->dir = argv[i];
        else
            return false;
    }
    return options->dir != NULL;
}

int cli_inspect(int argc, char **argv)
{
    static struct options options;
    struct error err = {0};
    if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        fputs(help, stdout);
        return EXIT_DONE;
    }
    if (!parse_options(argc, argv, &options))
        return cli_usage("inspect", "name a model directory; `millrace inspect --help`");
    snprintf(options.path_flag, sizeof options.path_flag, "model.path=%s", options.dir);
    options.flags[options.flag_count++] = options.path_flag;
    if (options.text)
        return print_tokens(&options, &err);
    if (options.messages)
        return print_rendered(&options, &err);
    return print_model(&options, &err);
}
