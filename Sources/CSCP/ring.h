/* A ring of bytes from one thread to another: records of any size up to a quarter of it, without
 * locks.
 *
 * The writer's functions are for one thread, the reader's for another. What was written is seen
 * after cscp_ring_publish(), what was read is free again after cscp_ring_release(). Positions count
 * bytes ever written; each side keeps its own copy of the other's and looks again only when that
 * does not do, so the two cores exchange a cache line once a batch, not once a record. A record
 * never wraps: what is left at the end is filled with a record of kind CSCP_RING_PAD. */
#ifndef CSCP_RING_H
#define CSCP_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "list.h"

enum {
    CSCP_RING_PAD = 0,
    CSCP_RING_ALIGN = 8,
};

/* How every record begins. */
typedef struct cscp_ring_head {
    uint32_t size; /* of the record, this included; a multiple of CSCP_RING_ALIGN */
    uint8_t kind;  /* never CSCP_RING_PAD */
    uint8_t free[3];
} cscp_ring_head;

typedef struct cscp_ring {
    uint8_t *bytes;
    uint64_t capacity; /* a power of two */

    _Alignas(CSCP_CACHE_LINE) uint64_t tail; /* writer: written */
    uint64_t published;                      /* writer: what the reader was told */
    uint64_t head_seen;                      /* writer: copy of shared_head */

    _Alignas(CSCP_CACHE_LINE) _Atomic uint64_t shared_tail;

    _Alignas(CSCP_CACHE_LINE) _Atomic uint64_t shared_head;
    _Atomic uint32_t room_wanted; /* the writer waits for room */

    _Alignas(CSCP_CACHE_LINE) uint64_t head; /* reader: read */
    uint64_t tail_seen;                      /* reader: copy of shared_tail */
} cscp_ring;

/* 0 or -ENOMEM. */
int cscp_ring_init(cscp_ring *ring, uint64_t capacity);
void cscp_ring_done(cscp_ring *ring);

/* --- Writer */

/* Bytes of records that certainly fit, if none of them is larger than `largest`. Looks at the
 * reader only when less than `wanted` is known to be free. */
uint64_t cscp_ring_room(cscp_ring *ring, uint64_t largest, uint64_t wanted);
/* Room for a record of `size` bytes, which must fit; the head's size is filled in. */
void *cscp_ring_write(cscp_ring *ring, uint32_t size);
void cscp_ring_publish(cscp_ring *ring);
/* Says that room is wanted. Returns false when there is some (`enough` bytes) after all. Otherwise
 * the reader will see it in cscp_ring_release(). */
bool cscp_ring_want_room(cscp_ring *ring, uint64_t enough);

/* --- Reader */

/* The next record, or NULL. */
const void *cscp_ring_peek(cscp_ring *ring);
/* Goes past the record that peek returned. It stays valid until the release. */
void cscp_ring_next(cscp_ring *ring);
/* Gives back all that was gone past. Returns true when the writer waits for room and `enough` bytes
 * are free now: the caller wakes it. */
bool cscp_ring_release(cscp_ring *ring, uint64_t enough);

#endif
