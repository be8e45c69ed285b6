#pragma once

#include "chttp2/connection.h"

#include <nghttp2/nghttp2.h>

typedef struct StreamState StreamState;

struct StreamState {
    CH2Stream public; // first: the owner's pointer and ours are the same

    CH2Chain body; // to be sent
    uint8_t *trailers; // to be sent after it
    size_t n_trailers;
    size_t n_drained; // put into frames since last reported

    bool finishing; // our direction ends after the body
    bool deferred; // nghttp2 waits for resume
    bool refused;
    bool closed;
    bool is_listed; // in connection->drained

    StreamState *previous, *next;
    StreamState *next_drained;
};

struct CH2Connection {
    CH2Link *link;
    nghttp2_session *session;
    CH2Limits limits;
    bool server;
    char error[160]; // last thing that went wrong

    StreamState *streams;
    StreamState *drained;

    CH2Event *events;
    size_t n_events, events_capacity;

    // The header block being received: there is at most one on a connection.
    uint8_t *block;
    size_t n_block, block_capacity;
    size_t block_size; // as SETTINGS_MAX_HEADER_LIST_SIZE counts
    bool block_too_large;
    bool block_informational;
    uint64_t headers_since;

    // Frames on their way to the link.
    uint8_t *out;
    size_t out_begin, out_end, out_capacity;
    uint64_t n_sent;
    uint64_t n_stream_frames_sent;
};

// Remembers an nghttp2 code and translates it to -errno.
int connection_errno(CH2Connection *connection, int code);
CH2Event *connection_push(CH2Connection *connection, CH2EventKind kind, CH2Stream *stream);
int connection_out_reserve(CH2Connection *connection, size_t n);
StreamState *stream_new(CH2Connection *connection);
void stream_free(CH2Connection *connection, StreamState *stream);

// session.c: nghttp2's call-backs.
int session_new(CH2Connection *connection);
// stream.c: feeds DATA frames from a stream's body.
ssize_t stream_read(nghttp2_session *session, int32_t stream_id, uint8_t *buffer, size_t length,
                    uint32_t *data_flags, nghttp2_data_source *source, void *user_data);
int stream_send(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *header,
                size_t length, nghttp2_data_source *source, void *user_data);
