// SPDX-License-Identifier: Apache-2.0
// One JSON object per line on stderr: {"ts","level","module","msg",…}. Levels by frequency: error = a human
// must look, warn = a job or a peer, info = per lifetime, debug = per job. Never prompt or output text.
// Thread-safe: a line is one write(2).
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/check.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

void log_set_level(enum log_level level);
enum log_level log_get_level(void);
/* Plain "level module: message" lines instead of JSON, for the command-line verbs. */
void log_set_plain(int plain);
void log_write(enum log_level level, const char *module, const char *format, ...) PRINTF_LIKE(3, 4);
struct bytes;
/* The latest errors and warnings as a JSON array, oldest first. Any thread. */
void log_recent(struct bytes *out);
/* Like log_write with ready members after "msg": `members` is JSON text such as "\"job\":\"a\"", or NULL. */
void log_write_members(enum log_level level, const char *module, const char *members, const char *format, ...)
    PRINTF_LIKE(4, 5);

#define log_error(module, ...) log_write(LOG_ERROR, module, __VA_ARGS__)
#define log_warn(module, ...) log_write(LOG_WARN, module, __VA_ARGS__)
#define log_info(module, ...) log_write(LOG_INFO, module, __VA_ARGS__)
#define log_debug(module, ...) log_write(LOG_DEBUG, module, __VA_ARGS__)

#endif
