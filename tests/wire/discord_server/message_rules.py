"""What a message may be: checked on the message as the request would leave it, not only on the request.

Discord's own schema has some of it; what it lacks (2000 characters for a bot, no empty message, the sums of Components
V2, unique custom_ids) is here, and so are the sentences, so that a violation reads without the schema.
"""

import re
from collections import Counter
from typing import Any

from .errors import empty_message, invalid_form
from .records import TEXT_DISPLAY, Message, walk_components
from .rules import (
    FLAG_COMPONENTS_V2,
    MAX_ACTION_ROWS,
    MAX_BUTTON_LABEL,
    MAX_CONTENT,
    MAX_CUSTOM_ID,
    MAX_EMBED_CHARACTERS,
    MAX_EMBEDS,
    MAX_ROW_BUTTONS,
    MAX_SELECT_OPTIONS,
    MAX_V2_CHARACTERS,
    MAX_V2_COMPONENTS,
)

Json = dict[str, Any]
ACTION_ROW, BUTTON = 1, 2
V2_ONLY = {9, 10, 11, 12, 13, 14, 17}
MENTION = re.compile(r"@everyone|@here|<@!?\d+>|<@&\d+>")
EMBED_LIMITS = {"title": 256, "description": 4096}


def check_message(body: Json, files: dict[str, bytes], old: Message | None = None) -> None:
    """Raise the ApiError that Discord would answer, if the message would break a rule."""

    def field(name: str) -> Any:
        return body[name] if name in body else getattr(old, name, None)

    content, embeds, components = field("content") or "", field("embeds") or [], field("components") or []
    v2 = ((body.get("flags") or 0) | (old.flags if old else 0)) & FLAG_COMPONENTS_V2
    if not isinstance(content, str):
        raise invalid_form(f"content is {type(content).__name__}, not text")
    if len(content) > MAX_CONTENT:
        raise invalid_form(f"content has {len(content)} characters; Discord takes {MAX_CONTENT}")
    kept = files or (old.files if old and "attachments" not in body else body.get("attachments"))
    if not (content.strip() or embeds or components or kept or body.get("poll") or body.get("sticker_ids")):
        raise empty_message()
    _check_embeds(embeds)
    _check_components(components)
    if v2:
        _check_v2(content, embeds, components)
    else:
        _check_v1(components)


def mention_problem(body: Json) -> str | None:
    """Why this body could ping somebody, or None. Discord would send it: the two locks are this project's rule."""
    texts = [body.get("content") or ""]
    parts = walk_components(body.get("components") or [])
    texts += [part.get("content") or "" for part in parts if part.get("type") == TEXT_DISPLAY]
    found = MENTION.search("\n".join(texts))
    if found is None:
        return None
    allowed = body.get("allowed_mentions")
    if allowed is None:
        return f"{found.group()} without allowed_mentions"
    # `parse` absent means none is parsed, but only an explicit [] shows that somebody meant it.
    return None if allowed.get("parse") == [] else f"{found.group()} with allowed_mentions {allowed}"


def _check_embeds(embeds: list[Json]) -> None:
    if len(embeds) > MAX_EMBEDS:
        raise invalid_form(f"{len(embeds)} embeds; Discord takes {MAX_EMBEDS}")
    for embed in embeds:
        for name, limit in EMBED_LIMITS.items():
            if len(embed.get(name) or "") > limit:
                raise invalid_form(f"an embed's {name} has {len(embed[name])} characters; Discord takes {limit}")
    total = sum(map(_embed_characters, embeds))
    if total > MAX_EMBED_CHARACTERS:
        raise invalid_form(f"the embeds have {total} characters; Discord takes {MAX_EMBED_CHARACTERS}")


def _embed_characters(embed: Json) -> int:
    texts = [embed.get("title"), embed.get("description")]
    texts += [(embed.get("footer") or {}).get("text"), (embed.get("author") or {}).get("name")]
    texts += [text for part in embed.get("fields") or [] for text in (part.get("name"), part.get("value"))]
    return sum(len(text or "") for text in texts)


def _check_components(components: list[Json]) -> None:
    every = list(walk_components(components))
    ids = [part["custom_id"] for part in every if part.get("custom_id") is not None]
    for custom_id in ids:
        if not 1 <= len(custom_id) <= MAX_CUSTOM_ID:
            raise invalid_form(f"custom_id {custom_id!r} has {len(custom_id)} characters; Discord takes {MAX_CUSTOM_ID}")
    doubled = [custom_id for custom_id, times in Counter(ids).items() if times > 1]
    if doubled:
        raise invalid_form(f"custom_id {doubled[0]!r} is there twice")
    for part in every:
        if part.get("type") == BUTTON and not (part.get("label") or part.get("emoji") or part.get("sku_id")):
            raise invalid_form("a button without label and emoji")
        if len(part.get("label") or "") > MAX_BUTTON_LABEL:
            raise invalid_form(f"label {part['label']!r} has over {MAX_BUTTON_LABEL} characters")
        if len(part.get("options") or []) > MAX_SELECT_OPTIONS:
            raise invalid_form(f"a select with over {MAX_SELECT_OPTIONS} options")
        if part.get("type") == ACTION_ROW and not 1 <= len(part.get("components") or []) <= MAX_ROW_BUTTONS:
            raise invalid_form(f"an action row with {len(part.get('components') or [])} components")


def _check_v1(components: list[Json]) -> None:
    foreign = [part["type"] for part in walk_components(components) if part.get("type") in V2_ONLY]
    if foreign:
        raise invalid_form(f"component of type {foreign[0]} without the flag of Components V2")
    if len(components) > MAX_ACTION_ROWS:
        raise invalid_form(f"{len(components)} action rows; Discord takes {MAX_ACTION_ROWS}")


def _check_v2(content: str, embeds: list[Json], components: list[Json]) -> None:
    if content or embeds:
        raise invalid_form("Components V2 together with content or embeds")
    every = list(walk_components(components))
    if len(every) > MAX_V2_COMPONENTS:
        raise invalid_form(f"{len(every)} components; Discord takes {MAX_V2_COMPONENTS}")
    texts = [part.get("content") or "" for part in every if part.get("type") == TEXT_DISPLAY]
    if any(not text.strip() for text in texts):
        raise invalid_form("an empty text display")
    if sum(map(len, texts)) > MAX_V2_CHARACTERS:
        raise invalid_form(f"{sum(map(len, texts))} displayed characters; Discord takes {MAX_V2_CHARACTERS}")
