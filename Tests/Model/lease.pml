/* Sessions, claims and epochs of one range (OWNERSHIP.md: Time, Claims, Stop).

   Left out: other ranges (their rules are the same and they share nothing but the one deadline), the order
   of claimers (any may come first), the store's loss (identity.pml), moves (move.pml).

   //@ run     late                     -DFAULTS=1 -DEPOCHS=3
   //@ run     lives                    -DFAULTS=2 -DEPOCHS=2
   //@ run     frail                    -DFAULTS=3 -DEPOCHS=3 -DTTL=2 -DFRAIL=1
   //@ run     progress                 -DFAULTS=1 -DEPOCHS=2 -DPROGRESS
   //@ steps   short                    -DFAULTS=1 -DEPOCHS=2 -DTTL=2
   //@ steps   calm                     -DFAULTS=0 -DEPOCHS=1 -DPROGRESS
   //@ long    both                     -DFAULTS=2 -DEPOCHS=3
   //@ long    slow                     -DFAULTS=1 -DEPOCHS=3 -DTTL=4
   //@ mutant  reply       one_actor    lives     deadline counted from the reply
   //@ mutant  margin      one_actor    lives     no margin
   //@ mutant  compare     one_actor    lives     claim that does not compare the counter
   //@ mutant  epoch       epoch_grows  lives     epoch used again
   //@ mutant  release     one_actor    lives     released before stopped
   //@ mutant  oldrelease  one_actor    frail     release of a former life accepted
   //@ mutant  oldlife     one_actor    frail     heartbeat of a former life accepted
   //@ mutant  oldreply    one_actor    late      late reply believed
   //@ mutant  twice       one_actor    lives     a heartbeat that runs twice
   //@ mutant  order       one_actor    lives     deadline moved before the reply is taken in
   //@ mutant  deaf        served       progress  nobody watches the owner
*/
#include "common.h"
#ifndef EPOCHS
#define EPOCHS 3                       /* highest epoch while there are faults */
#endif
#ifndef FAULTS
#define FAULTS 2                       /* crashes, stops, heartbeats that run late; lost replies are free */
#endif
#ifndef FRAIL
#define FRAIL N                        /* nodes with faults */
#endif
#define NAMES (3 * N)
#define LIVES 2                        /* processes of one node, one after the other */
#define CALM (WAIT + 2)                /* ticks after the last fault within which the range is served */

/* The store. A counter is only ever compared for equality, and each heartbeat that runs brings a new one: so
   those that somebody remembers are named by small numbers. 0: no session. */
byte owner = 0, ownerLife = 0, epoch = 1;
hidden byte name[NAMES];
byte session[N] = 1, life[N]; bool released[N];

#ifdef M_twice
byte again[N];
#endif

/* A node. */
bool isUp[N] = true; byte me[N];       /* its life */
byte hold[N];                          /* ticks for which it may act */
byte tOwner[N], tLife[N], tEpoch[N] = 1;  /* the range as last seen */
byte watched[N * N], dead[N * N]; bool gone[N * N];  /* peers: counter, ticks until dead, released */
bool hasClaimed[N];                    /* since the last view */

/* The heartbeat's reply on its way: it runs when it is sent, for one that runs later gives a shorter lease. A
   claim: 1 on its way, 2 its reply is. */
bool beat[N]; byte age[N];
byte vOwner[N], vLife[N], vEpoch[N], vSession[N * N]; bool vReleased[N * N];
byte stray[N];                         /* 1 + the life of one that was given up, and may run yet */
byte claim[N], claimLife[N], claimFrom[N], claimOf[N], rOwner[N], rLife[N], rEpoch[N];
byte release[N];                       /* 1 + the life that asks for it */

byte faults = FAULTS; byte calm; bool isOver; bool hasBeaten[N];

#define holds(n) (isUp[n] && tOwner[n] == n && tLife[n] == me[n])
#define acts(n) (holds(n) && hold[n] > 0)

/* Renames c[n] to the least name that follows those in use. */
#define RENAME(c) if :: c > 0 && name[c] == 0 -> j++; name[c] = j :: else fi; c = name[c]

/* Names the counters of n in the order in which they stand here: states that differ in names only are one. */
inline rename(n) {
  j = 0;
  EACH(i, NAMES) name[i] = 0; NEXT(i);
  RENAME(session[n]);
  EACH(i, N)
    RENAME(watched[i * N + n]); RENAME(vSession[i * N + n]);
    if :: claim[i] == 1 && claimFrom[i] == n -> RENAME(claimOf[i]) :: else fi;
  NEXT(i);
#ifdef M_twice
  RENAME(again[n]);
#endif
  j = 0
}

inline check() {
  i = 0; j = 0;
  do
  :: i < N ->
    if :: acts(i) -> j++; HOLDS_LAW(true_epoch, tEpoch[i] <= epoch) :: else fi;
  NEXT(i);
  HOLDS_LAW(one_actor, j <= 1);
  EACH(k, N) rename(k) NEXT(k)
}

/* A heartbeat of life l runs in the store. */
inline run_beat(n, l) {
#ifdef M_oldlife
  if
  :: true ->
#else
  if
  :: l < life[n] -> skip
  :: else ->
#endif
    session[n] = NAMES - 1; life[n] = l; released[n] = false
  fi
}

inline look(n) {
  beat[n] = true; vOwner[n] = owner; vLife[n] = ownerLife; vEpoch[n] = epoch;
  EACH(i, N)
    if
    :: i != n -> vSession[n * N + i] = session[i]; vReleased[n * N + i] = released[i]
    :: else
    fi;
  NEXT(i)
}

inline forget_view(n) {
  beat[n] = false; age[n] = 0; vOwner[n] = 0; vLife[n] = 0; vEpoch[n] = 0;
  EACH(i, N) vSession[n * N + i] = 0; vReleased[n * N + i] = false;
  NEXT(i)
}

/* The reply is taken in whole; only then is the deadline moved. One that is older than what has been seen
   counts for nothing. */
inline take_view(n) {
  if
  :: vEpoch[n] < tEpoch[n] -> skip
  :: else ->
#ifdef M_order
    /* What is lost is noticed by the next reply only. */
    if :: vOwner[n] == n -> tOwner[n] = n; tLife[n] = vLife[n]; tEpoch[n] = vEpoch[n] :: else fi;
#else
    tOwner[n] = vOwner[n]; tLife[n] = vLife[n]; tEpoch[n] = vEpoch[n];
#endif
    EACH(i, N)
      if
      :: i == n -> skip
      :: else ->
        gone[n * N + i] = vReleased[n * N + i];
        if
        :: vSession[n * N + i] != watched[n * N + i] ->
          watched[n * N + i] = vSession[n * N + i]; dead[n * N + i] = WAIT
        :: else
        fi
      fi;
    NEXT(i);
#ifdef M_reply
    hold[n] = HOLD;
#else
    j = HOLD - age[n];
    if :: age[n] < HOLD && j > hold[n] -> hold[n] = j :: else fi;
#endif
    hasClaimed[n] = false
  fi;
  forget_view(n)
}

#define isDead(n, p) (gone[n * N + p] || dead[n * N + p] == 0)
#ifdef M_deaf
#define claimable(n) (tOwner[n] == NOBODY || (tOwner[n] == n && tLife[n] != me[n]))
#else
#define claimable(n) (tOwner[n] == NOBODY || (tOwner[n] == n && tLife[n] != me[n]) \
  || (tOwner[n] != n && tOwner[n] != NOBODY && isDead(n, tOwner[n])))
#endif
#define mayClaim(n) (isUp[n] && claim[n] == 0 && !hasClaimed[n] && claimable(n))

inline send_claim(n) {
  claim[n] = 1; claimLife[n] = me[n]; claimFrom[n] = tOwner[n]; hasClaimed[n] = true;
  if :: tOwner[n] != n && tOwner[n] != NOBODY -> claimOf[n] = watched[n * N + tOwner[n]] :: else fi
}

inline grant(n) {
  j = epoch;
#ifndef M_epoch
  epoch++;
#endif
  HOLDS_LAW(epoch_grows, epoch > j);
  owner = n; ownerLife = claimLife[n]
}

#ifdef M_compare
#define isAsWatched(n) true
#else
#define isAsWatched(n) (session[owner] == claimOf[n] || released[owner])
#endif
inline run_claim(n) {
  if
  :: life[n] != claimLife[n] || released[n] -> skip
  :: else ->
    if
    :: owner == n && ownerLife == claimLife[n] -> skip
    :: owner == n && ownerLife < claimLife[n] -> grant(n)
    :: owner != n && owner == claimFrom[n] && isAsWatched(n) -> grant(n)
    :: else
    fi
  fi;
  claim[n] = 2; claimFrom[n] = 0; claimOf[n] = 0;
  rOwner[n] = owner; rLife[n] = ownerLife; rEpoch[n] = epoch
}

inline forget_claim(n) {
  claim[n] = 0; claimLife[n] = 0; claimFrom[n] = 0; claimOf[n] = 0; rOwner[n] = 0; rLife[n] = 0; rEpoch[n] = 0
}

inline take_claim(n) {
  if
#ifdef M_oldreply
  :: true ->
#else
  :: rEpoch[n] >= tEpoch[n] ->
#endif
    tOwner[n] = rOwner[n]; tLife[n] = rLife[n]; tEpoch[n] = rEpoch[n]
  :: else
  fi;
  forget_claim(n)
}

/* The process is gone; what it has sent may still run. */
inline end_process(n) {
  isUp[n] = false; hold[n] = 0; tOwner[n] = 0; tLife[n] = 0; tEpoch[n] = 0; hasClaimed[n] = false;
  EACH(i, N) watched[n * N + i] = 0; dead[n * N + i] = 0; gone[n * N + i] = false;
  NEXT(i)
}

#define isFaulty (calm == 0)
#define knows(n) (tEpoch[n] > 0)
#define mayFail (isFaulty && faults > 0)
#ifdef PROGRESS
#define mayStray false                 /* what is late is as good as lost once it has run */
#else
#define mayStray (faults > 0)
#endif

active [N] proctype node() {
  byte n = _pid;
  do
  :: isOver -> break
  :: d_step { isUp[n] && !beat[n] && !hasBeaten[n] -> hasBeaten[n] = !isFaulty; run_beat(n, me[n]); look(n); check() }
  :: d_step { isUp[n] && beat[n] -> take_view(n); check() }
  :: d_step { isFaulty && beat[n] -> forget_view(n); check() }
  :: d_step { n < FRAIL && mayFail && mayStray && isUp[n] && !beat[n] && stray[n] == 0 -> stray[n] = 1 + me[n]; faults-- }
  :: d_step { stray[n] > 0 -> run_beat(n, stray[n] - 1); stray[n] = 0; check() }
#ifdef M_twice
  :: d_step { n < FRAIL && mayFail && again[n] == 0 && beat[n] && session[n] > 0 -> again[n] = session[n]; faults-- }
  :: d_step { again[n] > 0 -> session[n] = again[n]; again[n] = 0; check() }
#endif

  :: d_step { mayClaim(n) && knows(n) && (calm > 0 || epoch < EPOCHS) -> send_claim(n); check() }
  :: d_step { claim[n] == 1 && (calm > 0 || epoch < EPOCHS) -> run_claim(n); check() }
  :: d_step { isUp[n] && claim[n] == 2 && claimLife[n] == me[n] -> take_claim(n); check() }
  :: d_step { claim[n] > 0 && (isFaulty || !isUp[n] || claimLife[n] != me[n]) -> forget_claim(n); check() }

  /* Stop first, then release. */
  :: d_step { n < FRAIL && mayFail && isUp[n] && knows(n) && release[n] == 0 ->
      release[n] = 1 + me[n]; faults--;
#ifndef M_release
      forget_view(n); end_process(n);
#endif
      check() }
  :: d_step { release[n] > 0 ->
      if
#ifdef M_oldrelease
      :: true ->
#else
      :: life[n] == release[n] - 1 ->
#endif
        released[n] = true
      :: else
      fi;
      release[n] = 0 }
  :: d_step { isFaulty && release[n] > 0 -> release[n] = 0 }

  /* A crash, and the node's next life. */
  :: d_step { n < FRAIL && mayFail && isUp[n] -> faults--; forget_view(n); end_process(n); check() }
  :: d_step { isFaulty && !isUp[n] && me[n] + 1 < LIVES -> me[n]++; isUp[n] = true }
  od
}

/* With no faults, whatever is due is done before the next tick. */
#define isIdle(n) (isSilent(n) && (!isUp[n] || (hasBeaten[n] && !mayClaim(n))))
#define isSilent(n) (!beat[n] && claim[n] == 0 && stray[n] == 0 && release[n] == 0)
#if N == 2
#define isUnderWay (!(isSilent(0) && isSilent(1)))
#define isQuiet (isIdle(0) && isIdle(1))
#define isServed (acts(0) || acts(1))
#define isAnyUp (isUp[0] || isUp[1])
#else
#define isUnderWay (!(isSilent(0) && isSilent(1) && isSilent(2)))
#define isQuiet (isIdle(0) && isIdle(1) && isIdle(2))
#define isServed (acts(0) || acts(1) || acts(2))
#define isAnyUp (isUp[0] || isUp[1] || isUp[2])
#endif

active proctype clock() {
  do
  :: d_step { calm < CALM && (isFaulty || isQuiet) ->
      EACH(i, N * N) DOWN(dead[i]);
  NEXT(i);
      EACH(i, N) DOWN(hold[i]); if :: beat[i] -> UP(age[i], HOLD) :: else fi; hasBeaten[i] = false;
  NEXT(i);
      if :: calm > 0 -> calm++ :: else fi }
#ifdef PROGRESS
  /* What was under way has run or is lost by then. */
  :: d_step { isFaulty && isAnyUp && !isUnderWay -> calm = 1 }
#endif
  :: d_step { calm == CALM && isQuiet -> HOLDS_LAW(served, isServed); isOver = true }
  :: isOver -> break
  od
}
