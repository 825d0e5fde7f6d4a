// SPDX-License-Identifier: Apache-2.0
// The two clocks of the program, replaceable by the simulator: monotonic for intervals, wall for records.
#ifndef BASE_MONOTIME_H
#define BASE_MONOTIME_H

#include <stdint.h>

int64_t monotime_ns(void); /* monotonic, never goes back */
int64_t monotime_ms(void);
int64_t walltime_ms(void);      /* Unix epoch */
int64_t monotime_core_ns(void); /* processor time of this process, all threads; simulated: monotonic */

/* Replaces both clocks (simulation). NULL restores the real ones. Not for use while threads run. */
struct monotime_source {
    int64_t (*monotonic_ns)(void *context);
    int64_t (*wall_ms)(void *context);
    void *context;
};
void monotime_replace(const struct monotime_source *source);

#endif
