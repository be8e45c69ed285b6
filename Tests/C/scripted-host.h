/* A host that behaves, or misbehaves as it is told to: one thread, one poll loop, frames by hand.
 * It holds controllers to the protocol: whatever they may not do ends the test, unless it was told
 * to expect it. */
#ifndef SCRIPTED_HOST_H
#define SCRIPTED_HOST_H

#include "fleet-store.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { VISITORS_MAX = 512, VISITOR_BUFFER = 256 * 1024 };

typedef struct visitor {
    int fd;          /* -1 = free */
    uint64_t serial; /* 0 = before HELLO */
    uint32_t log_epoch;
    uint64_t next, acked; /* of the log */
    uint64_t n_events, n_results;
    uint64_t n_unacked; /* records and gaps */
    uint64_t ack_at_ms;
    cscp_decoder decoder;
    uint8_t *bytes;
    size_t n;
} visitor;

typedef struct host {
    int listen_fd;
    uint16_t port;
    visitor visitors[VISITORS_MAX];
    store store;
    uint64_t n_hellos, n_stale, n_strange, n_advisories, n_bad_order;
    cscp_result last_result;
    uint8_t last_result_body[CSCP_RESULT_BODY_MAX];

    /* How it behaves. */
    uint64_t epoch;
    uint16_t k, w;
    uint32_t t3_ms;
    int64_t clock_ms;         /* its clock against the true one */
    uint64_t ack_delay_ms;
    uint64_t silent_above;    /* records above are taken and never acknowledged; 0 = none */
    uint64_t forget_seq;      /* acknowledged and not stored; 0 = none */
    uint64_t ack_ahead;       /* acknowledges so many records too many */
    uint64_t drop_after;      /* closes a connection after so many events; 0 = never */
    bool tolerant;            /* malformed frames are expected */
    bool dribble;             /* sends byte by byte */
    uint64_t deaf_until_ms;   /* reads nothing until then */
    void (*on_welcomed)(struct host *self, visitor *visitor);
    void (*on_hello)(struct host *self, visitor *visitor); /* instead of WELCOME */
    void *context;
} host;

static inline uint64_t steady_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static inline uint64_t host_ms(const host *self) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)((int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000 + self->clock_ms);
}

static inline host *host_new(void) {
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(address);
    host *self = calloc(1, sizeof(*self));

    CHECK(self);
    *self = (host){.epoch = 1, .k = 64, .w = 16, .t3_ms = 20000};
    for (int i = 0; i < VISITORS_MAX; i++)
        self->visitors[i].fd = -1;
    self->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    CHECK(bind(self->listen_fd, (struct sockaddr *)&address, sizeof(address)) == 0);
    CHECK(listen(self->listen_fd, 4096) == 0);
    CHECK(getsockname(self->listen_fd, (struct sockaddr *)&address, &n) == 0);
    self->port = ntohs(address.sin_port);
    return self;
}

static inline void visitor_close(visitor *v) {
    if (v->fd >= 0)
        close(v->fd);
    free(v->bytes);
    *v = (visitor){.fd = -1};
}

static inline void host_free(host *self) {
    for (int i = 0; i < VISITORS_MAX; i++)
        visitor_close(&self->visitors[i]);
    close(self->listen_fd);
    free(self);
}

static inline void host_send(host *self, visitor *v, const uint8_t *bytes, size_t n) {
    for (size_t at = 0; at < n && v->fd >= 0;) {
        size_t step = self->dribble ? 1 : n - at;
        ssize_t r = send(v->fd, bytes + at, step, MSG_NOSIGNAL);
        if (r < 0)
            return; /* it is gone; reading will tell */
        at += (size_t)r;
    }
}

static inline void host_welcome(host *self, visitor *v, uint64_t epoch) {
    uint8_t bytes[CSCP_WELCOME_FRAME];
    cscp_welcome welcome = {
        .session_id = self->n_hellos,
        .owner_epoch = epoch,
        .log_epoch = v->log_epoch,
        .k = self->k,
        .w = self->w,
        .resume_from = v->next,
        .host_time_ms = host_ms(self),
        .t1_ms = 15000,
        .t2_ms = 500,
        .t3_ms = self->t3_ms,
        .bulk_window = 1,
    };
    host_send(self, v, bytes, cscp_write_welcome(bytes, &welcome));
}

static inline void host_command(host *self, visitor *v, uint8_t number, uint64_t epoch,
                                uint64_t not_after_ms, uint16_t code, const uint8_t *body,
                                uint16_t n_body) {
    uint8_t bytes[CSCP_FRAME_MAX];
    cscp_command_frame command = {
        .owner_epoch = epoch,
        .not_after_ms = not_after_ms,
        .code = code,
        .n_body = n_body,
        .body = body,
    };
    memset(command.id, number, sizeof(command.id));
    host_send(self, v, bytes, cscp_write_command(bytes, &command));
}

static inline void host_ack(host *self, visitor *v) {
    uint8_t bytes[CSCP_EVENT_ACK_FRAME];
    uint64_t seq = v->next - 1;

    if (self->silent_above != 0 && seq > self->silent_above)
        seq = self->silent_above;
    if (seq <= v->acked && self->ack_ahead == 0)
        return;
    v->acked = seq;
    v->n_unacked = 0;
    host_send(self, v, bytes, cscp_write_event_ack(bytes, v->log_epoch, seq + self->ack_ahead));
    v->ack_at_ms = 0;
}

/* Something a controller may not do. */
static inline void strange(host *self, visitor *v, const char *what) {
    self->n_strange++;
    if (!self->tolerant) {
        fprintf(stderr, "controller %" PRIu64 ": %s\n", v->serial, what);
        exit(1);
    }
    visitor_close(v);
}

static inline void on_hello(host *self, visitor *v, const cscp_frame *frame) {
    cscp_hello hello;
    fleet_audit *log;

    CHECK_EQ(cscp_parse_hello(frame->payload, frame->n_payload, &hello), 0);
    CHECK(hello.oldest_seq >= 1 && hello.oldest_seq <= hello.last_seq + 1);
    CHECK(hello.acked_seq <= hello.last_seq);
    self->n_hellos++;
    v->serial = hello.serial;
    v->log_epoch = hello.log_epoch;
    log = store_log(&self->store, hello.serial, hello.log_epoch);
    v->next = (log->last_seq > hello.acked_seq ? log->last_seq : hello.acked_seq) + 1;
    v->acked = hello.acked_seq;
    if (self->on_hello) {
        self->on_hello(self, v);
        return;
    }
    host_welcome(self, v, self->epoch);
    if (self->on_welcomed)
        self->on_welcomed(self, v);
    /* What it has and the controller does not know it has. */
    if (v->fd >= 0 && v->next - 1 > v->acked)
        host_ack(self, v);
}

static inline void took(host *self, visitor *v, uint64_t from, uint64_t to, uint64_t fingerprint,
                        bool is_gap) {
    if (from != v->next) {
        self->n_bad_order++;
        strange(self, v, "bad order");
        return;
    }
    if (self->forget_seq == 0 || from != self->forget_seq)
        store_records(&self->store, v->serial, v->log_epoch, from, to, fingerprint, is_gap);
    v->next = to + 1;
    v->n_events++;
    if (++v->n_unacked > self->k && self->silent_above == 0) {
        strange(self, v, "window exceeded");
        return;
    }
    if (self->drop_after != 0 && v->n_events >= self->drop_after) {
        visitor_close(v);
        return;
    }
    if (v->ack_at_ms == 0)
        v->ack_at_ms = steady_ms() + self->ack_delay_ms;
    if (self->ack_delay_ms == 0 && v->n_events % self->w == 0)
        host_ack(self, v);
}

static inline void on_frame(host *self, visitor *v, const cscp_frame *frame) {
    cscp_event event;
    cscp_log_gap gap;
    cscp_log_reset reset;
    uint64_t value;
    uint8_t bytes[CSCP_U64_FRAME];

    if ((v->serial == 0) != (frame->type == CSCP_HELLO)) {
        strange(self, v, "out of turn");
        return;
    }
    switch (frame->type) {
    case CSCP_HELLO:
        on_hello(self, v, frame);
        break;
    case CSCP_EVENT:
        if (cscp_parse_event(frame->payload, frame->n_payload, &event) < 0) {
            strange(self, v, "bad event");
            break;
        }
        if (event.flags & CSCP_EVENT_ADVISORY) {
            self->n_advisories++;
            break;
        }
        if (event.log_epoch != v->log_epoch) {
            strange(self, v, "another log");
            break;
        }
        took(self, v, event.seq, event.seq, cscp_event_fingerprint(v->serial, &event), false);
        break;
    case CSCP_LOG_GAP:
        CHECK_EQ(cscp_parse_log_gap(frame->payload, frame->n_payload, &gap), 0);
        took(self, v, gap.from, gap.to, 0, true);
        break;
    case CSCP_LOG_RESET:
        CHECK_EQ(cscp_parse_log_reset(frame->payload, frame->n_payload, &reset), 0);
        if (reset.new_epoch != v->log_epoch) {
            CHECK_EQ(reset.old_epoch, v->log_epoch);
            v->log_epoch = reset.new_epoch;
            v->next = 1;
            v->acked = v->n_unacked = 0;
        }
        took(self, v, 1, 1, 0, false);
        break;
    case CSCP_RESULT:
        CHECK_EQ(cscp_parse_result(frame->payload, frame->n_payload, &self->last_result), 0);
        memcpy(self->last_result_body, self->last_result.body, self->last_result.n_body);
        v->n_results++;
        break;
    case CSCP_STALE:
        self->n_stale++;
        break;
    case CSCP_PING:
        CHECK_EQ(cscp_parse_u64(frame->payload, frame->n_payload, &value), 0);
        host_send(self, v, bytes, cscp_write_u64(bytes, CSCP_PONG, value));
        break;
    case CSCP_PONG:
        break;
    default:
        if (!(frame->type & CSCP_TYPE_SKIPPABLE))
            strange(self, v, "unknown type");
        break;
    }
}

static inline void visitor_read(host *self, visitor *v) {
    ssize_t got = recv(v->fd, v->bytes + v->n, VISITOR_BUFFER - v->n, MSG_DONTWAIT);
    size_t at = 0;

    if (got < 0 && errno == EAGAIN)
        return;
    if (got <= 0) {
        visitor_close(v);
        return;
    }
    v->n += (size_t)got;
    while (v->fd >= 0) {
        cscp_frame frame;
        size_t used = 0;
        int r = cscp_decode(&v->decoder, v->bytes + at, v->n - at, &frame, &used);

        if (r < 0 || v->decoder.resyncs > (self->tolerant ? 3 : 0)) {
            strange(self, v, "not a frame");
            return;
        }
        at += used;
        if (r == 0)
            break;
        on_frame(self, v, &frame);
    }
    if (v->fd < 0)
        return;
    v->n -= at;
    memmove(v->bytes, v->bytes + at, v->n);
}

static inline void host_accept(host *self) {
    for (;;) {
        int fd = accept4(self->listen_fd, NULL, NULL, SOCK_CLOEXEC), i = 0;
        if (fd < 0)
            return;
        while (i < VISITORS_MAX && self->visitors[i].fd >= 0)
            i++;
        CHECK(i < VISITORS_MAX);
        self->visitors[i] = (visitor){.fd = fd, .bytes = malloc(VISITOR_BUFFER)};
        CHECK(self->visitors[i].bytes);
    }
}

/* Serves for some ms. */
static inline void host_serve(host *self, uint64_t ms) {
    uint64_t until = steady_ms() + ms, now;

    while ((now = steady_ms()) < until) {
        struct pollfd fds[VISITORS_MAX + 1];
        visitor *of[VISITORS_MAX + 1];
        nfds_t n = 0;

        fds[n++] = (struct pollfd){.fd = self->listen_fd, .events = POLLIN};
        for (int i = 0; i < VISITORS_MAX && now >= self->deaf_until_ms; i++)
            if (self->visitors[i].fd >= 0) {
                of[n] = &self->visitors[i];
                fds[n++] = (struct pollfd){.fd = self->visitors[i].fd, .events = POLLIN};
            }
        poll(fds, n, 2);
        for (nfds_t i = 1; i < n; i++)
            if (fds[i].revents && of[i]->fd == fds[i].fd)
                visitor_read(self, of[i]);
        if (fds[0].revents)
            host_accept(self);
        for (int i = 0; i < VISITORS_MAX; i++)
            if (self->visitors[i].fd >= 0 && self->visitors[i].ack_at_ms != 0 &&
                steady_ms() >= self->visitors[i].ack_at_ms)
                host_ack(self, &self->visitors[i]);
    }
}

#endif
