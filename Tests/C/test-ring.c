/* The ring: between two threads, around its end, and full. */
#include "check.h"
#include "../../Sources/CSCP/ring.h"

#include <pthread.h>
#include <sched.h>

typedef struct record {
    cscp_ring_head head;
    uint64_t number;
    uint8_t bytes[];
} record;

enum { LARGEST = 600, N_RECORDS = 100000 };

static uint32_t size_of(uint64_t number) {
    return (uint32_t)(sizeof(record) + number * 2654435761u % (LARGEST - sizeof(record)));
}

static void write_record(cscp_ring *ring, uint64_t number) {
    uint32_t size = size_of(number);
    record *r = cscp_ring_write(ring, size);
    r->head.kind = 1;
    r->number = number;
    memset(r->bytes, (int)(number & 0xff), size - sizeof(record));
}

static void check_record(const record *r, uint64_t number) {
    CHECK_EQ(r->head.kind, 1);
    CHECK_EQ(r->number, number);
    CHECK_EQ(r->head.size, (size_of(number) + 7) & ~7u);
    for (uint32_t i = 0; i < size_of(number) - sizeof(record); i++)
        CHECK_EQ(r->bytes[i], number & 0xff);
}

static cscp_ring ring;

static void *write_all(void *unused) {
    (void)unused;
    for (uint64_t number = 0; number < N_RECORDS; number++) {
        while (cscp_ring_room(&ring, LARGEST, LARGEST) < LARGEST) {
            cscp_ring_publish(&ring);
            sched_yield();
        }
        write_record(&ring, number);
        if (number % 7 == 0) cscp_ring_publish(&ring);
    }
    cscp_ring_publish(&ring);
    return NULL;
}

static void what_one_thread_writes_another_reads_in_order(void) {
    pthread_t writer;
    uint64_t number = 0;
    CHECK_EQ(cscp_ring_init(&ring, 8192), 0);
    CHECK_EQ(pthread_create(&writer, NULL, write_all, NULL), 0);
    while (number < N_RECORDS) {
        const record *r = cscp_ring_peek(&ring);
        if (r) {
            check_record(r, number++);
            cscp_ring_next(&ring);
        }
        if (!r || number % 5 == 0) cscp_ring_release(&ring, 2048);
        if (!r) sched_yield();
    }
    pthread_join(writer, NULL);
    CHECK(!cscp_ring_peek(&ring));
    cscp_ring_done(&ring);
}

static void nothing_is_seen_before_it_is_published(void) {
    CHECK_EQ(cscp_ring_init(&ring, 8192), 0);
    write_record(&ring, 0);
    CHECK(!cscp_ring_peek(&ring));
    cscp_ring_publish(&ring);
    CHECK(cscp_ring_peek(&ring) != NULL);
    cscp_ring_done(&ring);
}

/* Whatever fits by cscp_ring_room() fits, wherever the end lies. */
static void what_has_room_fits_and_what_is_read_stays_until_released(void) {
    for (uint64_t begin = 0; begin < 200; begin++) {
        uint64_t written = begin, read = begin;
        CHECK_EQ(cscp_ring_init(&ring, 4096), 0);
        for (int round = 0; round < 20; round++) {
            const record *first;
            while (cscp_ring_room(&ring, LARGEST, LARGEST) >= LARGEST)
                write_record(&ring, written++);
            cscp_ring_publish(&ring);
            first = cscp_ring_peek(&ring);
            CHECK(written > read);
            uint64_t from = read;
            while (read < written) {
                check_record(cscp_ring_peek(&ring), read++);
                cscp_ring_next(&ring);
            }
            check_record(first, from); /* still whole */
            CHECK(!cscp_ring_peek(&ring));
            cscp_ring_release(&ring, 0);
        }
        cscp_ring_done(&ring);
    }
}

static void a_writer_that_wants_room_is_told_when_there_is_enough(void) {
    CHECK_EQ(cscp_ring_init(&ring, 4096), 0);
    CHECK(!cscp_ring_want_room(&ring, 1024)); /* there is */
    uint64_t n = 0;
    while (cscp_ring_room(&ring, LARGEST, LARGEST) >= LARGEST) write_record(&ring, n++);
    cscp_ring_publish(&ring);
    CHECK(cscp_ring_want_room(&ring, 2048));
    CHECK(!cscp_ring_release(&ring, 2048)); /* nothing was read */
    unsigned n_told = 0;
    for (uint64_t i = 0; i < n; i++) {
        CHECK(cscp_ring_peek(&ring) != NULL);
        cscp_ring_next(&ring);
        n_told += cscp_ring_release(&ring, 2048);
    }
    CHECK_EQ(n_told, 1);
    CHECK(cscp_ring_room(&ring, LARGEST, LARGEST) >= LARGEST);
    cscp_ring_done(&ring);
}

int main(void) {
    RUN(nothing_is_seen_before_it_is_published);
    RUN(what_has_room_fits_and_what_is_read_stays_until_released);
    RUN(a_writer_that_wants_room_is_told_when_there_is_enough);
    RUN(what_one_thread_writes_another_reads_in_order);
    return 0;
}
