// SPDX-License-Identifier: Apache-2.0
#include "worker/intake/flights.h"

#include <stdlib.h>
#include <string.h>

struct tenant { /* who has flights */
    struct cancel_key key;
    size_t flights, running; /* flights 0: free */
};

struct flights {
    size_t capacity, count, held, suspects;
    size_t tenant_cap, tenant_count; /* tenants in use lie below tenant_count */
    struct tenant *tenants;          /* [capacity] with a cap; else NULL */
    uint64_t next_handle;
    struct flight table[]; /* at handle % capacity, then linear */
};

enum status flights_open(struct flights **out, size_t capacity, size_t tenant_cap, struct error *err)
{
    *out = calloc(1, sizeof **out + capacity * sizeof(*out)->table[0]);
    struct tenant *tenants = *out && tenant_cap ? calloc(capacity, sizeof *tenants) : NULL;
    if (!*out || (tenant_cap && !tenants)) {
        free(*out);
        *out = NULL;
        return error_set(err, STATUS_NO_MEMORY, "no memory for the jobs in flight");
    }
    (*out)->capacity = capacity;
    (*out)->tenant_cap = tenant_cap;
    (*out)->tenants = tenants;
    return STATUS_OK;
}

void flights_close(struct flights *flights)
{
    size_t at = 0;
    for (struct flight *flight; flights && (flight = flights_each(flights, &at));)
        free(flight->held);
    if (flights)
        free(flights->tenants);
    free(flights);
}

struct flight *flights_find(struct flights *flights, uint64_t handle)
{
    for (size_t i = 0; i < flights->capacity; i++) {
        struct flight *flight = &flights->table[(handle + i) % flights->capacity];
        if (flight->handle == handle)
            return flight;
    }
    return NULL;
}

struct flight *flights_add(struct flights *flights, const struct job_record *record, const void *partition,
                           unsigned attempts)
{
    uint64_t handle = ++flights->next_handle;
    size_t at = handle % flights->capacity;
    CHECK(flights->count < flights->capacity);
    while (flights->table[at].handle)
        at = (at + 1) % flights->capacity;
    flights->table[at] = (struct flight){.handle = handle,
                                         .partition = partition,
                                         .offset = record->offset,
                                         .timestamp_ms = record->timestamp_ms,
                                         .attempts = attempts};
    flights->count++;
    flights->suspects += attempts > 0;
    return &flights->table[at];
}

/* ---- tenants ---- */

static struct tenant *tenant_of(struct flights *flights, const struct flight *flight)
{
    return flight->tenant ? &flights->tenants[flight->tenant - 1] : NULL;
}

bool flights_set_tenant(struct flights *flights, struct flight *flight, const char *tenant, size_t bytes)
{
    size_t free_at = flights->tenant_count;
    if (!flights->tenant_cap || bytes == 0)
        return false;
    struct cancel_key key = cancel_key_of_id(tenant, bytes);
    for (size_t i = 0; i < flights->tenant_count && !flight->tenant; i++) {
        if (flights->tenants[i].flights == 0)
            free_at = i;
        else if (memcmp(&flights->tenants[i].key, &key, sizeof key) == 0)
            flight->tenant = i + 1;
    }
    if (!flight->tenant) { /* there is room: a tenant has a flight, and so has every other */
        flights->tenants[free_at] = (struct tenant){.key = key};
        flights->tenant_count += free_at == flights->tenant_count;
        flight->tenant = free_at + 1;
    }
    struct tenant *own = tenant_of(flights, flight);
    own->flights++;
    return ++own->running > flights->tenant_cap;
}

static bool has_room(struct flights *flights, const struct flight *flight)
{
    const struct tenant *tenant = tenant_of(flights, flight);
    return !tenant || tenant->running < flights->tenant_cap;
}

static void leave_tenant(struct flights *flights, const struct flight *flight)
{
    struct tenant *tenant = tenant_of(flights, flight);
    if (!tenant)
        return;
    tenant->running--;
    tenant->flights--;
    while (flights->tenant_count > 0 && flights->tenants[flights->tenant_count - 1].flights == 0)
        flights->tenant_count--;
}

void flights_remove(struct flights *flights, struct flight *flight)
{
    free(flights_release(flights, flight));
    leave_tenant(flights, flight);
    flight->handle = 0;
    flights->count--;
    flights->suspects -= flight->attempts > 0;
}

struct flight *flights_each(struct flights *flights, size_t *at)
{
    while (*at < flights->capacity) {
        struct flight *flight = &flights->table[(*at)++];
        if (flight->handle)
            return flight;
    }
    return NULL;
}

size_t flights_count(const struct flights *flights)
{
    return flights->count;
}

void flights_hold(struct flights *flights, struct flight *flight, struct job_record *held)
{
    struct tenant *tenant = tenant_of(flights, flight);
    flight->held = held;
    flights->held++;
    if (tenant)
        tenant->running--;
}

struct job_record *flights_release(struct flights *flights, struct flight *flight)
{
    struct job_record *held = flight->held;
    struct tenant *tenant = tenant_of(flights, flight);
    flights->held -= held != NULL;
    flight->held = NULL;
    if (held && tenant)
        tenant->running++;
    return held;
}

size_t flights_held(const struct flights *flights)
{
    return flights->held;
}

bool flights_are_free(const struct flights *flights)
{
    return flights->held == 0 && flights->suspects == 0;
}

/* ---- who is next ---- */

/* The oldest held flight behind `after` that is a suspect, or not, and whose tenant has room. */
static struct flight *oldest_held(struct flights *flights, uint64_t after, bool suspect)
{
    struct flight *oldest = NULL;
    size_t at = 0;
    for (struct flight *flight; (flight = flights_each(flights, &at));)
        if (flight->held && flight->handle > after && (flight->attempts > 0) == suspect &&
            has_room(flights, flight) && (!oldest || flight->handle < oldest->handle))
            oldest = flight;
    return oldest;
}

static size_t pick(struct flights *flights, bool suspect, struct flight *wave[FLIGHTS_WAVE])
{
    size_t count = 0, most = suspect ? FLIGHTS_SUSPECTS_TOGETHER : FLIGHTS_WAVE;
    struct flight *next = oldest_held(flights, 0, suspect);
    if (next && next->attempts > 1) {
        wave[count++] = next;
        return count;
    }
    for (; next && count < most; next = oldest_held(flights, next->handle, suspect))
        if (next->attempts <= 1) {
            wave[count++] = next;
            if (next->tenant)
                tenant_of(flights, next)->running++; /* as good as started */
        }
    for (size_t i = 0; i < count; i++)
        if (wave[i]->tenant)
            tenant_of(flights, wave[i])->running--;
    return count;
}

size_t flights_wave(struct flights *flights, struct flight *wave[FLIGHTS_WAVE])
{
    bool suspect = flights->suspects > 0;
    if (flights->held == 0 || (suspect && flights->count > flights->held))
        return 0; /* suspects run alone: what runs ends first */
    return pick(flights, suspect, wave);
}
