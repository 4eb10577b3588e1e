"""Discord's error answers, as exceptions: a handler raises one and the middleware sends and records it.

An error that a correct bot can meet (a channel it may not see, a token that ran out) is a refusal only; one that only a
faulty bot meets is a violation too. docs/topics/opcodes-and-status-codes#json
"""

from dataclasses import dataclass
from typing import Any


@dataclass
class ApiError(Exception):
    """An answer that is no success; `violation` says which rule the bot broke, if it broke one."""

    status: int
    code: int
    message: str
    violation: str | None = None

    def body(self) -> dict[str, Any]:
        body: dict[str, Any] = {"message": self.message, "code": self.code}
        if self.code == INVALID_FORM and self.violation:
            body["errors"] = {"_errors": [{"code": "LOOPBACK", "message": self.violation}]}
        return body


INVALID_FORM = 50035


def unauthorized() -> ApiError:
    return ApiError(401, 0, "401: Unauthorized")


def unknown_channel() -> ApiError:
    return ApiError(404, 10003, "Unknown Channel")


def unknown_guild() -> ApiError:
    return ApiError(404, 10004, "Unknown Guild")


def unknown_message() -> ApiError:
    return ApiError(404, 10008, "Unknown Message")


def unknown_webhook(violation: str | None = None) -> ApiError:
    return ApiError(404, 10015, "Unknown Webhook", violation)


def unknown_interaction(violation: str) -> ApiError:
    return ApiError(404, 10062, "Unknown interaction", violation)


def unknown_command() -> ApiError:
    return ApiError(404, 10063, "Unknown application command")


def already_answered(violation: str) -> ApiError:
    return ApiError(400, 40060, "Interaction has already been acknowledged.", violation)


def too_many_followups(violation: str) -> ApiError:
    return ApiError(400, 40094, "This interaction has reached the maximum number of follow-up messages", violation)


def missing_access() -> ApiError:
    return ApiError(403, 50001, "Missing Access")


def not_the_author() -> ApiError:
    return ApiError(403, 50005, "Cannot edit a message authored by another user", "edits a message of somebody else")


def empty_message() -> ApiError:
    return ApiError(400, 50006, "Cannot send an empty message", "an empty message")


def dm_closed() -> ApiError:
    return ApiError(403, 50007, "Cannot send messages to this user")


def missing_permissions() -> ApiError:
    return ApiError(403, 50013, "Missing Permissions")


def invalid_webhook_token(violation: str | None = None) -> ApiError:
    return ApiError(401, 50027, "Invalid Webhook Token", violation)


def invalid_form(violation: str) -> ApiError:
    return ApiError(400, INVALID_FORM, "Invalid Form Body", violation)
