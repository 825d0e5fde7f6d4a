// SPDX-License-Identifier: Apache-2.0
// Any bytes as a chat template: refused with a sentence, or rendered within its bounds, or failed with a
// sentence.
#include <stdint.h>
#include <string.h>

#include "base/check.h"
#include "engine/text/chat_template.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char conversation[] = "[{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"user\",\"content\":"
                                   "\"h\xC3\xA9llo \\n\"},{\"role\":\"assistant\","
                                   "\"content\":null,\"tool_calls\":[{\"function\":{\"name\":\"f\","
                                   "\"arguments\":{\"a\":[1,2.5,null,true]}}}]},"
                                   "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"t\"}]}]";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct chat_template *chat_template;
    struct json_document *messages;
    struct bytes out;
    struct error err = {0};
    if (chat_template_open_text(&chat_template, (const char *)data, size, "<s>", "</s>", &err) != STATUS_OK) {
        CHECK(err.text[0] && !chat_template);
        return 0;
    }
    CHECK(json_parse(&messages, conversation, strlen(conversation), NULL, NULL) == STATUS_OK);
    bytes_init(&out, (size_t)1 << 20);
    const struct chat_render_options options = {
        .messages = json_root(messages), .add_generation_prompt = true, .now_ms = 1700000000000};
    if (chat_template_render(chat_template, &options, &out, &err) != STATUS_OK)
        CHECK(err.text[0] && out.count_bytes == 0);
    bytes_release(&out);
    json_close(messages);
    chat_template_close(chat_template);
    return 0;
}
