// SPDX-License-Identifier: Apache-2.0
#include "worker/stream_socket.h"

#include <errno.h>
#include <string.h>
#include <zmq.h>

enum { HEARTBEAT_MS = 5000 };

struct stream_security stream_security_of(const struct config *config)
{
    return (struct stream_security){config->stream.curve_secret_key, config->stream.curve_server_key,
                                    config->stream.insecure};
}

static bool is_local(const char *address)
{
    static const char *const local[] = {"tcp://127.", "tcp://localhost:", "tcp://[::1]:", "ipc://",
                                        "inproc://"};
    for (size_t i = 0; i < sizeof local / sizeof local[0]; i++)
        if (strncmp(address, local[i], strlen(local[i])) == 0)
            return true;
    return false;
}

static void set_common(void *socket)
{
    int zero = 0, heartbeat = HEARTBEAT_MS;
    zmq_setsockopt(socket, ZMQ_LINGER, &zero, sizeof zero);
    zmq_setsockopt(socket, ZMQ_HEARTBEAT_IVL, &heartbeat, sizeof heartbeat);
}

static enum status set_key(void *socket, int option, const char *key, const char *name, struct error *err)
{
    if (strlen(key) == STREAM_KEY_CHARACTERS &&
        zmq_setsockopt(socket, option, key, STREAM_KEY_CHARACTERS + 1) == 0)
        return STATUS_OK;
    return error_set(err, STATUS_CONFIG,
                     "%s is no CURVE key of %d Z85 characters (`millrace proxy --new-keys DIR` makes a pair)",
                     name, STREAM_KEY_CHARACTERS);
}

enum status stream_socket_bind(void *socket, const char *address, const struct stream_security *security,
                               struct error *err)
{
    int server = *security->secret_key != '\0';
    if (!is_local(address) && !server && !security->insecure)
        return error_set(
            err, STATUS_CONFIG,
            "stream address %s is reachable from outside and has no CURVE key; bind to 127.0.0.1, set "
            "stream.curve_secret_key, or set stream.insecure to true",
            address);
    set_common(socket);
    zmq_setsockopt(socket, ZMQ_CURVE_SERVER, &server, sizeof server);
    enum status status =
        server ? set_key(socket, ZMQ_CURVE_SECRETKEY, security->secret_key, "stream.curve_secret_key", err)
               : STATUS_OK;
    if (status != STATUS_OK || zmq_bind(socket, address) == 0)
        return status;
    return error_set(err, errno == EADDRINUSE ? STATUS_UNAVAILABLE : STATUS_CONFIG,
                     "cannot bind the stream to %s: %s", address, zmq_strerror(errno));
}

/* A key of its own for this connection: nobody asks who reads, only whether the reader knows the server key.
 */
static enum status set_client(void *socket, const struct stream_security *security, struct error *err)
{
    char public_key[STREAM_KEY_CHARACTERS + 1], secret_key[STREAM_KEY_CHARACTERS + 1];
    int server = 0;
    enum status status = stream_new_keys(public_key, secret_key, err);
    zmq_setsockopt(socket, ZMQ_CURVE_SERVER, &server, sizeof server);
    if (status == STATUS_OK)
        status = set_key(socket, ZMQ_CURVE_SERVERKEY, security->server_key, "stream.curve_server_key", err);
    if (status == STATUS_OK)
        status = set_key(socket, ZMQ_CURVE_PUBLICKEY, public_key, "the new public key", err);
    if (status == STATUS_OK)
        status = set_key(socket, ZMQ_CURVE_SECRETKEY, secret_key, "the new secret key", err);
    return status;
}

enum status stream_socket_connect(void *socket, const char *address, const struct stream_security *security,
                                  struct error *err)
{
    set_common(socket);
    enum status status = *security->server_key ? set_client(socket, security, err) : STATUS_OK;
    if (status != STATUS_OK || zmq_connect(socket, address) == 0)
        return status;
    return error_set(err, STATUS_CONFIG, "cannot connect to the stream at %s: %s", address,
                     zmq_strerror(errno));
}

enum status stream_new_keys(char server_key[STREAM_KEY_CHARACTERS + 1],
                            char secret_key[STREAM_KEY_CHARACTERS + 1], struct error *err)
{
    if (zmq_curve_keypair(server_key, secret_key) == 0)
        return STATUS_OK;
    return error_set(err, STATUS_UNSUPPORTED, "this libzmq has no CURVE: streams cannot be encrypted");
}
