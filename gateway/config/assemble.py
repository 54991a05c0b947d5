"""One device put together from what is written in it, in its template, in its link and under `defaults`.

Of the same key the device's own counts most, then its template's, its link's, and that of `defaults`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from gateway.config import links, tags
from gateway.config.keys import BESIDE_TAGS, DEFAULTS, LINK, SECTIONS, TAGS_FILE, TEMPLATE, VARS
from gateway.config.nodes import Complaint, Entry, Node, join, moved
from gateway.config.substitute import substituted
from gateway.config.templates import Template, Templates

Entries = Mapping[str, Entry]


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the parts of a device come from; `folder` is that of the main file."""

    folder: Path
    defaults: Entries
    links: Entries
    templates: Templates
    tag_files: tags.TagFiles


@dataclass(slots=True)
class Assembly:
    """A device put together: its template, what is wrong with it, and whether something that it names is missing."""

    node: Node
    template: Template | None = None
    complaints: list[Complaint] = field(default_factory=list)
    incomplete: bool = False

    @property
    def tags(self) -> list[Node]:
        """The device's tags."""
        found = self.node.get("tags")
        return found.elements if found is not None else []


def assemble(device: Node, path: str, folder: Path, sources: Sources) -> Assembly:
    """Put a device together. `path` is where it is written, `folder` that of its file."""
    if not isinstance(device.value, dict):
        return Assembly(device)
    return _Device(device, path, folder, sources).assembled()


class _Device:
    """A device while it is put together."""

    def __init__(self, device: Node, path: str, folder: Path, sources: Sources) -> None:
        self._path = path
        self._folder = folder
        self._sources = sources
        self._own = {key: entry for key, entry in device.entries.items() if key not in BESIDE_TAGS}
        self._named = _under(sources.defaults, DEFAULTS, BESIDE_TAGS) | {
            key: Entry(place, moved(node, join(path, key)))
            for key, (place, node) in device.entries.items()
            if key in BESIDE_TAGS
        }
        self._inherits_file = TAGS_FILE not in device.entries
        self._assembly = Assembly(device)

    def assembled(self) -> Assembly:
        done = self._assembly
        given = self._values()
        values = given or {}
        template = done.template = None if given is None else self._template(values)
        link = self._link(template)
        below = {key: Entry(place, substituted(node, values, key)) for key, (place, node) in _entries(template)}
        together = link | below | self._own
        if "protocol" in link:
            together["protocol"] = link["protocol"]  # whoever writes another has been told
        entries = self._defaults(together) | together
        listed = self._tags(template, values)
        if listed is not None:
            entries["tags"] = listed
        done.node = replace(done.node, value=entries)
        return done

    def _refuse(self, complaints: list[Complaint]) -> None:
        self._assembly.complaints += complaints
        self._assembly.incomplete = True

    def _values(self) -> dict[str, Node] | None:
        """Give the device's own variables; None if what is written is none."""
        written = self._named.get(VARS)
        if written is None or written.node.value is None:
            return {}
        at = written.node.origin or VARS
        if not isinstance(written.node.value, dict):
            self._refuse([Complaint(written.node.place, at, "must be keys and values, such as {base: 100}")])
            return None
        if TEMPLATE not in self._named:
            self._refuse([Complaint(written.place, at, "belongs to a template; write template: too, or remove vars")])
        values = {name: moved(entry.node, join(at, name)) for name, entry in written.node.entries.items()}
        lists = {name: node for name, node in values.items() if isinstance(node.value, list | dict)}
        if lists:
            self._refuse(
                [Complaint(each.place, each.origin or at, "must be a number or text") for each in lists.values()]
            )
        return values | {name: replace(node, value=None) for name, node in lists.items()}

    def _template(self, values: dict[str, Node]) -> Template | None:
        """Give the template; `values` get what it has as defaults."""
        named = self._named.get(TEMPLATE)
        if named is None:
            return None
        path = named.node.origin or TEMPLATE
        template, complaints = self._sources.templates.get(named.node, path)
        if template is not None:
            at = self._named.get(VARS, named)
            how = "a column {}" if self._path == "" else "vars: {{{}: …}}"
            complaints += template.complaints(values, at.node, at.node.origin or path, how)
            missing = not template.vars <= values.keys() | template.defaults.keys()
            template = None if missing else template
        self._assembly.complaints += complaints
        if template is None:
            self._assembly.incomplete = True
            return None
        for name, node in template.defaults.items():
            values.setdefault(name, node)
        return template

    def _link(self, template: Template | None) -> dict[str, Entry]:
        named = self._named.get(LINK)
        if named is None:
            return {}
        path = named.node.origin or LINK
        found, complaints = links.find(named.node, self._sources.links, path)
        if found is None:
            self._refuse(complaints)
            return {}
        wrong = list(links.contradictions(self._own, template, found, named.node, self._path))
        if wrong:
            self._refuse(wrong)
        return found

    def _defaults(self, together: Entries) -> dict[str, Entry]:
        protocol = together.get("protocol") or self._sources.defaults.get("protocol")
        section = SECTIONS.get(protocol.node.raw) if protocol is not None else None
        fields = {"protocol"} if section is None else {*section.model_fields} - {"name"}
        return _under(self._sources.defaults, DEFAULTS, fields)

    def _tags(self, template: Template | None, values: Mapping[str, Node]) -> Entry | None:
        own, file = self._own.get("tags"), self._named.get(TAGS_FILE)
        if template is None and file is None:
            if own is not None:
                self._assembly.complaints += tags.same_names(own.node.elements, join(self._path, "tags"))
            return None
        folder = self._sources.folder if self._inherits_file else self._folder
        layer, complaints = self._sources.tag_files.layer(own, file, folder, self._path)
        self._assembly.complaints += complaints
        if layer is None:
            self._assembly.incomplete = True
            layer = []
        if template is not None:
            below = template.tags_with(values)
            self._assembly.complaints += tags.same_names(below, "tags")
            layer = tags.overridden(below, layer)
        place = own.place if own is not None else self._assembly.node.place
        return Entry(place, Node(layer, own.node.place if own is not None else place))


def _entries(template: Template | None) -> Iterator[tuple[str, Entry]]:
    yield from template.entries.items() if template is not None else ()


def _under(entries: Entries, path: str, wanted: frozenset[str] | set[str]) -> dict[str, Entry]:
    """Give some entries of the mapping at `path`, each with its own path."""
    found = {key: entry for key, entry in entries.items() if key in wanted}
    return {key: Entry(place, moved(node, join(path, key))) for key, (place, node) in found.items()}
