/* What a vendor app would have stored of each log: enough to be audited. */
#ifndef FLEET_STORE_H
#define FLEET_STORE_H

#include "check.h"
#include "cscp_frame.h"
#include "fleet.h"

enum { STORE_LOGS_MAX = 4096 };

typedef struct store {
    fleet_audit logs[STORE_LOGS_MAX];
    unsigned n;
    uint64_t n_records, n_repeated;
} store;

static inline fleet_audit *store_log(store *self, uint64_t serial, uint32_t log_epoch) {
    for (unsigned i = self->n; i-- > 0;)
        if (self->logs[i].serial == serial && self->logs[i].log_epoch == log_epoch)
            return &self->logs[i];
    CHECK(self->n < STORE_LOGS_MAX);
    self->logs[self->n] = (fleet_audit){.serial = serial, .log_epoch = log_epoch};
    return &self->logs[self->n++];
}

/* Records `from` ... `to`; `fingerprint` is 0 for what is no event. */
static inline void store_records(store *self, uint64_t serial, uint32_t log_epoch, uint64_t from,
                                 uint64_t to, uint64_t fingerprint, bool is_gap) {
    fleet_audit *log = store_log(self, serial, log_epoch);

    if (to <= log->last_seq) {
        self->n_repeated++;
        return;
    }
    if (log->first_seq == 0)
        log->first_seq = from;
    else if (from > log->last_seq + 1)
        log->holes += from - log->last_seq - 1;
    /* Some of it may have been stored as events before. */
    if (is_gap)
        log->gap_records += to - (from > log->last_seq ? from : log->last_seq + 1) + 1;
    log->last_seq = to;
    log->fingerprint_sum += fingerprint;
    self->n_records++;
}

static inline void store_verify(store *self, fleet *fleet) {
    for (unsigned i = 0; i < self->n; i++)
        fleet_verify_log(fleet, &self->logs[i]);
    fleet_verify_finish(fleet);
}

#endif
