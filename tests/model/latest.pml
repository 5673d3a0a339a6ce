/* The latest message beside the tail (latest.pxd): does a receiver that takes it from there ever take anything but the bytes that
 * lie in the ring at its place, while the sender goes on?
 *
 * step here           function                     file
 * write_little        write_little                 latest.pxd
 * read_little         read_little                  latest.pxd
 *
 * Bytes are words here, numbered 1, 2, 3 and so on; messages of one and two fit beside the tail, those of three do not.
 * Variants, by -D: BYTES, of the whole stream. All other names are mutants.
 */
#ifndef BYTES
#define BYTES 7
#endif
#define SIZE 4

#define TAIL 0
#define HEAD 1
#define LATEST_IS 2
#define LATEST(i) (3 + (i))
#define RING(at) (5 + ((at) % SIZE))
#define WORDS 9
#define THREADS 2
#define DEPTH 12
#include "tso.pml"

#ifdef NO_POSITION
#define NAME(end, n) (n)
#else
#define NAME(end, n) ((end) * 4 + (n))
#endif

inline write_little(n) {
#ifndef NO_ZERO
  store(LATEST_IS, 0);
#endif
  store(LATEST(0), put + 1);
  store(LATEST(1), put + n);
  store(LATEST_IS, NAME(put + n, n))
}

inline read_little() {
  load(LATEST_IS, is);
  taken = (is == NAME(tail, known));
  if
  :: taken ->
     load(LATEST(0), first);
     load(LATEST(1), last);
#ifndef NO_SECOND_LOOK
     load(LATEST_IS, is);
     taken = (is == NAME(tail, known))
#endif
  :: else
  fi
}

active proctype sender() {
  byte me = 0, i = 0, put = 0, head = 0, n = 0, at = 0;
  do
  :: put == BYTES -> break
  :: put < BYTES ->
     if
     :: n = 1
     :: put + 2 <= BYTES -> n = 2
     :: put + 3 <= BYTES -> n = 3
     fi;
     do
     :: load(HEAD, head);
        if
        :: put + n - head <= SIZE -> break
        :: else
        fi
     od;
     at = 0;
     do
     :: at < n -> store(RING(put + at), put + at + 1); at++
     :: else -> break
     od;
     if
     :: n <= 2 -> write_little(n)
     :: else
     fi;
     put = put + n;
     store(TAIL, put)
  od
}

active proctype receiver() {
  byte me = 1, i = 0, head = 0, tail = 0, known = 0, is = 0, first = 0, last = 0;
  bool taken;
  do
  :: head == BYTES -> break
  :: head < BYTES ->
     load(TAIL, tail);
     known = tail - head;
     taken = false;
     if
     :: known == 0
     :: known > 0 ->
        if
        :: known <= 2 -> read_little()
        :: else
        fi;
        if
        :: taken -> assert(first == head + 1 && last == tail)
        :: !taken ->
           load(RING(head), first);
           assert(first == head + 1);
           known = 1
        fi;
        head = head + known;
        store(HEAD, head)
     fi
  od
}
