/* Every byte between the spawner and its controller: one message is one packet of a SOCK_SEQPACKET socket, little end first.
 * kvoshim/services/spawner/wire.py says the same; tests/services/spawner/test_wire.py compares the two.
 *
 *   0 magic u32 | 4 type u16 | 6 fds u16 | 8 size u32 | 12 serial u32 | 16 the type's own fields
 *
 * fds: descriptors that come along (SCM_RIGHTS). size: of the whole message. serial: the asker's; an answer has that of its request.
 * Versions: 1 the first. A number is never given another meaning; a change of any layout is a new magic. */
#ifndef KVS_WIRE_H
#define KVS_WIRE_H

#include <stddef.h>
#include <stdint.h>

#define KVS_MAGIC 0x3153564bu /* "KVS1" */
#define KVS_MESSAGE_MAX 131072u
#define KVS_FDS_MAX 64u
#define KVS_NAME_MAX 120u
#define KVS_LIMITS_MAX 16u
#define KVS_STRINGS_MAX 4096u /* arguments, and variables of the environment */
#define KVS_TARGET_MAX 65535 /* descriptor number in a child */
#define KVS_CHILDREN_MAX 4096u
#define KVS_HELD_MAX 8192u
#define KVS_UNCHANGED 0xffffffffu
#define KVS_LISTEN_PID "LISTEN_PID=0000000000" /* this variable gets the child's PID in place of the zeros */

enum kvs_type {
  /* from the controller */
  KVS_SPAWN = 1, KVS_LIST = 2, KVS_ACK = 3, KVS_SIGNAL = 4, KVS_HOLD = 5, KVS_FETCH = 6, KVS_DROP = 7, KVS_FINISH = 8,
  /* answers: one to each request but SPAWN, which is answered by REFUSED, SPAWNED or FAILED, and LIST, by CHILD, HELD, END */
  KVS_DONE = 64, KVS_REFUSED = 65, KVS_FETCHED = 66, KVS_CHILD = 67, KVS_HELD = 68, KVS_END = 69,
  /* unasked: EXIT and FAILED are kept, and in each LIST, until they are acknowledged */
  KVS_HELLO = 80, KVS_SPAWNED = 81, KVS_FAILED = 82, KVS_EXIT = 83, KVS_STRANGER = 84, KVS_SIGNALLED = 85, KVS_STOP = 86,
};

enum kvs_flag {
  /* of an order, and shown with its child */
  KVS_SESSION = 0x1, KVS_GROUP = 0x2, KVS_IDS = 0x4, KVS_DIE_TOO = 0x8,
  /* of a child: one of the first three; with ENDED, perhaps the others */
  KVS_STARTING = 0x100, KVS_RUNNING = 0x200, KVS_ENDED = 0x400, KVS_NOT_STARTED = 0x800, KVS_CORE = 0x1000,
  /* of a SIGNAL */
  KVS_WHOLE_GROUP = 0x10000,
  /* of a HELLO */
  KVS_PID_1 = 0x100000, KVS_STOPPING = 0x200000,
};

/* Where an order failed. */
enum kvs_step {
  KVS_AT_MESSAGE = 1, KVS_AT_TOKEN = 2, KVS_AT_ROOM = 3, KVS_AT_PIPE = 4, KVS_AT_FORK = 5, KVS_AT_DESCRIPTORS = 6,
  KVS_AT_SESSION = 7, KVS_AT_CGROUP = 8, KVS_AT_LIMITS = 9, KVS_AT_IDS = 10, KVS_AT_DIRECTORY = 11, KVS_AT_PARENT = 12,
  KVS_AT_EXEC = 13, KVS_AT_NAME = 14, KVS_AT_SIGNAL = 15, KVS_AT_END = 16,
};

struct kvs_header { uint32_t magic; uint16_t type, fds; uint32_t size, serial; };

/* Behind it: limits, groups (u32), targets (i32, one a descriptor; -1: for the spawner only), then text: directory, program, arguments,
 * environment, each with its NUL. cgroup: 1 + index of a descriptor of cgroup.procs; 0: none. uid, gid, groups count with KVS_IDS. */
struct kvs_spawn {
  struct kvs_header h;
  uint64_t token;
  uint32_t flags, umask, uid, gid;
  uint16_t limits, groups, args, envs;
  uint32_t cgroup, text;
};
struct kvs_limit { uint32_t resource, zero; uint64_t soft, hard; };

/* CHILD, SPAWNED, FAILED, EXIT. start: clock ticks since boot. ended: CLOCK_BOOTTIME in ns. status: as wait() gives it, or the errno
 * of a program that was not started. max_rss in KiB. */
struct kvs_record {
  struct kvs_header h;
  uint64_t token, start, ended, user_us, system_us, max_rss;
  int32_t pid, status;
  uint32_t flags, step;
};

struct kvs_hello { struct kvs_header h; int32_t pid; uint32_t flags; uint64_t start; uint32_t children_max, held_max; };
struct kvs_ack { struct kvs_header h; uint64_t token; };
struct kvs_signal { struct kvs_header h; uint64_t token; int32_t signo; uint32_t flags; };
struct kvs_refused { struct kvs_header h; uint64_t token; int32_t error; uint32_t step; };
struct kvs_stranger { struct kvs_header h; int32_t pid, status; };
struct kvs_finish { struct kvs_header h; int32_t status; uint32_t zero; };  /* status: as wait() gives it */
struct kvs_signalled { struct kvs_header h; int32_t signo; uint32_t zero; };
struct kvs_stop { struct kvs_header h; int32_t signo; uint32_t within_ms; };
/* HOLD, FETCH, DROP, HELD, FETCHED: the header and a name without a NUL, 1 to KVS_NAME_MAX bytes. LIST, DONE, END: the header. */

#define KVS_IS(type, field, offset) _Static_assert(offsetof(struct type, field) == offset, #type "." #field)
#define KVS_SIZE(type, size) _Static_assert(sizeof(struct type) == size, #type)
KVS_IS(kvs_header, type, 4); KVS_IS(kvs_header, fds, 6); KVS_IS(kvs_header, size, 8); KVS_IS(kvs_header, serial, 12);
KVS_IS(kvs_spawn, token, 16); KVS_IS(kvs_spawn, flags, 24); KVS_IS(kvs_spawn, umask, 28); KVS_IS(kvs_spawn, uid, 32);
KVS_IS(kvs_spawn, gid, 36); KVS_IS(kvs_spawn, limits, 40); KVS_IS(kvs_spawn, groups, 42); KVS_IS(kvs_spawn, args, 44);
KVS_IS(kvs_spawn, envs, 46); KVS_IS(kvs_spawn, cgroup, 48); KVS_IS(kvs_spawn, text, 52);
KVS_IS(kvs_limit, soft, 8); KVS_IS(kvs_limit, hard, 16);
KVS_IS(kvs_record, token, 16); KVS_IS(kvs_record, start, 24); KVS_IS(kvs_record, ended, 32); KVS_IS(kvs_record, user_us, 40);
KVS_IS(kvs_record, system_us, 48); KVS_IS(kvs_record, max_rss, 56); KVS_IS(kvs_record, pid, 64); KVS_IS(kvs_record, status, 68);
KVS_IS(kvs_record, flags, 72); KVS_IS(kvs_record, step, 76);
KVS_IS(kvs_hello, pid, 16); KVS_IS(kvs_hello, flags, 20); KVS_IS(kvs_hello, start, 24); KVS_IS(kvs_hello, children_max, 32);
KVS_IS(kvs_hello, held_max, 36); KVS_IS(kvs_ack, token, 16);
KVS_IS(kvs_signal, token, 16); KVS_IS(kvs_signal, signo, 24); KVS_IS(kvs_signal, flags, 28);
KVS_IS(kvs_refused, token, 16); KVS_IS(kvs_refused, error, 24); KVS_IS(kvs_refused, step, 28);
KVS_IS(kvs_stranger, pid, 16); KVS_IS(kvs_stranger, status, 20); KVS_IS(kvs_finish, status, 16);
KVS_IS(kvs_signalled, signo, 16); KVS_IS(kvs_stop, signo, 16); KVS_IS(kvs_stop, within_ms, 20);
KVS_SIZE(kvs_header, 16); KVS_SIZE(kvs_spawn, 56); KVS_SIZE(kvs_limit, 24); KVS_SIZE(kvs_record, 80); KVS_SIZE(kvs_hello, 40);
KVS_SIZE(kvs_ack, 24); KVS_SIZE(kvs_signal, 32); KVS_SIZE(kvs_refused, 32); KVS_SIZE(kvs_stranger, 24); KVS_SIZE(kvs_finish, 24);
KVS_SIZE(kvs_signalled, 24); KVS_SIZE(kvs_stop, 24);
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "written for machines that put the little end first");

#endif
