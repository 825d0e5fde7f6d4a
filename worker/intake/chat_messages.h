// SPDX-License-Identifier: Apache-2.0
// A chat's messages as a template wants them, with vLLM's two courtesies: the arguments of an assistant's
// tool calls, JSON in a string by OpenAI's format, become the object that they say; text parts are joined by
// newlines for a template that takes strings, and left alone for one that reads parts. Pure; any thread.
#ifndef WORKER_INTAKE_CHAT_MESSAGES_H
#define WORKER_INTAKE_CHAT_MESSAGES_H

#include "base/arena.h"
#include "base/error.h"
#include "base/json.h"

/* `out` becomes the list; what differs from `messages` lies in `arena`, the rest still belongs to `messages`.
 * Statuses: INVALID, UNSUPPORTED (a part that is no text), NO_MEMORY. */
MUST_CHECK enum status chat_messages_prepare(struct arena *arena, const struct json *messages,
                                             bool reads_parts, struct json *out, struct error *err);

#endif
