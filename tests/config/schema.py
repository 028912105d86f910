"""A validator for the part of JSON Schema that the configuration's schema uses."""

import re
from typing import Any

_TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
}
_USED = {
    "$schema", "title", "description", "default", "type", "enum", "anyOf", "pattern", "minimum", "exclusiveMinimum",
    "maximum", "items", "minItems", "properties", "additionalProperties", "propertyNames",
}  # fmt: skip


def violations(value: Any, schema: dict[str, Any], at: str = "") -> list[str]:
    """Where `value` does not satisfy `schema`."""
    assert set(schema) <= _USED
    if "anyOf" in schema:
        return [] if any(not violations(value, option, at) for option in schema["anyOf"]) else [at]
    if "enum" in schema:
        return [] if any(value == option and type(value) is type(option) for option in schema["enum"]) else [at]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    refused = [
        "type" in schema and not isinstance(value, _TYPES[schema["type"]]),
        "type" in schema and isinstance(value, bool) and schema["type"] != "boolean",
        "pattern" in schema and isinstance(value, str) and not _matches(schema["pattern"], value),
        number and not schema.get("minimum", value) <= value <= schema.get("maximum", value),
        number and "exclusiveMinimum" in schema and value <= schema["exclusiveMinimum"],
        isinstance(value, list) and len(value) < schema.get("minItems", 0),
    ]
    found = [at] if any(refused) else []
    if isinstance(value, list) and "items" in schema:
        found += [v for i, item in enumerate(value) for v in violations(item, schema["items"], f"{at}[{i}]")]
    if isinstance(value, dict):
        for name, item in value.items():
            rule = schema.get("properties", {}).get(name, schema.get("additionalProperties", True))
            if rule is False or violations(name, schema.get("propertyNames", {})):
                found.append(f"{at}.{name}")
            elif rule is not True:
                found += violations(item, rule, f"{at}.{name}")
    return found


def _matches(pattern: str, value: str) -> bool:
    """Whether ECMA's reading of `pattern`, in which $ does not match before a final line feed, finds it in `value`."""
    return re.search(re.sub(r"(?<!\\)\$(?![^\[]*\])", r"\\Z", pattern), value) is not None
