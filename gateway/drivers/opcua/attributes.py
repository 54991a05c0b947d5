"""Reads of attributes other than the value, and of few values beside the polls."""

from collections.abc import Sequence

from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds

from gateway.drivers.opcua.faults import device_errors
from gateway.drivers.opcua.messages import read_response
from gateway.drivers.opcua.session import Session
from gateway.drivers.opcua.types.values import DataValue


async def read_attributes(session: Session, pairs: Sequence[tuple[ua.NodeId, AttributeIds]]) -> list[DataValue]:
    """Read one attribute of each node, in one request without timestamps. Raises DeviceError."""
    parameters = ua.ReadParameters(TimestampsToReturn=ua.TimestampsToReturn.Neither)
    parameters.NodesToRead = [ua.ReadValueId(NodeId=node, AttributeId=attribute) for node, attribute in pairs]
    body = await session.ask(ua.ReadRequest(Parameters=parameters), session.setup_timeout)
    with device_errors(session.address):
        return read_response(body)
