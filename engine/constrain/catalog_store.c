// SPDX-License-Identifier: Apache-2.0
#include "engine/constrain/catalog_store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct stored {
    char name[CATALOG_MAX_NAME_BYTES + 1];
    struct catalog *catalog;
};

struct catalog_store {
    const char *directory;
    struct catalog_options options;
    struct stored stored[CATALOG_STORE_MAX];
    size_t count;
};

enum status catalog_store_open(struct catalog_store **out, const char *directory,
                               const struct catalog_options *options, struct error *err)
{
    *out = calloc(1, sizeof **out);
    if (!*out)
        return error_set(err, STATUS_NO_MEMORY, "no memory for the table of catalogues");
    (*out)->directory = directory;
    (*out)->options = *options;
    return STATUS_OK;
}

void catalog_store_close(struct catalog_store *store)
{
    if (!store)
        return;
    for (size_t i = 0; i < store->count; i++)
        catalog_give_back(store->stored[i].catalog);
    free(store);
}

/* A name that can only be a file of the directory. */
static bool is_name(const char *name)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-@";
    size_t bytes = strlen(name);
    const char *at = strchr(name, '@');
    return bytes <= CATALOG_MAX_NAME_BYTES && strspn(name, allowed) == bytes && at && at > name && at[1] &&
           !strchr(at + 1, '@') && name[0] != '.';
}

static enum status read_version(struct catalog_store *store, const char *name, struct catalog **out,
                                struct error *err)
{
    char path[4096];
    if (store->count == CATALOG_STORE_MAX)
        return error_set(err, STATUS_FULL, "this worker holds %d catalogues already; restart it",
                         CATALOG_STORE_MAX);
    int bytes = snprintf(path, sizeof path, "%s/%s.jsonl", store->directory, name);
    if (bytes < 0 || (size_t)bytes >= sizeof path)
        return error_set(err, STATUS_NOT_FOUND, "the path of catalogue \"%s\" is too long", name);
    enum status status = catalog_open(out, path, &store->options, err);
    if (status != STATUS_OK)
        return status;
    struct stored *stored = &store->stored[store->count++];
    stored->catalog = *out;
    snprintf(stored->name, sizeof stored->name, "%s", name);
    return STATUS_OK;
}

enum status catalog_store_find(struct catalog_store *store, const char *name, struct catalog **out,
                               struct error *err)
{
    *out = NULL;
    if (!is_name(name))
        return error_set(err, STATUS_NOT_FOUND, "a catalogue is named NAME@VERSION, got \"%.128s\"", name);
    for (size_t i = 0; i < store->count; i++)
        if (strcmp(store->stored[i].name, name) == 0) {
            *out = store->stored[i].catalog;
            return STATUS_OK;
        }
    return read_version(store, name, out, err);
}
