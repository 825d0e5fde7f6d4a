// SPDX-License-Identifier: Apache-2.0
#include "worker/health.h"

#include <arpa/inet.h>
#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { PAGE_BYTES = 4 << 20, CONNECTIONS = 32, TIMEOUT_S = 10, MEMORY_BYTES = 16384 };

struct health {
    struct MHD_Daemon *daemon;
    struct health_source source;
};

static enum MHD_Result answer(struct MHD_Connection *connection, unsigned status, const char *type,
                              struct bytes *body)
{
    struct MHD_Response *response = MHD_create_response_from_buffer(
        body->count_bytes, body->data ? body->data : (char *)(uintptr_t) "", MHD_RESPMEM_MUST_COPY);
    if (!response)
        return MHD_NO;
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    MHD_add_response_header(response, "Cache-Control", "no-store");
    enum MHD_Result result = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return result;
}

static unsigned fill(const struct health *health, const char *url, struct bytes *body)
{
    const struct health_source *source = &health->source;
    if (strcmp(url, "/metrics") == 0) {
        source->metrics(source->context, body);
        return body->failed ? MHD_HTTP_INTERNAL_SERVER_ERROR : MHD_HTTP_OK;
    }
    if (strcmp(url, "/livez") == 0 || strcmp(url, "/readyz") == 0 || strcmp(url, "/health") == 0) {
        bool good =
            strcmp(url, "/readyz") == 0 ? source->ready(source->context) : source->live(source->context);
        bytes_append_text(body, good ? "ok\n" : "not now\n");
        return good ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE;
    }
    if (strcmp(url, "/version") == 0) {
        bytes_append_text(body, "{\"version\":\"" MILLRACE_VERSION "\"}\n");
        return MHD_HTTP_OK;
    }
    bytes_append_text(body, "not found\n");
    return MHD_HTTP_NOT_FOUND;
}

static enum MHD_Result handle(void *context, struct MHD_Connection *connection, const char *url,
                              const char *method, const char *version, const char *upload,
                              size_t *upload_bytes, void **state)
{
    struct health *health = context;
    struct bytes body;
    (void)version;
    (void)upload;
    (void)upload_bytes;
    (void)state;
    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0)
        return MHD_NO;
    bytes_init(&body, PAGE_BYTES);
    unsigned status = fill(health, url, &body);
    bool metrics = strcmp(url, "/metrics") == 0;
    enum MHD_Result result = answer(
        connection, status, metrics ? "text/plain; version=0.0.4; charset=utf-8" : "text/plain", &body);
    bytes_release(&body);
    return result;
}

enum status health_open(struct health **out, const char *address, int port,
                        const struct health_source *source, struct error *err)
{
    *out = NULL;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    if (inet_pton(AF_INET, address, &at.sin_addr) != 1)
        return error_set(err, STATUS_CONFIG, "http.bind must be an IPv4 address, got \"%.60s\"", address);
    struct health *health = calloc(1, sizeof *health);
    if (!health)
        return error_set(err, STATUS_NO_MEMORY, "no memory for the HTTP port");
    health->source = *source;
    health->daemon = MHD_start_daemon(
        MHD_USE_INTERNAL_POLLING_THREAD, (uint16_t)port, NULL, NULL, handle, health, MHD_OPTION_SOCK_ADDR,
        &at, MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned)TIMEOUT_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)MEMORY_BYTES, MHD_OPTION_END);
    if (!health->daemon) {
        free(health);
        return error_set(err, STATUS_UNAVAILABLE, "cannot serve HTTP on %s:%d; is the port taken?", address,
                         port);
    }
    *out = health;
    return STATUS_OK;
}

void health_close(struct health *health)
{
    if (!health)
        return;
    MHD_stop_daemon(health->daemon);
    free(health);
}

int health_port(const struct health *health)
{
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(health->daemon, MHD_DAEMON_INFO_BIND_PORT);
    return info ? info->port : 0;
}
