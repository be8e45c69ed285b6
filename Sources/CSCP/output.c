/* What controllers are sent. A turn's frames for a connection are put together and handed to the
 * socket in one piece. Nothing is committed before the socket took the first byte of it: what it
 * did not take is put together anew the next time, so that acknowledgements are the newest, urgent
 * commands overtake, deadlines and ownership are checked at the moment of sending. Only the rest of
 * a frame that was begun is kept. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

#include "thread.h"

typedef struct frame {
    uint32_t end; /* in the buffer */
    uint8_t owed; /* CSCP_OWE_..., or 0: a command */
    bool fenced;
    cscp_pending *command;
} frame;

typedef struct batch {
    size_t n_bytes, n_frames;
    size_t n_rest;       /* bytes at the beginning that belong to a frame begun before */
    uint64_t expires_ms; /* earliest deadline of a command in it */
    bool fenced;         /* something in it needs ownership */
    bool withheld;       /* something was left out for want of it */
    bool full;
    frame frames[CSCP_FRAMES_MAX];
} batch;

static uint64_t utc_ms(void) {
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static bool has_space(const batch *b) {
    return b->n_frames < CSCP_FRAMES_MAX && b->n_bytes < CSCP_WRITE_MAX;
}

static void add(batch *b, size_t n, unsigned owed, bool fenced, cscp_pending *command) {
    b->n_bytes += n;
    b->frames[b->n_frames++] = (frame){
        .end = (uint32_t)b->n_bytes,
        .owed = (uint8_t)owed,
        .fenced = fenced,
        .command = command,
    };
    b->fenced |= fenced;
}

static void add_owed(cscp_thread *t, cscp_conn *c, batch *b, bool fence) {
    unsigned mask = CSCP_OWE_PLAIN | (fence ? CSCP_OWE_FENCED : 0);
    unsigned owed;
    size_t n;

    /* Nothing goes ahead of a session's first WELCOME. */
    if (!fence && c->session.owe & CSCP_OWE_WELCOME && c->session.restarts == 0)
        mask = 0;
    /* What says the time says that of its writing: whoever waited for it reckons with no less. */
    if (c->session.owe & mask & (CSCP_OWE_WELCOME | CSCP_OWE_TIME))
        cscp_look_at_the_clocks(t);
    while ((n = cscp_session_write(&c->session, t->config, mask, &t->now,
                                   t->write_buffer + b->n_bytes, &owed)) > 0) {
        add(b, n, owed, (owed & CSCP_OWE_FENCED) != 0, NULL);
        mask &= ~owed;
    }
    if (!fence && c->session.owe & CSCP_OWE_FENCED)
        b->withheld = true;
}

static void add_commands(cscp_thread *t, cscp_conn *c, batch *b, bool fence) {
    cscp_lanes_cursor cursor;
    cscp_pending *command;
    uint64_t now_ms;

    if (!c->lanes || c->lanes->n_waiting == 0 || c->session.state != CSCP_OPEN)
        return;
    if (!fence) {
        b->withheld = true;
        return;
    }
    now_ms = utc_ms();
    cscp_lanes_begin(c->lanes, &cursor);
    while (has_space(b) &&
           (command = cscp_lanes_next(c->lanes, &cursor, t->config->bulk_window, now_ms))) {
        cscp_command_frame out = {
            .owner_epoch = c->session.owner_epoch,
            .not_after_ms = command->not_after_ms,
            .code = command->code,
            .lane = command->lane,
            .n_body = command->n_body,
            .body = command->body,
        };

        memcpy(out.id, command->id, sizeof(out.id));
        add(b, cscp_write_command(t->write_buffer + b->n_bytes, &out), 0, true, command);
        if (cscp_pending_can_expire(command) && command->not_after_ms < b->expires_ms)
            b->expires_ms = command->not_after_ms;
    }
    b->full = !has_space(b);
}

static void put_together(cscp_thread *t, cscp_conn *c, batch *b, bool fence) {
    b->n_bytes = b->n_frames = b->n_rest = 0;
    b->expires_ms = UINT64_MAX;
    b->fenced = b->withheld = b->full = false;
    if (c->rest) {
        if (c->rest_fenced && !fence) {
            b->withheld = true;
            return;
        }
        b->n_rest = b->n_bytes = (size_t)(c->rest->end - c->rest->begin);
        b->fenced = c->rest_fenced;
        memcpy(t->write_buffer, c->rest->bytes + c->rest->begin, b->n_rest);
    }
    add_owed(t, c, b, fence);
    add_commands(t, c, b, fence);
}

static void commit_frame(cscp_thread *t, cscp_conn *c, const frame *f) {
    CSCP_COUNT(t, frames_out, 1);
    if (f->command) {
        cscp_lanes_sent(c->lanes, f->command);
        cscp_up_command(t, f->command, CSCP_COMMAND_SENT);
        return;
    }
    cscp_session_written(&c->session, f->owed, &t->now);
    if (f->owed == CSCP_OWE_ACK)
        CSCP_COUNT(t, acks_out, 1);
}

/* n bytes of the batch were taken. Returns false when the connection is at its end. */
static bool commit(cscp_thread *t, cscp_conn *c, const batch *b, size_t n) {
    size_t begin = b->n_rest;

    if (!c->rest_passed)
        CSCP_COUNT(t, bytes_out, n);
    else if (n > b->n_rest)
        CSCP_COUNT(t, bytes_out, n - b->n_rest);
    c->progress_ms = t->now.boot_ms;
    if (c->rest) {
        if (n < b->n_rest) {
            c->rest->begin = (uint16_t)(c->rest->begin + n);
            return true;
        }
        c->rest = cscp_pool_give_back(&t->pool, c->rest);
        c->rest_passed = false;
    }
    for (size_t i = 0; i < b->n_frames && begin < n; i++) {
        const frame *f = &b->frames[i];

        commit_frame(t, c, f);
        if (f->end > n) {
            c->rest = cscp_pool_keep(&t->pool, t->write_buffer + n, f->end - n);
            c->rest_fenced = f->fenced;
            if (!c->rest) {
                cscp_conn_end(t, c, CSCP_REASON_CONNECTION_ERROR, 0);
                return false;
            }
        }
        begin = f->end;
    }
    return true;
}

static void expire(cscp_thread *t, cscp_conn *c) {
    uint64_t now_ms = utc_ms();
    cscp_pending *command;

    if (!c->lanes)
        return;
    while ((command = cscp_lanes_take_expired(c->lanes, now_ms)))
        cscp_up_command(t, command, CSCP_COMMAND_EXPIRED);
    if (cscp_lanes_are_empty(c->lanes))
        c->lanes = cscp_lanes_free(c->lanes);
}

/* Only then is epoll asked about writing: most connections never come here. */
void cscp_block(cscp_thread *t, cscp_conn *c) {
    struct epoll_event event = {
        .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
        .data.ptr = c,
    };

    c->blocked = true;
    if (c->watches_out)
        return;
    c->watches_out = true;
    epoll_ctl(t->epoll_fd, EPOLL_CTL_MOD, c->fd, &event);
}

/* One batch. True when another one may follow. */
static bool send_batch(cscp_thread *t, cscp_conn *c, batch *b) {
    ssize_t n;

    put_together(t, c, b, cscp_fence_is_open(t));
    /* Once more, with nothing left to do but to send. */
    if ((b->fenced && !cscp_fence_is_open(t)) ||
        (b->expires_ms != UINT64_MAX && utc_ms() >= b->expires_ms))
        put_together(t, c, b, cscp_fence_is_open(t));
    if (b->withheld) {
        if (!c->counted)
            CSCP_COUNT(t, fenced, 1);
        c->counted = true;
        cscp_stall(t, c);
    } else
        c->counted = false;
    if (b->n_bytes == 0)
        return false;
    cscp_ticket_sending(t, c, b->n_bytes);
    n = send(c->fd, t->write_buffer, b->n_bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0) {
        cscp_ticket_sent(t, c);
        if (errno == EINTR)
            return true;
        if (errno == EAGAIN || errno == ENOBUFS) {
            c->progress_ms = t->now.boot_ms;
            cscp_block(t, c);
        } else
            cscp_conn_end(t, c, CSCP_REASON_CONNECTION_ERROR, 0);
        return false;
    }
    if (!commit(t, c, b, (size_t)n))
        return false;
    cscp_ticket_sent(t, c);
    if ((size_t)n < b->n_bytes) {
        cscp_block(t, c);
        return false;
    }
    return b->full;
}

void cscp_output(cscp_thread *t, cscp_conn *c) {
    batch b;

    if (c->session.state == CSCP_OPEN && c->ranges_version != t->ranges_version)
        cscp_reconsider(t, c); /* the sweep has not come here yet */
    if (c->session.state == CSCP_AWAIT_WELCOME || c->session.state == CSCP_SUSPENDED)
        cscp_admit(t, c);
    if (c->session.state == CSCP_CLOSED || c->session.state == CSCP_AWAIT_HELLO)
        return;
    if (c->lanes && c->lanes->n_waiting > 0)
        expire(t, c);
    if (!c->blocked)
        while (send_batch(t, c, &b))
            ;
    if (c->session.state == CSCP_CLOSED)
        return;
    cscp_rearm(t, c);
    if (c->link && !c->rest && !c->blocked)
        cscp_link_drained(t, c);
}
