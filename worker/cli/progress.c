// SPDX-License-Identifier: Apache-2.0
#include "worker/cli/progress.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/monotime.h"

enum { REDRAW_MS = 100, PLAIN_MS = 5000, BAR_CELLS = 20 };

void progress_begin(struct progress *progress, const char *what, const char *unit, uint64_t total)
{
    *progress = (struct progress){.what = what, .unit = unit, .total = total, .begin_ms = monotime_ms()};
    progress->terminal = isatty(STDERR_FILENO);
    progress->color = progress->terminal && !getenv("NO_COLOR");
}

static void draw(const struct progress *progress, uint64_t done, const char *note, bool last)
{
    double seconds = (double)(monotime_ms() - progress->begin_ms) / 1e3;
    double rate = seconds > 0 ? (double)done / seconds : 0;
    fprintf(stderr, "%s%-8s%s ", progress->color ? "\033[1m" : "", progress->what,
            progress->color ? "\033[0m" : "");
    if (progress->total > 0) {
        uint64_t cells = done * BAR_CELLS / progress->total;
        if (progress->terminal)
            for (uint64_t i = 0; i < BAR_CELLS; i++)
                fputs(i < cells ? "█" : "░", stderr);
        fprintf(stderr, " %llu of %llu %s  %3.0f %%", (unsigned long long)done,
                (unsigned long long)progress->total, progress->unit,
                100.0 * (double)done / (double)progress->total);
    } else {
        fprintf(stderr, "%llu %s", (unsigned long long)done, progress->unit);
    }
    fprintf(stderr, "  %.0f %s/s", rate, progress->unit);
    if (!last && progress->total > done && rate > 0)
        fprintf(stderr, "  ETA %.0f s", (double)(progress->total - done) / rate);
    if (note)
        fprintf(stderr, "  %s", note);
    fputs(progress->terminal ? "\033[K" : "", stderr);
    fputs(progress->terminal && !last ? "\r" : "\n", stderr);
}

void progress_show(struct progress *progress, uint64_t done, const char *note)
{
    int64_t now_ms = monotime_ms();
    if (now_ms - progress->shown_ms < (progress->terminal ? REDRAW_MS : PLAIN_MS))
        return;
    if (progress->shown_ms == 0 &&
        !progress->terminal) { /* the first plain line after a while, not at once */
        progress->shown_ms = now_ms;
        return;
    }
    progress->shown_ms = now_ms;
    draw(progress, done, note, false);
}

void progress_end(struct progress *progress, uint64_t done, const char *note)
{
    draw(progress, done, note, true);
}
