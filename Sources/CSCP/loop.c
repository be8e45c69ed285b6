#include <errno.h>
#include <sys/epoll.h>
#include <time.h>

#include "thread.h"

static uint64_t clock_us(clockid_t clock) {
    struct timespec ts;

    clock_gettime(clock, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

void cscp_look_at_the_clocks(cscp_thread *t) {
    t->now.boot_us = clock_us(CLOCK_BOOTTIME);
    t->now.boot_ms = t->now.boot_us / 1000;
    t->now.utc_ms = clock_us(CLOCK_REALTIME) / 1000;
}

bool cscp_fence_is_open(const cscp_thread *t) {
    uint64_t until = atomic_load_explicit(&t->cscp->valid_until, memory_order_acquire);
    struct timespec ts;

    if (atomic_load_explicit(&t->cscp->ranges_version, memory_order_acquire) != t->ranges_version)
        return false;
    if (until == UINT64_MAX)
        return true;
    clock_gettime(CLOCK_BOOTTIME, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec < until;
}

void cscp_want_output(cscp_thread *t, cscp_conn *c) {
    cscp_list_remove(&c->out); /* from the stalled, perhaps */
    cscp_list_append(&t->out, &c->out);
}

void cscp_stall(cscp_thread *t, cscp_conn *c) {
    cscp_list_remove(&c->out);
    cscp_list_append(&t->stalled, &c->out);
}

void cscp_await_ranges(cscp_thread *t, cscp_conn *c) {
    cscp_list_remove(&c->out);
    cscp_list_append(&t->early, &c->out);
}

static uint64_t earlier(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

/* Of the first command that expires, on the clock of the wheel. */
static uint64_t commands_deadline(const cscp_thread *t, const cscp_conn *c) {
    uint64_t not_after_ms, utc_ms = t->now.utc_ms;

    if (!c->lanes || c->lanes->n_waiting == 0)
        return UINT64_MAX;
    not_after_ms = cscp_lanes_deadline(c->lanes);
    if (not_after_ms == UINT64_MAX)
        return UINT64_MAX;
    return t->now.boot_ms + (not_after_ms > utc_ms ? not_after_ms - utc_ms : 0);
}

void cscp_rearm(cscp_thread *t, cscp_conn *c) {
    bool unread = cscp_list_is_linked(&c->ready);
    uint64_t at_ms = cscp_session_deadline(&c->session, t->config, &t->now, unread);

    if (c->session.state == CSCP_CLOSED)
        return;
    if (c->blocked)
        at_ms = earlier(at_ms, c->progress_ms + t->config->t1_ms);
    if (c->outside)
        at_ms = earlier(at_ms, c->session.since_ms + cscp_outside_hold_ms(t, c));
    if (c->link)
        at_ms = earlier(at_ms, cscp_link_deadline(t, c->link));
    at_ms = earlier(at_ms, commands_deadline(t, c));
    if (at_ms == UINT64_MAX)
        return; /* relayed, and all is well */
    /* Moving it later can wait until it fires: that costs one look instead of one for each
     * frame. */
    if (!cscp_list_is_linked(&c->timer.link) || at_ms < c->timer.at_ms)
        cscp_wheel_arm(&t->wheel, &c->timer, at_ms);
}

static void tick(cscp_thread *t, cscp_conn *c) {
    bool unread = cscp_list_is_linked(&c->ready);
    cscp_reason reason;

    if (c->session.state == CSCP_CLOSED) {
        cscp_conn_shut(t, c); /* lingered long enough */
        return;
    }
    reason = cscp_session_tick(&c->session, t->config, &t->now, unread);
    if (reason == CSCP_REASON_NONE && c->blocked &&
        t->now.boot_ms >= c->progress_ms + t->config->t1_ms)
        reason = CSCP_REASON_SLOW_READER;
    if (reason != CSCP_REASON_NONE) {
        cscp_conn_end(t, c, reason, t->config->busy_jitter_ms);
        return;
    }
    if (c->link && !cscp_link_tick(t, c))
        return;
    cscp_rearm(t, c);
    if (c->session.owe != 0 || c->lanes || c->outside || c->link)
        cscp_want_output(t, c);
}

static void let_time_pass(cscp_thread *t) {
    cscp_list due;

    cscp_list_init(&due);
    cscp_wheel_advance(&t->wheel, t->now.boot_ms, &due);
    while (!cscp_list_is_empty(&due)) {
        cscp_timer *timer = CSCP_CONTAINER(due.next, cscp_timer, link);

        cscp_timer_disarm(timer);
        tick(t, CSCP_CONTAINER(timer, cscp_conn, timer));
    }
    if (t->accept_resume_ms != 0 && t->now.boot_ms >= t->accept_resume_ms)
        cscp_accept_again(t);
}

/* True: they are others now. */
static bool take_ranges(cscp_thread *t) {
    struct cscp *cscp = t->cscp;

    if (atomic_load_explicit(&cscp->ranges_version, memory_order_acquire) == t->ranges_version)
        return false;
    pthread_mutex_lock(&cscp->ranges_lock);
    cscp_ranges_unref(t->ranges);
    t->ranges = cscp_ranges_ref(cscp->ranges);
    t->ranges_version = t->ranges->version;
    pthread_mutex_unlock(&cscp->ranges_lock);
    t->sweep = 0;
    return true;
}

/* Those that are stalled are tried again now and then, and when the fence is opened. */
static bool is_worth_another_try(cscp_thread *t, uint64_t *retry_at_ms) {
    bool worth = t->now.boot_ms >= *retry_at_ms;

    if (!cscp_list_is_empty(&t->stalled)) {
        bool open = cscp_fence_is_open(t);

        worth |= open && !t->fence_was_open;
        t->fence_was_open = open;
    }
    if (worth)
        *retry_at_ms = t->now.boot_ms + CSCP_RETRY_MS;
    return worth;
}

/* Whether another controller is to be told to go by now. */
static bool goaway_is_due(const cscp_thread *t) {
    uint64_t since_ms = t->now.boot_ms - t->goaway_began_ms;

    return t->goaway && t->goaway_sweep < cscp_table_n_slots(&t->table) &&
           (since_ms >= t->goaway_spread_ms ||
            t->n_goaways < t->n_guests * since_ms / t->goaway_spread_ms);
}

/* A part of the slots each turn, so that a change of ranges is no pause for everybody. Whoever is
 * used before his turn comes is looked at then: of thousands that are to be welcomed those come
 * first who have something to say. */
static void sweep(cscp_thread *t) {
    uint32_t n_slots = cscp_table_n_slots(&t->table);
    uint32_t end = t->sweep + CSCP_SWEEP_A_TURN < n_slots ? t->sweep + CSCP_SWEEP_A_TURN : n_slots;
    uint32_t n_wanting = 0;

    for (; t->sweep < end && n_wanting < CSCP_WELCOMES_A_TURN; t->sweep++) {
        cscp_conn *c = cscp_table_slot(&t->table, t->sweep);

        if (c->fd >= 0 && c->ranges_version != t->ranges_version) {
            cscp_reconsider(t, c);
            n_wanting += cscp_list_is_linked(&c->out);
        }
    }
    end = t->goaway_sweep + CSCP_SWEEP_A_TURN;
    for (; t->goaway_sweep < end && goaway_is_due(t); t->goaway_sweep++) {
        cscp_conn *c = cscp_table_slot(&t->table, t->goaway_sweep);

        if (c->fd < 0 || c->session.state == CSCP_CLOSED)
            continue;
        t->n_goaways++;
        cscp_session_goaway(&c->session, CSCP_REASON_STOPPING);
        if (c->session.owe != 0)
            cscp_want_output(t, c);
    }
}

void cscp_ring_filled(cscp_thread *t) {
    if (t->ring_is_full)
        return;
    t->ring_is_full = true;
    CSCP_COUNT(t, ring_full, 1);
}

static void read_the_ready(cscp_thread *t) {
    cscp_list due;
    unsigned n = 0;

    if (!t->ring_is_full && !cscp_up_settle(t))
        cscp_ring_filled(t);
    cscp_list_init(&due);
    cscp_list_splice(&due, &t->ready);
    while (!cscp_list_is_empty(&due) && !t->ring_is_full) {
        cscp_conn *c = CSCP_CONTAINER(due.next, cscp_conn, ready);

        cscp_list_remove(&c->ready);
        cscp_list_append(&t->ready, &c->ready); /* until there is nothing left to read */
        cscp_input(t, c);
        if (++n % 16 == 0)
            cscp_up_publish(t);
    }
    cscp_list_splice(&due, &t->ready); /* those not reached go first the next time */
    cscp_list_splice(&t->ready, &due);
}

/* The taker's slowness is nothing to them. */
static void pass_on(cscp_thread *t) {
    cscp_list due;

    cscp_list_init(&due);
    cscp_list_splice(&due, &t->links);
    while (!cscp_list_is_empty(&due)) {
        cscp_link *link = CSCP_CONTAINER(due.next, cscp_link, ready);

        cscp_list_remove(&link->ready);
        cscp_link_pass(t, link->conn);
    }
}

static void write_the_wanting(cscp_thread *t, bool other_ranges, bool retry) {
    cscp_list due;

    cscp_list_init(&due);
    if (other_ranges)
        cscp_list_splice(&due, &t->early);
    cscp_list_splice(&due, &t->out);
    if (retry)
        cscp_list_splice(&due, &t->stalled);
    while (!cscp_list_is_empty(&due)) {
        cscp_conn *c = CSCP_CONTAINER(due.next, cscp_conn, out);

        cscp_list_remove(&c->out);
        cscp_output(t, c);
    }
}

static void on_event(cscp_thread *t, const struct epoll_event *event) {
    cscp_conn *c = event->data.ptr;

    if (!c) {
        cscp_accept(t);
        return;
    }
    if (event->data.u64 & CSCP_EVENT_OF_OWNER) {
        c = (cscp_conn *)(uintptr_t)(event->data.u64 - CSCP_EVENT_OF_OWNER);
        cscp_link_owner_event(t, c, event->events);
        return;
    }
    if (event->data.ptr == &t->box || c->fd < 0)
        return;
    /* All of this is a hint only: the slot may have changed hands within this turn. */
    if (event->events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        c->hup = true;
    if (event->events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
        if (c->session.state == CSCP_RELAYED)
            cscp_link_heard(t, c);
        else if (!cscp_list_is_linked(&c->ready))
            cscp_list_append(&t->ready, &c->ready);
    }
    if (event->events & EPOLLOUT && c->blocked) {
        c->blocked = false;
        cscp_want_output(t, c);
    }
}

static bool is_busy(const cscp_thread *t) {
    uint32_t n_slots = cscp_table_n_slots(&t->table);

    return (!cscp_list_is_empty(&t->ready) && !t->ring_is_full) || !cscp_list_is_empty(&t->out) ||
           !cscp_list_is_empty(&t->links) ||
           t->sweep < n_slots || goaway_is_due(t);
}

/* How long to sleep, in ms; 0: not at all. */
static int sleep_ms(cscp_thread *t) {
    uint64_t wait;

    if (is_busy(t))
        return 0;
    if (t->ring_is_full && !cscp_ring_want_room(&t->ring, cscp_room_enough(&t->ring)))
        return 0;
    wait = cscp_wheel_wait_ms(&t->wheel, t->now.boot_ms);
    if (!cscp_list_is_empty(&t->stalled))
        wait = earlier(wait, CSCP_RETRY_MS);
    if (t->park.due_ms != 0)
        wait = earlier(wait, t->park.due_ms > t->now.boot_ms ? t->park.due_ms - t->now.boot_ms : 0);
    if (t->goaway && t->goaway_sweep < cscp_table_n_slots(&t->table))
        wait = earlier(wait, CSCP_GOAWAY_STEP_MS);
    if (t->accept_resume_ms != 0)
        wait = earlier(wait, t->accept_resume_ms > t->now.boot_ms
                                 ? t->accept_resume_ms - t->now.boot_ms
                                 : 0);
    if (wait == UINT64_MAX)
        return -1;
    return wait < 3600000 ? (int)wait : 3600000;
}

/* Returns the number of events, and in *ret_all whether they are all there were when t->now was
 * read. They are not when epoll has more than it can report at once, and when this process was
 * stopped meanwhile. */
static int wait_for_events(cscp_thread *t, struct epoll_event *events, bool at_once,
                           bool *ret_all) {
    int timeout = at_once ? 0 : sleep_ms(t);
    uint64_t latest_us;
    int n;

    if (timeout != 0 &&
        (!cscp_mailbox_sleep(&t->box) ||
         atomic_load_explicit(&t->cscp->ranges_version, memory_order_acquire) !=
             t->ranges_version))
        timeout = 0;
    latest_us = timeout < 0 ? UINT64_MAX
                            : clock_us(CLOCK_BOOTTIME) + (uint64_t)timeout * 1000 + CSCP_LATE_US;
    n = epoll_wait(t->epoll_fd, events, CSCP_FDS_A_TURN, timeout);
    cscp_mailbox_up(&t->box);
    cscp_look_at_the_clocks(t);
    *ret_all = n >= 0 && n < CSCP_FDS_A_TURN && t->now.boot_us <= latest_us;
    return n > 0 ? n : 0;
}

void *cscp_thread_run(void *argument) {
    cscp_thread *t = argument;
    struct epoll_event events[CSCP_FDS_A_TURN];
    uint64_t enough = cscp_room_enough(&t->ring);
    uint64_t retry_at_ms = 0, behind_since_ms = 0;

    if (!cscp_takeover_follow(&t->cscp->takeover, t))
        return NULL;
    while (!t->quit) {
        bool all, other_ranges;
        int n = wait_for_events(t, events, behind_since_ms != 0, &all);

        other_ranges = take_ranges(t);
        for (int i = 0; i < n; i++)
            on_event(t, &events[i]);
        if (t->ring_is_full && cscp_ring_room(&t->ring, 0, enough) >= enough)
            t->ring_is_full = false;
        cscp_handle_mail(t);
        sweep(t);
        cscp_bury(t);
        read_the_ready(t);
        pass_on(t);
        /* Time is let pass after what came in it was heard: that is not the controllers' silence.
         * But not for ever. */
        if (all)
            behind_since_ms = 0;
        else if (behind_since_ms == 0)
            behind_since_ms = t->now.boot_ms;
        if (behind_since_ms == 0 || t->now.boot_ms >= behind_since_ms + CSCP_BEHIND_MS)
            let_time_pass(t);
        write_the_wanting(t, other_ranges, is_worth_another_try(t, &retry_at_ms));
        cscp_park_turn(t);
        cscp_up_publish(t);
    }
    cscp_park_last(t);
    cscp_thread_close(t);
    return NULL;
}
