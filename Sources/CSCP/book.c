#include "book.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PAGE = 4096 };

static const uint8_t magic[8] = {'C', 'S', 'C', 'P', 'b', 'o', 'o', 'k'};

_Static_assert(offsetof(cscp_ticket, free) == CSCP_TICKET_MIN, "fields are added behind the others");
_Static_assert(sizeof(cscp_book_head) <= PAGE, "the tickets begin on the second page");

static uint32_t sum_of(const cscp_book_head *head) {
    cscp_book_head copy = *head;

    copy.sum = 0;
    return cscp_crc32c(0, &copy, offsetof(cscp_book_head, used));
}

static cscp_book_head *head_of(const cscp_book *book) {
    return (cscp_book_head *)(void *)book->bytes;
}

static size_t whole_pages(size_t n) {
    return (n + PAGE - 1) / PAGE * PAGE;
}

/* Room that costs nothing before it is used. */
static int allocate(bool outlives, size_t size, cscp_book *ret) {
    int fd = -1, r;
    void *bytes;

    if (outlives) {
        fd = memfd_create("cscp-book", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        if (fd < 0)
            return -errno;
        /* Nobody can take away what we write to. */
        if (ftruncate(fd, (off_t)size) < 0 ||
            fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) < 0) {
            r = -errno;
            close(fd);
            return r;
        }
    }
    bytes = mmap(NULL, size, PROT_READ | PROT_WRITE,
                 outlives ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, fd, 0);
    if (bytes == MAP_FAILED) {
        r = -errno;
        if (fd >= 0)
            close(fd);
        return r;
    }
    /* Mostly holes: a core with them in it would be large, and long in the making. */
    madvise(bytes, size, MADV_DONTDUMP);
    *ret = (cscp_book){.bytes = bytes, .size = size, .fd = fd};
    return 0;
}

int cscp_book_new(bool outlives, uint32_t n_shares, uint32_t share_size, uint64_t generation,
                  cscp_book *ret) {
    size_t n = (size_t)n_shares * share_size;
    size_t names_at = PAGE + whole_pages(n * sizeof(cscp_ticket));
    cscp_book_head *head;
    int r = allocate(outlives, names_at + whole_pages(n * CSCP_TLS_NAME_MAX), ret);

    if (r < 0)
        return r;
    head = head_of(ret);
    memcpy(head->magic, magic, sizeof(magic));
    head->version = CSCP_BOOK_VERSION;
    head->ticket_size = sizeof(cscp_ticket);
    head->name_size = CSCP_TLS_NAME_MAX;
    head->n_shares = n_shares;
    head->share_size = share_size;
    head->tickets_at = PAGE;
    head->names_at = names_at;
    head->generation = generation;
    head->sum = sum_of(head);
    return 0;
}

void cscp_book_done(cscp_book *book) {
    if (!book->bytes)
        return;
    munmap(book->bytes, book->size);
    if (book->fd >= 0)
        close(book->fd);
    *book = (cscp_book){.fd = -1};
}

cscp_ticket *cscp_book_share(const cscp_book *book, uint32_t share) {
    const cscp_book_head *head = head_of(book);

    return (cscp_ticket *)(void *)(book->bytes + head->tickets_at) +
           (size_t)share * head->share_size;
}

char *cscp_book_names(const cscp_book *book, uint32_t share) {
    const cscp_book_head *head = head_of(book);

    return (char *)book->bytes + head->names_at +
           (size_t)share * head->share_size * CSCP_TLS_NAME_MAX;
}

void cscp_book_use(const cscp_book *book, uint32_t share, uint32_t i) {
    _Atomic uint32_t *used = &head_of(book)->used[share];

    if (atomic_load_explicit(used, memory_order_relaxed) <= i)
        atomic_store_explicit(used, i + 1, memory_order_release);
}

/* --- Reading */

int cscp_book_check(const uint8_t *bytes, size_t n) {
    const cscp_book_head *head = (const cscp_book_head *)(const void *)bytes;
    uint64_t n_tickets;

    if (n < sizeof(*head) || memcmp(head->magic, magic, sizeof(magic)) != 0)
        return -EBADMSG;
    if (head->version != CSCP_BOOK_VERSION)
        return -EPROTONOSUPPORT;
    if (head->sum != sum_of(head) || head->n_shares > CSCP_BOOK_SHARES_MAX ||
        head->ticket_size < CSCP_TICKET_MIN || head->ticket_size % 8 != 0 ||
        head->ticket_size > PAGE || head->name_size > PAGE || head->tickets_at % 8 != 0 ||
        head->tickets_at > n || head->names_at > n)
        return -EBADMSG;
    n_tickets = (uint64_t)head->n_shares * head->share_size;
    if (n_tickets * head->ticket_size > n - head->tickets_at ||
        n_tickets * head->name_size > n - head->names_at)
        return -EBADMSG;
    return 0;
}

int cscp_book_open(int fd, cscp_book *ret) {
    struct stat st;
    void *bytes;
    int r;

    if (fstat(fd, &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode) || st.st_size < (off_t)sizeof(cscp_book_head))
        return -EBADMSG;
    /* Written only by whoever made it, and that one is dead: it cannot change under us, and sealed,
     * it cannot shrink. */
    if ((fcntl(fd, F_GET_SEALS) & F_SEAL_SHRINK) == 0)
        return -EBADMSG;
    bytes = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (bytes == MAP_FAILED)
        return -errno;
    r = cscp_book_check(bytes, (size_t)st.st_size);
    if (r < 0) {
        munmap(bytes, (size_t)st.st_size);
        return r;
    }
    *ret = (cscp_book){.bytes = bytes, .size = (size_t)st.st_size, .fd = fd};
    /* Mostly so. To read them would give each page of them memory. */
    ret->nameless = lseek(fd, (off_t)head_of(ret)->names_at / PAGE * PAGE, SEEK_DATA) < 0 &&
                    errno == ENXIO;
    return 0;
}

uint64_t cscp_book_generation(const cscp_book *book) {
    return head_of(book)->generation;
}

static bool is_sound(const cscp_ticket *k) {
    if (k->stage >= CSCP_STAGES || k->n_model > CSCP_NAME_MAX || k->n_firmware > CSCP_NAME_MAX)
        return false;
    if (k->stage == CSCP_STAGE_NEW)
        return true;
    return k->serial != 0 && k->serial != UINT64_MAX && k->capacity != 0 &&
           k->acked < UINT64_MAX - 1 && k->last_seq != UINT64_MAX && k->oldest_seq != 0;
}

bool cscp_book_next(const cscp_book *book, cscp_book_cursor *cursor, cscp_ticket *ret,
                    char *ret_name, uint32_t *ret_unsound) {
    const cscp_book_head *head = head_of(book);

    for (; cursor->share < head->n_shares; cursor->share++, cursor->i = 0) {
        uint32_t used = head->used[cursor->share];

        while (cursor->i < used && cursor->i < head->share_size) {
            size_t at = (size_t)cursor->share * head->share_size + cursor->i++;
            const uint8_t *ticket = book->bytes + head->tickets_at + at * head->ticket_size;
            size_t n_ticket = head->ticket_size < sizeof(*ret) ? head->ticket_size : sizeof(*ret);
            size_t n_name = head->name_size < CSCP_TLS_NAME_MAX ? head->name_size
                                                                : CSCP_TLS_NAME_MAX;

            if (((const cscp_ticket *)(const void *)ticket)->cookie == 0)
                continue;
            memset(ret, 0, sizeof(*ret));
            memcpy(ret, ticket, n_ticket);
            if (!is_sound(ret)) {
                (*ret_unsound)++;
                continue;
            }
            if (ret_name)
                memset(ret_name, 0, CSCP_TLS_NAME_MAX + 1);
            if (ret_name && !book->nameless)
                memcpy(ret_name, book->bytes + head->names_at + at * head->name_size, n_name);
            return true;
        }
    }
    return false;
}
