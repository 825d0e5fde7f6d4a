// SPDX-License-Identifier: Apache-2.0
#include "base/status.h"

#include "base/check.h"

struct status_row {
    const char *name;
    const char *text;
    enum status_class class;
};

static const struct status_row rows[] = {
#define STATUS_ROW(name, class, text) {#name, text, STATUS_CLASS_##class},
    STATUS_LIST(STATUS_ROW)
#undef STATUS_ROW
};

static const struct status_row *row_of(enum status status)
{
    CHECK((unsigned)status < sizeof rows / sizeof rows[0]);
    return &rows[status];
}

const char *status_name(enum status status)
{
    return row_of(status)->name;
}

const char *status_text(enum status status)
{
    return row_of(status)->text;
}

enum status_class status_class_of(enum status status)
{
    return row_of(status)->class;
}
