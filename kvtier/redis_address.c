// SPDX-License-Identifier: Apache-2.0
#include "kvtier/redis_address.h"

#include <stdio.h>
#include <string.h>

enum { DEFAULT_PORT = 6379, MAX_PORT = 65535, MAX_DATABASE = 9999 };

static bool parse_number(const char *text, size_t bytes, int most, int *out)
{
    int value = 0;
    if (bytes == 0 || bytes > 6)
        return false;
    for (size_t i = 0; i < bytes; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        value = value * 10 + (text[i] - '0');
    }
    *out = value;
    return value <= most;
}

/* The host and what follows it; NULL: no host. */
static const char *parse_host(struct redis_address *out, const char *rest)
{
    bool bracket = rest[0] == '[';
    rest += bracket;
    size_t bytes = strcspn(rest, bracket ? "]" : ":/");
    if (bytes == 0 || bytes >= sizeof out->host || (bracket && rest[bytes] != ']'))
        return NULL;
    memcpy(out->host, rest, bytes);
    return rest + bytes + bracket;
}

static bool parse_tcp(struct redis_address *out, const char *rest)
{
    rest = parse_host(out, rest);
    if (!rest)
        return false;
    out->port = DEFAULT_PORT;
    if (*rest == ':') {
        size_t digits = strcspn(rest + 1, "/");
        if (!parse_number(rest + 1, digits, MAX_PORT, &out->port))
            return false;
        rest += 1 + digits;
    }
    if (*rest == '\0')
        return true;
    return *rest == '/' &&
           (rest[1] == '\0' || parse_number(rest + 1, strlen(rest + 1), MAX_DATABASE, &out->database));
}

static bool parse_unix(struct redis_address *out, const char *rest)
{
    size_t bytes = strcspn(rest, "?");
    out->is_unix = true;
    if (rest[0] != '/' || bytes >= sizeof out->host)
        return false;
    memcpy(out->host, rest, bytes);
    rest += bytes;
    return *rest == '\0' || (strncmp(rest, "?db=", 4) == 0 &&
                             parse_number(rest + 4, strlen(rest + 4), MAX_DATABASE, &out->database));
}

enum status redis_address_parse(struct redis_address *out, const char *text, struct error *err)
{
    memset(out, 0, sizeof *out);
    if (strncmp(text, "rediss://", 9) == 0)
        return error_set(
            err, STATUS_CONFIG,
            "kvtier.address: this build's hiredis has no TLS; run stunnel beside the worker and name "
            "its local end, redis://127.0.0.1:PORT");
    bool ok = strncmp(text, "redis://", 8) == 0  ? parse_tcp(out, text + 8)
              : strncmp(text, "unix://", 7) == 0 ? parse_unix(out, text + 7)
                                                 : false;
    return ok ? STATUS_OK
              : error_set(
                    err, STATUS_CONFIG,
                    "kvtier.address must be redis://host[:port][/db] or unix:///path[?db=N], got \"%.100s\"",
                    text);
}

enum status redis_address_parse_list(struct redis_address out[REDIS_MAX_ADDRESSES], size_t *count,
                                     const char *text, struct error *err)
{
    *count = 0;
    for (const char *at = text;; at++) {
        char one[REDIS_ADDRESS_BYTES];
        size_t bytes = strcspn(at, ",");
        if (*count == REDIS_MAX_ADDRESSES)
            return error_set(err, STATUS_CONFIG, "kvtier.address names more than %d servers",
                             REDIS_MAX_ADDRESSES);
        if (bytes >= sizeof one)
            return error_set(err, STATUS_CONFIG, "kvtier.address: an address is too long");
        memcpy(one, at, bytes);
        one[bytes] = '\0';
        enum status status = redis_address_parse(&out[*count], one, err);
        if (status != STATUS_OK)
            return status;
        for (size_t i = 0; i < *count; i++)
            if (redis_address_equal(&out[i], &out[*count]))
                return error_set(err, STATUS_CONFIG, "kvtier.address names %.100s twice", one);
        ++*count;
        at += bytes;
        if (*at == '\0')
            return STATUS_OK;
    }
}

void redis_address_print(const struct redis_address *address, char out[REDIS_ADDRESS_BYTES])
{
    char database[16] = "";
    if (address->database)
        snprintf(database, sizeof database, address->is_unix ? "?db=%d" : "/%d", address->database);
    if (address->is_unix)
        snprintf(out, REDIS_ADDRESS_BYTES, "unix://%s%s", address->host, database);
    else
        snprintf(out, REDIS_ADDRESS_BYTES,
                 strchr(address->host, ':') ? "redis://[%s]:%d%s" : "redis://%s:%d%s", address->host,
                 address->port, database);
}

bool redis_address_equal(const struct redis_address *a, const struct redis_address *b)
{
    return a->is_unix == b->is_unix && a->port == b->port && a->database == b->database &&
           strcmp(a->host, b->host) == 0;
}
