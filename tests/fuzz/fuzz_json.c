// SPDX-License-Identifier: Apache-2.0
// Any bytes as JSON: refused with a sentence, or a tree whose text parses to the same text again.
#include <stdint.h>
#include <string.h>

#include "base/check.h"
#include "base/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool write_again(const char *text, size_t bytes, struct bytes *out)
{
    struct json_document *document;
    struct error err = {0};
    if (json_parse(&document, text, bytes, NULL, &err) != STATUS_OK) {
        CHECK(err.text[0]);
        return false;
    }
    json_append_node(out, json_root(document));
    json_close(document);
    return !out->failed;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes once, twice;
    bytes_init(&once, (size_t)64 << 20);
    bytes_init(&twice, (size_t)64 << 20);
    if (write_again((const char *)data, size, &once)) {
        CHECK(write_again(once.data, once.count_bytes, &twice));
        CHECK(once.count_bytes == twice.count_bytes && memcmp(once.data, twice.data, once.count_bytes) == 0);
    }
    bytes_release(&once);
    bytes_release(&twice);
    return 0;
}
