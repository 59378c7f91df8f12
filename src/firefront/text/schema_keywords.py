"""JSON Schema's keywords, of every draft, sorted by what can be done about them.

Owns the lists only. Invariant: a keyword of any draft is in exactly one of them, so what is in none
is a vendor's own and, as the standard says, an annotation.
"""

# Say nothing about which values are right.
ANNOTATIONS = frozenset(
    {
        "$comment", "$recursiveAnchor", "$schema", "$vocabulary", "contentEncoding",
        "contentMediaType", "contentSchema", "default", "deprecated", "description", "examples",
        "readOnly", "title", "writeOnly",
        # OpenAPI's
        "discriminator", "example", "externalDocs", "xml",
    }
)  # fmt: skip
# Where other schemas and names are found.
LOCATIONS = frozenset({"$anchor", "$defs", "$dynamicAnchor", "$id", "definitions", "id"})

COUNTS = frozenset(
    {"maxItems", "maxLength", "maxProperties", "minItems", "minLength", "minProperties"}
)
NUMBERS = frozenset(
    {"exclusiveMaximum", "exclusiveMinimum", "maximum", "minimum", "multipleOf"}
)
SCHEMA_LISTS = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
SCHEMA_MAPS = frozenset({"patternProperties", "properties"})
SCHEMAS = frozenset({"additionalItems", "additionalProperties"})
OTHERS = frozenset({"$ref", "const", "enum", "format", "items", "pattern", "required", "type"})
HONOURED = COUNTS | NUMBERS | SCHEMA_LISTS | SCHEMA_MAPS | SCHEMAS | OTHERS

# Would restrict what is right, but cannot be enforced while a text is written. With one of the
# given values a keyword restricts nothing.
_NOTHING = (True, {})
REFUSED: dict[str, tuple[object, ...]] = {
    "$dynamicRef": (),
    "$recursiveRef": (),
    "contains": (),
    "dependencies": ({},),
    "dependentRequired": ({},),
    "dependentSchemas": ({},),
    "disallow": (),
    "divisibleBy": (),
    "else": _NOTHING,
    "extends": ({}, []),
    "if": (),
    "maxContains": (),
    "minContains": (),
    "not": (False,),
    "propertyNames": _NOTHING,
    "then": _NOTHING,
    "unevaluatedItems": _NOTHING,
    "unevaluatedProperties": _NOTHING,
    "uniqueItems": (False,),
}
# Without the other keyword, these mean nothing.
NEEDS: dict[str, tuple[str, ...]] = {
    "if": ("then", "else"),
    "then": ("if",),
    "else": ("if",),
    "maxContains": ("contains",),
    "minContains": ("contains",),
}

TYPES = frozenset({"array", "boolean", "integer", "null", "number", "object", "string"})
FORMATS = frozenset(
    {
        "date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "uri", "uuid",
    }
)  # fmt: skip
SHOWN_FORMATS = frozenset({"password"})  # about how a value is shown

_BY_LETTERS = {name.lower().lstrip("$"): name for name in HONOURED | REFUSED.keys()}


def meant(keyword: str) -> str | None:
    """The keyword that an unknown one is a misspelling of: `minlength`, `min_length`."""
    return _BY_LETTERS.get(keyword[:1].lower() + keyword[1:].lower().replace("_", ""))
