/* The order of a session's records and the window they move in. Part of the session machine. */
#ifndef CSCP_SESSION_ORDER_H
#define CSCP_SESSION_ORDER_H

#include "session.h"

typedef enum cscp_order {
    CSCP_ORDER_PASS,     /* new: hand it up */
    CSCP_ORDER_DROP,     /* handed up before, or sent before our newest WELCOME was read */
    CSCP_ORDER_BAD,      /* not the next */
    CSCP_ORDER_EXCEEDED, /* the next, but beyond the window */
} cscp_order;

/* Takes the record(s) from ... to of log_epoch into the stream. */
cscp_order cscp_order_record(cscp_session *s, const cscp_config *config, uint32_t log_epoch,
                             uint64_t from, uint64_t to);
/* Takes a LOG_RESET, record 1 of new_epoch. */
cscp_order cscp_order_reset(cscp_session *s, const cscp_config *config, uint32_t new_epoch,
                            uint64_t seq);
/* A newer log has begun, and nothing more than that is known of it. */
void cscp_order_skip(cscp_session *s, uint32_t log_epoch);
/* A new log: nothing in it was received yet. */
void cscp_order_begin(cscp_session *s, uint32_t log_epoch, uint64_t acked);
/* The stream begins again after what was acknowledged. */
void cscp_order_restart(cscp_session *s, const cscp_config *config, bool first);
/* Owes the acknowledgement that was held back, if by now it is worth a frame. */
void cscp_order_consider_ack(cscp_session *s, const cscp_config *config, const cscp_now *now);

#endif
