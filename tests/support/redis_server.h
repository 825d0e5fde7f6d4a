// SPDX-License-Identifier: Apache-2.0
// A real redis-server on a unix socket in a fresh directory, for tests. Killed with its test.
#ifndef TESTS_SUPPORT_REDIS_SERVER_H
#define TESTS_SUPPORT_REDIS_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct redis_server {
    pid_t pid;
    char dir[64];
    char socket[96];
    char address[112]; /* unix://… */
};

/* `extra` is appended to the command line, for example {"--maxmemory", "64mb", NULL}. False: no redis-server.
 */
bool redis_server_start(struct redis_server *server, const char *const *extra);
void redis_server_signal(const struct redis_server *server, int signal_number);
void redis_server_stop(struct redis_server *server); /* SIGKILL and wait; the directory stays for a restart */
bool redis_server_restart(struct redis_server *server, const char *const *extra);
void redis_server_remove(struct redis_server *server);
/* A connection of the test's own, to be freed with redisFree. */
struct redisContext *redis_server_door(const struct redis_server *server);

#endif
