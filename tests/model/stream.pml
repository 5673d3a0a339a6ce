/* One connection from the cut-over to the way back: what cut.pml and back.pml are made of.
 *
 * Side 0 is the client, side 1 the server; each byte of the stream is a number, 1, 2, 3 and so on; BELL is a doorbell byte.
 * Each step stands for the function of the same name:
 *
 * step here           function                     file
 * offer               offer_locked                 negotiate.pxd
 * accept_offer        accept_offer                 negotiate.pxd
 * refresh             refresh                      negotiate.pxd
 * go_live_locked      go_live_locked               negotiate.pxd
 * withdraw            withdraw                     negotiate.pxd
 * want                want                         doorbell.pxd
 * published           fence_after_publishing       doorbell.pxd
 * ring_bell           ring_bell, send_bell         doorbell.pxd
 * slot_take           slot_take                    doorbell.pxd
 * switch_receiving    switch_receiving             doorbell.pxd
 * departed            departed                     doorbell.pxd
 * settled             settled, drainable, drain    doorbell.pxd
 * drop_surplus        drop_surplus                 doorbell.pxd
 * sleep_peeking       sleep_peeking                wait.pxd
 * wait_data           sleep_for_data               wait.pxd
 * wait_kernel_data    wait_kernel_data             early.pxd
 * take_data           take_data, data_of           early.pxd
 * receive_kernel      receive_kernel               early.pxd
 * receive_on          receive_on                   receiving.pxd     (ring_look, ring_read: ring.pxd)
 * receive             stream_receive               receiving.pxd
 * send_live           send_live                    sending.pxd     (ring_write: ring.pxd)
 * send                send_changing                sending.pxd
 * shut                life_shutdown                life.pxd
 * follow              follow, follow_locked        demote.pxd
 * send_through_kernel send_through_kernel, resend  demote.pxd
 * bells_taken         bells_taken                  demote.pxd
 * can_leave           can_leave                    demote.pxd
 * leave               leave                        demote.pxd
 * demote              demote                       demote.pxd
 *
 * Abstracted away: full rings and sockets (wake.pml); the client's check of who offers; close
 * and death; records; epoll and poll, which wait as wait_data() does; patience: who waits for a bell on its way waits for
 * ever here. A receive asks for two bytes of the kernel socket, for one of the ring. A thread of a side that has but one
 * takes no locks: nobody else is there.
 */
/* What the ends do. */
#ifndef CLIENT_SENDS
#define CLIENT_SENDS 2
#endif
#ifndef SERVER_SENDS
#define SERVER_SENDS 0
#endif
#define SENDS(s) ((s) == 0 -> CLIENT_SENDS : SERVER_SENDS)
#define SENDS_FIRST (side == 0)

#define S 1
#define R 2
#define SR 3
#define RR 4
#define T 5
#define SL 6
#define RL 7
#ifndef CLIENT
#define CLIENT S
#endif
#ifndef SERVER
#define SERVER R
#endif
#define MANY(e) ((e) != S && (e) != R && (e) != T)
#define LEAVER(s) ((s) == 0 && CLIENT >= SL || (s) == 1 && SERVER >= SL)
#define SHARED(s) ((s) == 0 && MANY(CLIENT) || (s) == 1 && MANY(SERVER))
#if MANY(CLIENT)
#define CLIENTS 2
#else
#define CLIENTS 1
#endif
#if MANY(SERVER)
#define SERVERS 2
#else
#define SERVERS 1
#endif
#define THREADS (CLIENTS + SERVERS)


#define WANT_DATA 1
#define CUT 1
#define SHUT_WR 2
#define EXPEDITED 16
#define LEFT 32
#define BACK 64
#define BELL 200

#ifdef HEAVY
#define CUT_FLAGS CUT
#else
#define CUT_FLAGS (CUT | EXPEDITED)
#endif

/* header.state, and conn_t.state */
#define ATTACHED 2
#define WITHDRAWN 3
#define PARTED 4
#define PENDING 5
#define CANDIDATE 6
#define OFFERED 7
#define LIVE 8
#define PLAIN 9

/* The words of a side; from STATE on they are private to its process. */
#define SIDE (27 + SIZE)
#define TAIL(s) ((s) * SIDE + 1)
#define CUT_AT(s) ((s) * SIDE + 2)
#define FLAGS(s) ((s) * SIDE + 3)
#define HEAD(s) ((s) * SIDE + 4)
#define KERNEL_READ(s) ((s) * SIDE + 5)
#define WAIT(s) ((s) * SIDE + 6)
#define RUNG(s) ((s) * SIDE + 7)
#define DRAINED(s) ((s) * SIDE + 8)
#define SEND_LOCK(s) ((s) * SIDE + 9)
#define BELL_LOCK(s) ((s) * SIDE + 10)
#define KERNEL_SENT(s) ((s) * SIDE + 11)
#define RESENT(s) ((s) * SIDE + 12)
#define RECV_LOCK(s) ((s) * SIDE + 13)
#define KERNEL_LOCK(s) ((s) * SIDE + 14)
#define OWNER(s, k) ((s) * SIDE + 15 + (k))
#define FLOOR(s, k) ((s) * SIDE + 18 + (k))
#define STATE(s) ((s) * SIDE + 21)
#define LOCK(s) ((s) * SIDE + 22)
#define SEND_BACK(s) ((s) * SIDE + 23)
#define RECV_BACK(s) ((s) * SIDE + 24)
#define RECV_RING(s) ((s) * SIDE + 25)
#define EARLY(s) ((s) * SIDE + 26)
#define EARLY_SLOT(s) ((s) * SIDE + 27)
#define BYTE(s, at) ((s) * SIDE + 28 + (at))
#define HEADER (2 * SIDE + 1)
#define WORDS (2 * SIDE + 2)

/* What a thread does, and is doing. */
#define NONE 0
#define SEND 1
#define RECEIVE 2
#define SHUT 3
#define TAKE_BACK 4  /* the offer, or the connection */
#define ATTEND 5
#define JOB_SEND 1
#define JOB_RECEIVE 2

#include "tso2.pml"

chan socket[2] = [ROOM] of { byte };  /* what lies in the kernel socket of each side */
bool end_of[2];   /* nothing more will come there */
bool offer_sent;
byte got[2];      /* bytes that the program of each side has received */

#define READABLE (len(socket[side]) > 0 || end_of[side])
#define LESS(a, b) ((a) < (b) -> (a) : (b))

inline put(s, value) { d_step { drain_buffer(me); socket[s]!value } }
inline end_stream() { d_step { drain_buffer(me); end_of[peer] = 1 } }

inline take_bells(many) {
  d_step {
    drain_buffer(me);
    do
    :: many > 0 -> socket[side]?v; assert(v == BELL); many--
    :: else -> break
    od;
    v = 0
  }
}

/* The first n bytes go to the program: each byte once, in order, and no bell. */
inline deliver_kernel() {
  d_step {
    drain_buffer(me);
    target = n;
    do
    :: target > 0 -> socket[side]?v; assert(v == got[side] + 1); got[side]++; target--
    :: else -> break
    od;
    v = 0
  }
}

inline lock(address) {
  if
  :: SHARED(side) -> d_step { mem[address] == 0 -> drain_buffer(me); mem[address] = me + 1 }
  :: else
  fi
}
inline unlock(address) {
  if
  :: SHARED(side) -> store(address, 0)
  :: else
  fi
}

/* ---- doorbell.pxd ---- */

inline light() { load(FLAGS(side), v); load(FLAGS(peer), limit); v = v & limit & EXPEDITED; limit = 0 }

inline published() {
  light();
  if
  :: v == 0 -> fence()
  :: else
  fi
}

inline want() {
  set_bits(WAIT(side), WANT_DATA);
#ifndef NO_MEMBARRIER
  light();
  if
  :: v -> membarrier()
  :: else
  fi
#endif
}

inline departed() {
  load(FLAGS(side), v); dep = (v & (LEFT | BACK)) != 0;
  load(FLAGS(peer), v); dep = dep || (v & (LEFT | BACK)) != 0
}

inline send_bell() {
  add(RUNG(peer), 1);
  load(FLAGS(peer), v);
  if
#ifndef BELLS_TO_THE_LEFT
  :: v & LEFT -> add(DRAINED(peer), 1)
#endif
  :: else -> put(peer, BELL)
  fi
}

/* The other end looks at this one (can_leave). */
inline lock_bells() {
#ifdef GOES_BACK
  if
  :: SHARED(side) -> d_step { mem[BELL_LOCK(side)] == 0 -> drain_buffer(me); mem[BELL_LOCK(side)] = me + 1 }
  :: else -> store(BELL_LOCK(side), me + 1)
  fi
#else
  skip
#endif
}
inline unlock_bells() {
#ifdef GOES_BACK
  store(BELL_LOCK(side), 0)
#else
  skip
#endif
}

inline ring_bell() {
#ifndef SWAP_BEFORE_LOCK
  lock_bells();
#endif
  clear_bits(WAIT(peer), WANT_DATA, v);
#ifdef SWAP_BEFORE_LOCK
  lock_bells();
#endif
  if
  :: v & WANT_DATA ->
    load(FLAGS(side), v);
    if
    :: v & BACK
    :: else -> send_bell()
    fi
  :: else
  fi;
  unlock_bells()
}

inline slot_take() { set_bits(OWNER(side, slot), 1); load(RUNG(side), v); store(FLOOR(side, slot), v) }
inline slot_give() { store(OWNER(side, slot), 0) }

inline switch_receiving() {
  sw = 0;
  load(RECV_RING(side), v);
  if
  :: v -> sw = 1
  :: else ->
    load(RECV_BACK(side), v);
    if
    :: v
    :: else ->
      load(FLAGS(peer), v);
      if
      :: v & CUT ->
        load(KERNEL_READ(side), h);
        load(CUT_AT(peer), t);
#ifdef NO_COUNT
        sw = 1; store(RECV_RING(side), 1)
#else
        if
        :: h >= t -> sw = 1; store(RECV_RING(side), 1)
        :: else
        fi
#endif
      :: else
      fi
    fi
  fi;
  t = 0; h = 0; v = 0
}

/* Lowers limit to what the owner of slot k can spare. */
inline spare(k) {
  if
  :: slot != k ->
    load(OWNER(side, k), v);
    if
    :: v -> load(FLOOR(side, k), v); if :: v < limit -> limit = v :: else fi
    :: else
    fi
  :: else
  fi
}

/* ok: the bells up to target are out, or on their way. */
inline settled() {
  load(DRAINED(side), v);
  if
  :: target <= v -> ok = 1
  :: else ->
    switch_receiving();
    ok = sw;
    if
    :: sw ->
      limit = target;
      if
      :: SHARED(side) -> spare(0); spare(1); spare(2)
      :: else
      fi;
      lock(KERNEL_LOCK(side));
      load(RUNG(side), v);
      ok = (v == target && limit == target);
      load(DRAINED(side), h);
      if
      :: v == target && limit > h ->
        atomic {
          n = LESS(limit - h, len(socket[side]));
          h = n;
          take_bells(h)
        };
        add(DRAINED(side), n)
      :: else
      fi;
      unlock(KERNEL_LOCK(side))
    :: else
    fi
  fi;
  v = 0; h = 0; n = 0; limit = 0; sw = 0
}

inline departed_quietly() {
  load(FLAGS(side), t); load(FLAGS(peer), h); dep = ((t | h) & (LEFT | BACK)) != 0; t = 0; h = 0
}

/* Between rule-abiding peers there never is a surplus. */
inline drop_surplus() {
  load(RUNG(side), v); load(DRAINED(side), n);
  switch_receiving();
  if
  :: sw ->
    lock(KERNEL_LOCK(side));
    target = len(socket[side]);
    fence();
    load(RUNG(side), v); load(DRAINED(side), n);
    departed_quietly();
    assert(target + n <= v || dep);
    unlock(KERNEL_LOCK(side))
  :: else
  fi;
  n = 0; v = 0; target = 0; sw = 0; dep = 0
}

/* ---- wait.pxd ---- */

inline sleep_peeking() {
  READABLE;
  load(STATE(side), v); load(RUNG(side), t); load(DRAINED(side), h);
  if
  :: v == LIVE && t <= h && len(socket[side]) > 0 -> t = 0; h = 0; drop_surplus()
  :: else
  fi;
  v = 0; t = 0; h = 0
}

inline wait_data() {
  slot_take();
  load(RUNG(side), target);
  want();
  departed();
  load(TAIL(peer), t); load(HEAD(side), h); load(FLAGS(peer), v);
  if
#ifndef NO_SECOND_LOOK
  :: t != h || v & SHUT_WR || dep ->
    if
    :: SHARED(side)
    :: else -> clear_bits(WAIT(side), WANT_DATA, v)
    fi
#endif
  :: else ->
    settled();
    if
    :: !ok
    :: ok && SHARED(side) -> sleep_peeking()
    :: ok && !SHARED(side) ->
      atomic {
        READABLE;
        n = (len(socket[side]) > 0);
        h = n; take_bells(h)
      };
      add(DRAINED(side), n)
    fi
  fi;
  slot_give();
  target = 0; ok = 0; t = 0; h = 0; v = 0; n = 0; dep = 0
}

/* ---- negotiate.pxd ---- */

inline go_live_locked() {
  load(STATE(side), v);
  if
  :: v == LIVE || v == PLAIN
  :: else ->
    lock(SEND_LOCK(side));
    load(FLAGS(side), v);
    if
    :: v & CUT
    :: else ->
      load(KERNEL_SENT(side), v);
#ifdef FLAG_BEFORE_CUT
      set_bits(FLAGS(side), CUT_FLAGS); store(CUT_AT(side), v)
#else
      store(CUT_AT(side), v); set_bits(FLAGS(side), CUT_FLAGS)
#endif
    fi;
    unlock(SEND_LOCK(side));
    load(EARLY(side), v);
    if
    :: v -> load(RUNG(side), v); store(FLOOR(side, 2), v); set_bits(OWNER(side, 2), 1); store(EARLY_SLOT(side), 1)
    :: else
    fi;
    store(STATE(side), LIVE)
  fi;
  v = 0
}

inline refresh() {
  load(STATE(side), v);
  if
  :: v == OFFERED ->
    load(HEADER, v);
    if
    :: v == ATTACHED || v == PARTED -> lock(LOCK(side)); go_live_locked(); unlock(LOCK(side))
    :: else
    fi
  :: else
  fi;
  v = 0
}

inline compare_and_swap(old, new) {
#ifdef NO_SWAP
  load(HEADER, v); v = (v == old); if :: v -> store(HEADER, new) :: else fi
#else
  d_step { drain_buffer(me); v = (mem[HEADER] == old); if :: v -> mem[HEADER] = new :: else fi }
#endif
}

/* Client, PENDING, under the lock. */
inline accept_offer() {
  if
  :: offer_sent ->
    compare_and_swap(OFFERED, ATTACHED);
    if
    :: v -> go_live_locked()
    :: else -> store(STATE(side), PLAIN)
    fi
  :: else
  fi;
  v = 0
}

inline offer() {
  load(STATE(side), v);
  if
  :: v == CANDIDATE ->
    lock(LOCK(side));
    load(STATE(side), v);
    if
    :: v == CANDIDATE ->
      store(HEADER, OFFERED);
      d_step { drain_buffer(me); offer_sent = 1 };
      store(STATE(side), OFFERED)
    :: else
    fi;
    unlock(LOCK(side))
  :: else
  fi;
  v = 0
}

/* ok: it is plain now. */
inline withdraw() {
  lock(LOCK(side));
  load(STATE(side), v);
  ok = (v == PENDING || v == CANDIDATE || v == PLAIN);
  if
  :: v == OFFERED -> compare_and_swap(OFFERED, WITHDRAWN); ok = v
  :: else
  fi;
  if
  :: ok -> store(STATE(side), PLAIN)
  :: else
  fi;
  unlock(LOCK(side));
  v = 0
}

/* ---- demote.pxd ---- */

/* Under my send and bell locks. */
inline send_through_kernel() {
  load(FLAGS(side), v);
  if
  :: v & BACK
  :: else ->
    load(FLAGS(peer), v);
    if
    :: v & LEFT ->
      load(HEAD(peer), h)
    :: else -> load(TAIL(side), h)
    fi;
#ifdef NOT_RESENT
    load(TAIL(side), h);
#endif
    store(RESENT(side), h);
    set_bits(FLAGS(side), BACK)
  fi;
  load(RESENT(side), h); load(TAIL(side), t);
  do
  :: h < t ->
    load(BYTE(side, h), v); put(peer, v); h++; store(RESENT(side), h)
  :: else -> break
  od;
  if
  :: h >= t ->
    store(SEND_BACK(side), 1);
    load(FLAGS(side), v);
    if
    :: v & SHUT_WR -> end_stream()
    :: else
    fi
  :: else
  fi;
  h = 0; t = 0; v = 0
}

/* Waits for those that are on their way. Under the kernel lock. */
inline bells_taken() {
  do
  :: target = len(socket[side]);  /* more may come, and be data: of a peer that is BACK, whose count is final */
#ifdef RUNG_FIRST
    load(RUNG(side), v); load(DRAINED(side), h);
#else
    load(DRAINED(side), h); load(RUNG(side), v);
#endif
    if
    :: v <= h -> break
    :: else ->
#ifdef TAKE_COUNTED
      target = v - h;
#endif
      if
      :: target == 0 -> len(socket[side]) > 0 || mem[RUNG(side)] == mem[DRAINED(side)]
      :: else ->
        atomic { n = LESS(LESS(v - h, target), len(socket[side])); h = n; take_bells(h) };
        add(DRAINED(side), n)
      fi
    fi
  od;
  v = 0; h = 0; n = 0; target = 0
}

inline read_from_kernel() { store(RECV_BACK(side), 1); store(RECV_RING(side), 0) }



inline follow_locked() {
  load(FLAGS(side), v);
  if
  :: v & LEFT ->  /* for another process of my side; a thread is as good */
    load(FLAGS(side), v);
    if
    :: v & BACK -> store(SEND_BACK(side), 1); read_from_kernel()
    :: else
    fi
  :: else ->
    load(SEND_BACK(side), v);
    if
    :: v == 0 -> lock(SEND_LOCK(side)); lock_bells(); send_through_kernel(); unlock_bells(); unlock(SEND_LOCK(side))
    :: else
    fi;
    load(RECV_BACK(side), v); load(FLAGS(peer), t);
    if
    :: v == 0 && t & BACK ->
      switch_receiving();
      if
      :: sw ->
        lock(RECV_LOCK(side));
        load(TAIL(peer), t); load(HEAD(side), h);
        if
        :: t == h ->
          lock(KERNEL_LOCK(side));
#ifndef BELLS_LEFT
          bells_taken();
#endif
          read_from_kernel();
          unlock(KERNEL_LOCK(side))
        :: else
        fi;
        unlock(RECV_LOCK(side))
      :: else
      fi
    :: else
    fi
  fi;
  load(SEND_BACK(side), t); load(RECV_BACK(side), h);
  if
  :: t && h -> store(STATE(side), PLAIN)
  :: else
  fi
}

inline follow() {
  lock(LOCK(side));
  load(STATE(side), v);
  if
  :: v == LIVE -> follow_locked()
  :: else
  fi;
  unlock(LOCK(side));
  v = 0; t = 0; h = 0; sw = 0
}

/* Under the receive and kernel locks. */
inline can_leave() {
  switch_receiving();
  ok = 1;
  if
  :: sw
  :: else ->
    clear_bits(WAIT(side), WANT_DATA, n);
    load(BELL_LOCK(peer), v);
    load(DRAINED(side), h); load(RUNG(side), t);
    if
    :: v == 0 && t == h
    :: else -> set_bits(WAIT(side), n); ok = 0
    fi
  fi;
  t = 0; h = 0; n = 0; v = 0
}

inline leave() {
#ifdef LEFT_LATE
  if
  :: sw -> bells_taken()
  :: else
  fi;
#endif
  set_bits(FLAGS(side), LEFT);
  set_bits(WAIT(side), WANT_DATA);
  light();
  if
  :: v -> membarrier()
  :: else
  fi;
#ifndef LEFT_LATE
  switch_receiving();
  if
  :: sw -> bells_taken()
  :: else
  fi;
#endif
  read_from_kernel();
  lock(SEND_LOCK(side)); lock_bells();
  send_bell();
  send_through_kernel();
  unlock_bells(); unlock(SEND_LOCK(side))
}

/* After withdraw() and attend(); attend() comes after it. */
inline demote() {
  load(STATE(side), v);
  departed();
  load(STATE(side), v);
  if
  :: v == LIVE && !dep ->
    lock(RECV_LOCK(side)); lock(KERNEL_LOCK(side));
    can_leave();
    if
    :: ok ->
#ifdef BOTH_LEAVE
      v = 1;
#else
      compare_and_swap(ATTACHED, PARTED);
#endif
      ok = v;
      if
      :: v -> leave()
      :: else
      fi
    :: else
    fi;
    unlock(KERNEL_LOCK(side)); unlock(RECV_LOCK(side));
    if
    :: ok -> lock(LOCK(side)); store(STATE(side), PLAIN); unlock(LOCK(side))
    :: else
    fi
  :: else
  fi;
  ok = 0; dep = 0; sw = 0; v = 0
}

/* ---- stream.pxd: receiving ---- */

/* Under the kernel lock. n bytes were taken; ok: look again; ended. */
inline take_data() {
#ifdef FLAG_BEFORE_LOOK
  load(FLAGS(peer), v);
#endif
  atomic {
    n = LESS(2, len(socket[side]));
    ended = (n == 0 && end_of[side])
  };
  if
  :: n ->
#ifndef FLAG_BEFORE_LOOK
    load(FLAGS(peer), v);
#endif
    if
    :: v & CUT ->
      load(KERNEL_READ(side), h); load(CUT_AT(peer), t);
      if
      :: t <= h -> n = 0
      :: t > h && n > t - h -> n = t - h
      :: else
      fi
    :: else
    fi;
    if
    :: n == 0 -> ok = 1
    :: else -> deliver_kernel(); load(KERNEL_READ(side), h); store(KERNEL_READ(side), h + n)
    fi
  :: else
  fi;
  t = 0; h = 0; v = 0
}

/* The switch of this side, should it be due now, comes with the next look (thread). */
inline wait_kernel_data() {
  slot_take();
  load(STATE(side), v);
  if
  :: v == LIVE -> want()
  :: else
  fi;
  load(STATE(side), v); load(HEADER, t);
  if
  :: v == OFFERED && (t == ATTACHED || t == PARTED) -> lock(LOCK(side)); go_live_locked(); unlock(LOCK(side))
  :: else
  fi;
  switch_receiving();
  if
  :: sw
  :: else -> sleep_peeking()
  fi;
  slot_give();
  sw = 0; v = 0; t = 0
}

/* n bytes were taken, or ended; else: look again. */
inline receive_kernel() {
  lock(KERNEL_LOCK(side));
  switch_receiving();
  if
  :: sw -> unlock(KERNEL_LOCK(side))
  :: else ->
    take_data();
    unlock(KERNEL_LOCK(side));
    if
    :: n == 0 && !ok && !ended -> wait_kernel_data()
    :: else
    fi
  fi;
  ok = 0; sw = 0
}

inline receive_pending() {
#ifndef PENDING_UNLOCKED
  lock(LOCK(side));
#endif
  load(STATE(side), v);
  if
  :: v == PENDING -> accept_offer()
  :: else
  fi;
  load(STATE(side), v);
  if
  :: v != PENDING ->
#ifndef PENDING_UNLOCKED
    unlock(LOCK(side))
#endif
  :: else ->
    atomic {
      n = LESS(2, len(socket[side]));
      ended = (n == 0 && end_of[side]);
      deliver_kernel()
    };
    load(KERNEL_READ(side), h); store(KERNEL_READ(side), h + n); h = 0;
    if
    :: n -> accept_offer();
      if
      :: load(STATE(side), v); if :: v == PENDING -> store(STATE(side), PLAIN) :: else fi  /* so many answers, no offer */
      :: skip
      fi
    :: else
    fi;
    ok = (n == 0 && !ended);
    if
    :: ok -> load(EARLY(side), v); store(EARLY(side), v + 1)
    :: else
    fi;
#ifndef PENDING_UNLOCKED
    unlock(LOCK(side));
#endif
    if
    :: ok ->
      READABLE;
      lock(LOCK(side));
      load(EARLY(side), v); store(EARLY(side), v - 1);
      load(EARLY(side), v);
      if
      :: v == 0 -> store(OWNER(side, 2), 0); store(EARLY_SLOT(side), 0)
      :: else
      fi;
      unlock(LOCK(side))
    :: else
    fi
  fi;
  ok = 0; v = 0
}

inline kernel_receive() {
  atomic {
    READABLE;
    n = LESS(2, len(socket[side]));
    ended = (n == 0);
    deliver_kernel()
  }
}

/* One turn of its loop, LIVE and not back. */
inline receive_on() {
  lock(RECV_LOCK(side));
  load(RECV_BACK(side), v);
  if
  :: v -> unlock(RECV_LOCK(side))
  :: else ->
    atomic { load(HEAD(side), h); load(TAIL(peer), t) };
    if
    :: t != h ->
      load(BYTE(peer, h), v);
      d_step { assert(v == got[side] + 1); got[side]++; n = 1 };
      store(HEAD(side), h + 1);
      unlock(RECV_LOCK(side))
    :: else ->
      unlock(RECV_LOCK(side));
      departed();
      if
      :: dep && !attended -> attended = 1; need = 1
      :: dep && attended -> attended = 0  /* a nap */
      :: else ->
        load(FLAGS(peer), v);
        if
        :: v & SHUT_WR ->
          load(TAIL(peer), t); load(HEAD(side), h);
#if defined(GOES_BACK) && !defined(NO_LOOK_BEFORE_END)
          departed();
#endif
          ended = (t == h && !dep)
        :: else -> t = 0; h = 0; wait_data()
        fi
      fi
    fi
  fi;
  t = 0; h = 0; v = 0; dep = 0
}

inline receive() {
  load(STATE(side), v); load(RECV_BACK(side), t); load(FLAGS(side), h);
  ok = (h & LEFT) != 0; h = 0;
  if
  :: v == PENDING -> t = 0; ok = 0; receive_pending()
  :: v == PLAIN || v == LIVE && t -> t = 0; ok = 0; kernel_receive()
  :: v == LIVE && !t && ok && SHARED(side) -> ok = 0; need = 1
  :: else ->
    ok = (v == LIVE);
    switch_receiving();
    if
    :: sw && ok -> ok = 0; sw = 0; receive_on()
    :: sw && !ok -> sw = 0
    :: else -> ok = 0; receive_kernel()
    fi
  fi;
  if
  :: n || ended -> n = 0; v = 0; attended = 0; op = NONE
  :: else
  fi
}

/* ---- stream.pxd: sending ---- */

inline send_live() {
  departed();
  if
  :: dep && !attended -> attended = 1; need = 1
  :: else ->
    attended = 0;
    load(FLAGS(side), v);
    if
    :: dep && v & BACK  /* after attend(): the kernel's now */
    :: else ->
      lock(SEND_LOCK(side));
      load(FLAGS(side), v);
      if
      :: SHARED(side) && v & BACK -> unlock(SEND_LOCK(side))
      :: else ->
        load(TAIL(side), t);
        store(BYTE(side, t), next + 1); store(TAIL(side), t + 1);
        unlock(SEND_LOCK(side));
        published();
        ring = 1
      fi
    fi
  fi;
  v = 0; t = 0; dep = 0
}

/* Under its lock. */
inline send_to_kernel() {
  put(peer, next + 1); load(KERNEL_SENT(side), v); store(KERNEL_SENT(side), v + 1);
  next++; op = NONE
}

inline send() {
  load(STATE(side), v); load(SEND_BACK(side), t); load(FLAGS(side), h);
  dep = (h & BACK) != 0; h = 0;
  if
  :: v == LIVE && !t && !dep -> send_live()
  :: v == PLAIN || v == LIVE && t -> put(peer, next + 1); next++; op = NONE
  :: v == LIVE && !t && dep -> need = 1
  :: v == PENDING ->
#ifndef PENDING_UNLOCKED
    lock(LOCK(side));
#endif
    load(STATE(side), v);
    if
    :: v == PENDING -> accept_offer(); load(STATE(side), v)
    :: else
    fi;
    if
    :: v == PENDING -> send_to_kernel()
    :: else
    fi;
#ifndef PENDING_UNLOCKED
    unlock(LOCK(side))
#endif
  :: v == OFFERED ->
    lock(SEND_LOCK(side));
    load(FLAGS(side), v);
    if
#ifndef NO_CUT_CHECK
    :: v & CUT
#endif
    :: else -> send_to_kernel()
    fi;
    unlock(SEND_LOCK(side))
  fi;
  v = 0; t = 0; dep = 0
}

/* ---- life.pxd ---- */

/* After withdraw() and attend(). */
inline shut() {
  load(STATE(side), v);
  if
  :: v != LIVE -> end_stream(); op = NONE; step = 0
  :: else -> set_bits(FLAGS(side), SHUT_WR); ring = 1
  fi;
  v = 0
}

/* ---- what programs do ---- */

#define MAY_SEND (SENDS_FIRST || ended || !(jobs & JOB_RECEIVE))
#ifdef PATIENT  /* ends the stream only once all has arrived: no late bell may hide a lost one */
#define MAY_SHUT (MAY_SEND && got[peer] == SENDS(side))
#else
#define MAY_SHUT MAY_SEND
#endif

inline done() { assert(!(jobs & JOB_RECEIVE) || got[side] == SENDS(peer)) }
#ifdef GOES_BACK
#define DONE idle = 1; done()
#else
#define DONE break
#endif

/* One thread. jobs: JOB_SEND: it sends SENDS(side) bytes, then shuts down; JOB_RECEIVE: it receives to the end;
 * both: one after the other. In between it may withdraw or go back, once. */
proctype thread(byte me, side, slot, jobs) {
  byte t, h, v, n, target, limit, op, step, next;
  byte peer = 1 - side;
  bool ok, sw, dep, ended, turned, need, attended, ring, shut_down, idle;
  load(KERNEL_SENT(side), next);
  do
#ifdef GOES_BACK
  :: op == NONE && idle ->  /* its program calls again some time, and be it close() */
end_idle:
    mem[STATE(side)] == LIVE && (mem[FLAGS(0)] | mem[FLAGS(1)]) & (LEFT | BACK);
    need = 1; op = ATTEND
#endif
  :: op == NONE && !idle ->
    if
    :: jobs & JOB_SEND && next < SENDS(side) && MAY_SEND -> op = SEND
    :: jobs & JOB_SEND && next == SENDS(side) && !shut_down && MAY_SHUT -> op = SHUT
    :: jobs & JOB_RECEIVE && !ended && !(SENDS_FIRST && jobs & JOB_SEND && !shut_down) -> op = RECEIVE
    :: MAY_TURN(side) && !turned && (jobs == 0 || !LEAVER(side)) -> turned = 1; op = TAKE_BACK
    :: (ended || !(jobs & JOB_RECEIVE)) && (shut_down || !(jobs & JOB_SEND)) -> DONE
    fi;
    if
    :: op == SEND || op == RECEIVE -> offer()
    :: else
    fi
  :: else ->
    refresh();
#ifdef GOES_BACK
    if
    :: need ->  /* attend */
      need = 0;
      load(STATE(side), v);
      departed();
      load(STATE(side), v);
      if
      :: v == LIVE && dep -> v = 0; dep = 0; follow()
      :: else -> v = 0; dep = 0
      fi
    :: else
    fi;
#endif
    if
    :: op == SEND -> send()
    :: op == RECEIVE -> receive()
    :: op == ATTEND -> op = NONE
    :: (op == SHUT || op == TAKE_BACK) && step == 0 ->
      load(STATE(side), v);
      if
      :: v == LIVE -> ok = 0
      :: else -> withdraw()
      fi;
      v = 0;
      if
      :: op == TAKE_BACK && ok -> op = NONE
      :: else -> step = 1; need = 1
      fi;
      ok = 0
    :: op == SHUT && step == 1 -> shut_down = 1; shut()
    :: op == SHUT && step == 2 ->
      load(SEND_BACK(side), v); load(STATE(side), t);
      if
      :: v || t == PLAIN -> end_stream()
      :: else
      fi;
      v = 0; t = 0; op = NONE; step = 0
    :: op == TAKE_BACK && step == 1 ->
#ifdef GOES_BACK
      demote();
      need = 1;
#endif
      op = ATTEND; step = 0
    fi;
    if
    :: ring ->
      ring = 0;
      load(WAIT(peer), v);
      ok = (v & WANT_DATA) != 0;
      if
      :: ok -> ring_bell()
      :: else
      fi;
      if
      :: op == SHUT ->
#ifndef NO_LOOK_AFTER_SHUT
        departed();
        need = dep;
#endif
        step = 2
      :: op == SEND ->
        next++;
        if
        :: ok -> departed(); need = dep
        :: else
        fi;
        op = ATTEND
      fi;
      ok = 0; v = 0; dep = 0
    :: else
    fi
  od;
  done()
}

inline run_end(threads, s, first) {
  if
  :: threads == S -> run thread(first, s, 0, JOB_SEND)
  :: threads == R -> run thread(first, s, 0, JOB_RECEIVE)
  :: threads == T -> run thread(first, s, 0, JOB_SEND | JOB_RECEIVE)
  :: threads == SR -> run thread(first, s, 0, JOB_SEND); run thread(first + 1, s, 1, JOB_RECEIVE)
  :: threads == SL -> run thread(first, s, 0, JOB_SEND); run thread(first + 1, s, 1, 0)
  :: threads == RL -> run thread(first, s, 0, JOB_RECEIVE); run thread(first + 1, s, 1, 0)
  :: threads == RR -> run thread(first, s, 0, JOB_RECEIVE); run thread(first + 1, s, 1, JOB_RECEIVE)
  fi
}
