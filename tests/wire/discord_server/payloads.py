"""The JSON that Discord sends: users, guilds, channels, messages, interactions. Shapes, no rules."""

from datetime import UTC, datetime
from typing import Any

from .records import INTERACTION_TYPES, Interaction, Message
from .world import Channel, Guild, User, World

Json = dict[str, Any]
ALL_PERMISSIONS = str((1 << 53) - 1)
CHANNEL_TYPES = {"text": 0, "dm": 1, "group_dm": 3}
CONTEXTS = {"guild": 0, "user_install": 0, "dm": 1, "group_dm": 2}
INSTALLS = {"guild": 0, "dm": 0, "user_install": 1, "group_dm": 1}  # by a guild, by a person


def now() -> str:
    return datetime.now(UTC).isoformat()


def user(who: User) -> Json:
    return {
        "id": str(who.id),
        "username": who.name,
        "global_name": None,
        "discriminator": "0",
        "avatar": None,
        "bot": who.is_bot,
        "public_flags": 0,
    }


def member(who: User) -> Json:
    times = {"joined_at": "2024-01-01T00:00:00+00:00", "premium_since": None}
    return {**times, "roles": [], "nick": None, "avatar": None, "deaf": False, "mute": False, "flags": 0}


def full_member(who: User) -> Json:
    return {**member(who), "user": user(who)}


def application(world: World, flags: int) -> Json:
    return {
        "id": str(world.application_id),
        "name": world.bot.name,
        "description": "",
        "icon": None,
        "bot_public": True,
        "bot_require_code_grant": False,
        "owner": user(world.person),
        "team": None,
        "verify_key": "0" * 64,
        "flags": flags,
        "rpc_origins": [],
        "interactions_endpoint_url": None,
        "integration_types_config": {"0": {}, "1": {}},
    }


def channel(where: Channel) -> Json:
    shape: Json = {"id": str(where.id), "type": CHANNEL_TYPES[where.kind], "last_message_id": None, "flags": 0}
    if where.guild is None:
        return {**shape, "recipients": [user(one) for one in where.recipients]}
    return {
        **shape,
        "guild_id": str(where.guild.id),
        "name": where.name,
        "position": 0,
        "permission_overwrites": [],
        "permissions": ALL_PERMISSIONS,
        "nsfw": False,
        "topic": None,
        "parent_id": None,
        "rate_limit_per_user": 0,
    }


def guild(which: Guild, world: World) -> Json:
    everyone = {"id": str(which.id), "name": "@everyone", "permissions": ALL_PERMISSIONS, "position": 0, "color": 0}
    switches = {"hoist": False, "managed": False, "mentionable": False, "flags": 0}
    return {
        "id": str(which.id),
        "name": which.name,
        "icon": None,
        "owner_id": str(world.person.id),
        "preferred_locale": "en-US",
        "roles": [{**everyone, **switches}],
        "emojis": [],
        "stickers": [],
        "features": [],
        "afk_timeout": 300,
        "afk_channel_id": None,
        "system_channel_id": None,
        "system_channel_flags": 0,
        "verification_level": 0,
        "default_message_notifications": 0,
        "explicit_content_filter": 0,
        "mfa_level": 0,
        "nsfw_level": 0,
        "premium_tier": 0,
    }


def guild_create(which: Guild, world: World) -> Json:
    channels = [channel(one) for one in world.channels.values() if one.guild == which]
    return {
        **guild(which, world),
        "unavailable": False,
        "large": False,
        "joined_at": now(),
        "member_count": len(world.users),
        "members": [full_member(one) for one in world.users.values()],
        "channels": channels,
        "threads": [],
        "voice_states": [],
        "presences": [],
        "stage_instances": [],
        "guild_scheduled_events": [],
    }


def message(one: Message, world: World) -> Json:
    shape: Json = {
        "id": str(one.id),
        "channel_id": str(one.channel.id),
        "author": user(one.author),
        "content": one.content,
        "timestamp": now(),
        "edited_timestamp": now() if len(one.revisions) > 1 else None,
        "tts": False,
        "mention_everyone": False,
        "mentions": [{**user(who), "member": member(who)} for who in one.mentions],
        "mention_roles": [],
        "attachments": [_attachment(name, data) for name, data in one.files.items()],
        "embeds": [{"type": "rich", **embed} for embed in one.embeds],
        "components": one.components,
        "pinned": False,
        "type": one.type,
        "flags": one.flags,
    }
    if one.reply_to:
        shape["message_reference"] = {"type": 0, "message_id": str(one.reply_to), "channel_id": str(one.channel.id)}
    if one.interaction:
        shape |= {"application_id": str(world.application_id), "webhook_id": str(world.application_id)}
        shape["interaction_metadata"] = _interaction_metadata(one.interaction, world)
    return shape


def message_event(one: Message, world: World, *, with_content: bool) -> Json:
    """As the gateway tells it: with guild and membership; without content where no intent allows it."""
    shape = message(one, world)
    if one.channel.guild:
        shape |= {"guild_id": str(one.channel.guild.id), "member": member(one.author)}
    if not with_content:
        shape |= {"content": "", "embeds": [], "components": [], "attachments": []}
    return shape


def _attachment(name: str, data: bytes) -> Json:
    url = f"http://127.0.0.1/attachments/{name}"
    return {"id": "1", "filename": name, "size": len(data), "url": url, "proxy_url": url}


def _interaction_metadata(one: Interaction, world: World) -> Json:
    return {
        "id": str(one.id),
        "type": INTERACTION_TYPES[one.kind],
        "user": user(one.user),
        "authorizing_integration_owners": _owners(one, world),
    }


def _owners(one: Interaction, world: World) -> dict[str, str]:
    """Who installed the app that speaks: a guild (0) or a person (1)."""
    if INSTALLS[one.context] == 1:
        return {"1": str(one.user.id)}
    return {"0": str(world.guild.id) if one.context == "guild" else "0"}


def interaction(one: Interaction, data: Json, world: World) -> Json:
    shape: Json = {
        "id": str(one.id),
        "application_id": str(world.application_id),
        "type": INTERACTION_TYPES[one.kind],
        "token": one.token,
        "version": 1,
        "data": data,
        "channel_id": str(one.channel.id),
        "channel": channel(one.channel),
        "locale": "en-US",
        "entitlements": [],
        "authorizing_integration_owners": _owners(one, world),
        "context": CONTEXTS[one.context],
        "attachment_size_limit": 10 * 1024 * 1024,
        "app_permissions": ALL_PERMISSIONS,
    }
    if one.source:
        shape["message"] = message(one.source, world)
    if one.channel.guild is None:
        return {**shape, "user": user(one.user)}
    guild_id = str(one.channel.guild.id)
    where = {"guild_id": guild_id, "guild": {"id": guild_id, "locale": "en-US", "features": []}}
    return {
        **shape,
        **where,
        "guild_locale": "en-US",
        "member": {**full_member(one.user), "permissions": ALL_PERMISSIONS},
    }
