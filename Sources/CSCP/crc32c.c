/* CRC-32C (Castagnoli), by the processor's instruction where it has one, else eight bytes at a time
 * from tables (Kounavis and Berry, "A Systematic Approach to Building High Performance, Software-based,
 * CRC Generators", 2005).
 *
 * Headers are CRCed over 8 bytes and most payloads are short, so the instruction, 8 bytes in 3 cycles,
 * matters more here than interleaving long streams would. */
#include "cscp_frame.h"

#include <string.h>

#if defined(__x86_64__)
#include <nmmintrin.h>
#elif defined(__aarch64__)
#include <arm_acle.h>
#include <sys/auxv.h>
#endif

enum { POLYNOMIAL_REFLECTED = (int)0x82F63B78u };

static uint32_t table[8][256];

static uint32_t crc_by_table(uint32_t crc, const uint8_t *p, size_t n) {
    while (n >= 8) {
        uint64_t word;
        memcpy(&word, p, 8);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        word = __builtin_bswap64(word);
#endif
        word ^= crc;
        crc = table[7][word & 255] ^ table[6][(word >> 8) & 255] ^ table[5][(word >> 16) & 255] ^
              table[4][(word >> 24) & 255] ^ table[3][(word >> 32) & 255] ^
              table[2][(word >> 40) & 255] ^ table[1][(word >> 48) & 255] ^ table[0][word >> 56];
        p += 8;
        n -= 8;
    }
    while (n--) crc = table[0][(crc ^ *p++) & 255] ^ (crc >> 8);
    return crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t crc_by_instruction(uint32_t crc, const uint8_t *p,
                                                                     size_t n) {
    uint64_t wide = crc;
    for (; n >= 8; p += 8, n -= 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        wide = _mm_crc32_u64(wide, word);
    }
    crc = (uint32_t)wide;
    while (n--) crc = _mm_crc32_u8(crc, *p++);
    return crc;
}
static bool has_instruction(void) { return __builtin_cpu_supports("sse4.2"); }
#elif defined(__aarch64__)
__attribute__((target("crc"))) static uint32_t crc_by_instruction(uint32_t crc, const uint8_t *p,
                                                                  size_t n) {
    for (; n >= 8; p += 8, n -= 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        crc = __crc32cd(crc, word);
    }
    while (n--) crc = __crc32cb(crc, *p++);
    return crc;
}
static bool has_instruction(void) { return getauxval(AT_HWCAP) & (1u << 7); /* HWCAP_CRC32 */ }
#else
static uint32_t crc_by_instruction(uint32_t crc, const uint8_t *p, size_t n) {
    return crc_by_table(crc, p, n);
}
static bool has_instruction(void) { return false; }
#endif

/* Chosen before main(), so that no thread ever sees the choice being made. */
static uint32_t (*crc_update)(uint32_t, const uint8_t *, size_t) = crc_by_table;

__attribute__((constructor)) static void choose(void) {
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ (crc & 1 ? (uint32_t)POLYNOMIAL_REFLECTED : 0);
        table[0][i] = crc;
    }
    for (uint32_t i = 0; i < 256; i++)
        for (int t = 1; t < 8; t++)
            table[t][i] = table[0][table[t - 1][i] & 255] ^ (table[t - 1][i] >> 8);
#if defined(__x86_64__)
    __builtin_cpu_init();
#endif
    if (has_instruction()) crc_update = crc_by_instruction;
}

uint32_t cscp_crc32c(uint32_t crc, const void *data, size_t n) {
    return ~crc_update(~crc, data, n);
}

/* For tests: the table's result, on any processor. */
uint32_t cscp_crc32c_portable(uint32_t crc, const void *data, size_t n);
uint32_t cscp_crc32c_portable(uint32_t crc, const void *data, size_t n) {
    return ~crc_by_table(~crc, data, n);
}
