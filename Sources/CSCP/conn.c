#include "conn.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(sizeof(cscp_conn) <= 512, "an idle connection stays small");
_Static_assert(offsetof(cscp_conn, session) == CSCP_CACHE_LINE, "the hot lines are the first");

int cscp_table_init(cscp_table *table, uint32_t slots_max) {
    uint32_t n_chunks_max = (slots_max + CSCP_CHUNK - 1) / CSCP_CHUNK;

    *table = (cscp_table){.n_chunks_max = n_chunks_max};
    table->chunks = calloc(n_chunks_max, sizeof(*table->chunks));
    return table->chunks ? 0 : -ENOMEM;
}

void cscp_table_done(cscp_table *table) {
    for (uint32_t i = 0; i < table->n_chunks; i++)
        free(atomic_load_explicit(&table->chunks[i], memory_order_relaxed));
    free(table->chunks);
    free(table->free);
    *table = (cscp_table){0};
}

static int grow(cscp_table *table) {
    uint32_t first = cscp_table_n_slots(table);
    cscp_conn *chunk;

    if (table->n_chunks == table->n_chunks_max)
        return -ENOBUFS;
    if (table->n_free_max < first + CSCP_CHUNK) {
        uint32_t n = (first + CSCP_CHUNK) * 2;
        uint32_t *larger = realloc(table->free, n * sizeof(*larger));

        if (!larger)
            return -ENOMEM;
        table->free = larger;
        table->n_free_max = n;
    }
    chunk = aligned_alloc(CSCP_CACHE_LINE, CSCP_CHUNK * sizeof(*chunk));
    if (!chunk)
        return -ENOMEM;
    memset(chunk, 0, CSCP_CHUNK * sizeof(*chunk));
    for (uint32_t i = 0; i < CSCP_CHUNK; i++) {
        chunk[i].slot = first + i;
        chunk[i].generation = 1;
        chunk[i].fd = -1;
        chunk[i].session.state = CSCP_CLOSED;
        cscp_timer_init(&chunk[i].timer);
        cscp_list_init(&chunk[i].ready);
        cscp_list_init(&chunk[i].out);
        cscp_list_init(&chunk[i].owed.link);
        table->free[table->n_free + i] = first + CSCP_CHUNK - 1 - i; /* the lowest is taken first */
    }
    table->n_free += CSCP_CHUNK;
    atomic_store_explicit(&table->chunks[table->n_chunks], chunk, memory_order_release);
    table->n_chunks++;
    return 0;
}

cscp_conn *cscp_table_slot(const cscp_table *table, uint32_t slot) {
    cscp_conn *chunk;

    if (slot / CSCP_CHUNK >= table->n_chunks_max)
        return NULL;
    chunk = atomic_load_explicit(&table->chunks[slot / CSCP_CHUNK], memory_order_acquire);
    return chunk ? &chunk[slot % CSCP_CHUNK] : NULL;
}

cscp_conn *cscp_table_take(cscp_table *table) {
    if (table->n_free == 0 && grow(table) < 0)
        return NULL;
    return cscp_table_slot(table, table->free[--table->n_free]);
}

void cscp_conn_next_generation(cscp_conn *conn) {
    if (++conn->generation == 0)
        conn->generation = 1;
}

void cscp_table_give_back(cscp_table *table, cscp_conn *conn) {
    uint32_t slot = conn->slot, generation = conn->generation;

    /* Not as a whole: other threads look at `handle`, which is 0 by now, at any time. */
    memset(&conn->session, 0, sizeof(conn->session));
    conn->session.state = CSCP_CLOSED;
    conn->fd = -1;
    conn->hup = conn->blocked = conn->watches_out = conn->lingering = conn->claimed = false;
    conn->outside = conn->connected = conn->greeted = conn->departed = false;
    conn->summoned = conn->rest_fenced = conn->counted = conn->fresh = false;
    conn->relayed = conn->rest_passed = false;
    free(conn->tls_name);
    conn->tls_name = NULL;
    conn->owed_reason = 0;
    conn->owed_handle = 0;
    conn->heir = NULL;
    conn->summons = (cscp_summons){0};
    conn->ranges_version = 0;
    conn->behind_told = 0;
    conn->progress_ms = 0;
    conn->n_preface = 0;
    conn->row = NULL;
    conn->slot = slot;
    conn->generation = generation;
    cscp_conn_next_generation(conn);
    table->free[table->n_free++] = slot;
}

uint64_t cscp_conn_handle(const cscp_conn *conn, uint32_t thread) {
    return (uint64_t)thread << 56 | (uint64_t)conn->slot << 32 | conn->generation;
}

void cscp_conn_set_peer(cscp_conn *conn, const struct sockaddr_storage *address) {
    if (address->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)address;

        conn->peer = in6->sin6_addr;
        conn->peer_port = ntohs(in6->sin6_port);
    } else {
        const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)address;

        conn->peer = (struct in6_addr){.s6_addr = {[10] = 0xff, [11] = 0xff}};
        memcpy(&conn->peer.s6_addr[12], &in->sin_addr, sizeof(in->sin_addr));
        conn->peer_port = ntohs(in->sin_port);
    }
}

size_t cscp_conn_peer_text(const cscp_conn *conn, char text[CSCP_PEER_TEXT]) {
    char address[INET6_ADDRSTRLEN];
    int n;

    if (IN6_IS_ADDR_V4MAPPED(&conn->peer)) {
        inet_ntop(AF_INET, &conn->peer.s6_addr[12], address, sizeof(address));
        n = snprintf(text, CSCP_PEER_TEXT, "%s:%u", address, conn->peer_port);
    } else {
        inet_ntop(AF_INET6, &conn->peer, address, sizeof(address));
        n = snprintf(text, CSCP_PEER_TEXT, "[%s]:%u", address, conn->peer_port);
    }
    return n > 0 ? (size_t)n : 0;
}
