#include "ring.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

int cscp_ring_init(cscp_ring *ring, uint64_t capacity) {
    assert(capacity > 0 && (capacity & (capacity - 1)) == 0);
    *ring = (cscp_ring){.capacity = capacity};
    /* Untouched pages cost nothing until the first lap. */
    ring->bytes = aligned_alloc(CSCP_CACHE_LINE, capacity);
    return ring->bytes ? 0 : -ENOMEM;
}

void cscp_ring_done(cscp_ring *ring) {
    free(ring->bytes);
    ring->bytes = NULL;
}

static uint64_t to_end(const cscp_ring *ring, uint64_t position) {
    return ring->capacity - (position & (ring->capacity - 1));
}

uint64_t cscp_ring_room(cscp_ring *ring, uint64_t largest, uint64_t wanted) {
    uint64_t room = ring->capacity - (ring->tail - ring->head_seen);

    if (room < wanted + largest) {
        ring->head_seen = atomic_load_explicit(&ring->shared_head, memory_order_acquire);
        room = ring->capacity - (ring->tail - ring->head_seen);
    }
    /* A record that does not fit before the end leaves less than its own size unused there. */
    return room > largest ? room - largest : 0;
}

void *cscp_ring_write(cscp_ring *ring, uint32_t size) {
    uint64_t left = to_end(ring, ring->tail);
    cscp_ring_head *head;

    size = (size + CSCP_RING_ALIGN - 1u) & ~(CSCP_RING_ALIGN - 1u);
    if (left < size) {
        head = (cscp_ring_head *)(void *)(ring->bytes + (ring->tail & (ring->capacity - 1)));
        head->size = (uint32_t)left;
        head->kind = CSCP_RING_PAD;
        ring->tail += left;
    }
    head = (cscp_ring_head *)(void *)(ring->bytes + (ring->tail & (ring->capacity - 1)));
    head->size = size;
    ring->tail += size;
    assert(ring->tail - ring->head_seen <= ring->capacity);
    return head;
}

void cscp_ring_publish(cscp_ring *ring) {
    if (ring->published == ring->tail)
        return;
    ring->published = ring->tail;
    atomic_store_explicit(&ring->shared_tail, ring->tail, memory_order_release);
}

bool cscp_ring_want_room(cscp_ring *ring, uint64_t enough) {
    atomic_store_explicit(&ring->room_wanted, 1, memory_order_seq_cst);
    ring->head_seen = atomic_load_explicit(&ring->shared_head, memory_order_seq_cst);
    if (ring->capacity - (ring->tail - ring->head_seen) < enough)
        return true;
    atomic_store_explicit(&ring->room_wanted, 0, memory_order_relaxed);
    return false;
}

const void *cscp_ring_peek(cscp_ring *ring) {
    const cscp_ring_head *head;

    for (;;) {
        if (ring->head == ring->tail_seen) {
            ring->tail_seen = atomic_load_explicit(&ring->shared_tail, memory_order_acquire);
            if (ring->head == ring->tail_seen)
                return NULL;
        }
        head = (const cscp_ring_head *)(const void *)(ring->bytes +
                                                      (ring->head & (ring->capacity - 1)));
        if (head->kind != CSCP_RING_PAD)
            return head;
        ring->head += head->size;
    }
}

void cscp_ring_next(cscp_ring *ring) {
    const cscp_ring_head *head = (const cscp_ring_head *)(const void *)(
        ring->bytes + (ring->head & (ring->capacity - 1)));

    ring->head += head->size;
}

bool cscp_ring_release(cscp_ring *ring, uint64_t enough) {
    if (ring->head != atomic_load_explicit(&ring->shared_head, memory_order_relaxed))
        atomic_store_explicit(&ring->shared_head, ring->head, memory_order_seq_cst);
    if (!atomic_load_explicit(&ring->room_wanted, memory_order_seq_cst))
        return false;
    ring->tail_seen = atomic_load_explicit(&ring->shared_tail, memory_order_acquire);
    if (ring->capacity - (ring->tail_seen - ring->head) < enough)
        return false;
    return atomic_exchange_explicit(&ring->room_wanted, 0, memory_order_seq_cst) != 0;
}
