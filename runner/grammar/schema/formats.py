"""Formats of texts that are kept to, each as a regular expression."""

from __future__ import annotations

from collections.abc import Mapping

_BYTE = r"(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_DATE = r"[1-9]\d{3}-((0[13578]|1[02])-(0[1-9]|[12]\d|3[01])|(0[469]|11)-(0[1-9]|[12]\d|30)|02-(0[1-9]|1\d|2[0-8]))"
_TIME = r"([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,6})?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)"
_HOST = r"([a-z0-9]{1,16}\.){1,3}[a-z]{2,6}"
_URI = rf"https?://{_HOST}(/[A-Za-z0-9._~/?=&-]{{0,100}})?"

FORMATS: Mapping[str, str] = {
    "date": _DATE,
    "time": _TIME,
    "date-time": f"({_DATE})T{_TIME}",
    "duration": r"P(\d{1,4}W|\d{1,4}D(T\d{1,4}[HMS])?|T\d{1,4}H(\d{1,4}M(\d{1,4}S)?)?|T\d{1,4}M(\d{1,4}S)?|T\d{1,4}S)",
    "uuid": r"[0-9a-f]{8}-[0-9a-f]{4}-[1-5][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
    "ipv4": rf"({_BYTE}\.){{3}}{_BYTE}",
    "ipv6": r"([0-9a-f]{1,4}:){7}[0-9a-f]{1,4}",
    "hostname": _HOST,
    "email": rf"[A-Za-z0-9_-]{{1,30}}(\.[A-Za-z0-9_-]{{1,30}})?@{_HOST}",
    "uri": _URI,
    "url": _URI,
    "uri-reference": _URI,
    "json-pointer": r"(/[A-Za-z0-9_-]{1,40}){0,8}",
}
