"""`edge-gateway import`: tag lists of KEPServerEX and of vendors as tags of this gateway."""

import csv
import io
import json
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gateway.commissioning.kepserver import parse_address
from gateway.commissioning.tag_list import Unplaced, as_decimal, linear
from gateway.commissioning.type_names import type_of
from gateway.config import load
from gateway.scaling import scaler
from tests.cli.conftest import Outcome, Shell

HEADER = (
    "Tag Name,Address,Data Type,Respect Data Type,Client Access,Scan Rate,Scaling,Raw Low,Raw High,Scaled Low,"
    "Scaled High,Scaled Data Type,Clamp Low,Clamp High,Eng Units,Description,Negate Value"
)
KEPSERVER = f"""{HEADER}
"Press.Temperature","400003",Float,1,RO,100,,,,,,,,,,"Oil, warm",
"Level","300010",Word,1,R/W,100,Linear,0,27648,0,100,Double,1,1,"%","Tank: level",0
"Flow","300011",Word,1,R/W,100,Square Root,0,27648,0,100,Double,1,1,"%","",0
"Run","400001.5",Boolean,1,R/W,100,,,,,,,,,,"",
"Serial","400020.20H",String,1,RO,100,,,,,,,,,,"",
"Batch","40040.6L",String,1,RO,100,,,,,,,,,,"",
"Curve","400100[5]",Short Array,1,RO,100,,,,,,,,,,"",
"Matrix","400200 [2][3]",Float Array,1,RO,100,,,,,,,,,,"",
"Coil","000001",Boolean,1,R/W,100,,,,,,,,,,"",
"Door","100007",Boolean,1,RO,100,,,,,,,,,,"",
"1e3","41",Word,1,R/W,100,,,,,,,,,,"no: number",
"Energy","H4000A",DWord,1,R/W,100,,,,,,,,,,"",1
"Count","400300",LBCD,1,R/W,100,,,,,,,,,,"",
"Total","400310",QWord,1,R/W,100,,,,,,,,,,"",
"Tiny","400320",Char,1,R/W,100,,,,,,,,,,"",
"Default","400330",Default,1,R/W,100,,,,,,,,,,"",
"""


def write(folder: Path, content: str | bytes, name: str = "list.csv") -> str:
    """Put a list into the folder and give its name."""
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return name


def config_with(folder: Path, tags: str) -> Path:
    """A config with one device that has these tags."""
    device = "".join(f"    {line}\n" for line in tags.splitlines())
    path = folder / "gateway.yaml"
    path.write_text(
        "gateway: {id: hall-3}\nmqtt: {host: broker.example.com}\ndevices:\n"
        f"  - name: press-1\n    protocol: modbus-tcp\n    host: 192.0.2.10\n{device}"
    )
    return path


def tags_of(done: Outcome) -> dict[str, dict[str, Any]]:
    """The tags of a YAML output, by their names."""
    return {tag["name"]: tag for tag in yaml.safe_load(done.out)["tags"]}


async def test_a_kepserver_list_becomes_tags_that_the_config_takes(shell: Shell) -> None:
    """Every address form and type, the row that has no equivalent left out and told."""
    done = await shell("import", write(shell.folder, KEPSERVER))
    assert done.code == 1
    assert done.err.splitlines()[0] == "row 4: Flow: its scaling is Square Root; here values are scaled linearly only"
    assert done.err.splitlines()[-1] == "15 placed, 1 not; read as KEPServerEX"
    device = load(config_with(shell.folder, done.out)).devices[0]
    found = {tag.name: (str(tag.address), tag.type, tag.byte_order) for tag in device.tags}  # type: ignore[union-attr]
    assert found == {
        "Press.Temperature": ("holding:2", "float32", "CDAB"),
        "Level": ("input:9", "uint16", "ABCD"),
        "Run": ("holding:0.5", "bool", "ABCD"),
        "Serial": ("holding:19", "string", "ABCD"),
        "Batch": ("holding:39", "string", "BADC"),
        "Curve": ("holding:99", "int16", "ABCD"),
        "Matrix": ("holding:199", "float32", "CDAB"),
        "Coil": ("coil:0", "bool", "ABCD"),
        "Door": ("discrete:6", "bool", "ABCD"),
        "1e3": ("holding:0", "uint16", "ABCD"),
        "Energy": ("holding:9", "uint32", "CDAB"),
        "Count": ("holding:299", "bcd32", "CDAB"),
        "Total": ("holding:309", "uint64", "CDAB"),
        "Tiny": ("holding:319", "int8", "ABCD"),
        "Default": ("holding:329", "uint16", "ABCD"),
    }
    by_name = {tag.name: tag for tag in device.tags}
    assert (by_name["Serial"].length, by_name["Batch"].length) == (20, 6)  # type: ignore[attr-defined]
    assert (by_name["Curve"].count, by_name["Matrix"].count) == (5, 6)  # type: ignore[attr-defined]
    assert by_name["Press.Temperature"].description == "Oil, warm"
    assert (by_name["Level"].unit, by_name["Level"].min, by_name["Level"].max) == ("%", 0, 100)
    assert by_name["Energy"].scale == -1


async def test_what_changed_its_meaning_is_told(shell: Shell) -> None:
    done = await shell("import", write(shell.folder, KEPSERVER))
    notes = [line for line in done.err.splitlines() if line.startswith("note: ")]
    assert any("CDAB" in note and "--byte-order ABCD" in note for note in notes)
    assert any("clamped" in note for note in notes)
    assert any("scan rates" in note for note in notes)


async def test_byte_order_first_register_and_intervals_can_be_told(shell: Shell) -> None:
    name = write(shell.folder, KEPSERVER)
    done = await shell("import", "--byte-order", "abcd", "--first", "0", "--intervals", name)
    tag = tags_of(done)["Press.Temperature"]
    assert (tag["address"], tag.get("byte_order"), tag["interval"]) == ("holding:3", None, "100ms")
    assert "CDAB" not in done.err


async def test_a_tags_file_holds_the_same_tags(shell: Shell) -> None:
    name = write(shell.folder, KEPSERVER)
    rows = list(csv.DictReader(io.StringIO((await shell("import", "--csv", name)).out)))
    tags = tags_of(await shell("import", name))
    assert [row["name"] for row in rows] == list(tags)
    for row in rows:
        written = {key: yaml.safe_load(value) for key, value in row.items() if value and key in {"type", "scale"}}
        assert {key: tags[row["name"]].get(key) for key in written} == written


async def test_all_placed_is_exit_0_and_json_has_everything(shell: Shell) -> None:
    done = await shell("import", "--json", write(shell.folder, f'{HEADER}\n"A","40001",Short,1,RO,100,,,,,,,,,,"",\n'))
    assert done.code == 0
    document = json.loads(done.out)
    assert document["tags"] == [{"name": "A", "address": "holding:0", "type": "int16"}]
    assert document["left"] == []


async def test_a_german_list_with_semicolons_decimal_commas_and_a_title_is_read(shell: Shell) -> None:
    content = (
        "Hersteller X;Stand 2024;;;;\n\nBezeichnung;Register-Adresse (dez.);Datentyp;Einheit;Faktor;Beschreibung\n"
        "Spannung L1;19000;Float;V;;Phase 1\nEnergie;0x4B00;UINT32;kWh;0,1;Zähler\nStrom;19012-19013;float;A;1;\n"
    )
    done = await shell("import", write(shell.folder, content.encode("cp1252")))
    assert done.code == 0, done.err
    assert tags_of(done) == {
        "Spannung L1": {
            "name": "Spannung L1", "address": "holding:19000", "type": "float32", "unit": "V", "description": "Phase 1"
        },
        "Energie": {
            "name": "Energie", "address": "holding:19200", "type": "uint32", "scale": 0.1, "unit": "kWh",
            "description": "Zähler",
        },
        "Strom": {"name": "Strom", "address": "holding:19012", "type": "float32", "unit": "A"},
    }  # fmt: skip
    load(config_with(shell.folder, done.out))


async def test_tables_are_taken_from_their_column_and_modicon_numbers_from_themselves(shell: Shell) -> None:
    content = "Name,Function Code,Address,Type\na,04,10,int16\nb,FC3,10,uint16\nc,Coil,10,\nd,Discrete Input,3,bool\n"
    content += "e,3x Register,9,int16\n"
    found = tags_of(await shell("import", write(shell.folder, content)))
    assert [tag["address"] for tag in found.values()] == ["input:10", "holding:10", "coil:10", "discrete:3", "input:9"]
    content = "Name,Register,Data type\na,30001,int16\nb,40011,uint16\nc,40012.3,bool\nd,00004,bool\n"
    found = tags_of(await shell("import", write(shell.folder, content)))
    assert [tag["address"] for tag in found.values()] == ["input:0", "holding:10", "holding:11.3", "coil:3"]


async def test_numbers_that_look_like_modicon_are_plain_where_one_of_the_list_is_not(shell: Shell) -> None:
    """19000 as a float is no discrete input."""
    content = "Name,Register,Data type\na,40001,int16\nb,19000,float\n"
    found = tags_of(await shell("import", write(shell.folder, content)))
    assert [tag["address"] for tag in found.values()] == ["holding:40001", "holding:19000"]


async def test_every_row_that_cannot_be_placed_is_told_with_its_number(shell: Shell) -> None:
    content = (
        "Name,Address,Type,Length,Access\nno-address,,int16,,\nodd,12,complex,,\ntext,14,string,,\n"
        "contradiction,16,int16,2,\nwritten,18,int16,,W\nhere,70000,int16,,\n,20,int16,,\ngood,22,int32,2,R\n"
        "good,24,unsigned,2,R\n"
    )
    done = await shell("import", write(shell.folder, content))
    assert done.code == 1
    assert done.err.splitlines()[:7] == [
        "row 2: no-address: it has no address",
        "row 3: odd: the type 'complex' is not known",
        "row 4: text: a string needs a length, and no column tells it",
        "row 5: contradiction: int16 takes 1 registers, the list says 2",
        "row 6: written: it is write-only, and this gateway only reads",
        "row 7: here: address: holding:70000 does not exist: protocol addresses go from 0 to 65535",
        "row 8: it has no name",
    ]
    assert tags_of(done) == {
        "good": {"name": "good", "address": "holding:22", "type": "int32"},
        "good_2": {"name": "good_2", "address": "holding:24", "type": "uint32"},
    }
    assert "note: name used twice: the second got a number" in done.err


@pytest.mark.parametrize(
    ("written", "first", "place"),
    [
        ("400001", 1, ("holding", 0, None, None, None)),
        ("41", 1, ("holding", 0, None, None, None)),
        ("465536", 1, ("holding", 65535, None, None, None)),
        ("000001", 1, ("coil", 0, None, None, None)),
        ("300010", 0, ("input", 10, None, None, None)),
        ("400001.15", 1, ("holding", 0, 15, None, None)),
        ("400020.20H", 1, ("holding", 19, None, 20, None)),
        ("400010[4]", 1, ("holding", 9, None, None, 4)),
        ("400010 [4][5]", 1, ("holding", 9, None, None, 20)),
        ("H4FFFF", 1, ("holding", 65534, None, None, None)),
    ],
)
def test_kepserver_addresses(written: str, first: int, place: tuple[object, ...]) -> None:
    found = parse_address(written, first)
    assert (found.table, found.register, found.bit, found.length, found.count) == place


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("500001", "'500001' is no Modbus address"),
        ("W400001", "it is write-only (W), and this gateway only reads"),
        ("000001#10", "packed coils have no equivalent; give each coil a tag, or the first one with count"),
        ("400000", "400000 does not exist: registers go from 1 to 65536"),
        ("", "it has no address"),
        ("N7:0", "'N7:0' is no Modbus address"),
    ],
)
def test_kepserver_addresses_without_equivalent(written: str, why: str) -> None:
    with pytest.raises(Unplaced) as told:
        parse_address(written)
    assert str(told.value) == why


NO_HEADINGS = (
    "edge-gateway: {file}: no row of it has headings that are known. It needs at least a column Address (or Register, "
    "Adresse, …)."
)
limits = st.decimals(-100_000, 100_000, places=2)


@given(limits, limits, limits, limits, st.integers(0, 65535))
def test_linear_scaling_is_exact(low: Decimal, high: Decimal, bottom: Decimal, top: Decimal, raw: int) -> None:
    """What the tag's scale and offset make of any raw value is the true quotient, rounded once to a float."""
    if low == high or bottom == top:
        return
    keys = linear((low, high), (bottom, top))
    true = Fraction(bottom) + (raw - Fraction(low)) * Fraction(top - bottom) / Fraction(high - low)
    scale = scaler("uint16", keys.get("scale"), keys.get("offset"))
    found = raw if scale is None else scale(raw)
    assert float(true) == pytest.approx(found, rel=1e-15, abs=1e-15)
    if Fraction(as_decimal(true)) == true and len(str(keys.get("scale", ""))) < 20:
        assert found == float(true)


@pytest.mark.parametrize(
    ("written", "registers", "found"),
    [
        ("UINT16", None, "uint16"), ("INT", 1, "int16"), ("INT", 2, "int32"), ("U32", 2, "uint32"),
        ("Unsigned 16 bit", None, "uint16"), ("16-bit signed", None, "int16"), ("REAL", 2, "float32"),
        ("Float", 4, "float64"), ("IEEE 754", 2, "float32"), ("unsigned int 64", None, "uint64"),
        ("Int32", None, "int32"), ("sint16", None, "int16"), ("LREAL", None, "float64"), ("WORD", 1, "uint16"),
        ("banana", None, None), ("float8", None, None),
    ],
)  # fmt: skip
def test_type_names(written: str, registers: int | None, found: str | None) -> None:
    known = type_of(written, registers)
    assert (known[0] if known else None) == found


def test_a_string_may_tell_its_length() -> None:
    assert type_of("STRING(16)", None) == ("string", 16)


@pytest.mark.parametrize(
    ("content", "code", "sentence"),
    [
        (None, 2, "edge-gateway import: {file} cannot be read: there is no such file. See edge-gateway import --help."),
        (b"a,b,c\n1,2,3\n", 1, NO_HEADINGS),
        (b"", 1, NO_HEADINGS),
    ],
)
async def test_what_is_no_list_is_one_sentence(shell: Shell, content: bytes | None, code: int, sentence: str) -> None:
    if content is not None:
        write(shell.folder, content)
    done = await shell("import", "list.csv")
    assert (done.code, done.err, done.out) == (code, sentence.format(file="list.csv") + "\n", "")


@given(st.binary(max_size=300))
def test_no_content_makes_it_crash(content: bytes) -> None:
    from gateway.commissioning.kepserver import import_kepserver
    from gateway.commissioning.register_list import import_register_list, is_register_list
    from gateway.commissioning.spreadsheet import read_sheet
    from gateway.errors import GatewayError

    for header in (f"{HEADER}\n".encode(), b"Name,Address,Type,Factor,Length\n"):
        try:
            sheet = read_sheet(header + content, is_register_list)
        except GatewayError:
            continue
        import_kepserver(sheet, None)
        import_register_list(sheet, None, 0, "holding")
