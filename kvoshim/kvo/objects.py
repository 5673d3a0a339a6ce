"""Objects that publish themselves: assigning an attribute sets a key.

    @kvoshim.observable
    @dataclass
    class Engine:
        rpm: int = 0
        oil: Oil = field(default_factory=Oil)     # an @observable too: its keys are 'oil.temperature', …

        @kvoshim.computed("rpm")
        def turning(self):
            return self.rpm > 0

    engine = Engine()
    kvoshim.publish(engine, "engine")             # or @kvoshim.observable("engine"): each instance, when it is made
    engine.rpm = 900                              # sets 'rpm', and 'turning' with it, under one revision

Attributes whose names begin with an underscore stay private, and so do those named in `exclude`. What is changed in place (a
list, a dict) is published by `with kvoshim.changing(engine, "cylinders"):`.
"""

from __future__ import annotations

import dataclasses
import functools
import weakref
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from typing import Any

from kvoshim.errors import ClosedError, InvalidValueError
from kvoshim.kvo.observable import Observable

_PLAIN = frozenset((int, float, str, bool, bytes, type(None)))
_MISSING = object()


class computed(property):
    """A property whose value is published as a key of its own, whenever one of the attributes named changes."""

    def __init__(self, *sources: str) -> None:
        super().__init__()
        self.sources = sources

    def __call__(self, function: Callable[[Any], Any]) -> computed:
        made = computed(*self.sources)
        property.__init__(made, function)
        return made


class _Binding:
    """Where an object's attributes go: an Observable, and what its keys begin with there."""

    __slots__ = ("observable", "prefix", "names", "nested", "hidden", "plain")

    def __init__(self, observable: Observable, prefix: str, hidden: frozenset[str]) -> None:
        self.plain: dict[str, str] = {}  # those of `names` that need nothing but setting a key
        self.observable = observable
        self.prefix = prefix
        self.hidden = hidden
        self.names: dict[str, str] = {}  # attribute -> key, of those that have been published
        self.nested: dict[str, Any] = {}  # attribute -> the observable object that is its value

    def publish(self, name: str, value: Any) -> None:
        """Sets the key of an attribute, or the keys of the object that it is."""
        if name in self.hidden or name.startswith("_"):
            return
        key = self.names.get(name)
        if key is None:
            key = self.names[name] = self.prefix + name
        inner = getattr(type(value), "_kvoshim_hidden", None)
        if inner is None and name not in self.nested:
            self.observable.set(key, value)
            self.plain[name] = key
            return
        self.plain.pop(name, None)
        with self.observable.batch():
            self.drop(name)
            if inner is None:
                self.observable[key] = value
            else:
                if _published(value):
                    raise InvalidValueError(f"the value of {key!r} is published already, as part of another object")
                self.nested[name] = value
                _bind(value, self.observable, key + ".", inner)

    def drop(self, name: str) -> None:
        """Takes the key or keys of an attribute away."""
        key = self.prefix + name
        value = self.nested.pop(name, None)
        if value is not None:
            inner = value.__dict__.pop("_kvoshim", None)
            for other in list(inner.names) if inner is not None else ():
                inner.drop(other)
            for other, what in vars(type(value)).items():
                if isinstance(what, computed):
                    self.observable.forget_computed(f"{key}.{other}")
        elif key in self.observable:
            del self.observable[key]


def observable(given: Any = None, *, exclude: Iterable[str] = (), **options: Any) -> Any:
    """Class decorator. With a name, each instance is published under it when it has been made, with `options` as for
    Observable; without one, publish() does it. exclude: attributes that stay private."""
    if isinstance(given, type):
        return _decorate(given, None, frozenset(exclude), options)
    if given is not None and not isinstance(given, str):
        raise TypeError(f"@observable is for classes, not for {given!r}")
    return lambda kind: _decorate(kind, given, frozenset(exclude), options)


def _decorate(kind: type, name: str | None, hidden: frozenset[str], options: dict) -> type:
    if dataclasses.is_dataclass(kind) and kind.__dataclass_params__.frozen:
        raise TypeError(f"{kind.__qualname__} is frozen: its attributes cannot be assigned")
    if kind.__dictoffset__ == 0:
        raise TypeError(f"{kind.__qualname__} has slots only: @observable needs instances with a __dict__")
    set_attribute, delete_attribute = kind.__setattr__, kind.__delattr__
    own = {attribute for base in kind.__mro__ for attribute, what in vars(base).items() if hasattr(what, "__set__")}
    hidden |= own
    ordinary = set_attribute is object.__setattr__

    def __setattr__(self, name: str, value: Any) -> None:
        attributes = self.__dict__
        binding = attributes.get("_kvoshim")
        if binding is None:
            set_attribute(self, name, value)
            return
        if ordinary and type(value) in _PLAIN:
            observable, key = binding.observable, binding.plain.get(name)
            if key is not None and not observable.computes:
                # The shortest way: published first, so that nothing has to be taken back.
                try:
                    observable.set(key, value)
                except ClosedError:  # no longer published
                    del attributes["_kvoshim"]
                attributes[name] = value
                return
        before = attributes.get(name, _MISSING)
        set_attribute(self, name, value)
        try:
            binding.publish(name, value)
        except ClosedError:  # no longer published
            del attributes["_kvoshim"]
        except BaseException:
            if before is _MISSING:
                attributes.pop(name, None)
            elif name in attributes:
                attributes[name] = before
            raise

    def __delattr__(self, name: str) -> None:
        delete_attribute(self, name)
        binding = self.__dict__.get("_kvoshim")
        if binding is not None and name in binding.names:
            del binding.names[name]
            binding.plain.pop(name, None)
            with binding.observable.batch():
                binding.drop(name)

    kind.__setattr__, kind.__delattr__, kind._kvoshim_hidden = __setattr__, __delattr__, hidden
    if name is not None:
        made = kind.__init__

        @functools.wraps(made)
        def __init__(self, *arguments: Any, **more: Any) -> None:
            made(self, *arguments, **more)
            if type(self) is kind:
                publish(self, name, **options)

        kind.__init__ = __init__
    return kind


def publish(thing: Any, name: str, **options: Any) -> Observable:
    """Publishes an instance of an @observable class under a name; `options` as for Observable, which it returns. Closing
    that ends it; so does the end of the instance."""
    hidden = getattr(type(thing), "_kvoshim_hidden", None)
    if hidden is None:
        raise InvalidValueError(f"{type(thing).__qualname__} is not an @observable class")
    if _published(thing):
        raise InvalidValueError("this object is published already")
    made = Observable(name, **options)
    try:
        with made.batch():
            _bind(thing, made, "", hidden)
    except BaseException:
        thing.__dict__.pop("_kvoshim", None)
        made.close(discard=True)
        raise
    return made


def _published(thing: Any) -> bool:
    binding = thing.__dict__.get("_kvoshim")
    return binding is not None and not binding.observable.closed


def _bind(thing: Any, to: Observable, prefix: str, hidden: frozenset[str]) -> None:
    binding = _Binding(to, prefix, hidden)
    thing.__dict__["_kvoshim"] = binding
    for name, value in list(thing.__dict__.items()):
        binding.publish(name, value)
    reference = weakref.ref(thing)
    for base in reversed(type(thing).__mro__):
        for name, what in vars(base).items():
            if isinstance(what, computed):
                to.compute(prefix + name, [prefix + source for source in what.sources],
                           lambda *_, name=name: getattr(reference(), name))


@contextmanager
def changing(thing: Any, *names: str):
    """Publishes attributes that are changed in place, when the block ends; several of them, and whatever is assigned in
    the block, under one revision. If the block raises, nothing is published: call did_change() if it should be."""
    binding = thing.__dict__.get("_kvoshim")
    if binding is None:
        yield
        return
    with binding.observable.batch():
        yield
        did_change(thing, *names)


def did_change(thing: Any, *names: str) -> None:
    """Publishes attributes that were changed in place."""
    binding = thing.__dict__.get("_kvoshim")
    if binding is not None:
        with binding.observable.batch():
            for name in names:
                binding.publish(name, getattr(thing, name))
