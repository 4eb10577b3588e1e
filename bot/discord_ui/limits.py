"""What Discord allows, and what this bot makes of it: every number of Discord's, once, with its source.

"docs" is https://docs.discord.com/developers (API v10). A limit that was only measured says so.
"""

from __future__ import annotations

from datetime import timedelta

# docs: resources/message#create-message. Counted here in UTF-16 units, as the client does it; that is never too long.
MESSAGE_CHARS = 2000

# What is kept free on every page for the cursor, the footer and a note about an error, so that no page break has to
# move when one of them is added.
TAIL_CHARS = 250
PAGE_CHARS = MESSAGE_CHARS - TAIL_CHARS

# docs: interactions/receiving-and-responding#followup-messages: "Apps are limited to 5 followup messages per
# interaction if it was initiated from a user-installed app and isn't installed in the server".
FOLLOW_UPS = 5
MAX_PAGES = 1 + FOLLOW_UPS

# docs: interactions/receiving-and-responding: an interaction is answered within 3 seconds, else its token is void ...
ANSWER_WITHIN = timedelta(seconds=3)
LATE_AFTER = timedelta(seconds=1)  # ours: a third of the time used up is worth a line in the log
# ... and the token of one that was answered lives 15 minutes. The last half minute is left for what is under way.
TOKEN_LIFE = timedelta(minutes=15)
TOKEN_USED_FOR = TOKEN_LIFE - timedelta(seconds=30)

# docs: interactions/application-commands#application-command-object-application-command-option-structure
CHOICES = 25
PROMPT_CHARS = 6000

# docs: resources/channel#trigger-typing-indicator: it "expires after 10 seconds"; renewed before that.
TYPING_AGAIN_S = 8.0

# docs: topics/opcodes-and-status-codes#json-json-error-codes
UNKNOWN_MESSAGE = 10008
INVALID_FORM_BODY = 50035
ALREADY_ANSWERED = 40060
# 401, 403 and 404 close a way without a look at the code: 50027 (invalid webhook token), 10015 (unknown webhook),
# 10062 (unknown interaction), 50001 and 50013 (no access), 50007 (no direct messages), 10003 (unknown channel).
WAY_CLOSED = frozenset({401, 403, 404})
TOO_MANY_FOLLOW_UPS = 40094
