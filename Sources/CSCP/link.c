#include "link.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proxy.h"
#include "thread.h"

/* Beyond the state: an xorshift generator is enough to keep many from moving in step. */
static uint32_t any(cscp_thread *t) {
    t->random ^= t->random << 13;
    t->random ^= t->random >> 7;
    t->random ^= t->random << 17;
    return (uint32_t)(t->random >> 32);
}

/* --- Beginning and end */

static cscp_link *link_new(cscp_thread *t, cscp_conn *c, const cscp_way *way) {
    struct cscp *cscp = t->cscp;
    uint64_t handle = cscp_conn_handle(c, t->index), older;
    cscp_link *link;

    if (atomic_fetch_add_explicit(&cscp->n_relays, 1, memory_order_relaxed) >=
            cscp->config.relays_max ||
        !(link = malloc(sizeof(*link)))) {
        atomic_fetch_sub_explicit(&cscp->n_relays, 1, memory_order_relaxed);
        return NULL;
    }
    *link = (cscp_link){.conn = c, .fd = -1, .listed = handle, .since_utc_ms = t->now.utc_ms};
    cscp_list_init(&link->ready);
    cscp_relay_init(&link->relay, way, &t->now);
    /* For lists only: of two connections of a serial the newer is shown, and who of them stays the
     * owner decides. */
    if (cscp_directory_claim(cscp->relays, c->session.serial, handle, &older) == 0)
        cscp_directory_publish(cscp->relays, c->session.serial, handle);
    CSCP_COUNT(t, relays, 1);
    return link;
}

static void close_owner(cscp_thread *t, cscp_link *link) {
    if (link->fd >= 0)
        close(link->fd); /* leaves epoll by itself */
    link->fd = -1;
    link->readable = link->hup = link->blocked = false;
    link->check_at_ms = 0;
    link->in = cscp_pool_give_back(&t->pool, link->in);
    link->rest = cscp_pool_give_back(&t->pool, link->rest);
}

static void link_free(cscp_thread *t, cscp_conn *c) {
    cscp_link *link = c->link;

    close_owner(t, link);
    cscp_list_remove(&link->ready);
    cscp_directory_release(t->cscp->relays, c->session.serial, link->listed);
    atomic_fetch_sub_explicit(&t->cscp->n_relays, 1, memory_order_relaxed);
    CSCP_COUNT(t, relays, -1);
    c->link = NULL;
    free(link);
}

/* The session goes on here, without an owner. */
static void suspend(cscp_thread *t, cscp_conn *c) {
    cscp_session_suspend(&c->session, &t->now);
    if (c->link->heard && !cscp_list_is_linked(&c->ready))
        cscp_list_append(&t->ready, &c->ready);
    c->link->heard = false;
    c->link->since_utc_ms = t->now.utc_ms;
    cscp_rearm(t, c);
    cscp_want_output(t, c);
}

void cscp_link_lose(cscp_thread *t, cscp_conn *c, cscp_lost why) {
    cscp_link *link = c->link;
    bool attached = link->relay.state == CSCP_RELAY_ATTACHED;

    if (link->half_closed) { /* the controller's end, not the owner's */
        cscp_conn_end(t, c, CSCP_REASON_PEER_CLOSED, 0);
        return;
    }
    close_owner(t, link);
    cscp_list_remove(&link->ready);
    cscp_relay_lost(&link->relay, why, c->session.heard_at_ms, t->config, any(t), &t->now);
    if (attached)
        CSCP_COUNT(t, relay_losses, 1);
    else
        CSCP_COUNT(t, relay_failures, 1);
    if (c->session.state == CSCP_RELAYED)
        suspend(t, c);
    else
        cscp_rearm(t, c);
}

void cscp_link_drop(cscp_thread *t, cscp_conn *c) {
    if (!c->link)
        return;
    if (c->link->half_closed || c->link->ending) { /* too late to go on here */
        cscp_conn_end(t, c, c->link->ending ? (cscp_reason)c->link->end_reason
                                            : CSCP_REASON_PEER_CLOSED, c->link->end_spread_ms);
        return;
    }
    if (c->session.state == CSCP_RELAYED)
        suspend(t, c);
    link_free(t, c);
}

void cscp_link_end(cscp_thread *t, cscp_conn *c) {
    cscp_link *link = c->link;

    if (!link)
        return;
    if (link->rest && link->fd >= 0) {
        size_t n = (size_t)(link->rest->end - link->rest->begin);
        ssize_t sent = send(link->fd, link->rest->bytes + link->rest->begin, n,
                            MSG_NOSIGNAL | MSG_DONTWAIT);

        (void)sent; /* the controller has it all, and says it again */
    }
    link_free(t, c);
}

/* --- Owners that are out of reach */

static bool is_away(const cscp_thread *t, const cscp_target *target) {
    for (size_t i = 0; i < CSCP_AWAY_MAX; i++)
        if (t->now.boot_ms < t->away[i].until_ms && cscp_target_is(&t->away[i].target, target))
            return true;
    return false;
}

/* Whether a controller is to be kept from it; one of them now and then is not. */
static bool is_shunned(cscp_thread *t, const cscp_target *target) {
    for (size_t i = 0; i < CSCP_AWAY_MAX; i++) {
        if (t->now.boot_ms >= t->away[i].until_ms || !cscp_target_is(&t->away[i].target, target))
            continue;
        if (t->now.boot_ms < t->away[i].try_at_ms)
            return true;
        t->away[i].try_at_ms = t->now.boot_ms + CSCP_LINK_TRY_MS;
        return false;
    }
    return false;
}

static void forget_away(cscp_thread *t, const cscp_target *target) {
    for (size_t i = 0; i < CSCP_AWAY_MAX; i++)
        if (cscp_target_is(&t->away[i].target, target))
            t->away[i].until_ms = 0;
}

/* In the place of the one that was noted longest ago. */
static void note_away(cscp_thread *t, const cscp_target *target) {
    size_t place = 0;

    if (is_away(t, target))
        return;
    for (size_t i = 1; i < CSCP_AWAY_MAX; i++)
        if (t->away[i].until_ms < t->away[place].until_ms)
            place = i;
    t->away[place].target = *target;
    t->away[place].until_ms = t->now.boot_ms + CSCP_LINK_AWAY_MS;
    t->away[place].try_at_ms = t->now.boot_ms + CSCP_LINK_TRY_MS;
}

static void note_reached(cscp_thread *t, const cscp_target *target) {
    size_t place = 0;

    for (size_t i = 0; i < CSCP_AWAY_MAX; i++) {
        if (cscp_target_is(&t->reached[i].target, target)) {
            place = i;
            break;
        }
        if (t->reached[i].at_ms < t->reached[place].at_ms)
            place = i;
    }
    t->reached[place].target = *target;
    t->reached[place].at_ms = t->now.boot_ms;
    forget_away(t, target);
}

static uint64_t reached_at(const cscp_thread *t, const cscp_target *target) {
    for (size_t i = 0; i < CSCP_AWAY_MAX; i++)
        if (cscp_target_is(&t->reached[i].target, target))
            return t->reached[i].at_ms;
    return 0;
}

/* --- Finding the owner */

static int connect_to(const struct cscp *cscp, const cscp_target *target) {
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(target->port),
                               .sin6_addr = target->address, .sin6_scope_id = target->scope};
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(target->port)};
    bool v4 = IN6_IS_ADDR_V4MAPPED(&target->address);
    const struct sockaddr *address = v4 ? (const struct sockaddr *)&in
                                        : (const struct sockaddr *)&in6;
    int fd = socket(v4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int one = 1, most = CSCP_NOTSENT_MAX;

    if (fd < 0)
        return -errno;
    if (fd >= cscp->fds_end) {
        close(fd);
        return -EMFILE;
    }
    memcpy(&in.sin_addr, &target->address.s6_addr[12], sizeof(in.sin_addr));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
    setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &most, sizeof(most));
    /* No TCP_USER_TIMEOUT: an owner whose vendor app is slow takes nothing for as long as that
     * lasts. Who serves instead of a dead one, the routes say. */
    if (connect(fd, address, v4 ? sizeof(in) : sizeof(in6)) < 0 && errno != EINPROGRESS) {
        int error = errno;

        close(fd);
        return -error;
    }
    return fd;
}

static void begin(cscp_thread *t, cscp_conn *c) {
    cscp_link *link = c->link;
    struct epoll_event event = {
        .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
        .data.u64 = (uint64_t)(uintptr_t)c | CSCP_EVENT_OF_OWNER,
    };

    cscp_relay_connecting(&link->relay, t->config, &t->now);
    link->fd = connect_to(t->cscp, &link->relay.target);
    if (link->fd < 0 || epoll_ctl(t->epoll_fd, EPOLL_CTL_ADD, link->fd, &event) < 0) {
        cscp_link_lose(t, c, CSCP_LOST_REFUSED);
        return;
    }
    cscp_rearm(t, c);
}

void cscp_link_seek(cscp_thread *t, cscp_conn *c, const cscp_way *way) {
    if (way->apart) {
        cscp_conn_end(t, c, CSCP_REASON_OUT_OF_REACH, CSCP_LINK_APART_SPREAD_MS);
        return;
    }
    if (!c->link && way->alive && is_shunned(t, &way->target)) {
        cscp_conn_end(t, c, CSCP_REASON_OUT_OF_REACH, CSCP_LINK_AWAY_SPREAD_MS);
        return;
    }
    if (!c->link && !(c->link = link_new(t, c, way))) {
        cscp_conn_end(t, c, CSCP_REASON_TOO_MANY_CONNECTIONS, t->config->busy_jitter_ms);
        return;
    }
    if (cscp_relay_point(&c->link->relay, way, &t->now))
        cscp_link_lose(t, c, CSCP_LOST_MOVED);
    if (cscp_relay_is_due(&c->link->relay, c->session.heard_at_ms, &t->now))
        begin(t, c);
}

/* As the controller would say it now. What it was never told is acknowledged, it may send again:
 * who has it stored knows it. */
static size_t write_hello(const cscp_thread *t, const cscp_conn *c, uint8_t *out) {
    const cscp_session *s = &c->session;
    const cscp_ticket *ticket = cscp_ticket_of(t, c);
    uint64_t last = s->last_seq > s->received ? s->last_seq : s->received;
    cscp_hello hello = {
        .serial = s->serial,
        .version_min = CSCP_VERSION,
        .version_max = CSCP_VERSION,
        .capabilities = ticket->capabilities,
        .boot_id = ticket->boot_id,
        .log_epoch = s->log_epoch,
        .capacity = s->capacity,
        .oldest_seq = s->oldest_seq,
        .last_seq = last > s->ack_sent ? last : s->ack_sent,
        .acked_seq = s->ack_sent,
        .owner_epoch_seen = s->epoch_seen,
        .clock_ms = ticket->flags & CSCP_TICKET_HAS_CLOCK
                        ? t->now.utc_ms + ticket->clock_ahead_ms
                        : 0,
        .n_model = ticket->n_model,
        .n_firmware = ticket->n_firmware,
        .model = ticket->model,
        .firmware = ticket->firmware,
    };

    memcpy(hello.digest, ticket->digest, sizeof(hello.digest));
    return cscp_write_hello(out, &hello);
}

static size_t write_proxy(const cscp_conn *c, uint8_t *out) {
    struct sockaddr_storage here = {0};
    socklen_t size = sizeof(here);
    cscp_target target = {0};
    cscp_proxy proxy = {
        .has_source = true,
        .relayed = true,
        .again = cscp_session_is_welcomed(&c->session),
        .source = c->peer,
        .source_port = c->peer_port,
    };

    if (getsockname(c->fd, (struct sockaddr *)&here, &size) == 0)
        cscp_target_from(&here, &target);
    proxy.target = target.address;
    proxy.target_port = target.port;
    if (c->tls_name) {
        proxy.n_tls_name = (uint8_t)strlen(c->tls_name);
        memcpy(proxy.tls_name, c->tls_name, proxy.n_tls_name);
    }
    return cscp_proxy_write(out, &proxy);
}

void cscp_link_greet(cscp_thread *t, cscp_conn *c) {
    uint8_t bytes[CSCP_PROXY_WRITTEN_MAX + CSCP_FRAME_MAX];
    cscp_link *link = c->link;
    size_t n = write_proxy(c, bytes);
    ssize_t sent;

    n += write_hello(t, c, bytes + n);
    sent = send(link->fd, bytes, n, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && (errno == EAGAIN || errno == EINTR))
        return; /* not connected yet */
    if (sent != (ssize_t)n) {
        cscp_link_lose(t, c, CSCP_LOST_REFUSED);
        return;
    }
    cscp_relay_greeting(&link->relay, cscp_session_is_welcomed(&c->session));
    note_reached(t, &link->relay.target);
}

/* --- Time */

uint64_t cscp_link_deadline(const cscp_thread *t, const cscp_link *link) {
    uint64_t at_ms = cscp_relay_deadline(&link->relay, t->config);

    if (link->check_at_ms != 0 && link->check_at_ms < at_ms)
        at_ms = link->check_at_ms;
    return link->half_closed && link->close_at_ms < at_ms ? link->close_at_ms : at_ms;
}

void cscp_link_sent(cscp_thread *t, cscp_conn *c) {
    if (c->link->check_at_ms != 0)
        return;
    c->link->check_at_ms = t->now.boot_ms + CSCP_LINK_DEAD_MS;
    cscp_rearm(t, c);
}

/* TCP itself would go on for minutes. */
static void check(cscp_thread *t, cscp_conn *c) {
    cscp_link *link = c->link;
    struct tcp_info info = {0};
    socklen_t size = sizeof(info);

    link->check_at_ms = 0;
    if (link->fd < 0 || getsockopt(link->fd, IPPROTO_TCP, TCP_INFO, &info, &size) < 0 ||
        info.tcpi_unacked == 0)
        return;
    if (info.tcpi_retransmits >= CSCP_LINK_RESENT && info.tcpi_last_ack_recv >= CSCP_LINK_DEAD_MS)
        cscp_link_lose(t, c, CSCP_LOST_TIMEOUT);
    else
        link->check_at_ms = t->now.boot_ms + CSCP_LINK_RECHECK_MS;
}

bool cscp_link_tick(cscp_thread *t, cscp_conn *c) {
    cscp_link *link = c->link;

    if (link->half_closed && t->now.boot_ms >= link->close_at_ms) {
        cscp_conn_end(t, c, CSCP_REASON_PEER_CLOSED, 0);
        return false;
    }
    if (link->relay.state == CSCP_RELAY_CONNECTING && t->now.boot_ms >= link->relay.at_ms)
        cscp_link_lose(t, c, CSCP_LOST_TIMEOUT);
    else if (link->check_at_ms != 0 && t->now.boot_ms >= link->check_at_ms)
        check(t, c);
    if (c->link != link)
        return false;
    if (cscp_relay_is_apart(&link->relay, t->config, &t->now)) {
        if (cscp_relay_reconsider(&link->relay, reached_at(t, &link->relay.target), &t->now)) {
            cscp_link_lose(t, c, CSCP_LOST_MOVED);
            return c->link == link;
        }
        note_away(t, &link->relay.target);
        cscp_conn_end(t, c, CSCP_REASON_OUT_OF_REACH, CSCP_LINK_AWAY_SPREAD_MS);
        return false;
    }
    return true;
}

static uint32_t n_waiting(const cscp_buffer *in, const cscp_buffer *rest) {
    return (in ? (uint32_t)(in->end - in->begin) : 0) +
           (rest ? (uint32_t)(rest->end - rest->begin) : 0);
}

void cscp_link_describe(const cscp_conn *c, cscp_relay_info *ret) {
    const cscp_link *link = c->link;
    cscp_conn owner = {.peer = link->relay.target.address, .peer_port = link->relay.target.port};

    *ret = (cscp_relay_info){
        .serial = c->session.serial,
        .epoch = link->relay.epoch,
        .since_ms = link->since_utc_ms,
        .attaches = link->attaches,
        .waiting_up = n_waiting(c->in, link->rest),
        .waiting_down = n_waiting(link->in, c->rest),
        .attached = c->session.state == CSCP_RELAYED && !link->ending,
    };
    cscp_conn_peer_text(c, ret->peer);
    cscp_conn_peer_text(&owner, ret->owner);
}
