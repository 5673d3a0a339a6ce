/* The cut-over: does a connection that begins on the kernel socket go on in the rings with each byte in its place?
 * (stream.pml has the steps.)
 *
 * Variants, by -D: CLIENT, SERVER: the threads of that end: S a sender, R a receiver, both SR, RR, T one that does both, SL,
 * RL with one that only takes back what can be taken back; CLIENT_SENDS, SERVER_SENDS: bytes; WITHDRAW: the server may
 * take its offer back at any time; PATIENT: a sender ends the stream only once all has arrived; HEAVY: no membarrier;
 * STRONG: no store buffers (three threads have too many states with them). All other names are mutants.
 */
#define SIZE 3
#define ROOM 5
#ifdef WITHDRAW
#define MAY_TURN(s) ((s) == 1)
#else
#define MAY_TURN(s) false
#endif

#include "stream.pml"

init {
  atomic {
    mem[STATE(0)] = PENDING; mem[STATE(1)] = CANDIDATE;
#ifndef NOT_ARMED
    mem[WAIT(0)] = WANT_DATA; mem[WAIT(1)] = WANT_DATA;  /* segment_create: both directions start armed */
#endif
    run_end(CLIENT, 0, 0);
    run_end(SERVER, 1, CLIENTS)
  }
}
