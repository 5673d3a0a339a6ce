"""Manifests: what a layer says of services, as JSON that people write (with comments, as in a configuration).

    {"service": "web/nginx", "methods": {"start": {"exec": ["/usr/sbin/nginx", "-g", "daemon off;"]}},
     "groups": {"config": {"workers": 2}}, "instances": {"default": {"groups": {"general": {"enabled": true}}}}}

or a list of such objects. A service with several layers is exported as several of them.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from kvoshim.errors import ConfigurationError, InvalidServiceError
from kvoshim.process import jsontext
from kvoshim.services.core import validate
from kvoshim.services.core.model import (
    Definition,
    Dependency,
    Group,
    Method,
    Part,
    Repository,
    Template,
    check_name,
    check_service_name,
)
from kvoshim.services.core.operations import Import


class Manifest(Part, frozen=True):
    """The fields of Definition are about the service. layer: "manifest", "profile" or "admin", or with a source "profile/site"."""

    service: str
    layer: str = "manifest"
    description: str = ""
    groups: dict[str, Group] = {}
    dependencies: dict[str, Dependency] = {}
    methods: dict[str, Method] = {}
    templates: dict[str, Template] = {}
    masked: tuple[str, ...] = ()
    instances: dict[str, Definition] = {}

    def as_import(self) -> Import:
        parts = {name: getattr(self, name) for name in Definition.__struct_fields__}
        return Import(service=self.service, layer=self.layer, definition=Definition(**parts), instances=self.instances)


def parse(text: str, name: str = "") -> tuple[Import, ...]:
    """The imports that a file of this name and text asks for. InvalidServiceError, with the place, if it is no manifest."""
    where = f"{name}: " if name else ""
    try:
        value = jsontext.parse(text, name).value
    except ConfigurationError as error:
        raise InvalidServiceError(str(error)) from None
    found = []
    for number, one in enumerate(value if isinstance(value, list) else [value], 1):
        place = f"{where}manifest {number}: " if isinstance(value, list) else where
        try:
            manifest = msgspec.convert(one, Manifest)
        except (msgspec.ValidationError, RecursionError) as error:
            raise InvalidServiceError(f"{place}{error}") from None
        try:
            check_service_name(manifest.service)
            validate.check_layer(manifest.layer)
            wanted = manifest.as_import()
            validate.check_definition(wanted.definition, manifest.service)
            for short, definition in manifest.instances.items():
                validate.check_definition(definition, f"{manifest.service}:{check_name(short, 'an instance')}")
        except InvalidServiceError as error:
            raise InvalidServiceError(f"{place}{error}") from None
        found.append(wanted)
    if not found:
        raise InvalidServiceError(f"{where}there is no manifest in it")
    return tuple(found)


def export(repository: Repository, services: Iterable[str] = (), layer: str = "") -> str:
    """JSON of these services (none: all), of one layer or of all: parse() of it gives the same layers again."""
    manifests = []
    for name in services or sorted(repository.services):
        service = repository.services[name]
        keys = {key for level in (service, *service.instances.values()) for key in level.layers}
        wanted = [key for key in sorted(keys, key=_rank) if not layer or key == layer or key.startswith(f"{layer}/")]
        # An instance of which no layer says anything is there all the same.
        for key in wanted or ([] if layer else ["manifest"]):
            instances = {
                short: one.layers.get(key, Definition())
                for short, one in service.instances.items()
                if key in one.layers or key == (wanted[0] if wanted else key)
            }
            parts = msgspec.structs.asdict(service.layers.get(key, Definition()))
            manifests.append(Manifest(service=name, layer=key, instances=instances, **parts))
    return msgspec.json.format(msgspec.json.encode(manifests), indent=2).decode() + "\n"


def _rank(key: str) -> tuple[int, str]:
    return ("manifest", "profile", "admin").index(key.partition("/")[0]), key
