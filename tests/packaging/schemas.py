"""The schemas in tests/packaging/schemas, as validators."""

import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry, Resource

_FOLDER = Path(__file__).with_name("schemas")
_SCHEMAS: dict[str, Any] = {
    path.name: json.loads(path.read_text(encoding="utf-8")) for path in sorted(_FOLDER.glob("*.json"))
}
_REGISTRY: Registry[Any] = Registry().with_resources(
    (name, Resource.from_contents(schema)) for name, schema in _SCHEMAS.items()
)
NAMES = tuple(_SCHEMAS)


def faults(content: object, schema: str) -> list[str]:
    """What is wrong with ``content`` by the schema file of that name."""
    Draft202012Validator.check_schema(_SCHEMAS[schema])
    validator = Draft202012Validator(_SCHEMAS[schema], registry=_REGISTRY)
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(content)]
