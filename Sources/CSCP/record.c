#include "record.h"

#include <string.h>

_Static_assert(sizeof(cscp_record) == 80, "an event's record stays small");

size_t cscp_record_extra(uint8_t kind) {
    switch (kind) {
    case CSCP_MSG_RESULT:
    case CSCP_MSG_COMMAND:
        return sizeof(cscp_record_answer);
    case CSCP_MSG_LOG_GAP:
    case CSCP_MSG_LOG_RESET:
        return sizeof(cscp_record_log);
    case CSCP_MSG_CONNECTED:
    case CSCP_MSG_EPOCH_BEHIND:
        return sizeof(cscp_record_session);
    case CSCP_MSG_NOTICE:
        return sizeof(cscp_record_notice);
    default:
        return 0;
    }
}

static void read_answer(const cscp_record_answer *answer, cscp_message *ret) {
    memcpy(ret->id, answer->id, sizeof(ret->id));
    ret->index = answer->index;
    ret->status = answer->status;
    ret->result_flags = answer->result_flags;
}

static void read_session(const cscp_record_session *session, cscp_message *ret) {
    ret->through_seq = session->last_seq;
    ret->session_id = session->session_id;
    ret->acked_seq = session->acked_seq;
    ret->oldest_seq = session->oldest_seq;
    ret->epoch_seen = session->epoch_seen;
    ret->capacity = session->capacity;
    ret->n_model = session->n_model;
    ret->n_firmware = session->n_firmware;
    memcpy(ret->model, session->model, sizeof(ret->model));
    memcpy(ret->firmware, session->firmware, sizeof(ret->firmware));
}

void cscp_record_read(const cscp_record *record, cscp_message *ret) {
    const void *more = cscp_record_more_const(record);

    *ret = (cscp_message){
        .kind = record->head.kind,
        .reason = record->reason,
        .connection = record->connection,
        .serial = record->serial,
        .owner_epoch = record->owner_epoch,
        .at_ms = record->at_ms,
        .log_epoch = record->log_epoch,
        .flags = record->flags,
        .family = record->family,
        .code = record->code,
        .seq = record->seq,
        .occurred_at_ms = record->occurred_at_ms,
        .source_type = record->source_type,
        .source_number = record->source_number,
        .n_body = record->n_body,
    };
    if (record->n_body > 0)
        ret->body = (const uint8_t *)more + cscp_record_extra(record->head.kind);
    switch (record->head.kind) {
    case CSCP_MSG_RESULT:
    case CSCP_MSG_COMMAND:
        read_answer(more, ret);
        break;
    case CSCP_MSG_LOG_GAP:
    case CSCP_MSG_LOG_RESET:
        ret->through_seq = ((const cscp_record_log *)more)->through_seq;
        ret->old_log_epoch = ((const cscp_record_log *)more)->old_log_epoch;
        break;
    case CSCP_MSG_CONNECTED:
    case CSCP_MSG_EPOCH_BEHIND:
        read_session(more, ret);
        break;
    case CSCP_MSG_NOTICE:
        ret->suppressed = ((const cscp_record_notice *)more)->suppressed;
        break;
    default:
        break;
    }
}
