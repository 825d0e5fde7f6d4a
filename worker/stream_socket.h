// SPDX-License-Identifier: Apache-2.0
// How every ZeroMQ socket of the token stream is bound and connected: loopback only, unless the traffic is
// encrypted (CURVE, RFC 26/ZMTP-CURVE) or the operator insists. Whoever knows the server key may read: it is
// handed out like a password.
#ifndef WORKER_STREAM_SOCKET_H
#define WORKER_STREAM_SOCKET_H

#include "config/config.h"

enum { STREAM_KEY_CHARACTERS = 40 }; /* Z85 */

struct stream_security {
    const char *secret_key; /* of whoever binds; "": not encrypted */
    const char *server_key; /* of whoever connects: the public half of the other side's key; "": plain */
    bool insecure;          /* an unencrypted bind beyond loopback is what the operator wants */
};

struct stream_security stream_security_of(const struct config *config);
/* Statuses: CONFIG (address, key, or a bind beyond loopback without a key), UNAVAILABLE (address in use). */
MUST_CHECK enum status stream_socket_bind(void *socket, const char *address,
                                          const struct stream_security *security, struct error *err);
/* Returns at once; ZeroMQ connects, and connects again, by itself. Statuses: CONFIG. */
MUST_CHECK enum status stream_socket_connect(void *socket, const char *address,
                                             const struct stream_security *security, struct error *err);
/* A new pair of keys, NUL-terminated. Statuses: UNSUPPORTED (a libzmq without CURVE). */
MUST_CHECK enum status stream_new_keys(char server_key[STREAM_KEY_CHARACTERS + 1],
                                       char secret_key[STREAM_KEY_CHARACTERS + 1], struct error *err);

#endif
