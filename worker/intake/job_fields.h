// SPDX-License-Identifier: Apache-2.0
// The one table of body fields, with vLLM's names and ranges: it is the struct that the parser fills, the
// range check, the warnings' vocabulary and the three lists of docs/formats/fields.md.
//   X(name, jobs, class, type, low, high, help)
// jobs:  CHAT · COMPLETION · BOTH · SCORE · ALL          class: READ · NO_EFFECT (accepted) · UNSUPPORTED (a
// 400 names it) type:  NUMBER [low, high] · ABOVE (low, high] · INTEGER [low, high] · FLAG · TEXT · NODE (its
// own reader) An absent field and `null` are the same. Sources: vLLM's SamplingParams and OpenAI protocol
// classes.
#ifndef WORKER_INTAKE_JOB_FIELDS_H
#define WORKER_INTAKE_JOB_FIELDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/json.h"
#include "engine/sampling.h"

#define JOB_NO_LIMIT 3e38 /* as a bound: none, but the value must fit a float */
#define JOB_MAX_TOKENS 2147483647

// clang-format off
#define JOB_FIELDS_PROMPT(X)                                                                                   \
    X(model, ALL, READ, TEXT, 0, 0, "name of the model; absent: the first served name")                       \
    X(messages, CHAT, READ, NODE, 0, 0, "list of {role, content}; content is a string or a list of text parts") \
    X(prompt, COMPLETION, READ, NODE, 0, 0, "string, list of strings, list of token ids, or list of those")    \
    X(add_special_tokens, ALL, READ, FLAG, 0, 0, "add the tokenizer's own (BOS …); default true for completions, false for chat") \
    X(truncate_prompt_tokens, BOTH, READ, INTEGER, -1, JOB_MAX_TOKENS, "keep this many prompt tokens; -1: what the context allows") \
    X(truncation_side, BOTH, READ, TEXT, 0, 0, "left (default: keep the end) or right")                        \
    X(chat_template_kwargs, CHAT, READ, NODE, 0, 0, "object of extra names for the chat template")             \
    X(add_generation_prompt, CHAT, READ, FLAG, 0, 0, "open the assistant's turn; default true")                \
    X(continue_final_message, CHAT, READ, FLAG, 0, 0, "go on with the last message instead of opening a turn") \
    X(tools, CHAT, READ, NODE, 0, 0, "list handed to the chat template")                                       \
    X(tool_choice, CHAT, READ, NODE, 0, 0, "only \"none\" or \"auto\"; the answer is plain text")              \
    X(documents, CHAT, READ, NODE, 0, 0, "list handed to the chat template")                                   \
    X(cache_salt, ALL, READ, TEXT, 0, 0, "isolates this job's cached prefix blocks")

#define JOB_FIELDS_SCORE(X)                                                                                    \
    X(query, SCORE, READ, NODE, 0, 0, "string or list of token ids that each item follows")                    \
    X(items, SCORE, READ, NODE, 0, 0, "list of strings or of lists of token ids; or one string")               \
    X(label_token_ids, SCORE, READ, NODE, 0, 0, "at most 128 token ids: their probabilities behind query and item") \
    X(apply_softmax, SCORE, READ, FLAG, 0, 0, "with labels: probabilities among the labels alone; default false") \
    X(item_first, SCORE, READ, FLAG, 0, 0, "with labels: the item comes before the query; default false")      \
    X(normalize, SCORE, READ, TEXT, 0, 0, "without labels: sum (default) or mean of the log-probabilities of an item's tokens")

#define JOB_FIELDS_SAMPLING(X)                                                                                 \
    X(max_tokens, BOTH, READ, INTEGER, 0, JOB_MAX_TOKENS, "generated tokens per choice; default 16 for completions, limits.default_max_tokens for chat; 0 only with echo") \
    X(max_completion_tokens, BOTH, READ, INTEGER, 0, JOB_MAX_TOKENS, "the newer name of max_tokens; wins over it") \
    X(min_tokens, BOTH, READ, INTEGER, 0, JOB_MAX_TOKENS, "no end of sequence before this many tokens; default 0") \
    X(temperature, BOTH, READ, NUMBER, 0, 2, "0: greedy; default generation_config.json's, else 1")            \
    X(top_p, BOTH, READ, ABOVE, 0, 1, "default generation_config.json's, else 1")                              \
    X(top_k, BOTH, READ, INTEGER, -1, JOB_MAX_TOKENS, "0 or -1: off; default generation_config.json's, else 0") \
    X(min_p, BOTH, READ, NUMBER, 0, 1, "default generation_config.json's, else 0")                             \
    X(presence_penalty, BOTH, READ, NUMBER, -2, 2, "default 0")                                                \
    X(frequency_penalty, BOTH, READ, NUMBER, -2, 2, "default 0")                                               \
    X(repetition_penalty, BOTH, READ, ABOVE, 0, JOB_NO_LIMIT, "default generation_config.json's, else 1")      \
    X(seed, BOTH, READ, INTEGER, -JOB_NO_LIMIT, JOB_NO_LIMIT, "64-bit integer; absent or -1: derived from the job's bytes") \
    X(n, BOTH, READ, INTEGER, 1, JOB_MAX_TOKENS, "choices; at most limits.max_choices, 1 when greedy; default 1") \
    X(best_of, BOTH, READ, INTEGER, 1, JOB_MAX_TOKENS, "only equal to n")                                      \
    X(stop, BOTH, READ, NODE, 0, 0, "string or list of strings, none empty")                                   \
    X(stop_token_ids, BOTH, READ, NODE, 0, 0, "list of token ids")                                             \
    X(include_stop_str_in_output, BOTH, READ, FLAG, 0, 0, "keep the stop string in the text; default false")   \
    X(ignore_eos, BOTH, READ, FLAG, 0, 0, "go on after the end-of-sequence token; default false")              \
    X(logit_bias, BOTH, READ, NODE, 0, 0, "object: token id to bias, clamped to [-100, 100]")                  \
    X(allowed_token_ids, BOTH, READ, NODE, 0, 0, "list of token ids: only these are generated")                \
    X(bad_words, BOTH, READ, NODE, 0, 0, "list of words that are not generated")                               \
    X(use_beam_search, BOTH, READ, FLAG, 0, 0, "n is the width and the number of choices, best first; default false") \
    X(length_penalty, BOTH, READ, NUMBER, -JOB_NO_LIMIT, JOB_NO_LIMIT, "of the score of beams and of a catalogue's choices; default 1") \
    X(early_stopping, BOTH, READ, FLAG, 0, 0, "beams: stop at n complete ones; default false")

#define JOB_FIELDS_OUTPUT(X)                                                                                   \
    X(echo, BOTH, READ, FLAG, 0, 0, "put the prompt (chat: an assistant's last message) before the text")      \
    X(logprobs, BOTH, READ, NODE, 0, 0, "chat: true or false; completions: 0 to 20 alternatives per token")    \
    X(top_logprobs, CHAT, READ, INTEGER, 0, SAMPLING_MAX_LOGPROBS, "alternatives per token; needs logprobs")   \
    X(prompt_logprobs, BOTH, READ, INTEGER, 0, SAMPLING_MAX_LOGPROBS, "alternatives per prompt token")         \
    X(logprob_token_ids, BOTH, READ, NODE, 0, 0, "list of at most 128 token ids whose log-probabilities are reported") \
    X(skip_special_tokens, BOTH, READ, FLAG, 0, 0, "leave special tokens out of the text; default true")       \
    X(return_token_ids, BOTH, READ, FLAG, 0, 0, "add prompt_token_ids and token_ids")                          \
    X(return_tokens_as_token_ids, BOTH, READ, FLAG, 0, 0, "write tokens of logprobs as \"token_id:N\"")        \
    X(response_format, BOTH, READ, NODE, 0, 0, "type text, json_object, or json_schema with json_schema.schema") \
    X(structured_outputs, BOTH, READ, NODE, 0, 0, "one of json, regex, choice, grammar, json_object; or catalog (and exclude): the answer is an item of it") \
    X(guided_json, BOTH, READ, NODE, 0, 0, "older name of structured_outputs.json") \
    X(guided_regex, BOTH, READ, NODE, 0, 0, "older name of structured_outputs.regex") \
    X(guided_choice, BOTH, READ, NODE, 0, 0, "older name of structured_outputs.choice") \
    X(guided_grammar, BOTH, READ, NODE, 0, 0, "older name of structured_outputs.grammar") \
    X(stream, BOTH, READ, FLAG, 0, 0, "publish the tokens on ZeroMQ; the result is the same")                  \
    X(stream_options, BOTH, READ, NODE, 0, 0, "{include_usage}: a last chunk with the usage")                  \
    X(priority, ALL, READ, INTEGER, -JOB_NO_LIMIT, JOB_NO_LIMIT, "lower first; default 0")

#define JOB_FIELDS_NO_EFFECT(X)                                                                                \
    X(user, BOTH, NO_EFFECT, NODE, 0, 0, "")                                                                   \
    X(metadata, BOTH, NO_EFFECT, NODE, 0, 0, "")                                                               \
    X(store, BOTH, NO_EFFECT, NODE, 0, 0, "")                                                                  \
    X(service_tier, BOTH, NO_EFFECT, NODE, 0, 0, "")                                                           \
    X(prompt_cache_key, BOTH, NO_EFFECT, NODE, 0, 0, "")                                                       \
    X(safety_identifier, BOTH, NO_EFFECT, NODE, 0, 0, "")                                                      \
    X(request_id, BOTH, NO_EFFECT, NODE, 0, 0, "")                                                             \
    X(parallel_tool_calls, CHAT, NO_EFFECT, NODE, 0, 0, "")                                                    \
    X(spaces_between_special_tokens, BOTH, NO_EFFECT, NODE, 0, 0, "")

#define JOB_FIELDS_UNSUPPORTED(X)                                                                              \
    X(guided_decoding_backend, BOTH, UNSUPPORTED, NODE, 0, 0, "")                                              \
    X(guided_whitespace_pattern, BOTH, UNSUPPORTED, NODE, 0, 0, "")                                            \
    X(structural_tag, BOTH, UNSUPPORTED, NODE, 0, 0, "")                                                       \
    X(suffix, COMPLETION, UNSUPPORTED, NODE, 0, 0, "")                                                         \
    X(prompt_embeds, COMPLETION, UNSUPPORTED, NODE, 0, 0, "")                                                  \
    X(functions, CHAT, UNSUPPORTED, NODE, 0, 0, "")                                                            \
    X(function_call, CHAT, UNSUPPORTED, NODE, 0, 0, "")                                                        \
    X(chat_template, CHAT, UNSUPPORTED, NODE, 0, 0, "")                                                        \
    X(modalities, CHAT, UNSUPPORTED, NODE, 0, 0, "")                                                           \
    X(audio, CHAT, UNSUPPORTED, NODE, 0, 0, "")                                                                \
    X(prediction, CHAT, UNSUPPORTED, NODE, 0, 0, "")                                                           \
    X(reasoning_effort, CHAT, UNSUPPORTED, NODE, 0, 0, "")                                                     \
    X(web_search_options, CHAT, UNSUPPORTED, NODE, 0, 0, "")                                                   \
    X(mm_processor_kwargs, BOTH, UNSUPPORTED, NODE, 0, 0, "")                                                  \
    X(logits_processors, BOTH, UNSUPPORTED, NODE, 0, 0, "")                                                    \
    X(repetition_detection, BOTH, UNSUPPORTED, NODE, 0, 0, "")                                                 \
    X(kv_transfer_params, BOTH, UNSUPPORTED, NODE, 0, 0, "")                                                   \
    X(vllm_xargs, BOTH, UNSUPPORTED, NODE, 0, 0, "")

// clang-format on
#define JOB_FIELDS(X)      \
    JOB_FIELDS_PROMPT(X)   \
    JOB_FIELDS_SCORE(X)    \
    JOB_FIELDS_SAMPLING(X) \
    JOB_FIELDS_OUTPUT(X)   \
    JOB_FIELDS_NO_EFFECT(X) JOB_FIELDS_UNSUPPORTED(X)

enum job_field_jobs {
    JOB_FIELD_CHAT = 1,
    JOB_FIELD_COMPLETION = 2,
    JOB_FIELD_BOTH = 3,
    JOB_FIELD_SCORE = 4,
    JOB_FIELD_ALL = 7
};
enum job_field_class { JOB_FIELD_READ, JOB_FIELD_NO_EFFECT, JOB_FIELD_UNSUPPORTED };
enum job_field_type {
    JOB_FIELD_NUMBER,
    JOB_FIELD_ABOVE,
    JOB_FIELD_INTEGER,
    JOB_FIELD_FLAG,
    JOB_FIELD_TEXT,
    JOB_FIELD_NODE
};

struct job_number {
    bool given;
    double value;
};

struct job_integer {
    bool given;
    int64_t value;
};

struct job_flag {
    bool given, value;
};

#define JOB_C_NUMBER struct job_number
#define JOB_C_ABOVE struct job_number
#define JOB_C_INTEGER struct job_integer
#define JOB_C_FLAG struct job_flag
#define JOB_C_TEXT const struct json *
#define JOB_C_NODE const struct json *
#define JOB_FIELD_MEMBER(name, jobs, class, type, low, high, help) JOB_C_##type name;

/* A body after the checks that the table can express. Nodes belong to the job's JSON document. */
struct job_body {
    JOB_FIELDS(JOB_FIELD_MEMBER)
};

struct job_field {
    const char *name;
    enum job_field_jobs jobs;
    enum job_field_class class;
    enum job_field_type type;
    double low, high;
    size_t offset; /* in struct job_body */
    const char *help;
};

extern const struct job_field job_fields[]; /* [job_field_count] */
extern const size_t job_field_count;

/* Appends the three lists as Markdown: docs/formats/fields.md is this text. */
void job_fields_print(struct bytes *out);

#endif
