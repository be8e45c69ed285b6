/* What other threads asked for. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "thread.h"

/* The session that the handle names, if it is there and welcomed. */
static cscp_conn *connected(cscp_thread *t, uint64_t handle) {
    cscp_conn *c = cscp_table_slot(&t->table, cscp_handle_slot(handle));

    if (!c || !c->connected || c->generation != cscp_handle_generation(handle))
        return NULL;
    return c;
}

/* The same of one that is to be relayed. */
static cscp_conn *relayed(cscp_thread *t, uint64_t handle) {
    cscp_conn *c = cscp_table_slot(&t->table, cscp_handle_slot(handle));

    return c && c->link && c->link->listed == handle ? c : NULL;
}

static void handle_ack(cscp_thread *t, const cscp_ack *ack) {
    cscp_conn *c = connected(t, ack->connection);
    uint64_t unacked;

    CSCP_COUNT(t, acks_in, 1);
    if (!c)
        return;
    unacked = cscp_session_unacked(&c->session);
    if (!cscp_session_ack(&c->session, t->config, ack->log_epoch, ack->seq, &t->now)) {
        CSCP_COUNT(t, acks_invalid, 1);
        return;
    }
    CSCP_COUNT(t, unacked, cscp_session_unacked(&c->session) - unacked);
    if (c->session.owe & CSCP_OWE_ACK)
        cscp_want_output(t, c);
    else if (c->session.ack_due_ms != 0)
        cscp_rearm(t, c);
}

static void handle_command(cscp_thread *t, cscp_pending *command) {
    cscp_conn *c = connected(t, command->handle);

    CSCP_COUNT(t, commands_in, 1);
    if (c && !c->lanes)
        c->lanes = cscp_lanes_new();
    if (!c || !c->lanes) {
        cscp_up_command(t, command, CSCP_COMMAND_UNSENT);
        return;
    }
    command->owner_epoch = c->session.owner_epoch;
    cscp_lanes_push(c->lanes, command);
    cscp_want_output(t, c);
}

static void handle_farewell(cscp_thread *t, const cscp_farewell *farewell) {
    cscp_conn *c = connected(t, farewell->connection);

    if (c)
        cscp_conn_end(t, c, farewell->reason, farewell->spread_ms);
}

static void describe(cscp_thread *t, const cscp_conn *c, cscp_session_info *ret) {
    const cscp_session *s = &c->session;
    const cscp_ticket *ticket = cscp_ticket_of(t, c);

    *ret = (cscp_session_info){
        .connection = cscp_conn_handle(c, t->index),
        .serial = s->serial,
        .session_id = s->session_id,
        .owner_epoch = s->owner_epoch,
        .received_seq = s->received,
        .acked_seq = s->acked,
        .hello_last_seq = s->last_seq,
        .log_epoch = s->log_epoch,
        .capacity = s->capacity,
        .commands_pending = c->lanes ? c->lanes->n_waiting + c->lanes->n_awaited : 0,
        .idle_ms = t->now.boot_ms - s->heard_at_ms,
        .connected_at_ms = c->connected_at_ms,
        .relayed = c->relayed,
    };
    cscp_conn_peer_text(c, ret->peer);
    memcpy(ret->model, ticket->model, ticket->n_model);
    memcpy(ret->firmware, ticket->firmware, ticket->n_firmware);
    if (c->tls_name)
        snprintf(ret->tls_name, sizeof(ret->tls_name), "%s", c->tls_name);
}

static void handle_inquiry(cscp_thread *t, cscp_inquiry *inquiry) {
    for (size_t i = 0; i < inquiry->n; i++) {
        uint64_t handle = inquiry->handles[i];
        const cscp_conn *c = inquiry->of_relays ? relayed(t, handle) : connected(t, handle);

        inquiry->found[i] = c != NULL;
        if (c && inquiry->of_relays)
            cscp_link_describe(c, &inquiry->relays[i]);
        else if (c)
            describe(t, c, &inquiry->infos[i]);
    }
    pthread_mutex_lock(&inquiry->lock);
    inquiry->done = true;
    pthread_cond_signal(&inquiry->answered);
    pthread_mutex_unlock(&inquiry->lock);
    cscp_inquiry_unref(inquiry);
}

static void stop_accepting(cscp_thread *t) {
    t->stopping = true;
    t->accept_resume_ms = 0;
    if (t->listen_fd >= 0) {
        /* Closing alone would leave it in epoll while the keeper has a copy. */
        epoll_ctl(t->epoll_fd, EPOLL_CTL_DEL, t->listen_fd, NULL);
        /* Nor would it refuse anybody: who dials now would wait in its queue for a process. */
        shutdown(t->listen_fd, SHUT_RD);
        close(t->listen_fd);
    }
    t->listen_fd = -1;
}

void cscp_handle_mail(cscp_thread *t) {
    cscp_mail *mail = &t->mail;
    cscp_summons *summons;

    if (!cscp_mailbox_take(&t->box, mail))
        return;
    for (size_t i = 0; i < mail->n_acks; i++)
        handle_ack(t, &mail->acks[i]);
    mail->n_acks = 0;
    while (!cscp_list_is_empty(&mail->commands)) {
        cscp_pending *command = CSCP_CONTAINER(mail->commands.next, cscp_pending, link);

        cscp_list_remove(&command->link);
        handle_command(t, command);
    }
    for (size_t i = 0; i < mail->n_farewells; i++)
        handle_farewell(t, &mail->farewells[i]);
    mail->n_farewells = 0;
    while ((summons = mail->summons)) {
        mail->summons = summons->next;
        cscp_summons_received(t, summons);
    }
    while (mail->inquiries) {
        cscp_inquiry *inquiry = mail->inquiries;

        mail->inquiries = inquiry->next;
        handle_inquiry(t, inquiry);
    }
    if (mail->stop_accepting)
        stop_accepting(t);
    if (mail->goaway) {
        t->goaway = true;
        t->goaway_spread_ms = mail->spread_ms;
        t->goaway_began_ms = t->now.boot_ms;
        t->goaway_sweep = t->n_goaways = 0;
        t->n_guests = cscp_table_n_slots(&t->table) - t->table.n_free;
    }
    t->quit |= mail->quit;
}
