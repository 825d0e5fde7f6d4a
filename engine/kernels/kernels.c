// SPDX-License-Identifier: Apache-2.0
// The list of kernel sets, best first, and the choice among them at start. CMake defines
// MILLRACE_KERNELS_<SET> for the hand-vectorised sets that this build contains.
#include "engine/kernels/kernels.h"

#include <string.h>

static const struct kernels *const sets[] = {
#ifdef MILLRACE_KERNELS_AMX
    &kernels_amx,
#endif
#ifdef MILLRACE_KERNELS_AVX512
    &kernels_avx512,
#endif
#ifdef MILLRACE_KERNELS_AVX2
    &kernels_avx2,
#endif
    &kernels_generic,
    &kernels_openblas, /* by name only: generic is always supported and comes first for "auto" */
};

const struct kernels *kernels_find(const char *name)
{
    for (size_t i = 0; i < sizeof sets / sizeof sets[0]; i++) {
        bool named = strcmp(name, "auto") == 0 || strcmp(name, sets[i]->name) == 0;
        if (named && sets[i]->supported())
            return sets[i];
    }
    return NULL;
}
