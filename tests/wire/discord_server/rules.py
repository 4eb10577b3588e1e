"""Discord's limits, in one place, each with its source; a test may change any of them.

The defaults are Discord's own but for the heartbeat: 41 s there, half a second here, so that a frozen event loop shows
within one test. `dataclasses.replace` (or `DiscordServer.configure`) gives a stricter or a faster Discord.
"""

from dataclasses import dataclass

MAX_CONTENT = 2000  # for bots: docs/resources/message#create-message; the OpenAPI file says 4000 for channels
MAX_EMBEDS = 10
MAX_EMBED_CHARACTERS = 6000  # all embeds of one message together: docs/resources/message#embed-object-embed-limits
MAX_ACTION_ROWS = 5
MAX_ROW_BUTTONS = 5
MAX_SELECT_OPTIONS = 25
MAX_BUTTON_LABEL = 80
MAX_CUSTOM_ID = 100
MAX_V2_COMPONENTS = 40  # nested ones count: docs/components/reference
MAX_V2_CHARACTERS = 4000
MAX_CHOICES = 25  # of one autocomplete answer, and of one option
MAX_MODAL_TITLE = 45
MAX_MODAL_COMPONENTS = 5
MAX_GATEWAY_SENDS = 120  # in 60 s, else close 4008: docs/events/gateway#rate-limiting

FLAG_EPHEMERAL = 1 << 6
FLAG_LOADING = 1 << 7
FLAG_COMPONENTS_V2 = 1 << 15


@dataclass(frozen=True)
class Window:
    """`requests` in `seconds`, then 429 until the window is over."""

    requests: int
    seconds: float


@dataclass(frozen=True)
class Rules:
    """What this Discord asks of a bot. Lengths of time are in seconds."""

    answer_within_s: float = 3.0
    token_lifetime_s: float = 15 * 60.0
    user_install_followups: int = 5
    heartbeat_interval_s: float = 0.5
    disallowed_intents: int = 0
    application_flags: int = 0  # 1 << 19: message content, limited; and so on
    webhook_window: Window = Window(5, 5.0)  # each interaction token has one
    channel_window: Window = Window(5, 5.0)  # each channel has one for sending, one for editing, …
    other_window: Window = Window(50, 1.0)
