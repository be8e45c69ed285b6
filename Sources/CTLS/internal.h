/* What the files of CTLS share. */
#ifndef CTLS_INTERNAL_H
#define CTLS_INTERNAL_H

#include "CTLS.h"

#include <openssl/ssl.h>

struct ctls_context {
    SSL_CTX *ssl;
    BIO_METHOD *method; /* see wire.c */
};

/* How a socket looks to OpenSSL. NULL for want of memory. */
BIO_METHOD *wire_method_new(void);
/* The socket as OpenSSL's input and output. Closes nothing. */
BIO *wire_new(const BIO_METHOD *method, int fd);

/* What the oldest error OpenSSL holds means, cut to n bytes; forgets all of them. `otherwise` if
 * there is none. */
void text_of_error(char *ret_text, size_t n, const char *otherwise);
/* The same for a handshake, or for what comes right after it, with what can be done about it:
 * `host` is the one that was asked for, `names` are those of the server's certificate. */
void text_of_handshake(const SSL *ssl, const char *host, const char *names, char *ret_text,
                       size_t n);
/* The names a certificate is for, as "a, b", cut to n bytes. */
void text_of_names(const X509 *certificate, char *ret_text, size_t n);
/* For SSL_CTX_set_verify(): leaves the judgement as it is. */
int note_verification(int is_good, X509_STORE_CTX *store);

#endif
