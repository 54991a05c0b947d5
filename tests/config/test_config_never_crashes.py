"""Whatever a config file holds, loading it gives a Config or a ConfigError, and nothing else."""

import string
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config import Config, load
from gateway.config.expand import expand
from gateway.errors import ConfigError

GOOD = (Path(__file__).parent / "good.yaml").read_text(encoding="utf-8")
SHIPPED = (Path(__file__).parents[2] / "config" / "gateway.yaml").read_text(encoding="utf-8")
BROKEN = [path.read_bytes() for path in sorted((Path(__file__).parent / "broken").glob("*.yaml"))]
PIECES = [
    *"{}[]:,-&*!|>'\"%@`#?~ \n\t", "- ", ": ", "\n  ", "null", "true", "yes", "010", "1e999", ".nan", "0x1F", "<<: *a",
    "&a ", "*a", "!!int ", "--- ", "\x00", "\x85", "\ufeff", "\ud7ff", '"\\ud800"', "99999999999999999999999", "-1",
    "1s", "0s", "9e9s", "1GiB", "holding:0", "ns=1;i=1", "modbus-tcp", "opcua", "{file: x}", "{labels.site}", "2%",
    "name:", "tags:", "devices:", "defaults:", "{share: 1}", "[1, 2]", '"a\\nb"', '? "a\\nb"\n: ', "host:", "protocol:",
    "opc.tcp://[", "::1", "٣", "é" * 300,
]  # fmt: skip
LINES = GOOD.splitlines(keepends=True)


def outcome(folder: Path, content: bytes) -> Config | ConfigError:
    path = folder / "gateway.yaml"
    path.write_bytes(content)
    try:
        return load(path)
    except ConfigError as error:
        refused = error
    assert refused.problems
    assert all(problem.text and str(problem).isprintable() for problem in refused.problems)
    return refused


@settings(max_examples=150, deadline=None)
@given(content=st.binary(max_size=200))
def test_any_bytes(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    outcome(tmp_path_factory.getbasetemp(), content)


@settings(max_examples=150, deadline=None)
@given(pieces=st.lists(st.one_of(st.sampled_from(PIECES), st.text(string.printable, max_size=5)), max_size=40))
def test_any_text_of_the_pieces_that_yaml_is_made_of(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[str]
) -> None:
    outcome(tmp_path_factory.getbasetemp(), "".join(pieces).encode("utf-8", "surrogatepass"))


@settings(max_examples=150, deadline=None)
@given(
    text=st.sampled_from([GOOD, SHIPPED]),
    edits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 12), st.sampled_from(PIECES)), min_size=1, max_size=4),
)
def test_a_good_config_with_random_edits(
    tmp_path_factory: pytest.TempPathFactory, text: str, edits: list[tuple[float, int, str]]
) -> None:
    for where, length, piece in edits:
        start = int(where * len(text))
        text = text[:start] + piece + text[start + length :]
    outcome(tmp_path_factory.getbasetemp(), text.encode("utf-8", "surrogatepass"))


@settings(max_examples=150, deadline=None)
@given(line=st.integers(0, len(LINES) - 1), word=st.integers(0, 20), piece=st.sampled_from(PIECES))
def test_a_good_config_with_one_value_exchanged(
    tmp_path_factory: pytest.TempPathFactory, line: int, word: int, piece: str
) -> None:
    words = LINES[line].rstrip("\n").split(" ")
    words[word % len(words)] = piece
    text = "".join([*LINES[:line], " ".join(words) + "\n", *LINES[line + 1 :]])
    outcome(tmp_path_factory.getbasetemp(), text.encode("utf-8", "surrogatepass"))


@settings(max_examples=100, deadline=None)
@given(content=st.sampled_from(BROKEN), cut=st.floats(0, 1), piece=st.sampled_from(PIECES))
def test_a_broken_config_that_is_cut_short(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, cut: float, piece: str
) -> None:
    kept = content[: int(cut * len(content))]
    outcome(tmp_path_factory.getbasetemp(), kept + piece.encode("utf-8", "surrogatepass"))


FILES = {
    "gateway.yaml": """gateway: {id: hall-3}
mqtt: {host: broker.example.com}
include: [conf.d/*.yaml]
devices_file: presses.csv
links:
  bus-a: {protocol: modbus-rtu, serial: {port: /dev/ttyUSB0}}
devices:
  - {name: meter-1, link: bus-a, template: press, vars: {base: 7}, tags: [{name: level, deadband: 0}]}
  - {name: press-0, protocol: modbus-tcp, host: 192.0.2.1, tags_file: press.csv}
""",
    "conf.d/more.yaml": """links: {hall: {protocol: modbus-tcp, host: 192.0.2.9}}
devices:
  - {name: press-9, link: hall, template: press@1}
""",
    "devices/press.yaml": """template: {name: press, version: 1, vars: {base: {default: 0}, unit: {default: 1}}}
unit_id: ${unit}
tags_file: ../press.csv
tags:
  - {name: level, address: "holding:${base}+2*3.5", type: bool}
""",
    "presses.csv": """name,template,link,unit_id,labels.line,base
press-1,press,hall,5,1,100
# a comment
press-2,press,bus-a,6,2,
""",
    "press.csv": """name;address;type;range;map;description
speed;holding:6;uint16;[0, 100];;"a; b"
state;40007;uint16;;{0: stopped};x
""",
}
CELLS = [
    *',;"#\n\r\t[]{}$*', "\r\n", '""', ',"', ";;;", "\ufeff", "\x00", "[1, ", "{a: b}", "{? [a]: b}", "*x", "&a [*a]",
    "${base}", "${", "$${x}", "${unknown}", "+12", "*99999999", "-1", "name", "template", "press@2", "labels.",
    "labels.x", "tags", "vars", "link: nobody", "../", "conf.d", "**/*", "[", "007", "1e999",
    "true", "\u2028", "\x85", "é",
]  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(
    edits=st.lists(
        st.tuples(
            st.sampled_from(sorted(FILES)), st.floats(0, 1), st.integers(0, 12), st.sampled_from([*CELLS, *PIECES])
        ),
        max_size=4,
    )
)
def test_files_beside_the_config_with_random_edits(
    tmp_path_factory: pytest.TempPathFactory, edits: list[tuple[str, float, int, str]]
) -> None:
    folder = tmp_path_factory.getbasetemp() / "many"
    texts = dict(FILES)
    for name, where, length, piece in edits:
        start = int(where * len(texts[name]))
        texts[name] = texts[name][:start] + piece + texts[name][start + length :]
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text.encode("utf-8", "surrogatepass"))
    config = outcome(folder, texts["gateway.yaml"].encode("utf-8", "surrogatepass"))
    if not edits:
        assert isinstance(config, Config), config
    if isinstance(config, Config):
        assert all(device.tags for device in config.devices)
        again = outcome(tmp_path_factory.getbasetemp(), expand(config).encode())
        assert again == config


@settings(max_examples=150, deadline=None)
@given(
    content=st.one_of(
        st.binary(max_size=200),
        st.lists(st.sampled_from(CELLS), max_size=12).map(lambda cells: "".join(cells).encode()),
    ),
    name=st.sampled_from(sorted(set(FILES) - {"gateway.yaml"})),
)
def test_any_bytes_in_a_file_beside_the_config(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, name: str
) -> None:
    folder = tmp_path_factory.getbasetemp() / "many"
    for each, text in FILES.items():
        (folder / each).parent.mkdir(parents=True, exist_ok=True)
        (folder / each).write_text(text, encoding="utf-8")
    (folder / name).write_bytes(content)
    outcome(folder, FILES["gateway.yaml"].encode())


_KEYS = st.text(string.ascii_letters + string.digits + "_-. :#'\"{}é", min_size=1, max_size=12)


@settings(max_examples=150, deadline=None)
@given(
    labels=st.dictionaries(_KEYS, st.text(max_size=8).filter(str.isprintable), max_size=4),
    unit=st.text(min_size=1, max_size=6).filter(str.isprintable),
    scale=st.decimals(allow_nan=False, allow_infinity=False, places=4).filter(lambda d: 0 < abs(d) < 10**20),
    interval=st.integers(1, 10**9),
)
def test_what_expand_writes_loads_to_the_same_config(
    tmp_path_factory: pytest.TempPathFactory, labels: dict[str, str], unit: str, scale: object, interval: int
) -> None:
    folder = tmp_path_factory.getbasetemp()
    config = outcome(folder, GOOD.encode())
    assert isinstance(config, Config)
    tag = config.devices[0].tags[0].model_copy(update={"unit": unit, "scale": scale, "interval": interval / 1000})
    device = config.devices[0].model_copy(update={"tags": (tag,), "labels": labels})
    changed = config.model_copy(update={"devices": (device, config.devices[1])})
    again = outcome(folder, expand(changed).encode())
    assert isinstance(again, Config)
    assert again == changed
    assert again.hash == changed.hash
