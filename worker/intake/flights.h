// SPDX-License-Identifier: Apache-2.0
// Jobs taken from Kafka and not answered yet, and which of them may start. A job whose worker ended while it
// ran is a suspect: suspects run apart from all others, first a few together, then each alone, so that the
// one that kills its worker is found and the innocent are answered. A tenant may have a bound on what runs of
// it: the rest waits, and whoever comes behind passes by. Pure; owner: the intake thread.
#ifndef WORKER_INTAKE_FLIGHTS_H
#define WORKER_INTAKE_FLIGHTS_H

#include "base/error.h"
#include "worker/intake/cancellations.h"
#include "worker/intake/job.h"

enum {
    FLIGHTS_WAVE = 64,             /* most that start at once */
    FLIGHTS_SUSPECTS_TOGETHER = 16 /* of those attempted once; who was attempted twice runs alone */
};

struct flight {            /* one taken job */
    uint64_t handle;       /* 0: free */
    const void *partition; /* the owner's mark */
    int64_t offset, timestamp_ms, deadline_ms;
    unsigned attempts;       /* workers that ended while it ran */
    size_t tenant;           /* index + 1; 0: none */
    struct job_record *held; /* owned: waits for its turn; NULL: started or answered without a start */
    bool struck;             /* this attempt was written ahead */
    struct cancel_names names;
    bool cancellable, cancelled; /* cancellable: it was given to the engine, `names` is set */
};

struct flights;

/* tenant_cap: flights of one tenant that are not held, 0: any number. */
MUST_CHECK enum status flights_open(struct flights **out, size_t capacity, size_t tenant_cap,
                                    struct error *err);
void flights_close(struct flights *flights);
/* The caller keeps within the capacity. */
struct flight *flights_add(struct flights *flights, const struct job_record *record, const void *partition,
                           unsigned attempts);
/* Right behind flights_add. True: the tenant has as many running as it may, so this one is to be held. */
bool flights_set_tenant(struct flights *flights, struct flight *flight, const char *tenant, size_t bytes);
void flights_remove(struct flights *flights, struct flight *flight);
struct flight *flights_find(struct flights *flights, uint64_t handle); /* NULL: none */
/* The next flight at or behind *at, in no order; NULL: no more. Begin with *at = 0; removing is allowed. */
struct flight *flights_each(struct flights *flights, size_t *at);
size_t flights_count(const struct flights *flights);
/* It waits for its turn with this copy of its record (taken over), until flights_release. */
void flights_hold(struct flights *flights, struct flight *flight, struct job_record *held);
struct job_record *flights_release(struct flights *flights, struct flight *flight);
size_t flights_held(const struct flights *flights);
/* Nobody waits, and no suspect runs: a new job may start at once. */
bool flights_are_free(const struct flights *flights);
/* Which held flights may start now, oldest first; at most FLIGHTS_WAVE. */
size_t flights_wave(struct flights *flights, struct flight *wave[FLIGHTS_WAVE]);

#endif
