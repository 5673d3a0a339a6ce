/* What client and server of the stream benchmark say to each other, in host byte order.
 *
 * The client leads: it announces a phase, both do it, the server answers with its account. So one server
 * serves every mode, warm-up and measurement are phases of their own, and one line tells both sides' CPU. */
#pragma once

#include <stdint.h>

enum { PHASE_ECHO = 1, PHASE_SINK = 2, PHASE_END = 3 };
enum { TAKE_EXACT = 0, TAKE_ANY = 1 };

struct phase {
    uint32_t what, take; /* take: in PHASE_SINK, whole messages or whatever is there */
    uint64_t count, size;
};

struct account {
    uint64_t count, bytes, cpu_ns, switches;
};

/* In connection-a-request mode a connection carries one 8-byte request; these two are not requests. */
#define REQUEST_RESET (~(uint64_t)1) /* warm-up is over: forget the CPU time used so far */
#define REQUEST_END (~(uint64_t)0)   /* answer with the account, then exit */
