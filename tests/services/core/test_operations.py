"""What operations do to a repository, one by one and in any sequence."""

from random import Random

import histories
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvoshim.errors import ConflictError, InvalidServiceError, KvoshimError, UnknownServiceError
from kvoshim.services.core import composing
from kvoshim.services.core import operations as o
from kvoshim.services.core.model import Definition, Dependency, Instance, Method, PropertyTemplate, Repository, Template
from kvoshim.services.core.transacting import transact

PORT = Template(properties={"port": PropertyTemplate("int", minimum=1, maximum=65535)}, open=True)
WEB = o.Import(
    service="web",
    definition=Definition(
        groups={"config": {"port": 80, "name": "web"}}, templates={"config": PORT}, methods={"start": Method(("/w",))}
    ),
    instances={"default": Definition(), "second": Definition(groups={"config": {"port": 81}})},
)
ONE = "web:default"


def after(*operations: o.AnyOperation, of: Repository | None = None, taken: float = 1.0) -> Repository:
    return transact(of or Repository(), operations, taken=taken)[0]


def instance(repository: Repository, name: str = "default") -> Instance:
    return repository.services["web"].instances[name]


def edited(repository: Repository, name: str = "default"):
    return composing.edited(repository.services["web"], instance(repository, name))


def prop(value, target: str = ONE, name: str = "port", layer: str = "admin") -> o.SetProperty:
    return o.SetProperty(target=target, group="config", name=name, value=value, layer=layer)


# --- instances, layers, masks ---------------------------------------------


def test_instances_inherit_what_their_service_says():
    repository = after(WEB)
    assert edited(repository).get("config", "port") == 80 and edited(repository, "second").get("config", "port") == 81
    repository = after(prop(8080, "web"), of=repository)
    assert edited(repository).get("config", "port") == 8080 and edited(repository, "second").get("config", "port") == 81
    assert edited(repository).methods["start"] == Method(("/w",))


def test_a_higher_layer_wins_and_shows_what_is_below_when_it_is_taken_back():
    repository = after(WEB, prop(1, layer="manifest"), prop(2, layer="profile/site"), prop(3))
    for layer, value in (("admin", 3), ("profile/site", 2), ("manifest", 1)):
        assert edited(repository).get("config", "port") == value
        repository = after(o.Remove(target=ONE, path="groups/config/port", layer=layer), of=repository)
    assert edited(repository).get("config", "port") == 80
    with pytest.raises(UnknownServiceError, match="layer 'admin' says nothing of 'groups/config/port'"):
        after(o.Remove(target=ONE, path="groups/config/port"), of=repository)


def test_a_mask_hides_what_is_below_and_only_that():
    repository = after(WEB, prop("mine", name="extra", layer="profile"), o.Mask(target=ONE, path="groups/config", layer="profile"))
    assert edited(repository).groups == {"config": {"extra": "mine"}}
    assert edited(repository, "second").get("config", "name") == "web"
    assert edited(after(o.Unmask(target=ONE, path="groups/config", layer="profile"), of=repository)).get("config", "port") == 80
    masked = after(o.Mask(target=ONE, path="methods/start"), of=repository)
    assert edited(masked).methods == {}


def test_two_sources_of_a_layer_that_differ_are_a_conflict_until_a_higher_layer_decides():
    repository = after(WEB, prop(1, layer="profile/rack"), prop(2, layer="profile/site"))
    assert edited(repository).conflicts == ("groups/config/port: profile/rack and profile/site of the instance differ",)
    assert edited(after(prop(2, layer="profile/rack"), of=repository)).conflicts == ()
    assert edited(after(prop(3), of=repository)).conflicts == ()


# --- types and templates ---------------------------------------------


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        (prop("80"), "web:default: groups/config/port: '80' is of type str, not int"),
        (prop(0), "web:default: groups/config/port: 0 is below 1"),
        (prop(70000, "web"), "web:default: groups/config/port: 70000 is above 65535"),
        (prop(float("nan"), name="x"), "groups/config/x: 'nan' is no value of a property"),
        (prop(1 << 63, name="x"), "groups/config/x: '9223372036854775808' is no value"),
        (prop(1, name="a/b"), "'groups/config/a/b' is no path"),
        (prop(1, layer="site"), "'site' is no layer: manifest, profile, admin"),
        (prop(1, target="we b"), "'we b' is no name of a service"),
        (prop(1, target="web:"), "'' is no name of an instance"),
        (prop("\ud800", name="x"), "cannot be written in UTF-8"),
        (o.PutMethod(target="web", name="start", method=Method(())), "methods/start: exec names no program"),
        (o.PutMethod(target="web", name="start", method=Method(("a\0b",))), "has a NUL in it"),
        (o.PutMethod(target="web", name="start", method=Method(("a",), timeout_s=-1.0)), "timeout-s is a number of seconds"),
        (o.PutDependency(target="web", name="x", dependency=Dependency("require-all", ())), "has at least one target"),
        (o.PutDependency(target="web", name="x", dependency=Dependency("require-all", ("file:etc",))), "no absolute path behind"),
        (o.Enable(target="web"), "'web' names a service; an instance is web:default, web:second"),
        (o.Take(target=ONE, snapshot="running"), "refresh takes it"),
        (o.DropSnapshot(target=ONE, snapshot="initial"), "is the system's own and stays"),
        (o.Mask(target=ONE, path="config"), "'config' is no path: groups/GROUP"),
        (o.Enable(target="web:third"), "no instance 'web:third' .*web:default, web:second"),
        (o.Revert(target=ONE, snapshot="mine"), "web:default: there is no snapshot 'mine' .*initial, running"),
        (o.Create(target=ONE), "web:default exists already"),
        (o.Create(target=f"web:{'x' * 300}"), "is no name of an instance"),
        (o.SetProperty(target=ONE, group="general", name="enabled", value="yes"), "general/enabled: 'yes' is of type str, not bool"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(operation, message):
    with pytest.raises(KvoshimError, match=message):
        after(operation, of=after(WEB))


def test_a_template_has_defaults_and_required_properties():
    template = Template(
        properties={"a": PropertyTemplate("str", required=True, choices=("x", "y")), "b": PropertyTemplate("float", default=1.5)}
    )
    repository = after(o.Create(target=ONE), o.PutTemplate(target="web", name="t", template=template))
    assert edited(repository).get("t", "b") == 1.5 and edited(repository).get("t", "a", "?") == "?"
    repository = after(o.SetProperty(target=ONE, group="t", name="b", value=2), of=repository)
    with pytest.raises(InvalidServiceError, match="groups/t/a: it is required"):
        after(o.Refresh(target=ONE), of=repository)
    with pytest.raises(InvalidServiceError, match="'z' is none of x, y"):
        after(o.SetProperty(target=ONE, group="t", name="a", value="z"), of=repository)
    with pytest.raises(InvalidServiceError, match=r"groups/t/c: the template knows no such property \(it knows: a, b\)"):
        after(o.SetProperty(target=ONE, group="t", name="c", value="z"), of=repository)
    after(o.SetProperty(target=ONE, group="t", name="a", value="y"), o.Refresh(target=ONE), of=repository)


# --- what is edited, what is in force, what was ---------------------------------------------


def test_what_is_edited_is_in_force_after_a_refresh_and_what_was_before_is_kept():
    repository = after(WEB)
    for port in (1, 2, 3):
        repository = after(prop(port), of=repository, taken=port)
        assert not composing.is_refreshed(repository.services["web"], instance(repository))
        repository = after(o.Refresh(target=ONE), of=repository, taken=port + 0.5)
    assert composing.running(instance(repository)).get("config", "port") == 3
    assert composing.of_snapshot(instance(repository).snapshots["previous"]).get("config", "port") == 2
    assert composing.of_snapshot(instance(repository).snapshots["initial"]).get("config", "port") == 80
    assert after(o.Refresh(target=ONE), of=repository).services["web"].instances["default"].snapshots["previous"].taken == 2.5


def test_snapshots_start_last_good_and_ones_own_and_reverting_to_them():
    repository = after(WEB, prop(1), o.Refresh(target=ONE))
    repository = after(o.Take(target=ONE, snapshot="start"), o.Take(target=ONE, snapshot="last-good"), of=repository)
    repository = after(prop(2), prop("new", "web", "name"), o.Take(target=ONE, snapshot="mine", edited=True), of=repository)
    repository = after(o.Enable(target=ONE), o.Refresh(target=ONE), of=repository)
    back = after(o.Revert(target=ONE, snapshot="last-good"), of=repository)
    assert composing.running(instance(back)).get("config", "port") == 2  # until the refresh
    back = after(o.Refresh(target=ONE), of=back)
    assert composing.running(instance(back)).groups["config"] == {"port": 1, "name": "web"}
    assert composing.enabled(back.services["web"], instance(back))  # whether it is to run is no part of what was good
    assert edited(after(o.Revert(target=ONE, snapshot="mine"), of=back)).groups["config"] == {"port": 2, "name": "new"}
    gone = after(o.DropSnapshot(target=ONE, snapshot="mine"), of=back)
    assert sorted(instance(gone).snapshots) == ["initial", "last-good", "previous", "running", "start"]


def test_an_import_replaces_what_its_layer_said_and_keeps_what_was_as_previous():
    repository = after(WEB, prop(8000))
    again = o.Import(service="web", definition=Definition(groups={"config": {"name": "newer"}}), instances={"third": Definition()})
    repository = after(again, of=repository)
    assert edited(repository).groups["config"] == {"port": 8000, "name": "newer"} and edited(repository, "third").methods == {}
    assert composing.of_snapshot(instance(repository).snapshots["previous"]).groups["config"] == {"port": 8000, "name": "web"}
    assert composing.running(instance(repository)).get("config", "name") == "web"
    repository = after(o.Withdraw(service="web", layer="admin"), of=repository)
    assert edited(repository).groups["config"] == {"name": "newer"}


def test_enabled_for_good_or_until_the_next_boot():
    repository = after(WEB)
    service = lambda: (repository.services["web"], instance(repository))  # noqa: E731
    assert not composing.enabled(*service())
    repository = after(o.Enable(target=ONE, temporary=True), of=repository)
    assert composing.enabled(*service()) and repository.revision == 1 and repository.pulse == 2
    repository = after(o.Enable(target=ONE, enabled=False), of=repository)
    assert not composing.enabled(*service()) and not instance(repository).volatile
    repository = after(o.Enable(target=ONE), o.Enable(target=ONE, enabled=False, temporary=True), of=repository)
    assert not composing.enabled(*service())


def test_reports_change_nothing_that_is_kept():
    repository = after(WEB)
    reported = after(o.Report(target=ONE, properties={"state": "online", "pid": 7}), of=repository)
    assert instance(reported).volatile == {"restarter": {"state": "online", "pid": 7}}
    assert (reported.revision, instance(reported).revision) == (repository.revision, instance(repository).revision)
    reported = after(o.Report(target=ONE, properties={"state": "offline"}, replace=True), of=reported)
    assert instance(reported).volatile == {"restarter": {"state": "offline"}}
    assert instance(after(o.Report(target=ONE, properties={}, replace=True), of=reported)).volatile == {}


def test_expectations():
    repository = after(WEB)
    for operation, message in (
        (o.Expect(target="web", revision=2), "web has revision 1, revision 2 was expected"),
        (o.Expect(target="web", revision=0), "web has revision 1, it was expected not to exist"),
        (o.Expect(target="db", revision=1), "db does not exist, revision 1 was expected"),
    ):
        with pytest.raises(ConflictError, match=message):
            after(operation, of=repository)
    with pytest.raises(ConflictError, match="revision 1, not 7"):
        transact(repository, (prop(1),), taken=1.0, expected=7)
    with pytest.raises(InvalidServiceError, match="1 to 10000 operations, not 0"):
        after(of=repository)


# --- in any sequence ---------------------------------------------


@st.composite
def sequences(draw):
    random = Random(draw(st.integers(0, 1 << 40)))
    return [(WEB,), *(histories.transaction(random) for _ in range(draw(st.integers(1, 25))))]


@settings(max_examples=150, deadline=None)
@given(sequences())
def test_any_sequence_of_transactions(sequence):
    repository, kept = Repository(), []
    for number, operations in enumerate(sequence):
        before = msgspec.json.encode(repository)
        try:
            new, events = transact(repository, operations, taken=float(number))
        except KvoshimError as error:
            assert str(error) and msgspec.json.encode(repository) == before  # refused, and nothing has changed
            continue
        assert msgspec.json.encode(repository) == before  # what was is as it was
        assert new.pulse == repository.pulse + 1
        assert new.revision == repository.revision + (not o.keeps_nothing(operations))
        if new.revision == repository.revision:
            assert [s.layers for s in new.services.values()] == [s.layers for s in repository.services.values()]
        for event in events:
            if event.kind == "created":
                assert event.target.partition(":")[0] in new.services or any(isinstance(one, o.Delete) for one in operations)
        repository = new
        kept.append((operations, float(number)))
    # The same transactions make the same repository, also when they have been written down in between.
    again = Repository()
    for operations, taken in kept:
        text = msgspec.json.encode(operations)
        again = transact(again, msgspec.json.decode(text, type=tuple[o.AnyOperation, ...]), taken=taken)[0]
    assert again == repository
    assert msgspec.json.decode(msgspec.json.encode(repository), type=Repository) == repository
    for name, service in repository.services.items():
        assert service.revision <= repository.revision
        for short, one in service.instances.items():
            assert 0 < one.revision <= repository.revision
            view = composing.edited(service, one)
            assert not composing.difference(view, view)
            target = f"{name}:{short}"
            try:
                refreshed = transact(repository, (o.Refresh(target=target),), taken=0.0)[0]
            except InvalidServiceError:
                continue
            now = refreshed.services[name].instances[short]
            assert composing.running(now) == view and composing.is_refreshed(refreshed.services[name], now)
            for snapshot in now.snapshots:
                back = transact(refreshed, (o.Revert(target=target, snapshot=snapshot),), taken=0.0)[0].services[name]
                wanted = composing.of_snapshot(now.snapshots[snapshot])
                changed = composing.difference(composing.edited(back, back.instances[short]), wanted)
                assert not {path for path in changed if not path.startswith("groups/general/")}


@settings(max_examples=150, deadline=None)
@given(sequences(), st.sampled_from(histories.PATHS), st.sampled_from(histories.LAYERS))
def test_a_mask_taken_back_leaves_no_trace(sequence, path, layer):
    repository = Repository()
    for operations in sequence:
        try:
            repository = transact(repository, operations, taken=1.0)[0]
        except KvoshimError:
            continue
    if "web" not in repository.services:
        return
    level = repository.services["web"].layers.get(layer, Definition())
    if path in level.masked:
        return
    try:
        masked = after(o.Mask(target="web", path=path, layer=layer), of=repository)
        unmasked = after(o.Unmask(target="web", path=path, layer=layer), of=masked)
    except InvalidServiceError:  # what shows below does not fit a template
        return
    assert unmasked.services["web"].layers == repository.services["web"].layers
