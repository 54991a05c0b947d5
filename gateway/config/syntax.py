"""PyYAML's complaints about a file's syntax, as sentences that say what to do and repeat nothing of the file."""

from typing import Final

import yaml

# A complaint is told by words that both of PyYAML's parsers use for it.
_SENTENCES: Final = (
    ("cannot start any token", "this character cannot stand here; use spaces instead of tabs, and quotes round text"),
    ("mapping values are not allowed", "a second colon in one line; put text that holds ': ' in quotes"),
    ("end of stream", "a quote is opened and never closed"),
    ("could not find expected ':'", "a colon is missing after the key"),
    ("did not find expected key", "is not in line with the keys above, or a line before it is not finished"),
    ("<block end>", "is not in line with the keys above, or a line before it is not finished"),
    ("did not find expected '-' indicator", "is not in line with the elements (-) above"),
    ("did not find expected ',' or", "a comma or a closing bracket is missing"),
    ("expected ',' or", "a comma or a closing bracket is missing"),
    ("did not find expected node content", "a value is missing"),
    ("expected the node content", "a value is missing"),
    ("block sequence entries are not allowed", "a list's element (-) cannot begin here; put it in a line of its own"),
    ("block mapping entries are not allowed", "a mapping cannot begin here; put it in a line of its own"),
    ("mapping keys are not allowed", "a mapping cannot begin here; put it in a line of its own"),
    ("unknown escape character", "after \\ in double quotes stands an unknown character; write \\\\, or use ' quotes"),
    ("escape", "is an escape (\\) that YAML does not know; use ' quotes"),
    ("undefined tag handle", "tags (!name) are not used here; text that begins with ! needs quotes"),
    ("duplicate anchor", "an anchor (&name) of this name is there already"),
    ("control characters are not allowed", "holds a control character; a config is plain UTF-8 text"),
    ("special characters are not allowed", "holds a control character; a config is plain UTF-8 text"),
)
_OTHERWISE: Final = "is not valid YAML; look at the quotes, brackets and indentation here and in the line above"


def explain(error: yaml.YAMLError, text: str) -> tuple[int, int, str]:
    """Give line and column, from 1, and a sentence."""
    line, column = _place(error, text)
    complaint = str(getattr(error, "problem", None) or getattr(error, "reason", None) or "")
    sentence = next((ours for theirs, ours in _SENTENCES if theirs in complaint), _OTHERWISE)
    return line, column, sentence


def _place(error: yaml.YAMLError, text: str) -> tuple[int, int]:
    marks = [getattr(error, "problem_mark", None), getattr(error, "context_mark", None)]
    if "end of stream" in str(getattr(error, "problem", "")):
        marks.reverse()  # where the quote was opened helps; where the file ends does not
    mark = marks[0] or marks[1]
    if mark is not None:
        return mark.line + 1, mark.column + 1
    position = getattr(error, "position", None)
    if not isinstance(position, int):
        return 1, 1
    before = text.encode("utf-8", "replace")[:position].decode("utf-8", "ignore")
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
