// SPDX-License-Identifier: Apache-2.0
#include "worker/cli/submit_state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"

enum { FILE_BYTES = 1 << 20, STATE_VERSION = 1 };

static bool read_offsets(struct submit_state *state, const struct json *offsets)
{
    if (!offsets || offsets->type != JSON_ARRAY || offsets->count > TOPIC_READER_MAX_PARTITIONS)
        return false;
    state->begin.count = (int32_t)offsets->count;
    for (size_t i = 0; i < offsets->count; i++)
        state->begin.offsets[i] = json_integer_or(&offsets->as.items[i], -1);
    return true;
}

static enum status take(struct submit_state *state, const struct json *root, struct error *err)
{
    if (json_integer_or(json_member(root, "version"), STATE_VERSION) != STATE_VERSION)
        return error_set(
            err, STATUS_CONFIG,
            "%.300s was written by another version of millrace; go on with that one, or remove the file to "
            "submit from the start",
            state->path);
    bool complete = json_bool_or(json_member(root, "complete"), false);
    bool same = json_is_string(json_member(root, "batch_id"), state->batch_id) &&
                json_is_string(json_member(root, "topic"), state->topic) &&
                json_is_string(json_member(root, "cluster_id"), state->cluster_id);
    if (!same && complete)
        return STATUS_OK; /* that one is done; this is another submit of the same file */
    if (!same)
        return error_set(
            err, STATUS_CONFIG,
            "%.300s belongs to an unfinished submit to another cluster, topic or batch; finish that "
            "one or remove the file",
            state->path);
    if (!json_is_string(json_member(root, "sha256"), state->digest))
        return error_set(
            err, STATUS_CONFIG,
            "the input has changed since it was submitted (%.300s); name another --batch-id, or --again to "
            "submit it anew",
            state->path);
    state->complete = complete;
    if (!read_offsets(state, json_member(root, "begin_offsets")))
        return error_set(err, STATUS_CONFIG, "%.300s is damaged; remove it to submit from the start",
                         state->path);
    state->resumed = true;
    return STATUS_OK;
}

enum status submit_state_load(struct submit_state *state, struct error *err)
{
    struct json_document *document;
    FILE *file = fopen(state->path, "r");
    if (!file)
        return STATUS_OK;
    char *text = malloc(FILE_BYTES);
    size_t bytes = text ? fread(text, 1, FILE_BYTES, file) : 0;
    fclose(file);
    enum status status = text ? json_parse(&document, text, bytes, NULL, NULL) : STATUS_NO_MEMORY;
    free(text);
    if (status != STATUS_OK)
        return error_set(err, STATUS_CONFIG, "%.300s is damaged; remove it to submit from the start",
                         state->path);
    status = take(state, json_root(document), err);
    json_close(document);
    return status;
}

enum status submit_state_save(const struct submit_state *state, struct error *err)
{
    struct bytes text;
    bytes_init(&text, FILE_BYTES);
    bytes_appendf(&text, "{\"version\":%d,\"batch_id\":", STATE_VERSION);
    json_append_string(&text, state->batch_id, strlen(state->batch_id));
    bytes_append_text(&text, ",\"topic\":");
    json_append_string(&text, state->topic, strlen(state->topic));
    bytes_append_text(&text, ",\"cluster_id\":");
    json_append_string(&text, state->cluster_id, strlen(state->cluster_id));
    bytes_appendf(&text, ",\"sha256\":\"%s\",\"complete\":%s,\"begin_offsets\":[", state->digest,
                  state->complete ? "true" : "false");
    for (int32_t i = 0; i < state->begin.count; i++)
        bytes_appendf(&text, "%s%lld", i ? "," : "", (long long)state->begin.offsets[i]);
    bytes_append_text(&text, "]}\n");
    int fd = open(state->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    bool ok = fd >= 0 && !text.failed &&
              write(fd, text.data, text.count_bytes) == (ssize_t)text.count_bytes && fsync(fd) == 0;
    if (fd >= 0)
        close(fd);
    bytes_release(&text);
    return ok ? STATUS_OK
              : error_set(err, STATUS_IO, "cannot write %.300s: %s", state->path, strerror(errno));
}

void submit_state_remove(const struct submit_state *state)
{
    unlink(state->path);
}
