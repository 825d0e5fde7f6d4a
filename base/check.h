// SPDX-License-Identifier: Apache-2.0
// Assertions for our own bugs. CHECK is always on: a wrong result is worse than a stopped worker.
// Bad input, peers and memory are statuses (base/status.h), never CHECKs.
#ifndef BASE_CHECK_H
#define BASE_CHECK_H

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF_LIKE(text, first) __attribute__((format(printf, text, first)))

_Noreturn void check_failed(const char *expression, const char *file, int line);

#define CHECK(expression) ((expression) ? (void)0 : check_failed(#expression, __FILE__, __LINE__))
#define UNREACHABLE() check_failed("unreachable", __FILE__, __LINE__)
#ifdef MILLRACE_DEBUG
#define DCHECK(expression) CHECK(expression)
#else
#define DCHECK(expression) ((void)sizeof(expression))
#endif

#endif
