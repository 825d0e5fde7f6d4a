// SPDX-License-Identifier: Apache-2.0
#include "worker/infer/result.h"

#include <stdio.h>
#include <string.h>

enum { MAX_LINE_BYTES = 65536 }; /* of a line without generation */

static struct result empty_result(const char *status)
{
    struct result result = {
        .status = status, .finish_reason = "", .ttft_ns = -1, .e2e_ns = -1, .queue_ns = -1};
    bytes_init(&result.value, MAX_LINE_BYTES);
    return result;
}

static enum status check(struct result *result, struct error *err)
{
    if (!result->value.failed)
        return STATUS_OK;
    result_release(result);
    return error_set(err, STATUS_NO_MEMORY, "no memory for a result line");
}

void result_release(struct result *result)
{
    bytes_release(&result->value);
}

void result_identity_of(struct job_identity *out, const struct job *job)
{
    *out = (struct job_identity){.has_custom_id = true, .created_s = job->created_s};
    snprintf(out->id, sizeof out->id, "%s", job->id);
    snprintf(out->request_id, sizeof out->request_id, "%s", job->request_id);
    snprintf(out->custom_id, sizeof out->custom_id, "%s", job->custom_id);
    snprintf(out->batch_id, sizeof out->batch_id, "%s", job->batch_id);
}

static void append_string(struct bytes *out, const char *text)
{
    json_append_string(out, text, strlen(text));
}

static void append_string_or_null(struct bytes *out, const char *text)
{
    if (*text)
        append_string(out, text);
    else
        bytes_append_text(out, "null");
}

static void append_identity(struct bytes *out, const struct job_identity *identity)
{
    bytes_append_text(out, "{\"id\":");
    append_string(out, identity->id);
    bytes_append_text(out, ",\"custom_id\":");
    append_string_or_null(out, identity->has_custom_id ? identity->custom_id : "");
}

void result_append_head(struct bytes *out, const struct job_identity *identity, int http_status)
{
    append_identity(out, identity);
    bytes_appendf(out, ",\"response\":{\"status_code\":%d,\"request_id\":", http_status);
    append_string(out, identity->request_id);
    bytes_append_text(out, ",\"body\":");
}

void result_append_tail(struct bytes *out, const char *code, const char *message)
{
    if (!code) {
        bytes_append_text(out, "},\"error\":null}");
        return;
    }
    bytes_append_text(out, "},\"error\":{\"code\":");
    append_string(out, code);
    bytes_append_text(out, ",\"message\":");
    append_string(out, message);
    bytes_append_text(out, "}}");
}

enum status result_from_fault(struct result *out, const struct job_identity *identity,
                              const struct job_fault *fault, struct error *err)
{
    *out = empty_result("failed");
    result_append_head(&out->value, identity, fault->http_status);
    bytes_append_text(&out->value, "{\"error\":{\"message\":");
    append_string(&out->value, fault->message);
    bytes_append_text(&out->value, ",\"type\":");
    append_string(&out->value, fault->type);
    bytes_append_text(&out->value, ",\"param\":");
    append_string_or_null(&out->value, fault->param);
    bytes_append_text(&out->value, ",\"code\":");
    append_string_or_null(&out->value, fault->code);
    bytes_append_text(&out->value, "}}");
    result_append_tail(&out->value, NULL, NULL);
    return check(out, err);
}

enum status result_not_executed(struct result *out, const struct job_identity *identity, const char *code,
                                const char *message, struct error *err)
{
    bool cancelled = strcmp(code, "batch_cancelled") == 0;
    bool expired = strcmp(code, "batch_expired") == 0 || strcmp(code, "request_timeout") == 0;
    *out = empty_result(cancelled ? "cancelled" : expired ? "expired" : "failed");
    append_identity(&out->value, identity);
    bytes_append_text(&out->value, ",\"response\":null,\"error\":{\"code\":");
    append_string(&out->value, code);
    bytes_append_text(&out->value, ",\"message\":");
    append_string(&out->value, message);
    bytes_append_text(&out->value, "}}");
    return check(out, err);
}
