"""What is valid: names, values, definitions, and configurations by their templates. Each check raises InvalidServiceError with the
place of what is wrong."""

from __future__ import annotations

from typing import Any

from kvoshim.errors import InvalidServiceError
from kvoshim.services.core import composing
from kvoshim.services.core.model import (
    GENERAL,
    LAYERS,
    Definition,
    Dependency,
    Method,
    PropertyTemplate,
    Repository,
    Template,
    Value,
    View,
    check_name,
    kind_of,
    split,
)  # fmt: skip

TEXT_MAX = 65536  # characters of one str
PATH_SHAPES = "groups/GROUP, groups/GROUP/PROPERTY, dependencies/NAME, methods/NAME or templates/GROUP"

# Groups with a meaning of their own, whatever a manifest's templates say.
BUILT_IN: dict[str, Template] = {
    GENERAL: Template(properties={"enabled": PropertyTemplate("bool", description="whether the instance is to run")}, open=True),
}


def check_layer(layer: str) -> str:
    name, slash, source = layer.partition("/")
    if name not in LAYERS or slash and not source:
        raise InvalidServiceError(f"{layer!r} is no layer: {', '.join(LAYERS)}, or one of them with a source, as profile/site")
    if slash:
        check_name(source, "a layer's source")
    return layer


def check_path(path: str) -> str:
    section, *names = path.split("/")
    if section not in composing.SECTIONS or not 1 <= len(names) <= (2 if section == "groups" else 1):
        raise InvalidServiceError(f"{path[:200]!r} is no path: {PATH_SHAPES}")
    for name in names:
        check_name(name, f"a part of {section}")
    return path


def check_value(value: Value, place: str) -> None:
    try:
        kind = kind_of(value)
    except InvalidServiceError as error:
        raise InvalidServiceError(f"{place}: {error}") from None
    texts = [value] if kind == "str" else value if kind == "list" else [*value, *value.values()] if kind == "map" else ()
    for text in texts:
        if len(text) > TEXT_MAX:
            raise InvalidServiceError(f"{place}: a text has {TEXT_MAX} characters at most")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise InvalidServiceError(f"{place}: {text[:60]!r} cannot be written in UTF-8") from None


def check_part(path: str, part: Any) -> None:
    """A dependency, method or template under its path."""
    match part:
        case Dependency():
            if not part.targets:
                raise InvalidServiceError(f"{path}: a dependency has at least one target")
            for target in part.targets:
                _check_dependency_target(path, target)
        case Method():
            _check_method(path, part)
        case Template():
            for name, known in part.properties.items():
                _check_property_template(f"{path}/{check_name(name, 'a property')}", known)
        case _:
            raise InvalidServiceError(f"{path}: {type(part).__name__} is no part of a definition")


def _check_dependency_target(path: str, target: str) -> None:
    if target.startswith("file:"):
        if not target.startswith("file:/") or "\0" in target:
            raise InvalidServiceError(f"{path}: {target!r} names no absolute path behind file:")
        return
    try:
        split(target)
    except InvalidServiceError as error:
        raise InvalidServiceError(f"{path}: {error}") from None


def _check_method(path: str, method: Method) -> None:
    if not method.exec or not method.exec[0]:
        raise InvalidServiceError(f"{path}: exec names no program")
    if not 0 <= method.timeout_s <= 1e6:
        raise InvalidServiceError(f"{path}: timeout-s is a number of seconds from 0 to 1,000,000")
    if not -1 <= method.umask <= 0o777:
        raise InvalidServiceError(f"{path}: umask is from 0 to 511 (octal 777), or -1")
    if method.directory and not method.directory.startswith("/"):
        raise InvalidServiceError(f"{path}: directory is an absolute path")
    for text in (*method.exec, *method.env, *method.env.values(), method.directory, method.user, method.group):
        if "\0" in text:
            raise InvalidServiceError(f"{path}: {text[:60]!r} has a NUL in it")
        check_value(text, path)
    for name in method.env:
        if not name or "=" in name:
            raise InvalidServiceError(f"{path}: {name!r} is no name of an environment variable")


def _check_property_template(path: str, known: PropertyTemplate) -> None:
    if known.choices and known.type not in ("str", "list"):
        raise InvalidServiceError(f"{path}: choices are for a str or list")
    if known.type == "bool" and (known.minimum is not None or known.maximum is not None):
        raise InvalidServiceError(f"{path}: a bool has no minimum or maximum")
    if known.minimum is not None and known.maximum is not None and known.minimum > known.maximum:
        raise InvalidServiceError(f"{path}: the minimum is above the maximum")
    if known.default is not None:
        check_value(known.default, path)
        check_property(known.default, known, f"{path}, its default")


def check_definition(definition: Definition, of: str) -> None:
    """What one layer says of the service or instance `of`."""
    try:
        for path, value in composing.paths_of(definition):
            check_path(path)
            if path.startswith("groups/"):
                check_value(value, path)
            else:
                check_part(path, value)
        for group, properties in definition.groups.items():
            if not properties:
                raise InvalidServiceError(f"the group {group!r} has no properties")
        for mask in definition.masked:
            check_path(mask)
        check_value(definition.description, "description")
    except InvalidServiceError as error:
        raise InvalidServiceError(f"{of}: {error}") from None


# --- by templates ---------------------------------------------


def check_property(value: Value, known: PropertyTemplate, place: str) -> None:
    """A value by its template. An int is welcome where a float is wanted."""
    kind = kind_of(value)
    if kind != known.type and (kind, known.type) != ("int", "float"):
        raise InvalidServiceError(f"{place}: {_shown(value)} is of type {kind}, not {known.type}")
    if known.choices:
        for text in (value,) if kind == "str" else value:
            if text not in known.choices:
                raise InvalidServiceError(f"{place}: {text!r} is none of {', '.join(known.choices)}")
    size, what = (value, "") if kind in ("int", "float") else (len(value), "the length ") if kind != "bool" else (None, "")
    if size is not None and known.minimum is not None and size < known.minimum:
        raise InvalidServiceError(f"{place}: {what}{size} is below {known.minimum:g}")
    if size is not None and known.maximum is not None and size > known.maximum:
        raise InvalidServiceError(f"{place}: {what}{size} is above {known.maximum:g}")


def _shown(value: Value) -> str:
    return repr(value if len(repr(value)) < 80 else "…")


def problems(view: View, whole: bool = True) -> list[str]:
    """What is wrong with a composed view by its templates. whole: also what is required and missing."""
    found = []
    for group, template in {**view.templates, **BUILT_IN}.items():
        properties = view.groups.get(group)
        if properties is None:
            if whole and template.required:
                found.append(f"the group {group!r} is required")
            if not template.required:
                continue
        for name, value in (properties or {}).items():
            known = template.properties.get(name)
            if known is not None:
                try:
                    check_property(value, known, f"groups/{group}/{name}")
                except InvalidServiceError as error:
                    found.append(str(error))
            elif not template.open:
                there = ", ".join(sorted(template.properties)) or "none"
                found.append(f"groups/{group}/{name}: the template knows no such property (it knows: {there})")
        if whole:
            missing = [name for name, known in template.properties.items() if known.required and name not in (properties or {})]
            found += [f"groups/{group}/{name}: it is required" for name in sorted(missing)]
    return found


def check_target(repository: Repository, target: str, whole: bool) -> None:
    """What a transaction has made of a service or instance. whole: also what is required and missing, and conflicts of layers do not
    count here: they put the instance into maintenance."""
    name, instance = split(target)
    service = repository.services.get(name)
    if service is None:
        return  # deleted later in the same transaction
    for short, one in service.instances.items():
        if instance in ("", short) and (found := problems(composing.edited(service, one), whole)):
            raise InvalidServiceError(f"{name}:{short}: {'; '.join(found)}")
