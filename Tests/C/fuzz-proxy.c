/* libFuzzer: whatever the bytes, the parser of PROXY headers stays within them, says the same however
 * they are cut, and reads what it wrote. */
#include "check.h"
#include "../../Sources/CSCP/proxy.h"

#include <errno.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A copy of its own, so that reading behind the end is noticed. */
static int read_part(const uint8_t *data, size_t n, cscp_proxy *ret, size_t *ret_consumed) {
    uint8_t *part = malloc(n > 0 ? n : 1);
    memcpy(part, data, n);
    int r = cscp_proxy_read(part, n, ret, ret_consumed);
    free(part);
    return r;
}

static void run(const uint8_t *data, size_t n) {
    cscp_proxy whole = {0}, part;
    size_t consumed = 0, again;
    int r = read_part(data, n, &whole, &consumed);
    CHECK(r == 1 || r == 0 || r == -ENOMSG || r == -EBADMSG);
    CHECK(r != 1 || (consumed >= 16 && consumed <= n && consumed <= CSCP_PROXY_MAX));
    CHECK(r != 0 || n < CSCP_PROXY_MAX);
    for (size_t cut = 0; cut < n; cut += 1 + cut / 8) {
        int s = read_part(data, cut, &part, &again);
        CHECK(s == 0 || s == r); /* once it is decided it stays so */
        CHECK(s != 1 || (again == consumed && memcmp(&part, &whole, sizeof(part)) == 0));
    }
    if (r != 1 || !whole.has_source) return;
    uint8_t out[CSCP_PROXY_WRITTEN_MAX];
    size_t size = cscp_proxy_write(out, &whole);
    CHECK(size <= sizeof(out));
    CHECK_EQ(read_part(out, size, &part, &again), 1);
    whole.again &= whole.relayed;
    CHECK_EQ(again, size);
    CHECK(memcmp(&part, &whole, sizeof(part)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const uint8_t signature[12] = {0x0D, 0x0A, 0x0D, 0x0A, 0x00, 0x0D,
                                          0x0A, 0x51, 0x55, 0x49, 0x54, 0x0A};
    uint8_t bytes[4096];
    run(data, size);
    /* The rest of a header; its length need not be found by luck. */
    if (size < 2 || size > 2048) return 0;
    memcpy(bytes, signature, 12);
    bytes[12] = data[0] & 1 ? 0x21 : data[0];
    bytes[13] = data[1] & 1 ? 0x11 : data[1] & 2 ? 0x21 : data[1];
    bytes[14] = (uint8_t)((size - 2) >> 8);
    bytes[15] = (uint8_t)(size - 2);
    memcpy(bytes + 16, data + 2, size - 2);
    run(bytes, size + 14);
    return 0;
}
