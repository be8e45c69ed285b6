/* One controller's session, as a pure machine: bytes and instants in, actions and frames out. It
 * does no I/O, reads no clock and allocates nothing; the I/O thread around it owns the socket and
 * asks the fence.
 *
 *   AWAIT_HELLO --HELLO--> AWAIT_WELCOME --welcome()--> OPEN --suspend()--> SUSPENDED
 *                                                        ^------welcome()------'
 *   AWAIT_WELCOME, SUSPENDED --relay()--> RELAYED --suspend()--> SUSPENDED
 *   any --close()--> CLOSED
 *
 * The machine never decides who owns a serial: HELLO and STALE are handed out as actions, and
 * welcome(), suspend() and close() come back in.
 *
 * Begin again. WELCOME may be sent a second time (another owner epoch). Records the controller sent
 * before it read that WELCOME are still under way, and nothing in them says so. They are at most k,
 * and the restart is recognised by its first record, `resume_from`; until then what does not fit is
 * dropped, not held against the controller. The same goes for a first WELCOME here when another host
 * has welcomed the controller on its connection before (`again`).
 *
 * Resumed. The process that had the connection is gone, and whatever it had read and sent is known
 * only as far as its ticket says (book.h). The bytes begin within a frame, perhaps; so the search for
 * the first whole one is no fault. How many WELCOMEs of that process, and of those before it, the
 * controller has yet to read, nobody knows: as many as CSCP_RESTARTS_AGAIN are reckoned with.
 *
 * Time. What a WELCOME or a TIME says is out of date by what it took on its way, which its reader knows
 * only if it has asked first: HELLO asks for a first WELCOME, PONG for a TIME. So TIME goes out after a
 * PONG and never else, and a PING whenever the time is to be told: with every WELCOME, when the clock
 * has jumped, and now and then. A WELCOME of the next process of the same host can wait for its PING.
 *
 * Relayed. Another host serves the controller; its frames pass (CSCP_ACT_PASS), and the session only
 * remembers what it must know to go on without that host: the log, what was acknowledged, the
 * highest epoch. Order and windows are the other host's to judge. */
#ifndef CSCP_SESSION_H
#define CSCP_SESSION_H

#include "include/cscp.h"

/* One instant, on the clocks that matter. */
typedef struct cscp_now {
    uint64_t boot_us; /* CLOCK_BOOTTIME: every duration */
    uint64_t boot_ms;
    uint64_t utc_ms; /* CLOCK_REALTIME: what controllers are told, and not_after */
} cscp_now;

typedef enum cscp_session_state {
    CSCP_AWAIT_HELLO,
    CSCP_AWAIT_WELCOME,
    CSCP_OPEN,
    CSCP_SUSPENDED,
    CSCP_RELAYED,
    CSCP_CLOSED,
    CSCP_SESSION_STATES,
} cscp_session_state;

/* Frames the controller is owed, in the order they are written. */
enum {
    CSCP_OWE_WELCOME = 1 << 0, /* fenced */
    CSCP_OWE_PONG = 1 << 1,
    CSCP_OWE_PING = 1 << 2,
    CSCP_OWE_TIME = 1 << 3,
    CSCP_OWE_ACK = 1 << 4, /* fenced */
    CSCP_OWE_GOAWAY = 1 << 5,
    CSCP_OWE_FENCED = CSCP_OWE_WELCOME | CSCP_OWE_ACK,
    CSCP_OWE_PLAIN = CSCP_OWE_PONG | CSCP_OWE_PING | CSCP_OWE_TIME | CSCP_OWE_GOAWAY,
};

enum {
    CSCP_TIME_INTERVAL_MS = 600000, /* the time is told at least so often */
    CSCP_TIME_RESUMED_MS = 5000,    /* and so soon after a process took over, when there is less to do */
    CSCP_CLOCK_STEP_MS = 200,       /* a step of the host's clock that is told at once */
    CSCP_ASK_MS = 100,              /* without another host after one: less is not worth a PING */
    CSCP_UNKNOWN_RESULTS_MAX = 64,  /* a controller remembers as many: more cannot be honest */
    CSCP_RESTARTS_AGAIN = 16, /* that may be under way for WELCOMEs of other hosts: windows of 64, as many as strays are let pass */
};

typedef struct cscp_session {
    /* What every event touches */
    uint64_t serial;
    uint64_t owner_epoch; /* told in the newest WELCOME */
    uint64_t next;        /* seq of the next record in the stream */
    uint64_t received;    /* highest handed up; next <= received + 1 */
    uint64_t acked;       /* highest that was acknowledged from above */
    uint64_t ack_sent;    /* highest the controller was told; ack_sent <= acked <= received */
    uint64_t gap_to;      /* end of the newest gap in the window; see session_order.c */
    uint64_t heard_at_ms; /* something was received */
    uint64_t ack_due_ms;  /* when the acknowledgement held back must go; 0 = none is */
    uint64_t ping_at_us;  /* when the unanswered PING was sent (its token); 0 = none */
    cscp_decoder decoder;
    uint32_t log_epoch;
    uint16_t strays_left; /* records before a restart that may still be dropped */
    uint8_t restarts;     /* WELCOMEs whose restart was not seen yet */
    uint8_t state;        /* cscp_session_state */
    uint8_t owe;
    uint8_t goaway_reason;
    uint32_t rtt_us, rtt_token; /* by the newest PONG; of its PING */
    uint32_t unknown_results;

    uint64_t resume_from; /* of the newest WELCOME */
    uint64_t gap_excess;  /* by how much the gaps in the window are longer than a record each */
    uint64_t session_id;
    uint64_t epoch_seen;           /* highest the controller has named */
    uint64_t oldest_seq, last_seq; /* of HELLO; of a newer log once that is known */
    uint64_t pong_token;
    uint64_t since_ms; /* in this state */
    uint64_t time_due_ms;
    uint64_t utc_offset_ms; /* utc - boot as the controller was last told */
    uint32_t capacity;
    bool again; /* another host has welcomed it on this connection; if we know it from elsewhere, set
                   before welcome() */
    bool resumed; /* by this process, and not welcomed since */
    bool ask;   /* SUSPENDED: what it asked the other host may never be answered; so we ask soon */
} cscp_session;

typedef enum cscp_action_kind {
    CSCP_ACT_NONE,   /* dealt with */
    CSCP_ACT_HELLO,  /* hello is in order: answer it with welcome() or close() */
    CSCP_ACT_EVENT,  /* hand up */
    CSCP_ACT_GAP,    /* hand up */
    CSCP_ACT_RESET,  /* hand up */
    CSCP_ACT_RESULT, /* of whom, the caller knows: see cscp_session_unknown_result() */
    CSCP_ACT_BEHIND, /* the controller has seen a higher epoch (epoch_seen): suspend() */
    CSCP_ACT_PASS,   /* RELAYED: the last `size` bytes consumed are for the other host */
    CSCP_ACT_CLOSE,  /* end it for `reason` */
} cscp_action_kind;

typedef struct cscp_action {
    uint8_t kind; /* cscp_action_kind */
    uint8_t type; /* of the frame that led to it, 0 = none */
    uint16_t size; /* of that frame */
    cscp_reason reason;
    union {
        cscp_hello hello;
        cscp_event event;
        cscp_log_gap gap;
        cscp_log_reset reset;
        cscp_result result;
    };
} cscp_action;

/* Was it welcomed, by whomever? */
static inline bool cscp_session_is_welcomed(const cscp_session *s) {
    return s->state == CSCP_OPEN || s->state == CSCP_SUSPENDED || s->state == CSCP_RELAYED;
}

void cscp_session_init(cscp_session *s, const cscp_now *now);
/* Goes on with a controller that has said HELLO to another process, and was `welcomed` or not: serial,
 * session_id, epoch_seen, capacity, oldest_seq, last_seq and `again` are set already. `acked`: at
 * least what the controller was told, at most what is stored. */
void cscp_session_resume(cscp_session *s, bool welcomed, uint32_t log_epoch, uint64_t acked,
                         const cscp_now *now);

/* Takes one frame from the start of buf[0..n). Returns 1 with *ret_action, or 0 when more bytes are
 * needed; either way *ret_consumed bytes are used up. After CSCP_ACT_CLOSE the caller calls
 * cscp_session_close() and reads no more. Pointers in the action go into buf. */
int cscp_session_read(cscp_session *s, const cscp_config *config, const uint8_t *buf, size_t n,
                      const cscp_now *now, cscp_action *ret_action, size_t *ret_consumed);

/* Opens the session, or opens it again, under owner_epoch: WELCOME is owed, and every record above
 * the last acknowledged one is expected again. AWAIT_WELCOME, OPEN or SUSPENDED; owner_epoch >=
 * epoch_seen. */
void cscp_session_welcome(cscp_session *s, const cscp_config *config, uint64_t owner_epoch,
                          const cscp_now *now);
/* Another host has welcomed the controller: from now on it is relayed to that one. AWAIT_WELCOME,
 * SUSPENDED or RELAYED. */
void cscp_session_relay(cscp_session *s, const cscp_welcome *welcome, const cscp_now *now);
/* That host's acknowledgement was passed on. */
void cscp_session_relayed_ack(cscp_session *s, uint32_t log_epoch, uint64_t seq);
/* Ownership is lost, or the other host: records are read and dropped, and nothing but keep-alives is
 * sent. */
void cscp_session_suspend(cscp_session *s, const cscp_now *now);
void cscp_session_close(cscp_session *s);

/* Everything up to seq is stored. True when that was a thing to say: false when the seq was never
 * received. What belongs to another log or session is not new and not wrong. */
bool cscp_session_ack(cscp_session *s, const cscp_config *config, uint32_t log_epoch, uint64_t seq,
                      const cscp_now *now);
/* Records received and not acknowledged. */
uint64_t cscp_session_unacked(const cscp_session *s);

/* A RESULT for a command that is not awaited. True when that was one too many. Another host's may be
 * answered to us. */
bool cscp_session_unknown_result(cscp_session *s, const cscp_config *config);

/* Owes GOAWAY without ending anything. */
void cscp_session_goaway(cscp_session *s, cscp_reason reason);

/* Lets time pass. `unread` says that bytes of the controller wait to be read: then silence is ours
 * and is not held against it, and it is kept from losing patience with us. Returns the reason to
 * end the session, or CSCP_REASON_NONE. */
cscp_reason cscp_session_tick(cscp_session *s, const cscp_config *config, const cscp_now *now,
                              bool unread);
/* When cscp_session_tick() has something to do, boot_ms; UINT64_MAX while it is relayed
 * and once it is closed. */
uint64_t cscp_session_deadline(const cscp_session *s, const cscp_config *config,
                               const cscp_now *now, bool unread);

/* Writes the next frame that is owed and in `mask` to out (CSCP_WELCOME_FRAME bytes suffice), and
 * says which in *ret_owed. Returns its size, 0 = none. Nothing changes until
 * cscp_session_written(), which is called once its first byte was taken by the network. */
size_t cscp_session_write(const cscp_session *s, const cscp_config *config, unsigned mask,
                          const cscp_now *now, uint8_t *out, unsigned *ret_owed);
void cscp_session_written(cscp_session *s, unsigned owed, const cscp_now *now);

/* The frame a session ends with, if there is a fitting one. Call before cscp_session_close(). */
size_t cscp_session_write_goodbye(const cscp_session *s, const cscp_config *config,
                                  cscp_reason reason, uint32_t spread_ms, uint8_t *out);

#endif
