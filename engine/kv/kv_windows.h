// SPDX-License-Identifier: Apache-2.0
// Contiguous virtual KV: the blocks of a sequence, wherever they lie in the pool, one after another in a
// range of addresses of its own, a window. A block that several sequences share is mapped several times and
// exists once.
//
// The pool is a memory file (kv_cache_open_file); a mapper thread maps its pages into windows. Between engine
// thread and mapper a window has one owner at a time. The engine never waits: what is not mapped yet is read
// through the block table, with the same bytes. A window that is given back stays mapped, for the next
// sequence that begins alike, until mappings run short. Everything is allocated at open.
#ifndef ENGINE_KV_KV_WINDOWS_H
#define ENGINE_KV_KV_WINDOWS_H

#include "engine/kv/kv_cache.h"

struct kv_windows;
struct kv_window;

struct kv_windows_options {
    struct kv_cache *kv;  /* borrowed; of kv_cache_open_file */
    int32_t windows;      /* sequences at once */
    int32_t max_blocks;   /* of a window */
    int32_t max_mappings; /* blocks mapped in all windows; each is at most one of vm.max_map_count */
};

/* Statuses: CONFIG (a block is no multiple of the page size; one window needs more mappings), NO_MEMORY. */
MUST_CHECK enum status kv_windows_open(struct kv_windows **out, const struct kv_windows_options *options,
                                       struct error *err);
void kv_windows_close(struct kv_windows *windows);
/* A window that nobody uses, or NULL. */
struct kv_window *kv_windows_take(struct kv_windows *windows);
void kv_windows_give(struct kv_windows *windows, struct kv_window *window);
/* Has the mapper map table[0, blocks) and returns the window's first address when the first `used` of them
 * are in place; else NULL. From call to call the table may only grow. */
const uint8_t *kv_windows_follow(struct kv_windows *windows, struct kv_window *window, const int32_t *table,
                                 int32_t blocks, int32_t used);

#endif
