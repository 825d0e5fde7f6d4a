// SPDX-License-Identifier: Apache-2.0
// Until the interpreter lands: every model counts as having no template, so chat jobs are answered with a
// 400.
#include "engine/text/chat_template.h"

enum status chat_template_open(struct chat_template **out, const char *model_dir, struct error *err)
{
    *out = NULL;
    return error_set(err, STATUS_NOT_FOUND, "%.200s: chat templates are not interpreted yet", model_dir);
}

void chat_template_close(struct chat_template *chat_template)
{
    (void)chat_template;
}

enum status chat_template_render(const struct chat_template *chat_template,
                                 const struct chat_render_options *options, struct bytes *out,
                                 struct error *err)
{
    (void)chat_template;
    (void)options;
    (void)out;
    return error_set(err, STATUS_NOT_FOUND, "chat templates are not interpreted yet");
}
