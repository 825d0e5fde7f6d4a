// SPDX-License-Identifier: Apache-2.0
// The "decoder" of tokenizer.json, and text from ids one token at a time. Whole-sequence decode and the
// incremental detokenizer run the same stream, so they agree by construction. A decoder is immutable after
// open; a stream has one owner.
#ifndef ENGINE_TEXT_DECODER_H
#define ENGINE_TEXT_DECODER_H

#include "base/json.h"
#include "engine/text/text_scratch.h"
#include "engine/text/tokenizer.h"

#define DECODER_MAX_OPS 32
#define DECODE_MAX_RUN_BYTES ((size_t)1 << 20) /* byte tokens in one unbroken run */

struct decoder;

/* `node` NULL or JSON null: tokens are joined by blanks. Statuses: INVALID, UNSUPPORTED, NO_MEMORY. */
MUST_CHECK enum status decoder_open(struct decoder **out, const struct json *node, struct error *err);
void decoder_close(struct decoder *decoder);
/* Registers a token's text; called for every id at open, with one scratch for all. */
MUST_CHECK enum status decoder_add(struct decoder *decoder, struct text_scratch *scratch, int32_t id,
                                   struct text_span text, struct error *err);
/* What the token stands for inside a text; NULL: no such id. */
const char *decoder_piece(const struct decoder *decoder, int32_t id, size_t *bytes);

struct decode_stream {
    const struct tokenizer *tokenizer;
    bool skip_special;
    bool begun;        /* a token was decoded already */
    size_t strip_left; /* leading characters that may still be stripped */
    struct bytes tail; /* byte level: an unfinished sequence; byte fallback: the open run of bytes */
    bool run_is_bad;   /* the run can no longer become valid UTF-8 */
};

MUST_CHECK enum status decode_stream_init(struct decode_stream *stream, const struct tokenizer *tokenizer,
                                          bool skip_special);
void decode_stream_release(struct decode_stream *stream);
/* Appends the text that `id` makes final. Statuses: OK, NO_MEMORY, TOO_LARGE. */
MUST_CHECK enum status decode_stream_push(struct decode_stream *stream, int32_t id, struct bytes *out);
/* Appends what would follow if the sequence ended here, and leaves the stream as it is. */
MUST_CHECK enum status decode_stream_preview(const struct decode_stream *stream, struct bytes *out);
/* Appends the open run of byte tokens when it is whole characters so far: a longer run may still undo it. */
MUST_CHECK enum status decode_stream_open_run(const struct decode_stream *stream, struct bytes *out);

/* Private to the text room: the decoder of a tokenizer. */
const struct decoder *tokenizer_decoder(const struct tokenizer *tokenizer);

#endif
