// SPDX-License-Identifier: Apache-2.0
// Bounded queue of owned pointers between threads: the only way threads exchange work, and the only
// mutex in the tree. Many producers, many consumers. The eventfd is readable while the queue is not empty
// or is closed, so that a consumer can also wait in poll()/zmq_poll.
#ifndef BASE_CHANNEL_H
#define BASE_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

struct channel;

MUST_CHECK enum status channel_open(struct channel **out, size_t capacity, struct error *err);
void channel_close(struct channel *channel); /* frees; whoever closes has drained it */

/* Takes ownership of `item` when it returns true. False: full or shut. Never waits. */
bool channel_try_send(struct channel *channel, void *item);
/* Waits up to timeout_ms (-1: for ever) for room. */
bool channel_send(struct channel *channel, void *item, int timeout_ms);
/* The oldest item, or NULL: nothing within timeout_ms (0: at once, -1: for ever), or shut and drained. */
void *channel_receive(struct channel *channel, int timeout_ms);
/* No more sends; receivers drain what is left and then get NULL at once. */
void channel_shut(struct channel *channel);
bool channel_is_shut(struct channel *channel);
size_t channel_count(struct channel *channel);
int channel_fd(const struct channel *channel);

#endif
