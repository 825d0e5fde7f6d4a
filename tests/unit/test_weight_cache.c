// SPDX-License-Identifier: Apache-2.0
// The weight cache: a second start reads what the first packed and says the same, byte for byte; whatever is
// wrong with the file means packing again, never another answer.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/kv/kv_cache.h"
#include "engine/model/model.h"

enum { ROWS = 16, BLOCK_TOKENS = 16, HEADER_FIELDS_BYTES = 16 + 8 + 4 * 32, HEADER_BYTES = 4096 };

static char cache[] = "/tmp/millrace-test-cache-XXXXXX", model_dir[] = "/tmp/millrace-test-source-XXXXXX";
static const char *source = model_dir; /* the model that is started */

struct answer {
    uint8_t fingerprint[32];
    enum model_weight_origin origin;
    char trouble[ERROR_TEXT_BYTES];
    float *logits; /* [ROWS][vocab] */
    size_t bytes;
};

static void ask(struct model *model, struct answer *answer)
{
    static const int32_t table[1] = {0};
    static int32_t tokens[ROWS], positions[ROWS], rows[ROWS];
    struct kv_cache *kv = NULL;
    for (int32_t i = 0; i < ROWS; i++)
        tokens[i] = i * 7 % 31, positions[i] = i, rows[i] = i;
    const struct batch_sequence sequence = {.first_row = 0, .rows = ROWS, .block_table = table};
    const struct batch batch = {.tokens = tokens,
                                .positions = positions,
                                .row_count = ROWS,
                                .sequences = &sequence,
                                .sequence_count = 1,
                                .logit_rows = rows,
                                .logit_count = ROWS};
    const struct hparams *h = model_hparams(model);
    assert_int_equal(kv_cache_open(&kv, 1, h->layers, BLOCK_TOKENS,
                                   model_block_bytes(model, BLOCK_TOKENS) / (size_t)h->layers, NULL),
                     STATUS_OK);
    answer->bytes = (size_t)ROWS * (size_t)h->vocab * sizeof(float);
    answer->logits = malloc(answer->bytes);
    assert_non_null(answer->logits);
    model_forward(model, kv, &batch, answer->logits);
    kv_cache_close(kv);
}

static bool has_format(const char *format)
{
    const struct model_options options = {.model_dir = source,
                                          .weight_format = format,
                                          .threads = 1,
                                          .max_batch_tokens = 1,
                                          .max_logit_rows = 1};
    struct model_plan plan;
    return model_plan(&options, &plan, NULL) == STATUS_OK;
}

static struct answer start(const char *format, const char *directory)
{
    const struct model_options options = {.model_dir = source,
                                          .kernels = "auto",
                                          .weight_format = format,
                                          .kv_format = "f32",
                                          .weight_cache = directory,
                                          .threads = 2,
                                          .max_batch_tokens = ROWS,
                                          .max_logit_rows = ROWS};
    struct model *model = NULL;
    struct error err = {0};
    struct answer answer = {0};
    const char *trouble;
    if (model_open(&model, &options, &err) != STATUS_OK)
        fail_msg("%s", err.text);
    memcpy(answer.fingerprint, model_fingerprint(model), sizeof answer.fingerprint);
    answer.origin = model_weight_origin(model, &trouble);
    snprintf(answer.trouble, sizeof answer.trouble, "%s", trouble);
    ask(model, &answer);
    model_close(model);
    return answer;
}

static void assert_same_answer(struct answer *a, const struct answer *b, enum model_weight_origin origin)
{
    assert_int_equal(a->origin, origin);
    assert_memory_equal(a->fingerprint, b->fingerprint, sizeof a->fingerprint);
    assert_int_equal(a->bytes, b->bytes);
    assert_memory_equal(a->logits, b->logits, a->bytes);
    free(a->logits);
}

/* The only file of the cache; its path. */
static void cached_file(char path[1024])
{
    DIR *directory = opendir(cache);
    int found = 0;
    assert_non_null(directory);
    for (struct dirent *entry; (entry = readdir(directory));)
        if (entry->d_name[0] != '.') {
            found++;
            assert_true(snprintf(path, 1024, "%s/%s", cache, entry->d_name) < 1024);
        }
    closedir(directory);
    assert_int_equal(found, 1);
}

static void empty_cache(void)
{
    char command[1100];
    snprintf(command, sizeof command, "rm -f %s/*", cache);
    assert_int_equal(system(command), 0);
}

static void a_second_start_reads_what_the_first_packed(void **state)
{
    (void)state;
    static const char *const formats[] = {"f32", "bf16", "int8", "int4"};
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++) {
        if (!has_format(formats[i]))
            continue; /* of this CPU's kernel set; bf16 and f32 every one has */
        empty_cache();
        struct answer plain = start(formats[i], NULL);
        struct answer first = start(formats[i], cache);
        assert_same_answer(&first, &plain, MODEL_WEIGHTS_KEPT);
        struct answer second = start(formats[i], cache);
        assert_same_answer(&second, &plain, MODEL_WEIGHTS_READ);
        free(plain.logits);
    }
}

static void experts_are_read_as_they_were_packed(void **state)
{
    source = MILLRACE_SOURCE_DIR "/tests/golden/models/qwen3-moe";
    a_second_start_reads_what_the_first_packed(state);
    source = model_dir;
}

static void formats_have_files_of_their_own(void **state)
{
    (void)state;
    char path[1024];
    empty_cache();
    struct answer a = start("bf16", cache);
    cached_file(path);
    struct answer other = start("f32", cache);
    assert_int_equal(other.origin, MODEL_WEIGHTS_KEPT);
    free(other.logits);
    struct answer again = start("bf16", cache);
    assert_same_answer(&again, &a, MODEL_WEIGHTS_READ);
    free(a.logits);
}

static void flip(const char *path, long at)
{
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, at, SEEK_SET), 0);
    int byte = fgetc(file);
    assert_true(byte != EOF);
    assert_int_equal(fseek(file, at, SEEK_SET), 0);
    assert_int_equal(fputc(byte ^ 0x10, file), byte ^ 0x10);
    assert_int_equal(fclose(file), 0);
}

static void a_flipped_bit_anywhere_means_packing_again(void **state)
{
    (void)state;
    char path[1024];
    struct stat stat_of;
    empty_cache();
    struct answer good = start("bf16", cache);
    cached_file(path);
    assert_int_equal(stat(path, &stat_of), 0);
    for (long at = 0; at < (long)stat_of.st_size; at += at < HEADER_BYTES ? 1 : 4999) {
        if (at == HEADER_FIELDS_BYTES)
            at = HEADER_BYTES; /* what lies between is not used */
        flip(path, at);
        struct answer answer = start("bf16", cache);
        assert_same_answer(&answer, &good, MODEL_WEIGHTS_KEPT);
    }
    free(good.logits);
}

static void a_torn_file_means_packing_again(void **state)
{
    (void)state;
    static const long cuts[] = {0, 8, 4096, 5000};
    char path[1024];
    empty_cache();
    struct answer good = start("bf16", cache);
    cached_file(path);
    for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
        assert_int_equal(truncate(path, cuts[i]), 0);
        struct answer answer = start("bf16", cache);
        assert_same_answer(&answer, &good, MODEL_WEIGHTS_KEPT);
    }
    free(good.logits);
}

static void a_checkpoint_that_was_written_to_is_packed_again(void **state)
{
    (void)state;
    char path[1024];
    empty_cache();
    struct answer before = start("bf16", cache);
    snprintf(path, sizeof path, "%s/model.safetensors", model_dir);
    struct stat stat_of;
    assert_int_equal(stat(path, &stat_of), 0);
    flip(path, (long)stat_of.st_size - 1); /* the high byte of the last value: same size */
    struct answer after = start("bf16", cache);
    assert_int_equal(after.origin, MODEL_WEIGHTS_KEPT);
    assert_memory_not_equal(after.fingerprint, before.fingerprint, sizeof after.fingerprint);
    flip(path, (long)stat_of.st_size - 1);
    free(before.logits);
    free(after.logits);
}

static void a_directory_that_is_not_there_is_said_and_does_not_matter(void **state)
{
    (void)state;
    struct answer plain = start("bf16", NULL);
    struct answer answer = start("bf16", "/nowhere/at/all");
    assert_non_null(strstr(answer.trouble, "/nowhere/at/all"));
    assert_same_answer(&answer, &plain, MODEL_WEIGHTS_PACKED);
    free(plain.logits);
}

static int make_directories(void **state)
{
    (void)state;
    char command[2200];
    assert_non_null(mkdtemp(cache));
    assert_non_null(mkdtemp(model_dir));
    snprintf(command, sizeof command, "cp %s/tests/golden/models/qwen3/* %s/ && chmod u+w %s/*",
             MILLRACE_SOURCE_DIR, model_dir, model_dir);
    return system(command);
}

static int remove_directories(void **state)
{
    (void)state;
    char command[256];
    snprintf(command, sizeof command, "rm -rf %s %s", cache, model_dir);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_second_start_reads_what_the_first_packed),
        cmocka_unit_test(experts_are_read_as_they_were_packed),
        cmocka_unit_test(formats_have_files_of_their_own),
        cmocka_unit_test(a_flipped_bit_anywhere_means_packing_again),
        cmocka_unit_test(a_torn_file_means_packing_again),
        cmocka_unit_test(a_checkpoint_that_was_written_to_is_packed_again),
        cmocka_unit_test(a_directory_that_is_not_there_is_said_and_does_not_matter),
    };
    return cmocka_run_group_tests(tests, make_directories, remove_directories);
}
