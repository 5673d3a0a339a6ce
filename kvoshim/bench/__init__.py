"""kvoshim's benchmark: the same programs on kernel sockets, through the shim and over other transports, in one run.

Layers, each importing only those above it in this list:

    machine   build            the computer; the drivers, compiled
    processes proof            starting, waiting, ending; was the run accelerated?
    model     cases            what a case and a demand are; all of them, as data
    drivers                    one measured run of one case: own stream programs
    peers                      the same over other transports
    costs     loads            what the shim costs where it carries no bytes; many connections, many pairs
    observation                how long a change takes to reach its observers
    names                      how long it takes to find a program by its name, and to be told of it
    services                   how long services take to be committed, started and started again
    applications               real servers
    verdict   judging          repetitions to medians and ratios; demands, noise, verdicts
    runner                     the order of the runs
    results                    a run as a file
    cells     table    plots   what a person reads
    compare                    two runs side by side
    command                    the command line (kvoshim.cli.bench)

A benchmark is not a test: its figures say something only on a machine that does nothing else.
"""
