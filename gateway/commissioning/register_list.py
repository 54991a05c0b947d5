"""A vendor's register list as tags of this gateway: a CSV with headings that are known in some languages."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from gateway.commissioning.spreadsheet import Row, Sheet
from gateway.commissioning.tag_list import Keys, TagList, Unplaced, collect, number
from gateway.commissioning.type_names import type_name, type_of
from gateway.drivers.modbus.address import Address, Table, parse_address

HEADINGS: Final[Mapping[str, tuple[str, ...]]] = {
    "name": (
        "name", "tag", "tag name", "tagname", "signal", "signal name", "variable", "variable name", "parameter",
        "parameter name", "register name", "point", "point name", "bezeichnung", "messwert", "messgröße", "kennung",
        "nom", "désignation", "libellé", "nombre", "nome", "navn", "naam", "namn",
    ),
    "address": (
        "address", "addr", "register", "reg", "register address", "register number", "register no", "modbus address",
        "modbus register", "start address", "start register", "adresse", "registeradresse", "register adresse",
        "modbus adresse", "registernummer", "register nr", "startadresse", "adresse modbus", "registre",
        "dirección", "direccion", "registro", "indirizzo", "adres", "adress",
    ),
    "table": (
        "table", "area", "register type", "registertype", "object type", "function", "function code", "fc",
        "modbus function", "registerart", "registertyp", "funktionscode", "funktion", "bereich", "type de registre",
        "fonction", "código de función", "función", "funzione",
    ),
    "type": (
        "type", "data type", "datatype", "format", "data format", "datentyp", "datenformat", "typ", "type de données",
        "tipo", "tipo de dato", "tipo de datos", "tipo dati", "formato", "datatyp", "gegevenstype",
    ),
    "unit": (
        "unit", "units", "uom", "eng units", "engineering unit", "engineering units", "einheit", "unité", "unite",
        "unidad", "unità", "enhet", "enhed", "eenheid",
    ),
    "scale": (
        "scale", "factor", "multiplier", "scaling", "scale factor", "gain", "faktor", "skalierung", "skalierfaktor",
        "multiplikator", "facteur", "échelle", "factor de escala", "fattore", "skala",
    ),
    "divisor": ("divisor", "divider", "teiler", "diviseur", "divisore"),
    "offset": ("offset", "value offset", "versatz", "nullpunkt", "décalage"),
    "description": (
        "description", "comment", "comments", "remark", "remarks", "beschreibung", "bemerkung", "kommentar",
        "commentaire", "descripción", "descripcion", "comentario", "descrizione", "beskrivelse", "beskrivning",
        "omschrijving",
    ),
    "registers": (
        "registers", "length", "size", "quantity", "number of registers", "no of registers", "words", "count",
        "anzahl register", "anzahl", "länge", "registeranzahl", "longueur", "nombre de registres", "longitud",
        "lunghezza",
    ),
    "byte_order": ("byte order", "word order", "endianness", "bytereihenfolge", "wortreihenfolge", "ordre des octets"),
    "access": ("access", "r/w", "rw", "read/write", "zugriff", "accès", "acceso", "accesso", "client access"),
}  # fmt: skip
"""What a column may be called, by the key that it fills. A heading is compared without case, brackets and signs."""

_TABLE_WORDS: Final[tuple[tuple[str, Table], ...]] = (
    ("discrete", "discrete"), ("input reg", "input"), ("inputreg", "input"), ("input status", "discrete"),
    ("holding", "holding"), ("coil", "coil"), ("input", "input"), ("eingangsreg", "input"), ("haltereg", "holding"),
)  # fmt: skip
_FUNCTIONS: Final[Mapping[int, Table]] = {1: "coil", 2: "discrete", 3: "holding", 4: "input"}
_MODICON: Final[Mapping[str, Table]] = {"0": "coil", "1": "discrete", "3": "input", "4": "holding"}
_RANGE: Final = re.compile(r"(.+?)\s*(?:-|–|\.\.|…|to|bis)\s*(.+)")
_ORDERS: Final = {
    "abcd": "ABCD", "cdab": "CDAB", "badc": "BADC", "dcba": "DCBA", "big endian": "ABCD", "little endian": "DCBA",
    "big": "ABCD", "word swap": "CDAB", "word swapped": "CDAB", "swapped": "CDAB", "byte swap": "BADC", "be": "ABCD",
}  # fmt: skip
_WIDE: Final = frozenset({"int32", "uint32", "int64", "uint64", "float32", "float64", "bcd32"})


def columns_of(headings: Sequence[str]) -> dict[str, str]:
    """Give the heading that fills each key. `offset` fills the address where nothing else does."""
    found: dict[str, str] = {}
    for key, names in HEADINGS.items():
        heading = next((name for name in names if name in headings), None)
        if heading is not None and heading not in found.values():
            found[key] = heading
    if "address" not in found and "offset" in found:
        found["address"] = found.pop("offset")
    return found


def is_register_list(headings: Sequence[str]) -> bool:
    """Whether these headings name an address, and what it is."""
    found = columns_of(headings)
    return "address" in found and bool({"name", "description", "type"} & found.keys())


def import_register_list(sheet: Sheet, byte_order: str | None, first: int, table: Table) -> TagList:
    """Place the registers of a list. Plain numbers count from `first`; they are of `table` where no column says it."""
    columns = columns_of(sheet.headings)
    found = TagList("columns " + ", ".join(f"{key} ({heading})" for key, heading in columns.items()))
    is_modicon = _is_modicon(sheet, columns)
    reading = _Reading(columns, found, byte_order or "ABCD", first, table, sheet.decimal_comma, is_modicon)
    collect(found, sheet.rows, reading.place, lambda row: reading.cell(row, "name") or reading.cell(row, "description"))
    if "table" not in columns and any(note.startswith("plain numbers") for note in found.notes):
        found.note(f"no column names the table: {table} was taken (--table)")
    return found


def _is_modicon(sheet: Sheet, columns: Mapping[str, str]) -> bool:
    """Whether a list's numbers name their tables: all have 5 or 6 digits, and begin as their tables and types want."""
    numbers = 0
    for row in sheet.rows:
        written = row.get(columns["address"]).replace(" ", "")
        match = re.fullmatch(r"([0134])[0-9]{4,5}(?:[./-].*)?", written)
        if match is None and re.match(r"[0-9]", written) and not re.match(r"[0134]x", written, re.IGNORECASE):
            return False
        if match is not None:
            numbers += 1
            kind = type_name(row.get(columns.get("type", "")))
            if match[1] in "01" and kind not in {None, "bool"}:
                return False
    return numbers > 0


@dataclass(frozen=True, slots=True)
class _Reading:
    columns: Mapping[str, str]
    found: TagList
    byte_order: str
    first: int
    table: Table
    decimal_comma: bool
    is_modicon: bool

    def cell(self, row: Row, key: str) -> str:
        """Give what a row has for a key, or nothing."""
        return " ".join(row.get(self.columns.get(key, "")).split())

    def place(self, row: Row) -> Keys:
        """Give a row as a tag. Raises Unplaced if that cannot be done without a guess."""
        if self.cell(row, "access").upper() in {"W", "WO", "WRITE", "WRITE ONLY", "S"}:
            raise Unplaced("it is write-only, and this gateway only reads")
        address, taken = self._address(row)
        registers = self._registers(row, taken)
        kind, length = self._type(row, address, registers)
        name = self.cell(row, "name") or self.cell(row, "description")
        if not name:
            raise Unplaced("it has no name")
        keys: Keys = {"name": name, "address": str(address), "type": kind}
        order = self._order(row)
        if kind in _WIDE and order != "ABCD":
            keys["byte_order"] = order
        if kind == "string":
            keys["length"] = length or 2 * (registers or 0)
            if not keys["length"]:
                raise Unplaced("a string needs a length, and no column tells it")
        return keys | self._arithmetic(row, kind) | self._words(row)

    def _address(self, row: Row) -> tuple[Address, int | None]:
        """Give the address, and how many registers it spans where it is a range."""
        written = self.cell(row, "address")
        if not written:
            raise Unplaced("it has no address")
        match = _RANGE.fullmatch(written)
        if match is None or ":" in written:
            return self._one(written, row), None
        start, end = self._one(match[1], row), self._one(match[2], row)
        if end.table != start.table or end.register < start.register:
            raise Unplaced(f"{written!r} is no range of registers")
        return start, end.register - start.register + 1

    def _one(self, written: str, row: Row) -> Address:
        table = self._table(row)
        bare = written.replace(" ", "")
        if match := re.fullmatch(r"([0134])[xX]([0-9]{1,5})", bare):
            bare = f"{match[1]}{int(match[2]):05d}"
        if match := re.fullmatch(r"%MW([0-9]{1,5})", bare, re.IGNORECASE):
            return Address("holding", int(match[1]))
        bit = re.fullmatch(r"(.+?)[./]([0-9]{1,2})", bare)
        head, position = (bit[1], int(bit[2])) if bit and ":" not in bare else (bare, None)
        try:
            if ":" in bare:
                return parse_address(bare)
            if self.is_modicon and re.fullmatch(r"[0134][0-9]{4,5}", head):
                self.found.note("the addresses are Modicon notation: 40001 is holding:0")
                whole = parse_address(head)
            else:
                whole = self._plain(head, table or self.table)
            return whole if position is None else parse_address(f"{whole}.{position}")
        except ValueError as error:
            raise Unplaced(f"address: {error}") from error

    def _plain(self, written: str, table: Table) -> Address:
        value = _integer(written)
        if value is None:
            raise Unplaced(f"{written!r} is no Modbus address")
        self.found.note(f"plain numbers count from {self.first} (--first)")
        return parse_address(f"{table}:{value - self.first}")

    def _table(self, row: Row) -> Table | None:
        written = self.cell(row, "table").casefold()
        if not written:
            return None
        if table := next((table for word, table in _TABLE_WORDS if word in written), None):
            return table
        if match := re.search(r"(?<![0-9])([0134])x", written):
            return _MODICON[match[1]]
        if match := re.search(r"(?<![0-9])0*([1-4])(?![0-9])", written):
            return _FUNCTIONS[int(match[1])]
        raise Unplaced(f"{self.cell(row, 'table')!r} is no table; tables are coil, discrete, holding and input")

    def _registers(self, row: Row, taken: int | None) -> int | None:
        counted = _integer(self.cell(row, "registers"))
        if counted is not None and taken is not None and counted != taken:
            raise Unplaced(f"its address spans {taken} registers, its length is {counted}")
        return taken if counted is None else counted

    def _type(self, row: Row, address: Address, registers: int | None) -> tuple[str, int | None]:
        written = self.cell(row, "type")
        if address.table in {"coil", "discrete"} or (address.bit is not None and not written):
            return "bool", None
        if not written:
            if registers not in {None, 1}:
                raise Unplaced(f"nothing tells the type of its {registers} registers")
            self.found.note("rows without a type are uint16")
            return "uint16", None
        try:
            found = type_of(written, registers)
        except ValueError as error:
            raise Unplaced(str(error)) from error
        if found is None:
            raise Unplaced(f"the type {written!r} is not known")
        return found

    def _order(self, row: Row) -> str:
        written = self.cell(row, "byte_order").casefold().replace("-", " ")
        if not written:
            return self.byte_order
        if written not in _ORDERS:
            raise Unplaced(f"the byte order {written!r} is not known; write ABCD, CDAB, BADC or DCBA")
        return _ORDERS[written]

    def _arithmetic(self, row: Row, kind: str) -> Keys:
        found: Keys = {}
        scale, divisor = self._number(row, "scale"), self._number(row, "divisor")
        if divisor:
            scale = (scale or Decimal(1)) / divisor
        if scale is not None and scale not in {0, 1}:
            found["scale"] = scale
        if offset := self._number(row, "offset"):
            found["offset"] = offset
        if found and kind in {"bool", "string"}:
            raise Unplaced(f"a {kind} cannot be scaled")
        return found

    def _number(self, row: Row, key: str) -> Decimal | None:
        written = self.cell(row, key)
        if not written or written in {"-", "–"}:
            return None
        found = number(written.removeprefix("x").removeprefix("*"), decimal_comma=self.decimal_comma)
        if match := re.fullmatch(r"1\s*[/:]\s*([0-9]+)", written):
            found = Decimal(1) / Decimal(match[1]) if int(match[1]) else None
        if match := re.fullmatch(r"10\^\(?(-?[0-9]{1,2})\)?", written):
            found = Decimal(10) ** int(match[1])
        if found is None:
            raise Unplaced(f"its {key} {written!r} is no number")
        return found

    def _words(self, row: Row) -> Keys:
        found: Keys = {}
        if (unit := self.cell(row, "unit")) and unit not in {"-", "–"}:
            found["unit"] = unit
        if description := self.cell(row, "description"):
            found["description"] = description
        return found


def _integer(text: str) -> int | None:
    """Read a whole number: decimal, 0x10 or 10h."""
    if re.fullmatch(r"[0-9]{1,9}", text):
        return int(text)
    if match := re.fullmatch(r"0[xX]([0-9A-Fa-f]{1,4})|([0-9][0-9A-Fa-f]{0,4})[hH]", text):
        return int(match[1] or match[2], 16)
    return None
