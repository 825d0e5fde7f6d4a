// SPDX-License-Identifier: Apache-2.0
// The one table of configuration: section, key, type, default, range, help. It is the parser, the struct,
// --print-config, the environment names (MILLRACE_<SECTION>_<KEY>) and docs/CONFIGURATION.md.
//   X(section, key, TYPE, default, min, max, help)
// TYPE: STRING · ENUM (min is the list "a|b") · INT (int64_t) · NUMBER (double) · BOOL · STRINGS (list) ·
//       SECRET (string, never printed, also <ENV>_FILE) · TOPICS (list of {name, weight}) · MAP (object of
//       strings)
#ifndef CONFIG_CONFIG_SCHEMA_H
#define CONFIG_CONFIG_SCHEMA_H

#define CONFIG_MODEL(X)                                                                                     \
    X(model, path, STRING, "", 0, 0, "Hugging Face model directory")                                        \
    X(model, served_model_names, STRINGS, "", 0, 0,                                                         \
      "names a job may call the model by; empty: the directory's name")                                     \
    X(model, unknown_model, ENUM, "reject", "reject|accept", 0,                                             \
      "a job that names another model: 404, or run it anyway")                                              \
    X(model, weight_format, ENUM, "auto", "auto|f32|bf16|int8|int4", 0, "format the weights are packed to") \
    X(model, kv_format, ENUM, "auto", "auto|f32|bf16|int8", 0, "format of the KV cache")                    \
    X(model, weight_cache, STRING, "", 0, 0,                                                                \
      "directory that keeps packed weights, so that the next start reads them; empty: none")                \
    X(model, kernels, ENUM, "auto", "auto|generic|openblas|avx2|avx512|amx", 0, "kernel set")

#define CONFIG_ENGINE(X)                                                                     \
    X(engine, threads, INT, 0, 0, 1024, "kernel threads; 0: what the cgroup allows")         \
    X(engine, kv_memory_mb, INT, 0, 0, 16777216,                                             \
      "memory of the KV pool; 0: a quarter of what the cgroup leaves, 4096 at most")         \
    X(engine, block_tokens, INT, 16, 16, 256, "tokens per KV block, a multiple of 16")       \
    X(engine, max_sequences, INT, 64, 1, 4096, "sequences running at once")                  \
    X(engine, max_batch_tokens, INT, 512, 16, 65536, "rows of one step")                     \
    X(engine, max_chunk_tokens, INT, 256, 1, 65536, "prefill rows of one sequence per step") \
    X(engine, step_target_ms, INT, 150, 0, 60000,                                            \
      "longest step beside running decodes: shorter chunks; 0: by rows")                     \
    X(engine, speculative_tokens, INT, 8, 0, 64,                                             \
      "tokens guessed from a sequence's own text and verified in one step, at most; 0: off") \
    X(engine, max_waiting, INT, 1024, 1, 1000000, "requests waiting in the engine")          \
    X(engine, max_context_tokens, INT, 0, 0, 16777216, "longest sequence; 0: the model's")   \
    X(engine, kv_backend, ENUM, "block_table", "block_table|contiguous", 0,                  \
      "contiguous: a sequence's blocks are mapped one after another")                        \
    X(engine, prefix_cache, BOOL, true, 0, 0, "reuse KV blocks of equal prefixes")           \
    X(engine, require_fingerprint, STRING, "", 0, 0, "refuse to start with another system fingerprint")

#define CONFIG_KAFKA(X)                                                                                      \
    X(kafka, bootstrap_servers, STRING, "127.0.0.1:19092", 0, 0, "brokers, host:port with commas")           \
    X(kafka, group_id, STRING, "millrace", 0, 0, "consumer group of the workers")                            \
    X(kafka, topics, TOPICS, "millrace.jobs", 0, 0,                                                          \
      "job topics; by weight each has its part of limits.max_inflight_jobs")                                 \
    X(kafka, results_topic, STRING, "millrace.results", 0, 0, "where results go")                            \
    X(kafka, dlt_topic, STRING, "millrace.jobs-dlt", 0, 0,                                                   \
      "jobs that ended limits.max_attempts workers, with error headers; empty: only their answers are kept") \
    X(kafka, status_topic, STRING, "millrace.status", 0, 0,                                                  \
      "totals of batches, compacted; written by submit")                                                     \
    X(kafka, control_topic, STRING, "millrace.control", 0, 0,                                                \
      "cancellations, read by every worker; empty: none")                                                    \
    X(kafka, reply_topics, STRINGS, "", 0, 0, "topics that millrace-reply-topic may name")                   \
    X(kafka, delivery, ENUM, "exactly-once", "at-least-once|exactly-once", 0,                                \
      "delivery guarantee; the embedded broker has only at-least-once")                                      \
    X(kafka, tombstones, ENUM, "ignore", "ignore|cancel", 0,                                                 \
      "a null value on a job topic; cancel: it ends the running job whose custom_id is its key")             \
    X(kafka, session_timeout_ms, INT, 6000, 1000, 300000, "how soon a dead worker's partitions move")        \
    X(kafka, max_poll_interval_ms, INT, 300000, 10000, 86400000, "librdkafka's limit between polls")         \
    X(kafka, static_membership, BOOL, false, 0, 0,                                                           \
      "worker.id is the group.instance.id: a restart within the session timeout moves no partition")         \
    X(kafka, sasl_password, SECRET, "", 0, 0, "librdkafka's sasl.password, which may so come from a file")   \
    X(kafka, properties, MAP, "", 0, 0, "any librdkafka property that Millrace does not own")

#define CONFIG_RESULTS(X)                                                                                  \
    X(results, key, ENUM, "custom_id", "custom_id|job_key", 0, "key of a result record")                   \
    X(results, max_bytes, INT, 10485760, 1024, 1073741824, "larger results become result_too_large lines") \
    X(results, flush_ms, INT, 100, 1, 60000,                                                               \
      "longest wait of a finished result before its offset is committed")

#define CONFIG_LIMITS(X)                                                                             \
    X(limits, default_max_tokens, INT, 512, 1, 1048576, "max_tokens of a chat job that names none")  \
    X(limits, max_job_bytes, INT, 8388608, 1024, 1073741824, "bytes of one job")                     \
    X(limits, max_choices, INT, 128, 1, 4096, "n of one job")                                        \
    X(limits, max_attempts, INT, 3, 1, 100,                                                          \
      "workers that may end while they run a job before it is answered job_poisoned")                \
    X(limits, max_inflight_jobs, INT, 512, 1, 1000000, "jobs taken from Kafka and not answered yet") \
    X(limits, max_inflight_per_tenant, INT, 0, 0, 1000000,                                           \
      "jobs of one tenant (header millrace-tenant, worker.trust_headers) that run at once; 0: no limit")     \
    X(limits, max_partition_window, INT, 16384, 16, 1000000,                                         \
      "offsets between the lowest open job of a partition and the newest taken")

#define CONFIG_STREAM(X)                                                                                     \
    X(stream, enabled, BOOL, true, 0, 0, "publish tokens on ZeroMQ")                                         \
    X(stream, bind, STRING, "tcp://127.0.0.1:5557", 0, 0, "XPUB address for live tokens; empty: none")       \
    X(stream, replay_bind, STRING, "tcp://127.0.0.1:5558", 0, 0, "ROUTER address for replay; empty: none")   \
    X(stream, proxy, STRING, "", 0, 0, "of a worker: tcp://HOST:5559 of the stream proxy to publish to")     \
    X(stream, proxy_replay, STRING, "", 0, 0, "of a worker: tcp://HOST:5560 of the stream proxy for replay") \
    X(stream, curve_secret_key, SECRET, "", 0, 0,                                                            \
      "encrypts what this process binds (CURVE, 40 characters Z85)")                                         \
    X(stream, curve_server_key, SECRET, "", 0, 0, "what a reader must know: the public half of that key")    \
    X(stream, insecure, BOOL, false, 0, 0, "allow a bind beyond loopback without a CURVE key")               \
    X(stream, high_water_mark, INT, 100000, 100, 10000000, "chunks queued per subscriber before drops")      \
    X(stream, replay_bytes, INT, 67108864, 65536, 17179869184, "memory of the replay ring")

#define CONFIG_PROXY(X)                                                                      \
    X(proxy, workers_bind, STRING, "tcp://127.0.0.1:5559", 0, 0, "where workers publish to") \
    X(proxy, workers_replay_bind, STRING, "tcp://127.0.0.1:5560", 0, 0,                      \
      "where workers wait for replay requests")

#define CONFIG_KVTIER(X)                                                                                 \
    X(kvtier, enabled, BOOL, false, 0, 0, "keep KV blocks in Redis")                                     \
    X(kvtier, address, STRING, "redis://127.0.0.1:6379/0", 0, 0,                                         \
      "redis://host:port/db or unix:///path; several, separated by commas, share the blocks")            \
    X(kvtier, cluster, BOOL, false, 0, 0, "the addresses are entries of one Redis Cluster")              \
    X(kvtier, user, STRING, "", 0, 0, "ACL user")                                                        \
    X(kvtier, password, SECRET, "", 0, 0, "password")                                                    \
    X(kvtier, ttl_s, INT, 86400, 60, 31536000, "expiry of a stored block")                               \
    X(kvtier, queue_mb, INT, 64, 1, 65536, "blocks waiting to be written; more are dropped and counted") \
    X(kvtier, host_mb, INT, 0, 0, 1048576,                                                               \
      "host memory for blocks that the engine's pool evicts; works without Redis too; 0: none")          \
    X(kvtier, singleflight, BOOL, true, 0, 0,                                                            \
      "of workers that miss the same prefix at once one computes it, the others wait for it in Redis")   \
    X(kvtier, salt, SECRET, "", 0, 0, "isolates this worker group's blocks")

#define CONFIG_KV_EVENTS(X)                                                                                 \
    X(kv_events, bind, STRING, "", 0, 0,                                                                    \
      "PUB address that tells routers what is in the KV cache, in vLLM's format; empty: none")              \
    X(kv_events, replay_bind, STRING, "", 0, 0, "ROUTER address for batches that were missed; empty: none") \
    X(kv_events, topic, STRING, "", 0, 0, "first frame, for example kv@WORKER@MODEL")                       \
    X(kv_events, replay_bytes, INT, 67108864, 65536, 17179869184, "batches kept for replay")

#define CONFIG_CATALOGS(X)                   \
    X(catalogs, directory, STRING, "", 0, 0, \
      "directory of NAME@VERSION.jsonl files that jobs may name; empty: none")

#define CONFIG_HTTP(X)                                                    \
    X(http, enabled, BOOL, true, 0, 0, "serve /metrics, /livez, /readyz") \
    X(http, bind, STRING, "127.0.0.1", 0, 0, "address")                   \
    X(http, port, INT, 9464, 0, 65535, "port; 0: any free one, logged")

#define CONFIG_STATUS_PAGE(X)                                                     \
    X(status_page, enabled, BOOL, true, 0, 0, "serve the page at / and /debug/*") \
    X(status_page, public, BOOL, false, 0, 0, "answer them beyond loopback too")  \
    X(status_page, show_text, BOOL, false, 0, 0, "show the end of each running answer: it is users' text")

#define CONFIG_WORKER(X)                                                                      \
    X(worker, id, STRING, "", 0, 0, "name of this worker; empty: host and process id")        \
    X(worker, drain_grace_ms, INT, 60000, 0, 86400000, "time for running jobs after SIGTERM") \
    X(worker, stuck_ms, INT, 120000, 1000, 86400000,                                          \
      "a step of the engine that takes longer ends the worker with exit code 75")             \
    X(worker, trust_headers, BOOL, false, 0, 0, "believe millrace-tenant headers")            \
    X(worker, log_level, ENUM, "info", "error|warn|info|debug", 0, "least severe lines to log")

/* clang-format off: one section a line */
#define CONFIG_SECTIONS(S)             \
    S(model, CONFIG_MODEL)             \
    S(engine, CONFIG_ENGINE)           \
    S(kafka, CONFIG_KAFKA)             \
    S(results, CONFIG_RESULTS)         \
    S(limits, CONFIG_LIMITS)           \
    S(stream, CONFIG_STREAM)           \
    S(proxy, CONFIG_PROXY)             \
    S(kvtier, CONFIG_KVTIER)           \
    S(kv_events, CONFIG_KV_EVENTS)     \
    S(catalogs, CONFIG_CATALOGS)       \
    S(http, CONFIG_HTTP)               \
    S(status_page, CONFIG_STATUS_PAGE) \
    S(worker, CONFIG_WORKER)
/* clang-format on */

#endif
