// SPDX-License-Identifier: Apache-2.0
// Any bytes as a configuration file: a config or a sentence, and what is printed has no secret.
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "config/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *write_input(const uint8_t *data, size_t size)
{
    static char path[64];
    snprintf(path, sizeof path, "/tmp/millrace-fuzz-config-%d", (int)getpid());
    FILE *file = fopen(path, "wb");
    CHECK(file && fwrite(data, 1, size, file) == size);
    fclose(file);
    return path;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct config *config;
    struct error err = {0};
    struct config_source source = {.path = write_input(data, size), .ignore_environment = true};
    if (config_open(&config, &source, &err) == STATUS_OK) {
        struct bytes text;
        bytes_init(&text, (size_t)16 << 20);
        CHECK(config_print(config, &text) == STATUS_OK);
        CHECK(config->kvtier.password[0] == '\0' || strstr(text.data, "kvtier.password = \"***\""));
        CHECK(config->http.port >= 0 && config->http.port <= 65535 && config->kafka.topics.count > 0);
        bytes_release(&text);
        config_close(config);
    } else {
        CHECK(err.text[0] && !config);
    }
    unlink(source.path);
    return 0;
}
