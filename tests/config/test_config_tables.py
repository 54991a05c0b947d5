"""CSV files of tags and devices: what a cell stands for, and what a spreadsheet may do to the file."""

from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.config import Config, load
from gateway.config.nodes import Complaint
from gateway.config.table import MOST_ROWS, cell_node, read_table
from gateway.errors import ConfigError

HEAD = "gateway: {id: hall-3}\nmqtt: {host: broker.example.com}\n"
Written = Callable[[bytes], Config]


@pytest.fixture
def tags(tmp_path: Path) -> Written:
    """Load a config whose one device has its tags from a CSV file of these bytes."""

    def load_it(content: bytes) -> Config:
        (tmp_path / "press.csv").write_bytes(content)
        path = tmp_path / "gateway.yaml"
        device = "{name: press-1, protocol: modbus-tcp, host: 192.0.2.1, tags_file: press.csv}"
        path.write_text(f"{HEAD}devices: [{device}]\n", encoding="utf-8")
        return load(path)

    return load_it


PLAIN = "name,address,type,unit,scale\nlevel,holding:2,uint16,m³,0.1\nflow,40021,int16,,\n"


@pytest.mark.parametrize(
    "content",
    [
        PLAIN.encode(),
        PLAIN.encode("utf-8-sig"),
        PLAIN.replace("\n", "\r\n").encode(),
        PLAIN.replace("\n", "\r").encode(),
        PLAIN.replace(",", ";").encode("utf-8-sig"),
        PLAIN.replace(",", ";").replace("\n", ";;\r\n").encode(),
        PLAIN.replace("level", '"level"').replace("uint16", '"uint16"').encode(),
        PLAIN.replace("level", "  level ").encode(),
        f'# a comment, "not closed\n\n{PLAIN}\n   \n# another\n\n'.encode(),
        PLAIN.rstrip("\n").encode(),
    ],
    ids=["plain", "bom", "crlf", "cr", "semicolon", "excel", "quotes", "spaces", "comments", "no-newline"],
)
def test_a_table_means_the_same_however_a_spreadsheet_saves_it(tags: Written, content: bytes) -> None:
    [device] = tags(content).devices
    told = [(tag.name, tag.source, tag.value_type, tag.unit, tag.scale) for tag in device.tags]
    level, flow = told
    assert level[:4] == ("level", "holding:2", "uint16", "m³")
    assert str(level[4]) == "0.1"
    assert flow == ("flow", "holding:20", "int16", None, None)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e3", 1000.0), ("40021", 40021), ("true", True), ("0x8000", 0x8000), ("holding:2", "holding:2"), ("2%", "2%"),
        ("[0, 100]", [0, 100]), ("{0: stopped, 1: running}", {"0": "stopped", "1": "running"}), ("yes", "yes"),
        ("[0x8000]", [0x8000]), ("1.5", 1.5), ("TRUE", True), ("FALSE", False), ("True", "True"),
        ("12:30:45", "12:30:45"),
    ],
)  # fmt: skip
def test_a_cell_stands_for_what_its_text_would_without_quotes_in_yaml(text: str, value: object) -> None:
    found: list[Complaint] = []
    read, _ = read_table("a.csv", "x\n1\n")
    assert read is not None
    node = cell_node(text, read.rows[0].place, "x", as_text=False, complaints=found)
    assert (node.plain(), found) == (value, [])


def test_text_stays_text_where_the_key_holds_text(tags: Written) -> None:
    content = b"name,address,type,unit,description\n007,holding:2,uint16,1,true\n1e3,holding:3,uint16,null,[a\n"
    [device] = tags(content).devices
    assert [(tag.name, tag.unit, tag.description) for tag in device.tags] == [
        ("007", "1", "true"),
        ("1e3", "null", "[a"),
    ]


def test_lists_maps_and_limits_can_be_written_in_cells(tags: Written) -> None:
    content = (
        "name;address;type;range;invalid;map;deadband\n"
        "level;holding:2;int16;[0, 100];[0x8000, -1];;2%\n"
        'state;holding:3;uint16;;;"{0: stopped, 1: running}";0\n'
    )
    [device] = tags(content.encode()).devices
    level, state = device.tags
    assert level.model_dump(mode="json")["invalid"] == [0x8000, -1]
    assert level.range == (0, 100)
    assert state.map == {0: "stopped", 1: "running"}


def test_a_line_break_in_quotes_does_not_move_the_lines_of_later_rows(tmp_path: Path) -> None:
    table, complaints = read_table("a.csv", 'name,note\na,"one\n\n# two"\n\n#\nb,x\n')
    assert complaints == []
    assert table is not None
    assert [(row.place.line, row.cells) for row in table.rows] == [
        (2, {0: "a", 1: "one\n\n# two"}),
        (7, {0: "b", 1: "x"}),
    ]


@pytest.mark.parametrize(("text", "line"), [("", 1), ("# a\n\n", 1), (",\n", 1), ("\n;;\na;b;c\n", 2), ('""\n', 1)])
def test_a_table_without_names_for_its_columns_is_empty(text: str, line: int) -> None:
    table, [complaint] = read_table("a.csv", text)
    assert table is None
    assert (complaint.place, complaint.text) == (("a.csv", line, 1), "is empty; its first row names the columns")


def test_a_table_has_a_largest_size() -> None:
    table, complaints = read_table("a.csv", "name\n" + "a\n" * (MOST_ROWS + 5))
    assert table is not None
    assert len(table.rows) == MOST_ROWS
    assert [str(each.text) for each in complaints] == [f"more than {MOST_ROWS} rows; split the file"]
    _, complaints = read_table("a.csv", ",".join(f"c{n}" for n in range(300)) + "\n")
    assert [each.text for each in complaints] == ["has more than 200 columns"]


def test_a_table_larger_than_any_is_refused_with_its_name(tags: Written, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        tags(b"#" * (9 << 20))
    [problem] = refused.value.problems
    assert problem.text == f"{tmp_path}/press.csv is larger than 8 MiB"
    assert (problem.file, problem.line, problem.path) == (f"{tmp_path}/gateway.yaml", 3, "devices[0].tags_file")
