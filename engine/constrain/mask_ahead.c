// SPDX-License-Identifier: Apache-2.0
#include "engine/constrain/mask_ahead.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "base/channel.h"

struct noted {
    struct constraint *constraint;
    uint32_t state;
};

struct mask_ahead {
    pthread_t thread;
    bool thread_started;
    struct channel *noted_steps, *made_steps; /* of the one list below */
    struct noted *list;                       /* [most] */
    size_t count, most;
};

static void *make_masks(void *context)
{
    struct mask_ahead *ahead = context;
    while (channel_receive(ahead->noted_steps, -1)) {
        for (size_t i = 0; i < ahead->count; i++)
            ahead->list[i].constraint->ops->mask(ahead->list[i].constraint, ahead->list[i].state);
        channel_send(ahead->made_steps, ahead, -1);
    }
    return NULL;
}

/* Signals are the main thread's business. */
static bool start_thread(struct mask_ahead *ahead)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    ahead->thread_started = pthread_create(&ahead->thread, NULL, make_masks, ahead) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return ahead->thread_started;
}

enum status mask_ahead_open(struct mask_ahead **out, size_t most, struct error *err)
{
    *out = NULL;
    struct mask_ahead *ahead = calloc(1, sizeof *ahead);
    if (ahead) {
        ahead->most = most;
        ahead->list = malloc(most * sizeof *ahead->list);
    }
    if (!ahead || !ahead->list || channel_open(&ahead->noted_steps, 1, NULL) != STATUS_OK ||
        channel_open(&ahead->made_steps, 1, NULL) != STATUS_OK || !start_thread(ahead)) {
        mask_ahead_close(ahead);
        return error_set(err, STATUS_NO_MEMORY, "no memory for the thread that makes masks");
    }
    *out = ahead;
    return STATUS_OK;
}

void mask_ahead_close(struct mask_ahead *ahead)
{
    if (!ahead)
        return;
    if (ahead->thread_started) {
        channel_shut(ahead->noted_steps);
        pthread_join(ahead->thread, NULL);
    }
    channel_close(ahead->noted_steps);
    channel_close(ahead->made_steps);
    free(ahead->list);
    free(ahead);
}

void mask_ahead_note(struct mask_ahead *ahead, struct constraint *constraint, uint32_t state)
{
    if (!constraint->ops->tokens && ahead->count < ahead->most)
        ahead->list[ahead->count++] = (struct noted){constraint, state};
}

void mask_ahead_start(struct mask_ahead *ahead)
{
    if (ahead->count > 0)
        CHECK(channel_try_send(ahead->noted_steps, ahead));
}

void mask_ahead_wait(struct mask_ahead *ahead)
{
    if (ahead->count > 0)
        CHECK(channel_receive(ahead->made_steps, -1) == ahead);
    ahead->count = 0;
}
