/* SHA-256 (FIPS 180-4), of which the first 16 bytes are the digest of a configuration. Written out here
 * because both ends need it and the codec needs nothing but libc. */
#include "cscp_frame.h"

#include <string.h>

static const uint32_t k[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t rotated(uint32_t x, unsigned n) {
    return x >> n | x << (32 - n);
}

/* One round; the eight words change places by their names instead of being moved. */
static void turn(uint32_t a, uint32_t b, uint32_t c, uint32_t *d, uint32_t e, uint32_t f, uint32_t g,
                 uint32_t *h, uint32_t w) {
    uint32_t t = *h + (rotated(e, 6) ^ rotated(e, 11) ^ rotated(e, 25)) + ((e & f) ^ (~e & g)) + w;

    *d += t;
    *h = t + (rotated(a, 2) ^ rotated(a, 13) ^ rotated(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
}

static void mix(uint32_t state[8], const uint8_t *p) {
    uint32_t w[64];
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
    uint32_t e = state[4], f = state[5], g = state[6], h = state[7];

    for (unsigned i = 0; i < 16; i++, p += 4)
        w[i] = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
    for (unsigned i = 16; i < 64; i++) {
        uint32_t x = w[i - 15], y = w[i - 2];
        w[i] = w[i - 16] + w[i - 7] + (rotated(x, 7) ^ rotated(x, 18) ^ x >> 3) +
               (rotated(y, 17) ^ rotated(y, 19) ^ y >> 10);
    }
    for (unsigned i = 0; i < 64; i += 8) {
        turn(a, b, c, &d, e, f, g, &h, k[i] + w[i]);
        turn(h, a, b, &c, d, e, f, &g, k[i + 1] + w[i + 1]);
        turn(g, h, a, &b, c, d, e, &f, k[i + 2] + w[i + 2]);
        turn(f, g, h, &a, b, c, d, &e, k[i + 3] + w[i + 3]);
        turn(e, f, g, &h, a, b, c, &d, k[i + 4] + w[i + 4]);
        turn(d, e, f, &g, h, a, b, &c, k[i + 5] + w[i + 5]);
        turn(c, d, e, &f, g, h, a, &b, k[i + 6] + w[i + 6]);
        turn(b, c, d, &e, f, g, h, &a, k[i + 7] + w[i + 7]);
    }
    state[0] += a;
    state[1] += b;
    state[2] += c;
    state[3] += d;
    state[4] += e;
    state[5] += f;
    state[6] += g;
    state[7] += h;
}

void cscp_digest_begin(cscp_digest *self) {
    *self = (cscp_digest){.state = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f,
                                    0x9b05688c, 0x1f83d9ab, 0x5be0cd19}};
}

void cscp_digest_add(cscp_digest *self, const void *data, size_t n) {
    const uint8_t *p = data;
    size_t held = self->n % sizeof(self->block);

    self->n += n;
    if (held > 0) {
        size_t part = sizeof(self->block) - held < n ? sizeof(self->block) - held : n;
        memcpy(self->block + held, p, part);
        if (held + part < sizeof(self->block))
            return;
        mix(self->state, self->block);
        p += part;
        n -= part;
    }
    for (; n >= sizeof(self->block); p += sizeof(self->block), n -= sizeof(self->block))
        mix(self->state, p);
    if (n > 0)
        memcpy(self->block, p, n);
}

void cscp_digest_get(const cscp_digest *self, uint8_t ret[CSCP_DIGEST_SIZE]) {
    cscp_digest end = *self;
    uint8_t tail[72] = {0x80};
    size_t n_pad = 64 - (self->n + 8) % 64;

    for (unsigned i = 0; i < 8; i++)
        tail[n_pad + i] = (uint8_t)(self->n * 8 >> (56 - 8 * i));
    cscp_digest_add(&end, tail, n_pad + 8);
    for (unsigned i = 0; i < CSCP_DIGEST_SIZE; i++)
        ret[i] = (uint8_t)(end.state[i / 4] >> (24 - 8 * (i % 4)));
}
