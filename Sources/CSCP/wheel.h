/* A hashed timer wheel of one thread: arming, re-arming and disarming are O(1), whatever the number
 * of timers. Times are boot_ms. A timer fires in the first advance at or after its time, at most
 * one tick late; one that lies further ahead than a turn of the wheel is looked at once a turn. */
#ifndef CSCP_WHEEL_H
#define CSCP_WHEEL_H

#include <stdint.h>

#include "list.h"

enum {
    CSCP_WHEEL_SLOTS = 1024,
    CSCP_WHEEL_TICK_MS = 16,
};

typedef struct cscp_timer {
    cscp_list link;
    uint64_t at_ms; /* while armed */
} cscp_timer;

typedef struct cscp_wheel {
    uint64_t tick; /* all up to this one were looked at */
    uint64_t occupied[CSCP_WHEEL_SLOTS / 64]; /* may say so of an empty slot, never the reverse */
    cscp_list slots[CSCP_WHEEL_SLOTS];
} cscp_wheel;

void cscp_wheel_init(cscp_wheel *wheel, uint64_t now_ms);
void cscp_timer_init(cscp_timer *timer);
/* Arms or re-arms. A time that has passed already fires at the next tick. */
void cscp_wheel_arm(cscp_wheel *wheel, cscp_timer *timer, uint64_t at_ms);
/* Fine for one that is not armed, and for one that is due. */
void cscp_timer_disarm(cscp_timer *timer);
/* Moves to now and appends the timers that are due, disarmed, to `due` (through their links). */
void cscp_wheel_advance(cscp_wheel *wheel, uint64_t now_ms, cscp_list *due);
/* How long until an advance may find something: 0 ... UINT64_MAX (nothing is armed). It may be too
 * early, never too late. */
uint64_t cscp_wheel_wait_ms(const cscp_wheel *wheel, uint64_t now_ms);

#endif
