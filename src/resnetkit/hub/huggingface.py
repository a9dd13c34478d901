"""Weights from the Hugging Face Hub, through huggingface_hub and its own cache.

The Hub gives each file a digest, which is its name in the cache: the SHA-256 of a large file, git's
SHA-1 of a small one. huggingface_hub does not verify it; this module does.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnetkit.checkpoints.config_json import CONFIG, PROCESSOR
from resnetkit.errors import InputError, require
from resnetkit.files import sha256_of

if TYPE_CHECKING:
    from resnetkit.source import Source

#: A bundle beside a framework's weights of the same network; see ``pushing``.
BUNDLE = "bundle.safetensors"
#: The weights that other libraries load.
MODEL = "model.safetensors"
#: The usual names of weight files, the preferred first.
WEIGHTS = (BUNDLE, MODEL, "pytorch_model.bin")


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """Files of one revision: the weights, and the configuration files beside them."""

    weights: Path
    commit: str
    sha256: str


def from_hub(source: Source, *, offline: bool, endpoint: str | None) -> Repository:
    """The weights of a repository, downloaded or from the cache; all files of one commit.

    Raises ``InputError`` for a repository, revision or file that does not exist or needs a login,
    for an unreachable server, and for a digest mismatch.
    """
    hub = _Hub(source, offline=offline, endpoint=endpoint)
    names = (source.file,) if source.file else WEIGHTS
    for name in names:
        weights = hub.get(name, source.version)
        if weights is None:
            continue
        commit = weights.parts[weights.parts.index("snapshots") + 1]
        folder = name.rpartition("/")[0]
        for beside in (CONFIG, PROCESSOR):
            hub.get(f"{folder}/{beside}" if folder else beside, commit)
        return Repository(weights=weights, commit=commit, sha256=sha256_of(weights))
    where = "the cache, and downloads are disabled" if offline else "the repository"
    raise InputError(
        f"hf:{source.name}: {' or '.join(names)} is not in {where}"
        + ("" if offline else "; name a file with hf:OWNER/NAME/FILE")
    )


class _Hub:
    """A repository, whose files are downloaded one by one."""

    def __init__(self, source: Source, *, offline: bool, endpoint: str | None) -> None:
        self._name, self._offline, self._endpoint = source.name, offline, endpoint

    def get(self, name: str, revision: str | None) -> Path | None:
        """The file in the cache; None if the repository does not have it."""
        hub = require("huggingface_hub", "fetching")
        errors = require("huggingface_hub.errors", "fetching")
        # The errors of the HTTP library, which differs between major versions.
        http = errors.HfHubHTTPError.__mro__[1]
        try:
            path = hub.hf_hub_download(
                self._name,
                name,
                revision=revision,
                local_files_only=self._offline,
                endpoint=self._endpoint,
            )
        except errors.LocalEntryNotFoundError as error:
            if self._offline:
                return None
            raise InputError(f"hf:{self._name}: the server cannot be reached ({reason(error)})") \
                from None  # fmt: skip
        except errors.EntryNotFoundError:
            return None
        except errors.GatedRepoError:
            raise InputError(
                f"hf:{self._name} requires a login and its owner's consent; accept its conditions "
                "on its page and run `hf auth login`"
            ) from None
        except errors.RepositoryNotFoundError:
            raise InputError(
                f"hf:{self._name} does not exist or is private; check the name, or `hf auth login`"
            ) from None
        except errors.RevisionNotFoundError:
            raise InputError(f"hf:{self._name} has no revision {revision!r}") from None
        except (http, OSError, ValueError) as error:
            raise InputError(f"hf:{self._name}: {name}: {reason(error)}") from None
        return _checked(Path(path), f"hf:{self._name}: {name}")


def _checked(path: Path, name: str) -> Path:
    """The file, if it matches the digest in its cache name; else it is removed."""
    blob = path.resolve()
    wanted = blob.name
    if re.fullmatch(r"[0-9a-f]{64}", wanted):
        actual = sha256_of(blob)
    elif re.fullmatch(r"[0-9a-f]{40}", wanted):
        actual = _git_sha1(blob)
    else:
        return path  # a cache without links, or a server without digests
    if actual != wanted:
        path.unlink()
        blob.unlink(missing_ok=True)
        raise InputError(
            f"{name} has the digest {actual}, expected {wanted}; it was removed, try again"
        )
    return path


def _git_sha1(path: Path) -> str:
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def reason(error: Any) -> str:
    """The first line of huggingface_hub's message."""
    lines = str(error.__cause__ or error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
