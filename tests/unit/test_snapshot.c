// SPDX-License-Identifier: Apache-2.0
// What is looked at from outside while it changes: snapshots, the trace ring, the latest warnings. Whoever
// reads gets whole texts and whole spans, nobody waits; to be run under ThreadSanitizer as well.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/log.h"
#include "base/monotime.h"
#include "base/snapshot.h"
#include "base/trace.h"

enum { ROUNDS = 20000, LETTERS = 100 };

static struct snapshot snapshot;
static _Atomic bool writing;

static void *post_texts(void *unused)
{
    (void)unused;
    for (int i = 0; i < ROUNDS; i++) {
        struct bytes text;
        bytes_init(&text, LETTERS + 1);
        for (int l = 0; l < LETTERS; l++)
            bytes_append_char(&text, (char)('a' + i % 26));
        snapshot_post(&snapshot, &text, i);
        bytes_release(&text);
    }
    writing = false;
    return NULL;
}

static void a_reader_gets_whole_texts(void **state)
{
    pthread_t writer;
    struct bytes out;
    int seen = 0;
    (void)state;
    writing = true;
    assert_int_equal(pthread_create(&writer, NULL, post_texts, NULL), 0);
    bytes_init(&out, LETTERS + 1);
    for (bool more = true; more;) {
        more = writing;
        bytes_reset(&out);
        snapshot_read(&snapshot, "", 1, &out);
        for (size_t i = 1; i < out.count_bytes; i++)
            assert_int_equal(out.data[i], out.data[0]);
        assert_true(out.count_bytes == 0 || out.count_bytes == LETTERS);
        seen += out.count_bytes > 0;
    }
    assert_int_equal(out.count_bytes, LETTERS); /* the last one stays */
    assert_int_equal(out.data[0], 'a' + (ROUNDS - 1) % 26);
    assert_true(seen > 0);
    pthread_join(writer, NULL);
    bytes_release(&out);
    snapshot_release(&snapshot);
}

static void a_text_is_wanted_while_somebody_looks(void **state)
{
    struct snapshot own = {0};
    struct bytes text;
    (void)state;
    bytes_init(&text, 16);
    assert_false(snapshot_wanted(&own, 1000));
    snapshot_read(&own, "none", 1000, &text);
    assert_string_equal(text.data, "none");
    assert_true(snapshot_wanted(&own, 1001));
    snapshot_post(&own, &text, 1001);
    assert_false(snapshot_wanted(&own, 1100)); /* fresh */
    assert_true(snapshot_wanted(&own, 2000));
    assert_false(snapshot_wanted(&own, 7000)); /* nobody has asked for long */
    bytes_release(&text);
    snapshot_release(&own);
}

static void *write_spans(void *track)
{
    for (int i = 0; i < ROUNDS; i++)
        trace_span((enum trace_track)(intptr_t)track, "work", monotime_ns(), "amount", (intptr_t)track);
    return NULL;
}

static void spans_are_whole_while_they_are_written(void **state)
{
    pthread_t writers[3];
    struct bytes out;
    (void)state;
    for (intptr_t i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&writers[i], NULL, write_spans, (void *)i), 0);
    bytes_init(&out, (size_t)16 << 20);
    for (int i = 0; i < 4; i++) {
        struct json_document *document;
        bytes_reset(&out);
        trace_render(0, &out);
        assert_int_equal(json_parse(&document, out.data, out.count_bytes, NULL, NULL), STATUS_OK);
        const struct json *events = json_member(json_root(document), "traceEvents");
        for (size_t e = TRACE_TRACKS; e < events->count; e++) {
            const struct json *amount = json_member(json_member(&events->as.items[e], "args"), "amount");
            const struct json *track = json_member(&events->as.items[e], "tid");
            assert_true(amount && track); /* each writer's amount is its track */
        }
        json_close(document);
    }
    for (int i = 0; i < 3; i++)
        pthread_join(writers[i], NULL);
    bytes_reset(&out);
    trace_render(monotime_ns(), &out);
    assert_null(strstr(out.data, "work")); /* nothing has ended since now */
    bytes_release(&out);
}

static void *write_warnings(void *unused)
{
    (void)unused;
    for (int i = 0; i < 500; i++)
        log_warn("test", "warning %d with \"quotes\"", i);
    return NULL;
}

static void the_latest_warnings_are_whole_lines(void **state)
{
    pthread_t writers[2];
    struct bytes out;
    struct json_document *document;
    (void)state;
    int err = dup(STDERR_FILENO), null = open("/dev/null", O_WRONLY);
    dup2(null, STDERR_FILENO);
    bytes_init(&out, 1 << 20);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&writers[i], NULL, write_warnings, NULL), 0);
    for (int i = 0; i < 50; i++) {
        bytes_reset(&out);
        log_recent(&out);
        assert_int_equal(json_parse(&document, out.data, out.count_bytes, NULL, NULL), STATUS_OK);
        json_close(document);
    }
    for (int i = 0; i < 2; i++)
        pthread_join(writers[i], NULL);
    log_error("test", "the last one");
    bytes_reset(&out);
    log_recent(&out);
    assert_non_null(strstr(out.data, "the last one\"}]"));
    dup2(err, STDERR_FILENO);
    close(err);
    close(null);
    bytes_release(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_reader_gets_whole_texts),
        cmocka_unit_test(a_text_is_wanted_while_somebody_looks),
        cmocka_unit_test(spans_are_whole_while_they_are_written),
        cmocka_unit_test(the_latest_warnings_are_whole_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
