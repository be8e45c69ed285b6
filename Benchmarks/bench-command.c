/* PUBLISH -> controller, beside a bare Redis pub/sub round, in one run.
 *
 * One process plays the vendor's publisher, one controller and one plain subscriber, so that all times
 * are of one clock: a round begins before PUBLISH is written and ends when the COMMAND frame (or, for
 * the bare round, the pub/sub message) has been read. Rounds of the two kinds alternate, so that what
 * the machine does meanwhile meets both. Prints one JSON object.
 *
 * usage: bench-command REDIS_PORT NODE_PORT ROUNDS */
#include "cscp_frame.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { SERIAL = 424242, ROUND_TIMEOUT_MS = 5000, BARE_PAYLOAD = 160 };

static void die(const char *what) {
    fprintf(stderr, "bench-command: %s: %s\n", what, errno ? strerror(errno) : "unexpected answer");
    exit(1);
}

static uint64_t now_ns(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int dial(const char *port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    struct sockaddr_in to = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)atoi(port)),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0) die("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    return fd;
}

static void send_all(int fd, const void *data, size_t n) {
    if (send(fd, data, n, MSG_NOSIGNAL) != (ssize_t)n) die("send");
}

static size_t read_some(int fd, void *buf, size_t room) {
    struct pollfd p = {.fd = fd, .events = POLLIN};
    errno = 0;
    if (poll(&p, 1, ROUND_TIMEOUT_MS) <= 0) die("no answer within 5 s");
    ssize_t got = recv(fd, buf, room, 0);
    if (got <= 0) die("connection closed");
    return (size_t)got;
}

/* Reads until `needle` has come, and whatever comes with it. */
static void read_until(int fd, const char *needle) {
    char buf[8192];
    size_t have = 0;
    do {
        if (have == sizeof(buf) - 1) die(needle);
        have += read_some(fd, buf + have, sizeof(buf) - 1 - have);
        buf[have] = 0;
    } while (memmem(buf, have, needle, strlen(needle)) == NULL);
}

static void publish(int fd, const char *channel, const char *payload, size_t n) {
    char out[1024];
    int head = snprintf(out, sizeof(out), "*3\r\n$7\r\nPUBLISH\r\n$%zu\r\n%s\r\n$%zu\r\n",
                        strlen(channel), channel, n);
    memcpy(out + head, payload, n);
    memcpy(out + head + n, "\r\n", 2);
    send_all(fd, out, (size_t)head + n + 2);
}

typedef struct controller {
    int fd;
    cscp_decoder decoder;
    uint8_t buf[65536];
    size_t have;
} controller;

/* Reads frames until one of `type` is there; answers PINGs. Copies its payload. */
static size_t next_frame(controller *c, uint8_t type, uint8_t *ret_payload) {
    for (;;) {
        cscp_frame f;
        size_t used = 0;
        int r = cscp_decode(&c->decoder, c->buf, c->have, &f, &used);
        size_t n = 0;
        bool found = false;
        if (r < 0) die("bad frame");
        if (r > 0) {
            if (f.type == CSCP_PING) {
                uint8_t pong[CSCP_U64_FRAME];
                uint64_t token;
                if (cscp_parse_u64(f.payload, f.n_payload, &token) < 0) die("bad PING");
                send_all(c->fd, pong, cscp_write_u64(pong, CSCP_PONG, token));
            }
            if (f.type == CSCP_BUSY || f.type == CSCP_REJECT) die("the node refused the controller");
            found = f.type == type;
            n = f.n_payload;
            if (found) memcpy(ret_payload, f.payload, n);
        }
        memmove(c->buf, c->buf + used, c->have - used);
        c->have -= used;
        if (found) return n;
        if (r == 0) c->have += read_some(c->fd, c->buf + c->have, sizeof(c->buf) - c->have);
    }
}

static void base64_16(const uint8_t id[16], char out[25]) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t o = 0;
    for (size_t i = 0; i < 16; i += 3) {
        uint32_t v = (uint32_t)id[i] << 16;
        if (i + 1 < 16) v |= (uint32_t)id[i + 1] << 8;
        if (i + 2 < 16) v |= id[i + 2];
        out[o++] = digits[v >> 18];
        out[o++] = digits[(v >> 12) & 63];
        out[o++] = i + 1 < 16 ? digits[(v >> 6) & 63] : '=';
        out[o++] = i + 2 < 16 ? digits[v & 63] : '=';
    }
    out[o] = 0;
}

static int by_value(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static double quantile_us(uint64_t *sorted, size_t n, double q) {
    size_t i = (size_t)(q * (double)(n - 1));
    return (double)sorted[i] / 1000.0;
}

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: bench-command REDIS_PORT NODE_PORT ROUNDS\n");
        return 2;
    }
    size_t rounds = (size_t)strtoul(argv[3], NULL, 10);
    uint64_t *through = calloc(rounds, sizeof(uint64_t)), *bare = calloc(rounds, sizeof(uint64_t));
    if (!rounds || !through || !bare) die("ROUNDS");

    static controller c;
    uint8_t out[CSCP_FRAME_MAX], payload[CSCP_PAYLOAD_MAX];
    c.fd = dial(argv[2]);
    cscp_hello hello = {
        .serial = SERIAL, .version_min = 1, .version_max = 1, .boot_id = 1, .log_epoch = 1,
        .capacity = 64, .oldest_seq = 1, .n_model = 5, .n_firmware = 1, .model = "bench",
        .firmware = "1",
    };
    send_all(c.fd, out, cscp_write_hello(out, &hello));
    next_frame(&c, CSCP_WELCOME, payload);

    int publisher = dial(argv[1]), subscriber = dial(argv[1]);
    static const char subscribe[] = "*2\r\n$9\r\nSUBSCRIBE\r\n$10\r\nbench-bare\r\n";
    send_all(subscriber, subscribe, sizeof(subscribe) - 1);
    read_until(subscriber, ":1\r\n");

    char channel[24], text[512], bare_text[BARE_PAYLOAD], id64[25];
    snprintf(channel, sizeof(channel), "%d", SERIAL);
    memset(bare_text, 'x', sizeof(bare_text));
    /* The node subscribes once it has seen the controller; wait until Redis counts a receiver. */
    for (int tries = 0;; tries++) {
        char ask[96], answer[128];
        int n = snprintf(ask, sizeof(ask), "*3\r\n$6\r\nPUBSUB\r\n$6\r\nNUMSUB\r\n$%zu\r\n%s\r\n",
                         strlen(channel), channel);
        send_all(publisher, ask, (size_t)n);
        size_t got = read_some(publisher, answer, sizeof(answer) - 1);
        answer[got] = 0;
        if (strstr(answer, ":1\r\n")) break;
        if (tries == 500) die("the node did not subscribe to the controller's channel");
        poll(NULL, 0, 10);
    }

    for (size_t i = 0; i < rounds; i++) {
        uint8_t id[16];
        if (getrandom(id, sizeof(id), 0) != sizeof(id)) die("getrandom");
        base64_16(id, id64);
        uint64_t not_after = now_ns(CLOCK_REALTIME) / 1000000u + 5000;
        int n = snprintf(text, sizeof(text),
                         "{\"id\":\"%s\",\"lane\":\"LANE_URGENT\",\"notAfterMs\":\"%llu\","
                         "\"unlock\":{\"door\":1,\"durationMs\":3000}}",
                         id64, (unsigned long long)not_after);
        uint64_t began = now_ns(CLOCK_MONOTONIC);
        publish(publisher, channel, text, (size_t)n);
        next_frame(&c, CSCP_COMMAND, payload);
        through[i] = now_ns(CLOCK_MONOTONIC) - began;
        read_until(publisher, "\r\n");

        cscp_command_frame command;
        if (cscp_parse_command(payload, sizeof(payload), &command) < 0) die("bad COMMAND");
        cscp_result result = {.status = CSCP_RESULT_DONE};
        memcpy(result.id, command.id, sizeof(result.id));
        if (memcmp(command.id, id, sizeof(id)) != 0) die("another command's id");
        send_all(c.fd, out, cscp_write_result(out, &result));

        began = now_ns(CLOCK_MONOTONIC);
        publish(publisher, "bench-bare", bare_text, sizeof(bare_text));
        read_until(subscriber, "xx\r\n");
        bare[i] = now_ns(CLOCK_MONOTONIC) - began;
        read_until(publisher, "\r\n");
    }

    qsort(through, rounds, sizeof(uint64_t), by_value);
    qsort(bare, rounds, sizeof(uint64_t), by_value);
    double p99 = quantile_us(through, rounds, .99), bare_p99 = quantile_us(bare, rounds, .99);
    printf("{\"rounds\":%zu,\"command_us\":{\"p50\":%.1f,\"p99\":%.1f,\"max\":%.1f},"
           "\"bare_us\":{\"p50\":%.1f,\"p99\":%.1f,\"max\":%.1f},\"ratio_p99\":%.2f}\n",
           rounds, quantile_us(through, rounds, .5), p99, quantile_us(through, rounds, 1),
           quantile_us(bare, rounds, .5), bare_p99, quantile_us(bare, rounds, 1), p99 / bare_p99);
    return 0;
}
