/* One session per serial, over all threads.
 *
 * The directory tells a new connection whose place it takes. That one must have ended, and the
 * taker must have passed its last message before it meets the new one's CONNECTED. The new
 * connection therefore sends the older one's thread a summons and waits, holding nothing and no
 * thread up. The older thread ends the session and sends the summons back with a place in a ring;
 * CONNECTED carries that place, and the taker goes past it first. What it counts was published
 * before, so the taker never waits either.
 *
 * A connection that is itself waiting can be superseded. It then passes the answer on to its heir
 * when its own comes. Each connection is claimed from at most once, so this is a chain, never a
 * ring, and the thread at its end waits for nobody.
 *
 * A session that ended by itself leaves the same duty to whoever comes next, perhaps on another
 * thread a moment later. So its claim stays in the directory, and its slot with it, until the taker
 * has passed its end: they are the departed. */
#include "thread.h"

static cscp_conn *of_handle(const cscp_thread *t, uint64_t handle) {
    cscp_conn *c = cscp_table_slot(&t->table, cscp_handle_slot(handle));

    return c && c->generation == cscp_handle_generation(handle) ? c : NULL;
}

/* Gives the answer to the connection that asked, and to those that wait behind it. */
static void answer(cscp_thread *t, cscp_summons *summons, uint32_t thread, uint64_t position) {
    while (summons) {
        uint32_t home = cscp_handle_thread(summons->newer);
        cscp_conn *c;

        summons->thread = thread;
        summons->position = position;
        summons->answered = true;
        if (home != t->index) {
            /* Whoever reads the answer must find the messages. */
            cscp_up_publish(t);
            cscp_mailbox_summons(&t->cscp->threads[home]->box, summons);
            return;
        }
        c = CSCP_CONTAINER(summons, cscp_conn, summons);
        c->summoned = false;
        if (c->session.state != CSCP_CLOSED) {
            cscp_want_output(t, c);
            return;
        }
        /* Superseded while it waited, or gone: what was told to it goes for the next one. */
        summons = c->heir;
        c->heir = NULL;
        cscp_depart(t, c);
    }
}

void cscp_depart(cscp_thread *t, cscp_conn *c) {
    cscp_summons *heir = c->heir;

    if (c->greeted) {
        c->summons.thread = t->index;
        c->summons.position = t->ring.tail;
    }
    c->departed = true;
    c->heir = NULL;
    cscp_list_append(&t->departed, &c->owed.link);
    if (heir)
        answer(t, heir, c->summons.thread, c->summons.position);
}

static bool was_taken(const cscp_thread *t, const cscp_summons *summons) {
    const cscp_ring *ring = &t->cscp->threads[summons->thread]->ring;

    return atomic_load_explicit(&ring->shared_head, memory_order_acquire) >= summons->position;
}

void cscp_bury(cscp_thread *t) {
    while (!cscp_list_is_empty(&t->departed)) {
        cscp_owed *owed = CSCP_CONTAINER(t->departed.next, cscp_owed, link);
        cscp_conn *c = CSCP_CONTAINER(owed, cscp_conn, owed);

        if (!was_taken(t, &c->summons))
            return;
        cscp_list_remove(&owed->link);
        c->departed = false;
        cscp_directory_release(t->cscp->directory, c->session.serial,
                               cscp_conn_handle(c, t->index));
        cscp_conn_release(t, c);
    }
}

static void obey(cscp_thread *t, cscp_summons *summons) {
    cscp_conn *older = of_handle(t, summons->older);

    if (!older) { /* buried: the taker has passed its end */
        answer(t, summons, t->index, 0);
        return;
    }
    if (older->departed) {
        answer(t, summons, older->summons.thread, older->summons.position);
        return;
    }
    older->heir = summons; /* answered when it departs, perhaps right now */
    cscp_conn_end(t, older, CSCP_REASON_SUPERSEDED, 0);
}

void cscp_summon(cscp_thread *t, cscp_conn *c, uint64_t older) {
    uint32_t home = cscp_handle_thread(older);

    c->summoned = true;
    c->summons = (cscp_summons){.older = older, .newer = cscp_conn_handle(c, t->index)};
    if (home == t->index)
        obey(t, &c->summons);
    else
        cscp_mailbox_summons(&t->cscp->threads[home]->box, &c->summons);
}

void cscp_summons_received(cscp_thread *t, cscp_summons *summons) {
    if (summons->answered)
        answer(t, summons, summons->thread, summons->position);
    else
        obey(t, summons);
}
