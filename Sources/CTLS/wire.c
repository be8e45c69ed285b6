/* A socket as a BIO. OpenSSL's own writes with write(), which raises SIGPIPE. */
#include "internal.h"

#include <errno.h>
#include <openssl/bio.h>
#include <sys/socket.h>

static int socket_of(BIO *bio) {
    return (int)(intptr_t)BIO_get_data(bio);
}

static int wire_write(BIO *bio, const char *bytes, size_t n, size_t *ret_n) {
    ssize_t r;

    do {
        r = send(socket_of(bio), bytes, n, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (r < 0 && errno == EINTR);
    BIO_clear_retry_flags(bio);
    if (r < 0) {
        if (errno == EAGAIN)
            BIO_set_retry_write(bio);
        return 0;
    }
    *ret_n = (size_t)r;
    return 1;
}

static int wire_read(BIO *bio, char *ret_bytes, size_t n, size_t *ret_n) {
    ssize_t r;

    do {
        r = recv(socket_of(bio), ret_bytes, n, MSG_DONTWAIT);
    } while (r < 0 && errno == EINTR);
    BIO_clear_retry_flags(bio);
    if (r <= 0) {
        if (r == 0) {
            BIO_set_flags(bio, BIO_FLAGS_IN_EOF);
            errno = 0;
        } else if (errno == EAGAIN) {
            BIO_set_retry_read(bio);
        }
        return 0;
    }
    *ret_n = (size_t)r;
    return 1;
}

static long wire_control(BIO *bio, int command, long number, void *pointer) {
    (void)number;
    (void)pointer;
    switch (command) {
    case BIO_CTRL_FLUSH:
    case BIO_CTRL_DUP:
        return 1;
    case BIO_CTRL_EOF:
        return BIO_test_flags(bio, BIO_FLAGS_IN_EOF) != 0;
    default:
        return 0;
    }
}

BIO_METHOD *wire_method_new(void) {
    BIO_METHOD *method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "socket");

    if (!method)
        return NULL;
    if (!BIO_meth_set_write_ex(method, wire_write) || !BIO_meth_set_read_ex(method, wire_read) ||
        !BIO_meth_set_ctrl(method, wire_control)) {
        BIO_meth_free(method);
        return NULL;
    }
    return method;
}

BIO *wire_new(const BIO_METHOD *method, int fd) {
    BIO *bio = BIO_new(method);

    if (!bio)
        return NULL;
    BIO_set_data(bio, (void *)(intptr_t)fd);
    BIO_set_init(bio, 1);
    return bio;
}
