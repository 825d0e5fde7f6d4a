// SPDX-License-Identifier: Apache-2.0
// Exactly once: results and the offsets of their jobs in one Kafka transaction (KIP-98, KIP-447), opened only
// when results are ready. Owned by the intake thread, which also owns the consumer, so that no rebalance can
// fall into an open transaction.
#ifndef WORKER_EMIT_RESULT_TXN_H
#define WORKER_EMIT_RESULT_TXN_H

#include "worker/emit/finished_result.h"
#include "worker/intake/job_source.h"

struct result_txn;

/* Takes over the transactional id (fencing an older holder) and waits for the broker. Statuses: UNAVAILABLE
 * (no broker; the embedded one, which cannot do it), FENCED, CONFIG. */
MUST_CHECK enum status result_txn_open(struct result_txn **out, const struct config *config,
                                       const char *worker_id, struct error *err);
void result_txn_close(struct result_txn *txn);
/* One transaction. Statuses: OK: committed. TIMEOUT: aborted, nothing of it is visible; call again (entries
 * marked too_large must be replaced first). FENCED, INTERNAL: the process must end. */
MUST_CHECK enum status result_txn_commit(struct result_txn *txn, struct finished_result **results,
                                         size_t count, struct job_source *source,
                                         const struct job_source_partition *offsets, size_t offset_count,
                                         struct error *err);

#endif
