// SPDX-License-Identifier: Apache-2.0
// What this machine can do at best, measured: the speed at which a kernel team reads memory, and the rates of
// the instructions that the products are made of. The other side of every share in `millrace bench engine`.
#ifndef ENGINE_KERNELS_MACHINE_LIMITS_H
#define ENGINE_KERNELS_MACHINE_LIMITS_H

#include <stddef.h>
#include <stdint.h>

#include "engine/kernels/kernels.h"
#include "engine/kernels/thread_team.h"

/* Bytes per second at which the team reads memory[0..bytes), on the pages that weights lie on, in the best of
 * a few ways, each of which reads a part; bytes a multiple of 4 KiB per member. */
double machine_read_bandwidth(struct thread_team *team, const void *memory, size_t bytes);
/* Operations (a multiplication or an addition each) per second of the multiply-accumulate step that the
 * kernel set uses for `format`, from registers, on all members at once. */
double machine_peak(struct thread_team *team, const struct kernels *kernels, enum weight_format format);

/* peak_avx512.c, peak_avx2.c: performs at least `operations` and returns how many. */
uint64_t avx512_peak(enum weight_format format, uint64_t operations);
uint64_t avx2_peak(enum weight_format format, uint64_t operations);

#endif
