#include "wheel.h"

#include <stddef.h>

/* The first look at which it is due; a timer is never early, and at most two slots late. */
static uint64_t tick_of(uint64_t due_us) {
    return due_us / 1000 + (due_us % 1000 != 0);
}

void fleet_wheel_remove(fleet_timer *timer) {
    if (!timer->link)
        return;
    *timer->link = timer->next;
    if (timer->next)
        timer->next->link = timer->link;
    timer->link = NULL;
    timer->next = NULL;
}

void fleet_wheel_set(fleet_wheel *self, fleet_timer *timer, uint64_t due_us) {
    uint64_t tick = tick_of(due_us);
    unsigned slot;

    fleet_wheel_remove(timer);
    timer->due_us = due_us;
    if (due_us == UINT64_MAX)
        return;
    /* Not into the slot that is being emptied: one that is always due would never let it end. */
    if (tick <= self->tick)
        tick = self->tick + 1;
    slot = tick % FLEET_WHEEL_SLOTS;
    timer->next = self->slots[slot];
    timer->link = &self->slots[slot];
    if (timer->next)
        timer->next->link = &timer->next;
    self->slots[slot] = timer;
    self->occupied[slot / 64] |= 1ull << slot % 64;
}

fleet_timer *fleet_wheel_take(fleet_wheel *self, uint64_t now_us) {
    uint64_t now = now_us / 1000;

    /* Never round the wheel more than once. */
    if (now > self->tick + FLEET_WHEEL_SLOTS)
        self->tick = now - FLEET_WHEEL_SLOTS;
    for (; self->tick <= now; self->tick++) {
        unsigned slot = self->tick % FLEET_WHEEL_SLOTS;
        if (!(self->occupied[slot / 64] & 1ull << slot % 64))
            continue;
        for (fleet_timer *timer = self->slots[slot]; timer; timer = timer->next)
            if (tick_of(timer->due_us) <= now) {
                fleet_wheel_remove(timer);
                return timer;
            }
        if (!self->slots[slot])
            self->occupied[slot / 64] &= ~(1ull << slot % 64);
    }
    return NULL;
}

int fleet_wheel_idle_ms(const fleet_wheel *self, uint64_t now_us, int max) {
    uint64_t now = now_us / 1000;

    for (uint64_t tick = self->tick; tick < now + (uint64_t)max; tick++) {
        unsigned slot = (unsigned)(tick % FLEET_WHEEL_SLOTS);
        if (self->occupied[slot / 64] & 1ull << slot % 64)
            return tick > now ? (int)(tick - now) : 0;
    }
    return max;
}
