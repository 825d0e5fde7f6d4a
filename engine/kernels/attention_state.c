// SPDX-License-Identifier: Apache-2.0
#include "engine/kernels/attention_state.h"

#include <string.h>

#include "engine/kernels/exp.h"

void attention_state_merge(struct attention_state *restrict total,
                           const struct attention_state *restrict next, int32_t head_dim)
{
    if (next->sum == 0.0f)
        return;
    if (total->sum == 0.0f) {
        memcpy(total, next, attention_state_bytes(head_dim));
        return;
    }
    const float max = total->max > next->max ? total->max : next->max;
    const float a = exp_f32(total->max - max), b = exp_f32(next->max - max);
    total->max = max;
    total->sum = total->sum * a + next->sum * b;
    for (int32_t d = 0; d < head_dim; d++)
        total->values[d] = total->values[d] * a + next->values[d] * b;
}

void attention_state_finish(float *restrict out, const struct attention_state *restrict total,
                            int32_t head_dim)
{
    const float scale = 1.0f / total->sum;
    for (int32_t d = 0; d < head_dim; d++)
        out[d] = total->values[d] * scale + 0.0f; /* one zero, as every kernel set writes it */
}
