#include "connection-internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

// Most header blocks are small; larger ones take the heap.
#define N_STACK_HEADERS 32

typedef struct HeaderVector {
    nghttp2_nv stack[N_STACK_HEADERS];
    nghttp2_nv *items;
    size_t n;
} HeaderVector;

// Values that must not end up in a compression table that outlives the call.
static bool is_sensitive(const uint8_t *name, size_t n) {
    return (n == 13 && memcmp(name, "authorization", 13) == 0)
           || (n == 6 && memcmp(name, "cookie", 6) == 0);
}

static int vector_parse(HeaderVector *vector, const uint8_t *block, size_t n) {
    uint32_t lengths[2];
    size_t count = 0;
    for (size_t at = 0; at < n; count++) {
        if (n - at < sizeof lengths)
            return -EINVAL;
        memcpy(lengths, block + at, sizeof lengths);
        at += sizeof lengths;
        if (n - at < (size_t) lengths[0] + lengths[1])
            return -EINVAL;
        at += (size_t) lengths[0] + lengths[1];
    }
    vector->n = count;
    vector->items = vector->stack;
    if (count > N_STACK_HEADERS) {
        vector->items = malloc(count * sizeof *vector->items);
        if (!vector->items)
            return -ENOMEM;
    }
    const uint8_t *p = block;
    for (size_t i = 0; i < count; i++) {
        memcpy(lengths, p, sizeof lengths);
        p += sizeof lengths;
        vector->items[i] = (nghttp2_nv){
            .name = (uint8_t *) (uintptr_t) p,
            .namelen = lengths[0],
            .value = (uint8_t *) (uintptr_t) (p + lengths[0]),
            .valuelen = lengths[1],
            .flags = is_sensitive(p, lengths[0]) ? NGHTTP2_NV_FLAG_NO_INDEX : NGHTTP2_NV_FLAG_NONE,
        };
        p += (size_t) lengths[0] + lengths[1];
    }
    return 0;
}

static void vector_clear(HeaderVector *vector) {
    if (vector->items != vector->stack)
        free(vector->items);
}

ssize_t stream_read(nghttp2_session *session, int32_t stream_id, uint8_t *buffer, size_t length,
                    uint32_t *data_flags, nghttp2_data_source *source, void *user_data) {
    (void) buffer;
    CH2Connection *connection = user_data;
    StreamState *stream = source->ptr;
    size_t n = stream->body.n_bytes < length ? stream->body.n_bytes : length;

    if (n == 0 && !stream->finishing) {
        stream->deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    if (n > 0)
        *data_flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (n == stream->body.n_bytes && stream->finishing) {
        *data_flags |= NGHTTP2_DATA_FLAG_EOF;
        if (stream->trailers) {
            *data_flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
            HeaderVector vector;
            if (vector_parse(&vector, stream->trailers, stream->n_trailers) < 0)
                return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
            int r = nghttp2_submit_trailer(session, stream_id, vector.items, vector.n);
            vector_clear(&vector);
            if (r != 0)
                return r == NGHTTP2_ERR_NOMEM ? NGHTTP2_ERR_CALLBACK_FAILURE
                                              : NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
        }
    }
    if (n > 0 && !stream->is_listed) {
        stream->is_listed = true;
        stream->next_drained = connection->drained;
        connection->drained = stream;
    }
    return (ssize_t) n;
}

int stream_send(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *header,
                size_t length, nghttp2_data_source *source, void *user_data) {
    (void) session;
    enum { FRAME_HEADER = 9, BACKLOG_MAX = 256 * 1024 };
    CH2Connection *connection = user_data;
    StreamState *stream = source->ptr;

    if (connection->out_end - connection->out_begin >= BACKLOG_MAX)
        return NGHTTP2_ERR_WOULDBLOCK;
    size_t n_padding = frame->data.padlen > 0 ? frame->data.padlen - 1 : 0;
    size_t n = FRAME_HEADER + (frame->data.padlen > 0) + length + n_padding;
    if (connection_out_reserve(connection, n) < 0)
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    uint8_t *p = connection->out + connection->out_end;
    memcpy(p, header, FRAME_HEADER);
    p += FRAME_HEADER;
    if (frame->data.padlen > 0)
        *p++ = (uint8_t) n_padding;
    ch2_chain_take(&stream->body, p, length);
    memset(p + length, 0, n_padding);
    connection->out_end += n;
    stream->n_drained += length;
    return 0;
}

static int resume(CH2Connection *connection, StreamState *stream) {
    if (!stream->deferred)
        return 0;
    stream->deferred = false;
    return connection_errno(connection,
                            nghttp2_session_resume_data(connection->session, stream->public.id));
}

int ch2_connection_request(CH2Connection *connection, const uint8_t *block, size_t n,
                           CH2Stream **ret) {
    HeaderVector vector;
    int r = vector_parse(&vector, block, n);
    if (r < 0)
        return r;
    StreamState *stream = stream_new(connection);
    if (!stream) {
        vector_clear(&vector);
        return -ENOMEM;
    }
    nghttp2_data_provider provider = {.source.ptr = stream, .read_callback = stream_read};
    int32_t id = nghttp2_submit_request(connection->session, NULL, vector.items, vector.n,
                                        &provider, stream);
    vector_clear(&vector);
    if (id < 0) {
        stream_free(connection, stream);
        return id == NGHTTP2_ERR_NOMEM ? -ENOMEM : 1;
    }
    stream->public.id = id;
    *ret = &stream->public;
    return 0;
}

int ch2_stream_respond(CH2Connection *connection, CH2Stream *public, const uint8_t *block,
                       size_t n, bool end) {
    StreamState *stream = (StreamState *) public;
    if (stream->closed)
        return 0;
    HeaderVector vector;
    int r = vector_parse(&vector, block, n);
    if (r < 0)
        return r;
    nghttp2_data_provider provider = {.source.ptr = stream, .read_callback = stream_read};
    r = nghttp2_submit_response(connection->session, public->id, vector.items, vector.n,
                                end ? NULL : &provider);
    vector_clear(&vector);
    return connection_errno(connection, r);
}

int ch2_stream_write(CH2Connection *connection, CH2Stream *public, CH2Chain *chain) {
    StreamState *stream = (StreamState *) public;
    if (stream->closed) {
        ch2_chain_clear(chain);
        return 0;
    }
    ch2_chain_splice(&stream->body, chain);
    return resume(connection, stream);
}

int ch2_stream_finish(CH2Connection *connection, CH2Stream *public) {
    StreamState *stream = (StreamState *) public;
    if (stream->closed)
        return 0;
    stream->finishing = true;
    return resume(connection, stream);
}

int ch2_stream_trailers(CH2Connection *connection, CH2Stream *public, const uint8_t *block,
                        size_t n) {
    StreamState *stream = (StreamState *) public;
    if (stream->closed || stream->finishing)
        return 0;
    stream->trailers = malloc(n);
    if (!stream->trailers)
        return -ENOMEM;
    memcpy(stream->trailers, block, n);
    stream->n_trailers = n;
    stream->finishing = true;
    return resume(connection, stream);
}

int ch2_stream_reset(CH2Connection *connection, CH2Stream *public, uint32_t code) {
    StreamState *stream = (StreamState *) public;
    if (stream->closed)
        return 0;
    // The body stays until the stream closes: a DATA frame of it may be announced already.
    return connection_errno(connection,
                            nghttp2_submit_rst_stream(connection->session, NGHTTP2_FLAG_NONE,
                                                      public->id, code));
}

int ch2_stream_consume(CH2Connection *connection, CH2Stream *public, size_t n) {
    StreamState *stream = (StreamState *) public;
    if (stream->closed)
        return 0;
    return connection_errno(connection, nghttp2_session_consume_stream(connection->session,
                                                                       public->id, n));
}

bool ch2_stream_was_refused(const CH2Stream *stream) {
    return ((const StreamState *) stream)->refused;
}
