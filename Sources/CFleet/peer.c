/* A controller's socket: connecting, reading, writing. */
#include "random.h"
#include "worker.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { UNSENT_MAX = 64 * 1024, SLOW_RECEIVE_BUFFER = 4096 };

/* Asks for the events that matter now. */
static void watch(fleet_worker *self, fleet_peer *peer) {
    uint32_t events = 0;
    struct epoll_event event;

    if (peer->state == FLEET_SOCKET_CONNECTING) {
        events = EPOLLOUT;
    } else {
        if (peer->slow_until_us == 0 && peer->n_unsent <= UNSENT_MAX)
            events |= EPOLLIN;
        if (peer->n_unsent > 0)
            events |= EPOLLOUT;
    }
    if (events == peer->watched)
        return;
    event = (struct epoll_event){
        .events = events,
        .data.u64 = (uint64_t)peer->n_connects << 32 | (uint32_t)(peer - self->peers),
    };
    if (epoll_ctl(self->epoll_fd, EPOLL_CTL_MOD, peer->fd, &event) == 0)
        peer->watched = events;
}

void fleet_peer_rearm(fleet_worker *self, fleet_peer *peer) {
    uint64_t due = fleet_controller_due_us(&peer->controller, &self->world);

    if (peer->state == FLEET_SOCKET_CONNECTING && peer->connect_until_us < due)
        due = peer->connect_until_us;
    if (peer->slow_until_us != 0 && peer->slow_until_us < due)
        due = peer->slow_until_us;
    /* One that fires too early is set anew; moving it at every frame would cost more. */
    if (!peer->timer.link || due < peer->timer.due_us)
        fleet_wheel_set(&self->wheel, &peer->timer, due);
}

static void drop_buffers(fleet_peer *peer) {
    free(peer->kept);
    free(peer->unsent);
    peer->kept = peer->unsent = NULL;
    peer->n_kept = peer->n_unsent = 0;
    peer->decoder = (cscp_decoder){0};
    peer->slow_until_us = 0;
    peer->watched = 0;
}

void fleet_peer_close(fleet_worker *self, fleet_peer *peer, fleet_why why, bool reset,
                      fleet_now now) {
    struct linger linger = {.l_onoff = 1, .l_linger = 0};

    if (peer->state != FLEET_SOCKET_NONE) {
        if (reset)
            setsockopt(peer->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
        close(peer->fd);
    }
    peer->fd = -1;
    peer->state = FLEET_SOCKET_NONE;
    drop_buffers(peer);
    fleet_controller_closed(&peer->controller, &self->world, why, now);
    fleet_peer_rearm(self, peer);
}

bool fleet_peer_abandon(fleet_worker *self, fleet_peer *peer, fleet_now now) {
    uint64_t for_us = 5000000 + fleet_random_below(&self->random, 25000000);

    if (self->n_leftovers == FLEET_LEFTOVERS_MAX || peer->state != FLEET_SOCKET_OPEN)
        return false;
    epoll_ctl(self->epoll_fd, EPOLL_CTL_DEL, peer->fd, NULL);
    self->leftovers[self->n_leftovers++] =
        (fleet_leftover){.fd = peer->fd, .until_us = now.us + for_us};
    peer->state = FLEET_SOCKET_NONE;
    fleet_peer_close(self, peer, FLEET_CLOSED_BY_SELF, false, now);
    return true;
}

void fleet_peer_slow_down(fleet_worker *self, fleet_peer *peer, uint64_t until_us) {
    peer->slow_until_us = until_us;
    watch(self, peer);
    fleet_peer_rearm(self, peer);
}

/* --- Writing ---------------------------------------------------------------------------------- */

static bool keep_unsent(fleet_peer *peer, const uint8_t *p, size_t n) {
    uint8_t *more = realloc(peer->unsent, peer->n_unsent + n);

    if (!more)
        return false;
    memcpy(more + peer->n_unsent, p, n);
    peer->unsent = more;
    peer->n_unsent += (uint32_t)n;
    return true;
}

/* Sends `out`, or puts it behind what waits already. False: the connection is broken. */
static bool send_out(fleet_worker *self, fleet_peer *peer) {
    fleet_out *out = &self->out;
    size_t n = out->n, sent = 0;

    out->n = 0;
    if (n == 0)
        return true;
    if (peer->n_unsent == 0) {
        ssize_t r = send(peer->fd, out->p, n, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (r < 0 && errno != EAGAIN && errno != EINTR)
            return false;
        sent = r > 0 ? (size_t)r : 0;
        fleet_count(&self->tally.bytes_out, sent);
    }
    return sent == n || keep_unsent(peer, out->p + sent, n - sent);
}

static bool send_unsent(fleet_worker *self, fleet_peer *peer) {
    ssize_t r = send(peer->fd, peer->unsent, peer->n_unsent, MSG_NOSIGNAL | MSG_DONTWAIT);

    if (r < 0)
        return errno == EAGAIN || errno == EINTR;
    fleet_count(&self->tally.bytes_out, (uint64_t)r);
    peer->n_unsent -= (uint32_t)r;
    memmove(peer->unsent, peer->unsent + r, peer->n_unsent);
    if (peer->n_unsent == 0) {
        free(peer->unsent);
        peer->unsent = NULL;
    }
    return true;
}

void fleet_peer_flush(fleet_worker *self, fleet_peer *peer, fleet_now now) {
    bool sound = send_out(self, peer);

    while (sound && peer->n_unsent == 0) {
        fleet_controller_fill(&peer->controller, &self->world, now, &self->out);
        if (self->out.n == 0)
            break;
        sound = send_out(self, peer);
    }
    if (!sound) {
        fleet_peer_close(self, peer, FLEET_CLOSED_BY_HOST, false, now);
        return;
    }
    watch(self, peer);
    fleet_peer_rearm(self, peer);
}

/* After a step of the machine: what it wrote goes out, what it wants is done. */
static void settle(fleet_worker *self, fleet_peer *peer, fleet_verdict verdict, fleet_now now) {
    if (verdict == FLEET_CLOSE) {
        send_out(self, peer);
        fleet_peer_close(self, peer, FLEET_CLOSED_BY_SELF, false, now);
    } else if (peer->state == FLEET_SOCKET_OPEN) {
        fleet_peer_flush(self, peer, now);
    } else {
        self->out.n = 0;
        fleet_peer_rearm(self, peer);
    }
}

/* --- Connecting ------------------------------------------------------------------------------- */

static void open_socket(fleet_worker *self, fleet_peer *peer, fleet_now now) {
    const char *redirected = fleet_controller_address(&peer->controller);
    fleet *fleet = self->fleet;
    uint64_t turn = peer->controller.serial + peer->n_connects;
    fleet_target target = fleet->targets[turn % fleet->n_targets];
    struct epoll_event event = {.events = EPOLLOUT};
    int one = 1, small = SLOW_RECEIVE_BUFFER;

    peer->n_connects++;
    if (redirected && fleet_target_parse(redirected, true, &target) < 0)
        goto failed;
    peer->fd = socket(target.address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (peer->fd < 0)
        goto failed;
    peer->state = FLEET_SOCKET_CONNECTING;
    setsockopt(peer->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    /* Else the kernel would read for it, for a long time. */
    if (fleet->faults.rates[FLEET_FAULT_SLOW_READER] > 0)
        setsockopt(peer->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    event.data.u64 = (uint64_t)peer->n_connects << 32 | (uint32_t)(peer - self->peers);
    if (epoll_ctl(self->epoll_fd, EPOLL_CTL_ADD, peer->fd, &event) < 0)
        goto failed;
    peer->watched = event.events;
    if (connect(peer->fd, (struct sockaddr *)&target.address, target.n_address) < 0 &&
        errno != EINPROGRESS)
        goto failed;
    peer->connect_until_us = now.us + fleet->config.connect_timeout_ms * 1000ull;
    fleet_peer_rearm(self, peer);
    return;
failed:
    fleet_peer_close(self, peer, FLEET_CONNECT_FAILED, false, now);
}

static void on_connected(fleet_worker *self, fleet_peer *peer, fleet_now now) {
    int error = 0;
    socklen_t n = sizeof(error);

    if (getsockopt(peer->fd, SOL_SOCKET, SO_ERROR, &error, &n) < 0 || error != 0) {
        fleet_peer_close(self, peer, FLEET_CONNECT_FAILED, false, now);
        return;
    }
    peer->state = FLEET_SOCKET_OPEN;
    fleet_controller_connected(&peer->controller, &self->world, now, &self->out);
    fleet_peer_flush(self, peer, now);
}

void fleet_peer_due(fleet_worker *self, fleet_peer *peer, fleet_now now) {
    fleet_verdict verdict;

    if (peer->state == FLEET_SOCKET_CONNECTING && now.us >= peer->connect_until_us) {
        fleet_peer_close(self, peer, FLEET_CONNECT_FAILED, false, now);
        return;
    }
    if (peer->slow_until_us != 0 && now.us >= peer->slow_until_us) {
        peer->slow_until_us = 0;
        watch(self, peer);
    }
    verdict = fleet_controller_step(&peer->controller, &self->world, now, &self->out);
    if (verdict == FLEET_CONNECT) {
        self->out.n = 0;
        open_socket(self, peer, now);
    } else {
        settle(self, peer, verdict, now);
    }
}

/* --- Reading ---------------------------------------------------------------------------------- */

/* All frames in in[0..n). Returns the bytes used up, or -1 when the stream is beyond repair. */
static ssize_t take_frames(fleet_worker *self, fleet_peer *peer, size_t n, fleet_now now,
                           fleet_verdict *verdict) {
    uint32_t resyncs = peer->decoder.resyncs;
    size_t at = 0;
    int r = 1;

    while (*verdict == FLEET_KEEP) {
        cscp_frame frame;
        size_t used = 0;

        r = cscp_decode(&peer->decoder, self->in + at, n - at, &frame, &used);
        if (r < 0)
            break;
        at += used;
        if (r == 0)
            break;
        *verdict =
            fleet_controller_frame(&peer->controller, &self->world, &frame, now, &self->out);
        if (!fleet_out_has_room(&self->out) && !send_out(self, peer))
            return -1;
    }
    if (peer->decoder.resyncs != resyncs)
        fleet_count(&self->tally.resyncs, peer->decoder.resyncs - resyncs);
    if (r < 0) {
        fleet_count(&self->tally.protocol_errors, 1);
        return -1;
    }
    return (ssize_t)at;
}

static bool keep_rest(fleet_worker *self, fleet_peer *peer, size_t at, size_t n) {
    free(peer->kept);
    peer->kept = NULL;
    peer->n_kept = (uint32_t)(n - at);
    if (at == n)
        return true;
    peer->kept = malloc(n - at);
    if (!peer->kept)
        return false;
    memcpy(peer->kept, self->in + at, n - at);
    return true;
}

static void on_readable(fleet_worker *self, fleet_peer *peer, fleet_now now) {
    fleet_verdict verdict = FLEET_KEEP;
    size_t n = peer->n_kept;
    ssize_t r, at;

    if (n > 0)
        memcpy(self->in, peer->kept, n);
    r = recv(peer->fd, self->in + n, FLEET_IN_SIZE - n, 0);
    if (r < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (r <= 0) {
        fleet_peer_close(self, peer, FLEET_CLOSED_BY_HOST, false, now);
        return;
    }
    fleet_count(&self->tally.bytes_in, (uint64_t)r);
    n += (size_t)r;
    at = take_frames(self, peer, n, now, &verdict);
    if (at < 0 || (verdict == FLEET_KEEP && !keep_rest(self, peer, (size_t)at, n))) {
        self->out.n = 0;
        fleet_peer_close(self, peer, FLEET_CLOSED_BY_SELF, false, now);
        return;
    }
    settle(self, peer, verdict, now);
}

void fleet_peer_event(fleet_worker *self, fleet_peer *peer, uint32_t events, fleet_now now) {
    if (peer->state == FLEET_SOCKET_CONNECTING) {
        on_connected(self, peer, now);
        return;
    }
    if (events & EPOLLOUT && peer->n_unsent > 0) {
        if (!send_unsent(self, peer)) {
            fleet_peer_close(self, peer, FLEET_CLOSED_BY_HOST, false, now);
            return;
        }
        fleet_peer_flush(self, peer, now);
    }
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR) && peer->state == FLEET_SOCKET_OPEN)
        on_readable(self, peer, now);
}
