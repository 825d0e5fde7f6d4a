// SPDX-License-Identifier: Apache-2.0
// Bytes as token ids of two small vocabularies, with stop strings: what comes out in parts is what decode()
// says, cut where the first stop ends.
#include <stdint.h>
#include <string.h>

#include "base/check.h"
#include "engine/text/detokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const vocabularies[] = {
    "{\"added_tokens\":[{\"id\":8,\"content\":\"<end>\",\"special\":true}],\"decoder\":{\"type\":"
    "\"ByteLevel\"},"
    "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2,\"\xC4\xA0"
    "a\":3,\"\xC3\xA2\":4,\"\xC4\xA4\":5,\"\xC2\xAC\":6,\"c\":7},\"merges\":[]}}",
    "{\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":{\"String\":"
    "\"\xE2\x96\x81\"},"
    "\"content\":\" \"},{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"},{\"type\":\"Strip\",\"content\":\" "
    "\",\"start\":1,"
    "\"stop\":0}]},\"model\":{\"type\":\"BPE\",\"vocab\":{\"\xE2\x96\x81"
    "a\":0,\"b\":1,\"<0x0A>\":2,\"<0xE2>\":3,\"<0x82>\":4,\"<0xAC>\":5,\"c\":6,\"ab\":7},\"merges\":[]}}",
};

static void check_sequence(const struct tokenizer *tokenizer, const struct detokenizer_options *options,
                           const uint8_t *ids, size_t count)
{
    struct detokenizer *detokenizer;
    struct bytes parts, whole;
    struct token_list list = {0};
    int stop = -1;
    bytes_init(&parts, (size_t)16 << 20);
    bytes_init(&whole, (size_t)16 << 20);
    CHECK(detokenizer_open(&detokenizer, tokenizer, options, NULL) == STATUS_OK);
    for (size_t i = 0; i < count && stop < 0; i++) {
        CHECK(token_list_push(&list, ids[i] % 10) == STATUS_OK);
        CHECK(detokenizer_push(detokenizer, ids[i] % 10, &parts, &stop) == STATUS_OK);
    }
    CHECK(detokenizer_finish(detokenizer, &parts) == STATUS_OK);
    CHECK(tokenizer_decode(tokenizer, list.ids, list.count, options->skip_special_tokens, &whole, NULL) ==
          STATUS_OK);
    CHECK(stop >= 0 ? parts.count_bytes <= whole.count_bytes : parts.count_bytes == whole.count_bytes);
    CHECK(parts.count_bytes == 0 || memcmp(parts.data, whole.data, parts.count_bytes) == 0);
    bytes_release(&parts);
    bytes_release(&whole);
    token_list_release(&list);
    detokenizer_close(detokenizer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const stops[] = {"abc", "b\n", "\xE2\x82\xAC", "cc"};
    static struct tokenizer *tokenizers[2];
    for (int i = 0; i < 2 && !tokenizers[i]; i++)
        CHECK(tokenizer_open_text(&tokenizers[i], vocabularies[i], strlen(vocabularies[i]), NULL, 0, NULL) ==
              STATUS_OK);
    if (size < 1)
        return 0;
    const struct detokenizer_options options = {.stops = stops,
                                                .stop_count = data[0] >> 1 & 3,
                                                .include_stop = data[0] & 8,
                                                .skip_special_tokens = data[0] & 16,
                                                .min_tokens = data[0] >> 5};
    check_sequence(tokenizers[data[0] & 1], &options, data + 1, size - 1);
    return 0;
}
