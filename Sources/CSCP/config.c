#include <arpa/inet.h>
#include <errno.h>
#include <sched.h>

#include "include/cscp.h"

static uint32_t n_cores(void) {
    cpu_set_t set;
    int n;

    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof(set), &set) < 0)
        return 1;
    n = CPU_COUNT(&set);
    return n < 1 ? 1 : n > 64 ? 64 : (uint32_t)n;
}

void cscp_config_init(cscp_config *config) {
    *config = (cscp_config){
        .bind_address = "::",
        .port = 5001,
        .n_io_threads = n_cores(),
        .connections_max = 100000,
        .backlog = 4096,
        .handshake_timeout_ms = 10000,
        .handshakes_per_second = 20000,
        .handshake_burst = 20000,
        .busy_retry_ms = 2000,
        .busy_jitter_ms = 5000,
        .window_k = 64,
        .window_w = 16,
        .t1_ms = 15000,
        .t2_ms = 100,
        .t3_ms = 20000,
        .bulk_window = 2,
        .send_queue_max = 65536,
        .commands_max = 256,
        .ring_bytes = 4 << 20,
        .resyncs_max = 3,
        .hold_ms = 5000,
        .relays_max = 100000,
        .relay_buffer = 16384,
        .relay_connect_timeout_ms = 1000,
        .relay_hold_ms = 2000,
    };
}

static bool is_address(const char *text) {
    struct in6_addr any;

    return inet_pton(AF_INET6, text, &any) == 1 || inet_pton(AF_INET, text, &any) == 1;
}

static bool networks_are_sound(const cscp_config *c) {
    for (uint32_t i = 0; i < c->n_trusted; i++)
        if (c->trusted[i].prefix_bits > 128)
            return false;
    return true;
}

int cscp_config_check(const cscp_config *c, const char **ret_why) {
    const struct {
        bool is_sound;
        const char *why;
    } laws[] = {
        {c->bind_address && is_address(c->bind_address),
         "bind_address: not a numeric IPv4 or IPv6 address"},
        {c->n_io_threads >= 1 && c->n_io_threads <= 64, "n_io_threads: not within 1 ... 64"},
        {c->connections_max >= 1 && c->connections_max <= 1000000,
         "connections_max: not within 1 ... 1,000,000"},
        {c->backlog >= 1 && c->backlog <= 1000000, "backlog: not within 1 ... 1,000,000"},
        {c->handshake_timeout_ms >= 10 && c->handshake_timeout_ms <= 3600000,
         "handshake_timeout_ms: not within 10 ... 3,600,000"},
        {c->handshakes_per_second >= 1 && c->handshakes_per_second <= 10000000,
         "handshakes_per_second: not within 1 ... 10,000,000"},
        {c->handshake_burst >= 1 && c->handshake_burst <= 10000000,
         "handshake_burst: not within 1 ... 10,000,000"},
        {c->busy_retry_ms <= 3600000, "busy_retry_ms: over 3,600,000"},
        {c->busy_jitter_ms <= 3600000, "busy_jitter_ms: over 3,600,000"},
        {c->window_k >= 1 && c->window_k <= CSCP_WINDOW_MAX, "window_k: not within 1 ... 1,024"},
        {c->window_w >= 1 && c->window_w <= c->window_k,
         "window_w: not within 1 ... window_k, so that the window would fill unacknowledged"},
        {c->t1_ms >= 10 && c->t1_ms <= 3600000, "t1_ms: not within 10 ... 3,600,000"},
        {c->t2_ms >= 1 && c->t2_ms < c->t1_ms, "t2_ms: not within 1 ... t1_ms"},
        {c->t3_ms >= 10 && c->t3_ms <= 3600000, "t3_ms: not within 10 ... 3,600,000"},
        {c->bulk_window >= 1 && c->bulk_window <= 4, "bulk_window: not within 1 ... 4"},
        {c->send_queue_max >= CSCP_COMMAND_BODY_MAX && c->send_queue_max <= 1 << 30,
         "send_queue_max: not within 4,000 ... 1,073,741,824"},
        {c->commands_max >= 1 && c->commands_max <= 65536, "commands_max: not within 1 ... 65,536"},
        {c->ring_bytes >= 1 << 16 && c->ring_bytes <= 1 << 30 &&
             (c->ring_bytes & (c->ring_bytes - 1)) == 0,
         "ring_bytes: not a power of two within 65,536 ... 1,073,741,824"},
        {c->resyncs_max <= 1000000, "resyncs_max: over 1,000,000"},
        {c->outside_hold_ms <= 3600000, "outside_hold_ms: over 3,600,000"},
        {c->hold_ms >= 10 && c->hold_ms <= 3600000, "hold_ms: not within 10 ... 3,600,000"},
        {c->relays_max <= 1000000, "relays_max: over 1,000,000"},
        {c->relay_buffer >= 8192 && c->relay_buffer <= 32768,
         "relay_buffer: not within 8,192 ... 32,768"},
        {c->relay_connect_timeout_ms >= 10 && c->relay_connect_timeout_ms <= 60000,
         "relay_connect_timeout_ms: not within 10 ... 60,000"},
        {c->relay_hold_ms >= 10 && c->relay_hold_ms <= 3600000,
         "relay_hold_ms: not within 10 ... 3,600,000"},
        {!c->keeper || (c->keeper->keep && c->keeper->drop), "keeper: without keep() or drop()"},
        {c->n_inherited == 0 || c->inherited, "inherited: missing, though n_inherited is not 0"},
        {c->n_inherited == 0 || c->keeper,
         "inherited: without a keeper, who would not learn that it is out of date"},
        {c->n_trusted <= CSCP_NETWORKS_MAX, "n_trusted: over 64"},
        {c->n_trusted == 0 || c->trusted, "trusted: missing, though n_trusted is not 0"},
        {c->n_trusted > CSCP_NETWORKS_MAX || !c->trusted || networks_are_sound(c),
         "trusted: a prefix of more than 128 bits (IPv4 counts from 96)"},
    };

    for (size_t i = 0; i < sizeof(laws) / sizeof(laws[0]); i++)
        if (!laws[i].is_sound) {
            *ret_why = laws[i].why;
            return -EINVAL;
        }
    return 0;
}
