// SPDX-License-Identifier: Apache-2.0
#include "worker/cli/top_sample.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_LINE_BYTES = 1024 };

static const struct {
    const char *metric;
    size_t offset;
} values[] = {
#define TOP_ROW(name, metric) {metric, offsetof(struct top_sample, name)},
    TOP_VALUES(TOP_ROW)
#undef TOP_ROW
};

static double *value_at(struct top_sample *sample, size_t row)
{
    return (double *)(void *)((char *)sample + values[row].offset);
}

/* name{labels} value */
static void read_line(struct top_sample *out, const char *line)
{
    size_t name_bytes = strcspn(line, "{ ");
    const char *number = strrchr(line, ' ');
    for (size_t i = 0; i < sizeof values / sizeof values[0] && number; i++)
        if (strlen(values[i].metric) == name_bytes && memcmp(values[i].metric, line, name_bytes) == 0)
            *value_at(out, i) += strtod(number, NULL);
}

void top_sample_read(struct top_sample *out, const char *text, size_t bytes)
{
    char line[MOST_LINE_BYTES];
    for (const char *at = text, *end = text + bytes; at < end;) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        size_t length = (size_t)((stop ? stop : end) - at);
        if (*at != '#' && length < sizeof line) {
            memcpy(line, at, length);
            line[length] = '\0';
            read_line(out, line);
        }
        at += length + 1;
    }
}

void top_sample_add(struct top_sample *sum, const struct top_sample *part)
{
    struct top_sample copy = *part;
    double oldest_s = sum->oldest_s > part->oldest_s ? sum->oldest_s : part->oldest_s;
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++)
        *value_at(sum, i) += *value_at(&copy, i);
    sum->oldest_s = oldest_s;
    sum->taken_ms = part->taken_ms;
}

double top_rate(double now, double before, int64_t ms)
{
    return ms > 0 && now >= before ? (now - before) * 1000 / (double)ms : 0;
}
