/* Who fences: a sleeper everywhere, or the sleeper and who publishes each for itself?  (doorbell.pxd)
 *
 * A writer publishes MESSAGES messages and looks at the wishes of the other side after each. Two threads wait there: one until it has
 * seen all of them, one that goes away whenever it likes, as a poll whose result nobody uses. Nobody may sleep while a
 * message that it has not seen lies there, whatever the other thread has seen or does.
 *
 * step here           function                     file
 * arm                 arm                          doorbell.pxd
 * want                want, fence_before_sleep, fenced  doorbell.pxd
 * publish_fence       fence_after_publishing, fence_as_wished  doorbell.pxd
 *
 * Abstracted away: the ring, what is read and by whom; bells, which wake everybody here (wake.pml has them).
 */
#ifndef MESSAGES
#define MESSAGES 3
#endif
#define DATA 1
#define FENCE 4
#define TURN 8

#define TAIL 0
#define WAIT 1
#define FENCED 2   /* the process's own memory: both threads share it */
#define WORDS 3
#define THREADS 3
#define DEPTH 3

#include "tso.pml"

bool woken[2];

/* turn: 0 if my own fence will do. */
inline arm() {
#ifdef LOOK_BEFORE_ARM
  load(WAIT, v); set_bits(WAIT, DATA);
#else
  fetch_or(WAIT, DATA, v);
#endif
  load(FENCED, t);
  if
#ifdef NO_TURNS
  :: v & FENCE && t -> turn = 0
#else
  :: v & FENCE && (v & ~DATA) == t -> turn = 0
#endif
  :: else ->
    d_step {  /* the compare-and-swap: begins a turn, or finds one begun */
      drain_buffer(me);
      if
      :: mem[WAIT] & FENCE
      :: else -> mem[WAIT] = (mem[WAIT] + TURN) | FENCE
      fi;
      turn = mem[WAIT] & ~DATA
    }
  fi;
  v = 0; t = 0
}

inline want() {
  arm();
  if
  :: turn ->
#ifdef FENCED_FIRST
    store(FENCED, turn); membarrier()
#else
    membarrier(); store(FENCED, turn)
#endif
  :: else
  fi;
  turn = 0
}

/* v: the wishes as they are after the fence. */
inline publish_fence() {
  load(WAIT, v);
  if
  :: v & FENCE ->
    fence();
    load(WAIT, v);
    if
    :: skip
    :: clear_bits(WAIT, FENCE, t); t = 0
    fi
  :: else
  fi
}

proctype writer(byte me) {
  byte i, t, v, n;
  do
  :: n < MESSAGES ->
    n++;
    store(TAIL, n);
    publish_fence();
    if
    :: v & DATA ->
      clear_bits(WAIT, DATA, v);
      if :: v & DATA -> d_step { woken[0] = 1; woken[1] = 1 } :: else fi
    :: else
    fi;
    v = 0
  :: else -> break
  od
}

proctype waiter(byte me, who) {
  byte i, t, v, turn, seen;
  do
  :: seen == MESSAGES -> break
  :: who == 1 -> break
  :: seen != MESSAGES ->
    woken[who] = 0;
    want();
    load(TAIL, t);
    if
    :: t != seen -> seen = t
    :: else -> woken[who]; load(TAIL, t); seen = t
    fi;
    t = 0
  od
}

init {
  atomic { run waiter(0, 0); run waiter(1, 1); run writer(2) }
}
