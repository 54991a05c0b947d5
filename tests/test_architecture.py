"""The shape of the program: who may import whom, how tasks are made, where errors stop, how long things may be."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(path for package in ("gateway", "simulators") for path in (ROOT / package).rglob("*.py"))
GATEWAY = [path for path in FILES if path.is_relative_to(ROOT / "gateway")]

LAYERS: list[set[str]] = [
    {
        "",
        "checked",
        "clock",
        "columns",
        "errors",
        "files",
        "garbage",
        "hosts",
        "logs",
        "loop",
        "model",
        "notify",
        "quantities",
        "secret",
        "tls",
        "version",
    },
    {"drivers"},
    {"config"},
    {"buffer", "conversion", "deadband", "health", "meta", "scaling", "schedule", "shaping", "supervisor"},
    {"control", "poller", "publisher"},
    {"app", "commissioning"},
    {"demo"},
    {"cli"},
    {"__main__"},
]
"""The parts of the package, from the ground up. A part may import those of its own layer and of those below."""

STRANGERS = {
    "buffer": {"health", "meta", "shaping"},
    "health": {"buffer", "meta", "shaping"},
    "control": {"buffer", "health", "poller", "publisher"},
    "poller": {"health", "publisher"},
    "publisher": {"poller"},
    "drivers.modbus": {"drivers.opcua"},
    "drivers.opcua": {"drivers.modbus"},
}
"""What must not know each other, though the layers would allow it: north and south, protocol and protocol."""

HOMES = {
    "aiomqtt": ("publisher", "demo.consumer"),
    "amqtt": ("demo",),
    "asyncua": ("drivers.opcua",),
    "paho": ("publisher",),
    "prometheus_client": ("health",),
    "pydantic": ("checked", "commissioning", "config", "control", "drivers", "files", "hosts", "quantities", "secret"),
    "pymodbus": (),
    "rich": ("cli", "demo"),
    "serial": ("drivers.modbus",),
    "sqlite3": ("buffer", "cli.version"),
    "yaml": ("config", "cli", "demo.plant"),
    "zstandard": ("buffer", "publisher.payload", "demo.consumer"),
}
"""The only parts that may know of a library: what is replaced with it."""

LONGEST_FILE = 300
LONGEST_FUNCTION = 40
BROAD = {"Exception", "BaseException", "ExceptionGroup", "BaseExceptionGroup"}


@cache
def tree(path: Path) -> ast.Module:
    """Parse a file, once."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def module(path: Path) -> str:
    """Name a file of the package by its dotted path below `gateway`."""
    parts = path.relative_to(ROOT / "gateway").with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def part_of(name: str) -> str:
    """Name the part of the package that a module belongs to."""
    return name.partition(".")[0]


def imports(path: Path) -> Iterator[str]:
    """Give everything that a file imports, wherever in it, by its full dotted name."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own_imports(path: Path) -> Iterator[str]:
    """Give what a file imports of our own package, named below `gateway`."""
    modules = {module(each) for each in GATEWAY}
    for name in imports(path):
        if name.startswith("gateway."):
            below = name.removeprefix("gateway.")
            yield below if below in modules else below.rpartition(".")[0]


def belongs(name: str, home: str) -> bool:
    """Whether a module is `home` or lies in it."""
    return name == home or name.startswith(f"{home}.")


def place(path: Path, node: ast.AST | None = None) -> str:
    """Say where something is, as an editor would."""
    return f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}"


def test_every_part_of_the_package_has_its_layer() -> None:
    parts = {part_of(module(path)) for path in GATEWAY}
    assert parts - set().union(*LAYERS) == set()


def test_imports_go_one_way() -> None:
    height = {part: number for number, layer in enumerate(LAYERS) for part in layer}
    upwards = [
        f"{module(path)} imports {name}"
        for path in GATEWAY
        for name in own_imports(path)
        if height[part_of(name)] > height[part_of(module(path))]
    ]
    assert upwards == []


def test_north_and_south_and_the_protocols_do_not_know_each_other() -> None:
    acquainted = [
        f"{module(path)} imports {name}"
        for path in GATEWAY
        for home, others in STRANGERS.items()
        if belongs(module(path), home)
        for name in own_imports(path)
        if any(belongs(name, other) for other in others)
    ]
    assert acquainted == []


def test_a_library_is_known_in_its_home_only() -> None:
    abroad = [
        f"{module(path)} imports {library}"
        for path in GATEWAY
        for library, homes in HOMES.items()
        if any(belongs(name, library) for name in imports(path))
        and not any(belongs(module(path), home) for home in homes)
    ]
    assert abroad == []


def test_the_simulators_do_not_know_the_gateway() -> None:
    knowing = [
        place(path) for path in set(FILES) - set(GATEWAY) if any(belongs(name, "gateway") for name in imports(path))
    ]
    assert knowing == []


def test_a_module_opens_by_saying_what_it_is() -> None:
    assert [place(path) for path in FILES if not ast.get_docstring(tree(path))] == []


def test_files_fit_on_a_page() -> None:
    lengths = {place(path): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {path: length for path, length in lengths.items() if length > LONGEST_FILE} == {}


def test_functions_are_short() -> None:
    lengths = {
        place(path, node): (node.end_lineno or 0) - node.lineno + 1
        for path in FILES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {function: length for function, length in lengths.items() if length > LONGEST_FUNCTION} == {}


def swallows(handler: ast.ExceptHandler) -> bool:
    """Whether a handler may catch anything, and does not raise again."""
    caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    broad = any(kind is None or (isinstance(kind, ast.Name) and kind.id in BROAD) for kind in caught)
    return broad and not isinstance(handler.body[-1], ast.Raise)


def test_errors_that_nobody_foresaw_stop_in_two_places_where_a_comment_says_why() -> None:
    found = [
        (path, node.lineno)
        for path in FILES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ExceptHandler) and swallows(node)
    ]
    assert {path for path, _ in found} == {ROOT / "gateway/supervisor.py", ROOT / "gateway/cli/__init__.py"}
    assert len(found) == 2
    for path, line in found:
        assert "#" in path.read_text(encoding="utf-8").splitlines()[line - 1]


def test_nothing_is_suppressed_wholesale() -> None:
    suppressing = [
        place(path, call)
        for path, call in calls()
        if ast.unparse(call.func).endswith("suppress") and not BROAD.isdisjoint(map(ast.unparse, call.args))
    ]
    assert suppressing == []


def calls() -> Iterator[tuple[Path, ast.Call]]:
    """Give every call in the program."""
    for path in FILES:
        yield from ((path, node) for node in ast.walk(tree(path)) if isinstance(node, ast.Call))


@cache
def task_groups(path: Path) -> set[str]:
    """Name what is a task group in a file: the targets of `async with`, and arguments annotated so."""
    names = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.withitem) and ast.unparse(node.context_expr) == "asyncio.TaskGroup()":
            names.add(ast.unparse(node.optional_vars) if node.optional_vars else "")
        elif isinstance(node, ast.arg) and node.annotation and ast.unparse(node.annotation) == "asyncio.TaskGroup":
            names.add(node.arg)
    return names


def test_every_task_is_the_named_child_of_a_task_group() -> None:
    orphans, nameless = [], []
    for path, call in calls():
        owner, _, verb = ast.unparse(call.func).rpartition(".")
        if verb == "ensure_future" or (verb == "create_task" and owner not in task_groups(path)):
            orphans.append(place(path, call))
        elif verb == "create_task" and "name" not in {keyword.arg for keyword in call.keywords}:
            nameless.append(place(path, call))
    assert (orphans, nameless) == ([], [])


CONFIG = """
gateway: {id: hall-3}
mqtt: {host: 127.0.0.1, topic: "factory/{gateway}/{device}", tls: {insecure_plaintext: true}}
buffer: {path: BUFFER}
devices:
  - {name: press-1, protocol: modbus-tcp, host: 127.0.0.1, tags: [{name: level, address: "holding:0", type: int16}]}
"""
PROGRAM = """
import asyncio, sys
from pathlib import Path
import gateway.cli.run
from gateway import app, config
from gateway.buffer import Limits, open_buffer

async def main():
    loaded = config.load(Path(sys.argv[1]))
    async with open_buffer(loaded.buffer.path, Limits(1 << 20), 0.1) as buffer:
        app.compose(loaded, buffer)

asyncio.run(main())
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


@pytest.mark.parametrize("library", ["asyncua", "prometheus_client", "rich", "amqtt"])
def test_the_daemon_imports_only_what_its_config_uses(library: str, loaded: frozenset[str]) -> None:
    assert "gateway" in loaded
    assert library not in loaded


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> frozenset[str]:
    """Give what is imported once a gateway with a Modbus device only is put together."""
    folder = tmp_path_factory.mktemp("daemon")
    path = folder / "gateway.yaml"
    path.write_text(CONFIG.replace("BUFFER", str(folder / "buffer.db")), encoding="utf-8")
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path)], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 0, run.stderr
    return frozenset(run.stdout.split())
