"""Secrets and personal data: what is found, what is not, and that it is never shown whole."""

import base64
import json
import random

import pytest

from firefront.tuning.private_data import find_private

JWT = ".".join(
    base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
    for part in ({"alg": "HS256", "typ": "JWT"}, {"sub": "1234567890"}, "signature of it")
)
RANDOM = "".join(random.Random(1).choices("abcdefghijkmnopqrstuvwxyzABCDEFGH23456789", k=48))

FOUND = [
    (f"sk-proj-{RANDOM}", "API key"),
    (f"sk-ant-api03-{RANDOM}", "Anthropic key"),
    ("AKIAIOSFODNN7EXAMPLE", "AWS access key"),
    (f"ghp_{RANDOM[:36]}", "GitHub token"),
    (f"AIza{RANDOM[:35]}", "Google key"),
    (f"hf_{RANDOM[:34]}", "Hugging Face token"),
    ("-----BEGIN RSA PRIVATE KEY-----", "private key"),
    (JWT, "JSON Web Token"),
    ("ann.smith+x@mail.example.co.uk", "e-mail address"),
    ("DE89 3704 0044 0532 0130 00", "IBAN"),
    ("GB82WEST12345698765432", "IBAN"),
    ("4111 1111 1111 1111", "card number"),
    ("5555-5555-5555-4444", "card number"),
    ("378282246310005", "card number"),
    ("+49 (0)30 901820", "phone number"),
    ("(415) 555-0132 99", "phone number"),
    ("08000930705", "phone number"),
]


@pytest.mark.parametrize(("value", "name"), FOUND, ids=lambda value: value[:24])
def test_what_is_found(value: str, name: str) -> None:
    for text in (value, f"My {value}, please", f"see\n{value}", f"({value})", f"{value} and 12/27"):
        (found,) = find_private(text)
        assert found.name == name, text
        assert value not in found.shown and value[5:] not in found.shown
        assert found.shown.endswith("characters")


def test_assigned_values_are_found_by_their_randomness() -> None:
    for text in (f"api_key = '{RANDOM[:24]}'", f'"password": "{RANDOM[:14]}"', f"TOKEN={RANDOM}"):
        assert [found.name for found in find_private(text)] == ["password or token"]
    for text in ("password: correcthorsebattery", "token = aaaaaaaaaaaa1", "secret: see page"):
        assert list(find_private(text)) == []


@pytest.mark.parametrize(
    "text",
    [
        "4111 1111 1111 1112",  # the check digit is wrong
        "0000 0000 0000 0000",
        "DE88 3704 0044 0532 0130 00",
        "XX89 3704 0044 0532 0130 00",
        "2024-01-15 10:30:00",
        "15.01.2024 100 200",
        "192.168.100.120",
        "3.14159265358979",
        "order 1234567",
        "sk-short",
        "icon@2x.png",
        "a@b",
        "eyJub3QganNvbg.eyJub3QganNvbg.abc",
        "I have 1,000,000 reasons and 10 000 000 000 ways",
        "1 2 3 4 5 6 7 8 9 10 11 12",
    ],
)
def test_what_is_not(text: str) -> None:
    assert list(find_private(text)) == []


def test_several_in_one_text() -> None:
    text = f"Ann (ann@example.org, +44 20 7946 0958) pays with 4111111111111111; key sk-{RANDOM}"
    assert sorted(found.name for found in find_private(text)) == [
        "API key", "card number", "e-mail address", "phone number",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "piece", ["a", "1", "1 ", "a@", "a.", "eyJ", "DE12 ", "sk-", "token=", "+", "-----BEGIN "]
)
def test_long_runs_end(piece: str) -> None:
    list(find_private(piece * (300_000 // len(piece))))
