"""Validate request bodies against Discord's own description of its API, where that file is there.

One difference is made on purpose: the file wants snowflakes as strings, Discord takes numbers too, and discord.py sends
numbers. References are resolved as they are met: loading 1.2 MB of JSON takes 20 ms, compiling all of it seconds.
"""

import json
import os
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

BASE = "urn:discord"
PROJECT = Path(__file__).resolve().parents[3]


def find_openapi() -> Path | None:
    """The file named by DISCORD_OPENAPI, else ../shared/discord/openapi.json beside the project, else None."""
    named = os.environ.get("DISCORD_OPENAPI")
    path = Path(named) if named else PROJECT.parent / "shared" / "discord" / "openapi.json"
    return path if path.is_file() else None


@cache
def load_openapi(path: Path) -> "OpenApi":
    """One for the whole test run: it is read only."""
    return OpenApi(json.loads(path.read_text("utf-8")))


class OpenApi:
    """Knows for each operation which JSON it takes."""

    def __init__(self, document: dict[str, Any]) -> None:
        document["components"]["schemas"]["SnowflakeType"]["type"] = ["string", "integer"]
        self._document = document
        resource = Resource.from_contents(document, default_specification=DRAFT202012)
        self._registry: Registry[Any] = Registry().with_resource(BASE, resource)
        self._validators: dict[tuple[str, str], Draft202012Validator | None] = {}

    def problem(self, method: str, template: str, body: Any) -> str | None:
        """Why `body` is not what `method template` takes, in one line, or None. An unknown operation has no opinion."""
        key = (method.lower(), template)
        if key not in self._validators:
            self._validators[key] = self._validator(*key)
        validator = self._validators[key]
        error = best_match(validator.iter_errors(body)) if validator else None
        return f"OpenAPI: {error.json_path}: {error.message[:300]}" if error else None

    def _validator(self, method: str, template: str) -> Draft202012Validator | None:
        operation = self._document["paths"].get(template, {}).get(method, {})
        if "application/json" not in operation.get("requestBody", {}).get("content", {}):
            return None
        steps = ["paths", template, method, "requestBody", "content", "application/json", "schema"]
        pointer = "/".join(quote(step.replace("~", "~0").replace("/", "~1")) for step in steps)
        return Draft202012Validator({"$ref": f"{BASE}#/{pointer}"}, registry=self._registry)
