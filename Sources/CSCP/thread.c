#include "thread.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

static int watch(cscp_thread *t) {
    struct epoll_event listener = {.events = EPOLLIN, .data.ptr = NULL};
    struct epoll_event mail = {.events = EPOLLIN | EPOLLET, .data.ptr = &t->box};

    t->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (t->epoll_fd < 0 ||
        epoll_ctl(t->epoll_fd, EPOLL_CTL_ADD, t->listen_fd, &listener) < 0 ||
        epoll_ctl(t->epoll_fd, EPOLL_CTL_ADD, t->box.event_fd, &mail) < 0)
        return -errno;
    return 0;
}

uint32_t cscp_slots_max(const cscp_config *config) {
    /* Beyond the connections: those refused but lingering, and those whose end was not taken
     * yet. */
    uint64_t beyond = CSCP_LINGERING_MAX + config->ring_bytes / sizeof(cscp_record);
    uint64_t wanted = (config->connections_max + beyond + CSCP_CHUNK - 1) / CSCP_CHUNK * CSCP_CHUNK;

    return wanted < CSCP_SLOTS_MAX ? (uint32_t)wanted : CSCP_SLOTS_MAX;
}

static int allocate(cscp_thread *t) {
    int r = cscp_table_init(&t->table, cscp_slots_max(t->config));

    if (r == 0)
        r = cscp_ring_init(&t->ring, t->config->ring_bytes);
    if (r < 0)
        return r;
    t->tickets = cscp_book_share(&t->cscp->book, t->index);
    t->names = cscp_book_names(&t->cscp->book, t->index);
    t->read_buffer = malloc(CSCP_FRAME_MAX + CSCP_READ_MAX);
    t->write_buffer = malloc(CSCP_FRAME_MAX + CSCP_WRITE_MAX + t->config->relay_buffer);
    return t->read_buffer && t->write_buffer ? 0 : -ENOMEM;
}

int cscp_thread_new(struct cscp *cscp, uint32_t index, int listen_fd, cscp_thread **ret) {
    cscp_thread *t = aligned_alloc(CSCP_CACHE_LINE, sizeof(*t));
    struct timespec ts;
    int r;

    if (!t) {
        close(listen_fd);
        return -ENOMEM;
    }
    *t = (cscp_thread){
        .cscp = cscp,
        .config = &cscp->config,
        .index = index,
        .epoll_fd = -1,
        .listen_fd = listen_fd,
        .notice_tokens = CSCP_NOTICE_BURST * 1000,
    };
    cscp_list_init(&t->ready);
    cscp_list_init(&t->out);
    cscp_list_init(&t->stalled);
    cscp_list_init(&t->early);
    cscp_list_init(&t->owed);
    cscp_list_init(&t->departed);
    cscp_list_init(&t->links);
    cscp_pool_init(&t->pool, t->config->relay_buffer);
    cscp_mail_init(&t->mail);
    clock_gettime(CLOCK_BOOTTIME, &ts);
    cscp_wheel_init(&t->wheel, (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000);
    if (getrandom(&t->session_ids, sizeof(t->session_ids), 0) != sizeof(t->session_ids))
        t->session_ids = (uint64_t)ts.tv_nsec << 32 | (uint64_t)ts.tv_sec;
    t->session_ids &= ~UINT64_C(63);
    t->random = (t->session_ids ^ index) | 1;
    r = cscp_mailbox_init(&t->box);
    if (r < 0) {
        close(listen_fd);
        free(t);
        return r;
    }
    r = allocate(t);
    if (r == 0)
        r = watch(t);
    if (r < 0) {
        cscp_thread_free(t);
        return r;
    }
    *ret = t;
    return 0;
}

void cscp_thread_close(cscp_thread *t) {
    /* First, or each of them would be taken out of it. */
    close(t->epoll_fd);
    t->epoll_fd = -1;
    for (uint32_t i = 0; i < cscp_table_n_slots(&t->table); i++) {
        cscp_conn *c = cscp_table_slot(&t->table, i);

        if (c->fd >= 0)
            close(c->fd);
        c->fd = -1;
    }
}

static void free_conn(cscp_conn *c) {
    if (c->fd >= 0)
        close(c->fd);
    if (c->link) {
        if (c->link->fd >= 0)
            close(c->link->fd);
        free(c->link->in);
        free(c->link->rest);
        free(c->link);
    }
    free(c->in);
    free(c->rest);
    free(c->tls_name);
    cscp_lanes_free(c->lanes);
}

cscp_thread *cscp_thread_free(cscp_thread *t) {
    if (!t)
        return NULL;
    cscp_thread_stop(t);
    /* Commands that are awaited are in a lane as well, and freed with it. */
    while (!cscp_list_is_empty(&t->owed)) {
        cscp_owed *owed = CSCP_CONTAINER(t->owed.next, cscp_owed, link);

        cscp_list_remove(&owed->link);
        if (owed->of_command && !CSCP_CONTAINER(owed, cscp_pending, owed)->awaited)
            free(CSCP_CONTAINER(owed, cscp_pending, owed));
    }
    for (uint32_t i = 0; i < cscp_table_n_slots(&t->table); i++)
        free_conn(cscp_table_slot(&t->table, i));
    cscp_table_done(&t->table);
    cscp_park_done(&t->park);
    cscp_ring_done(&t->ring);
    cscp_pool_done(&t->pool);
    cscp_mail_done(&t->mail);
    cscp_mailbox_done(&t->box);
    cscp_ranges_unref(t->ranges);
    free(t->read_buffer);
    free(t->write_buffer);
    if (t->epoll_fd >= 0)
        close(t->epoll_fd);
    if (t->listen_fd >= 0)
        close(t->listen_fd);
    free(t);
    return NULL;
}

int cscp_thread_start(cscp_thread *t) {
    sigset_t all, before;
    char name[16];
    int r;

    /* The new thread inherits the mask: no signal is ever handled in it. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    r = pthread_create(&t->pthread, NULL, cscp_thread_run, t);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (r != 0)
        return -r;
    t->started = true;
    snprintf(name, sizeof(name), "cscp-%u", t->index);
    pthread_setname_np(t->pthread, name);
    return 0;
}

void cscp_thread_stop(cscp_thread *t) {
    if (!t->started)
        return;
    cscp_mailbox_quit(&t->box);
    pthread_join(t->pthread, NULL);
    t->started = false;
}
