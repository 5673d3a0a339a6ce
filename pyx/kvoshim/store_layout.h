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
 *           +--------------------------+  page boundary: heap_offset
 *           | heap         heap_size   |  blocks for values that do not fit in a record (a power of two)
 *           +--------------------------+  size
 *
 * A key's version is its slot's `sequence`: the record in force is record[sequence % 2]. The owner writes the
 * other record and then publishes it with one store: an owner that dies half-way leaves the last value whole.
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
 *           | rows     row_count*576   |  who observes what since when
 *           +--------------------------+  size
 *
 * History of the layout numbers (never reused): 1, the first. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#define KVOS_MAGIC 0x314f564bu /* "KVO1" */
#define KVOT_MAGIC 0x3154564bu /* "KVT1" */
#define KVO_LAYOUT 1
#define KVO_PAGE 4096u
#define KVOS_KEY_SIZE 256u
#define KVOS_KEY_MAX 255u
#define KVOS_INLINE 80u
#define KVOS_SLOTS_MAX 65536u
#define KVOS_RING_MAX 1048576u
#define KVOS_BLOCK_MIN 128u
#define KVOS_HEAP_MIN 65536u
#define KVOS_HEAP_MAX (1ull << 40)
#define KVOT_BITMAP 8192u

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
  KVO_REMOVED = 255 /* the key was removed; the slot keeps its key and its version */
};

typedef struct {
  uint64_t version;      /* the sequence under which this record was published */
  uint64_t monotonic_ns; /* CLOCK_MONOTONIC at the write */
  uint64_t wall_ns;      /* CLOCK_REALTIME at the write */
  uint64_t block;        /* offset of the value's block from the store's start; 0: the value is in place */
  uint32_t length;       /* bytes of the value */
  uint32_t crc;          /* CRC32C of all fields above and below it, and the value */
  uint32_t type;         /* enum kvo_type */
  uint32_t reserved;
  uint8_t value[KVOS_INLINE];
} kvos_record;

typedef struct {
  uint64_t begin;    /* version of the newest write that was begun */
  uint64_t sequence; /* version of the newest write that was published */
  uint64_t binding;  /* 0: never used; odd: its key is being changed; even: stands for one key */
  uint64_t reserved[5];
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
  uint8_t reserved0[152];
  uint64_t directory;  /* grows whenever a key is bound to a slot */
  uint64_t slots_used; /* slots that were ever bound */
  uint64_t closed;     /* 1: the owner has closed the store; its values are the last ones */
  uint64_t reserved1[5];
  uint64_t ring_head; /* entries ever appended to the dirty ring */
  uint64_t reserved2[7];
  uint8_t reserved3[3456];
} kvos_header;

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
  uint8_t reserved1[424];
  uint64_t epoch; /* odd: the controller sleeps or is about to; even: it is awake and will look by itself */
  uint64_t reserved2[7];
  uint8_t reserved3[3520];
} kvot_header;

enum kvot_flags {
  KVOT_SOME = 1, /* some slots are observed: their bits are set */
  KVOT_ALL = 2,  /* every key is observed, present or to come */
  KVOT_NEW = 4   /* somebody waits for a key that the store does not have yet */
};

typedef struct {
  uint32_t flags;
  uint32_t reserved[15];
} kvot_entry;

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

_Static_assert(sizeof(kvos_record) == 128, "record");
_Static_assert(offsetof(kvos_record, block) == 24, "record.block");
_Static_assert(offsetof(kvos_record, crc) == 36, "record.crc");
_Static_assert(offsetof(kvos_record, type) == 40, "record.type");
_Static_assert(offsetof(kvos_record, value) == 48, "record.value");
_Static_assert(sizeof(kvos_slot) == 320, "slot");
_Static_assert(offsetof(kvos_slot, sequence) == 8, "slot.sequence");
_Static_assert(offsetof(kvos_slot, binding) == 16, "slot.binding");
_Static_assert(offsetof(kvos_slot, record) == 64, "slot.record");
_Static_assert(sizeof(kvos_header) == KVO_PAGE, "store header");
_Static_assert(offsetof(kvos_header, size) == 8, "header.size");
_Static_assert(offsetof(kvos_header, keys_offset) == 32, "header.keys_offset");
_Static_assert(offsetof(kvos_header, owner_pid) == 72, "header.owner_pid");
_Static_assert(offsetof(kvos_header, instance) == 88, "header.instance");
_Static_assert(offsetof(kvos_header, name) == 104, "header.name");
_Static_assert(offsetof(kvos_header, directory) == 512, "header.directory");
_Static_assert(offsetof(kvos_header, ring_head) == 576, "header.ring_head");
_Static_assert(sizeof(kvot_header) == KVO_PAGE, "table header");
_Static_assert(offsetof(kvot_header, entries_offset) == 32, "table.entries_offset");
_Static_assert(offsetof(kvot_header, instance) == 72, "table.instance");
_Static_assert(offsetof(kvot_header, epoch) == 512, "table.epoch");
_Static_assert(sizeof(kvot_entry) == 64, "entry");
_Static_assert(sizeof(kvot_row) == 576, "row");
_Static_assert(offsetof(kvot_row, key) == 40, "row.key");
_Static_assert(KVOT_BITMAP * 8 == KVOS_SLOTS_MAX, "one bit a slot");
