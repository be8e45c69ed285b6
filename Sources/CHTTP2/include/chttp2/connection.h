#pragma once

#include "chain.h"
#include "link.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#pragma clang assume_nonnull begin

// One HTTP/2 connection: a link, an nghttp2 session, its streams. What happens on it is collected as
// events, in order; the owner reads them after every call of receive and flush and then calls
// ch2_connection_clear(). No call-backs reach the owner, so no pointer of its own has to live in
// here: it names its streams by integers, CH2Stream.token.
typedef struct CH2Connection CH2Connection;

// Valid from the event (or ch2_connection_request()) that brought it until the clear that follows
// its CH2_EVENT_CLOSED. Commands on a stream that is closed already do nothing.
typedef struct CH2Stream {
    uint64_t token; // the owner's; 0 at first
    int32_t id;
    bool has_headers; // the peer's first block has come
    bool has_ended;   // the peer has ended its direction
} CH2Stream;

typedef enum CH2EventKind {
    // A header block, `bytes` as described at ch2_connection_request(); `flags` below. Informational
    // responses (1xx) are left out.
    CH2_EVENT_HEADERS = 1,
    // Body bytes, valid until the next receive. They count against the stream's window until
    // ch2_stream_consume().
    CH2_EVENT_DATA,
    // The peer has ended its direction.
    CH2_EVENT_END,
    // The stream is over; `code` is the HTTP/2 error code (0 = regular).
    CH2_EVENT_CLOSED,
    // `n_bytes` of the stream's chain have been put into frames.
    CH2_EVENT_DRAINED,
    // GOAWAY: `code`, `last_stream_id`, `bytes` is the debug data.
    CH2_EVENT_GOAWAY,
    CH2_EVENT_SETTINGS,
    // A PING from the peer (answered already).
    CH2_EVENT_PING,
    // The answer to a PING of ours; `opaque` is what it carried.
    CH2_EVENT_PONG,
} CH2EventKind;

enum {
    CH2_HEADERS_END_STREAM = 1,
    // Not the first block of its direction.
    CH2_HEADERS_TRAILERS = 2,
    // Above max_header_list_bytes: `bytes` holds only a part.
    CH2_HEADERS_TOO_LARGE = 4,
};

typedef struct CH2Event {
    CH2EventKind kind;
    uint32_t flags;
    uint32_t code;
    int32_t last_stream_id;
    CH2Stream *_Nullable stream;
    const uint8_t *_Nullable bytes;
    size_t n_bytes;
    uint64_t opaque;
} CH2Event;

typedef struct CH2Limits {
    uint32_t stream_window_bytes;     // per stream, 65,535 … 2^31 - 1
    uint32_t connection_window_bytes; // for all streams together
    uint32_t max_frame_bytes;         // largest frame we accept, 16,384 … 2^24 - 1
    uint32_t max_header_list_bytes;   // names + values + 32 each, per block
    uint32_t max_concurrent_streams;  // the peer may have open
    uint32_t max_settings_entries;    // in one SETTINGS frame
    uint32_t max_outbound_acks;       // unsent answers to PING and SETTINGS
    uint32_t max_continuations;       // CONTINUATION frames in one header block
    uint32_t reset_burst;             // RST_STREAM frames a client may send at once …
    uint32_t reset_per_second;        // … and per second on average
    uint32_t max_send_frame_bytes;    // largest DATA frame we send, if the peer takes it
} CH2Limits;

// Takes `link`, also when it fails. SETTINGS (and a client's preface) are queued: flush.
int ch2_connection_new(CH2Connection *_Nullable *_Nonnull ret, CH2Link *link, bool server,
                       const CH2Limits *limits);
// Closes the link. Pointers to its streams and events are dead.
CH2Connection *_Nullable ch2_connection_free(CH2Connection *_Nullable connection);

// Reads once into `buffer` and processes it: the number of bytes, 0 at the peer's end, -EAGAIN when
// there was nothing, -EPROTO when the peer broke the protocol beyond repair, -errno.
ssize_t ch2_connection_receive(CH2Connection *connection, void *buffer, size_t n);

// Sends what can be sent: 0 when nothing is left that could be, 1 when the link takes no more now.
int ch2_connection_flush(CH2Connection *connection);

// What to wait for: a set of CH2_READABLE and CH2_WRITABLE.
uint32_t ch2_connection_interest(const CH2Connection *connection);

// True when neither side has anything more to say: close it.
bool ch2_connection_is_done(const CH2Connection *connection);

// Bytes in frames that the link has not taken yet.
size_t ch2_connection_backlog(const CH2Connection *connection);
// Bytes the link has taken since the beginning; grows when it makes progress.
uint64_t ch2_connection_n_sent(const CH2Connection *connection);
// HEADERS and DATA frames sent since the beginning.
uint64_t ch2_connection_n_stream_frames_sent(const CH2Connection *connection);
// Since when a header block has been incomplete (ch2_now_ns()), 0 = none is.
uint64_t ch2_connection_headers_since(const CH2Connection *connection);
// What went wrong last, in words, for a log; "" when nothing has.
const char *ch2_connection_error_text(const CH2Connection *connection);

const CH2Event *_Nullable ch2_connection_events(const CH2Connection *connection, size_t *ret_n);
void ch2_connection_clear(CH2Connection *connection);

// Streams the peer lets us have open at once, and the largest header list it takes.
uint32_t ch2_connection_peer_max_streams(const CH2Connection *connection);
uint32_t ch2_connection_peer_max_header_list(const CH2Connection *connection);

// Opens a stream. `block` is a sequence of { u32 name length, u32 value length, name, value } in
// native byte order, pseudo-headers first; it is copied. The body is what is written afterwards.
// A positive result: the peer takes no new streams on this connection.
int ch2_connection_request(CH2Connection *connection, const uint8_t *block, size_t n,
                           CH2Stream *_Nullable *_Nonnull ret);

// Answers a stream the peer opened; with `end` the headers are all there is.
int ch2_stream_respond(CH2Connection *connection, CH2Stream *stream, const uint8_t *block,
                       size_t n, bool end);
// Appends to the body. Takes the chain's content.
int ch2_stream_write(CH2Connection *connection, CH2Stream *stream, CH2Chain *chain);
// Ends our direction after the body.
int ch2_stream_finish(CH2Connection *connection, CH2Stream *stream);
// Ends our direction after the body, with a header block.
int ch2_stream_trailers(CH2Connection *connection, CH2Stream *stream, const uint8_t *block,
                        size_t n);
int ch2_stream_reset(CH2Connection *connection, CH2Stream *stream, uint32_t code);
// Gives n received bytes back to the peer as window.
int ch2_stream_consume(CH2Connection *connection, CH2Stream *stream, size_t n);
// Whether the request has never been processed by the peer (it said so, or it was never sent).
bool ch2_stream_was_refused(const CH2Stream *stream);

int ch2_connection_ping(CH2Connection *connection, uint64_t opaque);
// First half of a graceful shutdown: GOAWAY that still lets streams under way arrive.
int ch2_connection_shutdown_notice(CH2Connection *connection);
// Second half: GOAWAY with the last stream accepted. Streams below it go on.
int ch2_connection_goaway(CH2Connection *connection, uint32_t code, const char *debug);
// GOAWAY, and the connection is done once it is sent.
int ch2_connection_terminate(CH2Connection *connection, uint32_t code, const char *debug);

#pragma clang assume_nonnull end
