// SPDX-License-Identifier: Apache-2.0
#include "engine/kv/kv_windows.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/channel.h"
#include "engine/kv/block_pool.h"

#define MOST_ADDRESSES ((size_t)1 << 45) /* of all windows: a quarter of what a process has */

struct kv_window {
    uint8_t *base;
    atomic_bool busy; /* the mapper owns it; the engine then touches only ready and next */
    int32_t *wanted;  /* [max_blocks] */
    int32_t wanted_count;
    int32_t *mapped;        /* [max_blocks] block that is mapped there, or BLOCK_NONE */
    int32_t held;           /* blocks mapped in it */
    int32_t served;         /* leading wanted blocks that are mapped */
    int32_t ready;          /* the same, as the engine last saw it */
    struct kv_window *next; /* idle ones */
};

struct kv_windows {
    struct kv_cache *kv;
    int32_t count, max_blocks, max_mappings;
    uint8_t *addresses;
    size_t addresses_bytes, window_bytes;
    struct kv_window *windows; /* [count] */
    struct kv_window *idle;    /* last given back first: its mappings are the likeliest to be of use */
    int32_t *blocks;           /* [2 * count * max_blocks] wanted and mapped of all windows */
    int32_t *consecutive;      /* [max_blocks] 0, 1, 2, ...: the table of every window */
    struct channel *requests;  /* struct kv_window *, to the mapper */
    pthread_t mapper;
    bool mapping;
    int32_t mappings; /* the mapper's: blocks mapped in all windows */
};

/* ---- the mapper's side ---- */

static void *reserve(void *at, size_t bytes)
{
    return mmap(at, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (at ? MAP_FIXED : 0), -1,
                0);
}

static void clear_window(struct kv_windows *windows, struct kv_window *window)
{
    if (reserve(window->base, windows->window_bytes) == MAP_FAILED)
        return; /* tried again when the next window finds no room */
    for (int32_t i = 0; i < windows->max_blocks; i++)
        window->mapped[i] = BLOCK_NONE;
    windows->mappings -= window->held;
    window->held = 0;
}

/* Blocks from `at` on that one call can map: neighbours in the pool and not in place yet. */
static int32_t run_length(const struct kv_window *window, int32_t at)
{
    int32_t run = 1;
    while (at + run < window->wanted_count && window->wanted[at + run] == window->wanted[at] + run &&
           window->mapped[at + run] != window->wanted[at + run])
        run++;
    return run;
}

static bool map_run(struct kv_windows *windows, struct kv_window *window, int32_t at, int32_t run)
{
    const size_t block_bytes = windows->kv->block_bytes;
    int32_t fresh = 0;
    for (int32_t i = at; i < at + run; i++)
        fresh += window->mapped[i] == BLOCK_NONE;
    if (windows->mappings + fresh > windows->max_mappings)
        return false;
    if (mmap(window->base + (size_t)at * block_bytes, (size_t)run * block_bytes, PROT_READ | PROT_WRITE,
             MAP_SHARED | MAP_FIXED | MAP_POPULATE, windows->kv->fd,
             (off_t)((size_t)window->wanted[at] * block_bytes)) == MAP_FAILED)
        return false;
    windows->mappings += fresh;
    window->held += fresh;
    memcpy(window->mapped + at, window->wanted + at, (size_t)run * sizeof *window->mapped);
    return true;
}

static void serve(struct kv_windows *windows, struct kv_window *window)
{
    if (window->wanted_count == 0)
        clear_window(windows, window);
    while (window->served < window->wanted_count) {
        const int32_t at = window->served;
        const bool in_place = window->mapped[at] == window->wanted[at];
        const int32_t run = in_place ? 1 : run_length(window, at);
        if (!in_place && !map_run(windows, window, at, run))
            break;
        window->served += run;
    }
}

static void *mapper_main(void *context)
{
    struct kv_windows *windows = context;
    struct kv_window *window;
    while ((window = channel_receive(windows->requests, -1))) {
        serve(windows, window);
        atomic_store_explicit(&window->busy, false, memory_order_release);
    }
    return NULL;
}

/* ---- the engine's side ---- */

static bool is_busy(const struct kv_window *window)
{
    return atomic_load_explicit(&window->busy, memory_order_acquire);
}

static void hand_over(struct kv_windows *windows, struct kv_window *window)
{
    atomic_store_explicit(&window->busy, true, memory_order_relaxed);
    CHECK(channel_try_send(windows->requests, window)); /* there is room for every window */
}

struct kv_window *kv_windows_take(struct kv_windows *windows)
{
    for (struct kv_window **link = &windows->idle; *link; link = &(*link)->next) {
        struct kv_window *window = *link;
        if (is_busy(window))
            continue;
        *link = window->next;
        window->wanted_count = window->served = window->ready = 0;
        return window;
    }
    return NULL;
}

void kv_windows_give(struct kv_windows *windows, struct kv_window *window)
{
    window->next = windows->idle;
    windows->idle = window;
}

/* Mappings ran short: those of idle windows go. */
static void clear_idle(struct kv_windows *windows)
{
    for (struct kv_window *window = windows->idle; window; window = window->next)
        if (!is_busy(window) && window->held > 0) {
            window->wanted_count = window->served = 0;
            hand_over(windows, window);
        }
}

const uint8_t *kv_windows_follow(struct kv_windows *windows, struct kv_window *window, const int32_t *table,
                                 int32_t blocks, int32_t used)
{
    if (!is_busy(window)) {
        window->ready = window->served;
        if (window->served < window->wanted_count)
            clear_idle(windows);
        if (window->served < blocks) {
            memcpy(window->wanted + window->served, table + window->served,
                   (size_t)(blocks - window->served) * sizeof *table);
            window->wanted_count = blocks;
            hand_over(windows, window);
        }
    }
    return used <= window->ready ? window->base : NULL;
}

/* ---- life ---- */

static enum status check(const struct kv_windows_options *o, struct error *err)
{
    const size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    if (o->kv->block_bytes % page_bytes != 0)
        return error_set(err, STATUS_CONFIG,
                         "engine.kv_backend contiguous needs KV blocks of whole pages of %zu bytes, and this "
                         "model's have %zu; use block_table or another engine.block_tokens",
                         page_bytes, o->kv->block_bytes);
    if (o->max_blocks > o->max_mappings)
        return error_set(
            err, STATUS_CONFIG,
            "engine.kv_backend contiguous maps each of the %d blocks of the longest sequence, and "
            "vm.max_map_count leaves %d mappings; raise it, raise engine.block_tokens or lower "
            "engine.max_context_tokens",
            o->max_blocks, o->max_mappings);
    if ((size_t)o->max_blocks * (size_t)o->windows > MOST_ADDRESSES / o->kv->block_bytes)
        return error_set(err, STATUS_CONFIG,
                         "engine.kv_backend contiguous: %d windows of %d blocks are more addresses than a "
                         "process has; lower engine.max_sequences or engine.max_context_tokens",
                         o->windows, o->max_blocks);
    return STATUS_OK;
}

static bool allocate(struct kv_windows *w)
{
    const size_t blocks = (size_t)w->max_blocks, all = blocks * (size_t)w->count;
    w->windows = calloc((size_t)w->count, sizeof *w->windows);
    w->blocks = malloc(2 * all * sizeof *w->blocks);
    w->consecutive = malloc(blocks * sizeof *w->consecutive);
    w->window_bytes = blocks * w->kv->block_bytes;
    w->addresses_bytes = w->window_bytes * (size_t)w->count;
    void *addresses = reserve(NULL, w->addresses_bytes);
    w->addresses = addresses == MAP_FAILED ? NULL : addresses;
    if (!w->windows || !w->blocks || !w->consecutive || !w->addresses)
        return false;
    for (int32_t i = 0; i < w->max_blocks; i++)
        w->consecutive[i] = i;
    for (size_t i = 0; i < all; i++)
        w->blocks[all + i] = BLOCK_NONE;
    for (int32_t i = w->count - 1; i >= 0; i--) {
        struct kv_window *window = &w->windows[i];
        window->base = w->addresses + (size_t)i * w->window_bytes;
        window->wanted = w->blocks + (size_t)i * blocks;
        window->mapped = w->blocks + all + (size_t)i * blocks;
        kv_windows_give(w, window);
    }
    return true;
}

/* Signals are the main thread's business: the mapper inherits a mask that blocks all of them. */
static bool start_mapper(struct kv_windows *windows)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    windows->mapping = pthread_create(&windows->mapper, NULL, mapper_main, windows) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return windows->mapping;
}

enum status kv_windows_open(struct kv_windows **out, const struct kv_windows_options *options,
                            struct error *err)
{
    *out = NULL;
    enum status status = check(options, err);
    if (status != STATUS_OK)
        return status;
    struct kv_windows *windows = calloc(1, sizeof *windows);
    if (windows)
        *windows = (struct kv_windows){.kv = options->kv,
                                       .count = options->windows,
                                       .max_blocks = options->max_blocks,
                                       .max_mappings = options->max_mappings};
    if (windows && allocate(windows))
        status = channel_open(&windows->requests, (size_t)windows->count, err);
    else
        status =
            error_set(err, STATUS_NO_MEMORY, "no memory for contiguous KV of %d sequences", options->windows);
    if (status == STATUS_OK && !start_mapper(windows))
        status = error_set(err, STATUS_NO_MEMORY, "cannot start the KV mapper thread");
    if (status != STATUS_OK) {
        kv_windows_close(windows);
        return status;
    }
    options->kv->consecutive = windows->consecutive;
    *out = windows;
    return STATUS_OK;
}

void kv_windows_close(struct kv_windows *windows)
{
    if (!windows)
        return;
    if (windows->mapping) {
        channel_shut(windows->requests);
        pthread_join(windows->mapper, NULL);
    }
    channel_close(windows->requests);
    if (windows->addresses)
        munmap(windows->addresses, windows->addresses_bytes);
    free(windows->consecutive);
    free(windows->blocks);
    free(windows->windows);
    free(windows);
}
