// SPDX-License-Identifier: Apache-2.0
// Any bytes as tokenizer.json, and what follows a 0x1e byte as a text for it: refused with a sentence, or ids
// that all exist and that decode.
#include <stdint.h>
#include <string.h>

#include "base/check.h"
#include "engine/text/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void encode_and_decode(const struct tokenizer *tokenizer, const char *text, size_t bytes)
{
    struct token_list ids = {0};
    struct bytes out;
    struct error err = {0};
    const struct encode_options options = {.add_special_tokens = true};
    bytes_init(&out, (size_t)64 << 20);
    if (tokenizer_encode(tokenizer, text, bytes, &options, &ids, &err) == STATUS_OK) {
        for (size_t i = 0; i < ids.count; i++)
            CHECK(ids.ids[i] >= 0);
        CHECK(tokenizer_decode(tokenizer, ids.ids, ids.count, true, &out, NULL) == STATUS_OK);
    } else {
        CHECK(err.text[0] && ids.count == 0);
    }
    bytes_release(&out);
    token_list_release(&ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *mark = size ? memchr(data, 0x1e, size) : NULL;
    const size_t json_bytes = mark ? (size_t)(mark - data) : size;
    struct tokenizer *tokenizer;
    struct error err = {0};
    if (tokenizer_open_text(&tokenizer, (const char *)data, json_bytes, NULL, 0, &err) != STATUS_OK) {
        CHECK(err.text[0] && !tokenizer);
        return 0;
    }
    if (mark)
        encode_and_decode(tokenizer, (const char *)mark + 1, size - json_bytes - 1);
    tokenizer_close(tokenizer);
    return 0;
}
