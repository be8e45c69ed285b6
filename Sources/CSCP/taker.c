/* Taking messages: one thread at a time, from the rings of all I/O threads in turn. */
#include <errno.h>
#include <poll.h>
#include <time.h>
#include <unistd.h>

#include "include/cscp.h"
#include "thread.h"

/* Must something in another ring be taken first? See summons.c. What `after` counts was published
 * before this record was, so it is there to be taken, and this is never a wait. */
static bool must_wait(const cscp *self, const cscp_record *record) {
    const cscp_record_session *session;

    if (record->head.kind != CSCP_MSG_CONNECTED)
        return false;
    session = cscp_record_more_const(record);
    return self->threads[session->after_thread]->ring.head < session->after;
}

static size_t take_from(cscp *self, cscp_ring *ring, cscp_message *messages, size_t n) {
    const cscp_record *record;
    size_t taken = 0;

    while (taken < n && (record = cscp_ring_peek(ring))) {
        if (must_wait(self, record))
            break;
        cscp_record_read(record, &messages[taken++]);
        cscp_ring_next(ring);
    }
    return taken;
}

/* Starts with another ring each time, so that none is left behind when n is small. */
static size_t take(cscp *self, cscp_message *messages, size_t n) {
    size_t taken = 0;
    uint32_t idle = 0;

    while (taken < n && idle < self->n_threads) {
        cscp_ring *ring = &self->threads[self->taker_turn]->ring;
        size_t got = take_from(self, ring, messages + taken, n - taken);

        self->taker_turn = (self->taker_turn + 1) % self->n_threads;
        taken += got;
        idle = got > 0 ? 0 : idle + 1;
    }
    return taken;
}

static void give_back(cscp *self) {
    for (uint32_t i = 0; i < self->n_threads; i++) {
        cscp_thread *t = self->threads[i];

        if (cscp_ring_release(&t->ring, cscp_room_enough(&t->ring)))
            cscp_mailbox_wake(&t->box);
    }
}

static int64_t now_ms(void) {
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void sleep_for(cscp *self, int64_t ms) {
    struct pollfd poll_fd = {.fd = self->taker_fd, .events = POLLIN};
    uint64_t n_wakes;

    if (poll(&poll_fd, 1, ms < 0 ? -1 : ms < INT32_MAX ? (int)ms : INT32_MAX) <= 0)
        return;
    while (read(self->taker_fd, &n_wakes, sizeof(n_wakes)) < 0 && errno == EINTR)
        ;
}

int cscp_get_messages(cscp *self, cscp_message *messages, size_t n, int timeout_ms) {
    int64_t until = timeout_ms > 0 ? now_ms() + timeout_ms : 0;

    if (n == 0)
        return -EINVAL;
    if (n > INT32_MAX)
        n = INT32_MAX;
    give_back(self);
    for (;;) {
        size_t taken = take(self, messages, n);
        int64_t left;

        if (taken > 0 || timeout_ms == 0)
            return (int)taken;
        if (atomic_exchange_explicit(&self->taker_called, 0, memory_order_relaxed))
            return 0;
        left = timeout_ms < 0 ? -1 : until - now_ms();
        if (timeout_ms > 0 && left <= 0)
            return 0;
        /* Against cscp_up_publish(): either it sees us sleep or we see what it published. */
        atomic_store_explicit(&self->taker_sleeps, 1, memory_order_relaxed);
        atomic_thread_fence(memory_order_seq_cst);
        taken = take(self, messages, n);
        if (taken == 0)
            sleep_for(self, left);
        atomic_store_explicit(&self->taker_sleeps, 0, memory_order_relaxed);
        if (taken > 0)
            return (int)taken;
    }
}

int cscp_get_message(cscp *self, cscp_message *message, int timeout_ms) {
    return cscp_get_messages(self, message, 1, timeout_ms);
}

void cscp_wake(cscp *self) {
    uint64_t one = 1;
    int error = errno;

    atomic_store_explicit(&self->taker_called, 1, memory_order_release);
    if (write(self->taker_fd, &one, sizeof(one)) < 0)
        errno = error; /* full: then it wakes anyway */
}
