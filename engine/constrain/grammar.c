// SPDX-License-Identifier: Apache-2.0
// DESIGN: a node is emitted when what follows it is known, so every instruction names its successor and no
// jumps are needed. What is repeated becomes a rule of its own unless it is tiny: x{1000} costs a thousand
// calls and not a thousand copies.
#include "engine/constrain/grammar.h"

#include <stdlib.h>
#include <string.h>

#include "engine/constrain/grammar_utf8.h"

enum node_type { NODE_EMPTY, NODE_LITERAL, NODE_SET, NODE_CAT, NODE_ALT, NODE_REPEAT, NODE_RULE };

struct grammar_node {
    enum node_type type;
    struct grammar_node *left, *right; /* CAT, ALT; REPEAT: left */
    uint32_t least, most;              /* REPEAT; RULE: least is the rule */
    const char *text;                  /* LITERAL */
    size_t bytes;                      /* LITERAL; SET: ranges */
    const struct codepoint_range *ranges;
    bool json;
};

struct rule {
    struct grammar_node *node; /* NULL: never set */
    uint32_t entry;            /* UINT32_MAX: not emitted yet */
};

struct grammar_builder {
    struct arena arena;
    struct rule *rules; /* [rule_capacity] */
    uint32_t rule_count, rule_capacity;
    struct grammar_instruction *program;
    uint32_t count, capacity;
    struct grammar_set *sets;
    uint32_t set_count;
    bool failed; /* a bound or memory */
};

void grammar_close(struct grammar *grammar)
{
    if (!grammar)
        return;
    free(grammar->program);
    free(grammar->class_sets);
    free(grammar);
}

/* ---- nodes ---- */

enum status grammar_builder_open(struct grammar_builder **out, struct error *err)
{
    *out = calloc(1, sizeof **out);
    if (!*out)
        return error_set(err, STATUS_NO_MEMORY, "no memory for a grammar");
    arena_init(&(*out)->arena, GRAMMAR_MAX_BYTES);
    return STATUS_OK;
}

void grammar_builder_close(struct grammar_builder *builder)
{
    if (!builder)
        return;
    arena_release(&builder->arena);
    free(builder->rules);
    free(builder->program);
    free(builder->sets);
    free(builder);
}

struct arena *grammar_arena(struct grammar_builder *builder)
{
    return &builder->arena;
}

static struct grammar_node *add(struct grammar_builder *builder, enum node_type type)
{
    struct grammar_node *node = arena_alloc(&builder->arena, sizeof *node);
    if (node)
        node->type = type;
    else
        builder->failed = true;
    return node;
}

struct grammar_node *grammar_empty(struct grammar_builder *builder)
{
    return add(builder, NODE_EMPTY);
}

struct grammar_node *grammar_literal(struct grammar_builder *builder, const char *text, size_t bytes)
{
    struct grammar_node *node = add(builder, NODE_LITERAL);
    char *copy = node ? arena_copy(&builder->arena, text, bytes) : NULL;
    if (!copy) {
        builder->failed = true;
        return NULL;
    }
    node->text = copy;
    node->bytes = bytes;
    return node;
}

struct grammar_node *grammar_set(struct grammar_builder *builder, const struct codepoint_range *ranges,
                                 size_t count, bool json)
{
    struct grammar_node *node = add(builder, NODE_SET);
    struct codepoint_range *copy = arena_alloc_array(&builder->arena, count + 1, sizeof *copy);
    if (!node || !copy) {
        builder->failed = true;
        return NULL;
    }
    memcpy(copy, ranges, count * sizeof *copy);
    node->ranges = copy;
    node->bytes = count;
    node->json = json;
    return node;
}

static struct grammar_node *join(struct grammar_builder *builder, enum node_type type, struct grammar_node *a,
                                 struct grammar_node *b)
{
    struct grammar_node *node = a && b ? add(builder, type) : NULL;
    if (!node)
        return NULL;
    node->left = a;
    node->right = b;
    return node;
}

struct grammar_node *grammar_cat(struct grammar_builder *builder, struct grammar_node *a,
                                 struct grammar_node *b)
{
    return join(builder, NODE_CAT, a, b);
}

struct grammar_node *grammar_alt(struct grammar_builder *builder, struct grammar_node *a,
                                 struct grammar_node *b)
{
    return join(builder, NODE_ALT, a, b);
}

struct grammar_node *grammar_repeat(struct grammar_builder *builder, struct grammar_node *node,
                                    uint32_t least, uint32_t most)
{
    struct grammar_node *made = node ? add(builder, NODE_REPEAT) : NULL;
    if (!made)
        return NULL;
    made->left = node;
    made->least = least;
    made->most = most;
    return made;
}

struct grammar_node *grammar_optional(struct grammar_builder *builder, struct grammar_node *node)
{
    return grammar_repeat(builder, node, 0, 1);
}

uint32_t grammar_add_rule(struct grammar_builder *builder)
{
    if (builder->rule_count == builder->rule_capacity) {
        uint32_t capacity = builder->rule_capacity ? builder->rule_capacity * 2 : 64;
        struct rule *rules =
            capacity <= GRAMMAR_MAX_RULES ? realloc(builder->rules, capacity * sizeof *rules) : NULL;
        if (!rules) {
            builder->failed = true;
            return UINT32_MAX;
        }
        builder->rules = rules;
        builder->rule_capacity = capacity;
    }
    builder->rules[builder->rule_count] = (struct rule){.entry = UINT32_MAX};
    return builder->rule_count++;
}

void grammar_set_rule(struct grammar_builder *builder, uint32_t rule, struct grammar_node *node)
{
    if (rule < builder->rule_count)
        builder->rules[rule].node = node;
}

struct grammar_node *grammar_rule(struct grammar_builder *builder, uint32_t rule)
{
    struct grammar_node *node = rule < builder->rule_count ? add(builder, NODE_RULE) : NULL;
    if (node)
        node->least = rule;
    return node;
}

/* ---- instructions ---- */

static uint32_t instruction(struct grammar_builder *builder, enum grammar_op op, uint32_t a, uint32_t b)
{
    if (builder->count == builder->capacity) {
        uint32_t capacity = builder->capacity ? builder->capacity * 2 : 256;
        struct grammar_instruction *program = capacity <= GRAMMAR_MAX_INSTRUCTIONS
                                                  ? realloc(builder->program, capacity * sizeof *program)
                                                  : NULL;
        if (!program) {
            builder->failed = true;
            return 0;
        }
        builder->program = program;
        builder->capacity = capacity;
    }
    builder->program[builder->count] = (struct grammar_instruction){op, a, b, builder->count};
    return builder->count++;
}

static uint32_t set_index(struct grammar_builder *builder, const struct grammar_set *set)
{
    for (uint32_t i = 0; i < builder->set_count; i++)
        if (memcmp(&builder->sets[i], set, sizeof *set) == 0)
            return i;
    if (builder->set_count == GRAMMAR_MAX_SETS ||
        (!builder->sets && !(builder->sets = malloc(GRAMMAR_MAX_SETS * sizeof *builder->sets)))) {
        builder->failed = true;
        return 0;
    }
    builder->sets[builder->set_count] = *set;
    return builder->set_count++;
}

static void set_add(struct grammar_set *set, unsigned first, unsigned last)
{
    for (unsigned byte = first; byte <= last; byte++)
        set->bits[byte / 64] |= UINT64_C(1) << byte % 64;
}

static uint32_t emit_bytes(struct grammar_builder *builder, unsigned first, unsigned last, uint32_t next)
{
    struct grammar_set set = {{0}};
    set_add(&set, first, last);
    return instruction(builder, GRAMMAR_BYTES, set_index(builder, &set), next);
}

static uint32_t emit_text(struct grammar_builder *builder, const char *text, size_t bytes, uint32_t next)
{
    while (bytes-- > 0 && !builder->failed)
        next = emit_bytes(builder, (unsigned char)text[bytes], (unsigned char)text[bytes], next);
    return next;
}

/* Another way of going on: both, or the first one. */
static uint32_t either(struct grammar_builder *builder, uint32_t so_far, uint32_t more)
{
    return so_far == UINT32_MAX ? more : instruction(builder, GRAMMAR_SPLIT, so_far, more);
}

/* ---- sets of code points ---- */

/* Quotes, backslashes and controls within a JSON string. */
static uint32_t emit_escape(struct grammar_builder *builder, uint32_t codepoint, uint32_t next)
{
    static const char hex[] = "0123456789abcdef";
    static const char shorts[] = "\b\f\n\r\t\"\\", letters[] = "bfnrt\"\\";
    const char *found = codepoint ? strchr(shorts, (int)codepoint) : NULL;
    if (found)
        return emit_text(builder, (const char[]){'\\', letters[found - shorts]}, 2, next);
    return emit_text(builder, (const char[]){'\\', 'u', '0', '0', hex[codepoint >> 4], hex[codepoint & 15]},
                     6, next);
}

static bool needs_escape(uint32_t codepoint)
{
    return codepoint < 0x20 || codepoint == '"' || codepoint == '\\';
}

static uint32_t emit_set(struct grammar_builder *builder, const struct grammar_node *node, uint32_t next)
{
    struct grammar_set ascii = {{0}};
    bool any_ascii = false;
    uint32_t entry = UINT32_MAX;
    for (size_t i = 0; i < node->bytes && !builder->failed; i++) {
        struct codepoint_range range = node->ranges[i];
        for (uint32_t c = range.first; c <= range.last && c < 0x80; c++) {
            if (node->json && needs_escape(c)) {
                entry = either(builder, entry, emit_escape(builder, c, next));
            } else {
                set_add(&ascii, c, c);
                any_ascii = true;
            }
        }
        struct utf8_sequence sequences[UTF8_MOST_SEQUENCES];
        size_t count = utf8_sequences(range, sequences);
        for (size_t s = 0; s < count; s++) {
            uint32_t at = next;
            for (size_t b = sequences[s].bytes; b-- > 0;)
                at = emit_bytes(builder, sequences[s].first[b], sequences[s].last[b], at);
            entry = either(builder, entry, at);
        }
    }
    if (any_ascii)
        entry = either(builder, entry, instruction(builder, GRAMMAR_BYTES, set_index(builder, &ascii), next));
    if (entry == UINT32_MAX) { /* no code point: nothing ever matches */
        const struct grammar_set none = {{0}};
        entry = instruction(builder, GRAMMAR_BYTES, set_index(builder, &none), next);
    }
    return entry;
}

/* ---- nodes into instructions ---- */

static uint32_t emit(struct grammar_builder *builder, const struct grammar_node *node, uint32_t next);

static bool is_tiny(const struct grammar_node *node)
{
    bool ascii =
        node->type == NODE_SET && !node->json && node->bytes > 0 && node->ranges[node->bytes - 1].last < 0x80;
    return ascii || node->type == NODE_RULE || node->type == NODE_EMPTY ||
           (node->type == NODE_LITERAL && node->bytes <= 2);
}

/* The copies of what is repeated are emitted from the last one on. Behind one that comes `nth` lie at least
 * nth copies more, so those beyond GRAMMAR_ALIKE_BYTES allow the same next bytes: each copy takes one at
 * least, or nothing. */
static void note_alike(struct grammar_builder *builder, uint32_t nth, uint32_t begin)
{
    uint32_t size = builder->count - begin;
    if (nth <= GRAMMAR_ALIKE_BYTES || builder->failed)
        return;
    for (uint32_t at = begin; at < builder->count; at++)
        builder->program[at].alike = builder->program[at - size].alike;
}

static uint32_t emit_copies(struct grammar_builder *builder, const struct grammar_node *child, uint32_t count,
                            uint32_t next, bool optional)
{
    uint32_t at = next;
    for (uint32_t nth = 0; nth < count && !builder->failed; nth++) {
        uint32_t begin = builder->count;
        at = emit(builder, child, at);
        if (optional)
            at = instruction(builder, GRAMMAR_SPLIT, at, next);
        note_alike(builder, nth, begin);
    }
    return at;
}

static uint32_t emit_repeat(struct grammar_builder *builder, const struct grammar_node *node, uint32_t next)
{
    struct grammar_node *child = node->left;
    bool endless = node->most == GRAMMAR_UNBOUNDED;
    uint32_t optional = endless ? 1 : node->most - node->least, at = next;
    if (!is_tiny(child) && (uint64_t)node->least + optional > 1) {
        uint32_t rule = grammar_add_rule(builder);
        grammar_set_rule(builder, rule, child);
        child = grammar_rule(builder, rule);
        if (!child)
            return 0;
    }
    if (endless) {
        at = instruction(builder, GRAMMAR_SPLIT, next, next);
        uint32_t body = emit(builder, child, at);
        if (!builder->failed)
            builder->program[at].a = body;
    } else {
        at = emit_copies(builder, child, optional, next, true);
    }
    return emit_copies(builder, child, node->least, at, false);
}

/* Both are built from left to right, so their left sides are walked in a loop. */
static uint32_t emit_alt(struct grammar_builder *builder, const struct grammar_node *node, uint32_t next)
{
    uint32_t at = UINT32_MAX;
    for (; node->type == NODE_ALT && !builder->failed; node = node->left)
        at = either(builder, at, emit(builder, node->right, next));
    return builder->failed ? 0 : either(builder, at, emit(builder, node, next));
}

static uint32_t emit(struct grammar_builder *builder, const struct grammar_node *node, uint32_t next)
{
    for (; node->type == NODE_CAT && !builder->failed; node = node->left)
        next = emit(builder, node->right, next);
    if (builder->failed)
        return 0;
    switch (node->type) {
    case NODE_LITERAL:
        return emit_text(builder, node->text, node->bytes, next);
    case NODE_SET:
        return emit_set(builder, node, next);
    case NODE_ALT:
        return emit_alt(builder, node, next);
    case NODE_REPEAT:
        return emit_repeat(builder, node, next);
    case NODE_RULE: /* its entry is known when all rules have been emitted */
        return instruction(builder, GRAMMAR_CALL, node->least, next);
    default:
        return next;
    }
}

static bool emit_rules(struct grammar_builder *builder)
{
    for (uint32_t i = 0; i < builder->rule_count && !builder->failed; i++) { /* emitting may add rules */
        if (!builder->rules[i].node)
            return false;
        uint32_t end = instruction(builder, GRAMMAR_RETURN, i, 0);
        uint32_t entry = emit(builder, builder->rules[i].node, end);
        builder->rules[i].entry = entry;
    }
    return !builder->failed;
}

/* ---- left recursion ---- */

struct walk {                /* over what can be reached without consuming a byte */
    uint32_t *stack, *stamp; /* [count] */
    uint32_t now;
    uint64_t left; /* steps; a grammar that needs more is too large */
    bool *nullable, *settled;
};

struct reached {
    bool end;       /* of the rule: it may be empty */
    bool unsettled; /* a rule that may begin with itself */
};

static void visit(struct walk *walk, uint32_t at, uint32_t *depth)
{
    if (walk->stamp[at] == walk->now)
        return;
    walk->stamp[at] = walk->now;
    walk->stack[(*depth)++] = at;
}

static struct reached reach(const struct grammar_builder *builder, uint32_t rule, struct walk *walk)
{
    struct reached reached = {0};
    uint32_t depth = 0;
    walk->now++;
    visit(walk, builder->rules[rule].entry, &depth);
    while (depth > 0 && walk->left > 0) {
        const struct grammar_instruction *at = &builder->program[walk->stack[--depth]];
        walk->left--;
        reached.end = reached.end || at->op == GRAMMAR_RETURN;
        if (at->op == GRAMMAR_SPLIT)
            visit(walk, at->a, &depth);
        if (at->op == GRAMMAR_CALL && !walk->settled[at->a])
            reached.unsettled = true;
        if (at->op == GRAMMAR_SPLIT || (at->op == GRAMMAR_CALL && walk->nullable[at->a]))
            visit(walk, at->b, &depth);
    }
    return reached;
}

/* Takes away, round by round, the rules that begin with no other: what is left begins with itself. */
static bool has_left_recursion(const struct grammar_builder *builder, struct walk *walk)
{
    bool changed = true, left = true;
    while (changed && left) {
        changed = left = false;
        for (uint32_t i = builder->rule_count; i-- > 0;) { /* later rules are mostly those that are called */
            if (walk->settled[i])
                continue;
            walk->settled[i] = !reach(builder, i, walk).unsettled;
            changed = changed || walk->settled[i];
            left = left || !walk->settled[i];
        }
    }
    return left;
}

static void find_nullable(const struct grammar_builder *builder, struct walk *walk)
{
    for (bool changed = true; changed;) {
        changed = false;
        for (uint32_t rule = 0; rule < builder->rule_count; rule++)
            if (!walk->nullable[rule] && reach(builder, rule, walk).end)
                walk->nullable[rule] = changed = true;
    }
}

static enum status check_recursion(const struct grammar_builder *builder, struct error *err)
{
    struct walk walk = {.stack = malloc(((size_t)builder->count + 1) * sizeof *walk.stack),
                        .stamp = calloc((size_t)builder->count + 1, sizeof *walk.stamp),
                        .nullable = calloc((size_t)builder->rule_count + 1, 1),
                        .settled = calloc((size_t)builder->rule_count + 1, 1),
                        .left = GRAMMAR_MAX_STEPS};
    enum status status = STATUS_OK;
    if (!walk.stack || !walk.stamp || !walk.nullable || !walk.settled) {
        status = error_set(err, STATUS_NO_MEMORY, "no memory for a grammar");
    } else {
        find_nullable(builder, &walk);
        bool recursive = has_left_recursion(builder, &walk);
        if (walk.left == 0)
            status =
                error_set(err, STATUS_TOO_LARGE, "the grammar has too many rules that begin with others");
        else if (recursive)
            status = error_set(err, STATUS_INVALID, "a rule begins with itself (left recursion)");
    }
    free(walk.stack);
    free(walk.stamp);
    free(walk.nullable);
    free(walk.settled);
    return status;
}

/* ---- what never ends ---- */

static bool can_end(const struct grammar_builder *builder, uint32_t index, const bool *ends)
{
    static const struct grammar_set none = {{0}};
    const struct grammar_instruction *at = &builder->program[index];
    switch (at->op) {
    case GRAMMAR_BYTES:
        return ends[at->b] && memcmp(&builder->sets[at->a], &none, sizeof none) != 0;
    case GRAMMAR_SPLIT:
        return ends[at->a] || ends[at->b];
    case GRAMMAR_CALL:
        return ends[at->b] && ends[builder->rules[at->a].entry];
    default:
        return true;
    }
}

/* A way that leads to no end of the text is closed where it begins, so that nobody is led into it. */
static enum status close_dead_ends(struct grammar_builder *builder, uint32_t entry, struct error *err)
{
    bool *ends = calloc((size_t)builder->count + 1, sizeof *ends);
    uint64_t steps = 0;
    if (!ends)
        return error_set(err, STATUS_NO_MEMORY, "no memory for a grammar");
    for (bool changed = true; changed && steps < GRAMMAR_MAX_STEPS; steps += builder->count) {
        changed = false;
        for (uint32_t i = 0; i < builder->count; i++)
            if (!ends[i] && can_end(builder, i, ends))
                ends[i] = changed = true;
    }
    bool any = ends[entry];
    for (uint32_t i = 0; i < builder->count; i++)
        if (!ends[i])
            builder->program[i].op = GRAMMAR_NEVER;
    free(ends);
    if (steps >= GRAMMAR_MAX_STEPS)
        return error_set(err, STATUS_TOO_LARGE, "the grammar has too many rules within rules");
    return any ? STATUS_OK : error_set(err, STATUS_INVALID, "no text that it allows ever ends");
}

/* ---- the program ---- */

/* Bytes that are in the same sets are the same byte to the matcher. */
static bool fill_classes(struct grammar *grammar, const struct grammar_builder *builder)
{
    unsigned representative[256];
    grammar->class_sets = calloc((size_t)builder->set_count + 1, sizeof *grammar->class_sets);
    if (!grammar->class_sets)
        return false;
    for (unsigned byte = 0; byte < 256; byte++) {
        uint32_t class = 0;
        for (; class < grammar->classes; class ++) {
            bool same = true;
            for (uint32_t i = 0; i < builder->set_count && same; i++)
                same = (builder->sets[i].bits[byte / 64] >> byte % 64 & 1) ==
                       (builder->sets[i].bits[representative[class] / 64] >> representative[class] % 64 & 1);
            if (same)
                break;
        }
        if (class == grammar->classes)
            representative[grammar->classes++] = byte;
        grammar->class_of[byte] = (uint8_t) class;
    }
    for (uint32_t i = 0; i < builder->set_count; i++)
        for (unsigned byte = 0; byte < 256; byte++)
            if (builder->sets[i].bits[byte / 64] >> byte % 64 & 1)
                set_add(&grammar->class_sets[i], grammar->class_of[byte], grammar->class_of[byte]);
    grammar->set_count = builder->set_count;
    return true;
}

enum status grammar_finish(struct grammar_builder *builder, struct grammar_node *root, struct grammar **out,
                           struct error *err)
{
    *out = NULL;
    uint32_t rule = grammar_add_rule(builder);
    grammar_set_rule(builder, rule, root);
    if (!root || rule == UINT32_MAX || !emit_rules(builder))
        return error_set(err, STATUS_TOO_LARGE, "the grammar is larger than %d instructions or %d rules",
                         GRAMMAR_MAX_INSTRUCTIONS, GRAMMAR_MAX_RULES);
    enum status status = check_recursion(builder, err);
    if (status == STATUS_OK)
        status = close_dead_ends(builder, builder->rules[rule].entry, err);
    struct grammar *grammar = status == STATUS_OK ? calloc(1, sizeof *grammar) : NULL;
    if (status != STATUS_OK)
        return status;
    if (!grammar || !fill_classes(grammar, builder)) {
        grammar_close(grammar);
        return error_set(err, STATUS_NO_MEMORY, "no memory for a grammar");
    }
    for (uint32_t i = 0; i < builder->count; i++)
        if (builder->program[i].op == GRAMMAR_CALL)
            builder->program[i].a = builder->rules[builder->program[i].a].entry;
    grammar->program = builder->program;
    grammar->count = builder->count;
    grammar->entry = builder->rules[rule].entry;
    builder->program = NULL;
    builder->count = builder->capacity = 0;
    *out = grammar;
    return STATUS_OK;
}
