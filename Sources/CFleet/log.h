/* A controller's log: records numbered from 1, kept until acknowledged or overwritten.
 *
 * A record costs 8 bytes while it is kept: what it says follows from (seed, serial, log_epoch,
 * seq), and only its time is remembered. Records that say something else (what a command did) are
 * kept beside it.
 *
 * Invariants: first <= last + 1; records first ... last are held; acked < next, for something sent
 * is in `items` until it is acknowledged; items are in order and the last of them ends at next -
 * 1. Fingerprints are summed when a record is acknowledged, but computed when it is sent, because
 * the log may overwrite a record that is under way. */
#ifndef FLEET_LOG_H
#define FLEET_LOG_H

#include "cscp_frame.h"
#include "world.h"

enum { FLEET_BODY_MAX = 16 };

typedef struct fleet_special {
    uint64_t seq;
    uint16_t code, source_type, source_number;
    uint8_t family, n_body;
    uint8_t body[FLEET_BODY_MAX];
} fleet_special;

typedef enum fleet_item_kind {
    FLEET_ITEM_RECORD,
    FLEET_ITEM_GAP,
    FLEET_ITEM_UNKNOWN, /* overwritten, and the host has them, as events or as a gap */
} fleet_item_kind;

/* Something sent and not acknowledged. */
typedef struct fleet_item {
    uint64_t last;  /* seq; GAP, UNKNOWN: to */
    uint64_t value; /* fingerprint (0 of a LOG_RESET); GAP, UNKNOWN: from */
    uint64_t at_us; /* when it was generated */
    uint32_t kind;
} fleet_item;

/* What remains of a log that was lost. */
typedef struct fleet_log_past {
    uint32_t epoch;
    uint64_t last, acked, sent_max;
    uint64_t gap_records, n_uncertain, fingerprint_sum;
    bool audited;
    uint32_t n_items; /* sent, not acknowledged: the host may have stored them all the same */
    fleet_item *items;
} fleet_log_past;

typedef struct fleet_log {
    uint32_t epoch;
    uint32_t previous_epoch; /* 0 = not known */
    uint64_t previous_last;
    uint16_t reset_cause; /* 0: record 1 is an event like others; else it is LOG_RESET */

    uint64_t first, last, acked;
    uint64_t next;     /* to be sent next */
    uint64_t sent_max; /* highest ever sent */

    uint64_t *times; /* of record s at s & (n_times - 1): see log.c */
    uint32_t n_times;
    uint32_t n_specials, n_specials_allocated;
    fleet_special *specials;

    fleet_item *items; /* a ring */
    uint32_t items_at, n_items, n_items_allocated;

    uint64_t fingerprint_sum; /* of EVENT records acknowledged */
    uint64_t gap_records;     /* acknowledged as gone */
    uint64_t n_uncertain;     /* sent as events once and declared gone later, or UNKNOWN */

    bool audited; /* the vendor app said something of it */
    fleet_log_past *past;
    uint32_t n_past;
} fleet_log;

/* A record as it is sent. Does not move: event.body points into it. */
typedef struct fleet_record {
    bool is_reset;
    bool priority;
    uint64_t at_us;
    cscp_event event;
    cscp_log_reset reset;
    uint8_t body[FLEET_BODY_MAX];
} fleet_record;

/* A first log. reset_cause 0: the very first a controller ever had. */
void fleet_log_init(fleet_log *self, const fleet_world *world, uint32_t epoch, uint16_t reset_cause,
                    fleet_now now);
void fleet_log_clear(fleet_log *self);

/* Writes a record; `special` NULL: one that follows from its number. Overwrites the oldest when the
 * log is full. The controller's clock is off by skew_s. */
void fleet_log_append(fleet_log *self, const fleet_world *world, const fleet_special *special,
                      fleet_now now, int32_t skew_s);

/* Begins the next log; record 1 is its LOG_RESET. */
void fleet_log_reset(fleet_log *self, const fleet_world *world, uint16_t cause, fleet_now now,
                     int32_t skew_s);

/* Record `seq`, which is held. */
void fleet_log_get(const fleet_log *self, const fleet_world *world, uint64_t serial, uint64_t seq,
                   fleet_record *ret);

/* What record `seq` of any log would say by itself. */
void fleet_event_derive(const fleet_world *world, uint64_t serial, uint32_t log_epoch, uint64_t seq,
                        fleet_record *ret);

/* WELCOME said resume_from. */
void fleet_log_resume(fleet_log *self, const fleet_world *world, uint64_t serial,
                      uint64_t resume_from);

/* Sends what may be sent: at most k items are under way. Records up to replay_through carry the
 * replayed flag. */
void fleet_log_send(fleet_log *self, const fleet_world *world, uint64_t serial, uint32_t k,
                    uint64_t replay_through, fleet_out *out);

/* Everything up to seq, which has been sent, is acknowledged. Returns the number of records that
 * were not before. */
uint64_t fleet_log_ack(fleet_log *self, const fleet_world *world, uint64_t seq, fleet_now now);

/* Forgets what was acknowledged. fleet_log_ack() does it. */
void fleet_log_trim(fleet_log *self);

/* Records held and not acknowledged; of them those written before a time. */
uint64_t fleet_log_unacked(const fleet_log *self);
uint64_t fleet_log_unacked_before(const fleet_log *self, uint64_t us);

#endif
