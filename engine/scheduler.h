// SPDX-License-Identifier: Apache-2.0
// Continuous batching: chooses the rows of each step. Running sequences decode first, then prompts are
// computed in chunks within the budgets of rows and of time (engine/step_cost.h), then waiting sequences are
// admitted in order. Where a better priority runs than others, it has steps of its own between theirs.
//
// Admission is zero-evict: a sequence starts only when the pool can hold everything it may become beside what
// the running ones may become, so nothing is ever thrown out half done. A waiting sequence whose next block
// is being computed by a running one waits for it: a shared prefix is computed once. Owner: the engine
// thread. Everything is allocated at open.
#ifndef ENGINE_SCHEDULER_H
#define ENGINE_SCHEDULER_H

#include "engine/batch.h"
#include "engine/sequence.h"

struct scheduler;

struct scheduler_options {
    int32_t max_sequences, max_batch_tokens, max_chunk_tokens, max_waiting, max_logit_rows, block_tokens;
    struct block_pool *pool;    /* borrowed */
    struct kv_cache *kv;        /* borrowed: what is in the blocks */
    struct kv_windows *windows; /* borrowed; NULL: block tables alone */
    bool prefix_cache;
    int32_t max_drafts;     /* guesses of one sequence in a step; 0: none */
    int64_t step_target_ns; /* what a step with running decodes should take at most; 0: any time */
};

MUST_CHECK enum status scheduler_open(struct scheduler **out, const struct scheduler_options *options,
                                      struct error *err);
void scheduler_close(
    struct scheduler *scheduler); /* closes the sequences that it still has but those of groups */

/* Takes ownership. False: no room to wait. */
bool scheduler_add(struct scheduler *scheduler, struct sequence *sequence);
size_t scheduler_room(const struct scheduler *scheduler);
/* Builds the next step; row_count 0 when there is nothing to do. Sequence i of the batch is
 * scheduler_batch_sequence(i). */
const struct batch *scheduler_next(struct scheduler *scheduler);
/* What the step that scheduler_next built last took. */
void scheduler_note_step(struct scheduler *scheduler, int64_t took_ns);
struct sequence *scheduler_batch_sequence(const struct scheduler *scheduler, int32_t index);
/* Ends a sequence, running or waiting: its blocks are released; the caller closes it. */
void scheduler_remove(struct scheduler *scheduler, struct sequence *sequence);
/* Beams. A group waits as its first member and takes a seat for each beam when it starts; between its first
 * and its last step its members come and go. */
struct beam_group;
/* `into` begins to run with what `from` has computed: full blocks are shared, the last one is copied. */
void scheduler_fork(struct scheduler *scheduler, const struct sequence *from, struct sequence *into);
void scheduler_drop(struct scheduler *scheduler, struct sequence *member); /* its seat stays the group's */
void scheduler_remove_group(struct scheduler *scheduler, struct beam_group *group);
/* The youngest running sequence that has made progress goes back to waiting. False: there is none. */
bool scheduler_preempt_youngest(struct scheduler *scheduler);
/* All seats are taken and the first that waits is of a better priority: the youngest running sequence of a
 * worse one that has made progress goes back to waiting. It keeps its tokens, and its blocks stay in the
 * prefix cache. Call before scheduler_next. False: there is none. */
bool scheduler_preempt_for_urgent(struct scheduler *scheduler);
/* Sequences by index: running first, then waiting. NULL past the end. */
struct sequence *scheduler_sequence(const struct scheduler *scheduler, size_t index);
int32_t scheduler_running(const struct scheduler *scheduler);
int32_t scheduler_waiting(const struct scheduler *scheduler);
uint64_t scheduler_window_rows(const struct scheduler *scheduler); /* rows put into steps with a window */
int32_t
scheduler_promised(const struct scheduler *scheduler); /* blocks that running sequences may still take */
void scheduler_check_invariants(const struct scheduler *scheduler);

#endif
