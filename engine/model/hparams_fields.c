// SPDX-License-Identifier: Apache-2.0
#include "engine/model/hparams_fields.h"

#include <math.h>

bool field_absent(const struct json *node)
{
    return !node || node->type == JSON_NULL;
}

enum status field_integer(int32_t *out, const struct json *object, struct integer_field field,
                          struct error *err)
{
    const struct json *node = json_member(object, field.key);
    if (field_absent(node) && field.fallback >= field.min) {
        *out = field.fallback;
        return STATUS_OK;
    }
    if (!node || node->type != JSON_INTEGER || node->as.integer < field.min || node->as.integer > field.max)
        return error_set(err, STATUS_INVALID, "%s must be an integer from %d to %d", field.key, field.min,
                         field.max);
    *out = (int32_t)node->as.integer;
    return STATUS_OK;
}

enum status field_number(double *out, const struct json *object, struct number_field field, struct error *err)
{
    const struct json *node = json_member(object, field.key);
    double value = field_absent(node) ? field.fallback : json_number_or(node, NAN);
    if (!(value >= field.min && value <= field.max))
        return error_set(err, STATUS_INVALID, "%s must be a number from %g to %g", field.key, field.min,
                         field.max);
    *out = value;
    return STATUS_OK;
}

enum status field_bool(bool *out, const struct json *object, const char *key, struct error *err)
{
    const struct json *node = json_member(object, key);
    if (!field_absent(node) && node->type != JSON_TRUE && node->type != JSON_FALSE)
        return error_set(err, STATUS_INVALID, "%s must be true or false", key);
    *out = json_bool_or(node, *out);
    return STATUS_OK;
}
