// SPDX-License-Identifier: Apache-2.0
#include "kvtier/cluster_map.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CRC16_POLYNOMIAL = 0x1021, AT_HOST = 0, AT_PORT = 1, MAX_PORT = 65535 };

void cluster_map_clear(struct cluster_map *map)
{
    map->node_count = 0;
    for (size_t i = 0; i < CLUSTER_SLOTS; i++)
        map->owner[i] = CLUSTER_NO_NODE;
}

/* CRC16-XMODEM, as the cluster specification says. Our keys have no braces, so all of a key counts. */
uint16_t cluster_map_slot(const char *key, size_t bytes)
{
    uint16_t crc = 0;
    for (size_t i = 0; i < bytes; i++) {
        crc ^= (uint16_t)((uint8_t)key[i] << 8);
        for (int bit = 0; bit < 8; bit++)
            crc = (uint16_t)((crc << 1) ^ (crc & 0x8000 ? CRC16_POLYNOMIAL : 0));
    }
    return crc % CLUSTER_SLOTS;
}

uint16_t cluster_map_node(struct cluster_map *map, const struct redis_address *address)
{
    for (size_t i = 0; i < map->node_count; i++)
        if (redis_address_equal(&map->nodes[i], address))
            return (uint16_t)i;
    if (map->node_count == CLUSTER_MAX_NODES)
        return CLUSTER_NO_NODE;
    map->nodes[map->node_count] = *address;
    return (uint16_t)map->node_count++;
}

/* CLUSTER SLOTS is [[first, last, [host, port, id, …], replica…], …]: numbers of a range are two arrays deep,
 * what is known of a node three. */
struct slots_reader {
    struct cluster_map *map;
    const char *answered_host;
    int range_at, node_at; /* leaves seen of this range, of its nodes */
    long first, last;
    struct redis_address master;
};

static void take_master(struct slots_reader *reader, const char *text, size_t bytes)
{
    struct redis_address *master = &reader->master;
    if (reader->node_at == AT_HOST) {
        *master = (struct redis_address){.port = 0};
        bool known = bytes > 0 && bytes < sizeof master->host && strcmp(text, "?") != 0;
        snprintf(master->host, sizeof master->host, "%s", known ? text : reader->answered_host);
    } else if (reader->node_at == AT_PORT) {
        long port = strtol(text, NULL, 10);
        bool good = port > 0 && port <= MAX_PORT && reader->first >= 0 && reader->first <= reader->last &&
                    reader->last < CLUSTER_SLOTS;
        master->port = good ? (int)port : 0;
        uint16_t node = good ? cluster_map_node(reader->map, master) : CLUSTER_NO_NODE;
        for (long slot = reader->first; good && slot <= reader->last; slot++)
            reader->map->owner[slot] = node;
    }
    reader->node_at++;
}

static void take_leaf(void *context, int depth, const char *text, size_t bytes)
{
    struct slots_reader *reader = context;
    if (depth == 2) {
        if (reader->range_at++ % 2 == 0) {
            reader->first = strtol(text, NULL, 10);
        } else {
            reader->last = strtol(text, NULL, 10);
            reader->node_at = 0;
        }
    } else if (depth == 3) {
        take_master(reader, text, bytes); /* the first node of a range; the others are its replicas */
    }
}

enum tier_fault cluster_map_read(struct cluster_map *map, struct redis_connection *connection,
                                 struct error *err)
{
    struct slots_reader reader = {.map = map, .answered_host = connection->address.host, .first = -1};
    enum tier_fault fault = redis_connection_control(connection, 2, (const char *[]){"CLUSTER", "SLOTS"},
                                                     take_leaf, &reader, err);
    if (fault != TIER_FAULT_NONE || map->node_count > 0)
        return fault;
    error_set(err, STATUS_UNAVAILABLE, "the cluster of %s has given no slot to anybody",
              connection->address.host);
    return TIER_FAULT_LOADING;
}

bool cluster_redirect_parse(struct cluster_redirect *out, const char *reply, const char *answered_host)
{
    char type[8], host[REDIS_HOST_BYTES];
    unsigned slot;
    int used = 0;
    if (sscanf(reply, "%7s %5u %n", type, &slot, &used) != 2 || used == 0 || slot >= CLUSTER_SLOTS)
        return false;
    out->ask = strcmp(type, "ASK") == 0;
    out->slot = (uint16_t)slot;
    const char *place = reply + used, *colon = strrchr(place, ':');
    if ((!out->ask && strcmp(type, "MOVED") != 0) || !colon || (size_t)(colon - place) >= sizeof host)
        return false;
    long port = strtol(colon + 1, NULL, 10);
    if (port <= 0 || port > MAX_PORT)
        return false;
    memset(&out->address, 0, sizeof out->address);
    snprintf(host, sizeof host, "%.*s", (int)(colon - place), place);
    snprintf(out->address.host, sizeof out->address.host, "%s", host[0] ? host : answered_host);
    out->address.port = (int)port;
    return true;
}
