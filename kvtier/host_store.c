// SPDX-License-Identifier: Apache-2.0
#include "kvtier/host_store.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/check.h"

enum { SLOT_NONE = -1 };

struct slot {
    struct block_key key;
    int32_t newer, older;   /* in the list of used slots; `older` chains the free ones */
    int32_t next_in_bucket; /* of used ones */
};

struct host_store {
    uint8_t *memory; /* [slots][block_bytes], given by the system when first written */
    size_t block_bytes, mapped_bytes;
    struct slot *slots;
    int32_t *buckets;
    uint32_t bucket_mask;
    int32_t free, oldest, newest;
    int32_t taken; /* its bytes are being read; SLOT_NONE */
    size_t slot_count;
    _Atomic size_t used; /* and the counters: read by other threads */
    _Atomic uint64_t demoted, promoted, dropped;
};

static int32_t *bucket_of(const struct host_store *store, const struct block_key *key)
{
    return &store->buckets[block_key_hash(key) & store->bucket_mask];
}

static int32_t find(const struct host_store *store, const struct block_key *key)
{
    int32_t at = *bucket_of(store, key);
    while (at != SLOT_NONE && !block_key_equal(&store->slots[at].key, key))
        at = store->slots[at].next_in_bucket;
    return at;
}

static void list_remove(struct host_store *store, int32_t at)
{
    struct slot *slot = &store->slots[at];
    *(slot->newer != SLOT_NONE ? &store->slots[slot->newer].older : &store->newest) = slot->older;
    *(slot->older != SLOT_NONE ? &store->slots[slot->older].newer : &store->oldest) = slot->newer;
}

static void list_add_newest(struct host_store *store, int32_t at)
{
    struct slot *slot = &store->slots[at];
    slot->newer = SLOT_NONE;
    slot->older = store->newest;
    *(store->newest != SLOT_NONE ? &store->slots[store->newest].newer : &store->oldest) = at;
    store->newest = at;
}

static void forget(struct host_store *store, int32_t at)
{
    int32_t *link = bucket_of(store, &store->slots[at].key);
    while (*link != at)
        link = &store->slots[*link].next_in_bucket;
    *link = store->slots[at].next_in_bucket;
    list_remove(store, at);
    store->used--;
}

static void add_free(struct host_store *store, int32_t at)
{
    store->slots[at].older = store->free;
    store->free = at;
}

static enum status open_memory(struct host_store *store, size_t slots)
{
    uint32_t buckets = 16;
    while (buckets < slots * 2)
        buckets *= 2;
    store->bucket_mask = buckets - 1;
    store->slots = calloc(slots, sizeof *store->slots);
    store->buckets = malloc(buckets * sizeof *store->buckets);
    store->mapped_bytes = slots * store->block_bytes;
    store->memory = mmap(NULL, store->mapped_bytes, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (store->memory == MAP_FAILED)
        store->memory = NULL;
    if (!store->slots || !store->buckets || !store->memory)
        return STATUS_NO_MEMORY;
    for (uint32_t i = 0; i < buckets; i++)
        store->buckets[i] = SLOT_NONE;
    for (size_t i = slots; i-- > 0;)
        add_free(store, (int32_t)i);
    store->slot_count = slots;
    return STATUS_OK;
}

enum status host_store_open(struct host_store **out, size_t bytes, size_t block_bytes, struct error *err)
{
    *out = NULL;
    size_t slots = bytes / block_bytes;
    if (slots == 0 || slots > INT32_MAX / 4)
        return error_set(err, STATUS_CONFIG, "kvtier.host_mb: %zu bytes for KV blocks of %zu bytes", bytes,
                         block_bytes);
    struct host_store *store = calloc(1, sizeof *store);
    if (store) {
        store->block_bytes = block_bytes;
        store->free = store->oldest = store->newest = store->taken = SLOT_NONE;
    }
    if (!store || open_memory(store, slots) != STATUS_OK) {
        host_store_close(store);
        return error_set(err, STATUS_NO_MEMORY, "no memory for %zu bytes of evicted KV blocks", bytes);
    }
    *out = store;
    return STATUS_OK;
}

void host_store_close(struct host_store *store)
{
    if (!store)
        return;
    if (store->memory)
        munmap(store->memory, store->mapped_bytes);
    free(store->buckets);
    free(store->slots);
    free(store);
}

/* A slot that is in no list; SLOT_NONE only when the one slot there is has been taken. */
static int32_t make_room(struct host_store *store)
{
    int32_t at = store->free;
    if (at != SLOT_NONE) {
        store->free = store->slots[at].older;
    } else if ((at = store->oldest) != SLOT_NONE) {
        forget(store, at);
        store->dropped++;
    }
    return at;
}

void host_store_put(struct host_store *store, const struct block_key *key, const void *payload)
{
    int32_t at = find(store, key);
    if (at != SLOT_NONE) {
        list_remove(store, at);
        list_add_newest(store, at);
        return;
    }
    if ((at = make_room(store)) == SLOT_NONE)
        return;
    int32_t *bucket = bucket_of(store, key);
    store->slots[at].key = *key;
    store->slots[at].next_in_bucket = *bucket;
    *bucket = at;
    list_add_newest(store, at);
    memcpy(store->memory + (size_t)at * store->block_bytes, payload, store->block_bytes);
    store->used++;
    store->demoted++;
}

bool host_store_has(const struct host_store *store, const struct block_key *key)
{
    return find(store, key) != SLOT_NONE;
}

const void *host_store_take(struct host_store *store, const struct block_key *key)
{
    CHECK(store->taken == SLOT_NONE);
    int32_t at = find(store, key);
    if (at == SLOT_NONE)
        return NULL;
    forget(store, at);
    store->taken = at;
    store->promoted++;
    return store->memory + (size_t)at * store->block_bytes;
}

void host_store_release(struct host_store *store)
{
    CHECK(store->taken != SLOT_NONE);
    add_free(store, store->taken);
    store->taken = SLOT_NONE;
}

void host_store_stats_read(const struct host_store *store, struct host_store_stats *out)
{
    *out = (struct host_store_stats){.slots = store->slot_count,
                                     .used = store->used,
                                     .demoted = store->demoted,
                                     .promoted = store->promoted,
                                     .dropped = store->dropped};
}
