"""Device identification, function 43/14 (Modbus Application Protocol V1.1b3, section 6.21)."""

from collections.abc import Mapping

from simulators.modbus_pdu import ILLEGAL_ADDRESS, ILLEGAL_FUNCTION, ILLEGAL_VALUE, Refusal

IDENTIFY = 43
MEI_TYPE = 14
_LAST_OBJECT = {1: 0x02, 2: 0x7F, 3: 0xFF}
"""The last object id of a stream: basic, regular and extended."""
_ONE_OBJECT = 4
_ROOM = 253 - 7  # a PDU without function, MEI type, code, conformity, more follows, next object and number of objects


def identification(pdu: bytes, objects: Mapping[int, str]) -> bytes:
    """The PDU that answers the request for a unit's objects, by object id; what does not fit follows when asked for.

    Raises:
        Refusal: the unit identifies itself with nothing, or was asked for what there is not.
    """
    if len(pdu) < 2 or pdu[1] != MEI_TYPE or not objects:
        raise Refusal(ILLEGAL_FUNCTION)
    if len(pdu) != 4 or pdu[2] not in (*_LAST_OBJECT, _ONE_OBJECT):
        raise Refusal(ILLEGAL_VALUE)
    code, first = pdu[2], pdu[3]
    if code == _ONE_OBJECT:
        if first not in objects:
            raise Refusal(ILLEGAL_ADDRESS)
        wanted = [first]
    else:
        # An unknown object begins the stream anew, as the section tells.
        ids = [each for each in sorted(objects) if each <= _LAST_OBJECT[code]]
        wanted = [each for each in ids if each >= first] if first in ids else ids
    told, follows = _fit(wanted, objects)
    head = bytes((IDENTIFY, MEI_TYPE, code, _conformity(objects), 0xFF if follows else 0, follows, len(told)))
    return head + b"".join(told)


def _fit(wanted: list[int], objects: Mapping[int, str]) -> tuple[list[bytes], int]:
    """The objects that fit into one answer, and the id of the first that does not; 0 if all do."""
    told: list[bytes] = []
    left = _ROOM
    for each in wanted:
        text = objects[each].encode()[: _ROOM - 2]
        left -= len(text) + 2
        if left < 0:
            return told, each
        told.append(bytes((each, len(text))) + text)
    return told, 0


def _conformity(objects: Mapping[int, str]) -> int:
    """Which streams there are; the top bit says that single objects may be asked for."""
    last = max(objects)
    return 0x80 | next(code for code, end in _LAST_OBJECT.items() if last <= end)
