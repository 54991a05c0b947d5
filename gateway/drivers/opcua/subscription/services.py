"""The services of subscriptions and monitored items (OPC 10000-4 sections 5.13 and 5.14), as plain calls."""

import contextlib
from collections.abc import Iterable, Sequence
from typing import Final

from asyncua import ua
from asyncua.ua.status_codes import StatusCodes

from gateway.drivers.opcua.faults import device_errors
from gateway.drivers.opcua.messages import Published, republish_response
from gateway.drivers.opcua.session import Session
from gateway.drivers.opcua.types.values import status_name
from gateway.errors import DeviceError

TOO_MANY_ITEMS: Final = "BadTooManyMonitoredItems"
UNSUPPORTED: Final = frozenset(
    {"BadServiceUnsupported", "BadNotImplemented", "BadNotSupported", "BadSubscriptionIdInvalid"}
)


async def create_subscription(session: Session, wishes: ua.CreateSubscriptionParameters) -> ua.CreateSubscriptionResult:
    """Create a subscription without items (section 5.14.2). Raises DeviceError."""
    request = ua.CreateSubscriptionRequest(Parameters=wishes)
    answer = await session.ask_for(request, ua.CreateSubscriptionResponse)
    created: ua.CreateSubscriptionResult = answer.Parameters
    return created


async def delete_subscriptions(session: Session, numbers: Iterable[int]) -> None:
    """Delete subscriptions (section 5.14.8); those that the server does not know are gone already."""
    request = ua.DeleteSubscriptionsRequest()
    request.Parameters.SubscriptionIds = list(numbers)
    if request.Parameters.SubscriptionIds:
        with contextlib.suppress(DeviceError):
            await session.ask_for(request, ua.DeleteSubscriptionsResponse)


async def create_items(
    session: Session, subscription: int, items: Sequence[ua.MonitoredItemCreateRequest]
) -> list[ua.MonitoredItemCreateResult]:
    """Create monitored items (section 5.13.2); one result for each. Raises DeviceError."""
    request = ua.CreateMonitoredItemsRequest()
    request.Parameters.SubscriptionId = subscription
    request.Parameters.TimestampsToReturn = ua.TimestampsToReturn.Both
    request.Parameters.ItemsToCreate = list(items)
    try:
        answer = await session.ask_for(request, ua.CreateMonitoredItemsResponse)
    except DeviceError as error:
        if error.reason != TOO_MANY_ITEMS:
            raise
        refused = ua.StatusCode(ua.UInt32(StatusCodes.BadTooManyMonitoredItems))
        return [ua.MonitoredItemCreateResult(StatusCode=refused) for _ in items]
    results: list[ua.MonitoredItemCreateResult] = answer.Results
    return results


async def delete_items(session: Session, subscription: int, items: Sequence[int]) -> list[ua.StatusCode]:
    """Delete monitored items (section 5.13.6); one status for each. Raises DeviceError."""
    request = ua.DeleteMonitoredItemsRequest()
    request.Parameters.SubscriptionId = subscription
    request.Parameters.MonitoredItemIds = list(items)
    answer = await session.ask_for(request, ua.DeleteMonitoredItemsResponse)
    results: list[ua.StatusCode] = answer.Results
    return results


async def transfer(session: Session, numbers: Sequence[int]) -> dict[int, tuple[int, ...]] | None:
    """Take over subscriptions of another session (section 5.14.7): the sequence numbers that each still has.

    One that the server does not give us is missing in the result; None where it has no such service. Initial values
    are not asked for: some servers never send them, so all tags are read. Raises DeviceError for a lost link.
    """
    request = ua.TransferSubscriptionsRequest()
    request.Parameters.SubscriptionIds = list(numbers)
    request.Parameters.SendInitialValues = False
    try:
        answer = await session.ask_for(request, ua.TransferSubscriptionsResponse)
    except DeviceError as error:
        if error.reason.startswith("Bad"):
            return None
        raise
    return {
        number: tuple(result.AvailableSequenceNumbers or ())
        for number, result in zip(numbers, answer.Parameters.Results, strict=False)
        if result.StatusCode.is_good()
    }


async def republish(session: Session, subscription: int, sequence: int) -> Published | None:
    """Ask for a message again (section 5.14.6); None if the server has it no more. Raises DeviceError."""
    request = ua.RepublishRequest()
    request.Parameters.SubscriptionId = subscription
    request.Parameters.RetransmitSequenceNumber = sequence
    try:
        body = await session.ask(request, session.setup_timeout)
        with device_errors(session.address):
            published = republish_response(body, subscription)
    except DeviceError as error:
        if error.reason == "BadMessageNotAvailable" or error.reason in UNSUPPORTED:
            return None
        raise
    # There are servers that answer an empty message for one that they do not have.
    return published if published.sequence == sequence and not published.keep_alive else None


def name_of(status: ua.StatusCode) -> str:
    """Give a status code's name."""
    return status_name(status.value)
