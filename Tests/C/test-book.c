/* The state that outlives a process: what is read of it, whatever another process wrote. */
#include "check.h"
#include "../../Sources/CSCP/book.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

static cscp_ticket sound(uint64_t cookie, uint64_t serial) {
    return (cscp_ticket){
        .cookie = cookie, .acked = 5, .log_epoch = 1, .stage = CSCP_STAGE_WELCOMED,
        .epoch_seen = 2, .session_id = 77, .serial = serial, .capacity = 1000, .oldest_seq = 1,
        .last_seq = 9, .n_model = 5, .model = "model",
    };
}

static size_t count(const cscp_book *book, uint32_t *ret_unsound) {
    char name[CSCP_TLS_NAME_MAX + 1];
    cscp_book_cursor cursor = {0};
    cscp_ticket ticket;
    size_t n = 0;

    *ret_unsound = 0;
    while (cscp_book_next(book, &cursor, &ticket, name, ret_unsound))
        n++;
    return n;
}

static void what_was_written_is_read_by_whoever_opens_it(void) {
    char name[CSCP_TLS_NAME_MAX + 1];
    cscp_book_cursor cursor = {0};
    cscp_book book, seen;
    cscp_ticket ticket;
    uint32_t unsound = 0;

    CHECK_EQ(cscp_book_new(true, 3, 100, 8, &book), 0);
    cscp_book_use(&book, 0, 7);
    cscp_book_share(&book, 0)[7] = sound(11, 70);
    cscp_book_use(&book, 2, 99);
    cscp_book_share(&book, 2)[99] = sound(12, 80);
    memset(cscp_book_names(&book, 2) + 99 * CSCP_TLS_NAME_MAX, 'x', CSCP_TLS_NAME_MAX);
    cscp_book_share(&book, 1)[5] = sound(13, 90); /* beyond what is said to be used */
    CHECK_EQ(cscp_book_open(fcntl(book.fd, F_DUPFD_CLOEXEC, 0), &seen), 0);
    CHECK_EQ(cscp_book_generation(&seen), 8);
    CHECK(cscp_book_next(&seen, &cursor, &ticket, name, &unsound));
    CHECK_EQ(ticket.serial, 70);
    CHECK_EQ(strlen(name), 0);
    CHECK(cscp_book_next(&seen, &cursor, &ticket, name, &unsound));
    CHECK_EQ(ticket.serial, 80);
    CHECK_EQ(strlen(name), CSCP_TLS_NAME_MAX);
    CHECK(!cscp_book_next(&seen, &cursor, &ticket, name, &unsound));
    CHECK_EQ(unsound, 0);
    cscp_book_done(&seen);
    cscp_book_done(&book);
}

static void tickets_that_cannot_be_right_are_left_out_and_counted(void) {
    cscp_book book;
    cscp_ticket *tickets;
    uint32_t unsound;

    CHECK_EQ(cscp_book_new(false, 1, 100, 1, &book), 0);
    tickets = cscp_book_share(&book, 0);
    cscp_book_use(&book, 0, 20);
    for (uint32_t i = 0; i < 9; i++)
        tickets[i] = sound(100 + i, 7);
    CHECK_EQ(count(&book, &unsound), 9);
    tickets[0].serial = 0;
    tickets[1].serial = UINT64_MAX;
    tickets[2].stage = CSCP_STAGES;
    tickets[3].n_model = CSCP_NAME_MAX + 1;
    tickets[4].capacity = 0;
    tickets[5].acked = UINT64_MAX;
    tickets[6].oldest_seq = 0;
    tickets[7].cookie = 0; /* free */
    CHECK_EQ(count(&book, &unsound), 1);
    CHECK_EQ(unsound, 7);
    /* One that has not said HELLO says nothing that could be wrong. */
    tickets[0].stage = CSCP_STAGE_NEW;
    CHECK_EQ(count(&book, &unsound), 2);
    cscp_book_done(&book);
}

static void write_sum(cscp_book_head *head) {
    head->sum = 0;
    head->sum = cscp_crc32c(0, head, offsetof(cscp_book_head, used));
}

static void a_book_with_smaller_or_larger_tickets_is_read(void) {
    static const uint32_t sizes[] = {CSCP_TICKET_MIN, 512};

    for (unsigned i = 0; i < 2; i++) {
        static _Alignas(64) uint8_t bytes[16384];
        cscp_book_head *head = (cscp_book_head *)(void *)bytes;
        cscp_ticket one = sound(11, 70), two = sound(12, 80), seen;
        cscp_book book = {.bytes = bytes, .size = sizeof(bytes), .fd = -1};
        char name[CSCP_TLS_NAME_MAX + 1];
        cscp_book_cursor cursor = {0};
        uint32_t unsound = 0;

        memset(bytes, 0xEE, sizeof(bytes)); /* what is behind a ticket is not its */
        *head = (cscp_book_head){
            .magic = {'C', 'S', 'C', 'P', 'b', 'o', 'o', 'k'},
            .version = CSCP_BOOK_VERSION, .ticket_size = sizes[i],
            .name_size = 16, .n_shares = 1, .share_size = 2, .tickets_at = 4096, .names_at = 8192,
            .generation = 3, .used = {2},
        };
        write_sum(head);
        memset(one.free, 0xEE, sizeof(one.free));
        memcpy(bytes + 4096, &one, sizes[i] < sizeof(one) ? sizes[i] : sizeof(one));
        memcpy(bytes + 4096 + sizes[i], &two, sizes[i] < sizeof(two) ? sizes[i] : sizeof(two));
        memset(bytes + 8192, 0, 32);
        memcpy(bytes + 8192 + 16, "sixteen letters.", 16);
        CHECK_EQ(cscp_book_check(bytes, sizeof(bytes)), 0);
        CHECK(cscp_book_next(&book, &cursor, &seen, name, &unsound));
        CHECK_EQ(seen.serial, 70);
        CHECK_EQ(seen.free[0], sizes[i] < sizeof(one) ? 0 : 0xEE);
        CHECK(cscp_book_next(&book, &cursor, &seen, name, &unsound));
        CHECK_EQ(seen.serial, 80);
        CHECK(strcmp(name, "sixteen letters.") == 0);
        CHECK(!cscp_book_next(&book, &cursor, &seen, name, &unsound));
        CHECK_EQ(unsound, 0);
    }
}

static void what_is_no_book_or_of_another_version_is_told_apart(void) {
    cscp_book_head *head;
    cscp_book book, seen;
    int fd;

    CHECK_EQ(cscp_book_new(true, 2, 10, 1, &book), 0);
    head = (cscp_book_head *)(void *)book.bytes;
    CHECK_EQ(cscp_book_check(book.bytes, book.size), 0);
    CHECK_EQ(cscp_book_check(book.bytes, 100), -EBADMSG);
    CHECK_EQ(cscp_book_check(book.bytes, 4096), -EBADMSG); /* cut off */
    head->generation++;
    CHECK_EQ(cscp_book_check(book.bytes, book.size), -EBADMSG);
    head->generation--;
    head->version++;
    CHECK_EQ(cscp_book_check(book.bytes, book.size), -EPROTONOSUPPORT);
    head->version--;
    head->n_shares = UINT32_MAX;
    write_sum(head);
    CHECK_EQ(cscp_book_check(book.bytes, book.size), -EBADMSG);
    cscp_book_done(&book);
    /* A file that somebody could make shorter is not mapped. */
    fd = memfd_create("no book", MFD_CLOEXEC);
    CHECK_EQ(ftruncate(fd, 8192), 0);
    CHECK_EQ(cscp_book_open(fd, &seen), -EBADMSG);
    close(fd);
    CHECK(cscp_book_open(-1, &seen) < 0);
}

int main(void) {
    RUN(what_was_written_is_read_by_whoever_opens_it);
    RUN(tickets_that_cannot_be_right_are_left_out_and_counted);
    RUN(a_book_with_smaller_or_larger_tickets_is_read);
    RUN(what_is_no_book_or_of_another_version_is_told_apart);
    return 0;
}
