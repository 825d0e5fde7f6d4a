// SPDX-License-Identifier: Apache-2.0
// Any bytes as a safetensors file: refused, or every tensor lies inside the input and may be read whole.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "engine/model/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct safetensors *safetensors = NULL;
    struct error err = {0};
    if (safetensors_open_memory(&safetensors, data, size, &err) != STATUS_OK) {
        CHECK(safetensors == NULL && err.text[0] != '\0');
        return 0;
    }
    size_t total = 0;
    for (size_t i = 0; i < safetensors_count(safetensors); i++) {
        const struct tensor *tensor = safetensors_tensor(safetensors, i);
        CHECK(tensor->data >= data && tensor->bytes <= (size_t)(data + size - tensor->data));
        CHECK(safetensors_find(safetensors, tensor->name) == tensor);
        total += tensor->bytes;
    }
    CHECK(total <= size);
    safetensors_close(safetensors);
    return 0;
}
