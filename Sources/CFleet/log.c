/* The log's storage. Sending and acknowledging are in log_send.c.
 *
 * A time is one word: 40 bits of 10 us since the start (127 days) and 24 bits of the clock's error
 * in seconds, signed (97 days), as it was then. */
#include "log.h"

#include <stdlib.h>
#include <string.h>

enum { SKEW_BITS = 24, TIMES_MIN = 16, TIMES_KEPT = 64 };

static uint64_t time_pack(uint64_t us, int32_t skew_s) {
    return us / 10 << SKEW_BITS | ((uint32_t)skew_s & ((1u << SKEW_BITS) - 1));
}

static uint64_t time_us(uint64_t time) {
    return (time >> SKEW_BITS) * 10;
}

static int64_t time_skew_s(uint64_t time) {
    return (int64_t)(time << (64 - SKEW_BITS)) >> (64 - SKEW_BITS);
}

void fleet_log_clear(fleet_log *self) {
    for (uint32_t i = 0; i < self->n_past; i++)
        free(self->past[i].items);
    free(self->past);
    free(self->times);
    free(self->specials);
    free(self->items);
    *self = (fleet_log){0};
}

static void begin(fleet_log *self, uint32_t epoch, uint16_t reset_cause) {
    self->epoch = epoch;
    self->reset_cause = reset_cause;
    self->first = 1;
    self->last = self->acked = self->sent_max = 0;
    self->next = 1;
    self->n_specials = 0;
    self->items_at = self->n_items = 0;
    self->fingerprint_sum = self->gap_records = self->n_uncertain = 0;
}

void fleet_log_init(fleet_log *self, const fleet_world *world, uint32_t epoch, uint16_t reset_cause,
                    fleet_now now) {
    *self = (fleet_log){0};
    begin(self, epoch, reset_cause);
    if (reset_cause != 0)
        fleet_log_append(self, world, NULL, now, 0);
}

/* Makes room for one more time. Returns false when there is no memory for it. */
static bool reserve_time(fleet_log *self) {
    uint64_t n = self->last - self->first + 1;
    uint32_t n_times = self->n_times > 0 ? 2 * self->n_times : TIMES_MIN;
    uint64_t *times;

    if (n < self->n_times)
        return true;
    times = malloc(n_times * sizeof(*times));
    if (!times)
        return false;
    for (uint64_t seq = self->first; seq <= self->last; seq++)
        times[seq & (n_times - 1)] = self->times[seq & (self->n_times - 1)];
    free(self->times);
    self->times = times;
    self->n_times = n_times;
    return true;
}

static void drop_specials(fleet_log *self) {
    uint32_t n = 0;

    while (n < self->n_specials && self->specials[n].seq < self->first)
        n++;
    if (n == 0)
        return;
    memmove(self->specials, self->specials + n, (self->n_specials - n) * sizeof(*self->specials));
    self->n_specials -= n;
}

static bool add_special(fleet_log *self, const fleet_special *special, uint64_t seq) {
    if (self->n_specials == self->n_specials_allocated) {
        uint32_t n = self->n_specials_allocated > 0 ? 2 * self->n_specials_allocated : 4;
        fleet_special *more = realloc(self->specials, n * sizeof(*more));
        if (!more)
            return false;
        self->specials = more;
        self->n_specials_allocated = n;
    }
    self->specials[self->n_specials] = *special;
    self->specials[self->n_specials++].seq = seq;
    return true;
}

static void overwrite_oldest(fleet_log *self, const fleet_world *world) {
    if (self->first > self->acked)
        fleet_count(&world->tally->overwritten, 1);
    self->first++;
    drop_specials(self);
}

void fleet_log_append(fleet_log *self, const fleet_world *world, const fleet_special *special,
                      fleet_now now, int32_t skew_s) {
    uint64_t seq = self->last + 1;

    while (self->last - self->first + 1 >= world->config->capacity)
        overwrite_oldest(self, world);
    while (!reserve_time(self)) {
        if (self->first > self->last)
            return; /* not even one record: it never happened */
        overwrite_oldest(self, world);
    }
    if (special && !add_special(self, special, seq))
        return;
    self->times[seq & (self->n_times - 1)] = time_pack(now.us, skew_s);
    self->last = seq;
    fleet_count(&world->tally->generated, 1);
}

/* The items under way, in order, in memory of their own. */
static fleet_item *copy_items(const fleet_log *self) {
    fleet_item *items;

    if (self->n_items == 0)
        return NULL;
    items = malloc(self->n_items * sizeof(*items));
    for (uint32_t i = 0; items && i < self->n_items; i++)
        items[i] = self->items[(self->items_at + i) & (self->n_items_allocated - 1)];
    return items;
}

void fleet_log_reset(fleet_log *self, const fleet_world *world, uint16_t cause, fleet_now now,
                     int32_t skew_s) {
    fleet_log_past *more = realloc(self->past, (self->n_past + 1) * sizeof(*more));

    if (more) {
        self->past = more;
        fleet_log_past *past = &self->past[self->n_past++];
        *past = (fleet_log_past){
            .epoch = self->epoch,
            .last = self->last,
            .acked = self->acked,
            .sent_max = self->sent_max,
            .gap_records = self->gap_records,
            .n_uncertain = self->n_uncertain,
            .fingerprint_sum = self->fingerprint_sum,
            .items = copy_items(self),
        };
        past->n_items = past->items ? self->n_items : 0;
    }
    fleet_count(&world->tally->reset_lost, fleet_log_unacked(self));
    fleet_count(&world->tally->resets, 1);
    self->previous_epoch = self->epoch;
    self->previous_last = self->last;
    begin(self, self->epoch + 1, cause);
    fleet_log_append(self, world, NULL, now, skew_s);
}

static const fleet_special *find_special(const fleet_log *self, uint64_t seq) {
    uint32_t low = 0, high = self->n_specials;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (self->specials[middle].seq < seq)
            low = middle + 1;
        else
            high = middle;
    }
    return low < self->n_specials && self->specials[low].seq == seq ? &self->specials[low] : NULL;
}

void fleet_log_get(const fleet_log *self, const fleet_world *world, uint64_t serial, uint64_t seq,
                   fleet_record *ret) {
    uint64_t time = self->times[seq & (self->n_times - 1)];
    uint64_t occurred_at_ms =
        world->wall_base_ms + time_us(time) / 1000 + (uint64_t)(time_skew_s(time) * 1000);
    const fleet_special *special = self->n_specials > 0 ? find_special(self, seq) : NULL;

    ret->is_reset = seq == 1 && self->reset_cause != 0;
    if (ret->is_reset) {
        ret->priority = false;
        ret->reset = (cscp_log_reset){
            .old_epoch = self->previous_epoch,
            .new_epoch = self->epoch,
            .seq = 1,
            .occurred_at_ms = occurred_at_ms,
            .old_last_seq = self->previous_last,
            .cause = self->reset_cause,
        };
    } else if (special) {
        memcpy(ret->body, special->body, sizeof(ret->body));
        ret->priority = false;
        ret->event = (cscp_event){
            .log_epoch = self->epoch,
            .family = special->family,
            .code = special->code,
            .seq = seq,
            .source_type = special->source_type,
            .source_number = special->source_number,
            .n_body = special->n_body,
            .body = ret->body,
        };
    } else {
        fleet_event_derive(world, serial, self->epoch, seq, ret);
    }
    ret->at_us = time_us(time);
    ret->event.occurred_at_ms = occurred_at_ms;
}

uint64_t fleet_log_unacked(const fleet_log *self) {
    uint64_t from = self->acked >= self->first ? self->acked : self->first - 1;
    return self->last - from;
}

uint64_t fleet_log_unacked_before(const fleet_log *self, uint64_t us) {
    uint64_t from = self->last + 1 - fleet_log_unacked(self), seq = from;

    while (seq <= self->last && time_us(self->times[seq & (self->n_times - 1)]) < us)
        seq++;
    return seq - from;
}

void fleet_log_trim(fleet_log *self) {
    if (self->first <= self->acked)
        self->first = self->acked + 1;
    if (self->n_specials > 0)
        drop_specials(self);
    if (self->first > self->last && self->n_times > TIMES_KEPT) {
        free(self->times);
        self->times = NULL;
        self->n_times = 0;
    }
}
