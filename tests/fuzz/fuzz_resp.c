// SPDX-License-Identifier: Apache-2.0
// Replies of a server that may be broken or hostile: parsed without reading past anything, and without
// hanging.
#include <stdint.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "base/monotime.h"
#include "kvtier/cluster_map.h"
#include "kvtier/resp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { MOST_BYTES = 65536, MOST_REPLIES = 64 };
    static struct resp resp;
    int pair[2];
    if (size > MOST_BYTES || socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0)
        return 0;
    ssize_t written = size ? write(pair[1], data, size) : 0;
    (void)written;
    shutdown(pair[1], SHUT_WR);
    resp_init(&resp, pair[0]);
    resp.deadline_ns = monotime_ns() + 1000000000;
    struct resp_reply reply;
    for (int i = 0; i < MOST_REPLIES && resp_read_reply(&resp, &reply) == STATUS_OK; i++) {
        struct cluster_redirect redirect;
        if (reply.type == RESP_ERROR && cluster_redirect_parse(&redirect, reply.line, "localhost"))
            CHECK(redirect.slot < CLUSTER_SLOTS && redirect.address.port > 0);
        if (reply.type != RESP_BULK)
            continue;
        if (resp_skip_bytes(&resp, (size_t)reply.number) != STATUS_OK || resp_read_crlf(&resp) != STATUS_OK)
            break;
    }
    close(pair[0]);
    close(pair[1]);
    return 0;
}
