"""A request's constraint as rules of a grammar."""

import json

from firefront.core.chat import Constraint
from firefront.core.errors import RequestError
from firefront.text.rules import Rules


def constraint_rules(constraint: Constraint) -> Rules:
    """Rules of the one thing that the text may be."""
    if constraint.kind == "json_object":
        return Rules('%json {"type": "object"}')
    if constraint.kind == "json_schema":
        return Rules(f"%json {json.dumps(constraint.value)}")
    raise RequestError(f"{constraint.param}: is not supported yet", param=constraint.param)
