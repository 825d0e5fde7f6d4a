// SPDX-License-Identifier: Apache-2.0
// Typed, range-checked reads of one member of a configuration object; a refusal names the member and what it
// may be. Absent and null are the same. Private to engine/model.
#ifndef ENGINE_MODEL_HPARAMS_FIELDS_H
#define ENGINE_MODEL_HPARAMS_FIELDS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/json.h"

struct integer_field {
    const char *key;
    int32_t min, max;
    int32_t fallback; /* below min: the field is required */
};

struct number_field {
    const char *key;
    double min, max;
    double fallback; /* NAN: the field is required */
};

bool field_absent(const struct json *node);
/* Statuses: INVALID. */
MUST_CHECK enum status field_integer(int32_t *out, const struct json *object, struct integer_field field,
                                     struct error *err);
MUST_CHECK enum status field_number(double *out, const struct json *object, struct number_field field,
                                    struct error *err);
/* Absent: *out stays. */
MUST_CHECK enum status field_bool(bool *out, const struct json *object, const char *key, struct error *err);

#endif
