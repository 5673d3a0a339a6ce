"""Objects that are observable whole."""

import dataclasses
import gc

import pytest
from kvo_harness import until

import kvoshim
from kvoshim.errors import InvalidValueError, NameInUseError


@kvoshim.observable
@dataclasses.dataclass
class Oil:
    temperature: float = 20.0

    @kvoshim.computed("temperature")
    def hot(self):
        return self.temperature > 100


@kvoshim.observable(exclude=["cache"])
@dataclasses.dataclass
class Engine:
    rpm: int = 0
    torque: float = 0.0
    oil: Oil = dataclasses.field(default_factory=Oil)
    cylinders: list = dataclasses.field(default_factory=list)
    cache: object = None
    _private: object = None

    @kvoshim.computed("rpm", "torque")
    def power(self):
        return self.rpm * self.torque

    @kvoshim.computed("oil.temperature", "power")
    def summary(self):
        return f"{self.power:g} W at {self.oil.temperature:g}"

    @property
    def doubled(self):
        return 2 * self.rpm

    @doubled.setter
    def doubled(self, value):
        self.rpm = value // 2


@pytest.fixture
def engine(place):
    place.controller()
    engine = Engine(rpm=10, torque=2.0)
    with kvoshim.publish(engine, "engine"):
        yield engine


@pytest.fixture
def observer(engine):
    with kvoshim.Observer() as observer:
        yield observer


def test_all_public_attributes_are_published_at_once(engine, observer):
    assert observer.snapshot("engine") == {
        "rpm": 10, "torque": 2.0, "oil.temperature": 20.0, "oil.hot": False, "cylinders": [], "power": 20.0, "summary": "20 W at 20"}
    assert observer.revision("engine") == 1


def test_assigning_publishes_with_what_depends_on_it(engine, observer):
    changes = []
    observer.observe("engine", None, changes.append, options="new")
    engine.rpm = 20
    until(lambda: len(changes) == 3)
    assert [(change.key, change.new) for change in changes] == [("rpm", 20), ("power", 40.0), ("summary", "40 W at 20")]
    assert len({change.revision for change in changes}) == 1
    engine.doubled = 60
    until(lambda: len(changes) == 6)
    assert observer.get("engine", "rpm") == 30 and "doubled" not in observer.keys("engine")


def test_nested_objects_publish_under_their_path(engine, observer):
    changes = []
    observer.observe("engine", "oil.**", changes.append, options="new")
    engine.oil.temperature = 120.0
    until(lambda: len(changes) == 2)
    assert observer.snapshot("engine", "oil.*") == {"oil.temperature": 120.0, "oil.hot": True}
    old = engine.oil
    engine.oil = Oil(5.0)
    assert observer.snapshot("engine", "oil.*") == {"oil.temperature": 5.0, "oil.hot": False}
    old.temperature = 1.0
    assert observer.get("engine", "oil.temperature") == 5.0, "what was replaced publishes no more"
    engine.oil.temperature = 6.0
    assert observer.get("engine", "summary") == "20 W at 6"
    engine.oil = None
    assert observer.get("engine", "oil") is None and observer.snapshot("engine", "oil.*") == {}
    engine.oil = old
    assert observer.get("engine", "oil.temperature") == 1.0 and observer.get("engine", "oil", "none") == "none"


def test_an_object_belongs_to_one_other(engine, observer):
    with pytest.raises(InvalidValueError, match="part of another"):
        engine.spare = engine.oil
    assert not hasattr(engine, "spare")
    with pytest.raises(InvalidValueError, match="already"):
        kvoshim.publish(engine, "twice")


def test_what_is_changed_in_place(engine, observer):
    changes = []
    observer.observe("engine", "cylinders", changes.append, options="new|old")
    with kvoshim.changing(engine, "cylinders"):
        engine.cylinders.append(1)
        engine.cylinders.append(2)
        assert observer.get("engine", "cylinders") == []
    until(lambda: changes)
    assert (changes[0].kind, changes[0].indexes, changes[0].new) == ("insertion", (0, 1), [1, 2])
    with pytest.raises(ZeroDivisionError), kvoshim.changing(engine, "cylinders"):
        engine.cylinders.append(3)
        raise ZeroDivisionError
    assert observer.get("engine", "cylinders") == [1, 2]


def test_attributes_that_come_go_stay_private_or_cannot_be_stored(engine, observer):
    engine.extra = 1
    engine.cache = object()
    engine._private = object()
    assert observer.get("engine", "extra") == 1
    del engine.extra
    assert "extra" not in observer.keys("engine") and not {"cache", "_private"} & set(observer.keys("engine"))
    with pytest.raises(InvalidValueError):
        engine.cylinders = object()
    with pytest.raises(TypeError):
        engine.rpm = "not to be multiplied by a float"
    assert engine.cylinders == [] and engine.rpm == 10 == observer.get("engine", "rpm"), "as if it had not been assigned"
    with pytest.raises(AttributeError):
        del engine.nothing


def test_after_the_end_attributes_are_attributes(place):
    place.controller()
    engine = Engine()
    kvoshim.publish(engine, "engine").close()
    engine.rpm = 5
    assert engine.rpm == 5
    with kvoshim.publish(engine, "engine") as again, kvoshim.Observer() as observer:
        assert observer.get("engine", "rpm") == 5
        with pytest.raises(NameInUseError):
            kvoshim.publish(Engine(), "engine")
        assert again.keys()


def test_an_object_that_is_collected_is_gone(place):
    place.controller()
    with kvoshim.Observer() as observer:
        changes = []
        observer.observe("engine", "rpm", changes.append)
        engine = Engine(rpm=1)
        kvoshim.publish(engine, "engine")
        until(lambda: changes)
        del engine
        gc.collect()
        until(lambda: changes[-1].kind == "gone")


def test_a_class_with_a_name_publishes_its_instances_and_plain_classes_do_too(place):
    place.controller()

    @kvoshim.observable("counter", history=0)
    class Counter:
        def __init__(self, start):
            self.n = start

        def up(self):
            self.n += 1

    with kvoshim.Observer() as observer:
        counter = Counter(5)
        counter.up()
        assert observer.get("counter", "n") == 6 and counter.n == 6
        del counter


def test_what_cannot_be_observable():
    with pytest.raises(TypeError, match="frozen"):
        kvoshim.observable(dataclasses.dataclass(frozen=True)(type("Frozen", (), {})))

    class Slots:
        __slots__ = ("a",)

    with pytest.raises(TypeError, match="slots"):
        kvoshim.observable(Slots)
    with pytest.raises(TypeError, match="for classes"):
        kvoshim.observable(5)
    with pytest.raises(InvalidValueError, match="not an @observable class"):
        kvoshim.publish(object(), "x")
