// SPDX-License-Identifier: Apache-2.0
#include "engine/model/layer_tensors.h"

#include <inttypes.h>
#include <stdio.h>

#include "engine/model/weights.h"

struct entry {
    bool present;
    const char *name; /* behind "model.layers.<layer>." */
    int32_t n, k;
    size_t offset;
};

static size_t append(struct layer_tensor *out, size_t count, const struct entry *entries, size_t entry_count,
                     int32_t layer)
{
    for (size_t i = 0; i < entry_count; i++) {
        const struct entry *e = &entries[i];
        if (!e->present)
            continue;
        out[count] = (struct layer_tensor){.n = e->n, .k = e->k, .offset = e->offset};
        snprintf(out[count].name, sizeof out[count].name, "model.layers.%" PRId32 ".%s", layer, e->name);
        count++;
    }
    return count;
}

#define AT(field) offsetof(struct layer_weights, field)
#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static size_t attention_tensors(struct layer_tensor *out, const struct hparams *h, int32_t layer)
{
    const int32_t q = h->heads * h->head_dim, kv = h->kv_heads * h->head_dim;
    const struct entry entries[] = {
        {true, "input_layernorm.weight", h->hidden, 0, AT(input_norm)},
        {true, "self_attn.q_proj.weight", q, h->hidden, AT(q)},
        {true, "self_attn.k_proj.weight", kv, h->hidden, AT(k)},
        {true, "self_attn.v_proj.weight", kv, h->hidden, AT(v)},
        {h->qkv_bias, "self_attn.q_proj.bias", q, 0, AT(q_bias)},
        {h->qkv_bias, "self_attn.k_proj.bias", kv, 0, AT(k_bias)},
        {h->qkv_bias, "self_attn.v_proj.bias", kv, 0, AT(v_bias)},
        {h->qk_norm, "self_attn.q_norm.weight", h->head_dim, 0, AT(q_norm)},
        {h->qk_norm, "self_attn.k_norm.weight", h->head_dim, 0, AT(k_norm)},
        {true, "self_attn.o_proj.weight", h->hidden, q, AT(o)},
        {h->output_bias, "self_attn.o_proj.bias", h->hidden, 0, AT(o_bias)},
        {true, "post_attention_layernorm.weight", h->hidden, 0, AT(post_norm)},
    };
    return append(out, 0, entries, COUNT(entries), layer);
}

static size_t dense_tensors(struct layer_tensor *out, size_t count, const struct hparams *h, int32_t layer)
{
    const struct entry entries[] = {
        {true, "mlp.gate_proj.weight", h->intermediate, h->hidden, AT(gate)},
        {true, "mlp.up_proj.weight", h->intermediate, h->hidden, AT(up)},
        {true, "mlp.down_proj.weight", h->hidden, h->intermediate, AT(down)},
        {h->mlp_bias, "mlp.gate_proj.bias", h->intermediate, 0, AT(gate_bias)},
        {h->mlp_bias, "mlp.up_proj.bias", h->intermediate, 0, AT(up_bias)},
        {h->mlp_bias, "mlp.down_proj.bias", h->hidden, 0, AT(down_bias)},
    };
    return append(out, count, entries, COUNT(entries), layer);
}

static size_t router_tensors(struct layer_tensor *out, size_t count, const struct hparams *h, int32_t layer)
{
    const bool mixtral = h->expert_naming == EXPERT_NAMING_MIXTRAL, shared = h->shared_expert_width > 0;
    const int32_t width = h->shared_expert_width;
    const struct entry routers[] = {
        {true, mixtral ? "block_sparse_moe.gate.weight" : "mlp.gate.weight", h->experts, h->hidden,
         AT(router)},
        {shared, "mlp.shared_expert_gate.weight", 1, h->hidden, AT(shared_gate)},
    };
    const struct entry experts[] = {
        {shared, "mlp.shared_expert.gate_proj.weight", width, h->hidden, AT(shared.gate)},
        {shared, "mlp.shared_expert.up_proj.weight", width, h->hidden, AT(shared.up)},
        {shared, "mlp.shared_expert.down_proj.weight", h->hidden, width, AT(shared.down)},
    };
    const size_t first = count;
    count = append(out, count, routers, COUNT(routers), layer);
    for (size_t i = first; i < count; i++)
        out[i].exact = true;
    return append(out, count, experts, COUNT(experts), layer);
}

size_t layer_tensors(struct layer_tensor out[LAYER_TENSORS_MAX], const struct hparams *hparams, int32_t layer)
{
    const size_t count = attention_tensors(out, hparams, layer);
    return hparams_layer_is_sparse(hparams, layer) ? router_tensors(out, count, hparams, layer)
                                                   : dense_tensors(out, count, hparams, layer);
}

/* "experts.<expert>.<matrix>": the names of the three matrices by role. */
void expert_tensors(struct layer_tensor out[EXPERT_TENSORS], const struct hparams *hparams, int32_t layer,
                    int32_t expert)
{
    const bool mixtral = hparams->expert_naming == EXPERT_NAMING_MIXTRAL;
    const int32_t hidden = hparams->hidden, width = hparams->expert_width;
    const struct {
        const char *qwen, *mixtral;
        int32_t n, k;
        size_t offset;
    } matrices[EXPERT_TENSORS] = {
        {"gate_proj", "w1", width, hidden, offsetof(struct expert_weights, gate)},
        {"up_proj", "w3", width, hidden, offsetof(struct expert_weights, up)},
        {"down_proj", "w2", hidden, width, offsetof(struct expert_weights, down)},
    };
    for (int i = 0; i < EXPERT_TENSORS; i++) {
        out[i] = (struct layer_tensor){.n = matrices[i].n, .k = matrices[i].k, .offset = matrices[i].offset};
        snprintf(out[i].name, sizeof out[i].name, "model.layers.%" PRId32 ".%s.experts.%" PRId32 ".%s.weight",
                 layer, mixtral ? "block_sparse_moe" : "mlp", expert,
                 mixtral ? matrices[i].mixtral : matrices[i].qwen);
    }
}
