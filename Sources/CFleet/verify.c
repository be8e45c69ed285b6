/* What was acknowledged against what is stored.
 *
 * A host may have stored more than it has acknowledged, so a log is compared up to the last record
 * that is stored: fingerprints of records under way are at hand for that. Where a record was sent,
 * then overwritten and declared gone, both are right and sums cannot be compared. The same when a
 * log was lost after a WELCOME that began again and before its records were sent anew: what had been
 * under way before, the host may have. */
#include "worker.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

/* One log, present or past. */
typedef struct side {
    uint32_t epoch;
    uint64_t acked, sent_max, gap_records, n_uncertain, fingerprint_sum;
    const fleet_item *items;
    uint32_t items_at, n_items, mask;
    bool *audited;
} side;

static side of_log(fleet_log *log) {
    return (side){log->epoch,       log->acked,           log->sent_max,
                  log->gap_records, log->n_uncertain,     log->fingerprint_sum,
                  log->items,       log->items_at,        log->n_items,
                  UINT32_MAX,       &log->audited};
}

static side of_past(fleet_log_past *past) {
    return (side){past->epoch,       past->acked,       past->sent_max,
                  past->gap_records, past->n_uncertain, past->fingerprint_sum,
                  past->items,       0,                 past->n_items,
                  UINT32_MAX,        &past->audited};
}

__attribute__((format(printf, 2, 3))) static void note(fleet *self, const char *format, ...) {
    va_list arguments;

    if (self->n_examples == sizeof(self->examples) / sizeof(*self->examples))
        return;
    va_start(arguments, format);
    vsnprintf(self->examples[self->n_examples++], sizeof(*self->examples), format, arguments);
    va_end(arguments);
}

static void lose(fleet *self, const fleet_audit *audit, uint64_t n, const char *what) {
    if (n == 0)
        return;
    self->verify_lost += n;
    note(self, "%" PRIu64 " log %" PRIu32 ": %" PRIu64 " %s", audit->serial, audit->log_epoch, n,
         what);
}

/* Sum of contents and of gaps as they must be when everything up to `last` is stored. False when
 * that cannot be told. */
static bool expect(const side *s, uint64_t last, uint64_t *ret_sum, uint64_t *ret_gaps) {
    uint64_t sum = s->fingerprint_sum, gaps = s->gap_records, known = s->acked;

    if (s->n_uncertain > 0)
        return false;
    for (uint32_t i = 0; i < s->n_items; i++) {
        const fleet_item *item = &s->items[(s->items_at + i) & s->mask];
        if (item->last > last)
            break;
        if (item->kind == FLEET_ITEM_UNKNOWN)
            return false;
        if (item->kind == FLEET_ITEM_GAP)
            gaps += item->last - item->value + 1;
        else
            sum += item->value;
        known = item->last;
    }
    if (known < last)
        return false;
    *ret_sum = sum;
    *ret_gaps = gaps;
    return true;
}

static void compare(fleet *self, const side *s, const fleet_audit *audit) {
    uint64_t sum, gaps, lost_before = self->verify_lost;

    *s->audited = true;
    self->verify_logs++;
    if (audit->duplicates > 0) {
        self->verify_duplicated += audit->duplicates;
        note(self, "%" PRIu64 " log %" PRIu32 ": %" PRIu64 " stored more than once", audit->serial,
             audit->log_epoch, audit->duplicates);
    }
    if (s->acked > audit->last_seq)
        lose(self, audit, s->acked - audit->last_seq, "acknowledged and not stored, at the end");
    if (audit->first_seq > 1)
        lose(self, audit, audit->first_seq - 1, "acknowledged and not stored, at the beginning");
    lose(self, audit, audit->holes, "missing in between");
    if (self->verify_lost != lost_before)
        return;
    if (audit->last_seq > s->sent_max) {
        self->verify_corrupt++;
        note(self, "%" PRIu64 " log %" PRIu32 ": stored up to %" PRIu64 ", sent up to %" PRIu64,
             audit->serial, audit->log_epoch, audit->last_seq, s->sent_max);
    } else if (expect(s, audit->last_seq, &sum, &gaps) &&
               (sum != audit->fingerprint_sum || gaps != audit->gap_records)) {
        self->verify_corrupt++;
        note(self, "%" PRIu64 " log %" PRIu32 ": what is stored is not what was sent",
             audit->serial, audit->log_epoch);
    }
}

static fleet_controller *find(fleet *self, uint64_t serial) {
    uint64_t number = serial - self->config.first_serial;

    if (number >= self->config.n_controllers)
        return NULL;
    return &self->workers[number % self->config.n_threads]
                .peers[number / self->config.n_threads]
                .controller;
}

void fleet_verify_log(fleet *self, const fleet_audit *audit) {
    fleet_controller *controller = find(self, audit->serial);
    fleet_log *log = controller ? &controller->log : NULL;

    if (!log)
        return;
    if (log->epoch == audit->log_epoch) {
        side s = of_log(log);
        s.mask = log->n_items_allocated - 1;
        compare(self, &s, audit);
    }
    for (uint32_t i = 0; i < log->n_past; i++)
        if (log->past[i].epoch == audit->log_epoch) {
            side s = of_past(&log->past[i]);
            compare(self, &s, audit);
        }
}

static void missing(fleet *self, uint64_t serial, const side *s) {
    fleet_audit audit = {.serial = serial, .log_epoch = s->epoch};

    if (!*s->audited)
        lose(self, &audit, s->acked, "acknowledged, and nothing of the log is stored");
}

void fleet_verify_finish(fleet *self) {
    for (uint64_t i = 0; i < self->config.n_controllers; i++) {
        fleet_controller *controller = find(self, self->config.first_serial + i);
        fleet_log *log = &controller->log;
        side s = of_log(log);

        missing(self, controller->serial, &s);
        for (uint32_t j = 0; j < log->n_past; j++) {
            s = of_past(&log->past[j]);
            missing(self, controller->serial, &s);
        }
    }
    self->verified = true;
}
