# Makes Redis' own tests speak to their servers over Unix sockets: a port stands for the socket PORT.sock in TMPDIR, where
# there is one. What is not a Redis server, such as the tests' own control connections, stays on TCP.
load [pwd]/unix_socket.so unixsocket
rename socket tcp_socket
proc socket args {
    if {[llength $args] == 2 && [file exists [set path $::env(TMPDIR)/[lindex $args 1].sock]]} {
        return [unix_socket $path]
    }
    tailcall tcp_socket {*}$args
}
