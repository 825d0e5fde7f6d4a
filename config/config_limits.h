// SPDX-License-Identifier: Apache-2.0
// What this process may use, not what the machine has: cgroup v1 and v2 limits (of its own group and of
// every parent), the scheduler's affinity mask and physical memory. Plans start from these numbers.
#ifndef CONFIG_CONFIG_LIMITS_H
#define CONFIG_CONFIG_LIMITS_H

#include <stdint.h>

/* Processors, at least 1: a quota of 1.5 counts as 2. */
int config_cpu_limit(void);
uint64_t config_memory_limit_bytes(void);
uint64_t config_private_bytes(void); /* resident memory of this process that is no file's; 0: unknown */
int32_t config_map_limit(void);      /* memory mappings of one process (vm.max_map_count) */

/* The limits written under `root` (tests make one); no limit: 0. root "" is the running system. */
int config_limits_cgroup_cpus(const char *root);
uint64_t config_limits_cgroup_memory_bytes(const char *root);

#endif
