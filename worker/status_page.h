// SPDX-License-Identifier: Apache-2.0
// What people see of a running worker: one self-contained page (worker/page/index.html, compiled in) and the
// JSON that it shows. HTTP thread; everything it reads is atomic or a snapshot, so looking slows nobody.
#ifndef WORKER_STATUS_PAGE_H
#define WORKER_STATUS_PAGE_H

#include "worker/pipeline.h"

extern const unsigned char status_page_html[];
extern const size_t status_page_html_bytes;

struct status_page_source {
    struct pipeline_shared *shared;
    struct snapshot *block_map;
    const struct engine_stats *engine;
    const struct kvtier_stats *tier; /* NULL: no tier */
    int64_t started_ms;              /* wall clock */
    bool ready;
};

/* The whole state as one JSON object (docs/OPERATIONS.md, "Watch"). */
void status_page_state(const struct status_page_source *source, struct bytes *out);
/* {"jobs":[…]}: the running jobs alone. */
void status_page_jobs(const struct status_page_source *source, struct bytes *out);

#endif
