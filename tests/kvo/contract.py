"""What Key-Value Observation promises, and the tests that hold it to that; test_contract.py keeps the table honest.

A value names tests, as FILE.py::FUNCTION below tests/kvo (FUNCTION may have a `*`). OPEN says of each row without a test what
is missing: nothing is promised there yet.
"""

# The fourteen points of the delivery contract, in the order of docs/kvo.md.
DELIVERY = {
    "1 the final value is never lost": "test_observe.py::test_a_slow_observer_gets_the_last_value_and_holds_up_nobody "
                                       "test_million.py::* test_death.py::test_a_value_set_just_before_the_kill_arrives",
    "2 the revisions of a key rise strictly": "test_observe.py::test_values_and_versions_go_on_under_a_successor test_million.py::*",
    "3 a transaction is one revision and one batch": "",
    "4 the snapshot, then the end of the snapshot, then what follows": "",
    "5 resuming from a revision, or being told that it is gone": "",
    "6 what `every` skips is counted, what `latest` merges too": "",
    "7 the link's state": "",
    "8 a deletion says why": "",
    "9 progress is visible while nothing happens": "",
    "10 a write that changes nothing is told of only if asked": "",
    "11 one's own writes are left out if asked": "",
    "12 no callback after close()": "test_observe.py::test_no_callback_after_close_has_returned "
                                    "test_observe.py::test_a_callback_may_close_its_own_token_and_observe_more",
    "13 a callback's exception is contained": "test_observe.py::test_an_exception_in_a_callback_is_logged_and_goes_no_further",
    "14 every observation says whether it is alive": "",
}

FEATURES = {
    "register and unregister; tables in shared memory": "test_observe.py::test_the_list_names_observables_and_observers test_table.py::*",
    "values are read without the controller": "test_death.py::test_values_set_while_there_is_no_controller_are_not_missed",
    "many writers, keys that come and go, values of any size": "test_store.py::test_values_of_changing_size test_autostart.py::*",
    "a doorbell, scanning only as repair": "test_table.py::test_one_bell_a_sleep_and_none_while_awake "
                                           "test_observe.py::test_a_change_that_was_stored_but_never_announced_is_found",
    "a revision per key and per store": "test_revisions.py::test_one_revision_for_the_store_and_each_key_has_that_of_its_last_change",
    "options new, old, initial, prior": "",
    "key paths": "",
    "wildcards and prefixes": "",
    "dependent keys": "",
    "collection changes with indexes": "",
    "will and did change; batches that merge": "",
    "tokens end an observation when closed; removal is idempotent": "test_observe.py::test_no_callback_after_close_has_returned",
    "weak observers; observing oneself leaks nothing": "",
    "callback, iterator, asyncio, plain descriptor": "",
    "wait_for a predicate": "",
    "delivery `latest` and `every`": "",
    "bounded history": "",
    "transactions, compare-and-set, create if absent": "",
    "deletions with a reason, time to live": "",
    "cleanup when an observer or an observable dies": "test_death.py::test_a_killed_observers_registrations_vanish "
                                                      "test_death.py::test_the_last_values_of_a_killed_observable_stay_and_observers_are_told",
    "a restarted controller is found again": "test_death.py::test_the_controller_comes_back_with_its_registrations",
    "peer credentials, read-only maps": "test_sealing.py::*",
    "a checksum per record; a writer that dies tears nothing": "test_store.py::test_a_writer_killed_at_any_moment_leaves_a_whole_value "
                                                               "test_store.py::test_damaged_values_are_noticed",
    "bounded names and values": "test_observe.py::test_bad_keys test_store.py::test_keys_and_limits test_strangers.py::test_limits_are_told",
    "memory is scrubbed": "test_store.py::test_removal_scrubs_and_versions_go_on "
                          "test_store.py::test_a_shorter_value_leaves_nothing_of_the_longer_one",
    "values: None, bool, int, float, str, bytes, datetime, list, dict": "test_store.py::test_what_is_set_is_what_is_read",
    "values: dataclass, msgspec Struct": "test_values.py::test_a_dataclass_is_read_as_what_it_is_where_its_class_is_accepted "
                                         "test_values.py::test_a_class_that_was_not_accepted_is_read_as_a_dict",
    "values: NumPy array, read without a copy": "test_values.py::test_arrays "
        "test_values.py::test_a_view_shows_memory_without_copying_and_says_when_it_was_overwritten",
    "values of 64 MiB": "test_values.py::test_64_mib",
    "a store with wild contents spoils one key only": "test_values.py::test_wild_contents_of_a_store_are_a_typed_error_of_that_key_only "
        "test_revisions.py::test_a_wild_journal_is_an_error_not_a_crash",
    "an object is made observable whole": "",
}

OPEN = {
    "3 a transaction is one revision and one batch": "no transactions",
    "4 the snapshot, then the end of the snapshot, then what follows": "no mark at the end of the snapshot",
    "5 resuming from a revision, or being told that it is gone": "no history",
    "6 what `every` skips is counted, what `latest` merges too": "no counts",
    "7 the link's state": "not shown",
    "8 a deletion says why": "no reasons",
    "9 progress is visible while nothing happens": "not shown",
    "10 a write that changes nothing is told of only if asked": "every write is told of",
    "11 one's own writes are left out if asked": "no option",
    "14 every observation says whether it is alive": "not shown",
    "options new, old, initial, prior": "initial only",
    "key paths": "none",
    "wildcards and prefixes": "all keys or one",
    "dependent keys": "none",
    "collection changes with indexes": "none",
    "will and did change; batches that merge": "none",
    "weak observers; observing oneself leaks nothing": "callbacks are held strongly",
    "callback, iterator, asyncio, plain descriptor": "callbacks only",
    "wait_for a predicate": "none",
    "delivery `latest` and `every`": "latest only",
    "bounded history": "none",
    "transactions, compare-and-set, create if absent": "none",
    "deletions with a reason, time to live": "none",
    "an object is made observable whole": "none",
    "direct delivery: the writer rings the observers itself": "every change goes through the controller",
    "a standby controller takes over": "none",
    "policy by user, group and name; rate limits": "one user only; counts are limited, rates are not",
    "metrics": "none",
    "a mirror on another host": "none",
}
