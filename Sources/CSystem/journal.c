/* The journal's native protocol: "NAME=value\n" for plain values; "NAME\n", the length as eight
 * bytes little-endian, the bytes and "\n" for values with a newline in them. An entry too large
 * for a datagram goes as a sealed memory file instead. */
#include "datagram.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define JOURNAL_PATH "/run/systemd/journal/socket"
#define FIELDS_MAX 64u
#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL)
#define FIELD_PIECES 5u
#define NAME_MAX_BYTES 64u

int csys_journal_open(void) {
    return datagram_socket();
}

static bool name_valid(const char *name) {
    size_t n = strlen(name);

    if (n == 0 || n > NAME_MAX_BYTES || name[0] == '_' || (name[0] >= '0' && name[0] <= '9'))
        return false;
    return strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == n;
}

static size_t piece_add(struct iovec *pieces, size_t at, const void *bytes, size_t n) {
    pieces[at] = (struct iovec){.iov_base = (void *)bytes, .iov_len = n};
    return at + 1;
}

static int entry_send_file(int journal, const csys_address *to, struct iovec *pieces,
                           size_t n_pieces) {
    int fd, r = 0;

    fd = memfd_create("journal-entry", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -errno;
    for (size_t i = 0; i < n_pieces && r == 0; i++) {
        const char *at = pieces[i].iov_base;
        size_t left = pieces[i].iov_len;

        while (left > 0) {
            ssize_t n = write(fd, at, left);

            if (n < 0) {
                r = -errno;
                break;
            }
            at += n;
            left -= (size_t)n;
        }
    }
    if (r == 0 && fcntl(fd, F_ADD_SEALS, SEALS) < 0)
        r = -errno;
    if (r == 0)
        r = datagram_send(journal, to, NULL, 0, &fd, 1);
    (void)csys_fd_close(fd);
    return r;
}

int csys_journal_send(int journal, const csys_field *fields, size_t n) {
    struct iovec pieces[FIELDS_MAX * FIELD_PIECES];
    uint64_t lengths[FIELDS_MAX];
    csys_address to;
    size_t at = 0;
    int r;

    if (n == 0 || n > FIELDS_MAX)
        return -EINVAL;
    r = csys_address_unix(JOURNAL_PATH, &to);
    if (r < 0)
        return r;
    for (size_t i = 0; i < n; i++) {
        const csys_field *field = &fields[i];

        if (!name_valid(field->name))
            return -EINVAL;
        at = piece_add(pieces, at, field->name, strlen(field->name));
        if (field->n_value > 0 && memchr(field->value, '\n', field->n_value)) {
            lengths[i] = htole64(field->n_value);
            at = piece_add(pieces, at, "\n", 1);
            at = piece_add(pieces, at, &lengths[i], sizeof lengths[i]);
        } else {
            at = piece_add(pieces, at, "=", 1);
        }
        at = piece_add(pieces, at, field->value, field->n_value);
        at = piece_add(pieces, at, "\n", 1);
    }
    r = datagram_send(journal, &to, pieces, at, NULL, 0);
    if (r == -EMSGSIZE || r == -ENOBUFS)
        r = entry_send_file(journal, &to, pieces, at);
    return r;
}

bool csys_journal_is(int fd) {
    const char *stream = secure_getenv("JOURNAL_STREAM");
    unsigned long long device, inode;
    struct stat st;

    if (!stream || sscanf(stream, "%llu:%llu", &device, &inode) != 2)
        return false;
    return fstat(fd, &st) == 0 && st.st_dev == device && st.st_ino == inode;
}
