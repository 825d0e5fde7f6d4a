// SPDX-License-Identifier: Apache-2.0
// Every outcome of the program, in one table: name, class, text. The class decides what the worker does
// (worker/worker.c holds the one function that reads it): RETRY backs off and tries again, REJECT answers
// the job with an error and goes on, FATAL drains and exits.
#ifndef BASE_STATUS_H
#define BASE_STATUS_H

enum status_class { STATUS_CLASS_OK, STATUS_CLASS_RETRY, STATUS_CLASS_REJECT, STATUS_CLASS_FATAL };

#define STATUS_LIST(X)                             \
    X(OK, OK, "ok")                                \
    X(INVALID, REJECT, "invalid input")            \
    X(TOO_LARGE, REJECT, "over a size limit")      \
    X(NOT_FOUND, REJECT, "not found")              \
    X(UNSUPPORTED, REJECT, "not supported")        \
    X(CORRUPT, REJECT, "corrupt data")             \
    X(CANCELLED, REJECT, "cancelled")              \
    X(EXPIRED, REJECT, "deadline passed")          \
    X(NO_MEMORY, RETRY, "out of memory")           \
    X(FULL, RETRY, "no room at present")           \
    X(TIMEOUT, RETRY, "timed out")                 \
    X(UNAVAILABLE, RETRY, "peer unavailable")      \
    X(CLOSED, FATAL, "closed")                     \
    X(IO, FATAL, "input/output error")             \
    X(USAGE, FATAL, "wrong usage")                 \
    X(CONFIG, FATAL, "wrong configuration")        \
    X(FENCED, FATAL, "fenced by a newer instance") \
    X(INTERNAL, FATAL, "internal error")

enum status {
#define STATUS_ENUM(name, class, text) STATUS_##name,
    STATUS_LIST(STATUS_ENUM)
#undef STATUS_ENUM
};

const char *status_name(enum status status); /* "NO_MEMORY" */
const char *status_text(enum status status); /* "out of memory" */
enum status_class status_class_of(enum status status);

#endif
