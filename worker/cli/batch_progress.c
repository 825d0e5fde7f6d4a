// SPDX-License-Identifier: Apache-2.0
#include "worker/cli/batch_progress.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/monotime.h"

enum { TERMINAL_MS = 200, PLAIN_MS = 10000, BAR_CELLS = 24, LINE_COLUMNS = 96 };

void batch_progress_init(struct batch_progress *progress, bool quiet)
{
    const char *no_color = getenv("NO_COLOR");
    const char *term = getenv("TERM");
    *progress =
        (struct batch_progress){.terminal = isatty(STDERR_FILENO) == 1,
                                .escapes = !(no_color && *no_color) && term && strcmp(term, "dumb") != 0,
                                .quiet = quiet,
                                .begin_ns = monotime_ns(),
                                .shown_ns = monotime_ns()};
}

static double seconds_since(int64_t begin_ns)
{
    double seconds = (double)(monotime_ns() - begin_ns) / 1e9;
    return seconds > 1e-3 ? seconds : 1e-3;
}

/* Of the bytes that are this run's work. */
static double done_share(const struct batch_progress *progress, const struct batch_counts *counts)
{
    if (counts->file_bytes <= progress->first_bytes || counts->read_bytes < progress->first_bytes)
        return 0;
    return (double)(counts->read_bytes - progress->first_bytes) /
           (double)(counts->file_bytes - progress->first_bytes);
}

static void format_eta(char *out, size_t bytes, double share, double seconds)
{
    if (share <= 0.001) {
        out[0] = '\0';
        return;
    }
    double left = seconds / share - seconds;
    if (left < 120)
        snprintf(out, bytes, "  ETA %.0f s", left);
    else if (left < 7200)
        snprintf(out, bytes, "  ETA %.0f min", left / 60);
    else
        snprintf(out, bytes, "  ETA %.1f h", left / 3600);
}

static void format_line(char *out, size_t bytes, const struct batch_progress *progress,
                        const struct batch_counts *counts)
{
    double seconds = seconds_since(progress->begin_ns), share = done_share(progress, counts);
    char eta[32], bar[BAR_CELLS + 3] = "";
    format_eta(eta, sizeof eta, share, seconds);
    if (progress->terminal && counts->file_bytes > 0) {
        bar[0] = '[';
        for (int i = 0; i < BAR_CELLS; i++)
            bar[i + 1] = i < (int)(share * BAR_CELLS) ? '#' : '.';
        bar[BAR_CELLS + 1] = ']';
    }
    uint64_t answered = counts->completed + counts->failed;
    snprintf(out, bytes, "batch %s %llu answered, %llu failed  %.1f jobs/s  %.0f tok/s%s", bar,
             (unsigned long long)answered, (unsigned long long)counts->failed, (double)answered / seconds,
             (double)counts->generated_tokens / seconds, eta);
}

void batch_progress_show(struct batch_progress *progress, const struct batch_counts *counts)
{
    int64_t every_ms = progress->terminal ? TERMINAL_MS : PLAIN_MS;
    if (progress->quiet || monotime_ns() - progress->shown_ns < every_ms * 1000000)
        return;
    char line[256];
    progress->shown_ns = monotime_ns();
    format_line(line, sizeof line, progress, counts);
    if (!progress->terminal)
        fprintf(stderr, "%s\n", line);
    else if (progress->escapes)
        fprintf(stderr, "\r\033[K%s", line);
    else
        fprintf(stderr, "\r%-*s", LINE_COLUMNS, line);
    fflush(stderr);
}

void batch_progress_clear(struct batch_progress *progress)
{
    if (progress->terminal && !progress->quiet)
        fprintf(stderr, progress->escapes ? "\r\033[K" : "\r%96s\r", "");
}

void batch_progress_summary(const struct batch_progress *progress, const struct batch_counts *counts,
                            FILE *out, bool json)
{
    double seconds = seconds_since(progress->begin_ns);
    fprintf(
        out,
        json
            ? "{\"completed\":%llu,\"failed\":%llu,\"resumed\":%llu,\"duplicates\":%llu,\"prompt_tokens\":%"
              "llu,"
              "\"cached_tokens\":%llu,\"generated_tokens\":%llu,\"seconds\":%.3f,\"jobs_per_s\":%.3f,"
              "\"tokens_per_s\":%.3f}\n"
            : "batch: %llu completed, %llu failed, %llu answered before, %llu duplicates; %llu prompt tokens "
              "(%llu cached), %llu generated in %.1f s: %.1f jobs/s, %.0f tok/s\n",
        (unsigned long long)counts->completed, (unsigned long long)counts->failed,
        (unsigned long long)counts->resumed, (unsigned long long)counts->duplicates,
        (unsigned long long)counts->prompt_tokens, (unsigned long long)counts->cached_tokens,
        (unsigned long long)counts->generated_tokens, seconds,
        (double)(counts->completed + counts->failed) / seconds, (double)counts->generated_tokens / seconds);
}
