/* Direct delivery: is an observer always woken, by its observable or by the controller?  (store_protocol.pxd, _table.pyx)
 *
 * An owner writes a key CHANGES times. An observer begins to observe it, first by way of the controller; when the owner knows the
 * link, the controller leaves it to the owner. It sleeps when there is nothing to do. At the end the observer has
 * seen the last value, whatever came when. Variants, by -D: LINKED: the link is there when the observation begins; PARTS: the
 * controller takes the link back at any time; SLOW: the owner takes the link in late, as its own thread does.
 *
 * step here           function                     file
 * tell                concerns, sleeps             store_protocol.pxd
 * append              ring_append                  store_protocol.pxd
 * publish             slot_publish, commit         store_protocol.pxd
 * arm                 fall_asleep                  store_protocol.pxd
 * disarm              wake_up                      store_protocol.pxd
 * head                ring_head                    store_protocol.pxd
 * version             slot_enter, in_force         store_protocol.pxd
 *
 * Abstracted away: how the controller sleeps, which is the same protocol (tests/kvo/test_models.py): it comes whenever the ring has
 * something; all keys but one; what is in the records; overruns, after which everything is compared; spinning; repair, which
 * only looks more often; weaker memory than TSO.
 */
#ifndef CHANGES
#define CHANGES 2  /* at most */
#endif

/* The words that processes share; 0 is nothing (tso2.pml). */
#define VALUE 1      /* the key's newest count, in force */
#define HEAD 2       /* of the dirty ring */
#define OBSERVED 3   /* the entry's bit */
#define TOLD 4       /* the bit of what the controller tells */
#define LINK 5       /* the link's bit */
#define EPOCH 6      /* of the observer */
#define MARK(n) (6 + (n))  /* of the entries of the dirty ring: the controller has to look */
#define WORDS 9
#define THREADS 3
#include "tso2.pml"

#define OWNER 0
#define CONTROLLER 1
#define OBSERVER 2

chan bell = [4] of { bit };           /* to the observer, by whomever */
chan news = [4] of { byte };          /* from the controller to the observer: a version, or COMPARE */
chan link_up = [2] of { bit };        /* from the controller to the owner: 1 begins to ring, 0 ends */
chan answer = [1] of { bit };         /* and back: it rings */
#define COMPARE 255
byte asked;                           /* by the observer, of the controller; then in force */
byte seen;                            /* by the observer */
bit written;

inline publish() { store(VALUE, count) }

inline append() { store(MARK(count), told); store(HEAD, count) }

/* Owner.tell() */
inline tell() {
#ifndef NO_OWNER_FENCE
  fence();
#endif
  load(OBSERVED, x);
  if
  :: x ->
    load(TOLD, told);
    append();
#ifndef NO_RING_FENCE
    fence();
#endif
    load(LINK, x);
    if
    :: x && linked ->
      load(EPOCH, x);
      if
      :: x % 2 && x != rung -> rung = x; bell!1
      :: else
      fi
    :: else
    fi
  :: else
  fi
}

/* What the owner's own thread does with messages; between two writes, since it holds the same lock. */
inline hear() {
  do
  :: link_up?x ->
    linked = x;
    if
    :: x -> answer!1
    :: else
    fi
  :: len(link_up) == 0 -> break
#ifdef SLOW
  :: break
#endif
  od
}

active proctype owner() {
  byte me = OWNER, count, x, told, rung;
  bit linked;
#ifdef LINKED
  linked = 1;
#endif
  do
  :: count < CHANGES -> hear(); count++; publish(); tell()
  :: else -> break
  od;
  fence();
  written = 1;
end:
  do
  :: link_up?x ->
    linked = x;
    if
    :: x -> answer!1
    :: else
    fi
  od
}

/* Monitor.called(): whether an entry that was not looked at is marked. */
#define CALLED(n) (mem[HEAD] >= n && tail < n && mem[MARK(n)])

/* Catalog.look(): tells of what is in the ring, if the observer has to be told. */
inline look() {
  load(HEAD, x);
  do
  :: tail < x ->
    tail++;
    if
    :: tells -> news!tail; bell!1
    :: else
    fi
  :: else -> break
  od
}

/* Catalog.register() */
inline register() {
  look();
#ifdef LINKED
#ifndef LINK_LATE
  store(LINK, 1); fence();
#endif
#else
  store(LINK, 1); fence();
  link_up!1;
  tells = 1;
  store(TOLD, 1); fence();
#endif
  store(OBSERVED, 1);
#ifndef NO_FLAG_FENCE
  fence();
#endif
#ifdef LINK_LATE
  asked = 2; news!COMPARE; bell!1;
  store(LINK, 1); fence();
#else
  asked = 2; news!COMPARE; bell!1  /* Observed: the observer looks */
#endif
}

/* Catalog.linked() */
inline hand_over() {
#ifndef NO_LOOK
  look();
#endif
  tells = 0;
  store(TOLD, 0); fence()
}

/* Catalog._part() */
inline part() {
  parted = 1;
  store(LINK, 0); fence();
  link_up!0;
  tells = 1;
  store(TOLD, 1);
  fence();
#ifndef NO_COMPARE
  news!COMPARE; bell!1
#endif
}

active proctype controller() {
  byte me = CONTROLLER, x, tail;
  bit tells, parted, ready;
#ifdef LINKED
  ready = 1;
#endif
end:
  do
  :: asked == 1 -> register()
  :: answer?x ->
    if
    :: !parted -> hand_over(); ready = 1
    :: else
    fi
#ifdef PARTS
  :: asked == 2 && !parted && ready -> part()
#endif
  :: CALLED(1) || CHANGES > 1 && CALLED(2) -> look()
  od
}

inline version() { load(VALUE, x); if :: x > seen -> seen = x :: else fi }

inline head() { load(HEAD, x) }

inline arm() {
  epoch++; store(EPOCH, epoch);
#ifndef NO_SLEEPER_FENCE
  fence()
#endif
}

inline disarm() { epoch++; store(EPOCH, epoch); fence() }

active proctype observer() {
  byte me = OBSERVER, x, tail, epoch;
  asked = 1;
end:
  do
  :: true ->
    do  /* takes in what there is */
    :: news?x -> version()
    :: len(news) == 0 ->
      head();
      if
      :: x != tail -> tail = x; version()
      :: else -> break
      fi
    od;
    arm();
#ifndef NO_SECOND_LOOK
    head();
#else
    x = tail;
#endif
    if
    :: x == tail && len(news) == 0 ->
end_asleep: bell?x
    :: else
    fi;
    disarm()
  od
}

/* When nobody can go on, the last value has been seen. */
active proctype judge() {
  byte i;
  timeout;
  assert(asked == 2 && written && seen == CHANGES)
}
