// SPDX-License-Identifier: Apache-2.0
#include "worker/health.h"

#include <arpa/inet.h>
#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/monotime.h"
#include "base/trace.h"
#include "worker/status_page.h"

enum {
    PAGE_BYTES = 4 << 20,
    CONNECTIONS = 32,
    TIMEOUT_S = 10,
    MEMORY_BYTES = 16384,
    TRACE_SECONDS = 5,
    MOST_TRACE_SECONDS = 3600
};

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
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    MHD_add_response_header(response, "Content-Security-Policy",
                            "default-src 'self'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
                            "img-src data:; frame-ancestors 'none'");
    enum MHD_Result result = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return result;
}

/* ---- what is served ---- */

static unsigned serve_metrics(const struct health *health, struct MHD_Connection *connection,
                              struct bytes *body)
{
    (void)connection;
    health->source.metrics(health->source.context, body);
    return MHD_HTTP_OK;
}

static unsigned say(bool good, struct bytes *body)
{
    bytes_append_text(body, good ? "ok\n" : "not now\n");
    return good ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE;
}

static unsigned serve_live(const struct health *health, struct MHD_Connection *connection, struct bytes *body)
{
    (void)connection;
    return say(health->source.live(health->source.context), body);
}

static unsigned serve_ready(const struct health *health, struct MHD_Connection *connection,
                            struct bytes *body)
{
    (void)connection;
    return say(health->source.ready(health->source.context), body);
}

static unsigned serve_version(const struct health *health, struct MHD_Connection *connection,
                              struct bytes *body)
{
    (void)health;
    (void)connection;
    bytes_append_text(body, "{\"version\":\"" MILLRACE_VERSION "\"}\n");
    return MHD_HTTP_OK;
}

static unsigned serve_page(const struct health *health, struct MHD_Connection *connection, struct bytes *body)
{
    (void)health;
    (void)connection;
    bytes_append(body, status_page_html, status_page_html_bytes);
    return MHD_HTTP_OK;
}

static unsigned serve_state(const struct health *health, struct MHD_Connection *connection,
                            struct bytes *body)
{
    (void)connection;
    health->source.state(health->source.context, body);
    return MHD_HTTP_OK;
}

static unsigned serve_jobs(const struct health *health, struct MHD_Connection *connection, struct bytes *body)
{
    (void)connection;
    health->source.jobs(health->source.context, body);
    return MHD_HTTP_OK;
}

/* The last ?seconds=N of what happened, as far as the ring reaches. */
static unsigned serve_trace(const struct health *health, struct MHD_Connection *connection,
                            struct bytes *body)
{
    const char *text = MHD_lookup_connection_value(connection, MHD_GET_ARGUMENT_KIND, "seconds");
    char *end = NULL;
    double seconds = text ? strtod(text, &end) : TRACE_SECONDS;
    (void)health;
    if (text && (end == text || *end || !(seconds > 0) || seconds > MOST_TRACE_SECONDS)) {
        bytes_appendf(body, "seconds must be a number from 0 to %d\n", MOST_TRACE_SECONDS);
        return MHD_HTTP_BAD_REQUEST;
    }
    trace_render(monotime_ns() - (int64_t)(seconds * 1e9), body);
    return MHD_HTTP_OK;
}

struct route {
    const char *url, *type;
    bool for_people; /* only where the page is served, and to whom */
    unsigned (*serve)(const struct health *health, struct MHD_Connection *connection, struct bytes *body);
};

static const struct route routes[] = {
    {"/metrics", "text/plain; version=0.0.4; charset=utf-8", false, serve_metrics},
    {"/livez", "text/plain", false, serve_live},
    {"/health", "text/plain", false, serve_live},
    {"/readyz", "text/plain", false, serve_ready},
    {"/version", "application/json", false, serve_version},
    {"/", "text/html; charset=utf-8", true, serve_page},
    {"/debug/state", "application/json", true, serve_state},
    {"/debug/jobs", "application/json", true, serve_jobs},
    {"/debug/trace", "application/json", true, serve_trace},
};

static const struct route *find_route(const struct health *health, const char *url)
{
    for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++)
        if (strcmp(routes[i].url, url) == 0)
            return routes[i].for_people && !health->source.state ? NULL : &routes[i];
    return NULL;
}

static bool is_loopback(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    if (!info || info->client_addr->sa_family != AF_INET)
        return false;
    const struct sockaddr_in *peer = (const struct sockaddr_in *)(const void *)info->client_addr;
    return ntohl(peer->sin_addr.s_addr) >> 24 == 127;
}

static unsigned fill(const struct health *health, struct MHD_Connection *connection,
                     const struct route *route, struct bytes *body)
{
    if (!route) {
        bytes_append_text(body, "not found\n");
        return MHD_HTTP_NOT_FOUND;
    }
    if (route->for_people && !health->source.page_is_public && !is_loopback(connection)) {
        bytes_append_text(body, "only from this machine; status_page.public opens it to others\n");
        return MHD_HTTP_FORBIDDEN;
    }
    return route->serve(health, connection, body);
}

static enum MHD_Result handle(void *context, struct MHD_Connection *connection, const char *url,
                              const char *method, const char *version, const char *upload,
                              size_t *upload_bytes, void **state)
{
    struct health *health = context;
    const struct route *route = find_route(health, url);
    struct bytes body;
    unsigned status = MHD_HTTP_METHOD_NOT_ALLOWED;
    (void)version;
    (void)upload;
    (void)upload_bytes;
    (void)state;
    bytes_init(&body, PAGE_BYTES);
    if (strcmp(method, MHD_HTTP_METHOD_GET) == 0 || strcmp(method, MHD_HTTP_METHOD_HEAD) == 0)
        status = fill(health, connection, route, &body);
    else
        bytes_append_text(&body,
                          "read only: GET\n"); /* answered before a body is read; then the line is cut */
    if (body.failed)
        status = MHD_HTTP_INTERNAL_SERVER_ERROR;
    const char *type = status == MHD_HTTP_OK ? route->type : "text/plain";
    enum MHD_Result result = answer(connection, status, type, &body);
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
