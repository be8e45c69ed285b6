/* Sending the log and being acknowledged. */
#include "log.h"

#include <stdlib.h>

static fleet_item *item_at(const fleet_log *self, uint32_t i) {
    return &self->items[(self->items_at + i) & (self->n_items_allocated - 1)];
}

/* Room for one more item; false without memory. */
static bool reserve_item(fleet_log *self) {
    uint32_t n = self->n_items_allocated > 0 ? 2 * self->n_items_allocated : 8;
    fleet_item *items;

    if (self->n_items < self->n_items_allocated)
        return true;
    items = malloc(n * sizeof(*items));
    if (!items)
        return false;
    for (uint32_t i = 0; i < self->n_items; i++)
        items[i] = *item_at(self, i);
    free(self->items);
    self->items = items;
    self->n_items_allocated = n;
    self->items_at = 0;
    return true;
}

static void push_item(fleet_log *self, fleet_item item) {
    *item_at(self, self->n_items++) = item;
    self->next = item.last + 1;
    if (item.last > self->sent_max)
        self->sent_max = item.last;
}

static fleet_item item_of(const fleet_record *record, uint64_t serial, uint64_t seq) {
    return (fleet_item){
        .last = seq,
        .value = record->is_reset ? 0 : cscp_event_fingerprint(serial, &record->event),
        .at_us = record->at_us,
        .kind = FLEET_ITEM_RECORD,
    };
}

/* The host has the records up to `to` without their having been sent on this connection. */
static void skip_to(fleet_log *self, const fleet_world *world, uint64_t serial, uint64_t to) {
    while (self->next <= to && reserve_item(self)) {
        fleet_record record;

        if (self->next < self->first) {
            fleet_item gone = {.value = self->next, .kind = FLEET_ITEM_UNKNOWN};
            gone.last = to < self->first - 1 ? to : self->first - 1;
            if (self->n_items > 0 && item_at(self, self->n_items - 1)->kind == gone.kind)
                gone.value = item_at(self, --self->n_items)->value;
            push_item(self, gone);
            continue;
        }
        fleet_log_get(self, world, serial, self->next, &record);
        push_item(self, item_of(&record, serial, self->next));
    }
}

void fleet_log_resume(fleet_log *self, const fleet_world *world, uint64_t serial,
                      uint64_t resume_from) {
    if (resume_from - 1 > self->sent_max && resume_from - 1 > self->acked) {
        fleet_count(&world->tally->resume_invalid, 1);
        resume_from = self->sent_max + 1;
    }
    while (self->n_items > 0 && item_at(self, self->n_items - 1)->last >= resume_from)
        self->n_items--;
    if (resume_from <= self->acked) {
        fleet_count(&world->tally->resume_below_acked, 1);
        self->next = resume_from;
        return;
    }
    self->next = self->n_items > 0 ? item_at(self, self->n_items - 1)->last + 1 : self->acked + 1;
    skip_to(self, world, serial, resume_from - 1);
}

static void send_gap(fleet_log *self, const fleet_world *world, fleet_out *out) {
    cscp_log_gap gap = {.log_epoch = self->epoch, .from = self->next, .to = self->first - 1};

    if (gap.from <= self->sent_max) {
        uint64_t to = gap.to < self->sent_max ? gap.to : self->sent_max;
        self->n_uncertain += to - gap.from + 1;
        fleet_count(&world->tally->resent, 1);
    }
    out->n += cscp_write_log_gap(out->p + out->n, &gap);
    push_item(self, (fleet_item){.last = gap.to, .value = gap.from, .kind = FLEET_ITEM_GAP});
}

static void send_record(fleet_log *self, const fleet_world *world, uint64_t serial, bool replayed,
                        fleet_out *out) {
    uint64_t seq = self->next;
    fleet_record record;

    fleet_log_get(self, world, serial, seq, &record);
    if (seq <= self->sent_max)
        fleet_count(&world->tally->resent, 1);
    if (record.is_reset) {
        out->n += cscp_write_log_reset(out->p + out->n, &record.reset);
    } else {
        record.event.flags = (uint8_t)((replayed ? CSCP_EVENT_REPLAYED : 0) |
                                       (record.priority ? CSCP_EVENT_PRIORITY : 0));
        out->n += cscp_write_event(out->p + out->n, &record.event);
    }
    push_item(self, item_of(&record, serial, seq));
}

void fleet_log_send(fleet_log *self, const fleet_world *world, uint64_t serial, uint32_t k,
                    uint64_t replay_through, fleet_out *out) {
    uint64_t n = 0;

    while (self->next <= self->last && self->n_items < k && fleet_out_has_room(out) &&
           reserve_item(self)) {
        if (self->next < self->first)
            send_gap(self, world, out);
        else
            send_record(self, world, serial, self->next <= replay_through, out);
        n++;
    }
    if (n > 0)
        fleet_count(&world->tally->sent, n);
}

/* Acknowledged up to seq: records that are gone. False when that is only a part of them. */
static bool settle_gap(fleet_log *self, const fleet_world *world, fleet_item *item, uint64_t seq) {
    uint64_t to = item->last < seq ? item->last : seq;
    uint64_t from = item->value > self->acked ? item->value : self->acked + 1;
    uint64_t n = to >= from ? to - from + 1 : 0;

    if (item->kind == FLEET_ITEM_UNKNOWN) {
        self->n_uncertain += n;
    } else {
        self->gap_records += n;
        fleet_count(&world->tally->gap_records, n);
    }
    if (item->last > seq) {
        item->value = seq + 1;
        return false;
    }
    fleet_count(&world->tally->gaps, item->kind == FLEET_ITEM_GAP);
    return true;
}

static void settle_record(fleet_log *self, const fleet_world *world, const fleet_item *item,
                          fleet_now now) {
    /* The log overwrote it while it was under way, and the host has it after all. */
    if (item->last < self->first && item->last > self->acked)
        fleet_count(&world->tally->overwritten, UINT64_MAX);
    fleet_count(&world->tally->acked, 1);
    self->fingerprint_sum += item->value;
    fleet_histogram_add(&world->tally->ack, now.us > item->at_us ? now.us - item->at_us : 0);
}

uint64_t fleet_log_ack(fleet_log *self, const fleet_world *world, uint64_t seq, fleet_now now) {
    uint64_t before = self->acked;

    while (self->n_items > 0) {
        fleet_item *item = item_at(self, 0);
        if (item->kind != FLEET_ITEM_RECORD) {
            if (item->value > seq || !settle_gap(self, world, item, seq))
                break;
        } else {
            if (item->last > seq)
                break;
            settle_record(self, world, item, now);
        }
        self->items_at = (self->items_at + 1) & (self->n_items_allocated - 1);
        self->n_items--;
    }
    if (seq > self->acked)
        self->acked = seq;
    fleet_log_trim(self);
    return self->acked - before;
}
