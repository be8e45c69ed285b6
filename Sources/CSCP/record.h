/* Messages as they lie in a ring: the common part, which is all of an EVENT, then what the kind
 * needs beyond it, then the body. */
#ifndef CSCP_RECORD_H
#define CSCP_RECORD_H

#include "include/cscp.h"
#include "ring.h"

typedef struct cscp_record {
    cscp_ring_head head; /* kind: cscp_message_kind */
    uint64_t connection;
    uint64_t serial;
    uint64_t owner_epoch;
    uint64_t at_ms;
    uint32_t log_epoch;
    uint32_t reason;
    uint64_t seq;
    uint64_t occurred_at_ms;
    uint16_t code;
    uint16_t source_type, source_number;
    uint8_t flags, family;
    uint32_t n_body;
    uint32_t reserved;
} cscp_record;

/* RESULT, COMMAND */
typedef struct cscp_record_answer {
    uint8_t id[CSCP_COMMAND_ID_SIZE];
    uint32_t index;
    uint8_t status, result_flags;
    uint16_t reserved;
} cscp_record_answer;

/* LOG_GAP, LOG_RESET */
typedef struct cscp_record_log {
    uint64_t through_seq;
    uint32_t old_log_epoch;
    uint32_t reserved;
} cscp_record_log;

/* CONNECTED, EPOCH_BEHIND. Not to be taken before `after` in the ring of `after_thread`: the
 * messages of the session that this one superseded lie there. */
typedef struct cscp_record_session {
    uint64_t after;
    uint32_t after_thread;
    uint32_t capacity;
    uint64_t session_id;
    uint64_t acked_seq, oldest_seq, last_seq;
    uint64_t epoch_seen;
    uint8_t n_model, n_firmware;
    char model[CSCP_NAME_MAX], firmware[CSCP_NAME_MAX];
} cscp_record_session;

/* NOTICE */
typedef struct cscp_record_notice {
    uint32_t suppressed;
    uint32_t reserved;
} cscp_record_notice;

enum {
    CSCP_RECORD_MAX = sizeof(cscp_record) + sizeof(cscp_record_session) + CSCP_EVENT_BODY_MAX +
                      CSCP_RING_ALIGN,
    /* What n bytes from a controller can become, at most: a LOG_GAP of 40 becomes 96, an EVENT of
     * 48 becomes 80, a RESULT of 44 becomes 104. */
    CSCP_RECORD_GROWTH = 3,
    /* And what comes once: CONNECTED, DISCONNECTED, EPOCH_BEHIND, NOTICE. */
    CSCP_RECORD_SLACK = 1536,
};

/* Of what follows the common part. */
size_t cscp_record_extra(uint8_t kind);
/* Lays a message out for the taker; its body points into the record. */
void cscp_record_read(const cscp_record *record, cscp_message *ret);

static inline void *cscp_record_more(cscp_record *record) {
    return record + 1;
}
static inline const void *cscp_record_more_const(const cscp_record *record) {
    return record + 1;
}

#endif
