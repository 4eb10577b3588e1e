"""A loopback Discord for the wire tests: HTTP and gateway on 127.0.0.1, with Discord's rules enforced.

The real process (`python -m bot`) talks to it with an unmodified discord.py. It holds the bot to what a fake client
object cannot: sockets, deadlines, rate limits, heartbeats, resumes. What it does not have: voice, threads, permissions
by role, compression, more guilds than one shard serves.
"""

from .records import Callback, Interaction, Message, Request, Revision, Sync
from .rules import Rules, Window
from .server import TOKEN, DiscordServer
from .world import Channel, Context, Guild, User, World

__all__ = [
    "TOKEN",
    "Callback",
    "Channel",
    "Context",
    "DiscordServer",
    "Guild",
    "Interaction",
    "Message",
    "Request",
    "Revision",
    "Rules",
    "Sync",
    "User",
    "Window",
    "World",
]
