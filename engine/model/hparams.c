// SPDX-License-Identifier: Apache-2.0
// config.json to struct hparams. A family is a row of a table of defaults; everything else is a typed,
// range-checked read, so that no later arithmetic can overflow or divide by zero. What the forward pass
// does not do is refused here in one sentence. Names and defaults follow Hugging Face transformers 4 and 5.
#include "engine/model/hparams.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "engine/model/hparams_fields.h"
#include "engine/model/model_file.h"

#define CONFIG_MAX_BYTES ((size_t)1 << 20)

enum moe_family { DENSE, QWEN_MOE, MIXTRAL };

enum { MAX_VOCAB = 1 << 24, MAX_WIDTH = 1 << 20, MAX_HEAD_DIM = 1024, MAX_CONTEXT_TOKENS = 1 << 24 };

struct family {
    const char *architecture;
    enum moe_family moe;
    bool qkv_bias;          /* reads qkv_bias, which is true when left out */
    bool always_qkv_bias;   /* Qwen2 */
    bool shared_expert;     /* Qwen2-MoE */
    bool attention_bias;    /* reads attention_bias: q, k, v and o */
    bool mlp_bias;          /* reads mlp_bias */
    bool qk_norm;           /* Qwen3 */
    bool window_by_switch;  /* use_sliding_window, max_window_layers, layer_types */
    bool window_everywhere; /* with window_by_switch: on every layer, once switched on */
    bool window_by_types;   /* with window_by_switch: only with layer_types */
    int32_t window;         /* default of sliding_window; -1: the family has none */
    int32_t head_dim;       /* default; 0: hidden / heads */
    double rope_theta;      /* default; 0: 10000 */
};

static const struct family families[] = {
    {.architecture = "LlamaForCausalLM", .attention_bias = true, .mlp_bias = true, .window = -1},
    {.architecture = "MistralForCausalLM", .window = 4096},
    {.architecture = "Qwen2ForCausalLM", .always_qkv_bias = true, .window_by_switch = true, .window = 4096},
    {.architecture = "Qwen3ForCausalLM",
     .attention_bias = true,
     .qk_norm = true,
     .window_by_switch = true,
     .window = 4096,
     .head_dim = 128},
    {.architecture = "MixtralForCausalLM", .moe = MIXTRAL, .rope_theta = 1e6},
    {.architecture = "Qwen2MoeForCausalLM",
     .moe = QWEN_MOE,
     .shared_expert = true,
     .qkv_bias = true,
     .window_by_switch = true,
     .window_by_types = true,
     .window = 4096},
    {.architecture = "Qwen3MoeForCausalLM",
     .moe = QWEN_MOE,
     .attention_bias = true,
     .qk_norm = true,
     .window_by_switch = true,
     .window_everywhere = true,
     .window = 4096},
};

static void set_layer(uint8_t *layers, int32_t layer)
{
    layers[layer / 8] |= (uint8_t)(1u << (layer % 8));
}

static enum status read_family(struct hparams *out, const struct family **family, const struct json *config,
                               struct error *err)
{
    const struct json *list = json_member(config, "architectures");
    if (!list || list->type != JSON_ARRAY || list->count != 1 || list->as.items[0].type != JSON_STRING)
        return error_set(err, STATUS_INVALID, "architectures must be a list of one name");
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++)
        if (json_is_string(&list->as.items[0], families[i].architecture)) {
            *family = &families[i];
            snprintf(out->architecture, sizeof out->architecture, "%s", families[i].architecture);
            return STATUS_OK;
        }
    return error_set(
        err, STATUS_UNSUPPORTED,
        "architecture %.64s is not supported; Llama, Mistral, Mixtral, Qwen2, Qwen3 and the last "
        "two's Moe are",
        list->as.items[0].as.string);
}

/* What would change the result and is not implemented. */
static enum status refuse_features(const struct json *config, struct error *err)
{
    const struct json *act = json_member(config, "hidden_act");
    if (!field_absent(act) && !json_is_string(act, "silu"))
        return error_set(err, STATUS_UNSUPPORTED, "activation %.64s is not supported, only silu is",
                         json_string_or(act, "that is not a string"));
    if (!field_absent(json_member(config, "quantization_config")))
        return error_set(
            err, STATUS_UNSUPPORTED,
            "the checkpoint is quantised (quantization_config); give one in bf16, f16 or f32 and set "
            "model.weight_format instead");
    const struct json *rotary = json_member(config, "partial_rotary_factor");
    if (!field_absent(rotary) && json_number_or(rotary, NAN) != 1.0)
        return error_set(err, STATUS_UNSUPPORTED, "partial_rotary_factor other than 1 is not supported");
    return STATUS_OK;
}

static enum status read_sizes(struct hparams *out, const struct family *family, const struct json *config,
                              struct error *err)
{
    const struct {
        int32_t *out;
        struct integer_field field;
    } fields[] = {
        {&out->vocab, {"vocab_size", 1, MAX_VOCAB, 0}},
        {&out->hidden, {"hidden_size", 1, MAX_WIDTH, 0}},
        {&out->intermediate, {"intermediate_size", 1, MAX_WIDTH, 0}},
        {&out->layers, {"num_hidden_layers", 1, HPARAMS_MAX_LAYERS, 0}},
        {&out->heads, {"num_attention_heads", 1, MAX_WIDTH / 2, 0}},
        {&out->max_context_tokens, {"max_position_embeddings", 1, MAX_CONTEXT_TOKENS, 0}},
    };
    enum status status;
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++)
        if ((status = field_integer(fields[i].out, config, fields[i].field, err)) != STATUS_OK)
            return status;
    struct integer_field kv_heads = {"num_key_value_heads", 1, out->heads, out->heads};
    if ((status = field_integer(&out->kv_heads, config, kv_heads, err)) != STATUS_OK)
        return status;
    if (out->heads % out->kv_heads != 0)
        return error_set(err, STATUS_INVALID,
                         "num_attention_heads must be a multiple of num_key_value_heads");
    int32_t derived = family->head_dim > 0 ? family->head_dim : out->hidden / out->heads;
    struct integer_field head_dim = {"head_dim", 2, MAX_HEAD_DIM, derived};
    if ((status = field_integer(&out->head_dim, config, head_dim, err)) != STATUS_OK)
        return status;
    if (out->head_dim % 2 != 0 || out->head_dim > MAX_HEAD_DIM)
        return error_set(err, STATUS_INVALID, "head_dim must be even and at most %d", MAX_HEAD_DIM);
    if (out->heads > MAX_WIDTH / out->head_dim)
        return error_set(err, STATUS_INVALID, "num_attention_heads times head_dim must be at most %d",
                         MAX_WIDTH);
    return STATUS_OK;
}

/* Marks the layers that have experts: every decoder_sparse_step-th but those in mlp_only_layers. */
static enum status read_sparse_layers(struct hparams *out, const struct json *config, struct error *err)
{
    int32_t step = 1;
    enum status status =
        field_integer(&step, config, (struct integer_field){"decoder_sparse_step", 1, INT32_MAX, 1}, err);
    if (status != STATUS_OK)
        return status;
    for (int32_t layer = step - 1; layer < out->layers; layer += step)
        set_layer(out->sparse_layers, layer);
    const struct json *dense = json_member(config, "mlp_only_layers");
    if (!field_absent(dense) && dense->type != JSON_ARRAY)
        return error_set(err, STATUS_INVALID, "mlp_only_layers must be a list of layers");
    for (size_t i = 0; !field_absent(dense) && i < dense->count; i++) {
        const struct json *layer = &dense->as.items[i];
        if (layer->type != JSON_INTEGER || layer->as.integer < 0 || layer->as.integer >= out->layers)
            return error_set(err, STATUS_INVALID,
                             "mlp_only_layers must hold layers below num_hidden_layers (%d)", out->layers);
        out->sparse_layers[layer->as.integer / 8] &= (uint8_t) ~(1u << (layer->as.integer % 8));
    }
    return STATUS_OK;
}

static enum status read_experts(struct hparams *out, const struct family *family, const struct json *config,
                                struct error *err)
{
    if (family->moe == DENSE)
        return STATUS_OK;
    const bool mixtral = family->moe == MIXTRAL;
    static const char local[] = "num_local_experts"; /* Mixtral; and transformers 5 of any family */
    const bool is_local = mixtral || !field_absent(json_member(config, local));
    const struct integer_field experts = {is_local ? local : "num_experts", 1, HPARAMS_MAX_EXPERTS, 0};
    enum status status = field_integer(&out->experts, config, experts, err);
    if (status != STATUS_OK)
        return status;
    const int32_t most = out->experts < HPARAMS_MAX_CHOICES ? out->experts : HPARAMS_MAX_CHOICES;
    if ((status = field_integer(&out->experts_per_token, config,
                                (struct integer_field){"num_experts_per_tok", 1, most, 0}, err)) != STATUS_OK)
        return status;
    if (mixtral) {
        out->expert_naming = EXPERT_NAMING_MIXTRAL;
        out->expert_width = out->intermediate;
        out->norm_topk = true;
        for (int32_t layer = 0; layer < out->layers; layer++)
            set_layer(out->sparse_layers, layer);
        return STATUS_OK;
    }
    if ((status = field_integer(&out->expert_width, config,
                                (struct integer_field){"moe_intermediate_size", 1, MAX_WIDTH, 0}, err)) !=
            STATUS_OK ||
        (status = field_bool(&out->norm_topk, config, "norm_topk_prob", err)) != STATUS_OK)
        return status;
    const struct integer_field shared = {"shared_expert_intermediate_size", 1, MAX_WIDTH, 0};
    if (family->shared_expert &&
        (status = field_integer(&out->shared_expert_width, config, shared, err)) != STATUS_OK)
        return status;
    return read_sparse_layers(out, config, err);
}

static enum status read_switches(struct hparams *out, const struct family *family, const struct json *config,
                                 struct error *err)
{
    bool attention_bias = false, mlp_bias = false, qkv_bias = true;
    double eps = 0.0;
    enum status status;
    if ((status = field_bool(&attention_bias, config, "attention_bias", err)) != STATUS_OK ||
        (status = field_bool(&mlp_bias, config, "mlp_bias", err)) != STATUS_OK ||
        (status = field_bool(&qkv_bias, config, "qkv_bias", err)) != STATUS_OK ||
        (status = field_bool(&out->tied_embeddings, config, "tie_word_embeddings", err)) != STATUS_OK ||
        (status = field_number(&eps, config, (struct number_field){"rms_norm_eps", 1e-12, 1.0, 1e-6}, err)) !=
            STATUS_OK)
        return status;
    attention_bias = attention_bias && family->attention_bias;
    out->qkv_bias = attention_bias || family->always_qkv_bias || (family->qkv_bias && qkv_bias);
    out->output_bias = attention_bias;
    out->mlp_bias = mlp_bias && family->mlp_bias;
    out->qk_norm = family->qk_norm;
    out->norm_eps = (float)eps;
    const struct json *dtype = json_member(config, "dtype");
    const char *name = json_string_or(dtype ? dtype : json_member(config, "torch_dtype"), "float32");
    out->checkpoint_dtype = strcmp(name, "bfloat16") == 0  ? DTYPE_BF16
                            : strcmp(name, "float16") == 0 ? DTYPE_F16
                                                           : DTYPE_F32;
    return STATUS_OK;
}

static enum status read_layer_types(struct hparams *out, const struct json *list, struct error *err)
{
    if (list->type != JSON_ARRAY || list->count != (size_t)out->layers)
        return error_set(err, STATUS_INVALID, "layer_types must be a list of num_hidden_layers names");
    for (int32_t layer = 0; layer < out->layers; layer++) {
        const struct json *type = &list->as.items[layer];
        if (json_is_string(type, "full_attention"))
            continue;
        if (!json_is_string(type, "sliding_attention"))
            return error_set(err, STATUS_UNSUPPORTED, "layer type %.64s is not supported",
                             json_string_or(type, "that is not a string"));
        if (out->sliding_window == 0)
            return error_set(err, STATUS_INVALID,
                             "layer_types names sliding_attention but no sliding window is switched on");
        set_layer(out->sliding_layers, layer);
    }
    return STATUS_OK;
}

/* Qwen: off unless use_sliding_window; then layer_types, or else the layers from max_window_layers on (all of
 * them in Qwen3-MoE; versions of transformers differ about Qwen2-MoE). */
static enum status read_switched_window(struct hparams *out, const struct family *family,
                                        const struct json *config, struct error *err)
{
    bool on = false;
    int32_t from = 0;
    struct integer_field from_field = {"max_window_layers", 0, INT32_MAX, 28};
    enum status status;
    if ((status = field_bool(&on, config, "use_sliding_window", err)) != STATUS_OK ||
        (status = field_integer(&from, config, from_field, err)) != STATUS_OK)
        return status;
    if (!on)
        out->sliding_window = 0;
    const struct json *types = json_member(config, "layer_types");
    if (!field_absent(types))
        return read_layer_types(out, types, err);
    if (on && family->window_by_types)
        return error_set(err, STATUS_UNSUPPORTED, "use_sliding_window of %s needs layer_types",
                         out->architecture);
    from = family->window_everywhere ? 0 : from;
    for (int32_t layer = from; out->sliding_window > 0 && layer < out->layers; layer++)
        set_layer(out->sliding_layers, layer);
    return STATUS_OK;
}

static enum status read_window(struct hparams *out, const struct family *family, const struct json *config,
                               struct error *err)
{
    const struct json *window = json_member(config, "sliding_window");
    if (family->window < 0) {
        if (!field_absent(window) || !field_absent(json_member(config, "layer_types")))
            return error_set(err, STATUS_UNSUPPORTED, "sliding_window and layer_types are not part of %s",
                             out->architecture);
        return STATUS_OK;
    }
    /* Written null: none. Left out: the family's default, as transformers does. */
    struct integer_field field = {"sliding_window", 0, MAX_CONTEXT_TOKENS, window ? 0 : family->window};
    enum status status = field_integer(&out->sliding_window, config, field, err);
    if (status != STATUS_OK)
        return status;
    if (family->window_by_switch)
        return read_switched_window(out, family, config, err);
    if (!field_absent(json_member(config, "layer_types")))
        return error_set(err, STATUS_UNSUPPORTED, "layer_types is not part of %s", out->architecture);
    for (int32_t layer = 0; out->sliding_window > 0 && layer < out->layers; layer++)
        set_layer(out->sliding_layers, layer);
    return STATUS_OK;
}

static enum status read_llama3(struct hparams *out, const struct json *rope, struct error *err)
{
    enum status status;
    if ((status = field_number(&out->rope_low_freq_factor, rope,
                               (struct number_field){"low_freq_factor", 1e-3, 1e6, NAN}, err)) != STATUS_OK ||
        (status = field_number(&out->rope_high_freq_factor, rope,
                               (struct number_field){"high_freq_factor", 1e-3, 1e6, NAN}, err)) != STATUS_OK)
        return status;
    if (out->rope_high_freq_factor <= out->rope_low_freq_factor)
        return error_set(err, STATUS_INVALID, "high_freq_factor must be above low_freq_factor");
    return STATUS_OK;
}

/* YaRN's magnitude correction, 0.1 m ln(s) + 1 (Peng et al. 2023, section 3.4). */
static double yarn_magnitude(double factor, double mscale)
{
    return factor <= 1.0 ? 1.0 : 0.1 * mscale * log(factor) + 1.0;
}

static enum status read_yarn(struct hparams *out, const struct json *rope, struct error *err)
{
    double mscale = 0.0, mscale_all = 0.0;
    enum status status;
    if ((status = field_number(&out->rope_beta_fast, rope,
                               (struct number_field){"beta_fast", 1e-3, 1e6, 32.0}, err)) != STATUS_OK ||
        (status = field_number(&out->rope_beta_slow, rope, (struct number_field){"beta_slow", 1e-3, 1e6, 1.0},
                               err)) != STATUS_OK ||
        (status = field_number(&mscale, rope, (struct number_field){"mscale", 0.0, 1e3, 0.0}, err)) !=
            STATUS_OK ||
        (status = field_number(&mscale_all, rope, (struct number_field){"mscale_all_dim", 0.0, 1e3, 0.0},
                               err)) != STATUS_OK)
        return status;
    double magnitude = yarn_magnitude(out->rope_factor, 1.0);
    if (mscale > 0.0 && mscale_all > 0.0)
        magnitude = yarn_magnitude(out->rope_factor, mscale) / yarn_magnitude(out->rope_factor, mscale_all);
    out->rope_truncate = json_bool_or(json_member(rope, "truncate"), true);
    return field_number(&out->rope_attention_factor, rope,
                        (struct number_field){"attention_factor", 0.0, 1e3, magnitude}, err);
}

static enum status read_scaling_type(struct hparams *out, const struct json *rope, struct error *err)
{
    const struct json *node = json_member(rope, "rope_type");
    const char *type = json_string_or(node ? node : json_member(rope, "type"), "default");
    static const char *const names[] = {"default", "linear", "llama3", "yarn"}; /* as enum rope_scaling */
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(type, names[i]) == 0) {
            out->rope_scaling = (enum rope_scaling)i;
            return STATUS_OK;
        }
    return error_set(err, STATUS_UNSUPPORTED,
                     "rope type %.64s is not supported; default, linear, llama3 and yarn are", type);
}

/* How far the model was trained, which llama3 and yarn stretch. The top-level spelling wins, as in
 * transformers. */
static enum status read_original_context(struct hparams *out, const struct json *config,
                                         const struct json *rope, struct error *err)
{
    static const char key[] = "original_max_position_embeddings";
    const struct json *holder = field_absent(json_member(config, key)) ? rope : config;
    return field_number(&out->rope_original_context, holder,
                        (struct number_field){key, 1.0, MAX_CONTEXT_TOKENS, (double)out->max_context_tokens},
                        err);
}

static enum status read_scaling(struct hparams *out, const struct json *config, const struct json *rope,
                                struct error *err)
{
    enum status status = read_scaling_type(out, rope, err);
    if (status != STATUS_OK || out->rope_scaling == ROPE_SCALING_NONE)
        return status;
    if ((status = read_original_context(out, config, rope, err)) != STATUS_OK)
        return status;
    double ratio = (double)out->max_context_tokens / out->rope_original_context;
    bool may_derive = out->rope_scaling == ROPE_SCALING_YARN && ratio >= 1.0;
    struct number_field factor = {"factor", 1.0, 1e6, may_derive ? ratio : NAN};
    if ((status = field_number(&out->rope_factor, rope, factor, err)) != STATUS_OK)
        return status;
    if (out->rope_scaling == ROPE_SCALING_LLAMA3)
        return read_llama3(out, rope, err);
    return out->rope_scaling == ROPE_SCALING_YARN ? read_yarn(out, rope, err) : STATUS_OK;
}

/* transformers 5 writes rope_parameters {rope_type, rope_theta, …}; 4 wrote rope_theta and rope_scaling. */
static enum status read_rope(struct hparams *out, const struct family *family, const struct json *config,
                             struct error *err)
{
    out->rope_factor = 1.0;
    out->rope_attention_factor = 1.0;
    const struct json *rope = json_member(config, "rope_parameters");
    if (field_absent(rope))
        rope = json_member(config, "rope_scaling");
    if (!field_absent(rope) && rope->type != JSON_OBJECT)
        return error_set(err, STATUS_INVALID, "rope_parameters (or rope_scaling) must be an object");
    for (size_t i = 0; !field_absent(rope) && i < rope->count; i++)
        if (rope->as.items[i].type == JSON_OBJECT)
            return error_set(err, STATUS_UNSUPPORTED,
                             "rope parameters that differ by layer type are not supported");
    const struct json *rotary = json_member(rope, "partial_rotary_factor");
    if (!field_absent(rotary) && json_number_or(rotary, NAN) != 1.0)
        return error_set(err, STATUS_UNSUPPORTED, "partial_rotary_factor other than 1 is not supported");
    const struct json *holder = field_absent(json_member(rope, "rope_theta")) ? config : rope;
    enum status status = field_number(
        &out->rope_theta, holder,
        (struct number_field){"rope_theta", 1.001, 1e15, family->rope_theta > 0.0 ? family->rope_theta : 1e4},
        err);
    if (status != STATUS_OK || field_absent(rope))
        return status;
    return read_scaling(out, config, rope, err);
}

static enum status read_token_ids(struct hparams *out, const struct json *object, struct error *err)
{
    struct integer_field bos = {"bos_token_id", -1, out->vocab - 1, out->bos};
    enum status status = field_integer(&out->bos, object, bos, err);
    if (status != STATUS_OK)
        return status;
    const struct json *eos = json_member(object, "eos_token_id");
    if (field_absent(eos))
        return STATUS_OK;
    const struct json *ids = eos->type == JSON_ARRAY ? eos->as.items : eos;
    size_t count = eos->type == JSON_ARRAY ? eos->count : 1;
    if (count > HPARAMS_MAX_EOS)
        return error_set(err, STATUS_INVALID, "eos_token_id must have at most %d members", HPARAMS_MAX_EOS);
    for (size_t i = 0; i < count; i++) {
        if (ids[i].type != JSON_INTEGER || ids[i].as.integer < 0 || ids[i].as.integer >= out->vocab)
            return error_set(err, STATUS_INVALID,
                             "eos_token_id must be a token below vocab_size (%d), or a list of such",
                             out->vocab);
        out->eos[i] = (int32_t)ids[i].as.integer;
    }
    out->eos_count = (int32_t)count;
    return STATUS_OK;
}

static enum status read_sampling(struct hparams *out, const struct json *generation, struct error *err)
{
    const struct {
        bool *has;
        float *out;
        struct number_field field;
    } fields[] = {
        {&out->has_temperature, &out->temperature, {"temperature", 0.0, 100.0, NAN}},
        {&out->has_top_p, &out->top_p, {"top_p", 0.0, 1.0, NAN}},
        {&out->has_min_p, &out->min_p, {"min_p", 0.0, 1.0, NAN}},
        {&out->has_repetition_penalty, &out->repetition_penalty, {"repetition_penalty", 1e-3, 1e3, NAN}},
    };
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        if (field_absent(json_member(generation, fields[i].field.key)))
            continue;
        double value = 0.0;
        enum status status = field_number(&value, generation, fields[i].field, err);
        if (status != STATUS_OK)
            return status;
        *fields[i].has = true;
        *fields[i].out = (float)value;
    }
    out->has_top_k = !field_absent(json_member(generation, "top_k"));
    return field_integer(&out->top_k, generation, (struct integer_field){"top_k", -1, INT32_MAX, 0}, err);
}

static enum status read_config(struct hparams *out, const struct json *config, struct error *err)
{
    const struct family *family = NULL;
    enum status status;
    if (config->type != JSON_OBJECT)
        return error_set(err, STATUS_INVALID, "a JSON object is expected");
    out->bos = -1;
    if ((status = read_family(out, &family, config, err)) != STATUS_OK ||
        (status = refuse_features(config, err)) != STATUS_OK ||
        (status = read_sizes(out, family, config, err)) != STATUS_OK ||
        (status = read_experts(out, family, config, err)) != STATUS_OK ||
        (status = read_switches(out, family, config, err)) != STATUS_OK ||
        (status = read_window(out, family, config, err)) != STATUS_OK ||
        (status = read_rope(out, family, config, err)) != STATUS_OK)
        return status;
    return read_token_ids(out, config, err);
}

static enum status read_generation(struct hparams *out, const struct json *generation, struct error *err)
{
    if (generation->type != JSON_OBJECT)
        return error_set(err, STATUS_INVALID, "a JSON object is expected");
    enum status status = read_token_ids(out, generation, err);
    return status != STATUS_OK ? status : read_sampling(out, generation, err);
}

static enum status parse_one(struct hparams *out, const char *name, const char *text, size_t bytes,
                             enum status (*read)(struct hparams *, const struct json *, struct error *),
                             struct error *err)
{
    struct json_document *document = NULL;
    const struct json_limits limits = {.max_bytes = CONFIG_MAX_BYTES, .max_depth = 16, .reject_nul = true};
    enum status status = json_parse(&document, text, bytes, &limits, err);
    if (status == STATUS_OK)
        status = read(out, json_root(document), err);
    json_close(document);
    if (status != STATUS_OK)
        error_prefix(err, "%s", name);
    return status;
}

enum status hparams_parse(struct hparams *out, const char *config, size_t config_bytes,
                          const char *generation, size_t generation_bytes, struct error *err)
{
    memset(out, 0, sizeof *out); /* padding too: hparams may be compared in bytes */
    enum status status = parse_one(out, "config.json", config, config_bytes, read_config, err);
    if (status == STATUS_OK && generation)
        status = parse_one(out, "generation_config.json", generation, generation_bytes, read_generation, err);
    return status;
}

enum status hparams_read(struct hparams *out, const char *model_dir, struct error *err)
{
    char *config = NULL, *generation = NULL;
    size_t config_bytes = 0, generation_bytes = 0;
    enum status status =
        model_file_read(&config, &config_bytes, model_dir, "config.json", CONFIG_MAX_BYTES, err);
    if (status == STATUS_OK)
        status = model_file_read(&generation, &generation_bytes, model_dir, "generation_config.json",
                                 CONFIG_MAX_BYTES, err);
    if (status == STATUS_OK || (status == STATUS_NOT_FOUND && config))
        status = hparams_parse(out, config, config_bytes, generation, generation_bytes, err);
    free(config);
    free(generation);
    return status;
}

int32_t hparams_layer_window(const struct hparams *hparams, int32_t layer)
{
    return hparams->sliding_layers[layer / 8] >> (layer % 8) & 1 ? hparams->sliding_window : 0;
}

bool hparams_layer_is_sparse(const struct hparams *hparams, int32_t layer)
{
    return hparams->sparse_layers[layer / 8] >> (layer % 8) & 1;
}
