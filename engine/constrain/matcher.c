// SPDX-License-Identifier: Apache-2.0
// DESIGN: stacks of calls share their tails: a stack is a number that names a return address and the stack
// below, and equal stacks have equal numbers. A call whose return would return at once pushes nothing, so
// right recursion costs no depth. A state is the sorted list of its ways, found again by its hash; what it
// does with a class of bytes is kept in a row of its own once asked for.
#include "engine/constrain/matcher.h"

#include <stdlib.h>
#include <string.h>

enum { FIRST_SLOTS = 256, MAX_WORK = 4 * MATCHER_MAX_WAYS };
#define UNKNOWN (UINT32_MAX - 1)

struct stack {
    uint32_t back, below; /* instruction to return to; the stack then */
    uint32_t depth;
};

struct way {
    uint32_t at, stack; /* `at` is an instruction BYTES, or ends: the root rule's end */
};

struct state {
    uint32_t first, count; /* ways */
    uint32_t hash;
    uint32_t *next; /* [classes]; NULL: nobody asked yet */
    uint32_t alike; /* UNKNOWN: nobody asked yet */
    bool accepts;
};

struct index {       /* open addressing over the numbers of what is kept elsewhere */
    uint32_t *slots; /* number + 1; 0: free */
    uint32_t capacity;
};

struct matcher {
    struct grammar *grammar;
    struct stack *stacks; /* [stack_capacity]; 0 is the empty one */
    uint32_t stack_count, stack_capacity;
    struct way *ways; /* [way_capacity] of all states */
    uint32_t way_count, way_capacity;
    struct state *states;
    uint32_t state_count, state_capacity;
    struct index stack_index, state_index;
    struct way *work, *found; /* [MAX_WORK], [MATCHER_MAX_WAYS + 1] scratch of one closure */
    uint32_t found_count;
    struct index seen;
    bool accepts; /* of the closure */
    _Atomic size_t bytes;
    _Atomic uint64_t ways_seen;
    bool over, was_cut;
};

/* ---- tables ---- */

static uint32_t mix(uint32_t a, uint32_t b)
{
    uint64_t h = ((uint64_t)a << 32 | b) * UINT64_C(0x9E3779B97F4A7C15);
    h ^= h >> 29;
    h *= UINT64_C(0xBF58476D1CE4E5B9);
    return (uint32_t)(h >> 32);
}

/* False: more than a matcher may have. */
static bool count_bytes(struct matcher *matcher, size_t bytes)
{
    matcher->bytes += bytes;
    return matcher->bytes <= MATCHER_MAX_BYTES;
}

static void count_ways(struct matcher *matcher, uint32_t ways)
{
    matcher->ways_seen += ways;
    if (matcher->ways_seen > MATCHER_MAX_WAYS_SEEN)
        matcher->over = true;
}

/* The things with room for `more` behind `count`, moved if need be; NULL: no memory, and they stay. */
static void *with_room(struct matcher *matcher, void *things, uint32_t count, uint32_t more,
                       uint32_t *capacity, size_t size)
{
    uint32_t grown = *capacity ? *capacity : FIRST_SLOTS;
    while (grown < count + more)
        grown *= 2;
    if (grown == *capacity)
        return things;
    if (!count_bytes(matcher, (grown - *capacity) * size))
        return NULL;
    void *moved = realloc(things, grown * size);
    if (moved)
        *capacity = grown;
    return moved;
}

static uint32_t stack_hash(const struct matcher *matcher, uint32_t number)
{
    return mix(matcher->stacks[number].back, matcher->stacks[number].below);
}

static uint32_t state_hash(const struct matcher *matcher, uint32_t number)
{
    return matcher->states[number].hash;
}

/* Keeps at most half of the slots used. */
static bool index_grow(struct index *index, struct matcher *matcher, uint32_t count,
                       uint32_t (*hash)(const struct matcher *, uint32_t))
{
    if (count * 2 < index->capacity)
        return true;
    uint32_t capacity = index->capacity ? index->capacity * 2 : FIRST_SLOTS;
    uint32_t *slots = count_bytes(matcher, (capacity - index->capacity) * sizeof *slots)
                          ? calloc(capacity, sizeof *slots)
                          : NULL;
    if (!slots)
        return false;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t at = hash(matcher, i) & (capacity - 1);
        while (slots[at])
            at = (at + 1) & (capacity - 1);
        slots[at] = i + 1;
    }
    free(index->slots);
    *index = (struct index){slots, capacity};
    return true;
}

/* ---- stacks ---- */

/* UINT32_MAX: too deep, or a bound. */
static uint32_t push(struct matcher *matcher, uint32_t back, uint32_t below)
{
    uint32_t depth = matcher->stacks[below].depth + 1;
    if (depth > MATCHER_MAX_DEPTH) {
        matcher->was_cut = true;
        return UINT32_MAX;
    }
    struct index *index = &matcher->stack_index;
    uint32_t at = mix(back, below) & (index->capacity - 1);
    for (; index->slots[at]; at = (at + 1) & (index->capacity - 1)) {
        const struct stack *stack = &matcher->stacks[index->slots[at] - 1];
        if (stack->back == back && stack->below == below && index->slots[at] > 1)
            return index->slots[at] - 1;
    }
    struct stack *stacks = with_room(matcher, matcher->stacks, matcher->stack_count, 1,
                                     &matcher->stack_capacity, sizeof *stacks);
    if (!stacks) {
        matcher->over = true;
        return UINT32_MAX;
    }
    matcher->stacks = stacks;
    matcher->stacks[matcher->stack_count] = (struct stack){back, below, depth};
    index->slots[at] = ++matcher->stack_count;
    if (!index_grow(index, matcher, matcher->stack_count, stack_hash))
        matcher->over = true; /* the old table has room for as many again */
    return matcher->stack_count - 1;
}

/* ---- closures: everything that can be reached without a byte ---- */

static bool seen_before(struct matcher *matcher, struct way way, uint32_t *work_count)
{
    struct index *seen = &matcher->seen;
    uint32_t at = mix(way.at, way.stack) & (seen->capacity - 1);
    for (; seen->slots[at]; at = (at + 1) & (seen->capacity - 1)) {
        const struct way *other = &matcher->work[seen->slots[at] - 1];
        if (other->at == way.at && other->stack == way.stack)
            return true;
    }
    if (*work_count == MAX_WORK)
        return true; /* more ways than are followed */
    matcher->work[*work_count] = way;
    seen->slots[at] = ++*work_count;
    return false;
}

/* Reaches everything from one way on; work[] is at once the list of what was seen and of what is to do. */
static void follow(struct matcher *matcher, uint32_t *done, uint32_t *work_count)
{
    const struct grammar_instruction *program = matcher->grammar->program;
    for (; *done < *work_count; (*done)++) {
        struct way way = matcher->work[*done];
        const struct grammar_instruction *at = &program[way.at];
        switch (at->op) {
        case GRAMMAR_SPLIT:
            seen_before(matcher, (struct way){at->a, way.stack}, work_count);
            seen_before(matcher, (struct way){at->b, way.stack}, work_count);
            break;
        case GRAMMAR_CALL: {
            uint32_t stack =
                program[at->b].op == GRAMMAR_RETURN ? way.stack : push(matcher, at->b, way.stack);
            if (stack != UINT32_MAX)
                seen_before(matcher, (struct way){at->a, stack}, work_count);
            break;
        }
        case GRAMMAR_RETURN:
            if (way.stack == 0)
                matcher->accepts = true;
            else
                seen_before(matcher,
                            (struct way){matcher->stacks[way.stack].back, matcher->stacks[way.stack].below},
                            work_count);
            break;
        case GRAMMAR_NEVER:
            break;
        default:
            if (matcher->found_count < MATCHER_MAX_WAYS)
                matcher->found[matcher->found_count++] = way;
        }
    }
}

static int compare_ways(const void *a, const void *b)
{
    const struct way *x = a, *y = b;
    return x->at != y->at ? (x->at > y->at) - (x->at < y->at) : (x->stack > y->stack) - (x->stack < y->stack);
}

static bool add_room(struct matcher *matcher, uint32_t ways)
{
    struct state *states = with_room(matcher, matcher->states, matcher->state_count, 1,
                                     &matcher->state_capacity, sizeof *states);
    if (!states)
        return false;
    matcher->states = states;
    struct way *moved = with_room(matcher, matcher->ways, matcher->way_count, ways + 1,
                                  &matcher->way_capacity, sizeof *moved);
    if (moved)
        matcher->ways = moved;
    return moved != NULL;
}

/* The number of the state made of found[]; MATCHER_DEAD when it is empty, or a bound was passed. */
static uint32_t intern(struct matcher *matcher)
{
    uint32_t hash = matcher->accepts, count = matcher->found_count;
    if (count == 0 && !matcher->accepts && matcher->state_count > 0) /* the first state may be a dead end */
        return MATCHER_DEAD;
    qsort(matcher->found, count, sizeof *matcher->found, compare_ways);
    for (uint32_t i = 0; i < count; i++)
        hash = mix(hash ^ matcher->found[i].at, matcher->found[i].stack);
    struct index *index = &matcher->state_index;
    uint32_t at = hash & (index->capacity - 1);
    for (; index->slots[at]; at = (at + 1) & (index->capacity - 1)) {
        const struct state *state = &matcher->states[index->slots[at] - 1];
        if (state->hash == hash && state->count == count && state->accepts == matcher->accepts &&
            memcmp(matcher->ways + state->first, matcher->found, count * sizeof *matcher->ways) == 0)
            return index->slots[at] - 1;
    }
    if (!add_room(matcher, count)) {
        matcher->over = true;
        return MATCHER_DEAD;
    }
    if (count > 0)
        memcpy(matcher->ways + matcher->way_count, matcher->found, count * sizeof *matcher->ways);
    matcher->states[matcher->state_count] = (struct state){.first = matcher->way_count,
                                                           .count = count,
                                                           .hash = hash,
                                                           .alike = UNKNOWN,
                                                           .accepts = matcher->accepts};
    matcher->way_count += count;
    index->slots[at] = ++matcher->state_count;
    if (!index_grow(index, matcher, matcher->state_count, state_hash))
        matcher->over = true;
    return matcher->state_count - 1;
}

static void begin_closure(struct matcher *matcher)
{
    matcher->found_count = 0;
    matcher->accepts = false;
}

static void clear_seen(struct matcher *matcher, uint32_t work_count)
{
    if (work_count * 8 > matcher->seen.capacity) {
        memset(matcher->seen.slots, 0, matcher->seen.capacity * sizeof *matcher->seen.slots);
        return;
    }
    for (uint32_t i = 0; i < work_count; i++) { /* few: only theirs, and what was pushed behind them */
        uint32_t at = mix(matcher->work[i].at, matcher->work[i].stack) & (matcher->seen.capacity - 1);
        for (; matcher->seen.slots[at]; at = (at + 1) & (matcher->seen.capacity - 1))
            matcher->seen.slots[at] = 0;
    }
}

/* ---- walking ---- */

static uint32_t find_next(struct matcher *matcher, uint32_t state, uint32_t class)
{
    uint32_t done = 0, work_count = 0;
    uint32_t first = matcher->states[state].first, count = matcher->states[state].count;
    begin_closure(matcher);
    for (uint32_t i = 0; i < count; i++) {
        struct way way = matcher->ways[first + i];
        const struct grammar_instruction *at = &matcher->grammar->program[way.at];
        if (matcher->grammar->class_sets[at->a].bits[class / 64] >> class % 64 & 1)
            seen_before(matcher, (struct way){at->b, way.stack}, &work_count);
    }
    follow(matcher, &done, &work_count);
    clear_seen(matcher, work_count);
    count_ways(matcher, work_count);
    return matcher->over ? MATCHER_DEAD : intern(matcher);
}

uint32_t matcher_step(struct matcher *matcher, uint32_t state, unsigned char byte)
{
    uint32_t classes = matcher->grammar->classes, class = matcher->grammar->class_of[byte];
    uint32_t *row = matcher->states[state].next;
    if (!row) {
        row = count_bytes(matcher, classes * sizeof *row) ? malloc(classes * sizeof *row) : NULL;
        if (!row) {
            matcher->over = true;
            return MATCHER_DEAD;
        }
        for (uint32_t i = 0; i < classes; i++)
            row[i] = UNKNOWN;
        matcher->states[state].next = row;
    }
    if (row[class] == UNKNOWN)
        row[class] = find_next(matcher, state, class);
    return row[class];
}

size_t matcher_walk(struct matcher *matcher, uint32_t *path, const unsigned char *bytes, size_t count)
{
    const uint8_t *class_of = matcher->grammar->class_of;
    for (size_t i = 0; i < count; i++) {
        const uint32_t *row = matcher->states[path[i]].next;
        uint32_t next = row ? row[class_of[bytes[i]]] : UNKNOWN;
        if (next == UNKNOWN)
            next = matcher_step(matcher, path[i], bytes[i]);
        if (next == MATCHER_DEAD)
            return i;
        path[i + 1] = next;
    }
    return count;
}

/* ---- states that allow the same next bytes ---- */

/* The stack whose return addresses are replaced by those that they are like; UINT32_MAX: a bound. */
static uint32_t alike_stack(struct matcher *matcher, uint32_t stack)
{
    const struct grammar_instruction *program = matcher->grammar->program;
    uint32_t backs[MATCHER_MAX_DEPTH], depth = 0, made = 0;
    for (; stack; stack = matcher->stacks[stack].below)
        backs[depth++] = program[matcher->stacks[stack].back].alike;
    count_ways(matcher, depth);
    while (depth > 0 && made != UINT32_MAX)
        made = push(matcher, backs[--depth], made);
    return made;
}

static bool same_way(struct way a, struct way b)
{
    return a.at == b.at && a.stack == b.stack;
}

static uint32_t find_alike(struct matcher *matcher, uint32_t state)
{
    uint32_t first = matcher->states[state].first, count = matcher->states[state].count, left = 0;
    begin_closure(matcher);
    matcher->accepts = matcher->states[state].accepts;
    for (uint32_t i = 0; i < count; i++) {
        struct way way = matcher->ways[first + i];
        uint32_t stack = alike_stack(matcher, way.stack);
        if (stack == UINT32_MAX)
            return state;
        matcher->found[i] = (struct way){matcher->grammar->program[way.at].alike, stack};
    }
    qsort(matcher->found, count, sizeof *matcher->found, compare_ways);
    for (uint32_t i = 0; i < count; i++)
        if (left == 0 || !same_way(matcher->found[left - 1], matcher->found[i]))
            matcher->found[left++] = matcher->found[i];
    matcher->found_count = left;
    uint32_t alike = intern(matcher);
    return alike == MATCHER_DEAD ? state : alike;
}

uint32_t matcher_alike(struct matcher *matcher, uint32_t state)
{
    if (matcher->states[state].alike == UNKNOWN) {
        uint32_t alike = find_alike(matcher, state); /* may move the states */
        matcher->states[state].alike = alike;
    }
    return matcher->states[state].alike;
}

bool matcher_accepts(const struct matcher *matcher, uint32_t state)
{
    return matcher->states[state].accepts;
}

uint32_t matcher_states(const struct matcher *matcher)
{
    return matcher->state_count;
}

bool matcher_was_cut(const struct matcher *matcher)
{
    return matcher->was_cut;
}

bool matcher_is_over(const struct matcher *matcher)
{
    return matcher->over;
}

bool matcher_is_worn(const struct matcher *matcher)
{
    return matcher->bytes > MATCHER_MAX_BYTES / 2 || matcher->ways_seen > MATCHER_MAX_WAYS_SEEN / 2;
}

size_t matcher_bytes(const struct matcher *matcher)
{
    return matcher->bytes;
}

/* ---- life ---- */

static bool open_tables(struct matcher *matcher)
{
    matcher->work = calloc(MAX_WORK, sizeof *matcher->work);
    matcher->found = malloc((MATCHER_MAX_WAYS + 1) * sizeof *matcher->found);
    matcher->seen = (struct index){calloc(2 * MAX_WORK, sizeof(uint32_t)), 2 * MAX_WORK};
    matcher->stack_index = (struct index){calloc(FIRST_SLOTS, sizeof(uint32_t)), FIRST_SLOTS};
    matcher->state_index = (struct index){calloc(FIRST_SLOTS, sizeof(uint32_t)), FIRST_SLOTS};
    return matcher->work && matcher->found && matcher->seen.slots && matcher->stack_index.slots &&
           matcher->state_index.slots &&
           (matcher->stacks =
                with_room(matcher, NULL, 0, 1, &matcher->stack_capacity, sizeof *matcher->stacks)) != NULL;
}

enum status matcher_open(struct matcher **out, struct grammar *grammar, struct error *err)
{
    *out = NULL;
    struct matcher *matcher = calloc(1, sizeof *matcher);
    if (matcher)
        matcher->grammar = grammar;
    else
        grammar_close(grammar);
    if (!matcher || !open_tables(matcher)) {
        matcher_close(matcher);
        return error_set(err, STATUS_NO_MEMORY, "no memory to follow a grammar");
    }
    matcher->stacks[0] = (struct stack){UINT32_MAX, UINT32_MAX, 0};
    matcher->stack_count = 1;
    uint32_t done = 0, work_count = 0;
    begin_closure(matcher);
    seen_before(matcher, (struct way){grammar->entry, 0}, &work_count);
    follow(matcher, &done, &work_count);
    clear_seen(matcher, work_count);
    if (intern(matcher) != MATCHER_START) {
        matcher_close(matcher);
        return error_set(err, STATUS_NO_MEMORY, "no memory to follow a grammar");
    }
    *out = matcher;
    return STATUS_OK;
}

void matcher_close(struct matcher *matcher)
{
    if (!matcher)
        return;
    for (uint32_t i = 0; i < matcher->state_count; i++)
        free(matcher->states[i].next);
    free(matcher->states);
    free(matcher->ways);
    free(matcher->stacks);
    free(matcher->work);
    free(matcher->found);
    free(matcher->seen.slots);
    free(matcher->stack_index.slots);
    free(matcher->state_index.slots);
    grammar_close(matcher->grammar);
    free(matcher);
}
