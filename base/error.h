// SPDX-License-Identifier: Apache-2.0
// One failure: a status and a sentence a person can act on. Set once where the fault is known, prefixed
// with context on the way up. Functions take `struct error *err` last; NULL is allowed everywhere.
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

#include "base/check.h"
#include "base/status.h"

#define ERROR_TEXT_BYTES 512

struct error {
    enum status status;
    char text[ERROR_TEXT_BYTES];
};

/* Sets *err (when not NULL) and returns `status`, so that a failure is one line: return error_set(…); */
enum status error_set(struct error *err, enum status status, const char *format, ...) PRINTF_LIKE(3, 4);
/* Puts "context: " before the sentence already there and returns its status. */
enum status error_prefix(struct error *err, const char *format, ...) PRINTF_LIKE(2, 3);

#endif
