"""From the text of a node id to the node id of one server."""

import base64
from collections.abc import Sequence

from asyncua import ua


def resolve(text: str, namespaces: Sequence[str]) -> ua.NodeId | None:
    """Give the server's NodeId for what a tag's `node` says; None if there can be no such node at this server.

    A server may number its namespaces anew at each start (OPC 10000-3 section 8.2.2), so this holds for one
    connection only. In the text form of a URI, `%3B` stands for a semicolon (OPC 10000-6 section 5.3.1.11).
    """
    if text.startswith("nsu="):
        uri, _, identifier = text.removeprefix("nsu=").partition(";")
        spellings = (uri, uri.replace("%3B", ";").replace("%25", "%"))
        index = next((namespaces.index(spelling) for spelling in spellings if spelling in namespaces), None)
    else:
        index, identifier = 0, text
        if text.startswith("ns="):
            number, _, identifier = text.removeprefix("ns=").partition(";")
            index = int(number)
    return None if index is None else _node_id(index, identifier)


def parse_node_id(text: str) -> ua.NodeId | None:
    """Give the NodeId that a text with a namespace index stands for; None if it is none."""
    return resolve(text, ())


def portable(node: str, namespaces: Sequence[str]) -> str:
    """Write a node id with its namespace's URI, since an index holds for one connection only."""
    if not node.startswith("ns="):
        return node
    index, _, identifier = node.removeprefix("ns=").partition(";")
    if int(index) >= len(namespaces) or not namespaces[int(index)]:
        return node
    uri = namespaces[int(index)].replace("%", "%25").replace(";", "%3B")
    return f"nsu={uri};{identifier}"


def canonical(text: str, namespaces: Sequence[str]) -> str:
    """Write the id of a node of this server as `portable` writes it, however it was written."""
    node = resolve(text, namespaces)
    if node is None:
        return text
    identifier = text.partition(";")[2] if text.startswith("ns") else text
    if identifier.startswith("g="):
        identifier = identifier.lower()
    return portable(f"ns={node.NamespaceIndex};{identifier}" if node.NamespaceIndex else identifier, namespaces)


def _node_id(namespace: int, identifier: str) -> ua.NodeId | None:
    kind, _, text = identifier.partition("=")
    where = ua.Int16(namespace)
    match kind:
        case "i":
            return ua.NodeId(ua.Int32(text), where)
        case "s":
            return ua.NodeId(ua.String(text), where)
        case "g":
            return ua.NodeId(ua.Guid(text), where)
    try:
        return ua.NodeId(ua.ByteString(base64.b64decode(text, validate=True)), where)
    except ValueError:
        return None
