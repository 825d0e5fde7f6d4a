// SPDX-License-Identifier: Apache-2.0
// What the process did lately: spans in a ring, always on (one span costs a few stores), rendered as Chrome
// trace events (the Trace Event Format, "X" events) for chrome://tracing and Perfetto. Any thread writes, any
// thread renders; a span that is being overwritten while it is read is left out.
#ifndef BASE_TRACE_H
#define BASE_TRACE_H

#include <stdint.h>

#include "base/bytes.h"

enum { TRACE_SPANS = 16384 };

enum trace_track { TRACE_INTAKE, TRACE_ENGINE, TRACE_EMIT, TRACE_TIER_READ, TRACE_TIER_WRITE, TRACE_TRACKS };

/* From begin_ns (monotonic) to now. `name` and `unit` are literals; `amount` is shown as args.{unit}. */
void trace_span(enum trace_track track, const char *name, int64_t begin_ns, const char *unit, int64_t amount);
/* {"traceEvents":[…]} of the spans that ended at or after since_ns. */
void trace_render(int64_t since_ns, struct bytes *out);

#endif
