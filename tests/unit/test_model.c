// SPDX-License-Identifier: Apache-2.0
// Opening a model: the sentence for every directory that cannot be served, what the fingerprint covers, that
// the plan made from config.json is what opening then takes, and progress.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/model/model.h"

static char dir[] = "/tmp/millrace-test-model-XXXXXX";

static void path_in(char path[1024], const char *base, const char *name)
{
    assert_true(snprintf(path, 1024, "%s/%s", base, name) < 1024);
}

static void golden_path(char path[1024], const char *name)
{
    assert_true(snprintf(path, 1024, "%s/tests/golden/models/%s", MILLRACE_SOURCE_DIR, name) < 1024);
}

static size_t read_file(char *text, size_t bytes, const char *base, const char *name)
{
    char path[1024];
    path_in(path, base, name);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    size_t count = fread(text, 1, bytes - 1, file);
    fclose(file);
    text[count] = '\0';
    return count;
}

static void write_file(const char *name, const char *text, size_t bytes)
{
    char path[1024];
    path_in(path, dir, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, bytes, file), bytes);
    assert_int_equal(fclose(file), 0);
}

/* The golden model "qwen3" in a directory of its own, with `from` in `name` replaced by `to` (same length
 * in a safetensors header). */
static void copy_model(const char *name, const char *from, const char *to)
{
    static const char *const files[] = {"config.json", "generation_config.json", "model.safetensors"};
    static char text[1 << 20], changed[1 << 20];
    char source[1024];
    golden_path(source, "qwen3");
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        size_t bytes = read_file(text, sizeof text, source, files[i]);
        if (!name || strcmp(name, files[i]) != 0) {
            write_file(files[i], text, bytes);
            continue;
        }
        char *place = memmem(text, bytes, from, strlen(from));
        assert_non_null(place);
        size_t head = (size_t)(place - text), tail = bytes - head - strlen(from);
        memcpy(changed, text, head);
        memcpy(changed + head, to, strlen(to));
        memcpy(changed + head + strlen(to), place + strlen(from), tail);
        write_file(files[i], changed, head + strlen(to) + tail);
    }
}

static struct model_options options_of(const char *path)
{
    return (struct model_options){.model_dir = path,
                                  .kernels = "generic",
                                  .weight_format = "auto",
                                  .kv_format = "auto",
                                  .threads = 1,
                                  .max_batch_tokens = 32,
                                  .max_logit_rows = 8};
}

static void refused_with(enum status status, const char *part, const struct model_options *options)
{
    struct model *model = NULL;
    struct error err = {0};
    assert_int_equal(model_open(&model, options, &err), status);
    assert_null(model);
    if (!strstr(err.text, part))
        fail_msg("\"%s\" does not say \"%s\"", err.text, part);
}

static void refused(enum status status, const char *part, const char *file, const char *from, const char *to)
{
    copy_model(file, from, to);
    struct model_options options = options_of(dir);
    refused_with(status, part, &options);
}

static void wrong_directories_are_one_sentence(void **state)
{
    (void)state;
    refused(STATUS_INVALID, "num_hidden_layers", "config.json", "\"num_hidden_layers\": 2",
            "\"num_hidden_layers\": 0");
    refused(STATUS_INVALID, "no tensor model.layers.1.mlp.up_proj.weight", "model.safetensors",
            "model.layers.1.mlp.up_proj.weight", "model.layers.9.mlp.up_proj.weight");
    refused(STATUS_INVALID, "shape [97, 64]", "config.json", "\"intermediate_size\": 96",
            "\"intermediate_size\": 97");
    refused(STATUS_UNSUPPORTED, "GemmaForCausalLM", "config.json", "Qwen3ForCausalLM", "GemmaForCausalLM");
    refused(STATUS_INVALID, "no tensor lm_head.weight", "config.json", "\"tie_word_embeddings\": true",
            "\"tie_word_embeddings\": false");
    refused(STATUS_INVALID, "no tensor model.norm.weight", "model.safetensors", "\"model.norm.weight\"",
            "\"model.norm.wejght\"");
    refused(STATUS_UNSUPPORTED, "dtype I32; F32, F16 and BF16", "model.safetensors", "\"F32\"", "\"I32\"");
    refused(STATUS_INVALID, "model.safetensors: ", "model.safetensors", "\"F32\"", "\"F64\"");
    struct model_options options = options_of("/nowhere");
    refused_with(STATUS_NOT_FOUND, "/nowhere/config.json", &options);
}

static void wrong_options_are_one_sentence(void **state)
{
    (void)state;
    char path[1024];
    golden_path(path, "qwen3");
    struct model_options options = options_of(path);
    options.kernels = "quantum";
    refused_with(STATUS_UNSUPPORTED, "kernel set quantum", &options);
    options = options_of(path);
    options.weight_format = "int3";
    refused_with(STATUS_INVALID, "weight format int3", &options);
    if (kernels_find("openblas")) {
        options.kernels = "openblas", options.weight_format = "int4";
        refused_with(STATUS_UNSUPPORTED, "kernel set openblas has no int4", &options);
    }
    options = options_of(path);
    options.kv_format = "int3";
    refused_with(STATUS_INVALID, "KV format int3", &options);
    if (kernels_find("openblas")) {
        options.kernels = "openblas", options.kv_format = "int8";
        refused_with(STATUS_UNSUPPORTED, "kernel set openblas has no int8 KV", &options);
    }
    options = options_of(path);
    options.threads = 0;
    refused_with(STATUS_INVALID, "threads", &options);
}

static void fingerprint_of(uint8_t fingerprint[32], const struct model_options *options)
{
    struct model *model;
    struct error err;
    if (model_open(&model, options, &err) != STATUS_OK)
        fail_msg("%s", err.text);
    memcpy(fingerprint, model_fingerprint(model), 32);
    model_close(model);
}

static void fingerprint_covers_what_shapes_a_token(void **state)
{
    (void)state;
    uint8_t first[32], other[32];
    copy_model(NULL, NULL, NULL);
    struct model_options options = options_of(dir);
    fingerprint_of(first, &options);
    options.threads = 2, options.max_batch_tokens = 64; /* may not matter */
    fingerprint_of(other, &options);
    assert_memory_equal(first, other, 32);
    const struct model_options variants[] = {
        {.kernels = kernels_find("openblas") ? "openblas" : "auto",
         .weight_format = "f32",
         .kv_format = "f32"},
        {.kernels = "generic", .weight_format = "bf16", .kv_format = "f32"},
        {.kernels = "generic", .weight_format = "f32", .kv_format = "bf16"},
        {.kernels = "generic", .weight_format = "f32", .kv_format = "int8"},
    };
    for (size_t i = 0; i < sizeof variants / sizeof variants[0]; i++) {
        options = options_of(dir);
        options.kernels = variants[i].kernels, options.weight_format = variants[i].weight_format;
        options.kv_format = variants[i].kv_format;
        fingerprint_of(other, &options);
        assert_memory_not_equal(first, other, 32);
    }
    options = options_of(dir);
    static char text[1 << 20];
    size_t bytes = read_file(text, sizeof text, dir, "model.safetensors");
    text[bytes - 1000] ^= 1; /* one bit of one weight */
    write_file("model.safetensors", text, bytes);
    fingerprint_of(other, &options);
    assert_memory_not_equal(first, other, 32);
    copy_model("config.json", "1000000.0", "1000001.0"); /* rope_theta */
    fingerprint_of(other, &options);
    assert_memory_not_equal(first, other, 32);
}

/* Tensors at odd addresses: the same model. Every kernel set of this machine reads them. */
static void tensors_need_no_alignment(void **state)
{
    (void)state;
    static const char *const sets[] = {"generic", "openblas", "avx2", "avx512"};
    static char text[1 << 20];
    for (size_t i = 0; i < sizeof sets / sizeof sets[0]; i++) {
        if (!kernels_find(sets[i]))
            continue;
        uint8_t aligned[32], odd[32];
        copy_model(NULL, NULL, NULL);
        struct model_options options = options_of(dir);
        options.kernels = sets[i];
        fingerprint_of(aligned, &options);
        size_t bytes = read_file(text, sizeof text - 1, dir, "model.safetensors");
        size_t header_end = 8 + (size_t)(uint8_t)text[0] + 256 * (size_t)(uint8_t)text[1];
        memmove(text + header_end + 1, text + header_end, bytes - header_end);
        text[header_end] = ' ';
        assert_true((uint8_t)text[0] < 255);
        text[0]++;
        write_file("model.safetensors", text, bytes + 1);
        fingerprint_of(odd, &options);
        assert_memory_equal(aligned, odd, 32);
    }
}

static void the_plan_needs_only_config_json_and_is_kept(void **state)
{
    (void)state;
    char path[1024];
    copy_model(NULL, NULL, NULL);
    struct model_options options = options_of(dir);
    options.threads = 2;
    struct model *model;
    struct model_plan plan;
    assert_int_equal(model_open(&model, &options, NULL), STATUS_OK);
    path_in(path, dir, "model.safetensors");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(model_plan(&options, &plan, NULL), STATUS_OK);
    assert_int_equal(plan.weight_bytes, model_weight_bytes(model));
    assert_int_equal(plan.buffer_bytes, model_buffer_bytes(model));
    assert_int_equal(plan.kv_token_bytes * 16, model_block_bytes(model, 16));
    assert_string_equal(plan.weight_format, model_weight_format_name(model));
    assert_string_equal(plan.kv_format, model_kv_format_name(model));
    assert_string_equal(plan.kernels, model_kernels_name(model));
    assert_int_equal(plan.kv_token_bytes, 2 * 2 * 24 * 2 * 4); /* K and V, kv heads, head_dim, layers, f32 */
    model_close(model);
}

/* Qwen3-0.6B's shape: its 596 million parameters, 1,192 MB in bf16, and 114,688 bytes of KV per token. */
static void the_plan_of_a_real_shape_is_right(void **state)
{
    (void)state;
    static const char config[] =
        "{\"architectures\":[\"Qwen3ForCausalLM\"],\"vocab_size\":151936,\"hidden_size\":1024,"
        "\"intermediate_size\":3072,\"num_hidden_layers\":28,\"num_attention_heads\":16,\"num_key_value_"
        "heads\":8,"
        "\"head_dim\":128,\"max_position_embeddings\":40960,\"tie_word_embeddings\":true,"
        "\"torch_dtype\":\"bfloat16\",\"rope_theta\":1000000,\"sliding_window\":null,\"max_window_layers\":"
        "28}";
    char path[1024];
    write_file("config.json", config, sizeof config - 1);
    path_in(path, dir, "generation_config.json");
    unlink(path);
    struct model_options options = options_of(dir);
    options.max_batch_tokens = 512;
    struct model_plan plan;
    struct error err;
    if (model_plan(&options, &plan, &err) != STATUS_OK)
        fail_msg("%s", err.text);
    const uint64_t parameters = 596049920, vectors = 28 * (2 * 1024 + 2 * 128) + 1024;
    assert_string_equal(plan.weight_format, "bf16");
    assert_int_equal(plan.weight_bytes, (parameters - vectors) * 2 + vectors * 4);
    assert_int_equal(plan.embedding_bytes, 151936ull * 1024 * 2);
    assert_int_equal(plan.kv_token_bytes, 114688);
    assert_true(plan.buffer_bytes < 64 << 20);
}

/* Qwen3-30B-A3B's shape: 30,532,122,624 parameters, routers in f32. */
static void the_plan_of_a_mixture_of_experts_is_right(void **state)
{
    (void)state;
    static const char config[] =
        "{\"architectures\":[\"Qwen3MoeForCausalLM\"],\"vocab_size\":151936,\"hidden_size\":2048,"
        "\"intermediate_size\":6144,\"num_hidden_layers\":48,\"num_attention_heads\":32,"
        "\"num_key_value_heads\":4,\"head_dim\":128,\"num_experts\":128,\"num_experts_per_tok\":8,"
        "\"moe_intermediate_size\":768,\"norm_topk_prob\":true,\"decoder_sparse_step\":1,"
        "\"mlp_only_layers\":[],\"max_position_embeddings\":40960,\"torch_dtype\":\"bfloat16\","
        "\"rope_theta\":1000000,\"sliding_window\":null,\"max_window_layers\":48}";
    write_file("config.json", config, sizeof config - 1);
    struct model_options options = options_of(dir);
    options.max_batch_tokens = 512;
    struct model_plan plan;
    struct error err;
    if (model_plan(&options, &plan, &err) != STATUS_OK)
        fail_msg("%s", err.text);
    const uint64_t parameters = 30532122624, embedding = 151936ull * 2048, routers = 48ull * 128 * 2048;
    const uint64_t vectors = 48 * (2 * 2048 + 2 * 128) + 2048;
    assert_int_equal(plan.weight_bytes,
                     (parameters - embedding - vectors - routers) * 2 + (vectors + routers) * 4);
    assert_true(plan.buffer_bytes < 256 << 20);
}

struct progress {
    uint64_t done_bytes, total_bytes;
    int calls;
};

static void on_progress(void *context, uint64_t done_bytes, uint64_t total_bytes)
{
    struct progress *progress = context;
    assert_true(done_bytes > progress->done_bytes && done_bytes <= total_bytes);
    progress->done_bytes = done_bytes;
    progress->total_bytes = total_bytes;
    progress->calls++;
}

static void progress_ends_at_the_total(void **state)
{
    (void)state;
    static const char *const models[] = {"qwen3", "llama-yarn"}; /* tied; untied and in shards */
    for (int i = 0; i < 2; i++) {
        char path[1024];
        golden_path(path, models[i]);
        struct progress progress = {0};
        struct model_options options = options_of(path);
        options.progress = on_progress, options.progress_context = &progress;
        struct model *model;
        assert_int_equal(model_open(&model, &options, NULL), STATUS_OK);
        model_close(model);
        assert_true(progress.calls > 10);
        assert_int_equal(progress.done_bytes, progress.total_bytes);
    }
}

static int make_directory(void **state)
{
    (void)state;
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_directory(void **state)
{
    (void)state;
    static const char *const files[] = {"config.json", "generation_config.json", "model.safetensors"};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        char path[1024];
        path_in(path, dir, files[i]);
        unlink(path);
    }
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_directories_are_one_sentence),
        cmocka_unit_test(wrong_options_are_one_sentence),
        cmocka_unit_test(fingerprint_covers_what_shapes_a_token),
        cmocka_unit_test(tensors_need_no_alignment),
        cmocka_unit_test(the_plan_needs_only_config_json_and_is_kept),
        cmocka_unit_test(the_plan_of_a_real_shape_is_right),
        cmocka_unit_test(the_plan_of_a_mixture_of_experts_is_right),
        cmocka_unit_test(progress_ends_at_the_total),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
