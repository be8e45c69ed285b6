/* Owners that live and are out of the entry's reach, between real hosts. */
#include "relay-rig.h"

#include <fcntl.h>
#include <sys/resource.h>

/* Two nodes, and a controller that comes in by the one and is the other's, by the route returned. */
static cscp_route relayed(const cscp_config *config, cscp **ret_entry, cscp **ret_owner, peer *ret_p) {
    *ret_entry = node_new(config);
    *ret_owner = node_new(config);
    node_owns(*ret_owner, 3);
    node_relays(*ret_entry, cscp_port(*ret_owner), 3);
    peer_join(ret_p, *ret_entry, 5);
    return route_of(cscp_port(*ret_owner), 3);
}

static void whose_owner_lives_but_is_out_of_reach_is_sent_elsewhere(void) {
    cscp_config config = node_config();
    config.relay_hold_ms = 200;
    peer p, q;
    cscp *entry, *owner;
    cscp_route route = relayed(&config, &entry, &owner, &p);
    cscp_free(owner);
    HOST_UNTIL(entry, counters.relay_failures >= 1);
    route.alive = true;
    uint64_t begin = now_ms();
    CHECK_EQ(cscp_set_ownership(entry, NULL, 0, &route, 1), 0);
    CHECK_EQ(peer_expect_reason(&p), CSCP_REASON_OUT_OF_REACH);
    CHECK(now_ms() - begin >= 200 && now_ms() - begin < config.hold_ms);
    peer_expect_end(&p);
    peer_close(&p);
    begin = now_ms();
    peer_connect(&q, entry);
    peer_hello(&q, 5);
    peer_expect(&q, CSCP_BUSY);
    CHECK(now_ms() - begin < 150); /* it is known by now */
    peer_close(&q);
    CHECK_EQ(host_counters(entry).closed[CSCP_REASON_OUT_OF_REACH], 2);
    cscp_free(entry);
}

static void whose_owner_is_known_to_be_apart_is_sent_elsewhere_at_once(void) {
    cscp_config config = node_config();
    peer p, q;
    cscp *entry, *owner;
    cscp_route route = relayed(&config, &entry, &owner, &p);
    host_next(owner, CSCP_MSG_CONNECTED);
    peer_event(&p);
    CHECK_EQ(host_next(owner, CSCP_MSG_EVENT).seq, 1);
    route.alive = route.apart = true;
    uint64_t begin = now_ms();
    CHECK_EQ(cscp_set_ownership(entry, NULL, 0, &route, 1), 0);
    CHECK_EQ(peer_expect_reason(&p), CSCP_REASON_OUT_OF_REACH);
    peer_expect_end(&p);
    peer_close(&p);
    peer_connect(&q, entry);
    peer_hello(&q, 6);
    peer_expect(&q, CSCP_BUSY);
    peer_close(&q);
    CHECK(now_ms() - begin < config.relay_hold_ms);
    route.apart = false;
    CHECK_EQ(cscp_set_ownership(entry, NULL, 0, &route, 1), 0);
    peer_join(&p, entry, 7);
    peer_close(&p);
    cscp_free(entry);
    cscp_free(owner);
}

/* What a controller that is told BUSY comes to by dialling again. */
static bool is_welcomed(cscp *entry, uint64_t serial) {
    peer p;
    cscp_frame frame;
    peer_connect(&p, entry);
    peer_hello(&p, serial);
    CHECK_EQ(peer_read(&p, &frame, PATIENCE_MS), 1);
    peer_close(&p);
    return frame.type == CSCP_WELCOME;
}

static void an_owner_that_is_in_reach_again_is_soon_tried_for_one_and_then_for_all(void) {
    cscp_config config = node_config();
    config.relay_hold_ms = 200;
    cscp *entry = node_new(&config), *owner = node_new(&config);
    cscp_route route = route_of(cscp_port(owner), 3);
    peer p;
    route.alive = true;
    config.port = cscp_port(owner);
    cscp_free(owner);
    CHECK_EQ(cscp_set_ownership(entry, NULL, 0, &route, 1), 0);
    peer_connect(&p, entry);
    peer_hello(&p, 5);
    peer_expect(&p, CSCP_BUSY);
    peer_close(&p);
    owner = node_new(&config);
    node_owns(owner, 3);
    uint64_t begin = now_ms();
    CHECK(!is_welcomed(entry, 6));
    while (!is_welcomed(entry, 7))
        CHECK(now_ms() - begin < 2000); /* CSCP_LINK_AWAY_MS is longer */
    CHECK(is_welcomed(entry, 8) && is_welcomed(entry, 9));
    cscp_free(entry);
    cscp_free(owner);
}

/* Else all that waited were sent away one after the other while those that came anew were served. */
static void whose_owner_others_reach_again_is_not_sent_away(void) {
    cscp_config config = node_config();
    config.relay_hold_ms = 1900;
    peer p, q;
    cscp *entry, *owner;
    cscp_route route = relayed(&config, &entry, &owner, &p);
    config.port = cscp_port(owner);
    cscp_free(owner);
    route.alive = true;
    CHECK_EQ(cscp_set_ownership(entry, NULL, 0, &route, 1), 0);
    HOST_UNTIL(entry, counters.relay_failures >= 6); /* the next try is in 0.5 to 1 s */
    owner = node_new(&config);
    node_owns(owner, 4);
    peer_join(&q, entry, 6);
    peer_expect_another_welcome(&p);
    CHECK_EQ(host_counters(entry).closed[CSCP_REASON_OUT_OF_REACH], 0);
    peer_close(&p);
    peer_close(&q);
    cscp_free(entry);
    cscp_free(owner);
}

static void a_relay_takes_none_of_the_descriptors_that_are_left_to_others(void) {
    enum { LIMIT = 64, END = LIMIT - LIMIT / 8 };
    cscp_config config = node_config();
    struct rlimit limit, few;
    cscp *owner = node_new(&config);
    int fillers[LIMIT], n_fillers = 0, fd;
    peer p;
    node_owns(owner, 3);
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    few = (struct rlimit){LIMIT, limit.rlim_max};
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
    cscp *entry; /* has yet to hear who owns what */
    CHECK_EQ(cscp_new(&config, &entry), 0);
    peer_connect(&p, entry);
    peer_hello(&p, 5);
    HOST_UNTIL(entry, counters.connections == 1);
    while ((fd = open("/dev/null", O_RDONLY | O_CLOEXEC)) < END) fillers[n_fillers++] = fd;
    close(fd);
    node_relays(entry, cscp_port(owner), 3);
    HOST_UNTIL(entry, counters.relay_failures >= 1);
    for (int i = 0; i < n_fillers; i++) close(fillers[i]);
    peer_expect_welcome(&p);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    peer_close(&p);
    cscp_free(entry);
    cscp_free(owner);
}

int main(void) {
    RUN(whose_owner_lives_but_is_out_of_reach_is_sent_elsewhere);
    RUN(whose_owner_is_known_to_be_apart_is_sent_elsewhere_at_once);
    RUN(an_owner_that_is_in_reach_again_is_soon_tried_for_one_and_then_for_all);
    RUN(whose_owner_others_reach_again_is_not_sent_away);
    RUN(a_relay_takes_none_of_the_descriptors_that_are_left_to_others);
    return 0;
}
