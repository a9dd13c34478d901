"""What was pushed to the Hugging Face Hub; ``hub.pushing`` does it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

#: The libraries for which ``hub.pushing`` writes a configuration.
Framework = Literal["timm", "transformers", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """What was pushed: ``files`` of the repository ``repo_id``, in ``commit``.

    ``framework`` is the one that loads ``model.safetensors``, or ``none``; ``url`` is the address
    of the commit, or of the pull request. ``card_kept`` says that a model card written by hand was
    left as it is.
    """

    repo_id: str
    url: str
    commit: str
    files: tuple[str, ...]
    framework: Framework
    card_kept: bool

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return {
            "repo_id": self.repo_id,
            "url": self.url,
            "commit": self.commit,
            "files": list(self.files),
            "framework": self.framework,
            "card_kept": self.card_kept,
        }
