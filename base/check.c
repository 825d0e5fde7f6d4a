// SPDX-License-Identifier: Apache-2.0
#include "base/check.h"

#include <stdio.h>
#include <stdlib.h>

_Noreturn void check_failed(const char *expression, const char *file, int line)
{
    fprintf(stderr, "millrace: internal error: CHECK(%s) failed at %s:%d\n", expression, file, line);
    fflush(stderr);
    abort();
}
