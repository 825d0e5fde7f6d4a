// SPDX-License-Identifier: Apache-2.0
// Makes one allocation of our own code fail: malloc, calloc, realloc, strdup, mmap as called from the
// project's objects (the linker's --wrap; libraries keep their own). Only for tests named test_*_alloc.
#ifndef TESTS_SUPPORT_FAILING_ALLOC_H
#define TESTS_SUPPORT_FAILING_ALLOC_H

#include <stdbool.h>

/* The nth allocation from now on (1: the next) fails, once. */
void failing_alloc_arm(int nth);
/* Ends the trial; true when an allocation was made to fail since arm. */
bool failing_alloc_disarm(void);

#endif
