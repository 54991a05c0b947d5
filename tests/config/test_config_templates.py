"""Templates and links: what counts when several places say something, and what variables become."""

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.config import Config, load, load_with_templates
from gateway.config.nodes import Node, Place
from gateway.config.tags import TagFiles
from gateway.config.templates import SHIPPED, Templates
from gateway.errors import ConfigError

HEAD = "gateway: {id: hall-3}\nmqtt: {host: broker.example.com}\n"
Files = Callable[..., Config]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Write files by their names, with / for folders, and load gateway.yaml, which needs no gateway: and mqtt:."""

    def load_it(config: str, **others: str) -> Config:
        for name, text in others.items():
            path = tmp_path / name.replace("__", "/").replace("_yaml", ".yaml").replace("_csv", ".csv")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text), encoding="utf-8")
        (tmp_path / "gateway.yaml").write_text(HEAD + textwrap.dedent(config), encoding="utf-8")
        return load(tmp_path / "gateway.yaml")

    return load_it


METER = """
    template: {version: 1, vars: {base: {default: 0}, order: {default: ABCD}}}
    protocol: modbus-tcp
    timeout: 3s
    max_registers: 80
    tags:
      - {name: power, address: "input:${base}+12", type: float32, byte_order: "${order}", unit: W}
      - {name: energy, address: "input:${base}+72", type: float32, unit: kW.h, deadband: 1}
    """


def test_the_own_key_counts_before_the_template_the_link_and_the_defaults(files: Files) -> None:
    config = files(
        """
        defaults: {timeout: 9s, max_registers: 9, request_delay: 9ms, max_gap: 9, interval: 9s}
        links:
          hall: {protocol: modbus-tcp, host: 192.0.2.1, timeout: 8s, max_registers: 8, request_delay: 8ms, max_gap: 8}
        devices:
          - {name: meter-1, link: hall, template: meter, max_gap: 7}
        """,
        devices__meter_yaml=METER,
    )
    device: Any = config.devices[0]
    assert (device.max_gap, device.timeout, device.max_registers) == (7, 3.0, 80)
    assert (device.request_delay, device.interval, device.host) == (0.008, 9.0, "192.0.2.1")


def test_tags_of_the_device_override_the_templates_key_by_key_and_add_to_them(files: Files) -> None:
    config = files(
        """
        devices:
          - name: meter-1
            host: 192.0.2.1
            template: meter
            tags:
              - {name: current, address: "input:6", type: float32}
              - {name: energy, deadband: 5, heartbeat: 1h}
        """,
        devices__meter_yaml=METER,
    )
    power, energy, current = config.devices[0].tags
    assert [power.name, energy.name, current.name] == ["power", "energy", "current"]
    assert (energy.source, energy.unit, energy.deadband, energy.heartbeat) == ("input:72", "kW.h", 5, 3600.0)


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("holding:${base}+12", "holding:112"), ("holding:${base}*2+1", "holding:201"),
        ("holding:1+${base}*2", "holding:201"), ("holding:${base} - 1", "holding:99"),
        ("holding:${base}+2.5", "holding:102.5"), ("${base}+40001", "holding:100"),
        ("holding:${base}+2.4-7", "holding:102.4-7"), ("sunspec:103:${base}-98", "sunspec:103:2"),
        ("holding:${base}", "holding:100"), ("holding:${base}+${more}", "holding:95"), ("${whole}", "holding:7"),
        ("holding:${base}${more}", "holding:95"),
    ],
)  # fmt: skip
def test_an_address_is_calculated_from_variables(files: Files, written: str, address: str) -> None:
    kind = "uint16" if "4-7" in address or "." not in address else "bool"
    config = files(
        "devices: [{name: a, host: 192.0.2.1, template: t, vars: {base: 100, more: -5, whole: 'holding:7'}}]",
        devices__t_yaml=f"""
            protocol: modbus-tcp
            tags:
              - {{name: x, address: "{written}", type: {kind}}}
              - {{name: y, address: "holding:${{base}}+${{more}}", type: uint16, description: "${{whole}}"}}
            """,
    )
    assert config.devices[0].tags[0].source == address


def test_a_variable_keeps_its_type_and_text_stays_text(files: Files) -> None:
    config = files(
        "devices: [{name: a, host: 192.0.2.1, template: t, vars: {unit: 7, line: 2, on: false, factor: 0.10}}]",
        devices__t_yaml="""
            protocol: modbus-tcp
            unit_id: ${unit}
            critical: ${on}
            labels: {line: "${line}", both: "line-${line} $${line}"}
            tags:
              - {name: "${line}", address: "holding:2", type: uint16, scale: "${factor}", unit: "${unit}"}
            """,
    )
    device: Any = config.devices[0]
    assert (device.unit_id, device.critical, device.labels) == (7, False, {"line": "2", "both": "line-2 ${line}"})
    assert (device.tags[0].name, str(device.tags[0].scale), device.tags[0].unit) == ("2", "0.1", "7")


def test_a_row_fills_the_variables_of_its_template(files: Files) -> None:
    config = files(
        "devices_file: meters.csv\ndefaults: {template: meter}\n",
        devices__meter_yaml=METER,
        meters_csv="name;host;base;order;labels.line;max_gap\nm-1;192.0.2.1;100;CDAB;1;4\nm-2;192.0.2.2;;;2;\n",
    )
    first, second = config.devices
    assert [tag.source for tag in first.tags] == ["input:112", "input:172"]
    assert [tag.source for tag in second.tags] == ["input:12", "input:72"]
    assert (first.labels, second.labels) == ({"line": "1"}, {"line": "2"})
    assert first.tags[0].model_dump()["byte_order"] == "CDAB"


def test_a_tags_file_starts_at_the_folder_of_the_file_that_names_it(files: Files) -> None:
    config = files(
        """
        include: [conf.d/*.yaml]
        devices: [{name: a, protocol: modbus-tcp, host: 192.0.2.1, tags_file: tags.csv}]
        """,
        conf__d_yaml="",
        **{
            "tags_csv": "name,address,type\nmain,holding:1,uint16\n",
            "conf.d__tags_csv": "name,address,type\nincluded,holding:1,uint16\n",
            "conf.d__a_yaml": "devices: [{name: b, protocol: modbus-tcp, host: 192.0.2.2, tags_file: tags.csv}]",
            "conf.d__b_yaml": "devices: [{name: c, host: 192.0.2.3, template: t}]",
            "devices__t_yaml": "{protocol: modbus-tcp, tags_file: tags.csv}",
            "devices__tags_csv": "name,address,type\ntemplate,holding:1,uint16\n",
        },
    )
    assert [device.tags[0].name for device in config.devices] == ["main", "included", "template"]


def test_a_config_may_have_no_devices_of_its_own(files: Files) -> None:
    config = files(
        "include: [conf.d/*.yaml, none/*.yaml]",
        **{"conf.d__a_yaml": "links: {x: {protocol: modbus-tcp, host: 192.0.2.1}}", "conf.d__empty_yaml": "# nothing\n",
           "conf.d__b_yaml": "devices: [{name: b, link: x, tags: [{name: t, address: 'holding:1', type: uint16}]}]"},
    )  # fmt: skip
    assert [device.address for device in config.devices] == ["192.0.2.1:502"]


def test_a_pattern_that_matches_the_config_itself_does_not_include_it(files: Files) -> None:
    config = files(
        "include: ['*.yaml']",
        more_yaml="devices: [{name: b, protocol: modbus-udp, host: b, tags: [{name: t, address: 40001, type: int16}]}]",
    )
    assert [device.name for device in config.devices] == ["b"]


def test_a_template_beside_the_config_comes_before_a_shipped_one(files: Files, tmp_path: Path) -> None:
    shipped = next(iter(sorted(SHIPPED.glob("*.yaml"))), None)
    name = shipped.stem if shipped is not None else "meter"
    config = files(
        f"devices: [{{name: a, host: 192.0.2.1, template: {name}}}]",
        **{f"devices__{name}_yaml": "{protocol: modbus-tcp, tags: [{name: own, address: 'input:1', type: uint16}]}"},
    )
    assert [tag.name for tag in config.devices[0].tags] == ["own"]


def test_a_template_is_told_with_its_version_and_a_newer_shipped_one_is_a_warning(tmp_path: Path) -> None:
    shipped, own = tmp_path / "shipped", tmp_path / "own"
    shipped.mkdir()
    for stem in ("meter", "meter@2", "meter@10", "meter-x@11"):
        name, _, version = stem.partition("@")
        text = f"template: {{name: {name}, version: {version or 1}}}\ntags: []\n"
        (shipped / f"{stem}.yaml").write_text(text, encoding="utf-8")
    templates = Templates(own, TagFiles(), shipped)

    def get(name: str) -> tuple[str, int | None]:
        template, complaints = templates.get(Node(name, Place("x", 1, 1), raw=name), "")
        assert template is not None, complaints
        return template.title, templates.newer(template)

    assert get("meter") == ("meter@1", 10)
    assert get("meter@1") == ("meter@1", 10)
    assert get("meter@2") == ("meter@2", 10)
    assert get("meter@10") == ("meter@10", None)


def test_the_names_of_templates_are_known_beside_the_config(files: Files, tmp_path: Path) -> None:
    files("devices: [{name: a, host: 192.0.2.1, template: meter}]", devices__meter_yaml=METER)
    assert load_with_templates(tmp_path / "gateway.yaml").templates == {"a": "meter@1"}


def test_what_is_wrong_in_a_template_is_said_once_with_the_devices_that_use_it(files: Files, tmp_path: Path) -> None:
    rows = "".join(f"m-{n},meter,192.0.2.{n},{n}\n" for n in range(1, 51))
    broken = METER.replace("type: float32, unit: kW.h", "type: flaot32").replace("+12", "+65535")
    with pytest.raises(ConfigError) as refused:
        files("devices_file: meters.csv", devices__meter_yaml=broken, meters_csv=f"name,template,host,base\n{rows}")
    address, kind = refused.value.problems
    assert address.file == kind.file == f"{tmp_path}/devices/meter.yaml"
    assert (address.line, address.column, address.path) == (7, 28, "tags[0].address")
    assert address.text == (
        "input:65536 does not exist: protocol addresses go from 0 to 65535 (used by m-1 and 49 more)"
    )
    assert (kind.line, kind.path) == (8, "tags[1].type")
    assert kind.text.endswith("not 'flaot32'; did you mean float32? (used by m-1 and 49 more)")


@pytest.mark.parametrize("text", ["tags: [", "[]", "template: {version: 0}", "tags_file: no-such.csv", "tags: 5"])
def test_a_template_that_cannot_be_used_is_an_error_for_rows_too(files: Files, tmp_path: Path, text: str) -> None:
    rows = "name,template,link\na,meter,bus\nb,meter,bus\n"
    with pytest.raises(ConfigError) as refused:
        files(
            "devices_file: m.csv\nlinks: {bus: {protocol: modbus-tcp, host: b}}", devices__meter_yaml=text, m_csv=rows
        )
    [problem] = refused.value.problems
    assert problem.file in {f"{tmp_path}/devices/meter.yaml", f"{tmp_path}/m.csv"}


def test_a_link_that_nobody_uses_is_fine(files: Files) -> None:
    config = files(
        """
        links: {spare: {protocol: modbus-rtu, serial: {port: /dev/ttyUSB0}}}
        devices: [{name: a, protocol: modbus-tcp, host: b, tags: [{name: t, address: 'holding:1', type: uint16}]}]
        """
    )
    assert len(config.devices) == 1
