/* A range that is moved while leaders and both parties crash, pause and hear late (OWNERSHIP.md: Moves).

   Time is left out: a lease ends at any instant, and a claim runs only when the owner's has ended and no
   reply on its way can renew it. That this is so is what lease.pml shows. Orders to move and to take back
   run at any instant, as if by any number of leaders, so that safety is seen to depend on none; only after
   the last fault it matters that there is one. Left out too: splits and mergers (not while a range moves).

   //@ run     two                      -DCHANGES=5
   //@ steps   progress                 -DCHANGES=3 -DPROGRESS
   //@ steps   three                    -DCHANGES=2 -DPROGRESS -DN=3
   //@ long    thrice                   -DCHANGES=3 -DN=3
   //@ long    more                     -DCHANGES=5 -DFAULTS=2
   //@ mutant  nostop      true_epoch   two       handed over without stopping
   //@ mutant  anymove     true_epoch   two       a hand-over that does not name its move
   //@ mutant  samenumber  true_epoch   two       the number of a move used again
   //@ mutant  early       true_epoch   two       acts again when the hand-over is not answered
   //@ mutant  keepmove    true_epoch   two       claim leaves the move, hand-over does not name the owner
   //@ mutant  sameepoch   epoch_grows  two       handed over under the old epoch
   //@ mutant  oldreply    true_epoch   two       late reply believed
   //@ mutant  oldview     true_epoch   two       heartbeat's reply believed that ran before what is known
   //@ mutant  noback      served       progress  leader never takes a move back
   //@ mutant  nofollow    served       progress  stays sealed when the move is taken back
*/
#include "common.h"
#ifndef CHANGES
#define CHANGES 5                      /* of the record, while there are faults */
#endif
#ifndef FAULTS
#define FAULTS 1                       /* crashes; lost and late messages and pauses are free */
#endif
#define CALM 5                         /* rounds of heartbeats after the last fault */

/* The record. `changed` is what its version was at its last change; a move has the number of that. */
byte owner, ownerLife, epoch = 1, changed = 1, move, to;
byte leader = NOBODY;                 /* after the last fault */

/* A node: its life, whether its lease runs, what it last saw, and where it is with the range. */
bool isUp[N] = true; byte me[N]; bool lease[N];
byte tOwner[N], tLife[N], tEpoch[N], tChanged[N], tMove[N];
#define NONE 0
#define HELD 1
#define SEALING 2
#define SEALED 3
byte phase[N], ofMove[N];

/* The heartbeat's reply on its way; whether it renews the lease yet. */
bool beat[N], vLease[N]; byte vOwner[N], vLife[N], vEpoch[N], vChanged[N], vMove[N];
/* A call for the range: 1 a hand-over on its way, 2 a reply on its way. And a hand-over given up. */
byte call[N], callMove[N], rOwner[N], rLife[N], rEpoch[N], rChanged[N], rMove[N];
byte stray[N], strayLife[N];

byte faults = FAULTS, calm; bool isOver, hasBeaten[N];
bool isStuck;                          /* what is under way does not end, whatever one waits */
#define isFaulty (calm == 0)

#ifdef M_nostop
#define acts(n) (isUp[n] && lease[n] && phase[n] != NONE)
#else
#define acts(n) (isUp[n] && lease[n] && (phase[n] == HELD || phase[n] == SEALING))
#endif
#define isMine(n) (tOwner[n] == n && tLife[n] == me[n])

/* Nobody acts but the owner, under the present epoch; which also says that it is one at most. */
inline check() {
  EACH(i, N)
    if :: acts(i) -> HOLDS_LAW(true_epoch, owner == i && ownerLife == me[i] && tEpoch[i] == epoch) :: else fi;
  NEXT(i)
}

inline send_hand_over(n) {
  if :: call[n] == 0 -> call[n] = 1; callMove[n] = ofMove[n] :: else fi
}

/* Brings what n does in line with what it has seen. */
inline follow(n) {
  if
  :: !isMine(n) -> phase[n] = NONE; ofMove[n] = 0
  :: else ->
    if :: phase[n] == NONE -> phase[n] = HELD :: else fi;
    if
#ifdef M_nofollow
    :: tMove[n] == 0 && phase[n] == SEALED -> skip
    :: tMove[n] == 0 && phase[n] != SEALED ->
#else
    :: tMove[n] == 0 ->
#endif
      phase[n] = HELD; ofMove[n] = 0
    :: tMove[n] > 0 && phase[n] != SEALED -> phase[n] = SEALING; ofMove[n] = tMove[n]
    :: tMove[n] > 0 && phase[n] == SEALED -> ofMove[n] = tMove[n]; send_hand_over(n)
    fi
  fi
}

inline forget_view(n) {
  beat[n] = false; vLease[n] = false; vOwner[n] = 0; vLife[n] = 0; vEpoch[n] = 0; vChanged[n] = 0; vMove[n] = 0
}
inline forget_call(n) {
  call[n] = 0; callMove[n] = 0; rOwner[n] = 0; rLife[n] = 0; rEpoch[n] = 0; rChanged[n] = 0; rMove[n] = 0
}
inline reply(n) {
  call[n] = 2; callMove[n] = 0;
  rOwner[n] = owner; rLife[n] = ownerLife; rEpoch[n] = epoch; rChanged[n] = changed; rMove[n] = move
}

inline take_view(n) {
#ifdef M_oldview
  if :: true ->
#else
  if :: vChanged[n] >= tChanged[n] ->
#endif
    tOwner[n] = vOwner[n]; tLife[n] = vLife[n]; tEpoch[n] = vEpoch[n]; tChanged[n] = vChanged[n]; tMove[n] = vMove[n]
  :: else
  fi;
  lease[n] = (lease[n] || vLease[n]);
  forget_view(n);
  follow(n)
}

inline take_reply(n) {
  k = 0;
#ifdef M_oldreply
  if :: true ->
#else
  if :: rChanged[n] >= tChanged[n] ->
#endif
    tOwner[n] = rOwner[n]; tLife[n] = rLife[n]; tEpoch[n] = rEpoch[n]; tChanged[n] = rChanged[n]; tMove[n] = rMove[n];
    k = 1
  :: else
  fi;
  forget_call(n);
  if :: k -> follow(n) :: else fi;
  k = 0
}

inline give(n, l) {
  owner = n; ownerLife = l; changed++;
  k = epoch;
#ifndef M_sameepoch
  epoch++;
#endif
  HOLDS_LAW(epoch_grows, epoch > k); k = 0
}

#ifdef M_anymove
#define isThatMove(m) (move > 0)
#else
#define isThatMove(m) (move > 0 && move == m)
#endif
#ifdef M_keepmove
#define isThatOwner(n, l) true
#else
#define isThatOwner(n, l) (owner == n && ownerLife == l)
#endif
inline run_hand_over(n, l, m) {
  if
  :: isThatOwner(n, l) && isThatMove(m) ->
    give(to, me[to]); move = 0; to = 0
  :: else
  fi
}

/* Nobody can have it any more but the one that claims. */
#define isDead(n) (!lease[n] && !vLease[n])
#define mayClaim(n) (isUp[n] && call[n] == 0 && tChanged[n] > 0 && \
  ((tOwner[n] == n && tLife[n] < me[n]) || (tOwner[n] != n && isDead(tOwner[n]) && (isFaulty || !isUp[tOwner[n]]))))
inline run_claim(n) {
  if
  :: owner == tOwner[n] && ((owner == n && ownerLife < me[n]) || (owner != n && isDead(owner))) ->
    give(n, me[n]);
#ifndef M_keepmove
    move = 0; to = 0
#endif
  :: else
  fi;
  reply(n)
}

inline crash(n) {
  isUp[n] = false; lease[n] = false; phase[n] = NONE; ofMove[n] = 0;
  tOwner[n] = 0; tLife[n] = 0; tEpoch[n] = 0; tChanged[n] = 0; tMove[n] = 0; forget_view(n);
  if :: call[n] == 1 && stray[n] == 0 -> stray[n] = callMove[n]; strayLife[n] = me[n] :: else fi;
  forget_call(n)
}

#define canSeal(n) (phase[n] == SEALING && !isStuck)
#define mayChange (changed < CHANGES || !isFaulty)

active [N] proctype node() {
  byte n = _pid;
  do
  :: isOver -> break
  :: d_step { isUp[n] && !beat[n] && !hasBeaten[n] ->
      beat[n] = true; vLease[n] = true; hasBeaten[n] = !isFaulty;
      vOwner[n] = owner; vLife[n] = ownerLife; vEpoch[n] = epoch; vChanged[n] = changed; vMove[n] = move }
  :: d_step { isUp[n] && beat[n] -> take_view(n); check() }
  :: d_step { isFaulty && beat[n] -> forget_view(n) }
  /* It pauses for longer than its lease. */
  :: d_step { isFaulty && !isDead(n) -> lease[n] = false; vLease[n] = false }

  :: d_step { isUp[n] && canSeal(n) -> phase[n] = SEALED; send_hand_over(n); check() }
  :: d_step { call[n] == 1 && mayChange -> run_hand_over(n, me[n], callMove[n]); reply(n); check() }
  :: d_step { isUp[n] && call[n] == 2 -> take_reply(n); check() }
  :: d_step { isFaulty && call[n] == 2 -> forget_call(n) }
  :: d_step { isFaulty && call[n] == 1 && stray[n] == 0 -> stray[n] = callMove[n]; strayLife[n] = me[n]; forget_call(n) }
#ifdef M_early
  :: d_step { phase[n] == SEALED && call[n] == 0 -> phase[n] = HELD; ofMove[n] = 0; check() }
#endif
  :: d_step { stray[n] > 0 && mayChange -> run_hand_over(n, strayLife[n], stray[n]); stray[n] = 0; strayLife[n] = 0; check() }
  :: d_step { isFaulty && stray[n] > 0 -> stray[n] = 0; strayLife[n] = 0 }

  :: d_step { mayClaim(n) && mayChange && (isFaulty || calm > 1) -> run_claim(n); check() }
  :: d_step { isFaulty && isUp[n] && faults > 0 -> faults--; crash(n) }
  :: d_step { isFaulty && !isUp[n] && me[n] == 0 -> me[n] = 1; isUp[n] = true }
  od
}

#ifdef M_samenumber
#define NUMBER 1
#else
#define NUMBER changed
#endif
#define isIdle(n) (!beat[n] && call[n] == 0 && stray[n] == 0 \
  && (!isUp[n] || (hasBeaten[n] && !canSeal(n) && !(calm > 1 && mayClaim(n)))))
#if N == 2
#define isQuiet (isIdle(0) && isIdle(1))
#define isServed (acts(0) || acts(1))
#define isAnyUp (isUp[0] || isUp[1])
#else
#define isQuiet (isIdle(0) && isIdle(1) && isIdle(2))
#define isServed (acts(0) || acts(1) || acts(2))
#define isAnyUp (isUp[0] || isUp[1] || isUp[2])
#endif
#ifdef M_noback
#define mayTakeBack false
#else
#define mayTakeBack (move > 0 && leader != NOBODY && (!isUp[to] || calm == CALM - 2))
#endif
#define mayMove(n) (isFaulty && move == 0 && changed < CHANGES && owner != n)
#define mayLead(n) (calm > 1 && leader == NOBODY && isUp[n])

inline order(n) { to = n; changed++; move = NUMBER }

active proctype leaders() {
  do
  :: d_step { mayMove(0) -> order(0) }
  :: d_step { mayMove(1) -> order(1) }
#if N > 2
  :: d_step { mayMove(2) -> order(2) }
#endif
  :: d_step { isFaulty && move > 0 && changed < CHANGES -> move = 0; to = 0; changed++ }
  /* Something else of the record changes: a load, the successors. */
  :: d_step { isFaulty && changed < CHANGES -> changed++ }
#ifdef PROGRESS
  :: d_step { isFaulty && isAnyUp -> calm = 1 }
  :: d_step { isFaulty && isAnyUp -> calm = 1; isStuck = true }
  :: d_step { mayLead(0) -> leader = 0 }
  :: d_step { mayLead(1) -> leader = 1 }
#if N > 2
  :: d_step { mayLead(2) -> leader = 2 }
#endif
  :: d_step { !isFaulty && mayTakeBack -> move = 0; to = 0; changed++ }
  :: d_step { !isFaulty && calm < CALM && isQuiet && !mayTakeBack && (calm == 1 || leader != NOBODY) ->
      calm++;
      EACH(i, N) hasBeaten[i] = false; NEXT(i) }
  :: d_step { calm == CALM && isQuiet -> HOLDS_LAW(served, isServed && move == 0); isOver = true }
#endif
  :: isOver -> break
  od
}
