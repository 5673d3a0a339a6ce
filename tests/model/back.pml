/* The way back: does a connection that returns to the kernel socket keep each byte in its place? (stream.pml has the steps.)
 *
 * Both ends are attached; UNREAD bytes that the client sent before its cut lie in the server's kernel socket. Variants, by
 * -D, beside those of cut.pml: CLIENT_LEAVES, SERVER_LEAVES: that end may leave once, at any time; FROM_START:
 * not attached yet.
 */
#define GOES_BACK
#define SIZE 3
#define ROOM 6
#ifndef UNREAD
#define UNREAD 0
#endif

#ifdef CLIENT_LEAVES
#define MAY_TURN_CLIENT(s) ((s) == 0)
#else
#define MAY_TURN_CLIENT(s) false
#endif
#ifdef SERVER_LEAVES
#define MAY_TURN_SERVER(s) ((s) == 1)
#else
#define MAY_TURN_SERVER(s) false
#endif
#define MAY_TURN(s) (MAY_TURN_CLIENT(s) || MAY_TURN_SERVER(s))

#include "stream.pml"

init {
  atomic {
    mem[WAIT(0)] = WANT_DATA; mem[WAIT(1)] = WANT_DATA;
#ifdef FROM_START
    mem[STATE(0)] = PENDING; mem[STATE(1)] = CANDIDATE;
#else
    mem[HEADER] = ATTACHED;
    mem[STATE(0)] = LIVE; mem[STATE(1)] = LIVE;
    mem[FLAGS(0)] = CUT_FLAGS; mem[FLAGS(1)] = CUT_FLAGS;
    mem[CUT_AT(0)] = UNREAD; mem[KERNEL_SENT(0)] = UNREAD;
#if UNREAD > 0
    socket[1]!1;
#endif
#endif
    run_end(CLIENT, 0, 0);
    run_end(SERVER, 1, CLIENTS)
  }
}
