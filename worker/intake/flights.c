// SPDX-License-Identifier: Apache-2.0
#include "worker/intake/flights.h"

#include <stdlib.h>

struct flights {
    size_t capacity, count, held, suspects;
    uint64_t next_handle;
    struct flight table[]; /* at handle % capacity, then linear */
};

enum status flights_open(struct flights **out, size_t capacity, struct error *err)
{
    *out = calloc(1, sizeof **out + capacity * sizeof(*out)->table[0]);
    if (!*out)
        return error_set(err, STATUS_NO_MEMORY, "no memory for the jobs in flight");
    (*out)->capacity = capacity;
    return STATUS_OK;
}

void flights_close(struct flights *flights)
{
    size_t at = 0;
    for (struct flight *flight; flights && (flight = flights_each(flights, &at));)
        free(flight->held);
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

void flights_remove(struct flights *flights, struct flight *flight)
{
    free(flights_release(flights, flight));
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
    flight->held = held;
    flights->held++;
}

struct job_record *flights_release(struct flights *flights, struct flight *flight)
{
    struct job_record *held = flight->held;
    flights->held -= held != NULL;
    flight->held = NULL;
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

/* The oldest held flight behind `after` that is a suspect, or not. */
static struct flight *oldest_held(struct flights *flights, uint64_t after, bool suspect)
{
    struct flight *oldest = NULL;
    size_t at = 0;
    for (struct flight *flight; (flight = flights_each(flights, &at));)
        if (flight->held && flight->handle > after && (flight->attempts > 0) == suspect &&
            (!oldest || flight->handle < oldest->handle))
            oldest = flight;
    return oldest;
}

size_t flights_wave(struct flights *flights, struct flight *wave[FLIGHTS_WAVE])
{
    bool suspect = flights->suspects > 0;
    size_t count = 0, most = suspect ? FLIGHTS_SUSPECTS_TOGETHER : FLIGHTS_WAVE;
    if (flights->held == 0 || (suspect && flights->count > flights->held))
        return 0; /* suspects run alone: what runs ends first */
    struct flight *next = oldest_held(flights, 0, suspect);
    if (next && next->attempts > 1) {
        wave[count++] = next;
        return count;
    }
    for (; next && count < most; next = oldest_held(flights, next->handle, suspect))
        if (next->attempts <= 1)
            wave[count++] = next;
    return count;
}
