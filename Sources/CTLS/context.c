/* What is trusted, and who we are. */
#include "internal.h"

#include <errno.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>

/* Says which file and why. */
static int complain(char *text, const char *what, const char *path, const char *advice) {
    char why[128];

    text_of_error(why, sizeof why, "nothing usable in it");
    (void)snprintf(text, CTLS_TEXT_MAX, "%s %s cannot be used: %s; %s", what, path, why, advice);
    return -EPROTO;
}

/* Asks nobody for the passphrase of a key: a daemon has no terminal. */
static int no_passphrase(char *text, int n, int writing, void *context) {
    (void)text;
    (void)n;
    (void)writing;
    (void)context;
    return -1;
}

static int trust(SSL_CTX *ssl, const char *path, char *text) {
    if (!path)
        return SSL_CTX_set_default_verify_paths(ssl) ? 0 : -ENOMEM;
    if (SSL_CTX_load_verify_file(ssl, path) != 1)
        return complain(text, "the CA file", path, "it must hold certificates in PEM form");
    return 0;
}

static int identify(SSL_CTX *ssl, const ctls_files *files, char *text) {
    const char *key = files->key ? files->key : files->certificate;

    if (!files->certificate)
        return 0;
    if (SSL_CTX_use_certificate_chain_file(ssl, files->certificate) != 1)
        return complain(text, "the certificate file", files->certificate,
                        "it must hold our certificate in PEM form");
    SSL_CTX_set_default_passwd_cb(ssl, no_passphrase);
    if (SSL_CTX_use_PrivateKey_file(ssl, key, SSL_FILETYPE_PEM) != 1)
        return complain(text, "the key file", key,
                        "it must hold the certificate's private key in PEM form, not encrypted");
    if (SSL_CTX_check_private_key(ssl) != 1)
        return complain(text, "the key file", key, "it must belong to the certificate");
    return 0;
}

static SSL_CTX *context_make(void) {
    SSL_CTX *ssl = SSL_CTX_new(TLS_client_method());

    if (!ssl)
        return NULL;
    if (!SSL_CTX_set_min_proto_version(ssl, TLS1_2_VERSION)) {
        SSL_CTX_free(ssl);
        return NULL;
    }
    (void)SSL_CTX_set_options(ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    /* Output grows and moves between the tries to send it. Idle links hold no buffers. */
    (void)SSL_CTX_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_RELEASE_BUFFERS |
                                    SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER, note_verification);
    (void)SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
    return ssl;
}

int ctls_context_new(const ctls_files *files, ctls_context **ret, char *text) {
    ctls_context *context;
    int r;

    text[0] = '\0';
    /* Without a handler at exit(), which would clean up beneath threads that still use it. Counts
     * only if nothing used OpenSSL before. */
    if (!OPENSSL_init_ssl(OPENSSL_INIT_NO_ATEXIT | OPENSSL_INIT_LOAD_SSL_STRINGS, NULL))
        return -ENOMEM;
    ERR_clear_error();
    context = calloc(1, sizeof *context);
    if (!context)
        return -ENOMEM;
    context->ssl = context_make();
    context->method = wire_method_new();
    r = context->ssl && context->method ? 0 : -ENOMEM;
    if (r == 0)
        r = trust(context->ssl, files->ca, text);
    if (r == 0)
        r = identify(context->ssl, files, text);
    if (r < 0) {
        ERR_clear_error();
        ctls_context_free(context);
        return r;
    }
    *ret = context;
    return 0;
}

ctls_context *ctls_context_free(ctls_context *context) {
    if (context) {
        SSL_CTX_free(context->ssl);
        BIO_meth_free(context->method);
        free(context);
    }
    return NULL;
}
