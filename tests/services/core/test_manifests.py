"""Manifests: from JSON to services and back."""

from random import Random

import histories
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvoshim.errors import InvalidServiceError, KvoshimError
from kvoshim.services.core import composing, manifests
from kvoshim.services.core.model import Repository
from kvoshim.services.core.transacting import transact

WEB = """
// for people
{"service": "web/nginx", "description": "a web server",
 "methods": {"start": {"exec": ["/usr/sbin/nginx"], "timeout-s": 5, "env": {"A": "b"}, "limits": {"nofile": "1024:4096"}}},
 "dependencies": {"log": {"grouping": "require-all", "targets": ["log", "file:/etc/hosts"], "restart-on": "error"}},
 "groups": {"config": {"workers": 2, "ratio": 0.5, "fast": true, "name": "x", "hosts": ["a", "b"], "env": {"k": "v"}}},
 "templates": {"config": {"properties": {"workers": {"type": "int", "required": true}}, "open": true}},
 "instances": {"default": {"groups": {"general": {"enabled": true}}}}}
"""


def test_a_manifest_becomes_a_service():
    repository = transact(Repository(), manifests.parse(WEB), taken=1.0)[0]
    service = repository.services["web/nginx"]
    view = composing.running(service.instances["default"])
    assert view.groups["config"] == {"workers": 2, "ratio": 0.5, "fast": True, "name": "x", "hosts": ("a", "b"), "env": {"k": "v"}}
    assert view.methods["start"].timeout_s == 5.0 and view.dependencies["log"].restart_on == "error"
    assert composing.enabled(service, service.instances["default"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "web.json"),
        ("[]", "web.json: there is no manifest in it"),
        ("3", "web.json: Expected `object`"),
        ('{"groups": {}}', "missing required field `service`"),
        ('{"service": "a b"}', "'a b' is no name of a service"),
        ('{"service": "a", "metods": {}}', "unknown field `metods`"),
        ('[{"service": "a"}, {"service": "a", "groups": {"g": {"p": null}}}]', "web.json: manifest 2: .*groups"),
        ('{"service": "a", "groups": {"g": {"p": [1]}}}', "Expected `str`, got `int`"),
        ('{"service": "a", "groups": {"g/h": {"p": 1}}}', "is no path"),
        ('{"service": "a", "groups": {"g": {}}}', "the group 'g' has no properties"),
        ('{"service": "a", "layer": "mine"}', "'mine' is no layer"),
        ('{"service": "a", "dependencies": {"d": {"grouping": "some", "targets": ["b"]}}}', "Invalid enum value 'some'"),
        ('{"service": "a", "dependencies": {"d": {"grouping": "require-all", "targets": ["b:"]}}}', "'' is no name of an instance"),
        ('{"service": "a", "instances": {"x y": {}}}', "'x y' is no name of an instance"),
        ('{"service": "a", "templates": {"g": {"properties": {"p": {"type": "int", "default": "x"}}}}}', "its default: 'x' is of"),
        ('{"service": "a", "masked": ["x"]}', "'x' is no path"),
    ],
)
def test_what_is_no_manifest_is_refused_with_its_place(text, message):
    with pytest.raises(InvalidServiceError, match=message):
        manifests.parse(text, "web.json")


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 1 << 40))
def test_what_is_exported_can_be_imported(seed):
    random, repository = Random(seed), Repository()
    for _ in range(15):
        try:
            repository = transact(repository, histories.transaction(random), taken=1.0)[0]
        except KvoshimError:
            continue
    if not repository.services:
        return
    again = transact(Repository(), manifests.parse(manifests.export(repository)), taken=1.0)[0]
    assert again.services.keys() == repository.services.keys()
    for name, service in repository.services.items():
        assert again.services[name].layers == service.layers
        assert {short: one.layers for short, one in again.services[name].instances.items()} == {
            short: one.layers for short, one in service.instances.items()
        }


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda data: data.decode("latin-1")))
def test_any_text_is_a_manifest_or_refused(text):
    try:
        manifests.parse(text, "x")
    except InvalidServiceError as error:
        assert "x" in str(error)
