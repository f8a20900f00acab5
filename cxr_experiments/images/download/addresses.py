"""Addresses as they may be printed and followed.

Nothing secret is shown; nothing but http and https is followed, and never from https down to http.
"""

from __future__ import annotations

from urllib.parse import SplitResult, urljoin, urlsplit, urlunsplit

from cxr_experiments.errors import ConfigError, DataError


def shown(url: str) -> str:
    """The address without user, password, query and fragment, any of which may hold a secret.

    Example:
        >>> shown("https://me:token@mirror.org:8443/films/a.npz?signature=abc")
        'https://mirror.org:8443/films/a.npz'
    """
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def file_below(mirror: str, name: str) -> str:
    """The address of the file `name` in the folder that `mirror` names; a query of the mirror's stays.

    Example:
        >>> file_below("http://127.0.0.1:8000/films/", "a.npz")
        'http://127.0.0.1:8000/films/a.npz'

    Raises:
        ConfigError: the mirror is no http(s) address of a host.
    """
    parts = checked(mirror)
    return urlunsplit((parts.scheme, parts.netloc, f"{parts.path.rstrip('/')}/{name}", parts.query, ""))


def checked(mirror: str) -> SplitResult:
    """The parts of a typed address.  Its text is not repeated when it is wrong: it may hold a password.

    Raises:
        ConfigError: it is no http(s) address of a host.
    """
    try:
        parts = urlsplit(mirror)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ConfigError("mirror: expected the address of a folder, as mirror=https://host/folder")
    return parts


def redirected(url: str, location: str) -> str:
    """Where a redirect leads.

    Raises:
        DataError: away from http and https, or from https down to http, where anybody between could change the bytes.
    """
    try:
        target = urljoin(url, location)
        scheme, host = urlsplit(target).scheme, urlsplit(target).hostname
    except ValueError:
        scheme, host, target = "", None, url
    if scheme not in ("http", "https") or not host:
        raise DataError(f"{shown(url)} redirects to something that is no http(s) address; nothing was fetched")
    if urlsplit(url).scheme == "https" and scheme != "https":
        raise DataError(f"{shown(url)} redirects from https to unprotected {shown(target)}; nothing was fetched")
    return target
