/* As tso.pml, for larger models: a store buffer has room for two stores, a third pushes the oldest out. The words of memory
 * begin at 1; what an empty place would write goes to word 0. Include after defining WORDS and THREADS.
 */
byte mem[WORDS];
byte at0[THREADS], value0[THREADS], at1[THREADS], value1[THREADS];  /* 0 is the older one */

/* Inside d_step. */
inline oldest(p) {
  mem[at0[p]] = value0[p]; at0[p] = at1[p]; value0[p] = value1[p]; at1[p] = 0; value1[p] = 0
}
inline drain_buffer(p) {
  mem[at0[p]] = value0[p]; mem[at1[p]] = value1[p]; at0[p] = 0; value0[p] = 0; at1[p] = 0; value1[p] = 0
}

inline load(address, out) {
  out = (at1[me] == (address) -> value1[me] : (at0[me] == (address) -> value0[me] : mem[address]))
}
#ifdef STRONG  /* no store buffers, for the largest ones */
inline store(address, v) { mem[address] = v }
#else
inline store(address, v) {
  d_step {
    if
    :: at0[me] == 0 -> at0[me] = address; value0[me] = v
    :: else ->
      if
      :: at1[me] -> oldest(me)
      :: else
      fi;
      at1[me] = address; value1[me] = v
    fi
  }
}
#endif
inline fence() { d_step { drain_buffer(me) } }
inline add(address, v) { d_step { drain_buffer(me); mem[address] = mem[address] + (v) } }
inline set_bits(address, bits) { d_step { drain_buffer(me); mem[address] = mem[address] | (bits) } }
inline clear_bits(address, bits, before) {
  d_step { drain_buffer(me); before = mem[address]; mem[address] = mem[address] & ~(bits) }
}
inline membarrier() {
  d_step {
    drain_buffer(0); drain_buffer(1);
#if THREADS > 2
    drain_buffer(2);
#endif
#if THREADS > 3
    drain_buffer(3);
#endif
  }
}

active proctype memory() {
end:
  do
  :: d_step { at0[0] -> oldest(0) }
  :: d_step { at0[1] -> oldest(1) }
#if THREADS > 2
  :: d_step { at0[2] -> oldest(2) }
#endif
#if THREADS > 3
  :: d_step { at0[3] -> oldest(3) }
#endif
  od
}
