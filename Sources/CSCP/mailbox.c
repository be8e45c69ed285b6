#include "mailbox.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { ENTRIES_MIN = 256 };

void cscp_mail_init(cscp_mail *mail) {
    *mail = (cscp_mail){0};
    cscp_list_init(&mail->commands);
    mail->summons_end = &mail->summons;
}

void cscp_mail_done(cscp_mail *mail) {
    while (!cscp_list_is_empty(&mail->commands)) {
        cscp_pending *command = CSCP_CONTAINER(mail->commands.next, cscp_pending, link);

        cscp_list_remove(&command->link);
        free(command);
    }
    while (mail->inquiries) {
        cscp_inquiry *inquiry = mail->inquiries;

        mail->inquiries = inquiry->next;
        cscp_inquiry_unref(inquiry);
    }
    free(mail->acks);
    free(mail->farewells);
    cscp_mail_init(mail);
}

int cscp_mailbox_init(cscp_mailbox *box) {
    *box = (cscp_mailbox){0};
    box->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (box->event_fd < 0)
        return -errno;
    pthread_mutex_init(&box->lock, NULL);
    cscp_mail_init(&box->mail);
    return 0;
}

void cscp_mailbox_done(cscp_mailbox *box) {
    cscp_mail_done(&box->mail);
    pthread_mutex_destroy(&box->lock);
    close(box->event_fd);
}

void cscp_mailbox_wake(cscp_mailbox *box) {
    uint64_t one = 1;

    /* Against cscp_mailbox_sleep(): either we see it sleep or it sees what we stored. */
    atomic_thread_fence(memory_order_seq_cst);
    if (!atomic_load_explicit(&box->sleeping, memory_order_relaxed))
        return;
    if (atomic_exchange_explicit(&box->sleeping, 0, memory_order_seq_cst) == 0)
        return;
    atomic_fetch_add_explicit(&box->wakeups, 1, memory_order_relaxed);
    while (write(box->event_fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
}

static void post(cscp_mailbox *box) {
    atomic_store_explicit(&box->full, 1, memory_order_relaxed);
    pthread_mutex_unlock(&box->lock);
    cscp_mailbox_wake(box);
}

bool cscp_mailbox_sleep(cscp_mailbox *box) {
    atomic_store_explicit(&box->sleeping, 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst);
    return !atomic_load_explicit(&box->full, memory_order_relaxed);
}

void cscp_mailbox_up(cscp_mailbox *box) {
    atomic_store_explicit(&box->sleeping, 0, memory_order_relaxed);
}

bool cscp_mailbox_take(cscp_mailbox *box, cscp_mail *mail) {
    cscp_mail *posted = &box->mail;
    cscp_mail empty = *mail;

    if (!atomic_load_explicit(&box->full, memory_order_relaxed))
        return false;
    pthread_mutex_lock(&box->lock);
    mail->acks = posted->acks;
    mail->n_acks = posted->n_acks;
    mail->n_acks_max = posted->n_acks_max;
    mail->farewells = posted->farewells;
    mail->n_farewells = posted->n_farewells;
    mail->n_farewells_max = posted->n_farewells_max;
    cscp_list_splice(&mail->commands, &posted->commands);
    mail->summons = posted->summons;
    mail->inquiries = posted->inquiries;
    mail->spread_ms = posted->spread_ms;
    mail->stop_accepting = posted->stop_accepting;
    mail->goaway = posted->goaway;
    mail->quit = posted->quit;
    cscp_mail_init(posted);
    /* The vectors go back and forth, so that neither side allocates in the long run. */
    posted->acks = empty.acks;
    posted->n_acks_max = empty.n_acks_max;
    posted->farewells = empty.farewells;
    posted->n_farewells_max = empty.n_farewells_max;
    atomic_store_explicit(&box->full, 0, memory_order_relaxed);
    pthread_mutex_unlock(&box->lock);
    return true;
}

static int by_connection(const void *a, const void *b) {
    const cscp_ack *x = a, *y = b;

    if (x->connection != y->connection)
        return x->connection < y->connection ? -1 : 1;
    if (x->log_epoch != y->log_epoch)
        return x->log_epoch < y->log_epoch ? -1 : 1;
    return x->seq < y->seq ? -1 : x->seq > y->seq;
}

/* Keeps the newest of each connection: it says what the others said. */
static void compact(cscp_mail *mail) {
    size_t n = 0;

    qsort(mail->acks, mail->n_acks, sizeof(*mail->acks), by_connection);
    for (size_t i = 0; i < mail->n_acks; i++)
        if (i + 1 == mail->n_acks || mail->acks[i].connection != mail->acks[i + 1].connection)
            mail->acks[n++] = mail->acks[i];
    mail->n_acks = n;
}

/* Twice the room, or NULL. */
static void *enlarge(void *items, size_t *n_max, size_t size) {
    size_t larger = *n_max ? *n_max * 2 : ENTRIES_MIN;
    void *moved = realloc(items, larger * size);

    if (moved)
        *n_max = larger;
    return moved;
}

static int add_ack(cscp_mail *mail, const cscp_ack *ack) {
    if (mail->n_acks == mail->n_acks_max) {
        cscp_ack *larger;

        if (mail->n_acks > 0)
            compact(mail);
        /* Compacting pays only when it frees a good part. */
        if (mail->n_acks >= mail->n_acks_max / 2) {
            larger = enlarge(mail->acks, &mail->n_acks_max, sizeof(*ack));
            if (!larger && mail->n_acks == mail->n_acks_max)
                return -ENOMEM;
            if (larger)
                mail->acks = larger;
        }
    }
    mail->acks[mail->n_acks++] = *ack;
    return 0;
}

int cscp_mailbox_ack(cscp_mailbox *box, uint32_t thread, const cscp_ack *acks, size_t n) {
    int r = 0;

    pthread_mutex_lock(&box->lock);
    for (size_t i = 0; i < n && r == 0; i++)
        if (cscp_handle_thread(acks[i].connection) == thread)
            r = add_ack(&box->mail, &acks[i]);
    post(box);
    return r;
}

int cscp_mailbox_farewell(cscp_mailbox *box, const cscp_farewell *farewell) {
    cscp_mail *mail = &box->mail;
    int r = 0;

    pthread_mutex_lock(&box->lock);
    if (mail->n_farewells == mail->n_farewells_max) {
        void *larger = enlarge(mail->farewells, &mail->n_farewells_max, sizeof(*farewell));

        if (larger)
            mail->farewells = larger;
        else
            r = -ENOMEM;
    }
    if (r == 0)
        mail->farewells[mail->n_farewells++] = *farewell;
    post(box);
    return r;
}

void cscp_mailbox_command(cscp_mailbox *box, cscp_pending *command) {
    pthread_mutex_lock(&box->lock);
    cscp_list_append(&box->mail.commands, &command->link);
    post(box);
}

void cscp_mailbox_summons(cscp_mailbox *box, cscp_summons *summons) {
    pthread_mutex_lock(&box->lock);
    summons->next = NULL;
    *box->mail.summons_end = summons;
    box->mail.summons_end = &summons->next;
    post(box);
}

void cscp_mailbox_inquiry(cscp_mailbox *box, cscp_inquiry *inquiry) {
    pthread_mutex_lock(&box->lock);
    inquiry->next = box->mail.inquiries;
    box->mail.inquiries = inquiry;
    post(box);
}

void cscp_mailbox_stop_accepting(cscp_mailbox *box, bool goaway, uint32_t spread_ms) {
    pthread_mutex_lock(&box->lock);
    box->mail.stop_accepting = true;
    if (goaway) {
        box->mail.goaway = true;
        box->mail.spread_ms = spread_ms;
    }
    post(box);
}

void cscp_mailbox_quit(cscp_mailbox *box) {
    pthread_mutex_lock(&box->lock);
    box->mail.quit = true;
    post(box);
}

int cscp_inquiry_new(size_t n, bool of_relays, cscp_inquiry **ret) {
    size_t size = of_relays ? sizeof(cscp_relay_info) : sizeof(cscp_session_info);
    cscp_inquiry *inquiry = calloc(1, sizeof(*inquiry));

    if (!inquiry)
        return -ENOMEM;
    atomic_init(&inquiry->n_refs, 1);
    pthread_mutex_init(&inquiry->lock, NULL);
    pthread_cond_init(&inquiry->answered, NULL);
    inquiry->of_relays = of_relays;
    inquiry->n = n;
    if (n > 0) {
        inquiry->handles = calloc(n, sizeof(*inquiry->handles));
        inquiry->found = calloc(n, sizeof(*inquiry->found));
        inquiry->infos = calloc(n, size);
        if (!inquiry->handles || !inquiry->found || !inquiry->infos) {
            cscp_inquiry_unref(inquiry);
            return -ENOMEM;
        }
    }
    *ret = inquiry;
    return 0;
}

cscp_inquiry *cscp_inquiry_unref(cscp_inquiry *inquiry) {
    if (inquiry && atomic_fetch_sub_explicit(&inquiry->n_refs, 1, memory_order_acq_rel) == 1) {
        pthread_mutex_destroy(&inquiry->lock);
        pthread_cond_destroy(&inquiry->answered);
        free(inquiry->handles);
        free(inquiry->found);
        free(inquiry->infos);
        free(inquiry);
    }
    return NULL;
}
