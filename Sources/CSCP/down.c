/* Downwards: acknowledgements, commands, farewells, and questions. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "include/cscp.h"
#include "thread.h"

int cscp_event_ack(cscp *self, const cscp_ack *acks, size_t n) {
    uint64_t concerned = 0;
    int r = 0;

    for (size_t i = 0; i < n; i++) {
        uint32_t thread = cscp_handle_thread(acks[i].connection);

        if (thread < self->n_threads)
            concerned |= UINT64_C(1) << thread;
    }
    for (; concerned != 0; concerned &= concerned - 1) {
        uint32_t thread = (uint32_t)__builtin_ctzll(concerned);
        int error = cscp_mailbox_ack(&self->threads[thread]->box, thread, acks, n);

        if (r == 0)
            r = error;
    }
    return r;
}

int cscp_config_command(cscp *self, const cscp_command *command) {
    cscp_pending *pending;
    int r = cscp_pending_new(command, &pending);

    if (r < 0)
        return r;
    pending->handle = cscp_directory_reserve(self->directory, command->serial, command->n_body,
                                             self->config.commands_max,
                                             self->config.send_queue_max, &r);
    if (pending->handle == 0) {
        free(pending);
        return r;
    }
    cscp_mailbox_command(&self->threads[cscp_handle_thread(pending->handle)]->box, pending);
    return 0;
}

int cscp_disconnect(cscp *self, uint64_t connection, cscp_reason reason, uint32_t spread_ms) {
    cscp_farewell farewell = {
        .connection = connection,
        .reason = reason,
        .spread_ms = spread_ms,
    };
    cscp_thread *t;
    cscp_conn *c;
    int r;

    if (reason == CSCP_REASON_NONE || reason > CSCP_REASON_MAX)
        return -EINVAL;
    if (connection == 0 || cscp_handle_thread(connection) >= self->n_threads)
        return -ENOTCONN;
    t = self->threads[cscp_handle_thread(connection)];
    c = cscp_table_slot(&t->table, cscp_handle_slot(connection));
    if (!c || atomic_load_explicit(&c->handle, memory_order_acquire) != connection)
        return -ENOTCONN;
    if (atomic_exchange_explicit(&c->farewell, connection, memory_order_relaxed) == connection)
        return 0; /* asked for already */
    r = cscp_mailbox_farewell(&t->box, &farewell);
    if (r < 0)
        atomic_store_explicit(&c->farewell, 0, memory_order_relaxed);
    return r;
}

static void deadline_in(struct timespec *ts, int timeout_ms) {
    clock_gettime(CLOCK_MONOTONIC, ts);
    ts->tv_sec += timeout_ms / 1000;
    ts->tv_nsec += (long)(timeout_ms % 1000) * 1000000;
    if (ts->tv_nsec >= 1000000000) {
        ts->tv_sec++;
        ts->tv_nsec -= 1000000000;
    }
}

/* Asks one thread about its share of the items. */
static int ask(cscp_thread *t, const cscp_directory_item *items, size_t n, bool of_relays,
               cscp_inquiry **ret) {
    cscp_inquiry *inquiry;
    size_t n_mine = 0;
    int r;

    for (size_t i = 0; i < n; i++)
        n_mine += cscp_handle_thread(items[i].handle) == t->index;
    r = cscp_inquiry_new(n_mine, of_relays, &inquiry);
    if (r < 0)
        return r;
    n_mine = 0;
    for (size_t i = 0; i < n; i++)
        if (cscp_handle_thread(items[i].handle) == t->index)
            inquiry->handles[n_mine++] = items[i].handle;
    atomic_fetch_add_explicit(&inquiry->n_refs, 1, memory_order_relaxed);
    cscp_mailbox_inquiry(&t->box, inquiry);
    *ret = inquiry;
    return 0;
}

static int hear(cscp_inquiry *inquiry, const struct timespec *deadline) {
    int r = 0;

    pthread_mutex_lock(&inquiry->lock);
    while (!inquiry->done && r == 0)
        r = pthread_cond_clockwait(&inquiry->answered, &inquiry->lock, CLOCK_MONOTONIC,
                                   deadline);
    r = inquiry->done ? 0 : -ETIMEDOUT;
    pthread_mutex_unlock(&inquiry->lock);
    return r;
}

/* Where a list is put together: one or the other. */
typedef struct list {
    cscp_session_info *sessions;
    cscp_relay_info *relays;
} list;

/* Merges the answers: each is in the order of the items. */
static int merge(cscp_inquiry *const *inquiries, const cscp_directory_item *items, size_t n,
                 const list *ret) {
    size_t places[64] = {0};
    size_t n_infos = 0;

    for (size_t i = 0; i < n; i++) {
        uint32_t thread = cscp_handle_thread(items[i].handle);
        size_t place = places[thread]++;

        if (!inquiries[thread]->found[place])
            continue;
        if (ret->relays)
            ret->relays[n_infos++] = inquiries[thread]->relays[place];
        else
            ret->sessions[n_infos++] = inquiries[thread]->infos[place];
    }
    return (int)n_infos;
}

static int make_list(cscp *self, uint64_t from, const list *ret, size_t n, int timeout_ms) {
    cscp_inquiry *inquiries[64] = {0};
    cscp_directory_item *items;
    struct timespec deadline;
    int n_items, r = 0;

    if (n > INT32_MAX / sizeof(*items))
        return -EINVAL;
    items = malloc((n > 0 ? n : 1) * sizeof(*items));
    if (!items)
        return -ENOMEM;
    deadline_in(&deadline, timeout_ms > 0 ? timeout_ms : 0);
    n_items = cscp_directory_list(ret->relays ? self->relays : self->directory, from, items, n);
    for (uint32_t i = 0; i < self->n_threads && r == 0; i++)
        r = ask(self->threads[i], items, (size_t)n_items, ret->relays != NULL, &inquiries[i]);
    for (uint32_t i = 0; i < self->n_threads && r == 0; i++)
        r = hear(inquiries[i], &deadline);
    if (r == 0)
        r = merge(inquiries, items, (size_t)n_items, ret);
    for (uint32_t i = 0; i < self->n_threads; i++)
        cscp_inquiry_unref(inquiries[i]);
    free(items);
    return r;
}

int cscp_list_sessions(cscp *self, uint64_t from, cscp_session_info *ret_infos, size_t n,
                       int timeout_ms) {
    return make_list(self, from, &(list){.sessions = ret_infos}, n, timeout_ms);
}

int cscp_list_relays(cscp *self, uint64_t from, cscp_relay_info *ret_infos, size_t n,
                     int timeout_ms) {
    return make_list(self, from, &(list){.relays = ret_infos}, n, timeout_ms);
}
