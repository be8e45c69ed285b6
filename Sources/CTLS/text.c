/* OpenSSL's errors in words that say what to do. */
#include "internal.h"

#include <openssl/err.h>
#include <openssl/sslerr.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

void text_of_error(char *ret_text, size_t n, const char *otherwise) {
    unsigned long code = ERR_get_error();
    const char *reason = NULL;

    if (ERR_SYSTEM_ERROR(code))
        reason = strerrordesc_np(ERR_GET_REASON(code));
    else if (code)
        reason = ERR_reason_error_string(code);
    ERR_clear_error();
    (void)snprintf(ret_text, n, "%s", reason ? reason : otherwise);
}

void text_of_names(const X509 *certificate, char *ret_text, size_t n) {
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    size_t at = 0;

    ret_text[0] = '\0';
    for (int i = 0; i < sk_GENERAL_NAME_num(names) && at + 1 < n; i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        const char *comma = at ? ", " : "";
        int r = 0;

        if (name->type == GEN_DNS) {
            r = snprintf(ret_text + at, n - at, "%s%.*s", comma,
                         ASN1_STRING_length(name->d.dNSName),
                         (const char *)ASN1_STRING_get0_data(name->d.dNSName));
        } else if (name->type == GEN_IPADD && ASN1_STRING_length(name->d.iPAddress) == 4) {
            const unsigned char *ip = ASN1_STRING_get0_data(name->d.iPAddress);

            r = snprintf(ret_text + at, n - at, "%s%d.%d.%d.%d", comma, ip[0], ip[1], ip[2], ip[3]);
        }
        if (r > 0)
            at += (size_t)r;
    }
    GENERAL_NAMES_free(names);
    /* What a peer says goes to logs. */
    for (char *c = ret_text; *c; c++) {
        if (*c < ' ' || *c > '~')
            *c = '?';
    }
}

static void text_of_verification(long result, const char *host, const char *names,
                                 char *ret_text, size_t n) {
    switch (result) {
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
        (void)snprintf(ret_text, n,
                       "the server's certificate is not for %s (it is for %s): name the server as "
                       "its certificate does, or give it one that has this name",
                       host, names[0] ? names : "no name at all");
        return;
    case X509_V_ERR_CERT_HAS_EXPIRED:
    case X509_V_ERR_CERT_NOT_YET_VALID:
        (void)snprintf(ret_text, n,
                       "the server's certificate is not valid now (%s): renew it, or look at the "
                       "clocks of both machines",
                       X509_verify_cert_error_string(result));
        return;
    default:
        (void)snprintf(ret_text, n,
                       "the server's certificate is not trusted (%s): give the file of the CA that "
                       "signed it",
                       X509_verify_cert_error_string(result));
    }
}

/* What the peer's alerts, and what is no TLS at all, mean here; NULL: nothing in particular. */
static const char *advice_for(int reason) {
    switch (reason) {
    case SSL_R_WRONG_VERSION_NUMBER:
    case SSL_R_PACKET_LENGTH_TOO_LONG:
    case SSL_R_HTTP_REQUEST:
    case SSL_R_UNEXPECTED_MESSAGE:
        return "what answers there does not speak TLS: is this the TLS port?";
    case SSL_R_UNEXPECTED_EOF_WHILE_READING:
        return "the server closed the connection in the handshake: is this its TLS port?";
    case SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED:
    case SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE:
        return "the server refused us: does it want a client certificate? give certificate and key";
    case SSL_R_TLSV1_ALERT_UNKNOWN_CA:
    case SSL_R_SSLV3_ALERT_BAD_CERTIFICATE:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN:
    case SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE:
        return "the server does not accept our certificate: it must be signed by a CA it trusts";
    case SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED:
        return "our certificate has expired or was revoked: renew it";
    case SSL_R_TLSV1_ALERT_PROTOCOL_VERSION:
    case SSL_R_UNSUPPORTED_PROTOCOL:
        return "the server speaks no TLS 1.2 or later: allow it there";
    default:
        return NULL;
    }
}

void text_of_handshake(const SSL *ssl, const char *host, const char *names, char *ret_text,
                       size_t n) {
    unsigned long code = ERR_peek_error();
    int reason = ERR_GET_REASON(code);
    long result = SSL_get_verify_result(ssl);
    const char *advice;

    if (ERR_GET_LIB(code) == ERR_LIB_SSL && reason == SSL_R_CERTIFICATE_VERIFY_FAILED &&
        result != X509_V_OK) {
        ERR_clear_error();
        return text_of_verification(result, host, names, ret_text, n);
    }
    advice = ERR_GET_LIB(code) == ERR_LIB_SSL ? advice_for(reason) : NULL;
    text_of_error(ret_text, n, "the connection broke");
    if (advice) {
        size_t length = strlen(ret_text);

        (void)snprintf(ret_text + length, n - length, " (%s)", advice);
    }
}
