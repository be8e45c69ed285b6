#include "connection-internal.h"

#include "chttp2/poller.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static StreamState *find(nghttp2_session *session, int32_t id) {
    return nghttp2_session_get_stream_user_data(session, id);
}

static int begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user_data) {
    CH2Connection *connection = user_data;
    if (frame->hd.type != NGHTTP2_HEADERS)
        return 0;
    if (!find(session, frame->hd.stream_id)) {
        StreamState *stream = stream_new(connection);
        if (!stream)
            return NGHTTP2_ERR_CALLBACK_FAILURE;
        stream->public.id = frame->hd.stream_id;
        nghttp2_session_set_stream_user_data(session, frame->hd.stream_id, stream);
    }
    connection->n_block = connection->block_size = 0;
    connection->block_too_large = connection->block_informational = false;
    connection->headers_since = ch2_now_ns();
    return 0;
}

static int header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                  size_t n_name, const uint8_t *value, size_t n_value, uint8_t flags,
                  void *user_data) {
    (void) session;
    (void) flags;
    CH2Connection *connection = user_data;
    if (frame->hd.type != NGHTTP2_HEADERS)
        return 0;
    if (n_name == 7 && memcmp(name, ":status", 7) == 0 && n_value == 3 && value[0] == '1')
        connection->block_informational = true;
    // Beyond the limit values are still decoded, to keep the compression state, and then dropped.
    connection->block_size += n_name + n_value + 32;
    if (connection->block_size > connection->limits.max_header_list_bytes) {
        connection->block_too_large = true;
        return 0;
    }
    size_t wanted = connection->n_block + 8 + n_name + n_value;
    if (wanted > connection->block_capacity) {
        size_t capacity = connection->block_capacity ? connection->block_capacity * 2 : 512;
        if (capacity < wanted)
            capacity = wanted;
        uint8_t *block = realloc(connection->block, capacity);
        if (!block)
            return NGHTTP2_ERR_CALLBACK_FAILURE;
        connection->block = block;
        connection->block_capacity = capacity;
    }
    uint8_t *p = connection->block + connection->n_block;
    uint32_t lengths[2] = {(uint32_t) n_name, (uint32_t) n_value};
    memcpy(p, lengths, sizeof lengths);
    memcpy(p + 8, name, n_name);
    memcpy(p + 8 + n_name, value, n_value);
    connection->n_block = wanted;
    return 0;
}

static int push_headers(CH2Connection *connection, StreamState *stream,
                        const nghttp2_frame *frame) {
    connection->headers_since = 0;
    if (connection->block_informational)
        return 0;
    uint32_t flags = 0;
    if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) {
        flags |= CH2_HEADERS_END_STREAM;
        stream->public.has_ended = true;
    }
    if (stream->public.has_headers)
        flags |= CH2_HEADERS_TRAILERS;
    if (connection->block_too_large)
        flags |= CH2_HEADERS_TOO_LARGE;
    stream->public.has_headers = true;

    CH2Event *event = connection_push(connection, CH2_EVENT_HEADERS, &stream->public);
    if (!event)
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    event->flags = flags;
    event->bytes = connection->block;
    event->n_bytes = connection->n_block;
    connection->block = NULL;
    connection->n_block = connection->block_capacity = 0;
    return 0;
}

static int push_goaway(CH2Connection *connection, const nghttp2_goaway *goaway) {
    enum { DEBUG_MAX = 256 };
    CH2Event *event = connection_push(connection, CH2_EVENT_GOAWAY, NULL);
    if (!event)
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    event->code = goaway->error_code;
    event->last_stream_id = goaway->last_stream_id;
    size_t n = goaway->opaque_data_len < DEBUG_MAX ? goaway->opaque_data_len : DEBUG_MAX;
    uint8_t *debug = n > 0 ? malloc(n) : NULL;
    if (debug) {
        memcpy(debug, goaway->opaque_data, n);
        event->bytes = debug;
        event->n_bytes = n;
    }
    return 0;
}

static int frame_received(nghttp2_session *session, const nghttp2_frame *frame, void *user_data) {
    CH2Connection *connection = user_data;
    CH2Event *event = NULL;
    switch (frame->hd.type) {
    case NGHTTP2_HEADERS: {
        StreamState *stream = find(session, frame->hd.stream_id);
        return stream ? push_headers(connection, stream, frame) : 0;
    }
    case NGHTTP2_DATA: {
        StreamState *stream = find(session, frame->hd.stream_id);
        if (!stream || !(frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
            return 0;
        stream->public.has_ended = true;
        event = connection_push(connection, CH2_EVENT_END, &stream->public);
        break;
    }
    case NGHTTP2_GOAWAY:
        return push_goaway(connection, &frame->goaway);
    case NGHTTP2_SETTINGS:
        if (frame->hd.flags & NGHTTP2_FLAG_ACK)
            return 0;
        event = connection_push(connection, CH2_EVENT_SETTINGS, NULL);
        break;
    case NGHTTP2_PING:
        event = connection_push(
            connection, frame->hd.flags & NGHTTP2_FLAG_ACK ? CH2_EVENT_PONG : CH2_EVENT_PING, NULL);
        if (event)
            memcpy(&event->opaque, frame->ping.opaque_data, sizeof event->opaque);
        break;
    default:
        return 0;
    }
    return event ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE;
}

static int data_received(nghttp2_session *session, uint8_t flags, int32_t stream_id,
                         const uint8_t *data, size_t n, void *user_data) {
    (void) flags;
    CH2Connection *connection = user_data;
    // Only streams exert back-pressure: one that nobody reads must not stop the others.
    nghttp2_session_consume_connection(session, n);
    StreamState *stream = find(session, stream_id);
    if (!stream)
        return 0;
    CH2Event *event = connection_push(connection, CH2_EVENT_DATA, &stream->public);
    if (!event)
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    event->bytes = data;
    event->n_bytes = n;
    return 0;
}

static int frame_sent(nghttp2_session *session, const nghttp2_frame *frame, void *user_data) {
    CH2Connection *connection = user_data;
    if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA)
        return 0;
    connection->n_stream_frames_sent++;
    // A server that has ended a response wants no more of the request.
    if (connection->server && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM)
        && nghttp2_session_get_stream_remote_close(session, frame->hd.stream_id) == 0)
        nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id,
                                  NGHTTP2_NO_ERROR);
    return 0;
}

static int frame_not_sent(nghttp2_session *session, const nghttp2_frame *frame, int error,
                          void *user_data) {
    (void) user_data;
    StreamState *stream = NULL;
    if (frame->hd.type == NGHTTP2_HEADERS)
        stream = find(session, frame->hd.stream_id);
    if (stream && error == NGHTTP2_ERR_START_STREAM_NOT_ALLOWED)
        stream->refused = true;
    return 0;
}

static int stream_closed(nghttp2_session *session, int32_t stream_id, uint32_t code,
                         void *user_data) {
    CH2Connection *connection = user_data;
    StreamState *stream = find(session, stream_id);
    if (!stream)
        return 0;
    stream->closed = true;
    if (code == NGHTTP2_REFUSED_STREAM)
        stream->refused = true;
    nghttp2_session_set_stream_user_data(session, stream_id, NULL);
    CH2Event *event = connection_push(connection, CH2_EVENT_CLOSED, &stream->public);
    if (!event)
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    event->code = code;
    return 0;
}

static int explain(nghttp2_session *session, int code, const char *text, size_t n,
                   void *user_data) {
    (void) session;
    (void) code;
    CH2Connection *connection = user_data;
    snprintf(connection->error, sizeof connection->error, "%.*s", (int) n, text);
    // The text goes to logs, and parts of it may be the peer's.
    for (char *c = connection->error; *c; c++)
        if (*c < 0x20 || *c > 0x7e)
            *c = '?';
    return 0;
}

// How large the next DATA frame may be: nghttp2 would stop at 16 KiB whatever the peer takes.
static ssize_t read_length(nghttp2_session *session, uint8_t type, int32_t stream_id,
                           int32_t session_window, int32_t stream_window, uint32_t max_frame,
                           void *user_data) {
    (void) session;
    (void) type;
    (void) stream_id;
    CH2Connection *connection = user_data;
    ssize_t n = session_window < stream_window ? session_window : stream_window;
    if (n > (ssize_t) max_frame)
        n = (ssize_t) max_frame;
    if (n > (ssize_t) connection->limits.max_send_frame_bytes)
        n = (ssize_t) connection->limits.max_send_frame_bytes;
    return n;
}

static int new_callbacks(nghttp2_session_callbacks **ret) {
    nghttp2_session_callbacks *callbacks;
    int r = nghttp2_session_callbacks_new(&callbacks);
    if (r != 0)
        return r;
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, frame_received);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, data_received);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, frame_sent);
    nghttp2_session_callbacks_set_on_frame_not_send_callback(callbacks, frame_not_sent);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, stream_closed);
    nghttp2_session_callbacks_set_error_callback2(callbacks, explain);
    nghttp2_session_callbacks_set_send_data_callback(callbacks, stream_send);
    nghttp2_session_callbacks_set_data_source_read_length_callback(callbacks, read_length);
    *ret = callbacks;
    return 0;
}

static int new_options(const CH2Limits *limits, nghttp2_option **ret) {
    nghttp2_option *option;
    int r = nghttp2_option_new(&option);
    if (r != 0)
        return r;
    nghttp2_option_set_no_auto_window_update(option, 1);
    nghttp2_option_set_no_closed_streams(option, 1);
    nghttp2_option_set_max_settings(option, limits->max_settings_entries);
    nghttp2_option_set_max_outbound_ack(option, limits->max_outbound_acks);
    nghttp2_option_set_max_continuations(option, limits->max_continuations);
    nghttp2_option_set_stream_reset_rate_limit(option, limits->reset_burst,
                                               limits->reset_per_second);
    nghttp2_option_set_max_send_header_block_length(option, 1024 * 1024);
    *ret = option;
    return 0;
}

static int submit_settings(CH2Connection *connection) {
    const CH2Limits *limits = &connection->limits;
    nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, limits->stream_window_bytes},
        {NGHTTP2_SETTINGS_MAX_FRAME_SIZE, limits->max_frame_bytes},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, limits->max_header_list_bytes},
        {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},
        connection->server ? (nghttp2_settings_entry){NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS,
                                                      limits->max_concurrent_streams}
                           : (nghttp2_settings_entry){NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
    };
    int r = nghttp2_submit_settings(connection->session, NGHTTP2_FLAG_NONE, settings,
                                    sizeof settings / sizeof *settings);
    if (r != 0)
        return r;
    return nghttp2_session_set_local_window_size(connection->session, NGHTTP2_FLAG_NONE, 0,
                                                 (int32_t) limits->connection_window_bytes);
}

int session_new(CH2Connection *connection) {
    nghttp2_session_callbacks *callbacks = NULL;
    nghttp2_option *option = NULL;
    int r = new_callbacks(&callbacks);
    if (r == 0)
        r = new_options(&connection->limits, &option);
    if (r == 0)
        r = connection->server
                ? nghttp2_session_server_new2(&connection->session, callbacks, connection, option)
                : nghttp2_session_client_new2(&connection->session, callbacks, connection, option);
    nghttp2_session_callbacks_del(callbacks);
    nghttp2_option_del(option);
    return r == 0 ? submit_settings(connection) : r;
}

int ch2_connection_new(CH2Connection **ret, CH2Link *link, bool server, const CH2Limits *limits) {
    CH2Connection *connection = calloc(1, sizeof *connection);
    if (!connection) {
        ch2_link_free(link);
        return -ENOMEM;
    }
    connection->link = link;
    connection->server = server;
    connection->limits = *limits;
    int r = connection_errno(connection, session_new(connection));
    if (r < 0) {
        ch2_connection_free(connection);
        return r;
    }
    *ret = connection;
    return 0;
}
