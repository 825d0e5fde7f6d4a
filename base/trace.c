// SPDX-License-Identifier: Apache-2.0
// DESIGN: a writer claims a number, empties that slot's number, fills the slot, then writes the number. A
// reader takes a slot only when it finds the number it expects before and after.
#include "base/trace.h"

#include <stdatomic.h>
#include <stdbool.h>

#include "base/monotime.h"

struct slot {
    _Atomic uint64_t number; /* of its span, from 1; 0: being filled */
    const char *_Atomic name;
    const char *_Atomic unit;
    _Atomic int64_t begin_ns, end_ns, amount;
    _Atomic int track;
};

static struct slot slots[TRACE_SPANS];
static _Atomic uint64_t last_number;

void trace_span(enum trace_track track, const char *name, int64_t begin_ns, const char *unit, int64_t amount)
{
    uint64_t number = atomic_fetch_add(&last_number, 1) + 1;
    struct slot *slot = &slots[number % TRACE_SPANS];
    atomic_store(&slot->number, 0);
    atomic_store(&slot->name, name);
    atomic_store(&slot->unit, unit);
    atomic_store(&slot->begin_ns, begin_ns);
    atomic_store(&slot->end_ns, monotime_ns());
    atomic_store(&slot->amount, amount);
    atomic_store(&slot->track, (int)track);
    atomic_store(&slot->number, number);
}

static void render_tracks(struct bytes *out)
{
    static const char *const names[TRACE_TRACKS] = {"intake", "engine", "emit", "tier read", "tier write"};
    for (int i = 0; i < TRACE_TRACKS; i++)
        bytes_appendf(
            out, "%s{\"ph\":\"M\",\"name\":\"thread_name\",\"pid\":1,\"tid\":%d,\"args\":{\"name\":\"%s\"}}",
            i ? ",\n" : "", i + 1, names[i]);
}

static void render_slot(const struct slot *slot, uint64_t number, int64_t since_ns, struct bytes *out)
{
    if (atomic_load(&slot->number) != number)
        return;
    const char *name = atomic_load(&slot->name), *unit = atomic_load(&slot->unit);
    int64_t begin_ns = atomic_load(&slot->begin_ns), end_ns = atomic_load(&slot->end_ns);
    int64_t amount = atomic_load(&slot->amount);
    int track = atomic_load(&slot->track);
    if (atomic_load(&slot->number) != number || end_ns < since_ns)
        return;
    bytes_appendf(out,
                  ",\n{\"ph\":\"X\",\"name\":\"%s\",\"pid\":1,\"tid\":%d,\"ts\":%.3f,\"dur\":%.3f,"
                  "\"args\":{\"%s\":%lld}}",
                  name, track + 1, (double)begin_ns / 1e3, (double)(end_ns - begin_ns) / 1e3, unit,
                  (long long)amount);
}

void trace_render(int64_t since_ns, struct bytes *out)
{
    uint64_t last = atomic_load(&last_number);
    uint64_t first = last > TRACE_SPANS ? last - TRACE_SPANS + 1 : 1;
    bytes_append_text(out, "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n");
    render_tracks(out);
    for (uint64_t number = first; number <= last; number++)
        render_slot(&slots[number % TRACE_SPANS], number, since_ns, out);
    bytes_append_text(out, "\n]}\n");
}
