"""Which snippets cover which part of what a stream socket does; test_coverage.py keeps the table complete.

A name is a snippet's (FILE, FILE:SCENE, or FILE:* for all its scenes) or another test's, as FILE.py::FUNCTION below tests/.
"""

ROWS = {
    "stream sockets on selected paths, abstract names; other kinds pass through": "passthrough paths names",
    "path selection": "paths preload/test_launcher.py::*",
    "connect before accept, non-blocking connect, full backlog": "connect_order nonblock_birth server_first",
    "accept and accept4 with flags; names hide the mark": "nonblock_birth names",
    "peers of other kinds": "served:* preload/test_mixed.py::*",
    "all calls that read and write": "io_calls lengths iovecs fortify efault preload/test_refused.py::* "
                                     "calls:mmsg_waits calls:mmsg_many calls:position calls:not_for_sockets",
    "flags of receives and sends": "msg_flags peek_wait oob",
    "non-blocking use": "nonblock nonblock_birth",
    "socket options and timeouts": "timeouts so_error_reset calls:options calls:low_water",
    "ioctl": "fionread fionread_switch nonblock ends:*",
    "shutdown": "shutdown_rd shutdown_wr shutdown_self ends:*",
    "close with data under way": "close_inflight close_bulk close_unread close_unread_both exit_inflight ends:*",
    "a killed peer": "preload/test_kill.py::*",
    "readiness": "poll_select poll_out edge_short_read epoll_early epoll_edge epoll_edge_out epoll_level epoll_many "
                 "epoll_nested epoll_fork epoll_turns epoll_arrival calls:select_high edge_short_readv "
                 "epoll_before_connect epoll_readd epoll_sleeper",
    "descriptor numbers": "dup named_early close_range fd_numbers fd_reuse files calls:no_numbers calls:swap_numbers calls:proc_link",
    "fork, vfork, posix_spawn": "fork_readers fork_share prefork spawn",
    "exec": "exec_self served:* demote",
    "descriptors and credentials in the stream": "scm_rights scm_credentials",
    "an accelerated descriptor sent to another process": "scm_self",
    "threads": "threads_close threads_duplex threads_epoll_close threads_early threads_readers threads_writers churn shutdown_wakes "
               "calls:cancel_read calls:cancel_recv calls:cancel_poll calls:cancel_epoll calls:cancel_write "
               "calls:cancel_pending",
    "signals": "eintr eintr_write epipe epipe_blocked sigio signals:*",
    "sendfile, splice, tee, copy_file_range": "sendfile calls:sendfile_errors",
    "stdio": "stdio calls:lines",
    "real programs and Python": "py_uvloop py_trio py_anyio "
                                "py_asyncio_processes py_asyncio_streams py_multiprocessing py_sockets py_socketserver "
                                "preload/test_programs.py::* servers/test_redis.py::* servers/test_postgresql.py::*",
    # What an earlier shim of this kind got wrong.
    "data written just before close is read": "close_inflight close_bulk exit_inflight",
    "a blocked reader wakes when its peer closes or is killed": "shutdown_wakes preload/test_kill.py::*",
    "epoll with one descriptor, and edge-triggered": "epoll_level epoll_edge",
    "poll with descriptor -1": "poll_select",
    "F_DUPFD, and numbers from 1024 on": "dup calls:select_high preload/test_programs.py::*",
    "the calls beside read and write": "io_calls nonblock_birth dup shutdown_wr msg_flags timeouts epipe",
    "errno of a receive that would block": "nonblock msg_flags",
    "no byte is added to the stream of a peer without the library": "preload/test_mixed.py::*",
    "connect does not wait for accept": "connect_order",
    "paths of every length": "paths",
    "nothing is left behind": "preload/test_kill.py::*",
}
