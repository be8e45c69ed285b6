/* Shared by the models. Time is whole ticks. Everything that may happen between two ticks may happen in
   any order, or not at all: messages that are slow or lost and processes that pause need nothing more.

   A d_step must leave no choice open: the verifier would take the first only, and say nothing. What may go
   one way or another is two d_steps. scripts/model sees to it.

   Clocks of wrong rate are folded into the lengths: what may be done *until* an instant is allowed for as
   long as the slowest clock lets it, what may be done *from* an instant on as soon as the fastest does.
   So every behaviour of every pair of clocks is among those searched. */
#ifndef N
#define N 2                            /* nodes */
#endif
#ifndef TTL
#define TTL 3
#endif
#define ERROR 1                        /* by which a clock errs in one TTL */
#define MARGIN 2                       /* the law: at least 2 * ERROR */

#ifdef M_margin
#define HOLD (TTL + ERROR)             /* longest time a holder acts after it has sent */
#else
#define HOLD (TTL - MARGIN + ERROR)
#endif
#define WAIT (TTL - ERROR)             /* shortest time a watcher waits after it has first seen */

#define NOBODY N

/* Counts down to 0, or up to `top`. */
#define DOWN(timer) if :: timer > 0 -> timer-- :: else fi
#define UP(timer, top) if :: timer < top -> timer++ :: else fi

/* For each x below top; a loop must not be the last statement of a d_step. */
#define EACH(x, top) x = 0; do :: x < (top) ->
#define NEXT(x) x++ :: else -> break od; skip

/* Loop counters, and what is computed on the way; not part of a state. */
hidden byte i, j, k;
/* The laws. Each is computed, asserted and forgotten, so that a counterexample names the one it breaks. */
bool one_actor, true_epoch, epoch_grows, served;

#define HOLDS_LAW(law, what) law = (what); assert(law); law = false
