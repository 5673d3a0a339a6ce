"""Operations on observed values: setting one, and reading it in the observer."""

import pytest

import kvoshim

VALUES = {"int": 900, "text": "x" * 64, "bytes": bytes(1024)}


@pytest.fixture
def engine(controller):
    """An observable with nobody watching."""
    with kvoshim.Observable("engine", controller=str(controller)) as observable:
        yield observable


@pytest.mark.parametrize("kind", VALUES)
def test_set(benchmark, engine, kind):
    benchmark(engine.__setitem__, "value", VALUES[kind])
    assert engine["value"] == VALUES[kind]


@pytest.mark.parametrize("kind", VALUES)
def test_get(benchmark, engine, controller, kind):
    engine["value"] = VALUES[kind]
    with kvoshim.Observer(controller=str(controller)) as observer:
        assert benchmark(observer.get, "engine", "value") == VALUES[kind]
