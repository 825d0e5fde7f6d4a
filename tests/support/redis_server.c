// SPDX-License-Identifier: Apache-2.0
#include "tests/support/redis_server.h"

#include <fcntl.h>
#include <hiredis/hiredis.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"

enum { READY_TRIES = 500, MAX_ARGUMENTS = 32 };

static bool answers(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    bool ok = fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0;
    if (fd >= 0)
        close(fd);
    return ok;
}

static void run_server(const struct redis_server *server, const char *const *extra)
{
    const char *argv[MAX_ARGUMENTS] = {"redis-server", "--port", "0",        "--unixsocket",
                                       server->socket, "--save", "",         "--appendonly",
                                       "no",           "--dir",  server->dir};
    int count = 11;
    for (; extra && *extra && count < MAX_ARGUMENTS - 1; extra++)
        argv[count++] = *extra;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int null = open("/dev/null", O_WRONLY);
    dup2(null, STDOUT_FILENO);
    execvp(argv[0], (char *const *)(void *)argv);
    _exit(127);
}

bool redis_server_restart(struct redis_server *server, const char *const *extra)
{
    unlink(server->socket);
    server->pid = fork();
    if (server->pid == 0)
        run_server(server, extra);
    for (int i = 0; i < READY_TRIES; i++) {
        if (answers(server->socket))
            return true;
        if (waitpid(server->pid, NULL, WNOHANG) == server->pid)
            break;
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    return false;
}

bool redis_server_start(struct redis_server *server, const char *const *extra)
{
    snprintf(server->dir, sizeof server->dir, "/tmp/millrace-redis-XXXXXX");
    if (!mkdtemp(server->dir))
        return false;
    snprintf(server->socket, sizeof server->socket, "%s/socket", server->dir);
    snprintf(server->address, sizeof server->address, "unix://%s", server->socket);
    return redis_server_restart(server, extra);
}

void redis_server_signal(const struct redis_server *server, int signal_number)
{
    kill(server->pid, signal_number);
}

void redis_server_stop(struct redis_server *server)
{
    kill(server->pid, SIGKILL);
    waitpid(server->pid, NULL, 0);
}

void redis_server_remove(struct redis_server *server)
{
    char nodes[112];
    snprintf(nodes, sizeof nodes, "%s/nodes.conf", server->dir); /* a cluster's node writes one */
    unlink(nodes);
    unlink(server->socket);
    rmdir(server->dir);
}

struct redisContext *redis_server_door(const struct redis_server *server)
{
    redisContext *door = redisConnectUnix(server->socket);
    CHECK(door && !door->err);
    return door;
}
