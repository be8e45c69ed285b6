/* libFuzzer: what another process may have left as its book. Whatever is read out of it is sound, and
 * nothing outside of it is looked at. The input is the file from its first byte. */
#include "../../Sources/CSCP/book.h"
#include "check.h"

#include <stddef.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The sum is not what is to be found out. */
static void set_right(uint8_t *bytes, size_t n) {
    cscp_book_head *head = (cscp_book_head *)(void *)bytes;

    if (n < sizeof(*head) || bytes[0] == 0)
        return;
    memcpy(head->magic, "CSCPbook", 8);
    head->version = CSCP_BOOK_VERSION;
    head->sum = 0;
    head->sum = cscp_crc32c(0, head, offsetof(cscp_book_head, used));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint8_t *bytes = aligned_alloc(64, (size + 63) / 64 * 64 + 64);
    char name[CSCP_TLS_NAME_MAX + 1];
    cscp_book_cursor cursor = {0};
    uint32_t unsound = 0;
    size_t n = 0;
    cscp_ticket ticket;
    cscp_book book = {.size = size, .fd = -1};

    if (size > 1 << 16 || !bytes) {
        free(bytes);
        return 0;
    }
    /* At the end of the allocation, so that a step beyond it is seen. */
    book.bytes = size % 8 == 0 ? bytes + ((size + 63) / 64 * 64 + 64 - size) : bytes;
    memcpy(book.bytes, data, size);
    set_right(book.bytes, size);
    if (cscp_book_check(book.bytes, size) == 0)
        while (cscp_book_next(&book, &cursor, &ticket, name, &unsound)) {
            CHECK(ticket.cookie != 0);
            CHECK(ticket.stage < CSCP_STAGES);
            CHECK(ticket.n_model <= CSCP_NAME_MAX && ticket.n_firmware <= CSCP_NAME_MAX);
            CHECK(strnlen(name, sizeof(name)) <= CSCP_TLS_NAME_MAX);
            CHECK(ticket.stage == CSCP_STAGE_NEW || ticket.serial != 0);
            CHECK(++n <= size / CSCP_TICKET_MIN);
        }
    free(bytes);
    return 0;
}
