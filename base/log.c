// SPDX-License-Identifier: Apache-2.0
#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/json.h"
#include "base/monotime.h"

/* A message byte may need six as JSON (\u0001), and the closing brace must always fit. */
enum { MESSAGE_BYTES = 1024, MEMBERS_BYTES = 2048, LINE_BYTES = 6 * MESSAGE_BYTES + MEMBERS_BYTES + 256 };

enum { RECENT = 16 };

static char *_Atomic recent[RECENT]; /* lines; at number % RECENT */
static _Atomic unsigned recent_number;
static _Atomic int threshold = LOG_INFO;
static _Atomic int plain_lines;
static const char *const level_names[] = {"error", "warn", "info", "debug"};

void log_set_level(enum log_level level)
{
    atomic_store(&threshold, (int)level);
}

enum log_level log_get_level(void)
{
    return (enum log_level)atomic_load(&threshold);
}

void log_set_plain(int plain)
{
    atomic_store(&plain_lines, plain);
}

/* Takes the line. */
static void remember(char *line)
{
    unsigned number = atomic_fetch_add(&recent_number, 1);
    free(atomic_exchange(&recent[number % RECENT], line));
}

/* A slot is empty while its line is copied; who finds it filled again lets the older line go. */
void log_recent(struct bytes *out)
{
    unsigned number = atomic_load(&recent_number);
    bool first = true;
    bytes_append_char(out, '[');
    for (unsigned i = 0; i < RECENT; i++) {
        char *_Atomic *slot = &recent[(number + i) % RECENT];
        char *none = NULL, *line = atomic_exchange(slot, NULL);
        if (!line)
            continue;
        bytes_appendf(out, "%s%.*s", first ? "" : ",", (int)strcspn(line, "\n"), line);
        first = false;
        if (!atomic_compare_exchange_strong(slot, &none, line))
            free(line);
    }
    bytes_append_char(out, ']');
}

static void write_line(enum log_level level, const char *module, const char *members, const char *message)
{
    struct bytes line;
    bytes_init(&line, LINE_BYTES);
    if (atomic_load(&plain_lines)) {
        bytes_appendf(&line, "millrace: %s: %s: %s\n", level_names[level], module, message);
    } else {
        int64_t now_ms = walltime_ms();
        bytes_appendf(&line, "{\"ts\":%lld.%03lld,\"level\":\"%s\",\"module\":\"%s\",\"msg\":",
                      (long long)(now_ms / 1000), (long long)(now_ms % 1000), level_names[level], module);
        json_append_string(&line, message, strlen(message));
        if (members && strlen(members) <= MEMBERS_BYTES)
            bytes_appendf(&line, ",%s", members);
        bytes_append_text(&line, "}\n");
    }
    ssize_t written = line.data ? write(STDERR_FILENO, line.data, line.count_bytes) : 0;
    (void)written; /* nowhere left to report it */
    if (level <= LOG_WARN && !line.failed && line.data && line.data[0] == '{')
        remember(bytes_take(&line));
    bytes_release(&line);
}

void log_write(enum log_level level, const char *module, const char *format, ...)
{
    if ((int)level > atomic_load(&threshold))
        return;
    char message[MESSAGE_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    write_line(level, module, NULL, message);
}

void log_write_members(enum log_level level, const char *module, const char *members, const char *format, ...)
{
    if ((int)level > atomic_load(&threshold))
        return;
    char message[MESSAGE_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    write_line(level, module, members, message);
}
