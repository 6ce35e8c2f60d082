"""Text of others, so that it can be printed: nothing is imported here, because what ends a command needs it."""

from __future__ import annotations

import re

_COMMAND = re.compile(
    r":(?=:(?:add-mask|add-matcher|add-path|debug|echo|end-?group|error|group|internal-\w+|notice|remove-matcher"
    r"|save-state|set-env|set-output|set-repo-path|stop-commands|warning)\b)|\#(?=\#\[)",
    re.IGNORECASE,
)
"""What GitHub Actions takes for a command in a log: `::error::` after any space, `##[error]` anywhere (actions/runner, ActionCommand.cs)."""


def plain(text: str) -> str:
    r"""`text` with control characters, line breaks and lone surrogates shown as escapes, and what GitHub Actions would execute.

    >>> plain("a" + chr(27) + "[31mb"), plain("::error::b"), plain("std::vector")
    ('a\\x1b[31mb', '\\x3a:error::b', 'std::vector')
    """
    printable = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return _COMMAND.sub(lambda match: f"\\x{ord(match[0]):02x}", printable)
