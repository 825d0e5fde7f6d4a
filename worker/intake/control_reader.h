// SPDX-License-Identifier: Apache-2.0
// The control topic: every worker reads all of it, from its beginning, without a group. Owned by the intake
// thread; a topic that is not there yet is looked for again now and then, and hinders nothing.
#ifndef WORKER_INTAKE_CONTROL_READER_H
#define WORKER_INTAKE_CONTROL_READER_H

#include "config/config.h"
#include "worker/intake/cancellations.h"

struct control_reader;

MUST_CHECK enum status control_reader_open(struct control_reader **out, const struct config *config,
                                           struct error *err);
void control_reader_close(struct control_reader *reader);
/* Takes what has come. True: there was a new cancellation. Waits for what is in the topic at most wait_ms. */
bool control_reader_poll(struct control_reader *reader, struct cancellations *cancellations, int wait_ms);

#endif
