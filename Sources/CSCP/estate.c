/* Sorting out what the keeper had: names, listeners, books and rows. What becomes of it is in
 * resume.c. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "thread.h"

static bool begins(const char *name, const char *with) {
    return strncmp(name, with, strlen(with)) == 0 && strlen(name) < CSCP_ROW_NAME;
}

/* Names are not used again: they end in the generation of the process that made them. */
static uint64_t generation_in(const char *name) {
    const char *number = strpbrk(name, "0123456789");

    return number ? strtoull(number, NULL, 10) : 0;
}

/* Nobody needs it any more: neither we nor the keeper. */
static void discard(struct cscp *cscp, const char *name, int fd) {
    close(fd);
    cscp->keeper.drop(cscp->keeper.context, name);
}

static void take_listener(struct cscp *cscp, const char *name, int fd, cscp_estate *estate) {
    uint32_t i = estate->n_listeners;

    /* More than threads: their queues are lost, which a change of the configuration may cost. */
    if (i >= cscp->config.n_io_threads || !cscp_listens_there(&cscp->config, fd, &cscp->port)) {
        discard(cscp, name, fd);
        return;
    }
    estate->listeners[i] = fd;
    snprintf(estate->listener_names[i], CSCP_ROW_NAME, "%s", name);
    estate->n_listeners++;
}

/* Of several, which a process that was killed while it began can leave, the newest counts: it was
 * whole before the keeper had it. */
static void take_book(struct cscp *cscp, const char *name, int fd, cscp_estate *estate) {
    cscp_book book;
    int r = cscp_book_open(fd, &book);

    if (estate->n_books == CSCP_BOOK_SHARES_MAX) {
        if (r == 0)
            cscp_book_done(&book);
        else
            close(fd);
        return;
    }
    snprintf(estate->book_names[estate->n_books++], CSCP_ROW_NAME, "%s", name);
    if (r < 0) {
        close(fd);
        cscp->resumption.unknown_version = true;
        return;
    }
    if (estate->book.bytes &&
        cscp_book_generation(&estate->book) > cscp_book_generation(&book)) {
        cscp_book_done(&book);
        return;
    }
    cscp_book_done(&estate->book);
    estate->book = book;
}

static void take_row(struct cscp *cscp, const char *name, int fd, cscp_estate *estate) {
    cscp_row *row;

    if (cscp_row_adopt(fd, name, &row) < 0) {
        close(fd);
        return;
    }
    if (cscp_row_look(row) < 0) {
        cscp_row_free(row);
        cscp->keeper.drop(cscp->keeper.context, name);
        return;
    }
    row->next = estate->rows;
    estate->rows = row;
    cscp->resumption.rows++;
}

/* What F_DUPFD needs room for stays. */
void cscp_files_reserve(int fd, uint64_t n) {
    struct rlimit limit;
    int high;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || n == 0)
        return;
    if (n >= limit.rlim_cur)
        n = limit.rlim_cur - 1;
    high = fcntl(fd, F_DUPFD_CLOEXEC, (int)(n < INT_MAX ? n : INT_MAX));
    if (high >= 0)
        close(high);
}

void cscp_make_room(const cscp_inherited *inherited, uint32_t n_inherited) {
    uint64_t n_rows = 0;

    for (uint32_t i = 0; i < n_inherited; i++)
        n_rows += begins(inherited[i].name, "cscp.lot.");
    if (n_rows > 0)
        cscp_files_reserve(inherited[0].fd, n_rows * CSCP_ROW_MAX);
}

void cscp_estate_open(struct cscp *cscp, const cscp_config *config, cscp_estate *ret) {
    *ret = (cscp_estate){.book = {.fd = -1}};
    for (uint32_t i = 0; i < config->n_inherited; i++) {
        const char *name = config->inherited[i].name;
        int fd = config->inherited[i].fd;

        if (strncmp(name, "cscp.", 5) != 0)
            continue;
        fcntl(fd, F_SETFD, FD_CLOEXEC);
        if (generation_in(name) > ret->generation)
            ret->generation = generation_in(name);
        if (begins(name, "cscp.listen."))
            take_listener(cscp, name, fd, ret);
        else if (begins(name, "cscp.book."))
            take_book(cscp, name, fd, ret);
        else if (begins(name, "cscp.lot."))
            take_row(cscp, name, fd, ret);
        else
            discard(cscp, name, fd);
    }
    cscp->resumption.listeners = ret->n_listeners;
    /* One that can be read is the newest of those we know; a later one would be of a later version,
     * and what it says of the same connections newer. */
    if (cscp->resumption.unknown_version)
        cscp_book_done(&ret->book);
}

void cscp_estate_done(cscp_estate *estate) {
    while (estate->rows) {
        cscp_row *row = estate->rows;

        estate->rows = row->next;
        cscp_row_free(row);
    }
    while (estate->n_listeners-- > 0)
        if (estate->listeners[estate->n_listeners] >= 0)
            close(estate->listeners[estate->n_listeners]);
    estate->n_listeners = 0;
    cscp_book_done(&estate->book);
}
