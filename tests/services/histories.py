"""Random transactions over a small world of services, valid or not."""

from random import Random

from kvoshim.services.core import operations as o
from kvoshim.services.core.model import Definition, Dependency, Method, PropertyTemplate, Template

SERVICES = ("web", "data/base", "log")
INSTANCES = ("default", "second")
LAYERS = ("manifest", "profile/site", "profile/rack", "admin")
PATHS = ("groups/config", "groups/config/port", "groups/config/name", "methods/start", "dependencies/base", "templates/config")
VALUES = (1, 2.5, True, "text", ("a", "b"), {"key": "value"}, "", -7, "line\nbreak", "\u00e9\U0001f600")


def definition(random: Random) -> Definition:
    return Definition(
        description=random.choice(("", "of a kind")),
        groups={"config": {"port": random.randrange(5)}} if random.random() < 0.7 else {},
        methods={"start": Method(("/bin/true", str(random.randrange(3))))} if random.random() < 0.5 else {},
        dependencies={"base": Dependency("require-all", ("data/base", "file:/etc/hosts"))} if random.random() < 0.3 else {},
        masked=("groups/config/name",) if random.random() < 0.2 else (),
    )


def target(random: Random) -> str:
    service = random.choice(SERVICES)
    return f"{service}:{random.choice(INSTANCES)}" if random.random() < 0.7 else service


def operation(random: Random) -> o.AnyOperation:
    one, layer = target(random), random.choice(LAYERS)
    path = random.choice(PATHS)
    match random.randrange(17):
        case 0 | 1:
            return o.Import(
                service=random.choice(SERVICES),
                definition=definition(random),
                instances={name: definition(random) for name in INSTANCES if random.random() < 0.6},
                layer=layer,
            )
        case 2 | 3 | 4:
            name = random.choice(("port", "name"))
            return o.SetProperty(target=one, group="config", name=name, value=random.choice(VALUES), layer=layer)
        case 5:
            return o.Enable(target=one, enabled=random.random() < 0.5, temporary=random.random() < 0.4)
        case 6 | 7:
            properties = {"state": random.choice(("online", "offline", "maintenance"))}
            return o.Report(target=one, properties=properties, replace=random.random() < 0.2)
        case 8:
            return o.Refresh(target=one)
        case 9:
            return o.Take(target=one, snapshot=random.choice(("start", "last-good", "mine")), edited=random.random() < 0.3)
        case 10:
            return o.Revert(target=one, snapshot=random.choice(("initial", "previous", "running", "mine")))
        case 11:
            return random.choice((o.Mask, o.Unmask))(target=one, path=path, layer=layer)
        case 12:
            return o.Remove(target=one, path=path, layer=layer)
        case 13:
            return random.choice((o.Create, o.Create, o.Delete))(target=one)
        case 14:
            withdraw = o.Withdraw(service=random.choice(SERVICES), layer=layer)
            return random.choice((withdraw, o.DropSnapshot(target=one, snapshot="mine")))
        case 15:
            template = Template(properties={"port": PropertyTemplate("int", minimum=0)}, open=True)
            return o.PutTemplate(target=one, name="config", template=template, layer=layer)
        case _:
            return o.Expect(target=one, revision=random.randrange(4))


def transaction(random: Random) -> tuple[o.AnyOperation, ...]:
    return tuple(operation(random) for _ in range(random.choice((1, 1, 1, 2, 3))))
