/* Every byte that Key-Value Observation shares between processes. Nothing else may define one.
 *
 * Value store: one sealed memfd per observable, written by its owner alone.
 *
 *        0  +--------------------------+
 *           | header           4096 B  |  sizes first, then the owner's moving words
 *     4096  +--------------------------+
 *           | keys    slot_count*256 B |  length byte, then the key's UTF-8
 *           +--------------------------+
 *           | slots   slot_count*320 B |  counters, then two records of 128 B used in turn
 *           +--------------------------+
 *           | dirty ring  ring_count*4 |  slot numbers, newest at (ring_head - 1) % ring_count
 *           +--------------------------+  page boundary: journal_offset
 *           | journal     journal_size |  the newest changes, oldest at journal_tail % journal_size (a power of two, or nothing)
 *           +--------------------------+  page boundary: heap_offset
 *           | heap         heap_size   |  blocks for values that do not fit in a record (a power of two)
 *           +--------------------------+  size
 *
 * A store's `revision` rises with each change of any key. A slot's `sequence` counts the writes of its key: the newest
 * record is record[sequence % 2]; the owner writes the other one and then publishes it with one store. It is in force as soon
 * as `revision` has reached its own; until then the one before is. So a transaction becomes visible with one store, whatever
 * the number of its keys, and an owner that dies half-way leaves what was in force before.
 *
 * The journal keeps the changes themselves, one entry each: header, key, value, padded to 8 bytes. An entry does not wrap:
 * what is left at the end is an entry without a key, or less than an entry's header. The owner moves journal_tail on before it
 * overwrites.
 *
 * Registration table: one sealed memfd per controller, written by the controller alone.
 *
 *        0  +--------------------------+
 *           | header           4096 B  |
 *     4096  +--------------------------+
 *           | entries  store_count*64  |  per store: is anything observed, are new keys awaited
 *           +--------------------------+
 *           | bitmaps  store_count*8 K |  per store: one bit a slot, set while that key is observed
 *           +--------------------------+
 *           | told     store_count*8 K |  per store: one bit a slot, set while the controller has to tell somebody of that key
 *           +--------------------------+
 *           | rows     row_count*576   |  who observes what since when
 *           +--------------------------+
 *           | links    link_count*64   |  per store and observing process that its owner rings: which keys it observes
 *           +--------------------------+  page boundary: link_bitmaps_offset
 *           | link bitmaps         8 K |  per link: one bit a slot
 *           +--------------------------+  size
 *
 * Bell page: one sealed memfd per client that is rung directly, written by that client alone: whether it sleeps.
 *
 * History of the layout numbers (never reused): 1, the first; 2, revisions of a store, the journal; 3, links, bell pages. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#define KVOS_MAGIC 0x314f564bu /* "KVO1" */
#define KVOT_MAGIC 0x3154564bu /* "KVT1" */
#define KVOB_MAGIC 0x3142564bu /* "KVB1" */
#define KVO_LAYOUT 3
#define KVO_PAGE 4096u
#define KVOS_KEY_SIZE 256u
#define KVOS_KEY_MAX 255u
#define KVOS_INLINE 80u
#define KVOS_SLOTS_MAX 65536u
#define KVOS_RING_MAX 1048576u
#define KVOS_BLOCK_MIN 128u
#define KVOS_HEAP_MIN 65536u
#define KVOS_HEAP_MAX (1ull << 40)
#define KVOS_JOURNAL_MIN 4096u
#define KVOS_JOURNAL_MAX (1ull << 32)
#define KVOT_BITMAP 8192u
#define KVOS_TOLD 0x80000000u /* in an entry of the dirty ring, beside the slot: the controller has to look at it */

enum kvo_type {
  KVO_UNSET = 0,    /* the key is bound to the slot but has no value yet */
  KVO_NONE = 1,
  KVO_FALSE = 2,
  KVO_TRUE = 3,
  KVO_INT = 4,      /* 8 bytes, two's complement */
  KVO_BIGINT = 5,   /* any length, two's complement, little end first */
  KVO_FLOAT = 6,    /* 8 bytes, IEEE 754 */
  KVO_STR = 7,      /* UTF-8 */
  KVO_BYTES = 8,
  KVO_DATETIME = 9, /* ISO 8601 text */
  KVO_PACKED = 10,  /* MessagePack */
  KVO_ARRAY = 11,   /* a NumPy array: 64 bytes or a multiple of header, then the elements */
  KVO_REMOVED = 255 /* the key was removed; one byte says why; the slot keeps its key and its count of writes */
};

/* What a record's `type` holds beside the type. */
#define KVO_TYPE 0xffu         /* enum kvo_type */
#define KVO_EPHEMERAL 0x100u   /* the key ends with its owner */
#define KVO_TOGETHER 0x200u    /* other keys were changed under the same revision */
#define KVO_NOT_KEPT 0x400u    /* (journal) the value was too long to be kept */
#define KVO_SAME_SHIFT 16      /* upper half: how many writes up to this one have changed nothing (at most 65535) */

enum kvo_reason { KVO_DELETED = 0, KVO_PURGED = 1, KVO_EXPIRED = 2, KVO_OWNER_DIED = 3 };

typedef struct {
  uint64_t revision;     /* of the store, once this record is in force */
  uint64_t monotonic_ns; /* CLOCK_MONOTONIC at the write */
  uint64_t wall_ns;      /* CLOCK_REALTIME at the write */
  uint64_t block;        /* offset of the value's block from the store's start; 0: the value is in place */
  uint32_t length;       /* bytes of the value */
  uint32_t crc;          /* CRC32C of all fields above and below it, and the value */
  uint32_t type;         /* enum kvo_type, and the flags above */
  uint32_t ttl_ms;       /* the value has expired so long after monotonic_ns; 0: never */
  uint8_t value[KVOS_INLINE];
} kvos_record;

typedef struct {
  uint64_t begin;    /* count of the newest write that was begun */
  uint64_t sequence; /* count of the newest write that was published */
  uint64_t binding;  /* 0: never used; odd: its key is being changed; even: stands for one key */
  uint64_t born;     /* `sequence` when it came to stand for its key */
  uint64_t reserved[4];
  kvos_record record[2];
} kvos_slot;

typedef struct {
  uint32_t magic;
  uint16_t layout;
  uint16_t header_size;
  uint64_t size;
  uint32_t slot_count;
  uint32_t slot_size;
  uint32_t key_size;
  uint32_t ring_count;
  uint64_t keys_offset;
  uint64_t slots_offset;
  uint64_t ring_offset;
  uint64_t heap_offset;
  uint64_t heap_size;
  int32_t owner_pid;
  uint32_t name_length;
  uint64_t owner_start; /* its start time in clock ticks since boot: with the pid it names one process */
  uint8_t instance[16]; /* random: no two stores share it */
  uint8_t name[256];
  uint64_t journal_offset;
  uint64_t journal_size;
  uint8_t reserved0[136];
  uint64_t directory;  /* grows whenever a key is bound to a slot */
  uint64_t slots_used; /* slots that were ever bound */
  uint64_t closed;     /* 1: the owner has closed the store; its values are the last ones */
  uint64_t reserved1[5];
  uint64_t ring_head; /* entries ever appended to the dirty ring */
  uint64_t reserved2[7];
  uint64_t revision;     /* of the newest change that is in force */
  uint64_t journal_head; /* bytes ever appended */
  uint64_t journal_tail; /* bytes ever given up: the oldest entry begins here */
  uint64_t compacted;    /* the journal has every change above this revision */
  uint64_t forgotten;    /* every deletion above this revision still stands in its key's slot */
  uint64_t reserved4[3];
  uint8_t reserved3[3392];
} kvos_header;

typedef struct {
  uint64_t position; /* bytes appended before this entry */
  uint64_t revision;
  uint64_t monotonic_ns;
  uint64_t wall_ns;
  uint64_t count;    /* writes of the key, since it has its slot */
  uint32_t size;     /* of the whole entry */
  uint32_t crc;      /* CRC32C of the entry with this field 0 */
  uint32_t slot;
  uint32_t type;     /* as a record's */
  uint32_t length;   /* bytes of the value */
  uint32_t ttl_ms;
  uint32_t key_length; /* 0: nothing but padding to the journal's end */
  uint32_t reserved;
} kvos_entry;

typedef struct {
  uint32_t magic;
  uint16_t layout;
  uint16_t header_size;
  uint64_t size;
  uint32_t store_count;
  uint32_t row_count;
  uint32_t entry_size;
  uint32_t row_size;
  uint64_t entries_offset;
  uint64_t bitmaps_offset;
  uint64_t rows_offset;
  int32_t controller_pid;
  uint32_t reserved0;
  uint64_t controller_start;
  uint8_t instance[16];
  uint32_t link_count;
  uint32_t link_size;
  uint64_t told_offset;
  uint64_t links_offset;
  uint64_t link_bitmaps_offset;
  uint8_t reserved1[392];
  uint64_t epoch; /* odd: the controller sleeps or is about to; even: it is awake and will look by itself */
  uint64_t reserved2[7];
  uint64_t beat;          /* CLOCK_MONOTONIC, in ns, when the controller was last awake */
  uint64_t hung_after_ms; /* it counts as hung if that was longer ago; 0: it gives no sign of life */
  uint8_t reserved3[3504];
} kvot_header;

enum kvot_flags {
  KVOT_SOME = 1, /* some slots are observed: their bits are set */
  KVOT_ALL = 2,  /* every key is observed, present or to come */
  KVOT_NEW = 4   /* somebody waits for a key that the store does not have yet */
};

typedef struct {
  uint32_t flags; /* what anybody observes */
  uint32_t told;  /* what the controller has to tell somebody of; the same flags */
  uint32_t reserved[14];
} kvot_entry;

typedef struct {
  uint32_t flags; /* what this process observes of this store; 0 also if the link is not used */
  uint32_t store; /* index of the store's entry */
  int32_t observer_pid;
  uint32_t reserved0;
  uint64_t observer_start;
  uint64_t reserved[5];
} kvot_link;

typedef struct {
  uint32_t live; /* 1: the row holds a registration */
  int32_t observer_pid;
  int32_t observable_pid; /* 0: the observable has not appeared yet */
  uint32_t store;         /* index of the store's entry; UINT32_MAX: none yet */
  uint64_t observer_start;
  uint64_t registered_ns; /* CLOCK_REALTIME */
  uint32_t key_length;    /* 0: every key of the observable */
  uint32_t name_length;
  uint8_t key[256];
  uint8_t name[256];
  uint8_t reserved[24];
} kvot_row;

typedef struct {
  uint32_t magic;
  uint16_t layout;
  uint16_t header_size;
  uint64_t reserved0[7];
  uint64_t epoch; /* odd: the client sleeps or is about to; even: it is awake and will look at the dirty rings by itself */
  uint64_t reserved1[7];
  uint8_t reserved2[3968];
} kvob_page;

_Static_assert(sizeof(kvos_record) == 128, "record");
_Static_assert(offsetof(kvos_record, block) == 24, "record.block");
_Static_assert(offsetof(kvos_record, crc) == 36, "record.crc");
_Static_assert(offsetof(kvos_record, type) == 40, "record.type");
_Static_assert(offsetof(kvos_record, value) == 48, "record.value");
_Static_assert(sizeof(kvos_slot) == 320, "slot");
_Static_assert(offsetof(kvos_slot, sequence) == 8, "slot.sequence");
_Static_assert(offsetof(kvos_slot, binding) == 16, "slot.binding");
_Static_assert(offsetof(kvos_slot, born) == 24, "slot.born");
_Static_assert(offsetof(kvos_slot, record) == 64, "slot.record");
_Static_assert(sizeof(kvos_header) == KVO_PAGE, "store header");
_Static_assert(offsetof(kvos_header, size) == 8, "header.size");
_Static_assert(offsetof(kvos_header, keys_offset) == 32, "header.keys_offset");
_Static_assert(offsetof(kvos_header, owner_pid) == 72, "header.owner_pid");
_Static_assert(offsetof(kvos_header, instance) == 88, "header.instance");
_Static_assert(offsetof(kvos_header, name) == 104, "header.name");
_Static_assert(offsetof(kvos_header, directory) == 512, "header.directory");
_Static_assert(offsetof(kvos_header, ring_head) == 576, "header.ring_head");
_Static_assert(offsetof(kvos_header, journal_offset) == 360, "header.journal_offset");
_Static_assert(offsetof(kvos_header, revision) == 640, "header.revision");
_Static_assert(offsetof(kvos_header, forgotten) == 672, "header.forgotten");
_Static_assert(sizeof(kvos_entry) == 72, "entry of the journal");
_Static_assert(offsetof(kvos_entry, crc) == 44, "entry.crc");
_Static_assert(sizeof(kvot_header) == KVO_PAGE, "table header");
_Static_assert(offsetof(kvot_header, entries_offset) == 32, "table.entries_offset");
_Static_assert(offsetof(kvot_header, instance) == 72, "table.instance");
_Static_assert(offsetof(kvot_header, epoch) == 512, "table.epoch");
_Static_assert(offsetof(kvot_header, beat) == 576, "table.beat");
_Static_assert(offsetof(kvot_header, link_bitmaps_offset) == 112, "table.link_bitmaps_offset");
_Static_assert(sizeof(kvot_entry) == 64, "entry");
_Static_assert(sizeof(kvot_link) == 64, "link");
_Static_assert(offsetof(kvot_link, observer_start) == 16, "link.observer_start");
_Static_assert(sizeof(kvob_page) == KVO_PAGE, "bell page");
_Static_assert(offsetof(kvob_page, epoch) == 64, "bell.epoch");
_Static_assert(sizeof(kvot_row) == 576, "row");
_Static_assert(offsetof(kvot_row, key) == 40, "row.key");
_Static_assert(KVOT_BITMAP * 8 == KVOS_SLOTS_MAX, "one bit a slot");
