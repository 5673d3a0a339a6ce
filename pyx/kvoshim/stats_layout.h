/* Every byte of a process's statistics segment, /dev/shm/kvoshim-stats-<uid>-<pid>-<inode of its PID namespace>, mode
 * 0600. Written by its process alone, read by anybody whom the mode admits (stats.pxi). ARCHITECTURE.md, "Statistics".
 *
 *   0                        struct kvo_stats_header
 *   KVO_STATS_HEADER_BYTES   struct kvo_stats_connection[], to the end of the file: first connection -100, then -101, ...
 *
 * Version history (numbers are never reused):
 *   1  first layout
 */
#pragma once
#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#define KVO_STATS_MAGIC 0x31544154534f564bULL /* "KVOSTAT1", little endian */
#define KVO_STATS_VERSION 1u
#define KVO_STATS_HEADER_BYTES 512
#define KVO_STATS_SLOT_BYTES 256
#define KVO_STATS_REASONS 32 /* room for enum kvo_reason (runtime.h) */
#define KVO_STATS_PATH 108
#define KVO_STATS_COUNTER_BYTES 72

/* Where a connection stands; connection.pxd tells what each means. */
enum kvo_state {
  KVO_FREE = 0,
  KVO_MARKED = 1,
  KVO_PENDING = 2,
  KVO_CANDIDATE = 3,
  KVO_OFFER_MADE = 4,
  KVO_LIVE = 5,
  KVO_PLAIN = 6,
};

/* One connection. Counters are those of this process since it has had the connection; one thread a direction is counted
 * exactly, several may lose a few. */
struct kvo_stats_connection {
  /* line 0 */
  uint64_t sent;       /* bytes */
  uint64_t received;
  uint64_t sends;      /* messages: calls that moved bytes */
  uint64_t receives;
  uint64_t sleeps;     /* waits that went to the kernel */
  uint64_t bells;      /* doorbells rung, for data or for space */
  uint64_t data_bells; /* of these for data: every other message woke nobody */
  uint64_t spins_won;  /* waits that spinning ended */
  /* line 1 */
  uint64_t spins_lost;
  uint64_t since_ns;   /* CLOCK_REALTIME of connect() or accept() */
  uint32_t sequence;   /* odd while since_ns, reason, role, peer_pid and path are being written */
  uint32_t state;      /* enum kvo_state; 0: the slot is free */
  uint32_t reason;     /* enum kvo_reason, in state KVO_PLAIN */
  uint32_t role;       /* 0 client, 1 server */
  int32_t peer_pid;    /* 0: not known */
  uint32_t pad[7];
  /* lines 2 and 3 */
  char path[KVO_STATS_PATH]; /* zero-terminated; a leading '@' for an abstract name */
  uint32_t pad2[5];
};

struct kvo_stats_header {
  uint64_t magic;
  uint32_t version;
  uint32_t header_bytes;
  uint32_t slot_bytes;
  uint32_t reasons;      /* elements of refused[] in use */
  int32_t pid;
  uint32_t uid;
  uint64_t start_ticks;  /* field 22 of /proc/<pid>/stat: another process with this PID has another one; 0: not known */
  uint64_t since_ns;     /* CLOCK_REALTIME when this was made */
  uint64_t pad[2];
  uint64_t accelerated;  /* ends of connections that have switched, ever */
  uint64_t refused[KVO_STATS_REASONS]; /* that stay on the kernel, ever, by enum kvo_reason */
  uint64_t pad2[23];
};

#define KVO_STATS_AT(type, field, offset) static_assert(offsetof(type, field) == (offset), #type "." #field)
KVO_STATS_AT(struct kvo_stats_connection, sent, 0);
KVO_STATS_AT(struct kvo_stats_connection, received, 8);
KVO_STATS_AT(struct kvo_stats_connection, sends, 16);
KVO_STATS_AT(struct kvo_stats_connection, receives, 24);
KVO_STATS_AT(struct kvo_stats_connection, sleeps, 32);
KVO_STATS_AT(struct kvo_stats_connection, bells, 40);
KVO_STATS_AT(struct kvo_stats_connection, data_bells, 48);
KVO_STATS_AT(struct kvo_stats_connection, spins_won, 56);
KVO_STATS_AT(struct kvo_stats_connection, spins_lost, 64);
KVO_STATS_AT(struct kvo_stats_connection, since_ns, KVO_STATS_COUNTER_BYTES);
KVO_STATS_AT(struct kvo_stats_connection, sequence, 80);
KVO_STATS_AT(struct kvo_stats_connection, state, 84);
KVO_STATS_AT(struct kvo_stats_connection, reason, 88);
KVO_STATS_AT(struct kvo_stats_connection, role, 92);
KVO_STATS_AT(struct kvo_stats_connection, peer_pid, 96);
KVO_STATS_AT(struct kvo_stats_connection, path, 128);
static_assert(sizeof(struct kvo_stats_connection) == KVO_STATS_SLOT_BYTES, "kvo_stats_connection");
KVO_STATS_AT(struct kvo_stats_header, magic, 0);
KVO_STATS_AT(struct kvo_stats_header, version, 8);
KVO_STATS_AT(struct kvo_stats_header, header_bytes, 12);
KVO_STATS_AT(struct kvo_stats_header, slot_bytes, 16);
KVO_STATS_AT(struct kvo_stats_header, reasons, 20);
KVO_STATS_AT(struct kvo_stats_header, pid, 24);
KVO_STATS_AT(struct kvo_stats_header, uid, 28);
KVO_STATS_AT(struct kvo_stats_header, start_ticks, 32);
KVO_STATS_AT(struct kvo_stats_header, since_ns, 40);
KVO_STATS_AT(struct kvo_stats_header, accelerated, 64);
KVO_STATS_AT(struct kvo_stats_header, refused, 72);
static_assert(sizeof(struct kvo_stats_header) == KVO_STATS_HEADER_BYTES, "kvo_stats_header");
