#include "proxy.h"

#include <errno.h>
#include <string.h>

#include "wire.h"

/* Of the specification, "The PROXY protocol, versions 1 & 2", section 2.2. */
enum {
    FIXED = 16, /* signature, version and command, family and transport, length */
    LOCAL = 0x20,
    PROXY = 0x21,
    TCP4 = 0x11,
    TCP6 = 0x21,
    TCP4_SIZE = 12,
    TCP6_SIZE = 36,
    TYPE_CRC32C = 0x03,
    TYPE_SSL = 0x20,
    SUBTYPE_CN = 0x22,
    CLIENT_SSL = 0x01,
    CLIENT_CERT = 0x06, /* in this connection, or in the session it resumes */
    SSL_FIXED = 5,      /* client, verify */
    TLV_HEAD = 3,
};

static const uint8_t signature[CSCP_PROXY_SIGNATURE] = {
    0x0D, 0x0A, 0x0D, 0x0A, 0x00, 0x0D, 0x0A, 0x51, 0x55, 0x49, 0x54, 0x0A,
};

typedef struct tlv {
    uint8_t type;
    uint16_t n;
    const uint8_t *value;
} tlv;

/* The TLV at *at, which moves behind it. 1, 0 at the end, -EBADMSG. */
static int next_tlv(const uint8_t *p, size_t n, size_t *at, tlv *ret) {
    if (*at == n)
        return 0;
    if (n - *at < TLV_HEAD)
        return -EBADMSG;
    *ret = (tlv){.type = p[*at], .n = get16(p + *at + 1), .value = p + *at + TLV_HEAD};
    if (n - *at - TLV_HEAD < ret->n)
        return -EBADMSG;
    *at += TLV_HEAD + (size_t)ret->n;
    return 1;
}

bool cscp_proxy_may_begin(const uint8_t *buf, size_t n) {
    return memcmp(buf, signature, n < sizeof(signature) ? n : sizeof(signature)) == 0;
}

static struct in6_addr mapped(const uint8_t *v4) {
    struct in6_addr address = {.s6_addr = {[10] = 0xff, [11] = 0xff}};

    memcpy(&address.s6_addr[12], v4, 4);
    return address;
}

/* Returns the size of the addresses, or -EBADMSG. */
static int read_addresses(uint8_t family, const uint8_t *p, size_t n, cscp_proxy *ret) {
    switch (family) {
    case TCP4:
        if (n < TCP4_SIZE)
            return -EBADMSG;
        ret->source = mapped(p);
        ret->target = mapped(p + 4);
        ret->source_port = get16(p + 8);
        ret->target_port = get16(p + 10);
        ret->has_source = true;
        return TCP4_SIZE;
    case TCP6:
        if (n < TCP6_SIZE)
            return -EBADMSG;
        memcpy(&ret->source, p, 16);
        memcpy(&ret->target, p + 16, 16);
        ret->source_port = get16(p + 32);
        ret->target_port = get16(p + 34);
        ret->has_source = true;
        return TCP6_SIZE;
    default:
        return (int)n; /* of unknown size: nothing behind them can be told apart from them */
    }
}

/* It goes into logs and pages, and says who somebody is: whole and printable, or not at all. */
static void take_name(const tlv *name, cscp_proxy *ret) {
    if (name->n == 0 || name->n > CSCP_TLS_NAME_MAX)
        return;
    for (size_t i = 0; i < name->n; i++)
        if (name->value[i] < 0x20 || name->value[i] == 0x7f)
            return;
    ret->n_tls_name = (uint8_t)name->n;
    memcpy(ret->tls_name, name->value, name->n);
}

static int read_ssl(const tlv *ssl, cscp_proxy *ret) {
    size_t at = SSL_FIXED;
    tlv sub;
    int r;

    if (ssl->n < SSL_FIXED)
        return -EBADMSG;
    while ((r = next_tlv(ssl->value, ssl->n, &at, &sub)) > 0)
        if (sub.type == SUBTYPE_CN && ssl->value[0] & CLIENT_SSL && ssl->value[0] & CLIENT_CERT &&
            get32(ssl->value + 1) == 0)
            take_name(&sub, ret);
    return r;
}

/* The sum is over the whole header with 0 in its own place. */
static int check_sum(const tlv *sum, const uint8_t *header, size_t n) {
    static const uint8_t zero[4];
    size_t before = (size_t)(sum->value - header);
    uint32_t crc;

    if (sum->n != sizeof(zero))
        return -EBADMSG;
    crc = cscp_crc32c(0, header, before);
    crc = cscp_crc32c(crc, zero, sizeof(zero));
    crc = cscp_crc32c(crc, sum->value + sizeof(zero), n - before - sizeof(zero));
    return crc == get32(sum->value) ? 0 : -EBADMSG;
}

static int read_tlv(const tlv *it, const uint8_t *header, size_t n, cscp_proxy *ret) {
    switch (it->type) {
    case TYPE_CRC32C:
        return check_sum(it, header, n);
    case TYPE_SSL:
        return read_ssl(it, ret);
    case CSCP_PROXY_RELAY:
        if (it->n < 2)
            return -EBADMSG;
        ret->relayed = true; /* whatever the version */
        ret->again = (it->value[1] & CSCP_PROXY_RELAY_AGAIN) != 0;
        return 0;
    default:
        return 0;
    }
}

int cscp_proxy_read(const uint8_t *buf, size_t n, cscp_proxy *ret, size_t *ret_consumed) {
    cscp_proxy proxy = {0};
    size_t size, at;
    tlv it;
    int r;

    if (!cscp_proxy_may_begin(buf, n))
        return -ENOMSG;
    if (n > CSCP_PROXY_SIGNATURE && buf[12] != LOCAL && buf[12] != PROXY)
        return -EBADMSG;
    if (n < FIXED)
        return 0;
    size = FIXED + (size_t)get16(buf + 14);
    if (size > CSCP_PROXY_MAX)
        return -EBADMSG;
    if (n < size)
        return 0;
    if (buf[12] == PROXY) {
        r = read_addresses(buf[13], buf + FIXED, size - FIXED, &proxy);
        if (r < 0)
            return r;
        at = FIXED + (size_t)r;
        while ((r = next_tlv(buf, size, &at, &it)) > 0)
            if ((r = read_tlv(&it, buf, size, &proxy)) < 0)
                return r;
        if (r < 0)
            return r;
    }
    *ret = proxy;
    *ret_consumed = size;
    return 1;
}

static size_t write_addresses(uint8_t *out, const cscp_proxy *in) {
    bool v4 = IN6_IS_ADDR_V4MAPPED(&in->source) && IN6_IS_ADDR_V4MAPPED(&in->target);
    size_t n = v4 ? 4 : 16;
    uint8_t *p = out + FIXED;

    out[13] = v4 ? TCP4 : TCP6;
    memcpy(p, &in->source.s6_addr[16 - n], n);
    memcpy(p + n, &in->target.s6_addr[16 - n], n);
    put16(p + 2 * n, in->source_port);
    put16(p + 2 * n + 2, in->target_port);
    return FIXED + 2 * n + 4;
}

static size_t write_tlv(uint8_t *out, uint8_t type, size_t n) {
    out[0] = type;
    put16(out + 1, (uint16_t)n);
    return TLV_HEAD;
}

size_t cscp_proxy_write(uint8_t out[CSCP_PROXY_WRITTEN_MAX], const cscp_proxy *in) {
    size_t n;

    memcpy(out, signature, sizeof(signature));
    out[12] = PROXY;
    n = write_addresses(out, in);
    if (in->relayed) {
        n += write_tlv(out + n, CSCP_PROXY_RELAY, 2);
        out[n++] = CSCP_PROXY_RELAY_VERSION;
        out[n++] = in->again ? CSCP_PROXY_RELAY_AGAIN : 0;
    }
    if (in->n_tls_name > 0) {
        n += write_tlv(out + n, TYPE_SSL, SSL_FIXED + TLV_HEAD + (size_t)in->n_tls_name);
        out[n++] = CLIENT_SSL | CLIENT_CERT;
        put32(out + n, 0); /* verified */
        n += 4;
        n += write_tlv(out + n, SUBTYPE_CN, in->n_tls_name);
        memcpy(out + n, in->tls_name, in->n_tls_name);
        n += in->n_tls_name;
    }
    put16(out + 14, (uint16_t)(n - FIXED));
    return n;
}

static bool holds(const cscp_network *network, const struct in6_addr *address) {
    size_t whole = network->prefix_bits / 8;
    unsigned bits = network->prefix_bits % 8;

    if (memcmp(network->address, address->s6_addr, whole) != 0)
        return false;
    return bits == 0 ||
           (network->address[whole] ^ address->s6_addr[whole]) >> (8 - bits) == 0;
}

bool cscp_networks_hold(const cscp_network *networks, uint32_t n, const struct in6_addr *address) {
    for (uint32_t i = 0; i < n; i++)
        if (holds(&networks[i], address))
            return true;
    return false;
}
