// SPDX-License-Identifier: Apache-2.0
// Where a Redis is: redis://host[:port][/db] (an IPv6 address in brackets) or unix:///path[?db=N]; several
// are separated by commas. User and password are never part of it, so it can be logged.
#ifndef KVTIER_REDIS_ADDRESS_H
#define KVTIER_REDIS_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

enum { REDIS_HOST_BYTES = 256, REDIS_ADDRESS_BYTES = 320, REDIS_MAX_ADDRESSES = 64 };

struct redis_address {
    char host[REDIS_HOST_BYTES]; /* or the path of a unix socket */
    bool is_unix;
    int port, database;
};

/* Statuses: CONFIG (rediss:// names the stunnel recipe). */
MUST_CHECK enum status redis_address_parse(struct redis_address *out, const char *text, struct error *err);
/* At least one, at most REDIS_MAX_ADDRESSES, none twice. */
MUST_CHECK enum status redis_address_parse_list(struct redis_address out[REDIS_MAX_ADDRESSES], size_t *count,
                                                const char *text, struct error *err);
/* The same text for the same place. */
void redis_address_print(const struct redis_address *address, char out[REDIS_ADDRESS_BYTES]);
bool redis_address_equal(const struct redis_address *a, const struct redis_address *b);

#endif
