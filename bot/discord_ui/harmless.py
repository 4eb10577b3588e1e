"""Make a text that nobody wrote on purpose safe to show: it pings nobody, links nowhere and swallows no footer.

A model repeats what it read: "@everyone" got through other bots although they had asked Discord not to resolve
mentions (discord.py #9781), so the text is broken as well as the mentions disabled. What is dangerous gets a
zero-width space inside, as `discord.utils.escape_mentions` does it; nothing visible changes. The price is that such a
text, copied, has an invisible character in it.

The work is done from left to right with one character of look-ahead, so the beginning of a growing text stays as it
is: `harmless(text[:n])` is always a prefix of `harmless(text)`. Page breaks rely on it.
"""

from __future__ import annotations

import re

ZERO_WIDTH_SPACE = "\u200b"

# Tabs and line ends are text; the other control characters are not, and Discord drops or refuses them.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

_BREAK_AFTER = re.compile(
    r"""
      @(?=[eh!&\d])                 # @everyone, @here, <@1>, <@!1>, <@&1>
    | <\#(?=\d)                     # <#1>, a channel
    | (?<=[A-Za-z]):(?=/)           # https://, steam://: no link, no [masked](link), no preview
    | (?i:discord\.gg|discord(?:app)?\.com)(?=/)  # an invitation unfolds without https:// too
    | `(?=`)                        # ``` opens a block that runs on into the footer
    | >(?=>)                        # so does >>>
    """,
    re.VERBOSE,
)


def harmless(text: str) -> str:
    """The same text to the eye, without mentions, links, code blocks or control characters."""
    return _BREAK_AFTER.sub(rf"\g<0>{ZERO_WIDTH_SPACE}", _CONTROL.sub("", text))
