# Reading statistics segments. Their bytes are another process's: sizes are checked, counters are copied, text is escaped.
cdef dict state_names = {
    MARKED: "connecting", PENDING: "undecided", CANDIDATE: "undecided", OFFERED: "offered", LIVE: "live", PLAIN: "plain"}


def read_statistics(bytes data, bytes again):
    """One statistics segment: {"pid", "uid", "start_ticks", "since_ns", "accelerated", "refused", "connections"}.

    data, again: its bytes, read twice; a connection that was being described during both is left out. ValueError: no
    segment of this version. Byte and message counts are int, times nanoseconds since 1970.
    """
    cdef const char *base = data
    cdef const char *later = again
    cdef const proc_stats_t *h = <const proc_stats_t *>base
    cdef const conn_stats_t *s
    cdef const conn_stats_t *t
    cdef size_t i, n, size = min(len(data), len(again))
    if size < KVO_STATS_HEADER_BYTES or h.magic != KVO_STATS_MAGIC or h.version != KVO_STATS_VERSION \
            or h.header_bytes != KVO_STATS_HEADER_BYTES or h.slot_bytes != KVO_STATS_SLOT_BYTES:
        raise ValueError("not a statistics segment of this version")
    connections = []
    n = (size - KVO_STATS_HEADER_BYTES) // KVO_STATS_SLOT_BYTES
    for i in range(n):
        s = <const conn_stats_t *>(base + KVO_STATS_HEADER_BYTES) + i
        t = <const conn_stats_t *>(later + KVO_STATS_HEADER_BYTES) + i
        if s.sequence & 1 or s.sequence != t.sequence or s.state not in state_names:
            continue
        connections.append({
            "id": FIRST_ID - <int>i,
            "side": "server" if s.role else "client",
            "state": state_names[s.state],
            "reason": kvo_reason_name(<int>s.reason).decode() if s.state == PLAIN else None,
            "path": s.path[:KVO_STATS_PATH].split(b"\0", 1)[0].decode("utf-8", "backslashreplace"),
            "peer_pid": s.peer_pid,
            "since_ns": s.since_ns,
            "sent": s.sent, "received": s.received, "sends": s.sends, "receives": s.receives,
            "sleeps": s.sleeps, "bells": s.bells, "bells_saved": max(0, <int64_t>(s.sends - s.data_bells)),
            "spins_won": s.spins_won, "spins_lost": s.spins_lost,
        })
    return {
        "pid": h.pid, "uid": h.uid, "start_ticks": h.start_ticks, "since_ns": h.since_ns, "accelerated": h.accelerated,
        "refused": {kvo_reason_name(<int>i).decode(): h.refused[i]
                    for i in range(1, KVO_REASONS) if h.refused[i]},
        "connections": connections,
    }


def path_selected(str globs, bytes path):
    """Whether KVOSHIM_PATHS with this text selects a path (as in sun_path). ValueError: the text is unusable."""
    import os
    cdef char **parsed = NULL
    cdef bytes text = os.fsencode(globs)
    cdef const char *why = kvo_paths_parse(text, &parsed)
    if why != NULL:
        raise ValueError(why.decode())
    selected = kvo_paths_match(parsed, path, len(path)) != 0
    free(parsed[0])
    free(parsed)
    return selected
