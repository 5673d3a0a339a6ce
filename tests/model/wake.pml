/* Sleeping and waking: is a sleeper always woken?  (doorbell.pxd, wait.pxd, the loops of stream.pxd)
 *
 * Threads of side 1 send MESSAGES bytes each into a ring of SIZE bytes, threads of side 0 receive them; then the
 * last sender shuts down. Whoever finds the ring empty or full sleeps on its kernel socket, where nothing but
 * doorbell bytes arrives. A sleeper fences everywhere, or has wished for fences and done so since that turn began; who
 * publishes may take the wish back whenever it has seen it (fence.pml: what threads of one side know of each other's). Variants, by -D:  READERS=2, WRITERS=2: threads (or forked processes) that share a side;
 * HEAVY: no membarrier, both sides fence; UNSEEN: the receiver waits with select() on the bare descriptor, unknown
 * to us; ROOM=n: the kernel socket takes n bells, then EAGAIN.
 *
 * step here           function                     file
 * receive_once        receive_on                   receiving.pxd     (ring_look, ring_read: ring.pxd)
 * send_once           send_live                    sending.pxd     (ring_write: ring.pxd)
 * shut                life_shutdown                life.pxd
 * ring_bell           ring_bell, send_bell, put_bell  doorbell.pxd
 * want                want, arm, fenced            doorbell.pxd
 * publish_fence       fence_after_publishing, fence_as_wished  doorbell.pxd
 * slot_take           slot_take, slot_give         doorbell.pxd
 * drainable           drainable                    doorbell.pxd
 * drain               drain, take_bytes            doorbell.pxd, ancillary.pxd
 * settled             settled                      doorbell.pxd
 * settle              settle                       doorbell.pxd
 * wait_data           sleep_for_data               wait.pxd
 * wait_space          wait_space                   room.pxd        (as unlimited as poll_mixed, poller.pxd, for POLLOUT)
 *
 * Abstracted away: spinning (another look at the ring); the caches of the peer's index; one message is one byte;
 * copying; epoll sets, whose
 * registrations hold slots as threads do; timeouts and slices, which only wake more often; the peer's death
 * (cutover.pml); weaker
 * memory than TSO; the turns of 32-bit counts.
 */
#ifndef MESSAGES
#define MESSAGES 3
#endif
#ifndef SIZE
#define SIZE 2
#endif
#ifndef READERS
#define READERS 1
#endif
#ifndef WRITERS
#define WRITERS 1
#endif
#ifndef ROOM
#define ROOM 250
#endif

#define DATA 1
#define SPACE 2
#define SHUT_WR 2
#define FENCE 4
#define TURN 8

#define SHARED (side == 0 && READERS > 1 || side == 1 && WRITERS > 1)
#define THREADS (READERS + WRITERS)

#ifdef UNSEEN
#define TAKES_BELL (side != 0)
#else
#define TAKES_BELL (!SHARED)
#endif

/* The words of a side, as in struct kvo_side; the bytes of its outgoing ring. */
#define SIDE (14 + SIZE)
#define TAIL(s) ((s) * SIDE)
#define HEAD(s) ((s) * SIDE + 1)
#define WAIT(s) ((s) * SIDE + 2)
#define RUNG(s) ((s) * SIDE + 3)
#define DRAINED(s) ((s) * SIDE + 4)
#define FLAGS(s) ((s) * SIDE + 5)
#define SEND_LOCK(s) ((s) * SIDE + 6)
#define RECV_LOCK(s) ((s) * SIDE + 7)
#define KERNEL_LOCK(s) ((s) * SIDE + 8)
#define OWNER(s, k) ((s) * SIDE + 9 + (k))
#define FLOOR(s, k) ((s) * SIDE + 11 + (k))
#define FENCED(s) ((s) * SIDE + 13)  /* the process's own memory: its threads share it */
#define BYTE(s, at) ((s) * SIDE + 14 + (at) % SIZE)
#define WORDS (2 * SIDE)
#define DEPTH 4

#include "tso.pml"

byte bells[2];      /* doorbell bytes in the kernel socket of each side */
byte senders[2];    /* threads that have not sent everything yet */
byte finished;

inline lock(address) {
  if
  :: SHARED -> d_step { mem[address] == 0 -> drain_buffer(me); mem[address] = me + 1 }
  :: else
  fi
}
inline unlock(address) {
  if
  :: SHARED -> store(address, 0)
  :: else
  fi
}

/* ---- doorbell.pxd ---- */

/* v: the peer's wishes as they are after the fence. */
inline publish_fence() {
#ifdef RING_FIRST
  skip
#else
#ifdef HEAVY
#ifndef NO_FENCE
  fence();
#endif
  load(WAIT(peer), v)
#else
  load(WAIT(peer), v);
  if
  :: v & FENCE ->
#ifndef NO_FENCE
    fence();
#endif
    load(WAIT(peer), v);
    if
    :: skip
    :: clear_bits(WAIT(peer), FENCE, before); before = 0
    fi
  :: else
  fi
#endif
#endif
}

inline want(bits) {
#if defined(NO_SLEEPER_FENCE)
  load(WAIT(side), v); store(WAIT(side), v | (bits));
#elif defined(LOOK_BEFORE_ARM)
  load(WAIT(side), v); set_bits(WAIT(side), bits);
#else
  fetch_or(WAIT(side), bits, v);
#endif
#ifndef HEAVY
  load(FENCED(side), before);
  if
  :: v & FENCE && (v & ~3) == before
  :: else ->
    /* the compare-and-swap of arm(): begins a turn, or finds one begun */
    d_step {
      drain_buffer(me);
      if
      :: mem[WAIT(side)] & FENCE
      :: else -> mem[WAIT(side)] = (mem[WAIT(side)] + TURN) | FENCE
      fi;
      v = mem[WAIT(side)] & ~3
    };
#ifndef NO_MEMBARRIER
    membarrier();
#endif
    store(FENCED(side), v)
  fi;
  v = 0; before = 0
#endif
}

inline ring_bell(what) {
#ifdef NO_SWAP
  load(WAIT(peer), v); store(WAIT(peer), v & ~(what)); fence();
#else
  clear_bits(WAIT(peer), what, v);
#endif
  if
  :: v & (what) ->
    add(RUNG(peer), 1);
    do
    :: load(DRAINED(peer), before);
      atomic {
        if
        :: bells[peer] < ROOM -> bells[peer]++; break
        :: else
        fi
      };
#if ROOM < 250
#ifndef NO_RETRY
      load(KERNEL_LOCK(peer), v);
      if
      :: v -> mem[KERNEL_LOCK(peer)] == 0
      :: else ->
        d_step { drain_buffer(me); v = (mem[DRAINED(peer)] == before); mem[DRAINED(peer)] = mem[DRAINED(peer)] + v };
        if :: v -> set_bits(WAIT(peer), what); break :: else fi
      fi
#else
      add(DRAINED(peer), 1); set_bits(WAIT(peer), what); break
#endif
#endif
    od
  :: else
  fi;
  v = 0; before = 0
}

inline slot_take() {
  set_bits(OWNER(side, slot), 1);
  load(RUNG(side), v);
  store(FLOOR(side, slot), v);
  v = 0
}
inline slot_give() { store(OWNER(side, slot), 0) }

/* Lowers target to what the other thread of this side can spare. */
inline drainable() {
#ifndef NO_SLOTS
  if
  :: SHARED ->
    load(OWNER(side, 1 - slot), v);
    if
    :: v -> load(FLOOR(side, 1 - slot), v); if :: v < target -> target = v :: else fi
    :: else
    fi
  :: else
  fi;
#endif
  v = 0
}

/* ok goes down if a bell has been counted since (before of them were): it may have failed on those that lie there. */
inline drain() {
#if ROOM < 250
  d_step { mem[KERNEL_LOCK(side)] == 0 -> drain_buffer(me); mem[KERNEL_LOCK(side)] = me + 1 };
#else
  lock(KERNEL_LOCK(side));
#endif
  load(RUNG(side), v);
  if
#ifndef NO_LOOK_BEFORE_DRAIN
  :: v != before -> ok = 0
#endif
  :: else ->
    load(DRAINED(side), v);
    atomic {
#ifdef DRAIN_ALL
      v = bells[side]; bells[side] = 0
#else
      if
      :: target > v -> v = (target - v < bells[side] -> target - v : bells[side]); bells[side] = bells[side] - v
      :: else -> v = 0
      fi
#endif
    }
    add(DRAINED(side), v)
  fi;
  v = 0;
#if ROOM < 250
  store(KERNEL_LOCK(side), 0)
#else
  unlock(KERNEL_LOCK(side))
#endif
}

/* ok: the bells up to target are out, so it may sleep. */
inline settled() {
  load(DRAINED(side), v);
  ok = (target <= v);
  load(TAIL(peer), t); load(HEAD(side), h);
  if
  :: ok
#ifdef UNSEEN
  :: !ok && t != h
#endif
  :: else ->
    before = target;
    drainable();
    ok = (target == before);
    drain()
  fi;
  v = 0; before = 0
}

inline disarm(bits) {
  if
  :: SHARED
  :: else -> clear_bits(WAIT(side), bits, v); v = 0
  fi
}

/* ---- wait.pxd ---- */

inline wait_data() {
  slot_take();
  load(RUNG(side), target);
  want(DATA);
  load(TAIL(peer), t); load(HEAD(side), h); load(FLAGS(peer), v);
  if
#ifndef NO_SECOND_LOOK
  :: t != h || v & SHUT_WR ->
#if !defined(UNSEEN) || defined(FORGET)
    disarm(DATA)
#endif
#endif
  :: else ->
    settled();
    if
    :: !ok
    :: ok && !TAKES_BELL -> bells[side] > 0
    :: ok && TAKES_BELL -> atomic { bells[side] > 0 -> v = bells[side]; bells[side] = 0 }; add(DRAINED(side), v); v = 0
    fi
  fi;
  slot_give();
  target = 0; ok = 0; t = 0; h = 0; v = 0
}

inline wait_space() {
  slot_take();
  load(RUNG(side), target);
  load(TAIL(peer), t); load(HEAD(side), h);
  want((t == h -> SPACE | DATA : SPACE));
  load(TAIL(side), t); load(HEAD(peer), h);
  if
#ifndef NO_SECOND_LOOK
  :: t - h < SIZE -> disarm(SPACE)
#endif
  :: else ->
    settled();
    if
    :: ok -> bells[side] > 0
    :: else
    fi
  fi;
  slot_give();
  target = 0; ok = 0; t = 0; h = 0; v = 0
}

/* ---- stream.pxd, life.pxd ---- */

/* ok: a message was sent; otherwise the ring is full. */
inline send_once() {
  lock(SEND_LOCK(side));
  load(TAIL(side), t); load(HEAD(peer), h);
  ok = (t - h < SIZE);
  if
  :: ok ->
#ifdef RING_FIRST
    load(WAIT(peer), v);
#endif
#ifdef TAIL_FIRST
    store(TAIL(side), t + 1); store(BYTE(side, t), t + 1);
#else
    store(BYTE(side, t), t + 1); store(TAIL(side), t + 1);
#endif
    unlock(SEND_LOCK(side));
    publish_fence();
    if :: v & DATA -> ring_bell(DATA) :: else fi
  :: else -> unlock(SEND_LOCK(side))
  fi;
  t = 0; h = 0; v = 0
}

inline shut() {
  set_bits(FLAGS(side), SHUT_WR);
  load(WAIT(peer), v);
  if :: v & DATA -> ring_bell(DATA) :: else fi;
  v = 0
}

/* ok: a message was received; otherwise the ring is empty, and ended says whether more can come. */
inline receive_once() {
  lock(RECV_LOCK(side));
  load(TAIL(peer), t); load(HEAD(side), h);
  ok = (t != h);
  if
  :: ok ->
    load(BYTE(peer, h), v);
    assert(v == h + 1);  /* each byte once, in order */
    store(HEAD(side), h + 1);
    unlock(RECV_LOCK(side));
    publish_fence();
#ifdef RING_FIRST
    load(WAIT(peer), v);
#endif
    if
    :: v & SPACE ->
      load(TAIL(peer), t); load(HEAD(side), h);
      if :: 2 * (t - h) <= SIZE -> ring_bell(SPACE) :: else fi
    :: else
    fi
  :: else ->
    unlock(RECV_LOCK(side));
    load(FLAGS(peer), v);
    if
    :: v & SHUT_WR -> load(TAIL(peer), t); load(HEAD(side), h); ended = (t == h)
    :: else
    fi
  fi;
  t = 0; h = 0; v = 0
}

proctype sender(byte me, side, slot) {
  byte i, t, h, v, target, before, left = MESSAGES;
  byte peer = 1 - side;
  bool ok;
  do
  :: left > 0 ->
    send_once();
    if
    :: ok -> left--
    :: else -> wait_space()
    fi;
    ok = 0
  :: else -> break
  od;
  fence();  /* threads that agree on who shuts down have synchronised */
  atomic { senders[side]--; v = senders[side] }
  if
  :: v == 0 ->
    if
    :: v = 0
    :: v = 1  /* a program that ends the stream only once all has arrived: no late bell may hide a lost one */
    fi;
    v == 0 || mem[HEAD(peer)] == MESSAGES * WRITERS;
    shut()
  :: else
  fi;
  finished++
}

#ifdef UNSEEN
/* A program that asks select(), then receives without blocking as often as it likes; or blocks. */
proctype receiver(byte me, side, slot) {
  byte i, t, h, v, target, before;
  byte peer = 1 - side;
  bool ok, ended;
  do
  :: ended -> break
  :: else ->
    bells[side] > 0;
    do
    :: ok = 0; receive_once();
      if
      :: ok -> ok = 0; if :: break :: skip fi
      :: ended -> break
      :: else ->
        if
        :: wait_data()
        :: /* settle() */
          load(RUNG(side), target); load(WAIT(side), v); load(DRAINED(side), before);
          load(TAIL(peer), t); load(HEAD(side), h);
          if
          :: v & DATA && target == before -> ok = (t == h)
          :: else ->
            want(DATA);
            load(TAIL(peer), t); load(HEAD(side), h);
            if
            :: t != h ->
              disarm(DATA);
              ok = 0
            :: else -> settled(); load(TAIL(peer), t); load(HEAD(side), h); ok = (t == h)
            fi
          fi;
          load(FLAGS(peer), v);
          if :: v & SHUT_WR -> ok = 0 :: else fi;
          t = 0; h = 0; v = 0; target = 0; before = 0;
          if
          :: ok -> ok = 0; if :: break :: skip fi  /* EAGAIN: it asks select(), or receives again all the same */
          :: else
          fi
        fi
      fi
    od
  od;
  load(HEAD(side), h);
  assert(h == MESSAGES * WRITERS);
  finished++
}
#else
proctype receiver(byte me, side, slot) {
  byte i, t, h, v, target, before;
  byte peer = 1 - side;
  bool ok, ended;
  do
  :: ended -> break
  :: else ->
    receive_once();
    if
    :: ok || ended
    :: else -> wait_data()
    fi;
    ok = 0
  od;
  load(HEAD(side), h);
  assert(h == MESSAGES * WRITERS);
  finished++
}
#endif

init {
  atomic {
    mem[WAIT(0)] = DATA; mem[WAIT(1)] = DATA;  /* segment_create: both directions start armed */
    senders[1] = WRITERS;
    run receiver(0, 0, 0);
    run sender(1, 1, 0);
#if READERS > 1
    run receiver(2, 0, 1);
#endif
#if WRITERS > 1
    run sender(2, 1, 1);
#endif
  }
}

ltl all_arrive { <> (finished == THREADS) }
