/* Shared memory as x86 shows it (TSO): each thread's plain stores wait in a first-in-first-out buffer of its own,
 * which it
 * sees itself and others do not; they reach memory in order, at any time. Read-modify-write operations and fences empty
 * the thread's buffer first; membarrier empties everybody's. Include after defining WORDS, THREADS and DEPTH; a process
 * has the locals `me` (its number) and `i`.
 *
 * What the operations stand for in atomics.h: load kvo_load, kvo_acquire; store kvo_store, kvo_release; add
 * kvo_add32; set_bits kvo_or32;
 * clear_bits kvo_and32; fence kvo_fence; membarrier kvo_fence_everywhere. kvo_light_fence is nothing at all here.
 */
typedef fifo { byte at[DEPTH]; byte value[DEPTH]; byte n };
byte mem[WORDS];
fifo buf[THREADS];

/* The oldest store of thread p reaches memory. Inside d_step. */
inline commit(p) {
  mem[buf[p].at[0]] = buf[p].value[0];
  buf[p].n--;
  i = 0;
  do
  :: i < buf[p].n -> buf[p].at[i] = buf[p].at[i + 1]; buf[p].value[i] = buf[p].value[i + 1]; i++
  :: else -> break
  od;
  buf[p].at[i] = 0; buf[p].value[i] = 0; i = 0
}

inline drain_buffer(p) {
  do
  :: buf[p].n > 0 -> commit(p)
  :: else -> break
  od
}

inline load(address, out) {
  d_step {
    out = mem[address];
    do
    :: i < buf[me].n -> if :: buf[me].at[i] == (address) -> out = buf[me].value[i] :: else fi; i++
    :: else -> break
    od;
    i = 0
  }
}

inline store(address, v) {
  d_step { buf[me].n < DEPTH -> buf[me].at[buf[me].n] = address; buf[me].value[buf[me].n] = v; buf[me].n++ }
}

inline fence() { d_step { drain_buffer(me) } }
inline add(address, v) { d_step { drain_buffer(me); mem[address] = mem[address] + (v) } }
inline set_bits(address, bits) { d_step { drain_buffer(me); mem[address] = mem[address] | (bits) } }
inline fetch_or(address, bits, was) {
  d_step { drain_buffer(me); was = mem[address]; mem[address] = mem[address] | (bits) }
}
inline clear_bits(address, bits, before) {
  d_step { drain_buffer(me); before = mem[address]; mem[address] = mem[address] & ~(bits) }
}

inline membarrier() {
  d_step {
    target_thread = 0;
    do
    :: target_thread < THREADS -> drain_buffer(target_thread); target_thread++
    :: else -> break
    od;
    target_thread = 0
  }
}
byte target_thread;

active proctype memory() {
  byte i, p;
end:
  do
  :: d_step { buf[0].n > 0 -> commit(0) }
  :: d_step { buf[1].n > 0 -> commit(1) }
#if THREADS > 2
  :: d_step { buf[2].n > 0 -> commit(2) }
#endif
#if THREADS > 3
  :: d_step { buf[3].n > 0 -> commit(3) }
#endif
  od
}
