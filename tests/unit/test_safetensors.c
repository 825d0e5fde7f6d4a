// SPDX-License-Identifier: Apache-2.0
// Checkpoint files: what is read from good ones, and the sentence for each way in which a file can lie.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/model/safetensors.h"

enum { FILE_BYTES = 4096 };

/* Header length, header, then data_bytes bytes 0, 1, 2, … */
static size_t build(uint8_t file[FILE_BYTES], const char *header, size_t data_bytes)
{
    uint64_t header_bytes = strlen(header);
    assert_true(8 + header_bytes + data_bytes <= FILE_BYTES);
    for (int i = 0; i < 8; i++)
        file[i] = (uint8_t)(header_bytes >> (8 * i));
    memcpy(file + 8, header, header_bytes);
    for (size_t i = 0; i < data_bytes; i++)
        file[8 + header_bytes + i] = (uint8_t)i;
    return 8 + header_bytes + data_bytes;
}

static void refused(enum status status, const char *part, const char *header, size_t data_bytes)
{
    uint8_t file[FILE_BYTES];
    struct safetensors *safetensors = NULL;
    struct error err = {0};
    size_t bytes = build(file, header, data_bytes);
    assert_int_equal(safetensors_open_memory(&safetensors, file, bytes, &err), status);
    assert_null(safetensors);
    if (!strstr(err.text, part))
        fail_msg("\"%s\" does not say \"%s\"", err.text, part);
}

static void tensors_are_found_with_shape_type_and_bytes(void **state)
{
    (void)state;
    uint8_t file[FILE_BYTES];
    struct safetensors *safetensors;
    size_t bytes = build(file,
                         "{\"__metadata__\":{\"format\":\"pt\"},"
                         "\"b\":{\"dtype\":\"BF16\",\"shape\":[3],\"data_offsets\":[16,22]},"
                         "\"a\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,16]},"
                         "\"ids\":{\"dtype\":\"I64\",\"shape\":[0,5],\"data_offsets\":[22,22]}}   ",
                         22);
    assert_int_equal(safetensors_open_memory(&safetensors, file, bytes, NULL), STATUS_OK);
    assert_int_equal(safetensors_count(safetensors), 3);
    const struct tensor *b = safetensors_find(safetensors, "b");
    assert_true(b && b->loadable && b->dtype == DTYPE_BF16 && b->rank == 1 && b->shape[0] == 3 &&
                b->bytes == 6);
    assert_int_equal(b->data[0], 16);
    assert_string_equal(safetensors_tensor(safetensors, 0)->name, "a");
    assert_false(safetensors_find(safetensors, "ids")->loadable);
    assert_null(safetensors_find(safetensors, "__metadata__"));
    safetensors_close(safetensors);
}

#define TENSOR(name, dtype, shape, begin, end) \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" begin "," end "]}"

static void lies_about_the_data_are_named(void **state)
{
    (void)state;
    refused(STATUS_INVALID, "overlaps",
            "{" TENSOR("a", "F32", "[2]", "0", "8") "," TENSOR("b", "F32", "[2]", "4", "12") "}", 12);
    refused(STATUS_INVALID, "hole",
            "{" TENSOR("a", "F32", "[1]", "0", "4") "," TENSOR("b", "F32", "[1]", "8", "12") "}", 12);
    refused(STATUS_INVALID, "no tensor", "{" TENSOR("a", "F32", "[1]", "0", "4") "}", 12);
    refused(STATUS_INVALID, "outside the file", "{" TENSOR("a", "F32", "[4]", "0", "16") "}", 8);
    refused(STATUS_INVALID, "outside the file", "{" TENSOR("a", "F32", "[1]", "4", "0") "}", 4);
    refused(STATUS_INVALID, "outside the file", "{" TENSOR("a", "F32", "[1]", "-4", "0") "}", 4);
    refused(STATUS_INVALID, "shape needs 12", "{" TENSOR("a", "F32", "[3]", "0", "16") "}", 16);
    refused(STATUS_INVALID, "impossible shape",
            "{" TENSOR("a", "F64", "[4294967296,4294967296,4294967296]", "0", "0") "}", 0);
    refused(STATUS_INVALID, "impossible shape", "{" TENSOR("a", "F32", "[-1]", "0", "4") "}", 4);
    refused(STATUS_INVALID, "at most 8 dim", "{" TENSOR("a", "U8", "[1,1,1,1,1,1,1,1,1]", "0", "1") "}", 1);
    refused(STATUS_INVALID, "data_offsets", "{\"a\":{\"dtype\":\"U8\",\"shape\":[1]}}", 1);
    refused(STATUS_INVALID, "no dtype", "{\"a\":{\"shape\":[1],\"data_offsets\":[0,1]}}", 1);
    refused(STATUS_UNSUPPORTED, "dtype F4", "{" TENSOR("a", "F4", "[2]", "0", "1") "}", 1);
    refused(STATUS_INVALID, "not a JSON object", "[]", 0);
    refused(STATUS_INVALID, "twice",
            "{" TENSOR("a", "U8", "[1]", "0", "1") "," TENSOR("a", "U8", "[1]", "0", "1") "}", 1);
}

static void the_header_must_fit_the_file(void **state)
{
    (void)state;
    struct safetensors *safetensors;
    struct error err;
    assert_int_equal(safetensors_open_memory(&safetensors, "\2\0\0\0\0\0\0", 7, &err), STATUS_INVALID);
    assert_non_null(strstr(err.text, "too short"));
    assert_int_equal(safetensors_open_memory(&safetensors, "\3\0\0\0\0\0\0\0{}", 10, &err), STATUS_INVALID);
    assert_non_null(strstr(err.text, "does not fit"));
    assert_int_equal(safetensors_open_memory(&safetensors, "\0\0\0\0\0\0\0\x80{}", 10, &err), STATUS_INVALID);
}

static char dir[] = "/tmp/millrace-test-safetensors-XXXXXX";

static void write_file(const char *name, const void *data, size_t bytes)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, bytes, file), bytes);
    assert_int_equal(fclose(file), 0);
}

static void remove_file(const char *name)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    unlink(path);
}

static void index_refused(enum status status, const char *part, const char *index)
{
    struct safetensors *safetensors = NULL;
    struct error err = {0};
    write_file("model.safetensors.index.json", index, strlen(index));
    assert_int_equal(safetensors_open(&safetensors, dir, &err), status);
    assert_null(safetensors);
    if (!strstr(err.text, part))
        fail_msg("\"%s\" does not say \"%s\"", err.text, part);
}

static void shards_are_joined_by_their_index(void **state)
{
    (void)state;
    uint8_t file[FILE_BYTES];
    struct safetensors *safetensors;
    struct error err;
    assert_non_null(mkdtemp(dir));
    assert_int_equal(safetensors_open(&safetensors, dir, &err), STATUS_NOT_FOUND);
    assert_non_null(strstr(err.text, "neither model.safetensors nor"));
    write_file("one.safetensors", file, build(file, "{" TENSOR("b", "F32", "[1]", "0", "4") "}", 4));
    write_file("two.safetensors", file, build(file, "{" TENSOR("a", "F32", "[2]", "0", "8") "}", 8));
    const char *index = "{\"weight_map\":{\"b\":\"one.safetensors\",\"a\":\"two.safetensors\"}}";
    write_file("model.safetensors.index.json", index, strlen(index));
    assert_int_equal(safetensors_open(&safetensors, dir, &err), STATUS_OK);
    assert_int_equal(safetensors_find(safetensors, "a")->shape[0], 2);
    assert_int_equal(safetensors_find(safetensors, "b")->shape[0], 1);
    safetensors_close(safetensors);
    index_refused(STATUS_INVALID, "plain file name", "{\"weight_map\":{\"b\":\"../one.safetensors\"}}");
    index_refused(STATUS_INVALID, "plain file name", "{\"weight_map\":{\"b\":7}}");
    index_refused(STATUS_INVALID, "not in one.safetensors", "{\"weight_map\":{\"c\":\"one.safetensors\"}}");
    index_refused(STATUS_NOT_FOUND, "three.safetensors: cannot be opened",
                  "{\"weight_map\":{\"b\":\"three.safetensors\"}}");
    index_refused(STATUS_INVALID, "no weight_map", "{}");
    write_file("model.safetensors", "x", 1); /* found first, and named in the sentence */
    assert_int_equal(safetensors_open(&safetensors, dir, &err), STATUS_INVALID);
    assert_string_equal(err.text, "model.safetensors: too short to be a safetensors file");
    const char *const names[] = {"model.safetensors", "model.safetensors.index.json", "one.safetensors",
                                 "two.safetensors"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        remove_file(names[i]);
    assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors_are_found_with_shape_type_and_bytes),
        cmocka_unit_test(lies_about_the_data_are_named),
        cmocka_unit_test(the_header_must_fit_the_file),
        cmocka_unit_test(shards_are_joined_by_their_index),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
