"""Templates: what devices of one model have in common, in a file of its own, with variables for what differs."""

import json
import os.path
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field, ValidationError

from gateway.config import report, substitute, tags
from gateway.config.keys import LINK, OWN, TAGS_FILE, TEMPLATE, VARS
from gateway.config.nodes import Complaint, Entry, Node, moved, read
from gateway.config.sentences import did_you_mean, listed
from gateway.config.sources import text_named_at
from gateway.drivers.base import Section

SHIPPED: Final = Path(__file__).parents[1] / "devices"
"""The folder of the templates that are part of the program."""
_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}(?:@[1-9][0-9]{0,5})?")


def _scalar(value: Any) -> Any:
    if not isinstance(value, str | int | float | bool | None):
        raise ValueError("must be a number, text, true or false")  # noqa: TRY004 -- pydantic reports ValueError
    return value


def _texts(value: Any) -> Any:
    if not (isinstance(value, str) or (isinstance(value, list) and all(isinstance(line, str) for line in value))):
        raise ValueError("must be text, or a list of texts")
    return value


class Var(Section):
    """A variable of a template; one without a default needs a value from every device."""

    default: Annotated[Any, AfterValidator(_scalar)] = None
    description: str | None = None


class About(Section):
    """What a template says about itself."""

    name: str | None = Field(default=None, description="as the file's, without .yaml")
    version: int = Field(default=1, ge=1, description="1; a changed template is another file, NAME@2.yaml")
    description: str | None = None
    manual: Annotated[Any, AfterValidator(_texts)] = Field(default="", description="where the registers are described")
    vars: dict[str, Var] = Field(default_factory=dict, description="what differs from device to device")


class _File(Section):
    template: About = About()


@dataclass(frozen=True, slots=True)
class Template:
    """A template that could be read: its keys, its tags, its variables' defaults, and the variables it uses."""

    name: str
    version: int
    file: str
    entries: Mapping[str, Entry]
    tags: tuple[Node, ...]
    defaults: Mapping[str, Node]
    vars: frozenset[str]
    used_by_tags: tuple[str, ...]
    filled: dict[Any, tuple[Node, ...]] = field(default_factory=dict, compare=False)

    @property
    def title(self) -> str:
        """`sdm630@1`."""
        return f"{self.name}@{self.version}"

    def complaints(self, given: Mapping[str, Node], at: Node, path: str, how: str) -> Iterator[Complaint]:
        """Give the variables that a device names and the template does not have, and those without a value.

        `how` is the way to write a value there.
        """
        called = f"template {self.name} ({self.file})"
        for name, node in given.items():
            if name not in self.vars:
                known = did_you_mean(name, self.vars) or _all(self.vars)
                yield Complaint(node.place, _origin(node, path), f"{called} has no var {name}{known}")
        for name in sorted(self.vars - set(given) - set(self.defaults)):
            yield Complaint(at.place, path, f"{called} needs a value for its var {name}; write {how.format(name)}")

    def tags_with(self, values: Mapping[str, Node]) -> tuple[Node, ...]:
        """Give the tags with the variables' values put in; devices with the same values get the same nodes."""
        key = tuple((type(node.value), node.value, node.raw) for node in map(values.__getitem__, self.used_by_tags))
        if key not in self.filled:
            self.filled[key] = tuple(substitute.substituted(tag, values) for tag in self.tags)
        return self.filled[key]


def _origin(node: Node, path: str) -> str:
    return path if node.origin is None else node.origin


def _all(names: Iterable[str]) -> str:
    ordered = sorted(names)
    return f"; it has {listed(ordered, 'and')}" if ordered else "; it has none"


class Templates:
    """Finds templates by their names, beside the config file and among the shipped ones, and reads each once."""

    def __init__(self, folder: Path, tag_files: tags.TagFiles, shipped: Path = SHIPPED) -> None:
        self._shipped = shipped
        self._folders = (folder / "devices", shipped)
        self._tag_files = tag_files
        self._known: dict[str, tuple[Template | None, list[Complaint]]] = {}

    def get(self, node: Node, path: str) -> tuple[Template | None, list[Complaint]]:
        """Give the template that is named at `node`; None if it cannot be used, and what is wrong with it."""
        if not isinstance(node.value, str):
            wrong = [] if node.value is None else [Complaint(node.place, path, "must be the name of a template")]
            return None, wrong
        name = node.value
        if name not in self._known:
            file = self._file(name)
            if file is None:
                hint = did_you_mean(name, self._names()) or f"; write it as {self._folders[0] / name}.yaml"
                hint = hint if _NAME.fullmatch(name) else ""
                return None, [Complaint(node.place, path, f"there is no template {name}{hint}")]
            self._known[name] = self._read(file, node, path)
        template, complaints = self._known[name]
        return template, list(complaints)

    def newer(self, template: Template) -> int | None:
        """Give the version of a shipped template's newest sister, if it is newer."""
        if Path(template.file).parent != self._shipped:
            return None
        names = (stem.partition("@") for stem in _stems(self._shipped))
        versions = [int(version) for name, _, version in names if name == template.name and version.isdecimal()]
        newest = max(versions, default=1)
        return newest if newest > template.version else None

    def _names(self) -> set[str]:
        return {stem for folder in self._folders for stem in _stems(folder)}

    def _file(self, name: str) -> Path | None:
        if not _NAME.fullmatch(name):
            return None
        stems = (name, name.removesuffix("@1")) if name.endswith("@1") else (name,)
        files = (folder / f"{stem}.yaml" for folder in self._folders for stem in stems)
        return next((file for file in files if os.path.lexists(file)), None)

    def _read(self, file: Path, node: Node, path: str) -> tuple[Template | None, list[Complaint]]:
        text, complaints = text_named_at(node, file, path)
        if text is None:
            return None, complaints
        root, complaints = read(str(file), text)
        if root is None or not isinstance(root.value, dict):
            wrong = Complaint(node.place, path, f"{file} is no template; it must hold keys such as tags:")
            return None, complaints or [wrong]
        about, wrong_about = _about(root, file.stem)
        complaints += wrong_about
        entries = {
            key: Entry(entry.place, moved(entry.node, key)) for key, entry in root.entries.items() if key != TEMPLATE
        }
        complaints += _misplaced(entries)
        for key in (*OWN, VARS, LINK):
            entries.pop(key, None)
        layer, wrong_tags = self._tag_files.layer(entries.pop("tags", None), entries.pop(TAGS_FILE, None), file.parent)
        complaints += wrong_tags
        if about is None or layer is None:
            return None, complaints
        return _template(about, file, root, entries, layer), complaints


def _template(about: About, file: Path, root: Node, entries: Mapping[str, Entry], layer: list[Node]) -> Template:
    used_by_tags = {name for tag in layer for name in substitute.names(tag)}
    used = used_by_tags.union(*(substitute.names(entry.node) for entry in entries.values()))
    written = root.get(TEMPLATE)
    declared = written.get(VARS) if written is not None else None
    defaults = {
        name: moved(default, f"{TEMPLATE}.{VARS}.{name}.default")
        for name, entry in (declared.entries if declared is not None else {}).items()
        if (default := entry.node.get("default")) is not None
    }
    return Template(
        name=file.stem.partition("@")[0],
        version=about.version,
        file=str(file),
        entries=entries,
        tags=tuple(layer),
        defaults=defaults,
        vars=frozenset(used | set(about.vars)),
        used_by_tags=tuple(sorted(used_by_tags)),
    )


def _about(root: Node, stem: str) -> tuple[About | None, list[Complaint]]:
    """Read what a template says about itself."""
    written = root.get(TEMPLATE)
    if written is None:
        return About(), []
    text = json.dumps({TEMPLATE: written.plain()}, allow_nan=False)
    try:
        about = _File.model_validate_json(text, strict=True).template
    except ValidationError as error:
        errors = error.errors(include_url=False, include_input=False)
        return None, [complaint for each in errors for complaint in report.complaints(root, each, shape=_File)]
    name, _, version = stem.partition("@")
    for key, said, wanted in (("name", about.name, name), ("version", str(about.version), version)):
        if said is not None and wanted and said != wanted:
            place = (written.get(key) or written).place
            text = f"is {said}, but the file is called {stem}.yaml; write {key}: {wanted}"
            return about, [Complaint(place, f"{TEMPLATE}.{key}", text)]
    return about, []


def _misplaced(entries: Mapping[str, Entry]) -> Iterator[Complaint]:
    for key in OWN & entries.keys():
        yield Complaint(entries[key].place, key, "every device has its own; remove it from the template")
    if VARS in entries:
        yield Complaint(entries[VARS].place, VARS, f"write it below {TEMPLATE}:")
    if LINK in entries:
        yield Complaint(entries[LINK].place, LINK, "belongs to a device; remove it from the template")


def _stems(folder: Path) -> Iterator[str]:
    return (file.stem for file in folder.glob("*.yaml"))
