/* PROXY protocol, version 2: the parser by examples, by every way of cutting and by every single
 * broken byte; then the layer, that takes it from whom it trusts and from nobody else. */
#include "host.h"
#include "../../Sources/CSCP/proxy.h"

static const uint8_t signature[12] = {0x0D, 0x0A, 0x0D, 0x0A, 0x00, 0x0D,
                                      0x0A, 0x51, 0x55, 0x49, 0x54, 0x0A};

typedef struct header {
    uint8_t bytes[2048];
    size_t n;
} header;

static header begin(uint8_t command, uint8_t family) {
    header h = {.n = 16};
    memcpy(h.bytes, signature, 12);
    h.bytes[12] = command;
    h.bytes[13] = family;
    return h;
}

static void add(header *h, const void *bytes, size_t n) {
    CHECK(h->n + n <= sizeof(h->bytes));
    memcpy(h->bytes + h->n, bytes, n);
    h->n += n;
    h->bytes[14] = (uint8_t)((h->n - 16) >> 8);
    h->bytes[15] = (uint8_t)(h->n - 16);
}

static void add_tlv(header *h, uint8_t type, const void *value, size_t n) {
    uint8_t head[3] = {type, (uint8_t)(n >> 8), (uint8_t)n};
    add(h, head, 3);
    add(h, value, n);
}

/* 203.0.113.9:40000 to 192.0.2.1:5001 */
static header tcp4(void) {
    static const uint8_t addresses[12] = {203, 0, 113, 9, 192, 0, 2, 1, 0x9C, 0x40, 0x13, 0x89};
    header h = begin(0x21, 0x11);
    add(&h, addresses, 12);
    return h;
}

static header tcp6(void) {
    uint8_t addresses[36] = {[0] = 0x20, 1, 0x0D, 0xB8, [15] = 7, [16] = 0x20, 1, 0x0D, 0xB8,
                             [31] = 1, [32] = 0x9C, 0x40, 0x13, 0x89};
    header h = begin(0x21, 0x21);
    add(&h, addresses, 36);
    return h;
}

static void add_ssl(header *h, uint8_t client, uint32_t verify, const char *name) {
    uint8_t value[300] = {client, (uint8_t)(verify >> 24), (uint8_t)(verify >> 16),
                          (uint8_t)(verify >> 8), (uint8_t)verify, 0x22, 0, (uint8_t)strlen(name)};
    memcpy(value + 8, name, strlen(name));
    add_tlv(h, 0x20, value, 8 + strlen(name));
}

static void add_sum(header *h) {
    uint8_t sum[4] = {0};
    add_tlv(h, 0x03, sum, 4);
    uint32_t crc = cscp_crc32c(0, h->bytes, h->n);
    for (int i = 0; i < 4; i++) h->bytes[h->n - 4 + (size_t)i] = (uint8_t)(crc >> (24 - 8 * i));
}

static int read_header(const header *h, cscp_proxy *ret) {
    size_t consumed = 0;
    int r = cscp_proxy_read(h->bytes, h->n, ret, &consumed);
    CHECK(r != 1 || consumed == h->n);
    return r;
}

static bool has_name(const header *h, const char *name) {
    cscp_proxy p;
    CHECK_EQ(read_header(h, &p), 1);
    return p.n_tls_name == strlen(name) && memcmp(p.tls_name, name, p.n_tls_name) == 0;
}

static void every_family_is_understood(void) {
    cscp_proxy p;
    char text[INET6_ADDRSTRLEN];
    header h = tcp4();
    CHECK_EQ(read_header(&h, &p), 1);
    CHECK(p.has_source && !p.relayed);
    CHECK(strcmp(inet_ntop(AF_INET6, &p.source, text, sizeof(text)), "::ffff:203.0.113.9") == 0);
    CHECK_EQ(p.source_port, 40000);
    CHECK_EQ(p.target_port, 5001);
    h = tcp6();
    CHECK_EQ(read_header(&h, &p), 1);
    CHECK(p.has_source);
    CHECK(strcmp(inet_ntop(AF_INET6, &p.source, text, sizeof(text)), "2001:db8::7") == 0);
    CHECK_EQ(p.source_port, 40000);
    h = begin(0x20, 0x00); /* a health check */
    CHECK_EQ(read_header(&h, &p), 1);
    CHECK(!p.has_source);
    h = tcp4(); /* the sender's own, though it says more */
    h.bytes[12] = 0x20;
    CHECK_EQ(read_header(&h, &p), 1);
    CHECK(!p.has_source);
    static const uint8_t families[] = {0x00, 0x10, 0x12, 0x22, 0x31, 0x32, 0xFF};
    for (size_t i = 0; i < sizeof(families); i++) {
        h = tcp4();
        h.bytes[13] = families[i];
        CHECK_EQ(read_header(&h, &p), 1);
        CHECK(!p.has_source);
    }
}

static void the_name_in_a_certificate_counts_only_when_it_was_verified(void) {
    header h = tcp4();
    add_ssl(&h, 0x07, 0, "door-17.example.com");
    CHECK(has_name(&h, "door-17.example.com"));
    h = tcp4();
    add_ssl(&h, 0x07, 1, "door-17.example.com"); /* it did not verify */
    CHECK(has_name(&h, ""));
    h = tcp4();
    add_ssl(&h, 0x01, 0, "door-17.example.com"); /* no certificate */
    CHECK(has_name(&h, ""));
    h = tcp4();
    add_ssl(&h, 0x07, 0, "two\nlines");
    CHECK(has_name(&h, ""));
    char longest[CSCP_TLS_NAME_MAX + 2];
    memset(longest, 'x', sizeof(longest));
    longest[CSCP_TLS_NAME_MAX] = 0;
    h = tcp4();
    add_ssl(&h, 0x07, 0, longest);
    CHECK(has_name(&h, longest));
    longest[CSCP_TLS_NAME_MAX] = 'x';
    longest[CSCP_TLS_NAME_MAX + 1] = 0;
    h = tcp4();
    add_ssl(&h, 0x07, 0, longest); /* half a name is another's */
    CHECK(has_name(&h, ""));
}

static header full(void) {
    header h = tcp4();
    add_tlv(&h, 0x01, "cscp", 4);
    add_tlv(&h, 0x04, "", 0);
    add_ssl(&h, 0x07, 0, "door-17");
    add_tlv(&h, CSCP_PROXY_RELAY, "\1\1", 2);
    add_tlv(&h, 0xEF, "somebody's", 10);
    add_sum(&h);
    return h;
}

static void however_it_is_cut_it_says_the_same(void) {
    header h = full();
    cscp_proxy whole, p;
    CHECK_EQ(read_header(&h, &whole), 1);
    CHECK(whole.relayed && whole.again && whole.n_tls_name == 7);
    for (size_t n = 0; n < h.n; n++) {
        size_t consumed = 77;
        CHECK_EQ(cscp_proxy_read(h.bytes, n, &p, &consumed), 0);
        CHECK_EQ(consumed, 77);
    }
    h.bytes[h.n] = 0x5C; /* what follows is not its business */
    size_t consumed;
    CHECK_EQ(cscp_proxy_read(h.bytes, h.n + 1, &p, &consumed), 1);
    CHECK_EQ(consumed, h.n);
    CHECK(memcmp(&whole, &p, sizeof(p)) == 0);
}

static void any_broken_byte_is_noticed(void) {
    size_t n = full().n, family = 13, length = 14, sum = n - 7;
    for (size_t i = 0; i < n; i++) {
        header h = full();
        cscp_proxy p;
        size_t consumed;
        if (i == family || i == sum) continue; /* then there is no sum to be seen */
        h.bytes[i] ^= 0x10;
        int r = cscp_proxy_read(h.bytes, h.n, &p, &consumed);
        if (i < sizeof(signature)) CHECK_EQ(r, -ENOMSG);
        else if (i == length || i == length + 1) CHECK(r == -EBADMSG || r == 0);
        else CHECK_EQ(r, -EBADMSG);
    }
}

static void what_is_malformed_is_refused(void) {
    cscp_proxy p;
    header h = tcp4();
    h.bytes[12] = 0x11; /* version 1 */
    CHECK_EQ(read_header(&h, &p), -EBADMSG);
    h.bytes[12] = 0x22; /* unknown command */
    CHECK_EQ(read_header(&h, &p), -EBADMSG);
    h = begin(0x21, 0x11);
    add(&h, "12345678901", 11);
    CHECK_EQ(read_header(&h, &p), -EBADMSG);
    h = tcp4();
    add(&h, "\1\0", 2); /* half a TLV */
    CHECK_EQ(read_header(&h, &p), -EBADMSG);
    h = tcp4();
    add(&h, "\1\0\5abcd", 7); /* longer than there is */
    CHECK_EQ(read_header(&h, &p), -EBADMSG);
    h = tcp4();
    add_tlv(&h, 0x20, "\7\0\0\0", 4);
    CHECK_EQ(read_header(&h, &p), -EBADMSG);
    h = tcp4();
    add_tlv(&h, 0x20, "\7\0\0\0\0\x22\0\2a", 9);
    CHECK_EQ(read_header(&h, &p), -EBADMSG);
    h = tcp4();
    add_tlv(&h, CSCP_PROXY_RELAY, "\1", 1);
    CHECK_EQ(read_header(&h, &p), -EBADMSG);
    h = tcp4();
    add_tlv(&h, 0x03, "\0\0\0\0", 4);
    CHECK_EQ(read_header(&h, &p), -EBADMSG);
    uint8_t padding[CSCP_PROXY_MAX] = {0};
    h = tcp4();
    add_tlv(&h, 0x04, padding, CSCP_PROXY_MAX - h.n - 3);
    CHECK_EQ(h.n, CSCP_PROXY_MAX);
    CHECK_EQ(read_header(&h, &p), 1);
    h = tcp4();
    add_tlv(&h, 0x04, padding, CSCP_PROXY_MAX - h.n - 2);
    CHECK_EQ(read_header(&h, &p), -EBADMSG);
    size_t consumed; /* and at once, not when all of it is there */
    CHECK_EQ(cscp_proxy_read(h.bytes, 16, &p, &consumed), -EBADMSG);
}

static void what_is_written_is_read(void) {
    for (int i = 0; i < 16; i++) {
        uint8_t bytes[CSCP_PROXY_WRITTEN_MAX];
        cscp_proxy p, q = {.has_source = true, .relayed = (i & 1) != 0, .again = (i & 3) == 3,
                           .source_port = 1234, .target_port = 5001};
        size_t consumed;
        CHECK_EQ(inet_pton(AF_INET6, i & 4 ? "2001:db8::9" : "::ffff:203.0.113.9", &q.source), 1);
        CHECK_EQ(inet_pton(AF_INET6, "::ffff:192.0.2.1", &q.target), 1);
        if (i & 8) {
            q.n_tls_name = CSCP_TLS_NAME_MAX;
            memset(q.tls_name, 'n', CSCP_TLS_NAME_MAX);
        }
        size_t n = cscp_proxy_write(bytes, &q);
        CHECK(n <= sizeof(bytes));
        CHECK_EQ(cscp_proxy_read(bytes, n, &p, &consumed), 1);
        CHECK_EQ(consumed, n);
        CHECK(memcmp(&p, &q, sizeof(p)) == 0);
    }
}

static void networks_hold_what_agrees_in_the_prefix(void) {
    struct in6_addr address;
    cscp_network all = {.prefix_bits = 0}, v4 = {.prefix_bits = 96 + 12}, one = {.prefix_bits = 128};
    inet_pton(AF_INET6, "::ffff:172.16.0.0", v4.address);
    inet_pton(AF_INET6, "2001:db8::7", one.address);
    static const struct { const char *text; bool in_v4, in_one; } table[] = {
        {"::ffff:172.16.0.1", true, false}, {"::ffff:172.31.255.255", true, false},
        {"::ffff:172.32.0.0", false, false}, {"::ffff:172.15.255.255", false, false},
        {"2001:db8::7", false, true}, {"2001:db8::6", false, false}, {"::1", false, false},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        cscp_network both[] = {v4, one};
        CHECK_EQ(inet_pton(AF_INET6, table[i].text, &address), 1);
        CHECK(cscp_networks_hold(&all, 1, &address));
        CHECK(!cscp_networks_hold(NULL, 0, &address));
        CHECK_EQ(cscp_networks_hold(&v4, 1, &address), table[i].in_v4);
        CHECK_EQ(cscp_networks_hold(&one, 1, &address), table[i].in_one);
        CHECK_EQ(cscp_networks_hold(both, 2, &address), table[i].in_v4 || table[i].in_one);
    }
}

/* --- The layer */

static cscp_network loopback(void) {
    cscp_network network = {.prefix_bits = 96 + 8};
    inet_pton(AF_INET6, "::ffff:127.0.0.0", network.address);
    return network;
}

static cscp *trusting_host(void) {
    cscp_config config = host_config();
    cscp_network network = loopback();
    config.trusted = &network;
    config.n_trusted = 1;
    cscp *host = host_new(&config);
    memset(&network, 0xAA, sizeof(network)); /* it was copied */
    return host;
}

static void expect_peer(cscp *host, const char *peer, const char *tls_name) {
    cscp_session_info info;
    cscp_message connected = host_wait(host, CSCP_MSG_CONNECTED);
    CHECK_EQ(connected.n_body, strlen(peer));
    CHECK(memcmp(connected.body, peer, connected.n_body) == 0);
    CHECK_EQ(cscp_list_sessions(host, 0, &info, 1, PATIENCE_MS), 1);
    CHECK(strcmp(info.peer, peer) == 0);
    CHECK(strcmp(info.tls_name, tls_name) == 0);
}

static void a_trusted_sender_names_the_peer(void) {
    cscp *host = trusting_host();
    header headers[2] = {tcp4(), tcp6()};
    add_ssl(&headers[0], 0x07, 0, "door-17");
    for (int i = 0; i < 4; i++) {
        const header *h = &headers[i % 2];
        uint8_t bytes[4096];
        cscp_hello hello = peer_hello_fields(5);
        peer p;
        memcpy(bytes, h->bytes, h->n);
        size_t n = h->n + cscp_write_hello(bytes + h->n, &hello);
        peer_connect(&p, host);
        if (i < 2)
            peer_write(&p, bytes, n);
        else
            for (size_t at = 0; at < n; at++) {
                peer_write(&p, bytes + at, 1);
                if (at % 4 == 0) usleep(500);
            }
        peer_expect_welcome(&p);
        if (i % 2 == 0)
            expect_peer(host, "203.0.113.9:40000", "door-17");
        else
            expect_peer(host, "[2001:db8::7]:40000", "");
        peer_event(&p);
        CHECK_EQ(host_next(host, CSCP_MSG_EVENT).seq, 1);
        peer_close(&p);
        host_next(host, CSCP_MSG_DISCONNECTED);
    }
    CHECK_EQ(host_counters(host).proxies_taken, 4);
    CHECK_EQ(host_counters(host).proxies_refused, 0);
    CHECK_EQ(host_counters(host).resyncs, 0);
    cscp_free(host);
}

static void a_trusted_sender_need_not_say_anything(void) {
    cscp *host = trusting_host();
    header local = begin(0x20, 0x00);
    peer p;
    peer_connect(&p, host); /* a health check that only connects */
    peer_close(&p);
    peer_connect(&p, host); /* one that speaks */
    peer_write(&p, local.bytes, local.n);
    peer_close(&p);
    HOST_UNTIL(host, counters.accepted == 2 && counters.connections == 0);
    cscp_message message;
    CHECK_EQ(cscp_get_message(host, &message, 0), 0); /* nothing to be said of them */
    peer_connect(&p, host);
    peer_hello(&p, 5);
    peer_expect_welcome(&p);
    CHECK(memcmp(host_next(host, CSCP_MSG_CONNECTED).body, "127.0.0.1:", 10) == 0);
    peer_close(&p);
    host_next(host, CSCP_MSG_DISCONNECTED);
    peer_connect(&p, host);
    peer_write(&p, local.bytes, local.n);
    peer_hello(&p, 5);
    peer_expect_welcome(&p);
    CHECK(memcmp(host_next(host, CSCP_MSG_CONNECTED).body, "127.0.0.1:", 10) == 0);
    peer_close(&p);
    cscp_free(host);
}

static void expect_refusal_of(cscp *host, const void *bytes, size_t n, cscp_reason reason,
                              const char *who) {
    peer p;
    peer_connect(&p, host);
    peer_write(&p, bytes, n);
    CHECK_EQ(peer_expect_reason(&p), reason);
    peer_expect_end(&p);
    peer_close(&p);
    cscp_message notice = host_next(host, CSCP_MSG_NOTICE);
    CHECK_EQ(notice.reason, reason);
    CHECK(memcmp(notice.body, who, strlen(who)) == 0);
}

static void expect_refusal(cscp *host, const void *bytes, size_t n, cscp_reason reason) {
    expect_refusal_of(host, bytes, n, reason, "127.0.0.1:");
}

static void nobody_else_may_name_one(void) {
    cscp_config config = host_config();
    cscp *host = host_new(&config);
    header h = tcp4();
    expect_refusal(host, h.bytes, h.n, CSCP_REASON_PROXY_REFUSED);
    expect_refusal(host, h.bytes, 12, CSCP_REASON_PROXY_REFUSED);
    expect_refusal(host, "\r\n\r\n\0\r\nquit\n", 12, CSCP_REASON_OUT_OF_SYNC);
    CHECK_EQ(host_counters(host).proxies_refused, 2);
    CHECK_EQ(host_counters(host).closed[CSCP_REASON_PROXY_REFUSED], 2);
    cscp_free(host);
}

static void a_malformed_header_ends_its_connection(void) {
    cscp *host = trusting_host();
    header h = tcp4(), twice = tcp4();
    h.bytes[12] = 0x41;
    expect_refusal(host, h.bytes, h.n, CSCP_REASON_PROXY_MALFORMED);
    add(&twice, twice.bytes, 28); /* a second one is no frame, and no TLV */
    expect_refusal(host, twice.bytes, twice.n, CSCP_REASON_PROXY_MALFORMED);
    h = tcp4();
    memcpy(h.bytes + h.n, tcp4().bytes, 28);
    expect_refusal_of(host, h.bytes, h.n + 28, CSCP_REASON_OUT_OF_SYNC, "203.0.113.9:40000");
    CHECK_EQ(host_counters(host).proxies_refused, 2);
    cscp_free(host);
}

static void half_a_header_does_not_wait_for_ever(void) {
    cscp_config config = host_config();
    cscp_network network = loopback();
    config.trusted = &network;
    config.n_trusted = 1;
    config.handshake_timeout_ms = 100;
    cscp *host = host_new(&config);
    header h = tcp4();
    expect_refusal(host, h.bytes, h.n - 1, CSCP_REASON_HANDSHAKE_TIMEOUT);
    cscp_free(host);
}

static void a_configuration_that_makes_no_sense_is_refused(void) {
    cscp_config config = host_config();
    cscp_network network = {.prefix_bits = 129};
    const char *why = NULL;
    config.n_trusted = 1;
    CHECK_EQ(cscp_config_check(&config, &why), -EINVAL);
    config.trusted = &network;
    CHECK_EQ(cscp_config_check(&config, &why), -EINVAL);
    CHECK(strstr(why, "trusted"));
    config.n_trusted = CSCP_NETWORKS_MAX + 1;
    CHECK_EQ(cscp_config_check(&config, &why), -EINVAL);
    network.prefix_bits = 128;
    config.n_trusted = 1;
    CHECK_EQ(cscp_config_check(&config, &why), 0);
}

int main(void) {
    RUN(every_family_is_understood);
    RUN(the_name_in_a_certificate_counts_only_when_it_was_verified);
    RUN(however_it_is_cut_it_says_the_same);
    RUN(any_broken_byte_is_noticed);
    RUN(what_is_malformed_is_refused);
    RUN(what_is_written_is_read);
    RUN(networks_hold_what_agrees_in_the_prefix);
    RUN(a_trusted_sender_names_the_peer);
    RUN(a_trusted_sender_need_not_say_anything);
    RUN(nobody_else_may_name_one);
    RUN(a_malformed_header_ends_its_connection);
    RUN(half_a_header_does_not_wait_for_ever);
    RUN(a_configuration_that_makes_no_sense_is_refused);
    return 0;
}
