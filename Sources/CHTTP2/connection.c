#include "connection-internal.h"

#include "chttp2/poller.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Frames are collected until this many bytes make a send() worth while.
#define OUT_FULL ((size_t) 128 * 1024)

int connection_errno(CH2Connection *connection, int code) {
    if (code >= 0)
        return code;
    if (!*connection->error)
        snprintf(connection->error, sizeof connection->error, "%s", nghttp2_strerror(code));
    return code == NGHTTP2_ERR_NOMEM ? -ENOMEM : -EPROTO;
}

CH2Event *connection_push(CH2Connection *connection, CH2EventKind kind, CH2Stream *stream) {
    if (connection->n_events == connection->events_capacity) {
        size_t capacity = connection->events_capacity ? connection->events_capacity * 2 : 16;
        CH2Event *events = realloc(connection->events, capacity * sizeof *events);
        if (!events)
            return NULL;
        connection->events = events;
        connection->events_capacity = capacity;
    }
    CH2Event *event = &connection->events[connection->n_events++];
    *event = (CH2Event){.kind = kind, .stream = stream};
    return event;
}

int connection_out_reserve(CH2Connection *connection, size_t n) {
    if (connection->out_end + n <= connection->out_capacity)
        return 0;
    if (connection->out_begin > 0) {
        connection->out_end -= connection->out_begin;
        memmove(connection->out, connection->out + connection->out_begin, connection->out_end);
        connection->out_begin = 0;
    }
    size_t wanted = connection->out_end + n;
    if (wanted <= connection->out_capacity)
        return 0;
    size_t capacity = connection->out_capacity ? connection->out_capacity * 2 : 4096;
    if (capacity < wanted)
        capacity = wanted;
    uint8_t *out = realloc(connection->out, capacity);
    if (!out)
        return -ENOMEM;
    connection->out = out;
    connection->out_capacity = capacity;
    return 0;
}

StreamState *stream_new(CH2Connection *connection) {
    StreamState *stream = calloc(1, sizeof *stream);
    if (!stream)
        return NULL;
    stream->next = connection->streams;
    if (stream->next)
        stream->next->previous = stream;
    connection->streams = stream;
    return stream;
}

void stream_free(CH2Connection *connection, StreamState *stream) {
    if (stream->previous)
        stream->previous->next = stream->next;
    else
        connection->streams = stream->next;
    if (stream->next)
        stream->next->previous = stream->previous;
    ch2_chain_clear(&stream->body);
    free(stream->trailers);
    free(stream);
}

CH2Connection *ch2_connection_free(CH2Connection *connection) {
    if (!connection)
        return NULL;
    // Deleting the session closes no streams by call-back: they are freed here.
    nghttp2_session_del(connection->session);
    ch2_connection_clear(connection);
    while (connection->streams)
        stream_free(connection, connection->streams);
    ch2_link_free(connection->link);
    free(connection->block);
    free(connection->events);
    free(connection->out);
    free(connection);
    return NULL;
}

void ch2_connection_clear(CH2Connection *connection) {
    for (size_t i = 0; i < connection->n_events; i++) {
        CH2Event *event = &connection->events[i];
        if (event->kind == CH2_EVENT_HEADERS || event->kind == CH2_EVENT_GOAWAY)
            free((void *) (uintptr_t) event->bytes);
        if (event->kind == CH2_EVENT_CLOSED)
            stream_free(connection, (StreamState *) event->stream);
    }
    connection->n_events = 0;
    // A burst must not be remembered for ever.
    if (connection->events_capacity > 256) {
        free(connection->events);
        connection->events = NULL;
        connection->events_capacity = 0;
    }
}

const CH2Event *ch2_connection_events(const CH2Connection *connection, size_t *ret_n) {
    *ret_n = connection->n_events;
    return connection->events;
}

ssize_t ch2_connection_receive(CH2Connection *connection, void *buffer, size_t n) {
    ssize_t got = connection->link->operations->receive(connection->link, buffer, n);
    if (got <= 0)
        return got;
    ssize_t used = nghttp2_session_mem_recv(connection->session, buffer, (size_t) got);
    if (used < 0)
        return connection_errno(connection, (int) used);
    return got;
}

// Collects frames until there is enough for one send() or nothing more to collect.
static int fill(CH2Connection *connection) {
    while (connection->out_end - connection->out_begin < OUT_FULL) {
        size_t before = connection->out_end - connection->out_begin;
        const uint8_t *bytes = NULL;
        ssize_t n = nghttp2_session_mem_send(connection->session, &bytes);
        if (n < 0)
            return connection_errno(connection, (int) n);
        if (n == 0 && connection->out_end - connection->out_begin == before)
            return 0;
        if (n == 0)
            continue; // DATA frames, written by send_data_callback()
        int r = connection_out_reserve(connection, (size_t) n);
        if (r < 0)
            return r;
        memcpy(connection->out + connection->out_end, bytes, (size_t) n);
        connection->out_end += (size_t) n;
    }
    return 0;
}

static void report_drained(CH2Connection *connection) {
    for (StreamState *stream = connection->drained; stream;) {
        StreamState *next = stream->next_drained;
        if (stream->n_drained > 0 && !stream->closed) {
            CH2Event *event = connection_push(connection, CH2_EVENT_DRAINED, &stream->public);
            if (event)
                event->n_bytes = stream->n_drained;
        }
        stream->n_drained = 0;
        stream->is_listed = false;
        stream->next_drained = NULL;
        stream = next;
    }
    connection->drained = NULL;
}

int ch2_connection_flush(CH2Connection *connection) {
    int r = 0;
    for (;;) {
        r = fill(connection);
        if (r < 0)
            break;
        size_t n = connection->out_end - connection->out_begin;
        if (n == 0)
            break;
        ssize_t sent = connection->link->operations->send(
            connection->link, connection->out + connection->out_begin, n);
        if (sent == -EAGAIN) {
            r = 1;
            break;
        }
        if (sent < 0) {
            r = (int) sent;
            break;
        }
        connection->n_sent += (uint64_t) sent;
        connection->out_begin += (size_t) sent;
        if (connection->out_begin < connection->out_end) {
            r = 1;
            break;
        }
        connection->out_begin = connection->out_end = 0;
    }
    if (connection->out_begin == connection->out_end) {
        connection->out_begin = connection->out_end = 0;
        // Connections are many and mostly quiet: none keeps a large buffer.
        if (connection->out_capacity > 4096) {
            free(connection->out);
            connection->out = NULL;
            connection->out_capacity = 0;
        }
    }
    report_drained(connection);
    return r;
}

uint32_t ch2_connection_interest(const CH2Connection *connection) {
    uint32_t events = CH2_READABLE | connection->link->operations->interest(connection->link);
    if (connection->out_begin < connection->out_end)
        events |= CH2_WRITABLE;
    return events;
}

bool ch2_connection_is_done(const CH2Connection *connection) {
    return connection->out_begin == connection->out_end
           && !nghttp2_session_want_read(connection->session)
           && !nghttp2_session_want_write(connection->session);
}

size_t ch2_connection_backlog(const CH2Connection *connection) {
    return connection->out_end - connection->out_begin;
}

uint64_t ch2_connection_n_sent(const CH2Connection *connection) {
    return connection->n_sent;
}

uint64_t ch2_connection_n_stream_frames_sent(const CH2Connection *connection) {
    return connection->n_stream_frames_sent;
}

uint64_t ch2_connection_headers_since(const CH2Connection *connection) {
    return connection->headers_since;
}

const char *ch2_connection_error_text(const CH2Connection *connection) {
    return connection->error;
}

uint32_t ch2_connection_peer_max_streams(const CH2Connection *connection) {
    return nghttp2_session_get_remote_settings(connection->session,
                                               NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
}

uint32_t ch2_connection_peer_max_header_list(const CH2Connection *connection) {
    return nghttp2_session_get_remote_settings(connection->session,
                                               NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE);
}

int ch2_connection_ping(CH2Connection *connection, uint64_t opaque) {
    uint8_t data[8];
    memcpy(data, &opaque, sizeof data);
    return connection_errno(
        connection, nghttp2_submit_ping(connection->session, NGHTTP2_FLAG_NONE, data));
}

int ch2_connection_shutdown_notice(CH2Connection *connection) {
    return connection_errno(connection, nghttp2_submit_shutdown_notice(connection->session));
}

int ch2_connection_goaway(CH2Connection *connection, uint32_t code, const char *debug) {
    int32_t last = nghttp2_session_get_last_proc_stream_id(connection->session);
    return connection_errno(connection,
                            nghttp2_submit_goaway(connection->session, NGHTTP2_FLAG_NONE, last,
                                                  code, (const uint8_t *) debug, strlen(debug)));
}

int ch2_connection_terminate(CH2Connection *connection, uint32_t code, const char *debug) {
    int r = ch2_connection_goaway(connection, code, debug);
    if (r < 0)
        return r;
    return connection_errno(connection,
                            nghttp2_session_terminate_session(connection->session, code));
}
