/* The mailbox: bounded, in order, and awake when it must be. */
#include "check.h"
#include "../../Sources/CSCP/mailbox.h"

#include <poll.h>

static bool was_woken(const cscp_mailbox *box) {
    struct pollfd fds = {.fd = box->event_fd, .events = POLLIN};
    return poll(&fds, 1, 0) == 1;
}

static void acks_without_end_take_a_place_a_connection(void) {
    static cscp_mailbox box;
    cscp_mail mail;
    uint64_t highest[100] = {0};
    CHECK_EQ(cscp_mailbox_init(&box), 0);
    cscp_mail_init(&mail);
    for (uint64_t i = 0; i < 1000000; i++) {
        cscp_ack ack = {.connection = i % 100, .log_epoch = 1, .seq = i};
        CHECK_EQ(cscp_mailbox_ack(&box, 0, &ack, 1), 0);
    }
    CHECK(box.mail.n_acks_max <= 1024);
    CHECK(cscp_mailbox_take(&box, &mail));
    for (size_t i = 0; i < mail.n_acks; i++)
        if (mail.acks[i].seq > highest[mail.acks[i].connection])
            highest[mail.acks[i].connection] = mail.acks[i].seq;
    for (uint64_t i = 0; i < 100; i++) CHECK_EQ(highest[i], 999900 + i); /* none is forgotten */
    CHECK(!cscp_mailbox_take(&box, &mail));
    cscp_mail_done(&mail);
    cscp_mailbox_done(&box);
}

static void only_a_sleeper_is_woken_and_only_once(void) {
    static cscp_mailbox box;
    cscp_mail mail;
    cscp_ack ack = {.connection = 1, .log_epoch = 1, .seq = 1};
    CHECK_EQ(cscp_mailbox_init(&box), 0);
    cscp_mail_init(&mail);
    cscp_mailbox_ack(&box, 0, &ack, 1);
    CHECK(!was_woken(&box));
    CHECK(!cscp_mailbox_sleep(&box)); /* there is mail */
    cscp_mailbox_up(&box);
    CHECK(cscp_mailbox_take(&box, &mail));
    mail.n_acks = 0;
    CHECK(cscp_mailbox_sleep(&box));
    cscp_mailbox_ack(&box, 0, &ack, 1);
    cscp_mailbox_ack(&box, 0, &ack, 1);
    CHECK(was_woken(&box));
    CHECK_EQ(box.wakeups, 1);
    cscp_mailbox_up(&box);
    cscp_mail_done(&mail);
    cscp_mailbox_done(&box);
}

static void commands_and_summons_keep_their_order(void) {
    static cscp_mailbox box;
    cscp_summons summons[3] = {{.older = 1}, {.older = 2}, {.older = 3}};
    cscp_mail mail;
    CHECK_EQ(cscp_mailbox_init(&box), 0);
    cscp_mail_init(&mail);
    for (int round = 0; round < 3; round++) {
        for (uint8_t i = 0; i < 5; i++) {
            cscp_command command = {.serial = 1, .id = {i}};
            cscp_pending *pending;
            CHECK_EQ(cscp_pending_new(&command, &pending), 0);
            cscp_mailbox_command(&box, pending);
        }
        for (int i = 0; i < 3; i++) cscp_mailbox_summons(&box, &summons[i]);
        CHECK(cscp_mailbox_take(&box, &mail));
        for (uint8_t i = 0; i < 5; i++) {
            cscp_pending *pending = CSCP_CONTAINER(mail.commands.next, cscp_pending, link);
            CHECK_EQ(pending->id[0], i);
            cscp_list_remove(&pending->link);
            free(pending);
        }
        for (uint64_t i = 1; i <= 3; i++) {
            CHECK_EQ(mail.summons->older, i);
            mail.summons = mail.summons->next;
        }
        CHECK(!mail.summons);
    }
    cscp_mail_done(&mail);
    cscp_mailbox_done(&box);
}

int main(void) {
    RUN(acks_without_end_take_a_place_a_connection);
    RUN(only_a_sleeper_is_woken_and_only_once);
    RUN(commands_and_summons_keep_their_order);
    return 0;
}
