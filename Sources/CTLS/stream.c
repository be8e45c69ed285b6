/* One connection: handshake, sending, receiving, each as far as the socket lets it. */
#include "internal.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct ctls_stream {
    SSL *ssl;
    char *host;
    bool is_done;             /* the handshake */
    bool is_broken;           /* nothing may be asked of OpenSSL any more */
    bool is_mute;             /* the socket takes nothing; why, the server may yet tell */
    bool has_heard;           /* anything since the handshake */
    bool reading_wants_write; /* the last call that reads waits for the socket to take bytes */
    bool writing_wants_read;
    char names[128]; /* of the server's certificate, if it was found wanting */
    char text[CTLS_TEXT_MAX];
};

int note_verification(int is_good, X509_STORE_CTX *store) {
    SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    ctls_stream *stream = ssl ? SSL_get_app_data(ssl) : NULL;
    X509 *certificate = X509_STORE_CTX_get0_cert(store);

    if (!is_good && stream && certificate)
        text_of_names(certificate, stream->names, sizeof stream->names);
    return is_good;
}

/* The certificate must hold this host; a name is sent to the server as well, an address is not. */
static int expect(SSL *ssl, const char *host) {
    X509_VERIFY_PARAM *wanted = SSL_get0_param(ssl);
    int is_address = X509_VERIFY_PARAM_set1_ip_asc(wanted, host);

    ERR_clear_error();
    if (is_address)
        return 0;
    X509_VERIFY_PARAM_set_hostflags(wanted, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    if (!X509_VERIFY_PARAM_set1_host(wanted, host, 0) || !SSL_set_tlsext_host_name(ssl, host))
        return -EINVAL;
    return 0;
}

int ctls_stream_new(ctls_context *context, int fd, const char *host, ctls_stream **ret) {
    ctls_stream *stream;
    BIO *bio;
    int r;

    ERR_clear_error();
    stream = calloc(1, sizeof *stream);
    if (!stream)
        return -ENOMEM;
    stream->host = strdup(host);
    stream->ssl = SSL_new(context->ssl);
    bio = wire_new(context->method, fd);
    if (!stream->host || !stream->ssl || !bio) {
        BIO_free(bio);
        ctls_stream_free(stream);
        return -ENOMEM;
    }
    SSL_set_app_data(stream->ssl, stream);
    SSL_set_bio(stream->ssl, bio, bio);
    SSL_set_connect_state(stream->ssl);
    r = expect(stream->ssl, host);
    if (r < 0) {
        ctls_stream_free(stream);
        return r;
    }
    *ret = stream;
    return 0;
}

ctls_stream *ctls_stream_free(ctls_stream *stream) {
    if (stream) {
        if (stream->is_done && !stream->is_broken && !stream->is_mute)
            (void)SSL_shutdown(stream->ssl);
        ERR_clear_error();
        SSL_free(stream->ssl);
        free(stream->host);
        free(stream);
    }
    return NULL;
}

/* What a call that returned r <= 0 came to: -EAGAIN, 0 for the end of the stream, or failure. */
static int outcome(ctls_stream *stream, int r, bool is_writing) {
    int system = errno;
    int error = SSL_get_error(stream->ssl, r);
    bool is_new = !stream->has_heard;

    switch (error) {
    case SSL_ERROR_WANT_READ:
        if (is_writing)
            stream->writing_wants_read = true;
        return -EAGAIN;
    case SSL_ERROR_WANT_WRITE:
        if (!is_writing)
            stream->reading_wants_write = true;
        return -EAGAIN;
    case SSL_ERROR_ZERO_RETURN:
        return 0;
    default:
        break;
    }
    if (is_writing && error == SSL_ERROR_SYSCALL) {
        stream->is_mute = true;
        ERR_clear_error();
        return system ? -system : -EPIPE;
    }
    stream->is_broken = true;
    if (error == SSL_ERROR_SYSCALL && system != 0) {
        ERR_clear_error();
        return -system;
    }
    if (stream->is_done &&
        (error == SSL_ERROR_SYSCALL || ERR_GET_REASON(ERR_peek_error()) ==
                                           SSL_R_UNEXPECTED_EOF_WHILE_READING)) {
        /* Without goodbye, as when a server is killed. Redis frames its replies itself, so one that
         * was cut off does not pass for whole. */
        ERR_clear_error();
        return 0;
    }
    /* With TLS 1.3 the server judges our certificate after our handshake is done. */
    if (is_new)
        text_of_handshake(stream->ssl, stream->host, stream->names, stream->text,
                          sizeof stream->text);
    else
        text_of_error(stream->text, sizeof stream->text, "the connection broke");
    return -EPROTO;
}

int ctls_stream_handshake(ctls_stream *stream) {
    int r;

    if (stream->is_done)
        return 0;
    if (stream->is_broken)
        return -EPIPE;
    stream->reading_wants_write = false;
    ERR_clear_error();
    errno = 0;
    r = SSL_do_handshake(stream->ssl);
    if (r == 1) {
        stream->is_done = true;
        return 0;
    }
    r = outcome(stream, r, false);
    if (r != 0)
        return r;
    stream->is_broken = true;
    (void)snprintf(stream->text, sizeof stream->text,
                   "the server closed the connection in the handshake: is this the TLS port?");
    return -EPROTO;
}

ssize_t ctls_stream_send(ctls_stream *stream, const void *bytes, size_t n) {
    size_t sent = 0;
    int r;

    if (stream->is_broken || stream->is_mute)
        return -EPIPE;
    stream->writing_wants_read = false;
    ERR_clear_error();
    errno = 0;
    if (SSL_write_ex(stream->ssl, bytes, n, &sent) == 1)
        return (ssize_t)sent;
    r = outcome(stream, 0, true);
    return r == 0 ? -EPIPE : r;
}

ssize_t ctls_stream_receive(ctls_stream *stream, void *ret_bytes, size_t n) {
    size_t received = 0;

    if (stream->is_broken)
        return -EPIPE;
    stream->reading_wants_write = false;
    ERR_clear_error();
    errno = 0;
    if (SSL_read_ex(stream->ssl, ret_bytes, n, &received) == 1) {
        stream->has_heard = true;
        return (ssize_t)received;
    }
    return outcome(stream, 0, false);
}

bool ctls_stream_has_input(const ctls_stream *stream) {
    return !stream->is_broken && SSL_pending(stream->ssl) > 0;
}

uint32_t ctls_stream_interest(const ctls_stream *stream, bool has_output) {
    bool writes = stream->reading_wants_write || (has_output && !stream->writing_wants_read);

    return CTLS_READABLE | (writes ? CTLS_WRITABLE : 0);
}

const char *ctls_stream_text(const ctls_stream *stream) {
    return stream->text;
}

const char *ctls_stream_version(const ctls_stream *stream) {
    return SSL_get_version(stream->ssl);
}
