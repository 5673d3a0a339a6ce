"""kvoshim's benchmark: the same programs on kernel sockets and through the shim, in one run.

Layers, each importing only those above it in this list:

    machine   build            the computer; the drivers, compiled
    processes proof            starting, waiting, ending; was the run accelerated?
    cases                      what is measured, and what is asked of it, as data
    drivers                    one measured run of one case: own stream programs
    applications costs         real servers; what the shim costs where it carries no bytes
    verdict                    repetitions to medians, ratios and verdicts
    runner                     the order of the runs
    table                      what a person reads
    __main__                   the command line

A benchmark is not a test: nothing here fails because something was slow.
"""
