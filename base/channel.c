// SPDX-License-Identifier: Apache-2.0
#include "base/channel.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

struct channel {
    pthread_mutex_t mutex;
    pthread_cond_t not_empty;
    pthread_cond_t not_full;
    int fd; /* eventfd: 1 while count > 0 or shut */
    bool shut;
    size_t head;
    size_t count;
    size_t capacity;
    void *items[];
};

static void init_condition(pthread_cond_t *condition)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(condition, &attributes);
    pthread_condattr_destroy(&attributes);
}

enum status channel_open(struct channel **out, size_t capacity, struct error *err)
{
    CHECK(capacity > 0 && capacity < SIZE_MAX / sizeof(void *) / 2);
    *out = NULL;
    struct channel *channel = calloc(1, sizeof *channel + capacity * sizeof(void *));
    if (!channel)
        return error_set(err, STATUS_NO_MEMORY, "no memory for a queue of %zu items", capacity);
    channel->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (channel->fd < 0) {
        free(channel);
        return error_set(err, STATUS_NO_MEMORY, "no file descriptor for a queue");
    }
    channel->capacity = capacity;
    pthread_mutex_init(&channel->mutex, NULL);
    init_condition(&channel->not_empty);
    init_condition(&channel->not_full);
    *out = channel;
    return STATUS_OK;
}

void channel_close(struct channel *channel)
{
    if (!channel)
        return;
    CHECK(channel->count == 0);
    pthread_cond_destroy(&channel->not_full);
    pthread_cond_destroy(&channel->not_empty);
    pthread_mutex_destroy(&channel->mutex);
    close(channel->fd);
    free(channel);
}

static struct timespec deadline_after(int timeout_ms)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_sec += timeout_ms / 1000;
    at.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
    if (at.tv_nsec >= 1000000000) {
        at.tv_sec++;
        at.tv_nsec -= 1000000000;
    }
    return at;
}

/* One wait with the mutex held. False when the time is up. */
static bool wait_once(pthread_cond_t *condition, pthread_mutex_t *mutex, int timeout_ms,
                      const struct timespec *at)
{
    if (timeout_ms == 0)
        return false;
    if (timeout_ms < 0)
        return pthread_cond_wait(condition, mutex) == 0;
    return pthread_cond_timedwait(condition, mutex, at) != ETIMEDOUT;
}

static void raise_fd(struct channel *channel)
{
    uint64_t one = 1;
    ssize_t written = write(channel->fd, &one, sizeof one);
    (void)written; /* EAGAIN would mean that the counter is already high */
}

static void lower_fd(struct channel *channel)
{
    uint64_t value;
    ssize_t got = read(channel->fd, &value, sizeof value);
    (void)got;
}

bool channel_send(struct channel *channel, void *item, int timeout_ms)
{
    CHECK(item != NULL);
    struct timespec at = timeout_ms > 0 ? deadline_after(timeout_ms) : (struct timespec){0};
    pthread_mutex_lock(&channel->mutex);
    while (channel->count == channel->capacity && !channel->shut)
        if (!wait_once(&channel->not_full, &channel->mutex, timeout_ms, &at))
            break;
    bool sent = channel->count < channel->capacity && !channel->shut;
    if (sent) {
        channel->items[(channel->head + channel->count) % channel->capacity] = item;
        if (channel->count++ == 0)
            raise_fd(channel);
        pthread_cond_signal(&channel->not_empty);
    }
    pthread_mutex_unlock(&channel->mutex);
    return sent;
}

bool channel_try_send(struct channel *channel, void *item)
{
    return channel_send(channel, item, 0);
}

void *channel_receive(struct channel *channel, int timeout_ms)
{
    struct timespec at = timeout_ms > 0 ? deadline_after(timeout_ms) : (struct timespec){0};
    void *item = NULL;
    pthread_mutex_lock(&channel->mutex);
    while (channel->count == 0 && !channel->shut)
        if (!wait_once(&channel->not_empty, &channel->mutex, timeout_ms, &at))
            break;
    if (channel->count > 0) {
        item = channel->items[channel->head];
        channel->head = (channel->head + 1) % channel->capacity;
        if (--channel->count == 0 && !channel->shut)
            lower_fd(channel);
        pthread_cond_signal(&channel->not_full);
    }
    pthread_mutex_unlock(&channel->mutex);
    return item;
}

void channel_shut(struct channel *channel)
{
    pthread_mutex_lock(&channel->mutex);
    if (!channel->shut) {
        channel->shut = true;
        raise_fd(channel);
    }
    pthread_cond_broadcast(&channel->not_empty);
    pthread_cond_broadcast(&channel->not_full);
    pthread_mutex_unlock(&channel->mutex);
}

bool channel_is_shut(struct channel *channel)
{
    pthread_mutex_lock(&channel->mutex);
    bool shut = channel->shut;
    pthread_mutex_unlock(&channel->mutex);
    return shut;
}

size_t channel_count(struct channel *channel)
{
    pthread_mutex_lock(&channel->mutex);
    size_t count = channel->count;
    pthread_mutex_unlock(&channel->mutex);
    return count;
}

int channel_fd(const struct channel *channel)
{
    return channel->fd;
}
