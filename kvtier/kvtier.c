// SPDX-License-Identifier: Apache-2.0
// DESIGN: two threads, each with its own store connection and breaker, fed by one bounded channel each. The
// caller (engine thread) only allocates, copies and queues. Bytes in flight are reserved before a request is
// queued and released on the single path by which it ends, so that a reservation cannot leak.
#include "kvtier/kvtier.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/monotime.h"
#include "base/trace.h"
#include "kvtier/breaker.h"
#include "kvtier/recent_keys.h"

#define ESTIMATE_RISE 0.1 /* weight of a measurement above the moving average */
#define ESTIMATE_FALL 0.5 /* and below it: a load that goes well again is soon believed */
enum {
    MAX_PUTS_QUEUED = 4096,
    PUT_BASE_MS = 1000,
    SLOWEST_BYTES_PER_MS = 20000,
    TOUCH_LIMIT_MS = 1000,
    MAX_TOUCHES_QUEUED = 256, /* of MAX_PUTS_QUEUED: messages, each of one chain */
    LOG_EVERY_MS = 10000
};

struct kvtier {
    struct tier_store *reader, *writer;
    size_t max_put_bytes, max_fetch_bytes, max_fetches;
    struct channel *puts, *fetches, *done;
    pthread_t reader_thread, writer_thread;
    bool reader_started, writer_started;
    _Atomic size_t put_bytes, fetch_bytes, fetch_count;
    _Atomic bool reader_open, writer_open;            /* breakers, as the other threads see them */
    _Atomic int64_t writer_retry_ms, reader_retry_ms; /* when an open breaker lets the next probe through */
    _Atomic int64_t stop_writing_ns;                  /* deadline of a drain; 0: none */
    struct recent_keys *offered; /* what the caller queued lately, but what the tier threads found missing */
    struct recent_keys *touched; /* the caller's: keys whose recency was refreshed lately */
    _Atomic uint64_t touches_queued;
    _Atomic double round_trip_ns, ns_per_byte; /* moving averages of the reader; 0: not measured yet */
    /* counters, each written by one thread */
    _Atomic uint64_t lookup_blocks, hit_blocks, stored_blocks, load_bytes, store_bytes, loads, stores,
        load_ns, store_ns, touched_blocks, leases_granted, leases_elsewhere;
    _Atomic uint64_t miss_blocks[TIER_MISS_COUNT], corrupt[BLOCK_VERDICT_COUNT];
    _Atomic uint64_t dropped_full, dropped_breaker, dropped_failed;
    struct breaker read_breaker, write_breaker;
    int64_t read_logged_ms, write_logged_ms;
};

const char *tier_miss_name(enum tier_miss miss)
{
    static const char *const names[] = {
#define TIER_MISS_NAME(name) #name,
        TIER_MISSES(TIER_MISS_NAME)
#undef TIER_MISS_NAME
    };
    CHECK((unsigned)miss < TIER_MISS_COUNT);
    return names[miss];
}

/* ---- breaker and log, shared by both threads' loops ---- */

struct lane { /* one tier thread's view of its connection */
    struct breaker *breaker;
    _Atomic bool *open;
    _Atomic int64_t *retry_ms;
    int64_t *logged_ms;
    const char *what;
};

static void lane_settle(struct lane lane, enum tier_fault fault, const struct error *err)
{
    int64_t now_ms = monotime_ms();
    bool was_open = breaker_is_open(lane.breaker);
    breaker_settle(lane.breaker, fault, now_ms);
    bool is_open = breaker_is_open(lane.breaker);
    atomic_store(lane.retry_ms, lane.breaker->open_until_ms);
    atomic_store(lane.open, is_open);
    if (fault != TIER_FAULT_NONE && (now_ms - *lane.logged_ms >= LOG_EVERY_MS || *lane.logged_ms == 0)) {
        log_warn("kvtier", "%s failed, blocks are computed instead: %s", lane.what, err->text);
        *lane.logged_ms = now_ms ? now_ms : 1;
    }
    if (was_open && !is_open)
        log_info("kvtier", "%s works again", lane.what);
}

static struct lane read_lane(struct kvtier *tier)
{
    return (struct lane){&tier->read_breaker, &tier->reader_open, &tier->reader_retry_ms,
                         &tier->read_logged_ms, "reading KV blocks"};
}

static struct lane write_lane(struct kvtier *tier)
{
    return (struct lane){&tier->write_breaker, &tier->writer_open, &tier->writer_retry_ms,
                         &tier->write_logged_ms, "writing KV blocks"};
}

/* For the caller's thread: closed, or open long enough that a probe is due. */
static bool lane_usable(const _Atomic bool *open, const _Atomic int64_t *retry_ms)
{
    return !atomic_load(open) || monotime_ms() >= atomic_load(retry_ms);
}

/* ---- reading ---- */

static void count_fetch(struct kvtier *tier, const struct kvtier_fetch *fetch, const struct tier_get *get,
                        int64_t took_ns)
{
    tier->lookup_blocks += fetch->count;
    tier->hit_blocks += fetch->loaded;
    tier->miss_blocks[fetch->miss] += fetch->count - fetch->loaded;
    if (fetch->miss == TIER_MISS_corrupt)
        tier->corrupt[get->verdict]++;
    for (size_t i = 0; i < fetch->loaded; i++)
        tier->load_bytes += fetch->blocks[i].payload_bytes;
    tier->loads++;
    tier->load_ns += (uint64_t)took_ns;
}

static void learn(_Atomic double *average, double sample)
{
    double old = *average;
    *average = old == 0 ? sample : old + (sample < old ? ESTIMATE_FALL : ESTIMATE_RISE) * (sample - old);
}

/* A fetch without a hit shows the round trip, one with hits the speed. */
static void learn_load(struct kvtier *tier, const struct tier_get *get, int64_t took_ns)
{
    double bytes = 0;
    for (size_t i = 0; i < get->loaded; i++)
        bytes += (double)get->blocks[i].payload_bytes;
    if (bytes == 0)
        learn(&tier->round_trip_ns, (double)took_ns);
    else
        learn(&tier->ns_per_byte, (double)took_ns / bytes);
}

int64_t kvtier_load_estimate_ns(const struct kvtier *tier, size_t bytes)
{
    return (int64_t)(tier->round_trip_ns + (double)(bytes + tier->fetch_bytes) * tier->ns_per_byte);
}

void kvtier_count_too_slow(struct kvtier *tier, size_t blocks)
{
    tier->lookup_blocks += blocks;
    tier->miss_blocks[TIER_MISS_too_slow] += blocks;
}

/* What is absent is to be computed once: by whoever has the lease. */
static void claim_absent(struct kvtier *tier, struct kvtier_fetch *fetch)
{
    struct error err = {0};
    bool granted;
    if (!tier->reader->lease)
        return;
    enum tier_fault fault =
        tier->reader->lease(tier->reader, fetch->blocks + fetch->loaded, fetch->count - fetch->loaded,
                            fetch->lease_ms, fetch->deadline_ns, &granted, &err);
    lane_settle(read_lane(tier), fault, &err);
    if (fault != TIER_FAULT_NONE)
        return;
    fetch->lease = granted ? KVTIER_LEASE_GRANTED : KVTIER_LEASE_ELSEWHERE;
    tier->leases_granted += granted;
    tier->leases_elsewhere += !granted;
}

/* The store was emptied, or had to evict: what is computed again is to be stored again. Of the blocks behind
 * the first missing one nothing was heard; one that is there is turned away by the store. */
static void forget_missing(struct kvtier *tier, const struct kvtier_fetch *fetch)
{
    if (fetch->miss != TIER_MISS_absent && fetch->miss != TIER_MISS_corrupt)
        return;
    for (size_t i = fetch->loaded; i < fetch->count; i++)
        recent_keys_forget(tier->offered, &fetch->blocks[i].key);
}

static void run_fetch(struct kvtier *tier, struct kvtier_fetch *fetch)
{
    struct error err = {0};
    int64_t begin_ns = monotime_ns();
    struct tier_get get = {.blocks = fetch->blocks,
                           .payloads = fetch->payloads,
                           .count = fetch->count,
                           .deadline_ns = fetch->deadline_ns};
    if (begin_ns >= fetch->deadline_ns) {
        get.miss = TIER_MISS_timeout;
    } else if (!breaker_allows(&tier->read_breaker, monotime_ms())) {
        get.miss = TIER_MISS_breaker;
    } else {
        enum tier_fault fault = tier->reader->get(tier->reader, &get, &err);
        lane_settle(read_lane(tier), fault, &err);
        if (fault != TIER_FAULT_NONE && get.loaded < get.count)
            get.miss = err.status == STATUS_TIMEOUT ? TIER_MISS_timeout : TIER_MISS_unavailable;
        if (fault == TIER_FAULT_NONE || get.loaded > 0)
            learn_load(tier, &get, monotime_ns() - begin_ns);
    }
    fetch->loaded = get.loaded;
    fetch->miss = get.loaded == fetch->count ? TIER_MISS_none : get.miss;
    fetch->lease = KVTIER_LEASE_NONE;
    forget_missing(tier, fetch);
    if (fetch->miss == TIER_MISS_absent && fetch->lease_ms > 0)
        claim_absent(tier, fetch);
    count_fetch(tier, fetch, &get, monotime_ns() - begin_ns);
    trace_span(TRACE_TIER_READ, "fetch", begin_ns, "blocks", (int64_t)fetch->loaded);
}

static bool read_one(struct kvtier *tier, int wait_ms)
{
    struct kvtier_fetch *fetch = channel_receive(tier->fetches, wait_ms);
    if (!fetch)
        return false;
    run_fetch(tier, fetch);
    size_t bytes = fetch->reserved_bytes;
    CHECK(channel_try_send(tier->done, fetch)); /* fetch_count keeps the number under its capacity */
    tier->fetch_bytes -= bytes;
    tier->fetch_count--;
    return true;
}

bool kvtier_read_one(struct kvtier *tier)
{
    return read_one(tier, 0);
}

static void *read_loop(void *context)
{
    while (read_one(context, -1))
        ;
    return NULL;
}

bool kvtier_fetch(struct kvtier *tier, struct kvtier_fetch *fetch)
{
    if (!lane_usable(&tier->reader_open, &tier->reader_retry_ms)) {
        fetch->miss = TIER_MISS_breaker;
    } else if (atomic_load(&tier->fetch_bytes) + fetch->reserved_bytes > tier->max_fetch_bytes ||
               atomic_load(&tier->fetch_count) + channel_count(tier->done) >= tier->max_fetches) {
        fetch->miss = TIER_MISS_pool_full;
    } else {
        tier->fetch_bytes += fetch->reserved_bytes;
        tier->fetch_count++;
        if (channel_try_send(tier->fetches, fetch))
            return true;
        tier->fetch_bytes -= fetch->reserved_bytes;
        tier->fetch_count--;
        fetch->miss = TIER_MISS_pool_full;
    }
    tier->lookup_blocks += fetch->count;
    tier->miss_blocks[fetch->miss] += fetch->count;
    return false;
}

/* ---- writing ---- */

static void run_put(struct kvtier *tier, const struct kvtier_put *put)
{
    struct error err = {0};
    int64_t begin_ns = monotime_ns();
    int64_t stop_ns = atomic_load(&tier->stop_writing_ns);
    if (!breaker_allows(&tier->write_breaker, monotime_ms()) || (stop_ns && begin_ns >= stop_ns)) {
        tier->dropped_breaker++;
        recent_keys_forget(tier->offered, &put->block.key);
        return;
    }
    int64_t limit_ms = PUT_BASE_MS + (int64_t)put->block.payload_bytes / SLOWEST_BYTES_PER_MS;
    enum tier_fault fault =
        tier->writer->put(tier->writer, &put->block, put->payload, begin_ns + limit_ms * 1000000, &err);
    lane_settle(write_lane(tier), fault, &err);
    if (fault != TIER_FAULT_NONE) {
        tier->dropped_failed++;
        recent_keys_forget(tier->offered, &put->block.key);
        return;
    }
    tier->stored_blocks++;
    tier->store_bytes += put->block.payload_bytes;
    tier->stores++;
    tier->store_ns += (uint64_t)(monotime_ns() - begin_ns);
    trace_span(TRACE_TIER_WRITE, "put", begin_ns, "bytes", (int64_t)put->block.payload_bytes);
}

static void run_touch(struct kvtier *tier, const struct kvtier_touch *touch)
{
    struct error err = {0};
    if (atomic_load(&tier->stop_writing_ns) || !breaker_allows(&tier->write_breaker, monotime_ms()))
        return;
    int64_t deadline_ns = monotime_ns() + (int64_t)TOUCH_LIMIT_MS * 1000000;
    enum tier_fault fault = tier->writer->touch(tier->writer, touch->blocks, touch->count, deadline_ns, &err);
    lane_settle(write_lane(tier), fault, &err);
    tier->touched_blocks += fault == TIER_FAULT_NONE ? touch->count : 0;
}

static bool write_one(struct kvtier *tier, int wait_ms)
{
    void *message = channel_receive(tier->puts, wait_ms);
    if (!message)
        return false;
    if (*(enum kvtier_write_type *)message == KVTIER_TOUCH) {
        run_touch(tier, message);
        free(message);
        tier->touches_queued--;
        return true;
    }
    struct kvtier_put *put = message;
    size_t bytes = put->block.payload_bytes;
    run_put(tier, put);
    kvtier_put_free(put);
    tier->put_bytes -= bytes;
    return true;
}

bool kvtier_write_one(struct kvtier *tier)
{
    return write_one(tier, 0);
}

static void *write_loop(void *context)
{
    while (write_one(context, -1))
        ;
    return NULL;
}

void kvtier_touch(struct kvtier *tier, const uint8_t fingerprint[SHA256_BYTES], const struct block_key *keys,
                  size_t count)
{
    int64_t now_ms = monotime_ms();
    size_t due = 0;
    for (size_t i = 0; i < count; i++)
        due += !recent_keys_has(tier->touched, &keys[i], now_ms);
    if (due == 0 || atomic_load(&tier->touches_queued) >= MAX_TOUCHES_QUEUED ||
        !lane_usable(&tier->writer_open, &tier->writer_retry_ms))
        return;
    struct kvtier_touch *touch = calloc(1, sizeof *touch + due * sizeof touch->blocks[0]);
    if (!touch)
        return; /* a lost hint */
    touch->type = KVTIER_TOUCH;
    memcpy(touch->fingerprint, fingerprint, SHA256_BYTES);
    for (size_t i = 0; i < count && touch->count < due; i++)
        if (!recent_keys_has(tier->touched, &keys[i], now_ms)) {
            touch->blocks[touch->count++] =
                (struct block_identity){.fingerprint = touch->fingerprint, .key = keys[i]};
            recent_keys_add(tier->touched, &keys[i], now_ms);
        }
    tier->touches_queued++;
    if (channel_try_send(tier->puts, touch))
        return;
    tier->touches_queued--;
    free(touch);
}

bool kvtier_put_wanted(struct kvtier *tier, const struct block_key *key, size_t payload_bytes)
{
    if (recent_keys_has(tier->offered, key, monotime_ms()))
        return false;
    if (!lane_usable(&tier->writer_open, &tier->writer_retry_ms)) {
        tier->dropped_breaker++;
        return false;
    }
    if (atomic_load(&tier->put_bytes) + payload_bytes > tier->max_put_bytes) {
        tier->dropped_full++;
        return false;
    }
    return true;
}

void kvtier_put(struct kvtier *tier, struct kvtier_put *put)
{
    size_t bytes = put->block.payload_bytes;
    struct block_key key = put->block.key;
    recent_keys_add(tier->offered, &key, monotime_ms()); /* before the writer can find that it fails */
    tier->put_bytes += bytes;
    if (!channel_try_send(tier->puts, put)) {
        tier->put_bytes -= bytes;
        tier->dropped_full++;
        recent_keys_forget(tier->offered, &key);
        kvtier_put_free(put);
        return;
    }
    recent_keys_add(tier->touched, &key, monotime_ms());
}

/* ---- life ---- */

static enum status open_parts(struct kvtier *tier, bool threadless, struct error *err)
{
    enum status status = channel_open(&tier->puts, MAX_PUTS_QUEUED, err);
    if (status == STATUS_OK)
        status = channel_open(&tier->fetches, tier->max_fetches, err);
    tier->offered = calloc(1, sizeof *tier->offered);
    tier->touched = calloc(1, sizeof *tier->touched);
    if (status == STATUS_OK && (!tier->offered || !tier->touched))
        status = error_set(err, STATUS_NO_MEMORY, "no memory for the KV tier");
    if (status != STATUS_OK || threadless)
        return status;
    tier->reader_started = pthread_create(&tier->reader_thread, NULL, read_loop, tier) == 0;
    tier->writer_started = pthread_create(&tier->writer_thread, NULL, write_loop, tier) == 0;
    return tier->reader_started && tier->writer_started
               ? STATUS_OK
               : error_set(err, STATUS_NO_MEMORY, "cannot start the KV tier's threads");
}

enum status kvtier_open(struct kvtier **out, const struct kvtier_options *options, struct error *err)
{
    *out = NULL;
    CHECK(options->max_fetches > 0);
    struct kvtier *tier = calloc(1, sizeof *tier);
    if (!tier) {
        options->reader->close(options->reader);
        options->writer->close(options->writer);
        return error_set(err, STATUS_NO_MEMORY, "no memory for the KV tier");
    }
    tier->reader = options->reader;
    tier->writer = options->writer;
    tier->done = options->done;
    tier->max_put_bytes = options->max_put_bytes;
    tier->max_fetch_bytes = options->max_fetch_bytes;
    tier->max_fetches = options->max_fetches;
    breaker_init(&tier->read_breaker, (uint64_t)monotime_ns());
    breaker_init(&tier->write_breaker, (uint64_t)monotime_ns() * 3);
    enum status status = open_parts(tier, options->threadless, err);
    if (status != STATUS_OK) {
        kvtier_close(tier, 0);
        return status;
    }
    *out = tier;
    return STATUS_OK;
}

void kvtier_close(struct kvtier *tier, int drain_ms)
{
    if (!tier)
        return;
    atomic_store(&tier->stop_writing_ns, monotime_ns() + (int64_t)drain_ms * 1000000);
    if (tier->puts)
        channel_shut(tier->puts);
    if (tier->fetches)
        channel_shut(tier->fetches);
    if (tier->reader_started)
        pthread_join(tier->reader_thread, NULL);
    if (tier->writer_started)
        pthread_join(tier->writer_thread, NULL);
    channel_close(tier->puts);
    channel_close(tier->fetches);
    tier->reader->close(tier->reader);
    tier->writer->close(tier->writer);
    free(tier->offered);
    free(tier->touched);
    free(tier);
}

void kvtier_stats_read(const struct kvtier *tier, struct kvtier_stats *out)
{
    *out = (struct kvtier_stats){
        .lookup_blocks = tier->lookup_blocks,
        .hit_blocks = tier->hit_blocks,
        .stored_blocks = tier->stored_blocks,
        .load_bytes = tier->load_bytes,
        .store_bytes = tier->store_bytes,
        .dropped_full = tier->dropped_full,
        .dropped_breaker = tier->dropped_breaker,
        .dropped_failed = tier->dropped_failed,
        .load_ns = tier->load_ns,
        .store_ns = tier->store_ns,
        .loads = tier->loads,
        .stores = tier->stores,
        .loading_bytes = tier->fetch_bytes,
        .storing_bytes = tier->put_bytes,
        .touched_blocks = tier->touched_blocks,
        .leases_granted = tier->leases_granted,
        .leases_elsewhere = tier->leases_elsewhere,
        .round_trip_s = tier->round_trip_ns / 1e9,
        .load_bytes_per_s = tier->ns_per_byte > 0 ? 1e9 / tier->ns_per_byte : 0,
        .reader_up = !tier->reader_open,
        .writer_up = !tier->writer_open,
    };
    for (int i = 0; i < TIER_MISS_COUNT; i++)
        out->miss_blocks[i] = tier->miss_blocks[i];
    for (int i = 0; i < BLOCK_VERDICT_COUNT; i++)
        out->corrupt[i] = tier->corrupt[i];
}
