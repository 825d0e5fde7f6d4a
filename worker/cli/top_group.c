// SPDX-License-Identifier: Apache-2.0
#include "worker/cli/top_group.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/kafka_client.h"

enum { WAIT_MS = 5000 };

static void take_member(const struct rd_kafka_group_member_info *member, struct top_address *out)
{
    static const char prefix[] = "millrace:";
    const char *host = member->client_host ? member->client_host : "";
    snprintf(out->host, sizeof out->host, "%s", host + (*host == '/'));
    out->port = 0;
    if (member->client_id && strncmp(member->client_id, prefix, sizeof prefix - 1) == 0)
        out->port = (int)strtol(member->client_id + sizeof prefix - 1, NULL, 10);
}

static int ask(rd_kafka_t *client, const char *group, struct top_address out[TOP_MOST_WORKERS])
{
    const struct rd_kafka_group_list *list;
    int count = 0;
    if (rd_kafka_list_groups(client, group, &list, WAIT_MS))
        return -1;
    for (int g = 0; g < list->group_cnt; g++)
        for (int i = 0; i < list->groups[g].member_cnt && count < TOP_MOST_WORKERS; i++)
            take_member(&list->groups[g].members[i], &out[count++]);
    rd_kafka_group_list_destroy(list);
    return count;
}

int top_group_find(const struct config *config, struct top_address out[TOP_MOST_WORKERS])
{
    const struct kafka_property none[] = {{NULL, NULL}};
    rd_kafka_conf_t *conf;
    rd_kafka_t *client;
    if (kafka_client_conf(&conf, config, none, NULL) != STATUS_OK ||
        kafka_client_new(&client, RD_KAFKA_PRODUCER, conf, NULL) != STATUS_OK)
        return -1;
    int count = ask(client, config->kafka.group_id, out);
    rd_kafka_destroy(client);
    return count;
}
