/* A store that loses what it knew: emptied, or set back to an earlier state (OWNERSHIP.md: Identity, Claims).

   Each loss gives the store another identity. It is set back to how it was in the beginning, record and
   sessions or sessions only (ANYTIME: to any instant). Lost replies and pauses are as in lease.pml, crashes and former lives are left out there.
   Left out: promises and consents against a holder that has not met the new store (f = 0 and nobody
   cut off from the store for longer than a lease); a split store, which no client can see.

   //@ run     once                     -DGRANTS=1
   //@ run     again                    -DGRANTS=2 -DTTL=2
   //@ run     progress                 -DGRANTS=1 -DPROGRESS
   //@ steps   short                    -DGRANTS=1 -DTTL=2
   //@ steps   claimless                -DGRANTS=0 -DPROGRESS
   //@ steps   instant                  -DGRANTS=0 -DTTL=2 -DANYTIME
   //@ long    grants                   -DGRANTS=2
   //@ long    twice                    -DGRANTS=1 -DLOSSES=2
   //@ long    anytime                  -DGRANTS=1 -DANYTIME
   //@ long    watched                  -DGRANTS=1 -DM_forget
   //@ mutant  quarantine  one_actor    once      no quarantine
   //@ mutant  oldstory    one_actor    once      a record of another store acted by
   //@ mutant  unsure      one_actor    once      acts on while the new store has not confirmed
   //@ mutant  fenced      one_actor|epoch_grows once  a fenced node asserts what it held
   //@ mutant  otherstore  one_actor    once      a call made for another store is carried out
   //@ mutant  hint        epoch_grows  once      claim without a hint
   //@ mutant  jump        epoch_grows  again     no leap of epochs over what may have been lost
   //@ mutant  anyone      one_actor|epoch_grows once  assertion taken whoever has the range in this store
   //@ mutant  mute        served       progress  what is held is not asserted, nor claimed
*/
#include "common.h"
#ifndef LOSSES
#define LOSSES 1
#endif
#ifndef GRANTS
#define GRANTS 2                       /* while there are faults */
#endif
#define LEAP (GRANTS + 1)              /* beyond all that can be granted between two looks; really 2^20 */
#define START (LEAP + 2)               /* the first epoch: a history that no leap makes up for */
#define CALM (2 * WAIT + 3)
#define NAMES (4 * N + 2)
#define NO 9                           /* no store: who has never been in one */

/* The store: which one, the record with the store its owner got it in, sessions; and how it was once. */
byte store, owner, epoch = START, ofStore, session[N] = 1;
byte wasOwner, wasEpoch = START, wasOf, wasSession[N] = 1;
byte top = START;                      /* the highest epoch ever granted; nobody knows it */
byte losses = LOSSES, grants = GRANTS;

/* A node: the store it knows, the record, and what it makes of it. */
byte knows[N], tOwner[N], tEpoch[N] = START, tOf[N], highest[N] = START;
#define NONE 0
#define HELD 1
#define UNSURE 2                       /* held by the word of a store that is no more */
byte phase[N], myEpoch[N], hold[N], quarantine[N], watched[N * N], dead[N * N];
bool isUp[N] = true, hasClaimed[N];

/* A heartbeat's reply on its way (it runs when it is sent: one that runs later gives a shorter lease). A call: 1 a claim, 2 an assertion; what came of it shows in the next
   view (that a late reply does no harm is in lease.pml and move.pml). */
bool beat[N]; byte age[N], vStore[N], vOwner[N], vEpoch[N], vOf[N], vSession[N * N];
byte call[N], callStore[N], callEpoch[N], callFrom[N], callOf[N];

hidden byte name[NAMES];
byte calm; bool isOver, hasBeaten[N];
#define isFaulty (calm == 0)

#ifdef M_unsure
#define acts(n) (isUp[n] && hold[n] > 0 && phase[n] != NONE)
#else
#define acts(n) (isUp[n] && hold[n] > 0 && phase[n] == HELD)
#endif

#define RENAME(c) if :: c > 0 && name[c] == 0 -> j++; name[c] = j :: else fi; c = name[c]
inline rename(n) {
  j = 0;
  EACH(i, NAMES) name[i] = 0; NEXT(i);
  RENAME(session[n]); RENAME(wasSession[n]);
  EACH(i, N)
    RENAME(watched[i * N + n]); RENAME(vSession[i * N + n]);
    if :: call[i] == 1 && callFrom[i] == n -> RENAME(callOf[i]) :: else fi;
  NEXT(i);
  j = 0
}

inline check() {
  j = 0;
  EACH(i, N)
    if :: acts(i) -> j++ :: else fi;
    if :: phase[i] == NONE -> myEpoch[i] = 0 :: else fi;
  NEXT(i);
  HOLDS_LAW(one_actor, j <= 1);
  EACH(k, N) rename(k) NEXT(k)
}

inline lose(anOwner, anEpoch, aStore) {
  store++; losses--; owner = anOwner; epoch = anEpoch; ofStore = aStore;
  EACH(i, N) session[i] = wasSession[i]; wasSession[i] = 0; NEXT(i);
  wasOwner = 0; wasEpoch = 0; wasOf = 0
}

inline forget_view(n) {
  beat[n] = false; age[n] = 0; vStore[n] = 0; vOwner[n] = 0; vEpoch[n] = 0; vOf[n] = 0;
  EACH(i, N) vSession[n * N + i] = 0; NEXT(i)
}
inline forget_call(n) {
  call[n] = 0; callStore[n] = 0; callEpoch[n] = 0; callFrom[n] = 0; callOf[n] = 0
}

inline run_beat(n) {
  session[n] = NAMES - 1; beat[n] = true;
  vStore[n] = store; vOwner[n] = owner; vEpoch[n] = epoch; vOf[n] = ofStore; 
  EACH(i, N) if :: i != n -> vSession[n * N + i] = session[i] :: else fi; NEXT(i)
}

/* Another store: what was held by the word of the former is unsure, and gone if the node may not act now. */
#ifdef M_fenced
#define FENCED UNSURE
#else
#define FENCED NONE
#endif
inline meet(n, aStore, then) {
  if :: phase[n] != NONE -> phase[n] = then :: else fi;
  knows[n] = aStore; hasClaimed[n] = false;
#ifndef M_quarantine
  quarantine[n] = WAIT;
#endif
#ifndef M_forget
  EACH(i, N) if :: i != n -> watched[n * N + i] = 0; dead[n * N + i] = WAIT :: else fi; NEXT(i);
#endif
  skip
}

#ifdef M_oldstory
#define isCurrent(n) true
#else
#define isCurrent(n) (tOf[n] == knows[n])
#endif
inline take_record(n, anOwner, anEpoch, aStore) {
  tOwner[n] = anOwner; tEpoch[n] = anEpoch; tOf[n] = aStore;
  if :: anEpoch > highest[n] -> highest[n] = anEpoch :: else fi;
  if
  :: isCurrent(n) && tOwner[n] == n -> phase[n] = HELD; myEpoch[n] = tEpoch[n]
  :: isCurrent(n) && tOwner[n] != n -> phase[n] = NONE
  :: else
  fi
}

inline take_view(n, then) {
  if :: vStore[n] != knows[n] -> meet(n, vStore[n], then) :: else fi;
  take_record(n, vOwner[n], vEpoch[n], vOf[n]);
  EACH(i, N)
    if
    :: i != n && vSession[n * N + i] != watched[n * N + i] ->
      watched[n * N + i] = vSession[n * N + i]; dead[n * N + i] = WAIT
    :: else
    fi;
  NEXT(i);
  j = HOLD - age[n];
  if :: age[n] < HOLD && j > hold[n] -> hold[n] = j :: else fi;
  hasClaimed[n] = false;
  forget_view(n)
}

#ifdef M_mute
#define mayTry(n) false
#else
#define mayTry(n) (isUp[n] && call[n] == 0 && !hasClaimed[n])
#endif
#define mayAssert(n) (mayTry(n) && phase[n] == UNSURE)
#define isDead(n, p) (dead[n * N + p] == 0)
#define mayClaim(n) (mayTry(n) && quarantine[n] == 0 \
  && !(isCurrent(n) && tOwner[n] == n) && (tOwner[n] == n || tOwner[n] == NOBODY || isDead(n, tOwner[n])))

inline send(n, what, anEpoch) {
  call[n] = what; callStore[n] = knows[n]; callEpoch[n] = anEpoch; callFrom[n] = tOwner[n]; hasClaimed[n] = true;
  if :: what == 1 && tOwner[n] < N -> callOf[n] = watched[n * N + tOwner[n]] :: else fi
}

#ifdef M_otherstore
#define isMeant(n) true
#else
#define isMeant(n) (callStore[n] == store)
#endif
#ifdef M_jump
#define STEP 1
#else
#define STEP (ofStore == store -> 1 : LEAP)
#endif

#define isFreeFor(n) (owner == n || owner == NOBODY || (owner == callFrom[n] && session[owner % N] == callOf[n]))
inline run_claim(n) {
  if
  :: isMeant(n) && !(owner == n && ofStore == store) && isFreeFor(n) ->
    k = (callEpoch[n] > epoch -> callEpoch[n] : epoch);
    epoch = k + STEP; owner = n; ofStore = store;
    if :: isFaulty -> grants-- :: else fi;
    HOLDS_LAW(epoch_grows, epoch > top);
    top = epoch
  :: else
  fi;
  forget_call(n)
}

/* Taken unless somebody has got the range in this store, or had it under as high an epoch before. */
#ifdef M_anyone
#define isOthers(n) false
#else
#define isOthers(n) (owner != n && (owner == NOBODY -> epoch > callEpoch[n] : ofStore == store || epoch >= callEpoch[n]))
#endif
inline run_assertion(n) {
  if
  :: isMeant(n) && session[n] > 0 && !isOthers(n) && !(owner == n && ofStore == store) ->
    if :: owner != n || epoch < callEpoch[n] -> epoch = callEpoch[n] :: else fi;
    owner = n; ofStore = store
  :: else
  fi;
  forget_call(n)
}

active [N] proctype node() {
  byte n = _pid;
  do
  :: isOver -> break
  :: d_step { isUp[n] && !beat[n] && !hasBeaten[n] -> hasBeaten[n] = !isFaulty; run_beat(n); check() }
  :: d_step { beat[n] && (vStore[n] == knows[n] || hold[n] > 0 || phase[n] == NONE) -> take_view(n, UNSURE); check() }
  /* Fenced, if only by a clock that runs fast. */
  :: d_step { beat[n] && vStore[n] != knows[n] && phase[n] != NONE -> take_view(n, FENCED); check() }
  :: d_step { isFaulty && beat[n] -> forget_view(n); check() }
  :: d_step { mayAssert(n) -> send(n, 2, myEpoch[n]) }
#ifdef M_hint
  :: d_step { mayClaim(n) && (grants > 0 || !isFaulty) -> send(n, 1, 0); check() }
#else
  :: d_step { mayClaim(n) && (grants > 0 || !isFaulty) -> send(n, 1, highest[n]); check() }
#endif
  :: d_step { call[n] == 1 && (grants > 0 || !isFaulty) -> run_claim(n); check() }
  :: d_step { call[n] == 2 -> run_assertion(n); check() }
  :: d_step { isFaulty && call[n] > 0 -> forget_call(n); check() }
  od
}

#define isIdle(n) (!beat[n] && call[n] == 0 && (!isUp[n] || (hasBeaten[n] && !mayClaim(n) && !mayAssert(n))))
#if N == 2
#define isQuiet (isIdle(0) && isIdle(1))
#define isServed (acts(0) || acts(1))
#else
#define isQuiet (isIdle(0) && isIdle(1) && isIdle(2))
#define isServed (acts(0) || acts(1) || acts(2))
#endif
#define isSilent (!beat[0] && !beat[1] && call[0] == 0 && call[1] == 0)

active proctype world() {
  do
  :: d_step { calm < CALM && (isFaulty || isQuiet) ->
      EACH(i, N * N) DOWN(dead[i]); NEXT(i);
      EACH(i, N)
        DOWN(hold[i]); DOWN(quarantine[i]); hasBeaten[i] = false;
        if :: beat[i] -> UP(age[i], HOLD) :: else fi;
      NEXT(i);
      if :: calm > 0 -> calm++ :: else fi;
      check() }
  /* Set back whole, its sessions only, and emptied (the leader has made the range anew). */
  :: d_step { isFaulty && losses > 0 -> lose(wasOwner, wasEpoch, wasOf); check() }
  :: d_step { isFaulty && losses > 0 -> lose(owner, epoch, ofStore); check() }
  :: d_step { isFaulty && losses > 0 -> EACH(i, N) wasSession[i] = 0; NEXT(i); lose(NOBODY, 0, NO); check() }
#ifdef ANYTIME
  :: d_step { isFaulty && losses > 0 ->
      wasOwner = owner; wasEpoch = epoch; wasOf = ofStore;
      EACH(i, N) wasSession[i] = session[i]; NEXT(i) }
#endif
#ifdef PROGRESS
  /* What was under way has run or is lost by then; one node or none is dead. */
  :: d_step { isFaulty && isSilent -> calm = 1 }
  :: d_step { isFaulty && isSilent -> calm = 1; isUp[0] = false; hold[0] = 0; phase[0] = NONE; check() }
  :: d_step { calm == CALM && isQuiet -> HOLDS_LAW(served, isServed); isOver = true }
#endif
  :: isOver -> break
  od
}
