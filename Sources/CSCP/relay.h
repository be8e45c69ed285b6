/* The way of one controller's frames to the node that owns its serial, as a pure machine: what the
 * owner sends, what becomes of the connection to it, and instants in; decisions out. The I/O thread
 * around it owns both sockets; the controller's side is a session in the state CSCP_RELAYED.
 *
 *   IDLE --connecting()--> CONNECTING --greeting()--> GREETING --WELCOME--> ATTACHED
 *     ^---------------------- lost() ---------------------------------------'
 *
 * What the owner says is either for the controller, and passes, or about the owner, and does not: a
 * controller is not sent away because a node stops. While there is no owner its session is
 * suspended, here, and told nothing but that we are alive. */
#ifndef CSCP_RELAY_H
#define CSCP_RELAY_H

#include "ranges.h"
#include "session.h"

typedef enum cscp_relay_state {
    CSCP_RELAY_IDLE,       /* tries again at at_ms */
    CSCP_RELAY_CONNECTING, /* until at_ms */
    CSCP_RELAY_GREETING,   /* HELLO was said; how long that may take is the session's to say */
    CSCP_RELAY_ATTACHED,   /* WELCOME came */
} cscp_relay_state;

/* Why the owner was lost. */
typedef enum cscp_lost {
    CSCP_LOST_REFUSED, /* there was no connection */
    CSCP_LOST_TIMEOUT, /* ... in time */
    CSCP_LOST_CLOSED,
    CSCP_LOST_BUSY,  /* it does not want this controller now */
    CSCP_LOST_FAULT, /* it sent what it may not */
    CSCP_LOST_MOVED, /* the route names another one */
} cscp_lost;

enum {
    CSCP_RELAY_RETRY_MS = 20, /* the first retry is within this; then it doubles */
    CSCP_RELAY_RETRY_BUSY_MS = 250,
    CSCP_RELAY_RETRY_MAX_MS = 1000,
    CSCP_RELAY_SETTLED_MS = 1000, /* attached for so long, the owner is sound */
};

typedef struct cscp_relay {
    cscp_target target;
    uint64_t epoch; /* of the route */
    uint64_t at_ms;
    uint64_t since_ms; /* ATTACHED, or lost */
    uint64_t apart_ms; /* since when an owner that is alive is out of reach; 0: it is not */
    cscp_decoder decoder;
    uint8_t state; /* cscp_relay_state */
    uint8_t tries; /* that failed, in a row */
    bool alive;    /* the owner, by the route */
    bool again;    /* the controller has been welcomed before */
    bool reconsidered; /* since it was last reached */
    bool silent;   /* it must say something before the owner is bothered with it again */
} cscp_relay;

void cscp_relay_init(cscp_relay *r, const cscp_way *way, const cscp_now *now);
/* The route as it is now. True when the connection that there is goes elsewhere: lose it, for
 * CSCP_LOST_MOVED. Whoever waits tries at once when the route has changed. */
bool cscp_relay_point(cscp_relay *r, const cscp_way *way, const cscp_now *now);
/* Is it time to connect? */
bool cscp_relay_is_due(const cscp_relay *r, uint64_t heard_at_ms, const cscp_now *now);
void cscp_relay_connecting(cscp_relay *r, const cscp_config *config, const cscp_now *now);
void cscp_relay_greeting(cscp_relay *r, bool again);
/* `heard_at_ms`: when the controller was last heard. An owner that closes without a word on a
 * controller that was silent for t3 has lost patience with it, not with us. */
void cscp_relay_lost(cscp_relay *r, cscp_lost why, uint64_t heard_at_ms, const cscp_config *config,
                     uint32_t random, const cscp_now *now);
/* An owner that is alive has been out of reach for relay_hold_ms: others may reach it. */
bool cscp_relay_is_apart(const cscp_relay *r, const cscp_config *config, const cscp_now *now);
/* It was, when another connection reached it last at `reached_ms`. True: it is in reach again, so it is to be tried now,
 * and has another relay_hold_ms. Once, for it may be this way only that is broken. */
bool cscp_relay_reconsider(cscp_relay *r, uint64_t reached_ms, const cscp_now *now);
/* When is_due() or is_apart() may turn true, or a connection has taken too long; boot_ms, UINT64_MAX =
 * never. */
uint64_t cscp_relay_deadline(const cscp_relay *r, const cscp_config *config);

typedef enum cscp_relay_act {
    CSCP_RELAY_DROP,
    CSCP_RELAY_PASS,
    CSCP_RELAY_WELCOME, /* pass; the session goes on with this owner */
    CSCP_RELAY_ACK,     /* pass; the controller knows so much from now on */
    CSCP_RELAY_END,     /* the controller is to be sent away, for `reason` */
    CSCP_RELAY_LOSE,    /* the owner is, for `lost` */
} cscp_relay_act;

typedef struct cscp_relay_action {
    uint8_t kind; /* cscp_relay_act */
    uint8_t lost; /* cscp_lost */
    uint16_t size; /* of the frame; it is the last of the bytes that were consumed */
    cscp_reason reason;
    uint32_t spread_ms;
    union {
        cscp_welcome welcome;
        cscp_event_ack_frame ack;
    };
} cscp_relay_action;

/* Takes one of the owner's frames from the start of buf[0..n). Returns 1 with *ret, or 0 when more
 * bytes are needed; either way *ret_consumed bytes are used up. Read no more after END or LOSE.
 * `epoch_seen`: the highest the controller has. */
int cscp_relay_read(cscp_relay *r, const cscp_config *config, uint64_t epoch_seen,
                    const uint8_t *buf, size_t n, const cscp_now *now, cscp_relay_action *ret,
                    size_t *ret_consumed);

#endif
