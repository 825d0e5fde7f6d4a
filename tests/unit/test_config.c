// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/config.h"
#include "config/config_limits.h"

static char directory[64];

static const char *write_file(const char *name, const char *text)
{
    static char path[160];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
    fclose(file);
    return path;
}

static enum status open_text(const struct config **out, const char *text, struct error *err)
{
    struct config_source source = {.path = write_file("worker.jsonc", text)};
    return config_open(out, &source, err);
}

static const struct config *open_ok(const char *text)
{
    const struct config *config;
    struct error err = {0};
    if (open_text(&config, text, &err) != STATUS_OK)
        fail_msg("%s", err.text);
    return config;
}

/* The file is refused with STATUS_CONFIG and one sentence that contains `words`. */
static void expect_refused(const char *text, const char *words)
{
    const struct config *config;
    struct error err = {0};
    if (open_text(&config, text, &err) != STATUS_CONFIG)
        fail_msg("accepted: %s", text);
    assert_null(config);
    if (!strstr(err.text, words) || strchr(err.text, '\n'))
        fail_msg("\"%s\" does not say \"%s\"", err.text, words);
}

static void expect_flag_refused(const char *flag, const char *words)
{
    const struct config *config;
    struct error err = {0};
    struct config_source source = {.flags = &flag, .flag_count = 1};
    assert_int_equal(config_open(&config, &source, &err), STATUS_CONFIG);
    if (!strstr(err.text, words))
        fail_msg("\"%s\" does not say \"%s\"", err.text, words);
}

static void defaults_without_any_source(void **state)
{
    (void)state;
    const struct config *config;
    struct config_source source = {0};
    assert_int_equal(config_open(&config, &source, NULL), STATUS_OK);
    assert_string_equal(config->kafka.bootstrap_servers, "127.0.0.1:19092");
    assert_int_equal(config->kafka.topics.count, 1);
    assert_string_equal(config->kafka.topics.items[0].name, "millrace.jobs");
    assert_int_equal(config->kafka.topics.items[0].weight, 1);
    assert_int_equal(config->kafka.properties.count, 0);
    assert_int_equal(config->model.served_model_names.count, 0);
    assert_true(config->engine.prefix_cache);
    assert_int_equal(config->http.port, 9464);
    config_close(config);
}

static void the_reference_file_is_the_defaults(void **state)
{
    (void)state;
    const struct config *reference, *defaults;
    struct bytes a, b;
    struct error err = {0};
    struct config_source file = {.path = MILLRACE_SOURCE_DIR "/config/worker.jsonc"}, none = {0};
    bytes_init(&a, 1 << 20);
    bytes_init(&b, 1 << 20);
    if (config_open(&reference, &file, &err) != STATUS_OK)
        fail_msg("%s", err.text);
    assert_int_equal(config_open(&defaults, &none, NULL), STATUS_OK);
    assert_int_equal(config_print(reference, &a), STATUS_OK);
    assert_int_equal(config_print(defaults, &b), STATUS_OK);
    assert_null(strstr(a.data, "(default)")); /* the reference names every key … */
    for (char *at; (at = strstr(b.data, "(default)"));)
        memcpy(at, "(file)\n\n\n", 9);
    for (char *from = a.data, *to = b.data; *from; from++, to++) { /* … with its default */
        if (*from == '\n')
            to += 3;
        assert_int_equal(*from, *to);
    }
    bytes_release(&a);
    bytes_release(&b);
    config_close(reference);
    config_close(defaults);
}

static void flag_over_environment_over_file_over_default(void **state)
{
    (void)state;
    const char *path = write_file("p.jsonc", "{\"http\": {\"port\": 1, \"bind\": \"::1\"}, // c\n"
                                             " \"kafka\": {\"group_id\": \"a // not a comment\"}}");
    const char *flags[] = {"http.port=3"};
    struct config_source source = {.path = path, .flags = flags, .flag_count = 1};
    const struct config *config;
    struct bytes text;
    struct error err = {0};
    setenv("MILLRACE_HTTP_PORT", "2", 1);
    setenv("MILLRACE_HTTP_BIND", "0.0.0.0", 1);
    setenv("MILLRACE_SHARED", "/x", 1); /* not ours: no section is called "shared" */
    if (config_open(&config, &source, &err) != STATUS_OK)
        fail_msg("%s", err.text);
    assert_int_equal(config->http.port, 3);
    assert_string_equal(config->http.bind, "0.0.0.0");
    assert_string_equal(config->kafka.group_id, "a // not a comment");
    bytes_init(&text, 1 << 20);
    assert_int_equal(config_print(config, &text), STATUS_OK);
    assert_non_null(strstr(text.data, "http.port = 3   (flag)\n"));
    assert_non_null(strstr(text.data, "http.bind = \"0.0.0.0\"   (environment)\n"));
    assert_non_null(strstr(text.data, "kafka.group_id = \"a // not a comment\"   (file)\n"));
    assert_non_null(strstr(text.data, "http.enabled = true   (default)\n"));
    bytes_release(&text);
    config_close(config);
    source.ignore_environment = true;
    assert_int_equal(config_open(&config, &source, NULL), STATUS_OK);
    assert_string_equal(config->http.bind, "::1");
    config_close(config);
    unsetenv("MILLRACE_HTTP_PORT");
    unsetenv("MILLRACE_HTTP_BIND");
}

static void every_type_reads_from_the_file(void **state)
{
    (void)state;
    const struct config *config =
        open_ok("/* all */ {\"model\": {\"path\": \"m\", \"served_model_names\": [\"a\", \"b\"], "
                "\"unknown_model\": \"accept\"}, \"engine\": {\"prefix_cache\": false, \"threads\": 3},"
                "\"kafka\": {\"topics\": [{\"name\": \"hot\", \"weight\": 3}, \"cold\"],"
                "\"properties\": {\"sasl.mechanism\": \"PLAIN\"}}}");
    assert_string_equal(config->model.served_model_names.items[1], "b");
    assert_string_equal(config->model.unknown_model, "accept");
    assert_false(config->engine.prefix_cache);
    assert_int_equal(config->kafka.topics.count, 2);
    assert_int_equal(config->kafka.topics.items[0].weight, 3);
    assert_string_equal(config->kafka.topics.items[1].name, "cold");
    assert_string_equal(config->kafka.properties.items[0].key, "sasl.mechanism");
    assert_string_equal(config->kafka.properties.items[0].value, "PLAIN");
    config_close(config);
}

static void lists_read_from_the_environment(void **state)
{
    (void)state;
    struct config_source source = {0};
    const struct config *config;
    struct error err = {0};
    setenv("MILLRACE_KAFKA_TOPICS", "hot:3, cold", 1);
    setenv("MILLRACE_KAFKA_PROPERTIES", "{\"ssl.cipher.suites\": \"a,b\"}", 1);
    setenv("MILLRACE_KAFKA_REPLY_TOPICS", "r1,r2", 1);
    if (config_open(&config, &source, &err) != STATUS_OK)
        fail_msg("%s", err.text);
    assert_int_equal(config->kafka.topics.count, 2);
    assert_string_equal(config->kafka.topics.items[0].name, "hot");
    assert_int_equal(config->kafka.topics.items[0].weight, 3);
    assert_string_equal(config->kafka.topics.items[1].name, "cold");
    assert_string_equal(config->kafka.properties.items[0].value, "a,b");
    assert_string_equal(config->kafka.reply_topics.items[1], "r2");
    config_close(config);
    unsetenv("MILLRACE_KAFKA_TOPICS");
    unsetenv("MILLRACE_KAFKA_PROPERTIES");
    unsetenv("MILLRACE_KAFKA_REPLY_TOPICS");
}

static void secrets_come_from_files_and_are_never_printed(void **state)
{
    (void)state;
    const char *flags[] = {"kafka.properties=sasl.password=hidden-two,client.id=shown"};
    struct config_source source = {.flags = flags, .flag_count = 1};
    const struct config *config;
    struct bytes text;
    setenv("MILLRACE_KVTIER_PASSWORD_FILE", write_file("secret", "hidden-one\n"), 1);
    assert_int_equal(config_open(&config, &source, NULL), STATUS_OK);
    assert_string_equal(config->kvtier.password, "hidden-one");
    bytes_init(&text, 1 << 20);
    assert_int_equal(config_print(config, &text), STATUS_OK);
    assert_null(strstr(text.data, "hidden"));
    assert_non_null(strstr(text.data, "kvtier.password = \"***\"   (environment)"));
    assert_non_null(strstr(text.data, "\"client.id\": \"shown\""));
    bytes_release(&text);
    config_close(config);
    setenv("MILLRACE_KVTIER_PASSWORD", "both", 1);
    assert_int_equal(config_open(&config, &source, NULL), STATUS_CONFIG);
    unsetenv("MILLRACE_KVTIER_PASSWORD");
    unsetenv("MILLRACE_KVTIER_PASSWORD_FILE");
}

static void unknown_keys_name_the_nearest(void **state)
{
    (void)state;
    const struct config *config;
    struct config_source source = {0};
    struct error err = {0};
    expect_refused("{\"kafka\": {\"grup_id\": \"x\"}}", "did you mean kafka.group_id?");
    expect_refused("{\"kafak\": {}}", "did you mean \"kafka\"?");
    expect_refused("{\"engine\": {\"group_id\": \"x\"}}", "did you mean kafka.group_id?");
    expect_refused("{\"engine\": {\"qqqqqqqqqqqqqqqqqqqqqqqqqqqqqq\": 1}}", "config/worker.jsonc lists");
    expect_flag_refused("engine.thread=2", "did you mean engine.threads?");
    setenv("MILLRACE_ENGINE_TREADS", "2", 1);
    assert_int_equal(config_open(&config, &source, &err), STATUS_CONFIG);
    assert_non_null(strstr(err.text, "did you mean engine.threads?"));
    unsetenv("MILLRACE_ENGINE_TREADS");
}

static void wrong_values_name_the_rule(void **state)
{
    (void)state;
    expect_refused("{\"http\": {\"port\": 65536}}", "http.port");
    expect_refused("{\"http\": {\"port\": -1}}", "between 0 and 65535, got -1");
    expect_refused("{\"http\": {\"port\": \"80\"}}", "must be an integer");
    expect_refused("{\"http\": {\"port\": 80.5}}", "must be an integer");
    expect_refused("{\"http\": {\"enabled\": 1}}", "true or false");
    expect_refused("{\"http\": {\"bind\": null}}", "must be a string");
    expect_refused("{\"model\": {\"unknown_model\": \"rejec\"}}", "one of reject|accept, got \"rejec\"");
    expect_refused("{\"engine\": {\"block_tokens\": 24}}", "multiple of 16");
    expect_refused("{\"kafka\": {\"topics\": []}}", "at least one topic");
    expect_refused("{\"kafka\": {\"topics\": [\"a b\"]}}", "topic names");
    expect_refused("{\"kafka\": {\"topics\": [{\"name\": \"a\", \"weight\": 0}]}}", "weights");
    expect_refused("{\"kafka\": {\"topics\": [{\"name\": \"a\", \"wait\": 1}]}}", "weight");
    expect_refused("{\"kafka\": {\"properties\": {\"retries\": 3}}}", "strings");
    expect_flag_refused("http.port=80x", "an integer");
    expect_flag_refused("http.port=99999999999999999999", "an integer");
    expect_flag_refused("http.enabled=yes", "true or false");
    expect_flag_refused("http.port", "needs a value");
}

static void properties_that_millrace_owns_are_refused_by_name(void **state)
{
    (void)state;
    static const char *const owned[] = {"enable.auto.commit", "group.id",
                                        "bootstrap.servers",  "transactional.id",
                                        "isolation.level",    "partition.assignment.strategy"};
    for (size_t i = 0; i < sizeof owned / sizeof owned[0]; i++) {
        char text[200];
        snprintf(text, sizeof text, "{\"kafka\": {\"properties\": {\"%s\": \"x\"}}}", owned[i]);
        expect_refused(text, owned[i]);
    }
}

static void broken_files_are_one_sentence(void **state)
{
    (void)state;
    struct config_source missing = {.path = "/nonexistent/worker.jsonc"};
    const struct config *config;
    struct error err = {0};
    expect_refused("", "not valid JSON");
    expect_refused("[]", "one JSON object");
    expect_refused("{\"http\": 1}", "\"http\" must be an object");
    expect_refused("{\"http\": {}} x", "not valid JSON");
    expect_refused("{\"http\": {}, \"http\": {}}", "appears twice");
    expect_refused("{\"http\": {\"bind\": \"a\\u0000b\"}}", "NUL");
    expect_refused("{ /* never closed", "not valid JSON");
    assert_int_equal(config_open(&config, &missing, &err), STATUS_NOT_FOUND);
    assert_non_null(strstr(err.text, "/nonexistent/worker.jsonc"));
}

static void comments_go_and_positions_stay(void **state)
{
    (void)state;
    char text[] = "{\"a\": \"// \\\" /* x */\", // y\n /* z\n */ \"b\": 1}";
    config_strip_comments(text, strlen(text));
    assert_string_equal(text, "{\"a\": \"// \\\" /* x */\",     \n     \n    \"b\": 1}");
}

static void make_group(const char *path, const char *file, const char *value)
{
    char command[400];
    snprintf(command, sizeof command, "mkdir -p '%s/%s' && printf '%s\\n' > '%s/%s/%s'", directory, path,
             value, directory, path, file);
    assert_int_equal(system(command), 0);
}

static void limits_of_cgroup_v2_are_the_least_on_the_path(void **state)
{
    (void)state;
    make_group("proc/self", "cgroup", "0::/a/b");
    make_group("sys/fs/cgroup/a/b", "cpu.max", "max 100000");
    make_group("sys/fs/cgroup/a/b", "memory.max", "max");
    assert_int_equal(config_limits_cgroup_cpus(directory), 0);
    assert_true(config_limits_cgroup_memory_bytes(directory) == 0);
    make_group("sys/fs/cgroup/a", "cpu.max", "150000 100000");
    make_group("sys/fs/cgroup/a", "memory.max", "1073741824");
    assert_int_equal(config_limits_cgroup_cpus(directory), 2);
    assert_true(config_limits_cgroup_memory_bytes(directory) == 1073741824);
    make_group("sys/fs/cgroup/a/b", "cpu.max", "100000 100000");
    assert_int_equal(config_limits_cgroup_cpus(directory), 1);
}

static void limits_of_cgroup_v1_are_found(void **state)
{
    (void)state;
    make_group("proc/self", "cgroup", "4:memory:/d/x\\n3:cpu,cpuacct:/d/x");
    make_group("sys/fs/cgroup/cpu", "cpu.cfs_quota_us", "250000"); /* as seen from inside a container */
    make_group("sys/fs/cgroup/cpu", "cpu.cfs_period_us", "100000");
    make_group("sys/fs/cgroup/memory", "memory.limit_in_bytes", "9223372036854771712");
    assert_int_equal(config_limits_cgroup_cpus(directory), 3);
    assert_true(config_limits_cgroup_memory_bytes(directory) == 0);
    make_group("sys/fs/cgroup/memory/d/x", "memory.limit_in_bytes", "4096");
    assert_true(config_limits_cgroup_memory_bytes(directory) == 4096);
    assert_true(config_cpu_limit() >= 1 && config_memory_limit_bytes() > 0);
}

static int make_directory(void **state)
{
    (void)state;
    snprintf(directory, sizeof directory, "/tmp/millrace-config-XXXXXX");
    return mkdtemp(directory) ? 0 : -1;
}

static int remove_directory(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", directory);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_without_any_source),
        cmocka_unit_test(the_reference_file_is_the_defaults),
        cmocka_unit_test(flag_over_environment_over_file_over_default),
        cmocka_unit_test(every_type_reads_from_the_file),
        cmocka_unit_test(lists_read_from_the_environment),
        cmocka_unit_test(secrets_come_from_files_and_are_never_printed),
        cmocka_unit_test(unknown_keys_name_the_nearest),
        cmocka_unit_test(wrong_values_name_the_rule),
        cmocka_unit_test(properties_that_millrace_owns_are_refused_by_name),
        cmocka_unit_test(broken_files_are_one_sentence),
        cmocka_unit_test(comments_go_and_positions_stay),
        cmocka_unit_test(limits_of_cgroup_v2_are_the_least_on_the_path),
        cmocka_unit_test(limits_of_cgroup_v1_are_found),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
