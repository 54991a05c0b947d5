"""Whether the broker refuses a topic, or one sample on it: found out by halves, while the topic's rest goes on."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from gateway.publisher.holds import Holds
from gateway.publisher.payload import Message
from gateway.publisher.reasons import PublishRefusedError

TRIES: Final = 3
"""So often a sample is refused alone, while others on its topic are taken, before it is set aside."""


@dataclass(slots=True)
class _Topic:
    """What is known of a topic since a message on it was refused; `doubted`: nothing was taken since then."""

    on_the_way: int = 0
    refused: list[Message] = field(default_factory=list)
    taken: bool = False
    doubted: bool = False
    error: PublishRefusedError | None = None


@dataclass(slots=True)
class Suspects:
    """What is remembered over sessions of samples that may be at fault.

    `most` is how many samples of a row may go into one message, by the row's id; `tries` counts, by row and seq, how
    often a sample was refused alone. `alone`: a broker ended the session for one of the messages on their way, so
    they go one by one until it is known for which.
    """

    most: dict[int, int] = field(default_factory=dict)
    tries: Counter[tuple[int, int]] = field(default_factory=Counter)
    alone: bool = False

    def tries_of(self, message: Message) -> int:
        """How often a message of a single sample was refused."""
        return 0 if message.letter is None else self.tries[message.rows[0], message.letter.seq]

    def is_condemned(self, message: Message) -> bool:
        """Whether a single sample has had all its tries."""
        return self.tries_of(message) >= TRIES

    def suspect(self, message: Message, *, proven: bool) -> None:
        """Let the halves of a refused message be tried; count it, if it is a single sample and known to be at fault."""
        if message.letter is not None and proven:
            self.tries[message.rows[0], message.letter.seq] += 1
        for row in message.rows:
            self.most[row] = max(1, message.samples // 2)

    def blame(self, messages: Sequence[Message]) -> None:
        """The broker ended the session for one of these messages."""
        if len(messages) == 1:
            self.suspect(messages[0], proven=True)
        for message in messages:
            for row in message.rows:
                self.most.setdefault(row, message.samples)
        self.alone = bool(self.most)

    def left(self, row: int) -> None:
        """A row is out of the buffer: the broker has all of it but what was set aside."""
        if self.most.pop(row, None) is not None:
            for key in [key for key in self.tries if key[0] == row]:
                del self.tries[key]
            self.alone = self.alone and bool(self.most)


class Trials:
    """Judges refusals by topic and in rounds: a round ends when nothing of the topic is on its way any more.

    What was refused is cut in halves, down to single samples, and tried again at once, as long as something else on the
    topic is taken. Where nothing is, the topic as a whole is refused and held back for a while: `held` is called.
    `retry` is called when there is something to try again.
    """

    def __init__(
        self,
        suspects: Suspects,
        holds: Holds,
        retry: Callable[[], None],
        held: Callable[[str, PublishRefusedError], None],
    ) -> None:
        self._suspects = suspects
        self._holds = holds
        self._retry = retry
        self._held = held
        self._topics: dict[str, _Topic] = {}

    def sent(self, topic: str) -> None:
        """Note a message that is on its way."""
        self._topics.setdefault(topic, _Topic()).on_the_way += 1

    def back(self, name: str) -> None:
        """A message came back for a reason of its own; it says nothing of its topic."""
        self._end_of_round(name, self._topics[name])

    def taken(self, message: Message) -> None:
        """The broker has a message."""
        topic = self._topics[message.topic]
        topic.taken = True
        self._end_of_round(message.topic, topic)

    def is_hopeless(self, message: Message) -> bool:
        """Whether this was the last refusal that a single sample gets."""
        return self._suspects.tries_of(message) >= TRIES - 1

    def set_aside(self, message: Message) -> None:
        """A refused sample is not tried again."""
        self._end_of_round(message.topic, self._topics[message.topic])

    def refused(self, message: Message, error: PublishRefusedError) -> None:
        """The broker refused a message for itself, or for its topic."""
        topic = self._topics[message.topic]
        topic.refused.append(message)
        topic.error = error
        self._holds.pause(message.topic)
        self._end_of_round(message.topic, topic)

    def _end_of_round(self, name: str, topic: _Topic) -> None:
        topic.on_the_way -= 1
        if topic.on_the_way:
            return
        known = all(self._suspects.tries_of(message) for message in topic.refused)
        if topic.refused and topic.doubted and not topic.taken and not known:
            self._holds.hold(name)
            if topic.error is not None:
                self._held(name, topic.error)
        elif topic.refused:
            for message in topic.refused:
                self._suspects.suspect(message, proven=topic.taken or known)
            topic.doubted = True
            self._holds.resume(name)
            self._retry()
        else:
            topic.doubted = False
        topic.refused, topic.taken = [], False
