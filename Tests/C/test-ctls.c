/* CTLS against OpenSSL's own server, over a socketpair, both driven by this thread: a call that
 * blocked would be the end of the test. */
#include "CTLS.h"
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>
#include <unistd.h>

typedef struct identity {
    X509 *certificate;
    EVP_PKEY *key;
} identity;

static void extend(X509 *certificate, X509 *issuer, int nid, const char *value) {
    X509_EXTENSION *extension;
    X509V3_CTX context;

    X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
    extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    CHECK(extension);
    CHECK(X509_add_ext(certificate, extension, -1));
    X509_EXTENSION_free(extension);
}

/* Signed by `issuer`; NULL: a CA. Valid for days from now; before now if negative. */
static identity identity_new(const char *name, const char *names, const identity *issuer,
                             long days) {
    identity made = {X509_new(), EVP_EC_gen("P-256")};
    X509 *by = issuer ? issuer->certificate : made.certificate;
    X509_NAME *subject;
    static long serial = 1;

    CHECK(made.certificate && made.key);
    CHECK(X509_set_version(made.certificate, 2));
    CHECK(ASN1_INTEGER_set(X509_get_serialNumber(made.certificate), serial++));
    CHECK(X509_gmtime_adj(X509_getm_notBefore(made.certificate), -86400L * 30));
    CHECK(X509_gmtime_adj(X509_getm_notAfter(made.certificate), 86400L * days));
    CHECK(X509_set_pubkey(made.certificate, made.key));
    subject = X509_get_subject_name(made.certificate);
    CHECK(X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name, -1,
                                     -1, 0));
    CHECK(X509_set_issuer_name(made.certificate, X509_get_subject_name(by)));
    if (!issuer)
        extend(made.certificate, by, NID_basic_constraints, "critical,CA:TRUE");
    if (names)
        extend(made.certificate, by, NID_subject_alt_name, names);
    CHECK(X509_sign(made.certificate, issuer ? issuer->key : made.key, EVP_sha256()));
    return made;
}

static void identity_free(identity *old) {
    X509_free(old->certificate);
    EVP_PKEY_free(old->key);
}

/* A file with certificate, key, or both. */
static void write_pem(char *path, X509 *certificate, EVP_PKEY *key) {
    FILE *file;
    int fd;

    strcpy(path, "/tmp/test-ctls-XXXXXX");
    fd = mkstemp(path);
    CHECK(fd >= 0);
    file = fdopen(fd, "w");
    CHECK(file);
    if (certificate)
        CHECK(PEM_write_X509(file, certificate));
    if (key)
        CHECK(PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL));
    CHECK_EQ(fclose(file), 0);
}

#define PATH 32

/* A CA, a server of its and a client of its, for all tests. */
static identity ca, other_ca, server_identity, client_identity;
static char ca_path[PATH], client_path[PATH], key_path[PATH],
    certificate_path[PATH];

typedef struct rig {
    ctls_context *context;
    ctls_stream *stream;
    SSL_CTX *server_context;
    SSL *server;
    int fds[2];
} rig;

static void rig_open(rig *rig, const ctls_files *files, const char *host, const identity *server,
                     bool wants_client, int version_max) {
    char text[CTLS_TEXT_MAX];

    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, rig->fds), 0);
    CHECK_EQ(ctls_context_new(files, &rig->context, text), 0);
    CHECK_EQ(ctls_stream_new(rig->context, rig->fds[0], host, &rig->stream), 0);
    rig->server_context = SSL_CTX_new(TLS_server_method());
    CHECK(rig->server_context);
    CHECK(SSL_CTX_use_certificate(rig->server_context, server->certificate));
    CHECK(SSL_CTX_use_PrivateKey(rig->server_context, server->key));
    CHECK(SSL_CTX_set_max_proto_version(rig->server_context, version_max));
    if (version_max && version_max < TLS1_2_VERSION) {
        SSL_CTX_set_security_level(rig->server_context, 0);
        CHECK(SSL_CTX_set_min_proto_version(rig->server_context, TLS1_VERSION));
    }
    if (wants_client) {
        CHECK(X509_STORE_add_cert(SSL_CTX_get_cert_store(rig->server_context), ca.certificate));
        SSL_CTX_set_verify(rig->server_context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
                           NULL);
    }
    rig->server = SSL_new(rig->server_context);
    CHECK(rig->server);
    CHECK(SSL_set_fd(rig->server, rig->fds[1]));
    SSL_set_accept_state(rig->server);
}

static void rig_close(rig *rig) {
    rig->stream = ctls_stream_free(rig->stream);
    rig->context = ctls_context_free(rig->context);
    SSL_free(rig->server);
    SSL_CTX_free(rig->server_context);
    close(rig->fds[0]);
    if (rig->fds[1] >= 0)
        close(rig->fds[1]);
}

/* Turn and turn about, until the client is done or has failed. */
static int shake(rig *rig) {
    int r = -EAGAIN;

    for (int turn = 0; turn < 100 && r == -EAGAIN; turn++) {
        r = ctls_stream_handshake(rig->stream);
        (void)SSL_do_handshake(rig->server);
    }
    return r;
}

static void expect_failure(rig *rig, const char *word) {
    CHECK_EQ(shake(rig), -EPROTO);
    if (!strstr(ctls_stream_text(rig->stream), word)) {
        fprintf(stderr, "\"%s\" is not in: %s\n", word, ctls_stream_text(rig->stream));
        exit(1);
    }
    CHECK_EQ(ctls_stream_handshake(rig->stream), -EPIPE);
    rig_close(rig);
}

static const ctls_files trusting = {.ca = ca_path};

static void test_bytes_pass_both_ways(void) {
    char buffer[64];
    rig rig;

    rig_open(&rig, &trusting, "localhost", &server_identity, false, 0);
    CHECK_EQ(shake(&rig), 0);
    CHECK_EQ(ctls_stream_handshake(rig.stream), 0);
    CHECK(strcmp(ctls_stream_version(rig.stream), "TLSv1.3") == 0);
    CHECK(strcmp(SSL_get_servername(rig.server, TLSEXT_NAMETYPE_host_name), "localhost") == 0);
    CHECK_EQ(ctls_stream_receive(rig.stream, buffer, sizeof buffer), -EAGAIN);
    CHECK_EQ(ctls_stream_interest(rig.stream, false), CTLS_READABLE);
    CHECK_EQ(ctls_stream_send(rig.stream, "PING", 4), 4);
    CHECK_EQ(SSL_read(rig.server, buffer, sizeof buffer), 4);
    CHECK_EQ(SSL_write(rig.server, "PONG", 4), 4);
    CHECK_EQ(ctls_stream_receive(rig.stream, buffer, 3), 3);
    CHECK(ctls_stream_has_input(rig.stream));
    CHECK_EQ(ctls_stream_receive(rig.stream, buffer, 3), 1);
    CHECK(!ctls_stream_has_input(rig.stream));
    CHECK_EQ(SSL_shutdown(rig.server), 0);
    CHECK_EQ(ctls_stream_receive(rig.stream, buffer, sizeof buffer), 0);
    rig_close(&rig);
}

/* A megabyte against a socket that is soon full, offered again with more behind it and from
 * elsewhere, arrives whole and in order. */
static void test_full_socket(void) {
    enum { BYTES = 1 << 20 };
    unsigned char *sent = malloc(BYTES), *moved = malloc(BYTES), *got = malloc(BYTES);
    size_t n_sent = 0, n_got = 0;
    bool was_full = false;
    rig rig;

    CHECK(sent && moved && got);
    for (size_t i = 0; i < BYTES; i++)
        sent[i] = (unsigned char)(i * 31 + i / 256);
    rig_open(&rig, &trusting, "127.0.0.1", &server_identity, false, 0);
    CHECK_EQ(shake(&rig), 0);
    CHECK(SSL_get_servername(rig.server, TLSEXT_NAMETYPE_host_name) == NULL);
    while (n_got < BYTES) {
        size_t n = n_sent + 200000 < BYTES ? 200000 : BYTES - n_sent;
        ssize_t r = -EAGAIN;

        if (n > 0) {
            memcpy(moved, sent + n_sent, n);
            r = ctls_stream_send(rig.stream, moved, n);
        }
        if (r > 0) {
            n_sent += (size_t)r;
            continue;
        }
        CHECK_EQ(r, -EAGAIN);
        if (n > 0) {
            was_full = true;
            CHECK_EQ(ctls_stream_interest(rig.stream, true), CTLS_READABLE | CTLS_WRITABLE);
        }
        for (int piece;
             (piece = SSL_read(rig.server, got + n_got, (int)(BYTES - n_got))) > 0;)
            n_got += (size_t)piece;
    }
    CHECK(was_full);
    CHECK(memcmp(sent, got, BYTES) == 0);
    free(sent);
    free(moved);
    free(got);
    rig_close(&rig);
}

static void test_whom_to_trust(void) {
    identity stranger = identity_new("s", "DNS:localhost", &other_ca, 30);
    identity old = identity_new("s", "DNS:localhost", &ca, -1);
    identity nameless = identity_new("localhost", NULL, &ca, 30);
    ctls_files system = {0};
    rig rig;

    rig_open(&rig, &trusting, "localhost", &stranger, false, 0);
    expect_failure(&rig, "not trusted");
    rig_open(&rig, &system, "localhost", &server_identity, false, 0);
    expect_failure(&rig, "not trusted");
    rig_open(&rig, &trusting, "localhost", &old, false, TLS1_2_VERSION);
    expect_failure(&rig, "expired");
    rig_open(&rig, &trusting, "redis.example", &server_identity, false, 0);
    expect_failure(&rig, "not for redis.example (it is for localhost, 127.0.0.1)");
    rig_open(&rig, &trusting, "127.0.0.2", &server_identity, false, 0);
    expect_failure(&rig, "not for 127.0.0.2");
    /* Its subject's common name has this name, which counts where there is no other. */
    rig_open(&rig, &trusting, "localhost", &nameless, false, 0);
    CHECK_EQ(shake(&rig), 0);
    rig_close(&rig);
    rig_open(&rig, &trusting, "other", &nameless, false, 0);
    expect_failure(&rig, "no name at all");
    identity_free(&stranger);
    identity_free(&old);
    identity_free(&nameless);
}

static void test_old_protocol(void) {
    rig rig;

    rig_open(&rig, &trusting, "localhost", &server_identity, false, TLS1_1_VERSION);
    expect_failure(&rig, "TLS 1.2");
}

static void test_client_certificate(void) {
    ctls_files both = {ca_path, client_path, NULL};
    ctls_files apart = {ca_path, certificate_path, key_path};
    char buffer[8];
    rig rig;

    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        rig_open(&rig, &both, "localhost", &server_identity, true, version);
        CHECK_EQ(shake(&rig), 0);
        CHECK(SSL_get0_peer_certificate(rig.server) != NULL);
        rig_close(&rig);
    }
    rig_open(&rig, &apart, "localhost", &server_identity, true, 0);
    CHECK_EQ(shake(&rig), 0);
    rig_close(&rig);
    rig_open(&rig, &trusting, "localhost", &server_identity, true, TLS1_2_VERSION);
    expect_failure(&rig, "client certificate");
    /* TLS 1.3: the handshake is done by the time the server looks. */
    rig_open(&rig, &trusting, "localhost", &server_identity, true, TLS1_3_VERSION);
    CHECK_EQ(shake(&rig), 0);
    (void)SSL_do_handshake(rig.server);
    CHECK_EQ(ctls_stream_receive(rig.stream, buffer, sizeof buffer), -EPROTO);
    CHECK(strstr(ctls_stream_text(rig.stream), "client certificate"));
    rig_close(&rig);
}

static void test_no_tls_there(void) {
    char buffer[1024];
    rig rig;

    rig_open(&rig, &trusting, "localhost", &server_identity, false, 0);
    CHECK_EQ(ctls_stream_handshake(rig.stream), -EAGAIN);
    CHECK(recv(rig.fds[1], buffer, sizeof buffer, 0) > 0);
    CHECK_EQ(send(rig.fds[1], "-ERR unknown command\r\n", 22, 0), 22);
    CHECK_EQ(ctls_stream_handshake(rig.stream), -EPROTO);
    CHECK(strstr(ctls_stream_text(rig.stream), "does not speak TLS"));
    rig_close(&rig);
}

/* SIGPIPE has its default here, which would end this program. */
static void test_peer_that_goes(void) {
    char buffer[8];
    rig rig;

    rig_open(&rig, &trusting, "localhost", &server_identity, false, 0);
    CHECK_EQ(ctls_stream_handshake(rig.stream), -EAGAIN);
    close(rig.fds[1]);
    rig.fds[1] = -1;
    CHECK_EQ(ctls_stream_handshake(rig.stream), -ECONNRESET);
    rig_close(&rig);

    rig_open(&rig, &trusting, "localhost", &server_identity, false, 0);
    CHECK_EQ(shake(&rig), 0);
    close(rig.fds[1]);
    rig.fds[1] = -1;
    CHECK_EQ(ctls_stream_send(rig.stream, "x", 1), -EPIPE);
    CHECK_EQ(ctls_stream_send(rig.stream, "x", 1), -EPIPE);
    CHECK_EQ(ctls_stream_receive(rig.stream, buffer, sizeof buffer), 0);
    rig_close(&rig);
}

static void refuse(const ctls_files *files, const char *word) {
    char text[CTLS_TEXT_MAX];
    ctls_context *context = NULL;

    CHECK_EQ(ctls_context_new(files, &context, text), -EPROTO);
    CHECK(context == NULL);
    if (!strstr(text, word)) {
        fprintf(stderr, "\"%s\" is not in: %s\n", word, text);
        exit(1);
    }
}

static void test_files(void) {
    ctls_files missing = {.ca = "/nonexistent/ca.pem"}, no_ca = {.ca = key_path};
    ctls_files no_certificate = {ca_path, key_path, NULL};
    ctls_files no_key = {ca_path, certificate_path, NULL};
    ctls_files wrong_key = {ca_path, ca_path, key_path};

    refuse(&missing, "/nonexistent/ca.pem");
    refuse(&missing, "No such file");
    refuse(&no_ca, "the CA file");
    refuse(&no_certificate, "the certificate file");
    refuse(&no_key, "the key file");
    refuse(&wrong_key, "the key file");
    CHECK(ctls_context_free(NULL) == NULL);
    CHECK(ctls_stream_free(NULL) == NULL);
}

int main(void) {
    ca = identity_new("test CA", NULL, NULL, 30);
    other_ca = identity_new("other CA", NULL, NULL, 30);
    server_identity = identity_new("s", "DNS:localhost,IP:127.0.0.1", &ca, 30);
    client_identity = identity_new("client", NULL, &ca, 30);
    write_pem(ca_path, ca.certificate, NULL);
    write_pem(client_path, client_identity.certificate, client_identity.key);
    write_pem(certificate_path, client_identity.certificate, NULL);
    write_pem(key_path, NULL, client_identity.key);

    RUN(test_bytes_pass_both_ways);
    RUN(test_full_socket);
    RUN(test_whom_to_trust);
    RUN(test_old_protocol);
    RUN(test_client_certificate);
    RUN(test_no_tls_there);
    RUN(test_peer_that_goes);
    RUN(test_files);

    unlink(ca_path);
    unlink(client_path);
    unlink(certificate_path);
    unlink(key_path);
    identity_free(&ca);
    identity_free(&other_ca);
    identity_free(&server_identity);
    identity_free(&client_identity);
    return 0;
}
