"""Beyond one host: the registries of the hosts that share a user's home directory make one (docs/registry.md, "Hosts").

A bridge is a process that a host's registry starts. With NATS as the engine, it has a server of this host's run, tells every other
host's server what is registered here, and tells the registry what the others have told this one's. Or all use an operator's cluster.

    __main__, bridge         the process: what the registry says and is told
    writer, watcher, asking  what is registered here goes out; what others say comes in; questions to processes of other hosts
    server, connecting       this host's server; connections, made safe
    authority                the private certificates
    directory, keys          who is there and who is silent, as plain data; how things are called in the bucket

Each file imports only files below it in this list. Nothing else of the package imports nats-py or cryptography (extra "nats").
"""
