"""Secrets and personal data in texts: found by their form and, where there is one, their checksum.

Knows texts only. Invariants: what is found is never shown whole; each pattern takes time in
proportion to the text, whatever it holds (no run of a repeat is unbounded inside another).

Sources: the card check is ISO/IEC 7812 (Luhn), the account check ISO 13616 (mod 97), tokens as
their issuers document them.
"""

import base64
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

SECRET, PERSONAL = "secret", "personal"
_MIN_ENTROPY = 3.3  # bits a character; words and repeated signs have less


class Private(NamedTuple):
    """`kind` is SECRET or PERSONAL, `name` says what it looks like, `shown` is its masked form."""

    kind: str
    name: str
    shown: str


class _Form(NamedTuple):
    kind: str
    name: str
    needs: tuple[str, ...]  # folded text without any of them cannot match
    pattern: re.Pattern[str]
    num_real: Callable[[str], int] = len  # how many characters of a match are it; 0: it is not


def find_private(text: str) -> Iterator[Private]:
    """What `text` holds, each place once: of forms that overlap, the one listed first."""
    taken: list[tuple[int, int]] = []
    folded = text.casefold()
    for form in _FORMS:
        if not any(word in folded for word in form.needs):
            continue
        for match in form.pattern.finditer(text):
            found = match[match.lastindex or 0]
            found = found[: form.num_real(found)]
            start = match.start(match.lastindex or 0)
            end = start + len(found)
            if not found or any(start < b and a < end for a, b in taken):
                continue
            taken.append((start, end))
            yield Private(form.kind, form.name, _masked(form, found))


def passes_luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of those before."""
    total = 0
    for i, char in enumerate(reversed(digits)):
        digit = int(char) * (1 + i % 2)
        total += digit - 9 if digit > 9 else digit
    return total % 10 == 0


def is_iban(plain: str) -> bool:
    """Whether it has its country's length and the remainder 1 modulo 97."""
    if _IBAN_LENS.get(plain[:2]) != len(plain):
        return False
    return int("".join(str(int(char, 36)) for char in plain[4:] + plain[:4])) % 97 == 1


def _masked(form: _Form, found: str) -> str:
    """A start that helps to find a key; nothing of personal data."""
    start = f"{found[:4]}..., " if form.kind == SECRET else ""
    return f"{start}{len(found)} characters"


def _up_to(text: str, num: int, counts: Callable[[str], bool]) -> str:
    """The start of `text` that holds `num` characters that count."""
    for at, char in enumerate(text):
        num -= counts(char)
        if num == 0:
            return text[: at + 1]
    return text


def _num_iban(text: str) -> int:
    """Words may follow it, so its country says where it ends."""
    start = _up_to(text, _IBAN_LENS.get(text[:2], 0), str.isalnum)
    return len(start) if is_iban(start.replace(" ", "").upper()) else 0


def _num_card(text: str) -> int:
    """A date may follow it: tried at the issuer's usual length, then whole."""
    digits = re.sub(r"\D", "", text)
    if not re.match(r"4|5[1-5]|2[2-7]|3[0-9]|6", digits) or len(set(digits)) < 2:
        return 0
    usual = 15 if digits[:2] in ("34", "37") else 14 if digits[:2] in ("30", "36", "38") else 16
    if len(digits) >= usual and passes_luhn(digits[:usual]):
        return len(_up_to(text, usual, str.isdigit))
    return len(text) if passes_luhn(digits) else 0


def _num_jwt(text: str) -> int:
    head = text.split(".")[0]
    try:
        value = json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    except (ValueError, RecursionError):
        return 0
    return len(text) if isinstance(value, dict) and "alg" in value else 0


def _num_random(text: str) -> int:
    counts = Counter(text).values()
    entropy = -sum(n / len(text) * math.log2(n / len(text)) for n in counts)
    is_mixed = re.search(r"\d", text) and re.search(r"[A-Za-z]", text)
    return len(text) if is_mixed and entropy >= _MIN_ENTROPY else 0


def _num_phone(text: str) -> int:
    """Numbers as people write them: with a country's sign, a leading zero, or in groups; no dates,
    amounts or addresses of machines."""
    groups = re.findall(r"\d+", text)
    num = sum(map(len, groups))
    if text.startswith("+"):
        return len(text) if 8 <= num <= 15 else 0
    is_date = re.match(r"(?:19|20)\d\d[ .-]", text) or re.match(r"\d\d?[.-]\d\d?[.-]\d{4}", text)
    is_address = len(groups) == 4 and text.count(".") == 3
    is_amount = text[0] != "0" and {len(group) for group in groups[1:]} == {3}
    if not 10 <= num <= 12 or is_date or is_address or is_amount:
        return 0
    return len(text) if text.lstrip("(")[0] == "0" or len(groups) >= 3 else 0


def _num_mail(text: str) -> int:
    is_file = text.lower().endswith((".png", ".jpg", ".svg", ".js", ".css"))  # icon@2x.png
    return 0 if is_file or ".." in text else len(text)


def _key(name: str, needs: str, pattern: str) -> _Form:
    whole = rf"(?<![A-Za-z0-9_-])({pattern})(?![A-Za-z0-9])"
    return _Form(SECRET, name, (needs,), re.compile(whole))


_IBAN_LENS = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22,
    "BR": 29, "BY": 28, "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "DO": 28,
    "EE": 20, "EG": 29, "ES": 24, "FI": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23,
    "GL": 18, "GR": 27, "GT": 28, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IQ": 23, "IS": 26,
    "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28, "LC": 32, "LI": 21, "LT": 20, "LU": 20,
    "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MR": 27, "MT": 31, "MU": 30,
    "NL": 18, "NO": 15, "PK": 24, "PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22,
    "SA": 24, "SC": 31, "SE": 24, "SI": 19, "SK": 24, "SM": 27, "ST": 25, "SV": 28, "TL": 23,
    "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20,
}  # fmt: skip

_DIGITS = tuple("0123456789")
_FORMS = (
    _Form(
        SECRET, "private key", ("private key",),
        re.compile(r"-----BEGIN (?:[A-Z0-9]{1,20} ){0,3}PRIVATE KEY(?: BLOCK)?-----"),
    ),
    _key("Anthropic key", "sk-ant-", r"sk-ant-[A-Za-z0-9_-]{20,200}"),
    _key("API key", "sk-", r"sk-[A-Za-z0-9_-]{20,200}"),
    _key("Stripe key", "k_live_", r"[sr]k_live_[A-Za-z0-9]{16,200}"),
    _key("AWS access key", "akia", r"AKIA[0-9A-Z]{16}"),
    _key("AWS session key", "asia", r"ASIA[0-9A-Z]{16}"),
    _key("GitHub token", "gh", r"gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{22,255}"),
    _key("GitLab token", "glpat-", r"glpat-[A-Za-z0-9_-]{20,64}"),
    _key("Slack token", "xox", r"xox[abeoprs]-[A-Za-z0-9-]{10,250}"),
    _key("Google key", "aiza", r"AIza[0-9A-Za-z_-]{35}"),
    _key("Hugging Face token", "hf_", r"hf_[A-Za-z0-9]{30,64}"),
    _key("npm token", "npm_", r"npm_[A-Za-z0-9]{36}"),
    _key("PyPI token", "pypi-", r"pypi-AgEI[A-Za-z0-9_-]{50,250}"),
    _key("SendGrid key", "sg.", r"SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}"),
    _Form(
        SECRET, "JSON Web Token", ("eyj",),
        re.compile(
            r"(?<![\w-])eyJ[A-Za-z0-9_-]{8,2000}\.eyJ[A-Za-z0-9_-]{8,8000}\.[A-Za-z0-9_-]{0,2000}"
        ),
        _num_jwt,
    ),
    _Form(
        SECRET, "password or token", ("key", "secret", "token", "passw"),
        re.compile(
            r"(?i)\b(?:api[_-]?key|access[_-]?key|secret(?:[_-]?key)?|auth[_-]?token|token|passw(?:or)?d)"
            r"[\"']?\s{0,3}[:=]\s{0,3}[\"']?([^\s\"'<>,;]{12,200})"
        ),
        _num_random,
    ),
    _Form(
        PERSONAL, "e-mail address", ("@",),
        re.compile(
            r"(?<![\w.%+-])[A-Za-z0-9][\w.%+-]{0,63}@[A-Za-z0-9][A-Za-z0-9.-]{0,120}\.[A-Za-z]{2,24}\b"
        ),
        _num_mail,
    ),
    _Form(
        PERSONAL, "IBAN", _DIGITS,
        re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?: ?[A-Za-z0-9]){11,30}(?![A-Za-z0-9])"),
        _num_iban,
    ),
    _Form(
        PERSONAL, "card number", _DIGITS,
        re.compile(r"(?<![\d.-])\d(?:[ -]?\d){12,18}(?!\d)"), _num_card,
    ),
    _Form(
        PERSONAL, "phone number", _DIGITS,
        re.compile(
            r"(?<![\w+.,/-])(?<!\d[ .-])(?:\+|\()?\d(?:[ ().-]{0,2}\d){7,14}"
            r"(?![ ().-]{0,2}\d|[\w-])"
        ),
        _num_phone,
    ),
)  # fmt: skip
