// SPDX-License-Identifier: Apache-2.0
// Any bytes as a catalogue: refused with a sentence, or a trie in which every walk over allowed tokens comes
// to an item, with and without the first item excluded.
#include <stdint.h>

#include "base/check.h"
#include "engine/constrain/catalog.h"

enum { VOCAB = 64, EOS = 63 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void walk(struct constraint *constraint, uint32_t state)
{
    const int32_t *tokens;
    size_t count = constraint->ops->tokens(constraint, state, &tokens);
    CHECK(count > 0 || constraint->ops->accepts(constraint, state));
    if (count == 0)
        return;
    for (size_t i = 1; i < count; i++)
        CHECK(tokens[i - 1] < tokens[i]);
    uint32_t next = constraint->ops->next(constraint, state, tokens[state % count]);
    CHECK(next != CONSTRAINT_DEAD && next > state);
    walk(constraint, next);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const int32_t eos[] = {EOS};
    const struct catalog_options options = {.vocab = VOCAB, .eos = eos, .eos_count = 1};
    struct catalog *catalog;
    struct error err = {0};
    enum status status = catalog_open_text(&catalog, (const char *)data, size, &options, &err);
    if (status != STATUS_OK) {
        CHECK(err.text[0]);
        return 0;
    }
    struct constraint *all, *rest;
    CHECK(catalog_constraint(&all, catalog, NULL, 0, NULL) == STATUS_OK);
    walk(all, CONSTRAINT_START);
    uint32_t state = CONSTRAINT_START;
    const int32_t *tokens;
    while (!all->ops->accepts(all, state) && all->ops->tokens(all, state, &tokens) > 0)
        state = all->ops->next(all, state, tokens[0]);
    const char *first = catalog_constraint_item(all, state, 0);
    if (catalog_constraint(&rest, catalog, &first, 1, NULL) == STATUS_OK) {
        walk(rest, CONSTRAINT_START);
        constraint_give_back(rest);
    } else {
        CHECK(catalog_items(catalog) == 1);
    }
    constraint_give_back(all);
    catalog_give_back(catalog);
    return 0;
}
