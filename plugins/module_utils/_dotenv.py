# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""The ``.env`` dialect of Docker Compose v2, as far as a value must survive it.

Compose reads the file twice: as ``env_file`` of the service and, because of its name, for the
interpolation of compose.yml. Both use the same parser, in which nothing is special between single
quotes but ``\\'``, and a backslash right before the closing quote cannot be written at all.
Between double quotes everything can be written, with escapes. So values without an apostrophe or a
backslash are put in single quotes, where every reader of such files agrees, others in double ones.
"""

from __future__ import annotations

import re

_LINE = re.compile(
    r"""\s*(?:export\s+)?(?P<name>[A-Za-z_][A-Za-z0-9_.-]*)\s*=\s*
        (?: '(?P<single>(?:[^'\\]|\\.)*)'\s*(?:\#.*)?
          | "(?P<double>(?:[^"\\]|\\.)*)"\s*(?:\#.*)?
          | (?P<bare>(?:[^\s'"].*?)?)(?:\s+\#.*|\s*) )""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}


def quote(value: str) -> str:
    """``value`` with its quotes, as it stands after ``NAME=``.

    :raises ValueError: a line break or NUL, which no ``.env`` line can carry to a container
    """
    if re.search(r"[\n\r\0]", value):
        raise ValueError("a value of an .env file cannot contain a line break or NUL")
    if "'" in value or "\\" in value:
        return '"' + re.sub(r'(["\\$])', r"\\\1", value) + '"'
    return f"'{value}'"


def parse_line(line: str) -> tuple[str, str] | None:
    """Name and value of one line, None for an empty line or a comment.

    References to other variables stay as they are written.

    :raises ValueError: neither; a value that goes on in the next line is not understood
    """
    if not line.strip() or line.lstrip().startswith("#"):
        return None
    match = _LINE.fullmatch(line)
    if match is None:
        raise ValueError("not a NAME=value line")
    single, double, bare = match.group("single", "double", "bare")
    if single is not None:
        return match["name"], single.replace("\\'", "'")
    if double is not None:
        return match["name"], re.sub(r"\\(.)|\$\$", _unescape, double, flags=re.DOTALL)
    return match["name"], bare


def parse(text: str) -> dict[str, str]:
    """All values of a file; of a name given twice the last one, as in Compose.

    :raises ValueError: a line that is not understood, named by its number only
    """
    values = {}
    # Not splitlines(): a value may contain U+2028 and the like, which end no line here.
    for number, line in enumerate(text.split("\n"), start=1):
        try:
            entry = parse_line(line)
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
        if entry is not None:
            values[entry[0]] = entry[1]
    return values


def _unescape(match: re.Match[str]) -> str:
    escaped = match.group(1)
    if escaped is None:
        return "$"
    if escaped in '"\\$':
        return escaped
    return _ESCAPES.get(escaped, "\\" + escaped)
