# ruff: noqa: E501
"""What Key-Value Observation promises, and the tests that hold it to that; test_contract.py keeps the table honest.

A value names tests, as FILE.py::FUNCTION below tests/kvo (FUNCTION may have a `*`). OPEN says of each row without a test what
is missing: nothing is promised there yet. LEFT_OUT says what others have and this has not, and why. docs/kvo.md has all of it as tables, which
`python tests/kvo/contract.py` prints.
"""

# The fourteen points of the delivery contract, in the order of docs/kvo.md.
DELIVERY = {
    "1 the final value is never lost": "test_delivery.py::test_point_01_* test_observe.py::test_a_slow_observer_gets_the_last_value_and_holds_up_nobody "
                                       "test_million.py::* test_death.py::test_a_value_set_just_before_the_kill_arrives test_soak.py::*",
    "2 the revisions of a key rise strictly": "test_delivery.py::test_point_02_* test_observe.py::test_values_and_versions_go_on_under_a_successor test_million.py::* test_soak.py::*",
    "3 a transaction is one revision and one batch": "test_delivery.py::test_point_03_*",
    "4 the snapshot, then the end of the snapshot, then what follows": "test_delivery.py::test_point_04_*",
    "5 resuming from a revision, or being told that it is gone": "test_delivery.py::test_point_05_*",
    "6 what `every` skips is counted, what `latest` merges too": "test_delivery.py::test_point_06_*",
    "7 the link's state": "test_delivery.py::test_point_07_* test_standby.py::test_a_hung_controller_is_recognised "
                          "test_death.py::test_the_controller_comes_back_with_its_registrations",
    "8 a deletion says why": "test_delivery.py::test_point_08_*",
    "9 progress is visible while nothing happens": "test_delivery.py::test_point_09_*",
    "10 a write that changes nothing is told of only if asked": "test_delivery.py::test_point_10_*",
    "11 one's own writes are left out if asked": "test_delivery.py::test_point_11_*",
    "12 no callback after close()": "test_delivery.py::test_point_12_* test_observe.py::test_no_callback_after_close_has_returned "
                                    "test_observe.py::test_a_callback_may_close_its_own_token_and_observe_more",
    "13 a callback's exception is contained": "test_delivery.py::test_point_13_* test_observe.py::test_an_exception_in_a_callback_is_logged_and_goes_no_further",
    "14 every observation says whether it is alive": "test_delivery.py::test_point_14_*",
}

FEATURES = {
    "register and unregister; tables in shared memory": "test_observe.py::test_the_list_names_observables_and_observers test_table.py::*",
    "values are read without the controller": "test_death.py::test_values_set_while_there_is_no_controller_are_not_missed",
    "many writers, keys that come and go, values of any size": "test_store.py::test_values_of_changing_size "
        "test_store.py::test_a_slot_that_goes_to_another_key test_forgetting.py::* test_autostart.py::test_all_ten_clients_of_a_killed_controller_find_one_again",
    "a doorbell, scanning only as repair": "test_table.py::test_one_bell_a_sleep_and_none_while_awake "
                                           "test_observe.py::test_a_change_that_was_stored_but_never_announced_is_found",
    "direct delivery: the writer rings the observers itself": "test_direct.py::* test_delivery.py::*",
    "one wake per sleeping process": "test_direct.py::test_one_ring_a_sleep_* test_direct.py::test_two_observables_*",
    "only the controller can have somebody rung; a false ring is a look": "test_direct.py::test_a_flood_* test_direct.py::test_a_bell_*",
    "links begin, end and begin anew": "test_links.py::*",
    "a revision per key and per store": "test_revisions.py::test_one_revision_for_the_store_and_each_key_has_that_of_its_last_change",
    "options new, old, initial, prior": "test_options.py::test_new_old_initial_prior",
    "key paths": "test_options.py::test_paths_into_values test_keys.py::test_paths",
    "wildcards and prefixes": "test_options.py::test_patterns test_keys.py::test_patterns",
    "who observes a pattern is woken for its keys only": "test_patterns.py::*",
    "dependent keys": "test_publishing.py::test_dependent_keys",
    "collection changes with indexes, of sets too": "test_options.py::test_collections_tell_where_they_have_changed test_values.py::test_sets",
    "will and did change; batches that merge": "test_objects.py::test_what_is_changed_in_place test_publishing.py::test_a_batch_is_published_at_its_end_and_merges",
    "tokens end an observation when closed, observers theirs when closed or forgotten; removal is idempotent":
        "test_observe.py::test_no_callback_after_close_has_returned test_observe.py::test_what_was_collected_is_closed "
        "test_observe.py::test_closed_objects_say_so",
    "weak observers; observing oneself leaks nothing":
        "test_receiving.py::test_a_weak_observer_* test_receiving.py::test_observing_oneself_*",
    "callback, iterator, asyncio, plain descriptor":
        "test_receiving.py::test_an_iterator test_receiving.py::test_a_program_with_* test_receiving.py::test_a_program_that_selects_*",
    "a coroutine that begins to observe does not hold up its event loop": "test_awaiting.py::*",
    "wait_for a predicate": "test_receiving.py::test_wait_for",
    "delivery `latest` and `every`": "test_delivery.py::test_point_06_*",
    "initial values, then a mark, also if there are none": "test_delivery.py::test_point_04_*",
    "resuming from a revision; being told that it is gone": "test_delivery.py::test_point_05_*",
    "bounded history": "test_revisions.py::test_what_the_journal_has_no_room_for_is_announced",
    "transactions, compare-and-set, create if absent":
        "test_publishing.py::test_compare_and_set* test_revisions.py::test_a_transaction_*",
    "deletions with a reason, time to live": "test_publishing.py::test_a_time_to_live test_delivery.py::test_point_08_*",
    "cleanup when an observer or an observable dies": "test_fork.py::test_an_observable_is_gone_with_its_process_even_if_a_child_lives_on test_death.py::test_a_killed_observers_registrations_vanish "
                                                      "test_death.py::test_the_last_values_of_a_killed_observable_stay_and_observers_are_told",
    "a restarted controller is found again": "test_death.py::test_the_controller_comes_back_with_its_registrations",
    "quotas and rates by client and by user": "test_flood.py::*",
    "what one observable writes, or one observer does not read, holds up nobody else": "test_turns.py::*",
    "notifications cannot be forged": "test_other_user.py::test_notifications_are_not_forged "
        "test_strangers.py::test_a_token_serves_once_and_only_its_process",
    "peer credentials, policy by user, group and name, read-only maps": "test_sealing.py::* test_access.py::* test_other_user.py::*",
    "a checksum per record; a writer that dies tears nothing": "test_store.py::test_a_writer_killed_at_any_moment_leaves_a_whole_value "
                                                               "test_store.py::test_damaged_values_are_noticed",
    "bounded names and values": "test_observe.py::test_bad_keys test_store.py::test_keys_and_limits test_strangers.py::test_limits_are_told "
        "test_strangers.py::test_a_registration_that_cannot_be_is_refused_and_leaves_nothing",
    "memory is scrubbed": "test_store.py::test_removal_scrubs_and_versions_go_on "
                          "test_store.py::test_a_shorter_value_leaves_nothing_of_the_longer_one",
    "values: None, bool, int, float, str, bytes, datetime, list, dict": "test_store.py::test_what_is_set_is_what_is_read",
    "values: dataclass, msgspec Struct": "test_values.py::test_a_dataclass_is_read_as_what_it_is_where_its_class_is_accepted "
                                         "test_values.py::test_a_class_that_was_not_accepted_is_read_as_a_dict",
    "values: NumPy array, read without a copy": "test_values.py::test_arrays "
        "test_values.py::test_a_view_shows_memory_without_copying_and_says_when_it_was_overwritten",
    "values of 64 MiB": "test_values.py::test_64_mib",
    "a store with wild contents spoils one key only": "test_values.py::test_wild_contents_of_a_store_are_a_typed_error_of_that_key_only "
        "test_revisions.py::test_a_wild_journal_is_an_error_not_a_crash test_fuzz_kvo.py::test_wild_stores",
    "a controller meets random messages": "test_fuzz_kvo.py::test_a_controller_under_random_messages test_strangers.py::test_random_bytes",
    "an object is made observable whole": "test_objects.py::*",
    "a standby controller takes over": "test_standby.py::test_a_standby_takes_over_from_a_dead_controller "
        "test_standby.py::test_a_controller_that_was_replaced_while_it_hung_ends_and_does_no_harm",
    "a hung controller is recognised": "test_standby.py::test_a_hung_controller_is_recognised "
        "test_standby.py::test_a_program_with_an_event_loop_recognises_it_without_a_thread",
    "100,000 keys and thousands of observations cost the controller little": "test_many.py::*",
    "metrics": "test_metrics.py::test_what_happens_is_counted test_metrics.py::test_prometheus_scrapes_a_loopback_address",
}

OPEN: dict[str, str] = {}

LEFT_OUT = {
    "encryption of values in memory": "whoever can read the memory can read the key there too; other users are kept out by the kernel",
    "rules for single keys": "a store is one piece of memory, which a process may map or not: what fewer may read has a name of its own",
    "an observation that ends when its token is forgotten": "most callbacks are wanted as long as their observer is there; `weak=True` and `with` are "
        "for the others",
    "a mirror on another host": "it would be a program of its own, above this layer: an observer here and an observable there, with `since` to go on from. None is part of this",
}


def tables() -> str:
    """What docs/kvo.md has of this."""
    lines = ["| promised | tests |", "|---|---|"]
    for row, patterns in (DELIVERY | FEATURES).items():
        if row in OPEN or not patterns:
            continue
        files: dict[str, list[str]] = {}
        for file, function in (pattern.split("::") for pattern in patterns.split()):
            files.setdefault(file, []).extend([] if function == "*" else [f"`{function}`"])
        tests = [f"[{file}](../tests/kvo/{file}){' ' * bool(functions)}{', '.join(functions)}" for file, functions in files.items()]
        lines.append(f"| {row} | {'; '.join(tests)} |")
    lines += ["", "| not promised yet | what is missing |", "|---|---|"] if OPEN else []
    lines += [f"| {row} | {missing} |" for row, missing in OPEN.items()]
    lines += ["", "| left out | why |", "|---|---|", *(f"| {row} | {why} |" for row, why in LEFT_OUT.items())]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(tables(), end="")
