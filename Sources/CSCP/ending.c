/* How connections begin and end. */
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "thread.h"

cscp_conn *cscp_conn_open(cscp_thread *t, int fd, const struct sockaddr_storage *address) {
    cscp_conn *c = cscp_table_take(&t->table);
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET};

    if (!c)
        return NULL;
    event.data.ptr = c;
    if (epoll_ctl(t->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
        cscp_table_give_back(&t->table, c);
        return NULL;
    }
    c->fd = fd;
    c->fresh = true;
    cscp_ticket_draw(t, c);
    cscp_conn_set_peer(c, address);
    cscp_session_init(&c->session, &t->now);
    CSCP_COUNT(t, connections, 1);
    cscp_rearm(t, c);
    return c;
}

void cscp_conn_release(cscp_thread *t, cscp_conn *c) {
    if (c->session.state != CSCP_CLOSED || c->fd >= 0 || c->summoned || c->heir || c->departed ||
        cscp_list_is_linked(&c->owed.link))
        return;
    cscp_timer_disarm(&c->timer);
    cscp_list_remove(&c->ready);
    cscp_list_remove(&c->out);
    c->in = cscp_pool_give_back(&t->pool, c->in);
    c->rest = cscp_pool_give_back(&t->pool, c->rest);
    cscp_table_give_back(&t->table, c);
}

void cscp_conn_shut(cscp_thread *t, cscp_conn *c) {
    if (c->fd >= 0) {
        /* A copy in the lot would keep it in epoll as well. */
        if (c->row)
            epoll_ctl(t->epoll_fd, EPOLL_CTL_DEL, c->fd, NULL);
        cscp_park_leave(t, c);
        close(c->fd);
        c->fd = -1;
        CSCP_COUNT(t, connections, -1);
        atomic_fetch_sub_explicit(&t->cscp->n_connections, 1, memory_order_relaxed);
    }
    if (c->lingering) {
        c->lingering = false;
        t->n_lingering--;
    }
    cscp_timer_disarm(&c->timer);
    cscp_list_remove(&c->ready);
    cscp_list_remove(&c->out);
    cscp_conn_release(t, c);
}

void cscp_drop_commands(cscp_thread *t, cscp_conn *c) {
    cscp_pending *command;

    if (!c->lanes)
        return;
    while ((command = cscp_lanes_take_waiting(c->lanes)))
        cscp_up_command(t, command, CSCP_COMMAND_UNSENT);
    while ((command = cscp_lanes_take_any_awaited(c->lanes)))
        if (!cscp_list_is_linked(&command->owed.link))
            free(command);
    c->lanes = cscp_lanes_free(c->lanes);
}

static bool is_peers_fault(cscp_reason reason) {
    switch (reason) {
    case CSCP_REASON_SUPERSEDED:
    case CSCP_REASON_PEER_CLOSED:
    case CSCP_REASON_CONNECTION_ERROR:
    case CSCP_REASON_STOPPING:
    case CSCP_REASON_NOT_OWNER:
    case CSCP_REASON_OUT_OF_REACH:
        return false;
    default:
        return true;
    }
}

static void count_and_note(cscp_thread *t, const cscp_conn *c, cscp_reason reason) {
    CSCP_COUNT_CLOSED(t, reason);
    switch (reason) {
    case CSCP_REASON_BUSY:
        CSCP_COUNT(t, refused_busy, 1);
        /* A storm is one thing to say, not one for each of its drops. */
        if (t->busy_noticed_ms != 0 && t->now.boot_ms < t->busy_noticed_ms + 1000)
            return;
        t->busy_noticed_ms = t->now.boot_ms;
        break;
    case CSCP_REASON_TOO_MANY_CONNECTIONS:
        CSCP_COUNT(t, refused_limit, 1);
        break;
    case CSCP_REASON_SUPERSEDED:
        CSCP_COUNT(t, superseded, 1);
        break;
    case CSCP_REASON_HANDSHAKE_TIMEOUT:
        CSCP_COUNT(t, handshake_timeouts, 1);
        break;
    case CSCP_REASON_PING_TIMEOUT:
        CSCP_COUNT(t, ping_timeouts, 1);
        break;
    case CSCP_REASON_SLOW_READER:
        CSCP_COUNT(t, slow_readers, 1);
        break;
    default:
        if (is_peers_fault(reason))
            CSCP_COUNT(t, rejected, 1);
        break;
    }
    if (is_peers_fault(reason))
        cscp_up_notice(t, c, reason);
}

/* Sends the last frame. False when there is none, or no way to send it. */
static bool say_goodbye(cscp_thread *t, cscp_conn *c, cscp_reason reason, uint32_t spread_ms) {
    uint8_t frame[CSCP_FRAME_MAX];
    size_t n;

    if (c->rest || c->blocked)
        return false; /* in the middle of another frame */
    n = cscp_session_write_goodbye(&c->session, t->config, reason, spread_ms, frame);
    if (n == 0 || send(c->fd, frame, n, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)n)
        return false;
    CSCP_COUNT(t, frames_out, 1);
    CSCP_COUNT(t, bytes_out, n);
    return true;
}

/* Closing a socket with unread bytes resets it, and the peer never reads our last frame. So that
 * frame is followed by FIN, and what still comes is read and dropped until the peer closes or time
 * is up. */
static void linger(cscp_thread *t, cscp_conn *c) {
    shutdown(c->fd, SHUT_WR);
    c->lingering = true;
    t->n_lingering++;
    c->in = cscp_pool_give_back(&t->pool, c->in);
    cscp_list_remove(&c->out);
    cscp_wheel_arm(&t->wheel, &c->timer, t->now.boot_ms + CSCP_LINGER_MS);
    if (!cscp_list_is_linked(&c->ready))
        cscp_list_append(&t->ready, &c->ready);
}

void cscp_conn_end(cscp_thread *t, cscp_conn *c, cscp_reason reason, uint32_t spread_ms) {
    bool said;

    if (c->session.state == CSCP_CLOSED)
        return;
    cscp_ticket_tear(t, c);
    count_and_note(t, c, reason);
    said = say_goodbye(t, c, reason, spread_ms);
    cscp_link_end(t, c);
    if (c->claimed) /* no session any more, but the claim stays: see summons.c */
        cscp_directory_retract(t->cscp->directory, c->session.serial,
                               cscp_conn_handle(c, t->index), cscp_conn_handle(c, t->index));
    cscp_drop_commands(t, c);
    if (c->connected) {
        CSCP_COUNT(t, sessions, -1);
        CSCP_COUNT(t, unacked, -cscp_session_unacked(&c->session));
        c->connected = false;
        atomic_store_explicit(&c->handle, 0, memory_order_release);
        cscp_up_disconnected(t, c, cscp_conn_handle(c, t->index), reason);
    }
    cscp_session_close(&c->session);
    if (c->claimed && !c->summoned && !cscp_list_is_linked(&c->owed.link))
        cscp_depart(t, c);
    if (said && t->n_lingering < CSCP_LINGERING_MAX)
        linger(t, c);
    else
        cscp_conn_shut(t, c);
}
