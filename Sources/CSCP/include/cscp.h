/* CSCP: the controller layer. Accepts door controllers, keeps their sessions, hands their events up
 * in batches and takes acknowledgements and commands down.
 *
 * Threads. `n_io_threads` I/O threads of its own, each with its epoll instance, its listener (all
 * on one port, SO_REUSEPORT), its timer wheel and its connections: a connection never changes
 * threads. Every function below may be called from any thread unless it says otherwise, and none
 * blocks on the network. One thread at a time may take messages.
 *
 * Memory. A connection costs under 1 KiB of user-space memory when idle. Each I/O thread's ring
 * towards the taker has a fixed size; when it is full the thread stops reading from the connections
 * that have something to say, and TCP and the event window hold the controllers back. Nothing here
 * grows with the slowness of anybody.
 *
 * Errors are negative errno values; outputs (ret_...) are set on success only. This layer logs
 * nothing: what is worth a log line arrives as a CSCP_MSG_NOTICE, rationed per thread. */
#ifndef CSCP_H
#define CSCP_H

#include "cscp_frame.h"

#include <sys/socket.h>

#pragma clang assume_nonnull begin

typedef struct cscp cscp;

/* Addresses that agree with `address` in the first prefix_bits. IPv4 is mapped: ::ffff:192.0.2.0
 * with 96 + 24 bits. */
typedef struct cscp_network {
    uint8_t address[16];
    uint8_t prefix_bits; /* 0 ... 128 */
} cscp_network;

enum {
    CSCP_NETWORKS_MAX = 64,
    CSCP_TLS_NAME_MAX = 64, /* common name in a client's certificate */
};

/* --- The parking lot: connections that outlive the process -------------------------------------- */

/* Whoever keeps descriptors for the next process, whatever becomes of this one: the service manager.
 * Called from cscp_new(), and then from a thread of the layer's own, one call at a time; may block.
 * `context` is passed on. */
typedef struct cscp_keeper {
    /* Keeps a copy of fd under this name (printable, without ':', under 64 bytes). 0 once nothing
     * this process does can undo it but drop(); or -errno. */
    int (*keep)(void *_Nullable context, const char *name, int fd);
    /* Keeps what has this name no longer. 0, or -errno. */
    int (*drop)(void *_Nullable context, const char *name);
    void *_Nullable context;
} cscp_keeper;

/* What the former process had the keeper keep, as this one was given it. */
typedef struct cscp_inherited {
    const char *name;
    int fd;
} cscp_inherited;

typedef struct cscp_config {
    const char *bind_address;       /* numeric IPv4 or IPv6; "::" takes both. Copied. */
    uint16_t port;                  /* 0 = any free one, see cscp_port() */
    uint32_t n_io_threads;          /* 1 ... 64; default: one a core this process may use */
    uint32_t connections_max;       /* over all threads, 1 ... 1,000,000; default 100,000 */
    uint32_t backlog;               /* of each listener; default 4,096 */
    uint32_t handshake_timeout_ms;  /* default 10,000 */
    uint32_t handshakes_per_second; /* HELLOs taken, all threads; beyond it BUSY; default 20,000 */
    uint32_t handshake_burst;       /* default 20,000 */
    uint32_t busy_retry_ms, busy_jitter_ms; /* what BUSY says; default 2,000 and 5,000 */
    uint16_t window_k, window_w;    /* default 64, 16 */
    uint32_t t1_ms, t2_ms, t3_ms;   /* default 15,000, 100, 20,000 */
    uint8_t bulk_window;            /* 1 ... 4; default 2 */
    uint32_t send_queue_max; /* bytes of commands a connection may have waiting; default 65,536 */
    uint32_t commands_max;   /* commands a connection may have waiting or unanswered; default 256 */
    uint32_t ring_bytes;            /* a power of two per I/O thread; default 4 MiB */
    uint32_t resyncs_max;           /* in a session; default 3 */
    uint32_t hold_ms; /* how long a controller may wait for its range to be owned, or owned under a
                         high enough epoch, before it is sent away; default 5,000 */
    uint32_t outside_hold_ms; /* how long a HELLO for a serial outside the ranges waits for them to
                                 change before it is told BUSY; default 0: told at once */
    /* From where a connection may begin with a PROXY header (version 2): load balancers, and the
     * nodes of the cluster. At most CSCP_NETWORKS_MAX, copied; default none. */
    const cscp_network *_Nullable trusted;
    uint32_t n_trusted;
    /* Relaying costs a second descriptor a connection, and a port of ours towards the owner. */
    uint32_t relays_max;               /* over all threads, 0 ... 1,000,000; default 100,000 */
    uint32_t relay_buffer;             /* bytes that may wait for a slow side, in each direction,
                                          8,192 ... 32,768; default 16,384; none when idle */
    uint32_t relay_connect_timeout_ms; /* 10 ... 60,000; default 1,000 */
    uint32_t relay_hold_ms; /* how long an owner that is alive may be out of reach before its
                               controllers are sent away, to come in by another node: 10 ...
                               3,600,000; default 2,000 */
    /* With a keeper the listeners and, from 100 ms after they were accepted, all connections outlive
     * this process: the next one that is given what the keeper has goes on with them. Copied; default
     * none. */
    const cscp_keeper *_Nullable keeper;
    /* Copied. Of every fd whose name begins with "cscp." cscp_new() is the owner from the moment the
     * configuration was found sound; others are not looked at. */
    const cscp_inherited *_Nullable inherited;
    uint32_t n_inherited;
} cscp_config;

/* Fills in the defaults. */
void cscp_config_init(cscp_config *config);

/* Checks the configuration. Returns 0, or -EINVAL with *ret_why saying which field and why
 * (static). */
int cscp_config_check(const cscp_config *config, const char *_Nullable *_Nonnull ret_why);

/* Makes room in this process' table of descriptors for as many as it may go on with, in one step. It
 * grows by itself, too, but each time it doubles a process of several threads waits until all
 * processors have let go of the former one: some 15 ms. So before the second thread begins; at any
 * other time it only does no good. */
void cscp_make_room(const cscp_inherited *_Nullable inherited, uint32_t n_inherited);

/* Binds the listeners and starts the I/O threads. All signals are blocked in them. No controller is
 * welcomed before cscp_set_ranges() and cscp_set_valid_until(). -EADDRINUSE and the like from
 * bind(). */
int cscp_new(const cscp_config *config, cscp *_Nullable *_Nonnull ret);
/* Stops the threads and closes what is open: what is parked goes on with the next process, if there
 * is one. NULL is fine. Returns NULL. */
cscp *_Nullable cscp_free(cscp *_Nullable self);
/* The port that was bound. */
uint16_t cscp_port(const cscp *self);

/* What became of what was inherited. */
typedef struct cscp_resumption {
    uint32_t listeners;   /* gone on with */
    uint32_t rows;        /* of the lot */
    uint32_t connections; /* gone on with: `welcomed` of them get another WELCOME */
    uint32_t welcomed;
    uint32_t ended;       /* sockets of connections that had ended; those that their peers have left are
                             gone on with, and end at once */
    uint32_t stateless;   /* sockets of which nothing is known: closed; controllers connect again */
    uint32_t socketless;  /* connections without a socket: accepted just before the end */
    uint32_t unsound;     /* entries of the state that cannot be right */
    uint32_t undescribed; /* messages with sockets there were no descriptors for: they stay with the
                             keeper, and their controllers unserved */
    bool unknown_version; /* the state is of a later version, or none of ours: that is why */
} cscp_resumption;

void cscp_get_resumption(const cscp *self, cscp_resumption *ret);

/* Stops accepting, for good: a listener that is kept listens no more. With `goaway`, also tells every controller to
 * go (reason stopping) and to come back at once: one after another within spread_ms, so that each is away for as long as
 * it takes to connect. Connections stay until the peers close or cscp_free(). */
void cscp_stop_accepting(cscp *self, bool goaway, uint32_t spread_ms);

/* --- Ownership: the fence at the edge --------------------------------------------------------- */

/* Serials first ... last (both included), owned under `epoch`. */
typedef struct cscp_range {
    uint64_t first, last;
    uint64_t epoch;
} cscp_range;

/* Replaces the set of ranges this process acts for (sorted, without overlap, epochs >= 1, else
 * -EINVAL; -ENOMEM). Takes effect in each thread before that thread sends anything more.
 *
 * A HELLO for a serial outside is told BUSY; before the first call it waits (hold_ms). A session
 * that is outside now, whose range has another epoch now, or whose controller has seen a higher
 * one, ends for the taker (DISCONNECTED, not_owner) but keeps its connection: its keep-alives are
 * answered, its events read and dropped. When its serial is owned (again) under an epoch that is
 * high enough, it is sent another WELCOME, and CONNECTED begins a new session under a new handle,
 * from the last acknowledged event. After hold_ms without that it is sent away (GOAWAY, or BUSY
 * when it was never welcomed). */
int cscp_set_ranges(cscp *self, const cscp_range *_Nullable ranges, size_t n);

/* Serials first ... last are owned by somebody else, under `epoch`, and served at `address` (IPv4
 * or IPv6, with a port): the controller port of another node that takes PROXY headers from us. */
typedef struct cscp_route {
    uint64_t first, last;
    uint64_t epoch;
    struct sockaddr_storage address;
    bool alive; /* others hear from it: who cannot reach it from here may do so from elsewhere */
    bool apart; /* it is known that we cannot: who is to be relayed there is sent away at once */
} cscp_route;

/* Replaces the set of routes (sorted, without overlap, epochs >= 1, addresses with a port, else
 * -EINVAL; -ENOMEM). Where a range and a route hold a serial, the range counts. Takes effect as
 * cscp_set_ranges() does.
 *
 * A controller that says HELLO for a serial in a route, or whose session loses its range to one, is
 * relayed: its frames go to the node there and that node's come back. When that node goes away, or
 * the route changes, the controller stays; it is told WELCOME again once the next owner is found,
 * and sent away after hold_ms without one, or after relay_hold_ms in which there was no connection to
 * an owner that is alive. When its serial falls into a range it is welcomed here.
 * A connection that another node relays to us is never relayed on: outside the ranges it waits
 * (hold_ms) and is told BUSY. */
int cscp_set_routes(cscp *self, const cscp_route *_Nullable routes, size_t n);
/* Both at once: a serial that moves from one to the other is at no moment in neither. */
int cscp_set_ownership(cscp *self, const cscp_range *_Nullable ranges, size_t n,
                       const cscp_route *_Nullable routes, size_t n_routes);

/* Until when, on CLOCK_BOOTTIME in ns, the ranges may be acted for; UINT64_MAX = without limit.
 * Read at every single send of a command, an acknowledgement or a WELCOME. One atomic store, unless they
 * may be acted for again. */
void cscp_set_valid_until(cscp *self, uint64_t boottime_ns);

/* --- Messages: upwards ------------------------------------------------------------------------ */

typedef enum cscp_message_kind {
    CSCP_MSG_EVENT = 1,    /* event; also advisories (flag) */
    CSCP_MSG_LOG_GAP,      /* event.seq = from, through_seq = to */
    CSCP_MSG_LOG_RESET,    /* event.log_epoch = new, event.seq, event.code = cause; old_* */
    CSCP_MSG_RESULT,       /* id, status, reason, index, body */
    CSCP_MSG_COMMAND,      /* what became of a command on this side: id, status = outcome. One that
                              found its session gone may come after the DISCONNECTED */
    CSCP_MSG_CONNECTED,    /* welcomed: session, peer (text in body), hello fields */
    CSCP_MSG_DISCONNECTED, /* of a session that was CONNECTED: reason */
    CSCP_MSG_EPOCH_BEHIND, /* the controller has seen epoch_seen, above its range's (owner_epoch):
                              claim above it. The other fields as in CONNECTED; no session yet */
    CSCP_MSG_NOTICE,       /* a connection refused or ended for its peer's fault; reason, serial (0
                              if unknown), peer text in body, suppressed = notices left out before
                              it. Empty body: accepting pauses for want of descriptors or memory */
} cscp_message_kind;

typedef enum cscp_command_outcome {
    CSCP_COMMAND_SENT = 1,   /* handed to the network */
    CSCP_COMMAND_EXPIRED,    /* not_after passed before it could be sent; it was not sent */
    CSCP_COMMAND_UNSENT,     /* the session ended, or lost its ownership, before it was sent */
} cscp_command_outcome;

/* One message. Which fields mean something is said at the kinds. 16-byte ids are all zero
 * elsewhere. */
typedef struct cscp_message {
    uint32_t kind;       /* cscp_message_kind */
    uint32_t reason;     /* cscp_reason; RESULT: the controller's reason */
    uint64_t connection; /* handle of the session, never 0, not used again for 2^32 of its slot */
    uint64_t serial;
    uint64_t owner_epoch; /* of the serial's range when the message was read */
    uint64_t at_ms;       /* when it was read, ms UTC */

    /* EVENT, LOG_GAP, LOG_RESET; CONNECTED: log_epoch, and seq = resume_from */
    uint32_t log_epoch;
    uint8_t flags;
    uint8_t family;
    uint16_t code;
    uint64_t seq;
    uint64_t occurred_at_ms;
    uint16_t source_type, source_number;
    uint32_t old_log_epoch; /* LOG_RESET */
    uint64_t through_seq;   /* LOG_GAP: to; LOG_RESET: old_last_seq; CONNECTED: last_seq */

    /* RESULT, COMMAND */
    uint8_t id[CSCP_COMMAND_ID_SIZE];
    uint8_t status; /* cscp_result_status or cscp_command_outcome */
    uint8_t result_flags;
    uint32_t index;

    /* CONNECTED, EPOCH_BEHIND */
    uint64_t session_id;
    uint64_t acked_seq, oldest_seq;
    uint64_t epoch_seen;
    uint32_t capacity;
    uint8_t n_model, n_firmware;
    char model[CSCP_NAME_MAX], firmware[CSCP_NAME_MAX];

    uint32_t suppressed; /* NOTICE */

    uint32_t n_body;
    const uint8_t *_Nullable body; /* into the ring */
} cscp_message;

/* Takes up to n messages into `messages`, waiting up to timeout_ms (0 = not at all, -1 = as long as
 * it takes, or until cscp_wake()) while there is none. Returns their number, or -errno. Messages of
 * one connection come in the order they were read. The bodies stay valid until the next call, which
 * frees their room in the rings. One thread at a time. */
int cscp_get_messages(cscp *self, cscp_message *messages, size_t n, int timeout_ms);
/* The same for one message: 1, 0 (none), -errno. */
int cscp_get_message(cscp *self, cscp_message *message, int timeout_ms);
/* Lets a waiting cscp_get_messages() return 0 now. Async-signal-safe. */
void cscp_wake(cscp *self);

/* --- Acknowledgements and commands: downwards ------------------------------------------------- */

typedef struct cscp_ack {
    uint64_t connection; /* as in the message that is acknowledged */
    uint32_t log_epoch;
    uint64_t seq; /* cumulative; above what was received is ignored and counted (acks_invalid) */
} cscp_ack;

/* The vendor app has these on disk. Never blocks; wakes an I/O thread only when it sleeps. Acks for
 * sessions that are gone are dropped: the controller sends the events again. */
int cscp_event_ack(cscp *self, const cscp_ack *acks, size_t n);

/* A deadline that is past by every clock. A command that has it is sent all the same: the controller
 * answers with the result it remembers of that id, or with `expired`, for good, and does nothing.
 * It is how to learn what became of a command whose own deadline has passed. */
enum { CSCP_NOT_AFTER_PAST = 1 };

typedef struct cscp_command {
    uint8_t id[CSCP_COMMAND_ID_SIZE];
    uint64_t serial;
    uint64_t not_after_ms; /* host time, ms UTC; 0 = none; CSCP_NOT_AFTER_PAST */
    uint16_t code;
    uint8_t lane; /* cscp_lane */
    uint16_t n_body;
    const uint8_t *_Nullable body; /* copied */
} cscp_command;

/* Queues a command for the serial's session. Never blocks. 0: exactly one CSCP_MSG_COMMAND with
 * this id follows (sent, expired or unsent), and after `sent` a CSCP_MSG_RESULT or the session's
 * DISCONNECTED. -ENOTCONN no session here; -ENOBUFS its queue is full; -EMSGSIZE; -EINVAL;
 * -ENOMEM. */
int cscp_config_command(cscp *self, const cscp_command *command);

/* Ends a session: GOAWAY(reason, spread) and close. -ENOTCONN when it is gone. */
int cscp_disconnect(cscp *self, uint64_t connection, cscp_reason reason, uint32_t spread_ms);

/* --- Looking in ------------------------------------------------------------------------------- */

/* Sums over the threads, each read without stopping it: every counter is exact, the set of them is
 * not of one instant. */
typedef struct cscp_counters {
    uint64_t accepted, refused_busy, refused_limit, accept_pauses;
    uint64_t handshakes, superseded, rejected, handshake_timeouts, ping_timeouts, slow_readers;
    uint64_t frames_in, frames_out, bytes_in, bytes_out;
    uint64_t events, advisories, gaps, resets, acks_in, acks_out, acks_invalid;
    uint64_t commands_in, commands_sent, commands_expired, commands_unsent, results;
    uint64_t results_unknown; /* for commands that are not awaited; dropped */
    uint64_t resyncs, bytes_skipped;
    uint64_t fenced;      /* sends withheld because ownership had run out */
    uint64_t ring_full;   /* times a thread paused reading for the taker */
    uint64_t wakeups;     /* eventfd writes towards I/O threads */
    uint64_t proxies_taken, proxies_refused; /* PROXY headers; refused: also those malformed */
    /* Relayed connections; the counters above know their bytes and frames only while no owner is
     * attached. Losses: owners that were attached and went away; failures: attempts in vain. */
    uint64_t relay_attaches, relay_losses, relay_failures;
    uint64_t relay_frames_up, relay_bytes_up, relay_frames_down, relay_bytes_down;
    uint64_t relays; /* now, attached or not */
    /* The parking lot: messages that parked sockets, attempts in vain, rows replaced */
    uint64_t park_batches, park_failures, rows_swept;
    uint64_t parked; /* connections whose socket is parked, now */
    uint64_t closed[CSCP_REASON_MAX + 1]; /* connections ended, by reason */
    uint64_t connections; /* now, welcomed or not */
    uint64_t sessions;    /* now, welcomed */
    uint64_t unacked;     /* events received and not acknowledged, now */
} cscp_counters;

void cscp_get_counters(const cscp *self, cscp_counters *ret);

typedef struct cscp_session_info {
    uint64_t connection, serial, session_id, owner_epoch;
    uint64_t received_seq, acked_seq, hello_last_seq;
    uint32_t log_epoch, capacity;
    uint32_t commands_pending;
    uint64_t idle_ms;
    uint64_t connected_at_ms;
    char peer[56]; /* "192.0.2.7:40112", "[2001:db8::7]:40112"; as the PROXY header says */
    char model[CSCP_NAME_MAX + 1], firmware[CSCP_NAME_MAX + 1];
    char tls_name[CSCP_TLS_NAME_MAX + 1]; /* that a load balancer verified; "" = none */
    bool relayed;                         /* it came by another node */
} cscp_session_info;

/* Up to n welcomed sessions with serial >= from, by serial, as each I/O thread sees them (asked
 * through its mailbox; waits up to timeout_ms). Returns their number, or -ETIMEDOUT when a thread
 * did not answer: it is then hung. Also usable as a liveness check. */
int cscp_list_sessions(cscp *self, uint64_t from, cscp_session_info *ret_infos, size_t n,
                       int timeout_ms);

typedef struct cscp_relay_info {
    uint64_t serial;
    uint64_t epoch;    /* of the route */
    uint64_t since_ms; /* ms UTC: attached for so long, or without an owner */
    uint32_t attaches; /* owners found so far */
    uint32_t waiting_up, waiting_down; /* bytes, for the owner and for the controller */
    bool attached;
    char peer[56];  /* of the controller */
    char owner[56]; /* where the route leads */
} cscp_relay_info;

/* Up to n relayed controllers with serial >= from, by serial; otherwise as cscp_list_sessions(). Of
 * two connections of one serial the newer. */
int cscp_list_relays(cscp *self, uint64_t from, cscp_relay_info *ret_infos, size_t n,
                     int timeout_ms);

#pragma clang assume_nonnull end
#endif
