// SPDX-License-Identifier: Apache-2.0
// Source: kernel documentation, cgroup-v2.rst (cpu.max, memory.max) and cgroup-v1 (cpu.cfs_quota_us,
// memory.limit_in_bytes). Inside a container the group's path may not exist under the mount: walking up to
// the mount's root finds the limits there.
#include "config/config_limits.h"

#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATH_BYTES = 1024, LINE_BYTES = 512, DEFAULT_MAPS = 65530 };

/* Called with each directory from the group's own up to the mount. */
typedef void (*visit_fn)(const char *directory, bool v2, void *context);

static bool read_line(const char *directory, const char *file, char line[LINE_BYTES])
{
    char path[PATH_BYTES + 64];
    snprintf(path, sizeof path, "%s/%s", directory, file);
    FILE *stream = fopen(path, "re");
    bool got = stream && fgets(line, LINE_BYTES, stream);
    if (stream)
        fclose(stream);
    return got;
}

static void walk_up(const char *mount, const char *group, bool v2, visit_fn visit, void *context)
{
    char directory[PATH_BYTES];
    int length = snprintf(directory, sizeof directory, "%s%s", mount, group);
    if (length < 0 || (size_t)length >= sizeof directory)
        return;
    for (size_t root = strlen(mount);;) {
        visit(directory, v2, context);
        char *slash = strrchr(directory, '/');
        if (!slash || (size_t)(slash - directory) < root)
            return;
        *slash = '\0';
    }
}

static bool has_controller(const char *list, const char *controller)
{
    size_t length = strlen(controller);
    for (const char *at = list; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL)
        if (strncmp(at, controller, length) == 0 && (at[length] == ',' || at[length] == '\0'))
            return true;
    return false;
}

/* /proc/self/cgroup has lines "id:controllers:path"; v2's id is 0 and its list is empty. */
static void visit_groups(const char *root, const char *controller, visit_fn visit, void *context)
{
    char path[PATH_BYTES], mount[PATH_BYTES], line[PATH_BYTES];
    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    FILE *stream = fopen(path, "re");
    while (stream && fgets(line, sizeof line, stream)) {
        char *list = strchr(line, ':'), *group = list ? strchr(list + 1, ':') : NULL;
        if (!group)
            continue;
        *list++ = *group++ = '\0';
        group[strcspn(group, "\n")] = '\0';
        bool v2 = *list == '\0';
        if (!v2 && !has_controller(list, controller))
            continue;
        snprintf(mount, sizeof mount, "%.900s/sys/fs/cgroup%s%s", root, v2 ? "" : "/", v2 ? "" : controller);
        walk_up(mount, strcmp(group, "/") == 0 ? "" : group, v2, visit, context);
    }
    if (stream)
        fclose(stream);
}

static void visit_cpu(const char *directory, bool v2, void *context)
{
    char quota_text[LINE_BYTES], period_text[LINE_BYTES];
    long long quota = -1, period = 0;
    if (v2 && read_line(directory, "cpu.max", quota_text)) {
        char *end;
        quota = strtoll(quota_text, &end, 10);
        period = end == quota_text ? 0 : strtoll(end, NULL, 10); /* "max 100000": no limit */
    } else if (!v2 && read_line(directory, "cpu.cfs_quota_us", quota_text) &&
               read_line(directory, "cpu.cfs_period_us", period_text)) {
        quota = strtoll(quota_text, NULL, 10);
        period = strtoll(period_text, NULL, 10);
    }
    int *least = context;
    if (quota <= 0 || period <= 0 || (quota - 1) / period >= 1 << 20)
        return;
    int cpus = (int)((quota - 1) / period + 1);
    if (*least == 0 || cpus < *least)
        *least = cpus;
}

static void visit_memory(const char *directory, bool v2, void *context)
{
    char text[LINE_BYTES], *end;
    if (!read_line(directory, v2 ? "memory.max" : "memory.limit_in_bytes", text))
        return;
    uint64_t bytes = strtoull(text, &end, 10);
    uint64_t *least = context;
    if (end != text && bytes > 0 && bytes < (uint64_t)1 << 60 /* v1 writes "no limit" as about 2^63 */
        && (*least == 0 || bytes < *least))
        *least = bytes;
}

int config_limits_cgroup_cpus(const char *root)
{
    int least = 0;
    visit_groups(root, "cpu", visit_cpu, &least);
    return least;
}

uint64_t config_limits_cgroup_memory_bytes(const char *root)
{
    uint64_t least = 0;
    visit_groups(root, "memory", visit_memory, &least);
    return least;
}

int config_cpu_limit(void)
{
    cpu_set_t set;
    int cpus =
        sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : (int)sysconf(_SC_NPROCESSORS_ONLN);
    int quota = config_limits_cgroup_cpus("");
    if (quota && quota < cpus)
        cpus = quota;
    return cpus > 0 ? cpus : 1;
}

uint64_t config_memory_limit_bytes(void)
{
    uint64_t physical = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGE_SIZE);
    uint64_t limit = config_limits_cgroup_memory_bytes("");
    return limit && limit < physical ? limit : physical;
}

int32_t config_map_limit(void)
{
    char line[LINE_BYTES];
    const long limit = read_line("/proc/sys/vm", "max_map_count", line) ? strtol(line, NULL, 10) : 0;
    return limit > 0 && limit < INT32_MAX ? (int32_t)limit : DEFAULT_MAPS;
}

uint64_t config_private_bytes(void)
{
    char line[LINE_BYTES];
    uint64_t bytes = 0;
    unsigned long long kilobytes;
    FILE *stream = fopen("/proc/self/status", "re");
    while (stream && fgets(line, sizeof line, stream))
        if (sscanf(line, "RssAnon: %llu", &kilobytes) == 1 || sscanf(line, "RssShmem: %llu", &kilobytes) == 1)
            bytes += kilobytes << 10;
    if (stream)
        fclose(stream);
    return bytes;
}
