/* The parking lot when controllers are relayed: either node's process may be another one after a
 * moment, and the controller keeps its connection. */
#include "keeper.h"
#include "relay-rig.h"

static keeper lot;

/* A node whose connections outlive it, with what the former one left. */
static cscp *parked_node(void) {
    static cscp_inherited inherited[KEPT_MAX];
    static char names[KEPT_MAX][KEPT_NAME];
    cscp_config config = node_config();

    config.keeper = &lot.as_keeper;
    config.inherited = inherited;
    config.n_inherited = keeper_hand_out(&lot, inherited, names);
    return node_new(&config);
}

static void restart(cscp **node, unsigned n_parked) {
    cscp_resumption resumption;

    HOST_UNTIL(*node, counters.parked == n_parked);
    cscp_free(*node);
    *node = parked_node();
    cscp_get_resumption(*node, &resumption);
    CHECK_EQ(resumption.connections, n_parked);
    CHECK_EQ(resumption.welcomed, n_parked);
}

/* One that was stored may come again; then the next. */
static void take_event(cscp *owner, peer *p, uint64_t seq) {
    cscp_message message;

    p->next = seq;
    peer_event(p);
    do
        message = host_wait(owner, CSCP_MSG_EVENT);
    while (message.seq < seq);
    CHECK_EQ(message.seq, seq);
    host_ack(owner, &message);
    while (peer_expect_ack(p) < seq)
        ;
}

static void the_entry_is_another_process_and_the_controller_stays(void) {
    cscp_config config = node_config();
    cscp *owner, *entry;
    peer p;

    keeper_init(&lot);
    owner = node_new(&config);
    entry = parked_node();
    node_owns(owner, 3);
    node_relays(entry, cscp_port(owner), 3);
    peer_join(&p, entry, 7);
    take_event(owner, &p, 1);
    for (uint64_t seq = 2; seq < 5; seq++) {
        cscp_welcome welcome;

        restart(&entry, 1);
        node_relays(entry, cscp_port(owner), 3);
        welcome = peer_expect_welcome(&p);
        CHECK_EQ(welcome.resume_from, seq);
        CHECK_EQ(welcome.flags, CSCP_WELCOME_RESUMED);
        CHECK(memcmp(host_wait(owner, CSCP_MSG_CONNECTED).model, "model", 5) == 0);
        take_event(owner, &p, seq);
    }
    peer_close(&p);
    cscp_free(entry);
    cscp_free(owner);
    keeper_done(&lot);
}

static void the_owner_is_another_process_and_the_controller_stays(void) {
    cscp_config config = node_config();
    cscp *owner, *entry;
    peer p;

    keeper_init(&lot);
    owner = parked_node();
    entry = node_new(&config);
    node_owns(owner, 3);
    node_relays(entry, cscp_port(owner), 3);
    peer_join(&p, entry, 7);
    take_event(owner, &p, 1);
    for (uint64_t seq = 2; seq < 5; seq++) {
        restart(&owner, 1);
        node_owns(owner, 3);
        CHECK_EQ(peer_expect_welcome(&p).resume_from, seq);
        take_event(owner, &p, seq);
    }
    /* The entry never lost its owner: it is the same connection. */
    CHECK_EQ(host_counters(entry).relay_losses, 0);
    CHECK_EQ(host_counters(entry).relay_attaches, 1);
    peer_close(&p);
    cscp_free(entry);
    cscp_free(owner);
    keeper_done(&lot);
}

static void one_that_was_served_here_is_relayed_by_the_next_process(void) {
    cscp_config config = node_config();
    cscp *other, *node;
    peer p;

    keeper_init(&lot);
    other = node_new(&config);
    node = parked_node();
    node_owns(node, 3);
    peer_join(&p, node, 7);
    take_event(node, &p, 1);
    restart(&node, 1);
    node_owns(other, 4);
    node_relays(node, cscp_port(other), 4);
    CHECK_EQ(peer_expect_welcome(&p).owner_epoch, 4);
    take_event(other, &p, 2);
    /* And back, by yet another one. */
    restart(&node, 1);
    node_knows_nobody(other);
    node_owns(node, 5);
    CHECK_EQ(peer_expect_welcome(&p).owner_epoch, 5);
    take_event(node, &p, 3);
    peer_close(&p);
    cscp_free(node);
    cscp_free(other);
    keeper_done(&lot);
}

int main(void) {
    RUN(the_entry_is_another_process_and_the_controller_stays);
    RUN(the_owner_is_another_process_and_the_controller_stays);
    RUN(one_that_was_served_here_is_relayed_by_the_next_process);
    return 0;
}
