/* Every byte that two processes share on the transport. ARCHITECTURE.md, "The segment", says the same in prose.
 *
 *   0                    struct kvo_header            (one page)
 *   KVO_HEADER_BYTES     ring client -> server        (ring_bytes)
 *   + ring_bytes         ring server -> client        (ring_bytes)
 *
 * Version history (numbers are never reused):
 *   1  first layout
 *   2  the way back to the kernel socket: KVO_LEFT, KVO_BACK, KVO_PARTED, bell_lock, resent; KVO_CLOSED
 *   3  the latest small message beside the tail, what moves in lines of its own; put
 *   4  wait: KVO_WANT_FENCE and its turns
 *   5  promised
 *   6  what both sides publish in one cache line: kvo_news
 */
#pragma once
#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#define KVO_MAGIC 0x314d4948534f564bULL /* "KVOSHIM1", little endian */
#define KVO_VERSION 6u
#define KVO_LINE 64
#define KVO_HEADER_BYTES 4096
#define KVO_NONCE_BYTES 16
#define KVO_RECORDS 16u
#define KVO_SLOTS 8u
#define KVO_STAMPS 4u
#define KVO_LATEST 2u
#define KVO_RING_MIN 4096u
#define KVO_RING_MAX (64u << 20)

/* header.state: who won, the client that attaches or the server that takes its offer back; and that one of them has left
 * the rings since, the other can only follow. */
enum { KVO_OFFERED = 1, KVO_ATTACHED = 2, KVO_WITHDRAWN = 3, KVO_PARTED = 4 };

/* side.flags, set by that side alone. */
enum {
  KVO_CUT = 1,
  KVO_SHUT_WR = 2,
  KVO_SHUT_RD = 4,
  KVO_NONBLOCK = 8,
  KVO_EXPEDITED = 16, /* membarrier is ours */
  KVO_LEFT = 32,      /* I read my incoming ring no further than head: send the rest through the kernel */
  KVO_BACK = 64,      /* behind tail my bytes come through the kernel again, and no bells any more */
  KVO_CLOSED = 128,   /* the only process that had me has closed me */
  KVO_LEAVING = 256,  /* I look whether I can leave: no record (descriptors) may be sent now */
};

/* side.wait: what that side wants of a peer that publishes. Set by the side, cleared by the peer: a wish for a doorbell when it
 * rings, that for a fence when nobody has slept for long. Above them, how often the fence has been wished for. */
enum {
  KVO_WANT_DATA = 1,
  KVO_WANT_SPACE = 2,
  KVO_WANT_ROOM = 4, /* senders sleep on this very word (a futex) for room in their ring: wake them, they need no doorbell */
  KVO_WANT_FENCE = 8, /* between publishing and the look at this word: what sleeps here need not make every CPU fence */
  KVO_WANT_TURN = 16, /* + 1 turn */
};

/* One end of the connection. "Mine" is the end that the struct belongs to. What both sides touch while messages move has two
 * cache lines to itself, since processors fetch lines in pairs. */
struct kvo_side {
  /* 0: written by my side now and then, looked at by the peer again and again */
  uint32_t flags;
  uint32_t closing;     /* a hint to look at the kernel socket: counts my processes' last close() */
  uint32_t records;     /* ancillary records I have sent: one byte each on the kernel socket, with what it carries */
  uint32_t cpu;         /* CPU + 1 on which I last waited */
  uint64_t promised;    /* tail to be, once the piece of a long message is written for which there is room already */
  uint64_t pad0[13];
  /* 128: written by my receivers, read by the peer's senders when the ring looks full */
  uint64_t head;        /* bytes I have consumed from my incoming ring, ever */
  uint64_t kernel_read; /* bytes of data I have read through the kernel */
  uint64_t stamps[KVO_STAMPS]; /* of my latest messages: position of the first byte << 32 | time, each modulo 2^32; 0: none */
  uint64_t pad1[10];
  /* 256: sleeping and waking */
  uint32_t wait;        /* KVO_WANT_*: set by me, cleared by the peer */
  uint32_t rung;        /* doorbell bytes the peer has sent, or is about to send, to my kernel socket */
  uint32_t drained;     /* doorbell bytes I have taken out of it; the peer adds those it could not send */
  uint32_t pad2[29];
  /* 384: my senders among themselves */
  uint32_t send_lock;   /* thread id of the holder, 0: free */
  uint32_t bell_lock;   /* around sending a bell, so that none comes behind KVO_BACK */
  uint64_t head_cache;  /* the peer's head when last looked at */
  uint64_t put;         /* the tail once more: to read it where the peer polls costs a transfer of the line. Written first */
  uint64_t kernel_sent; /* bytes sent through the kernel so far */
  uint64_t inode;       /* of my kernel socket: a successor by exec finds its descriptor by it */
  uint64_t resent;      /* KVO_BACK: up to where what the peer left in my ring has been sent through the kernel */
  uint64_t cut;         /* bytes I sent through the kernel before the switch; valid once flags has KVO_CUT */
  uint64_t pad3;
  /* 448: my receivers among themselves */
  uint32_t recv_lock;
  uint32_t kernel_lock; /* around reading the kernel socket */
  uint64_t tail_cache;  /* the peer's tail when last looked at */
  uint32_t reset_seen;  /* ECONNRESET has been delivered */
  uint32_t records_taken; /* ancillary records I have delivered */
  uint32_t records_seen;  /* the peer's count when tail_cache was loaded: covers every byte up to there */
  uint32_t pad4[9];
  /* 512: where my ancillary records stand in my outgoing stream, by record number modulo KVO_RECORDS */
  uint64_t record_at[KVO_RECORDS];    /* position of the first byte it goes with */
  uint32_t record_bytes[KVO_RECORDS]; /* bytes of the message it goes with */
  /* 704: who of my side waits in the kernel (doorbell.pxd) */
  uint32_t slot_owner[KVO_SLOTS];     /* thread or process id, 0: free */
  uint32_t slot_floor[KVO_SLOTS];     /* rung when it armed: it needs no earlier bell */
};

/* What one side's senders publish and the peer's receivers poll. Both sides' lie in one cache line: an answer needs no transfer of
 * its own if it is written where the request has just been read (ARCHITECTURE.md, "The latest message"). */
struct kvo_news {
  uint64_t tail;        /* bytes I have written into my outgoing ring, ever */
  uint64_t latest_is;   /* the message that `latest` holds: position behind it << 8 | its bytes; 0: none, or being written */
  uint64_t latest[KVO_LATEST]; /* a small message that lies in the ring too: with it comes in one line what else takes two */
};

struct kvo_header {
  uint64_t magic;
  uint32_t version;
  uint32_t header_bytes;
  uint64_t ring_bytes;  /* of each ring; a power of two */
  uint64_t total_bytes;
  uint8_t nonce[KVO_NONCE_BYTES];
  uint32_t state;       /* KVO_OFFERED ... */
  uint32_t pad[3];
  struct kvo_news news[2]; /* 0: the client's, 1: the server's */
  struct kvo_side side[2]; /* the same */
};

/* What the server sends over the rendezvous socket, with the segment's descriptor. */
struct kvo_offer {
  uint64_t magic;
  uint32_t version;
  uint32_t header_bytes;
  uint64_t ring_bytes;
  uint64_t total_bytes;
  uint8_t nonce[KVO_NONCE_BYTES];
};

#define KVO_AT(type, field, offset) static_assert(offsetof(type, field) == (offset), #type "." #field)
KVO_AT(struct kvo_news, tail, 0);
KVO_AT(struct kvo_news, latest_is, 8);
KVO_AT(struct kvo_news, latest, 16);
static_assert(2 * sizeof(struct kvo_news) == KVO_LINE, "kvo_news");
KVO_AT(struct kvo_side, flags, 0);
KVO_AT(struct kvo_side, closing, 4);
KVO_AT(struct kvo_side, records, 8);
KVO_AT(struct kvo_side, cpu, 12);
KVO_AT(struct kvo_side, promised, 16);
KVO_AT(struct kvo_side, head, 128);
KVO_AT(struct kvo_side, kernel_read, 136);
KVO_AT(struct kvo_side, stamps, 144);
KVO_AT(struct kvo_side, wait, 256);
KVO_AT(struct kvo_side, rung, 260);
KVO_AT(struct kvo_side, drained, 264);
KVO_AT(struct kvo_side, send_lock, 384);
KVO_AT(struct kvo_side, bell_lock, 388);
KVO_AT(struct kvo_side, head_cache, 392);
KVO_AT(struct kvo_side, put, 400);
KVO_AT(struct kvo_side, kernel_sent, 408);
KVO_AT(struct kvo_side, inode, 416);
KVO_AT(struct kvo_side, resent, 424);
KVO_AT(struct kvo_side, cut, 432);
KVO_AT(struct kvo_side, recv_lock, 448);
KVO_AT(struct kvo_side, kernel_lock, 452);
KVO_AT(struct kvo_side, tail_cache, 456);
KVO_AT(struct kvo_side, reset_seen, 464);
KVO_AT(struct kvo_side, records_taken, 468);
KVO_AT(struct kvo_side, records_seen, 472);
KVO_AT(struct kvo_side, record_at, 512);
KVO_AT(struct kvo_side, record_bytes, 640);
KVO_AT(struct kvo_side, slot_owner, 704);
KVO_AT(struct kvo_side, slot_floor, 736);
static_assert(sizeof(struct kvo_side) == 12 * KVO_LINE, "kvo_side");
KVO_AT(struct kvo_header, magic, 0);
KVO_AT(struct kvo_header, version, 8);
KVO_AT(struct kvo_header, header_bytes, 12);
KVO_AT(struct kvo_header, ring_bytes, 16);
KVO_AT(struct kvo_header, total_bytes, 24);
KVO_AT(struct kvo_header, nonce, 32);
KVO_AT(struct kvo_header, state, 48);
KVO_AT(struct kvo_header, news, 64);
KVO_AT(struct kvo_header, side, 128);
static_assert(sizeof(struct kvo_header) <= KVO_HEADER_BYTES, "kvo_header fits its page");
static_assert(sizeof(struct kvo_offer) == 48, "kvo_offer");
