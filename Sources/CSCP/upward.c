/* From the I/O thread to the taker. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "thread.h"

static bool has_room(cscp_thread *t) {
    return cscp_ring_room(&t->ring, CSCP_RECORD_MAX, CSCP_RECORD_MAX) >= CSCP_RECORD_MAX;
}

bool cscp_up_has_room(cscp_thread *t) {
    return cscp_list_is_empty(&t->owed) && has_room(t);
}

/* The common part; n_body bytes are copied behind what the kind has beyond it. */
static cscp_record *begin(cscp_thread *t, cscp_message_kind kind, const void *body, size_t n_body) {
    size_t extra = cscp_record_extra((uint8_t)kind);
    size_t size = sizeof(cscp_record) + extra + n_body;
    cscp_record *record = cscp_ring_write(&t->ring, (uint32_t)size);
    uint32_t padded = record->head.size;

    *record = (cscp_record){
        .head = {.size = padded, .kind = (uint8_t)kind},
        .at_ms = t->now.utc_ms,
        .n_body = (uint32_t)n_body,
    };
    if (n_body > 0)
        memcpy((uint8_t *)cscp_record_more(record) + extra, body, n_body);
    return record;
}

static void sign(const cscp_thread *t, const cscp_conn *c, cscp_record *record) {
    record->connection = cscp_conn_handle(c, t->index);
    record->serial = c->session.serial;
    record->owner_epoch = c->session.owner_epoch;
}

void cscp_up_event(cscp_thread *t, const cscp_conn *c, const cscp_event *event) {
    cscp_record *record = begin(t, CSCP_MSG_EVENT, event->body, event->n_body);

    sign(t, c, record);
    record->log_epoch = event->log_epoch;
    record->flags = event->flags;
    record->family = event->family;
    record->code = event->code;
    record->seq = event->seq;
    record->occurred_at_ms = event->occurred_at_ms;
    record->source_type = event->source_type;
    record->source_number = event->source_number;
}

void cscp_up_gap(cscp_thread *t, const cscp_conn *c, const cscp_log_gap *gap) {
    cscp_record *record = begin(t, CSCP_MSG_LOG_GAP, NULL, 0);
    cscp_record_log *log = cscp_record_more(record);

    sign(t, c, record);
    record->log_epoch = gap->log_epoch;
    record->seq = gap->from;
    *log = (cscp_record_log){.through_seq = gap->to};
}

void cscp_up_reset(cscp_thread *t, const cscp_conn *c, const cscp_log_reset *reset) {
    cscp_record *record = begin(t, CSCP_MSG_LOG_RESET, NULL, 0);
    cscp_record_log *log = cscp_record_more(record);

    sign(t, c, record);
    record->log_epoch = reset->new_epoch;
    record->seq = reset->seq;
    record->code = reset->cause;
    record->occurred_at_ms = reset->occurred_at_ms;
    *log = (cscp_record_log){
        .through_seq = reset->old_last_seq,
        .old_log_epoch = reset->old_epoch,
    };
}

void cscp_up_result(cscp_thread *t, const cscp_conn *c, const cscp_result *result) {
    cscp_record *record = begin(t, CSCP_MSG_RESULT, result->body, result->n_body);
    cscp_record_answer *answer = cscp_record_more(record);

    sign(t, c, record);
    record->reason = result->reason;
    *answer = (cscp_record_answer){
        .index = result->index,
        .status = result->status,
        .result_flags = result->flags,
    };
    memcpy(answer->id, result->id, sizeof(answer->id));
}

void cscp_up_session(cscp_thread *t, const cscp_conn *c, cscp_message_kind kind,
                     uint64_t owner_epoch) {
    const cscp_session *s = &c->session;
    const cscp_ticket *ticket = cscp_ticket_of(t, c);
    char peer[CSCP_PEER_TEXT];
    size_t n_peer = cscp_conn_peer_text(c, peer);
    cscp_record *record = begin(t, kind, peer, n_peer);
    cscp_record_session *more = cscp_record_more(record);

    sign(t, c, record);
    record->owner_epoch = owner_epoch;
    record->log_epoch = s->log_epoch;
    record->seq = s->acked + 1;
    *more = (cscp_record_session){
        .after = c->summons.position,
        .after_thread = c->summons.thread,
        .capacity = s->capacity,
        .session_id = s->session_id,
        .acked_seq = s->acked,
        .oldest_seq = s->oldest_seq,
        .last_seq = s->last_seq,
        .epoch_seen = s->epoch_seen,
        .n_model = ticket->n_model,
        .n_firmware = ticket->n_firmware,
    };
    memcpy(more->model, ticket->model, ticket->n_model);
    memcpy(more->firmware, ticket->firmware, ticket->n_firmware);
}

static void emit_command(cscp_thread *t, cscp_pending *command) {
    cscp_record *record = begin(t, CSCP_MSG_COMMAND, NULL, 0);
    cscp_record_answer *answer = cscp_record_more(record);
    bool sent = command->outcome == CSCP_COMMAND_SENT;

    record->connection = command->handle;
    record->serial = command->serial;
    record->owner_epoch = command->owner_epoch;
    *answer = (cscp_record_answer){.status = command->outcome};
    memcpy(answer->id, command->id, sizeof(answer->id));
    cscp_directory_unreserve(t->cscp->directory, command->serial, command->handle,
                             command->n_body, !sent);
    if (!command->awaited)
        free(command);
}

static void emit_disconnected(cscp_thread *t, cscp_conn *c) {
    cscp_record *record = begin(t, CSCP_MSG_DISCONNECTED, NULL, 0);

    sign(t, c, record);
    record->connection = c->owed_handle;
    record->reason = c->owed_reason;
}

void cscp_up_command(cscp_thread *t, cscp_pending *command, cscp_command_outcome outcome) {
    command->outcome = (uint8_t)outcome;
    switch (outcome) {
    case CSCP_COMMAND_SENT:
        CSCP_COUNT(t, commands_sent, 1);
        break;
    case CSCP_COMMAND_EXPIRED:
        CSCP_COUNT(t, commands_expired, 1);
        break;
    case CSCP_COMMAND_UNSENT:
        CSCP_COUNT(t, commands_unsent, 1);
        break;
    }
    if (cscp_up_has_room(t))
        emit_command(t, command);
    else
        cscp_list_append(&t->owed, &command->owed.link);
}

void cscp_up_disconnected(cscp_thread *t, cscp_conn *c, uint64_t handle, cscp_reason reason) {
    c->owed_handle = handle;
    c->owed_reason = (uint8_t)reason;
    if (cscp_up_has_room(t))
        emit_disconnected(t, c);
    else
        cscp_list_append(&t->owed, &c->owed.link);
}

bool cscp_up_settle(cscp_thread *t) {
    while (!cscp_list_is_empty(&t->owed) && has_room(t)) {
        cscp_owed *owed = CSCP_CONTAINER(t->owed.next, cscp_owed, link);

        cscp_list_remove(&owed->link);
        if (owed->of_command)
            emit_command(t, CSCP_CONTAINER(owed, cscp_pending, owed));
        else {
            cscp_conn *c = CSCP_CONTAINER(owed, cscp_conn, owed);

            emit_disconnected(t, c);
            if (c->session.state == CSCP_CLOSED)
                cscp_depart(t, c);
        }
    }
    return cscp_list_is_empty(&t->owed);
}

/* A token is worth 1,000: then each millisecond brings a whole number of them. */
static bool may_notice(cscp_thread *t) {
    uint64_t passed = t->now.boot_ms - t->notice_at_ms;
    uint64_t most = CSCP_NOTICE_BURST * 1000;

    t->notice_at_ms = t->now.boot_ms;
    t->notice_tokens = passed < most ? t->notice_tokens + passed * CSCP_NOTICES_A_SECOND : most;
    if (t->notice_tokens > most)
        t->notice_tokens = most;
    if (t->notice_tokens < 1000 || !cscp_up_has_room(t))
        return false;
    t->notice_tokens -= 1000;
    return true;
}

void cscp_up_notice(cscp_thread *t, const cscp_conn *c, cscp_reason reason) {
    char peer[CSCP_PEER_TEXT];
    size_t n_peer = c ? cscp_conn_peer_text(c, peer) : 0;
    cscp_record *record;
    cscp_record_notice *notice;

    if (!may_notice(t)) {
        t->suppressed++;
        return;
    }
    record = begin(t, CSCP_MSG_NOTICE, peer, n_peer);
    notice = cscp_record_more(record);
    if (c)
        sign(t, c, record);
    record->reason = reason;
    *notice = (cscp_record_notice){.suppressed = t->suppressed};
    t->suppressed = 0;
}

void cscp_up_publish(cscp_thread *t) {
    struct cscp *cscp = t->cscp;
    uint64_t one = 1;

    if (t->ring.published == t->ring.tail)
        return;
    cscp_ring_publish(&t->ring);
    /* Against cscp_get_messages(): either we see it sleep or it sees what we published. */
    atomic_thread_fence(memory_order_seq_cst);
    if (!atomic_load_explicit(&cscp->taker_sleeps, memory_order_relaxed))
        return;
    if (atomic_exchange_explicit(&cscp->taker_sleeps, 0, memory_order_seq_cst) == 0)
        return;
    while (write(cscp->taker_fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
}
