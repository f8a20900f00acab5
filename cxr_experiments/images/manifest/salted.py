"""A patient's identity in a DICOM file becomes a key that cannot be led back to it: HMAC-SHA256 under a secret salt.

The salt is CXR_PATIENT_SALT, else the file `patient_salt` in the project's home, drawn at random when first needed and
readable by its owner alone.  Without a salt a hash would hide nothing: PatientIDs are short, and all of them can be
tried.  Equal salts give equal keys, so that two sites that share one may compare; the digest of a data set does not
depend on it (`rows`).
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import os
import secrets
from pathlib import Path

from filelock import FileLock

from cxr_experiments.config.compose import home
from cxr_experiments.errors import ConfigError, DataError
from cxr_experiments.images.manifest.rows import SALTED

VARIABLE, FILE = "CXR_PATIENT_SALT", "patient_salt"
MIN_CHARACTERS = 16
_NUM_HEX = 24  # 96 bits: among a million patients two share a key with probability 1e-17


def patient_key(identity: bytes) -> str:
    """The key of an identity as `read_patient_identity` gives it: "hmac:" and 24 hex digits; "" for none.

    Raises:
        ConfigError: CXR_PATIENT_SALT is too short to be a secret.
        DataError: the salt's file is damaged, or can be neither read nor written.
    """
    if not identity:
        return ""
    named = os.environ.get(VARIABLE)
    salt = _named_salt(named) if named else _stored_salt(home() / FILE)
    return SALTED + hmac.new(salt, identity, hashlib.sha256).hexdigest()[:_NUM_HEX]


def _named_salt(named: str) -> bytes:
    if len(named) < MIN_CHARACTERS:
        raise ConfigError(
            f"{VARIABLE} has {len(named)} characters; a secret needs at least {MIN_CHARACTERS}, for example from "
            f"python -c 'import secrets; print(secrets.token_hex(32))'"
        )
    return named.encode("utf-8", "surrogateescape")


@functools.cache
def _stored_salt(path: Path) -> bytes:
    """What the file holds; drawn now, under a lock, if there is none: two processes that start at once share one."""
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(path.with_name(f".{path.name}.lock")):
                if not path.exists():
                    _draw(path)
        salt = path.read_bytes().strip()
    except OSError as error:
        raise DataError(
            f"{path}, the secret behind patient keys, cannot be read or written: {error.strerror or error}; mend its "
            f"permissions, or set {VARIABLE}"
        ) from error
    if len(salt) < MIN_CHARACTERS:
        raise DataError(f"{path}, the secret behind patient keys, is damaged; restore it, or remove it for new keys")
    return salt


def _draw(path: Path) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.unlink(missing_ok=True)
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(secrets.token_hex(32) + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
