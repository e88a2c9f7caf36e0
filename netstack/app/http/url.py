"""http and https URLs: parsed strictly, resolved against each other (RFC 3986 3, 5; RFC 9110 4.2).

Left out: user information in a URL, which RFC 9110 4.2.4 deprecates and which serves to deceive.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from urllib.parse import quote

from netstack.core.address import parse_address

DEFAULT_PORTS = {"http": 80, "https": 443}

# RFC 3986 appendix B.
_PARTS = re.compile(
    r"(?:(?P<scheme>[A-Za-z][A-Za-z0-9+.\-]*):)?(?://(?P<authority>[^/?#]*))?"
    r"(?P<path>[^?#]*)(?:\?(?P<query>[^#]*))?(?:#(?P<fragment>.*))?"
)
_AUTHORITY = re.compile(r"(?P<host>\[[^\[\]]*\]|[^:@\[\]]*)(?::(?P<port>[0-9]{0,5}))?")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_\-]{0,61}[a-z0-9_])?")
_NUMERIC = re.compile(r"[0-9]+|0x[0-9a-f]*")
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f]")
_SAFE = "!#$%&'()*+,/:;=?@[]~-._"
_CACHED_LENGTH = 255  # characters: names of hosts are no longer


@dataclass(frozen=True, slots=True)
class Url:
    """An absolute URL; ``host`` is a name in lower case, or an address without brackets."""

    scheme: str
    host: str
    port: int
    path: str
    query: str | None = None
    fragment: str | None = None

    @property
    def origin(self) -> tuple[str, str, int]:
        """What decides whether two URLs belong to one server (RFC 9110 4.3.1)."""
        return (self.scheme, self.host, self.port)

    @property
    def authority(self) -> str:
        """The value of the Host field: the port only if it is not the scheme's."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def target(self) -> str:
        """The request target in origin-form (RFC 9112 3.2.1)."""
        return self.path if self.query is None else f"{self.path}?{self.query}"

    def __str__(self) -> str:
        fragment = "" if self.fragment is None else f"#{self.fragment}"
        return f"{self.scheme}://{self.authority}{self.target}{fragment}"

    def join(self, reference: str) -> Url:
        """Return the URL that ``reference`` means seen from here (RFC 3986 5.2).

        The fragment is inherited if the reference has none (RFC 9110 10.2.2).
        Raises: ValueError.
        """
        parts = _split(reference)
        if parts["scheme"] is not None:
            joined = parse_url(reference)
        elif parts["authority"] is not None:
            joined = parse_url(f"{self.scheme}:{reference}")
        else:
            path, query = parts["path"] or "", parts["query"]
            if not path:
                path, query = self.path, self.query if query is None else query
            elif not path.startswith("/"):
                path = self.path.rpartition("/")[0] + "/" + path
            path = _without_dots(path)
            joined = replace(self, path=path, query=query, fragment=parts["fragment"])
        return joined if joined.fragment is not None else replace(joined, fragment=self.fragment)


def parse_url(text: str) -> Url:
    """Return the http or https URL that ``text`` spells.

    Non-ASCII characters are percent-encoded, in the host IDNA-encoded.
    Raises: ValueError.
    """
    parts = _split(text)
    scheme = (parts["scheme"] or "").lower()
    if scheme not in DEFAULT_PORTS:
        raise ValueError(f"{text!r} is not an http or https URL")
    authority = parts["authority"] or ""
    if "@" in authority:
        raise ValueError("user names and passwords in a URL are not supported")
    host, port = parse_authority(authority)
    if not host:
        raise ValueError(f"{text!r} names no host")
    return Url(
        scheme,
        host,
        DEFAULT_PORTS[scheme] if port is None else port,
        _without_dots(parts["path"] or "/"),
        parts["query"],
        parts["fragment"],
    )


def parse_authority(text: str) -> tuple[str, int | None]:
    """Return host and port (None: not given) of ``host[:port]``, as in a Host field.

    Raises: ValueError. What looks like an address must be one: no octal, no short forms.
    """
    return _known_authority(text) if len(text) <= _CACHED_LENGTH else _parse_authority(text)


def _parse_authority(text: str) -> tuple[str, int | None]:
    match = _AUTHORITY.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a host and port")
    port = int(match["port"]) if match["port"] else None
    if port is not None and not 0 < port < 65_536:
        raise ValueError(f"{port} is not a port")
    return _check_host(match["host"]), port


# A server is asked under the same few names again and again.
_known_authority = lru_cache(64)(_parse_authority)


def _split(text: str) -> dict[str, str | None]:
    text = text.strip(" ")
    if _FORBIDDEN.search(text) or "\\" in text:
        raise ValueError(f"{text!r} holds characters that no URL may hold")
    match = _PARTS.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a URL")
    parts = match.groupdict()
    for name in ("path", "query", "fragment"):
        if parts[name] is not None:
            parts[name] = quote(parts[name], safe=_SAFE, errors="strict")
    return parts


def _check_host(host: str) -> str:
    if host.startswith("["):
        if "%" in host:
            raise ValueError("an address with a zone cannot be used in a URL")
        return str(parse_address(host[1:-1])) if ":" in host else _bad_host(host)
    if not host.isascii():
        try:
            host = host.encode("idna").decode("ascii")
        except UnicodeError:
            _bad_host(host)
    host = host.lower()
    labels = host.removesuffix(".").split(".")
    if _NUMERIC.fullmatch(labels[-1]):
        # CVE-2021-29921: 0177.0.0.1 and 2130706433 are 127.0.0.1 to some parsers.
        return str(parse_address(host))
    if host and (len(host) > 254 or not all(map(_LABEL.fullmatch, labels))):
        _bad_host(host)
    return host


def _bad_host(host: str) -> str:
    raise ValueError(f"{host!r} is not a host name")


def _without_dots(path: str) -> str:
    """Remove ``.`` and ``..`` segments (RFC 3986 5.2.4)."""
    kept: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    if segments and segments[-1] in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)
