/* Owning by promises while the store is away, and claiming by consent (OWNERSHIP.md: Failsafe).

   Node 0 holds the range; the others are asked for promises and want to claim it. A store that is away for
   some or for all is one whose replies do not come. The search ends where a claim has been granted and node 0
   knows it: from there on it is the same again with another holder. The member list may lose a member or get
   one, at any instant: what consents a removal takes is not counted, so more is allowed than there is.
   A member's view is taken in when it is made; late ones are in lease.pml. The loss of the store: identity.pml.

   //@ steps   restarts                 -DN=2 -DF=0 -DRESTARTS=2
   //@ steps   added                    -DN=2 -DF=0 -DRESTARTS=2 -DADD
   //@ steps   taken                    -DN=2 -DF=0 -DRESTARTS=2 -DREMOVE
   //@ steps   pair                     -DN=2 -DF=0 -DRESTARTS=2 -DPROGRESS
   //@ steps   short                    -DN=3 -DF=1 -DTTL=2 -DRESTARTS=1
   //@ run     strict                   -DN=3 -DF=0
   //@ run     tolerant                 -DN=3 -DF=1
   //@ run     progress                 -DN=3 -DF=1 -DPROGRESS
   //@ long    removed                  -DN=3 -DF=1 -DREMOVE
   //@ long    anylist                  -DN=3 -DF=1 -DREMOVE -DM_oldlist
   //@ long    forgetful                -DN=3 -DF=1 -DRESTARTS=1
   //@ long    grown                    -DN=3 -DF=1 -DADD
   //@ long    shrunk                   -DN=3 -DF=1 -DREMOVE -DRESTARTS=1
   //@ mutant  margin      one_actor    restarts  no margin
   //@ mutant  reply       one_actor    restarts  promise counted from the answer
   //@ mutant  both        one_actor    tolerant  consent given while a promise runs
   //@ mutant  twice       one_actor    tolerant  promise given after a consent
   //@ mutant  holdfew     one_actor    tolerant  held by N - f - 1
   //@ mutant  claimfew    one_actor    tolerant  claimed with f consents
   //@ mutant  nonews      one_actor    restarts  a promise that does not say what has changed
   //@ mutant  forget      one_actor    restarts  consents of a former life not reckoned with
   //@ mutant  quarantine  one_actor    short     promises of a former life not waited for
   //@ mutant  newmember   one_actor    added     a new member consents at once
   //@ mutant  compare     one_actor    tolerant  claim that does not compare the counter
   //@ mutant  unending    served       progress  a promise that never ends
*/
#include "common.h"
#ifndef F
#define F 0
#endif
#ifndef RESTARTS
#define RESTARTS 0                     /* of members, which forget */
#endif
#define CALM (2 * WAIT + 3)
#define ALL ((1 << N) - 1)
#define LAST (N - 1)                   /* the member that comes or goes */
#define in(list, n) (((list) >> (n)) & 1)

#ifdef ADD
#define FIRST_LIST (ALL - (1 << LAST))
#else
#define FIRST_LIST ALL
#endif

/* The store: the holder's session (counters named as in lease.pml) and the list it shows, the list. */
byte session = 1, sessionList, list = FIRST_LIST, number; bool isClaimed;

/* The holder. Until when by the store, by each member's promise; what it knows. */
bool isUp = true, knowsLost; byte hold, got[N], asked; bool isAsking;
byte myList = FIRST_LIST, myNumber;
bool beat, vClaimed; byte age, vList, vNumber;  /* the reply on its way; see lease.pml */
byte answer[N];                        /* on its way: 1 promised, 2 promised, and the range is lost */

/* A member: the session as last seen, since when, and what it has said. */
byte sight[N] = 1, dead[N], promised[N], quarantine[N], shown[N];
bool hasConsented[N], knowsClaimed[N];
byte itsList[N] = FIRST_LIST, itsNumber[N];
/* As a claimer: consents to what it sees, and its claim on its way. */
byte given[N], claim[N], claimNumber[N];

hidden byte name[2 * N + 2];
byte restarts = RESTARTS, calm; bool isOver; bool hasBeaten, hasSeen[N], hasClaimed[N];
#define isFaulty (calm == 0)

#define SIZE(l) (in(l, 0) + in(l, 1) + in(l, 2))
#define MOST(a, b) ((a) > (b) -> (a) : (b))
#define LEAST(a, b) ((a) < (b) -> (a) : (b))
#ifdef M_holdfew
#define ENOUGH (SIZE(myList) - F - 1)
#else
#define ENOUGH MOST(SIZE(myList) - F, 1)
#endif
#ifdef M_claimfew
#define CONSENTS(l) F
#else
#define CONSENTS(l) LEAST(F + 1, SIZE(l))
#endif

/* Its own promise is as new as its question, and so as new as any other's. */
#define promises(m) (in(myList, m) && got[m] > 0)
#if N == 2
#define PROMISES ((isAsking -> 1 : 0) + promises(1))
#else
#define PROMISES ((isAsking -> 1 : 0) + promises(1) + promises(2))
#endif
#define isActing (isUp && !knowsLost && (hold > 0 || (in(myList, 0) && PROMISES >= ENOUGH)))

#define RENAME(c) if :: c > 0 && name[c] == 0 -> j++; name[c] = j :: else fi; c = name[c]
inline check() {
  HOLDS_LAW(one_actor, !(isClaimed && isActing));
  j = 0;
  EACH(i, 2 * N + 2) name[i] = 0; NEXT(i);
  RENAME(session);
  EACH(i, N) RENAME(sight[i]); RENAME(claim[i]); NEXT(i);
  j = 0
}

inline forget_view() { beat = false; age = 0; vList = 0; vNumber = 0; vClaimed = false }

inline take_view() {
  knowsLost = (knowsLost || vClaimed);
  if :: vNumber >= myNumber -> myNumber = vNumber; myList = vList :: else fi;
  j = HOLD - age;
  if :: age < HOLD && j > hold -> hold = j :: else fi;
  forget_view()
}

inline ask() {
  isAsking = true; asked = 0;
  EACH(i, N) answer[i] = 0; NEXT(i)
}

#ifdef M_twice
#define canPromise(m) (sight[m] > 0)
#else
#define canPromise(m) (sight[m] > 0 && !hasConsented[m])
#endif
inline promise(m) {
#ifdef M_unending
  promised[m] = 200;
#else
  promised[m] = WAIT;
#endif
#ifdef M_nonews
  answer[m] = 1
#else
  answer[m] = (knowsClaimed[m] -> 2 : 1)
#endif
}

inline take_answer(m) {
  if :: answer[m] == 2 -> knowsLost = true :: else fi;
#ifdef M_reply
  got[m] = HOLD;
#else
  if :: HOLD - asked > got[m] -> got[m] = HOLD - asked :: else fi;
#endif
  answer[m] = 0
}

/* What m was added with is known to the holder. */
#if defined(ADD) && !defined(M_newmember)
#define isCountedOn(m) (m != LAST || shown[m] >= 1)
#else
#define isCountedOn(m) true
#endif
#ifdef M_both
#define isFree(m) true
#else
#define isFree(m) (promised[m] == 0)
#endif
#define canConsent(m) (quarantine[m] == 0 && isFree(m) && in(itsList[m], m) && isCountedOn(m))

inline look(m) {
  if
  :: sight[m] == session -> skip
  :: else ->
    /* First seen since its start: what its former life has consented to is not known. */
#ifdef M_forget
    hasConsented[m] = false;
#else
    hasConsented[m] = (sight[m] == 0);
#endif
    sight[m] = session; dead[m] = WAIT; given[m] = 0
  fi;
  shown[m] = MOST(shown[m], sessionList);
  hasClaimed[m] = false; knowsClaimed[m] = isClaimed; itsList[m] = list; itsNumber[m] = number
}

/* c asks m, perhaps itself, for consent. */
#define wantsConsent(c, m) (!hasClaimed[c] && quarantine[c] == 0 && dead[c] == 0 && sight[c] > 0 && !knowsClaimed[c] \
  && !in(given[c], m) && in(itsList[c], m) && canConsent(m) && sight[m] == sight[c])
inline consent(from, by) {
  hasConsented[by] = true;
  given[from] = given[from] | (1 << (by))
}

inline restart(m) {
  sight[m] = 0; dead[m] = 0; promised[m] = 0; hasConsented[m] = false; given[m] = 0; hasClaimed[m] = false; knowsClaimed[m] = false;
#ifdef M_quarantine
  quarantine[m] = 0
#else
  quarantine[m] = WAIT
#endif
}

#ifdef M_oldlist
#define isThatList(c) true
#else
#define isThatList(c) (claimNumber[c] == number && in(list, c))
#endif
#ifdef M_compare
#define isAsWatched(c) true
#else
#define isAsWatched(c) (claim[c] == session)
#endif
inline run_claim(c) {
  if
  :: isAsWatched(c) && isThatList(c) -> isClaimed = true
  :: else
  fi;
  claim[c] = 0; claimNumber[c] = 0
}

#define mayClaim(c) (claim[c] == 0 && !hasClaimed[c] && dead[c] == 0 && sight[c] > 0 && !knowsClaimed[c] \
  && in(itsList[c], c) && SIZE(given[c] & itsList[c]) >= CONSENTS(itsList[c]))

active proctype holder() {
  do
  :: isOver -> break
  :: d_step { isUp && !beat && !hasBeaten ->
      hasBeaten = !isFaulty; session = 2 * N + 1; sessionList = myNumber;
      beat = true; vClaimed = isClaimed; vList = list; vNumber = number; check() }
  :: d_step { isUp && beat -> take_view(); check() }
  :: d_step { isFaulty && beat -> forget_view() }
  :: d_step { isFaulty && isUp && !knowsLost -> ask(); check() }
#ifdef PROGRESS
  :: d_step { isFaulty && isUp -> isUp = false; hold = 0; isAsking = false; asked = 0; knowsLost = false; forget_view();
      EACH(i, N) got[i] = 0; answer[i] = 0; NEXT(i) }
#endif
  od
}

active [N - 1] proctype member() {
  byte m = _pid;                       /* 1 and up: the holder is the first process */
  do
  :: isOver -> break
  :: d_step { !hasSeen[m] -> look(m); hasSeen[m] = !isFaulty; check() }
  :: d_step { isFaulty && isAsking && answer[m] == 0 && in(myList, m) && canPromise(m) -> promise(m) }
  :: d_step { isUp && answer[m] > 0 -> take_answer(m); check() }
  :: d_step { wantsConsent(m, m) -> consent(m, m) }
#if N > 2
  :: d_step { wantsConsent(m, (3 - m)) -> consent(m, 3 - m) }
#endif
  :: d_step { isFaulty && restarts > 0 -> restarts--; restart(m); check() }
  :: d_step { mayClaim(m) -> claim[m] = sight[m]; claimNumber[m] = itsNumber[m]; hasClaimed[m] = true }
  :: d_step { claim[m] > 0 -> run_claim(m); check() }
  :: d_step { isFaulty && claim[m] > 0 -> claim[m] = 0; claimNumber[m] = 0; check() }
  od
}

#if N == 2
#define isUnderWay (beat || answer[1] > 0 || claim[1] > 0)
#else
#define isUnderWay (beat || answer[1] > 0 || answer[2] > 0 || claim[1] > 0 || claim[2] > 0)
#endif
#define isIdle(m) ((answer[m] == 0 || !isUp) && hasSeen[m] && claim[m] == 0 && !mayClaim(m) && !wantsConsent(m, m))
#if N == 2
#define isQuiet (isIdle(1) && !beat && (hasBeaten || !isUp))
#else
#define isQuiet (isIdle(1) && isIdle(2) && !wantsConsent(1, 2) && !wantsConsent(2, 1) && !beat && (hasBeaten || !isUp))
#endif

active proctype clock() {
  do
  :: d_step { calm < CALM && (isFaulty || isQuiet) ->
      DOWN(hold); hasBeaten = false;
      if :: beat -> UP(age, HOLD) :: else fi;
      if :: isAsking -> asked++ :: else fi;
      if :: asked == HOLD -> isAsking = false; asked = 0 :: else fi;
      EACH(i, N)
        DOWN(got[i]); DOWN(dead[i]); DOWN(quarantine[i]); hasSeen[i] = false;
        if :: promised[i] < 200 -> DOWN(promised[i]) :: else fi;
        if :: !isAsking -> answer[i] = 0 :: else fi;
      NEXT(i);
      if :: calm > 0 -> calm++ :: else fi;
      check() }
#ifdef ADD
  :: d_step { isFaulty && number == 0 -> number = 1; list = ALL }
#endif
#ifdef REMOVE
  :: d_step { isFaulty && number == 0 -> number = 1; list = ALL - (1 << LAST) }
#endif
#ifdef PROGRESS
  /* What was under way has run or is lost by then. */
  :: d_step { isFaulty && !isUnderWay && !(knowsLost && isUp) -> calm = 1 }
  :: d_step { calm == CALM && isQuiet -> HOLDS_LAW(served, isClaimed || isActing); isOver = true }
#endif
  :: isOver -> break
  od
}
