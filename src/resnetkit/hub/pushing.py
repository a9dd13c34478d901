"""Pushes a bundle to the Hugging Face Hub, in one commit, as a repository that others load too.

``model.safetensors`` is the bundle where timm or transformers have the same names of parameters,
and lies beside ``bundle.safetensors`` where they have others. ``config.json`` describes it to them.
"""

from __future__ import annotations

import re
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from resnetkit.bundle.bundle import DOCUMENT, Bundle, load
from resnetkit.bundle.pushed import Framework, Pushed
from resnetkit.checkpoints.config_json import CONFIG, PROCESSOR
from resnetkit.errors import InputError, require
from resnetkit.files import write_text
from resnetkit.hub.download_cache import OFFLINE, is_offline
from resnetkit.hub.framework_folder import FOLDERS, deliver_weights, write_configuration
from resnetkit.hub.huggingface import BUNDLE, MODEL, reason
from resnetkit.hub.model_card import CARD, LIBRARY, MARK, model_card

#: Files of a model, of any library.
_OF_A_MODEL = re.compile(
    rf".*\.(safetensors|bin|pt|pth|h5|onnx|keras|msgpack)(\.index\.json)?"
    rf"|{re.escape(CONFIG)}|{re.escape(PROCESSOR)}"
)
#: Those that libraries load by their names: what is not pushed again is removed.
_BY_NAME = re.compile(
    rf"(bundle|(pytorch_|tf_|flax_)?model)(-\d+-of-\d+)?"
    rf"\.(safetensors|bin|h5|msgpack)(\.index\.json)?"
    rf"|{re.escape(CONFIG)}|{re.escape(PROCESSOR)}"
)
_REVISION = re.compile(r"[A-Za-z0-9][\w./-]*", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Existing:
    """The files of a repository's revision, and whether that is a branch."""

    files: frozenset[str]
    commit: str | None
    is_branch: bool


def push_to_hub(
    bundle: Bundle | str | Path,
    repo_id: str,
    *,
    framework: Framework | None = None,
    private: bool | None = None,
    token: str | bool | None = None,
    revision: str | None = None,
    commit_message: str = "Push a model with resnetkit",
    create_pr: bool = False,
    license: str | None = None,
    overwrite: bool = False,
) -> Pushed:
    """Push a bundle, open or as a path, to the repository ``OWNER/NAME`` of the Hugging Face Hub.

    The repository gets the bundle, a model card, and the configuration by which ``framework`` loads
    it, if it can: by default timm, else transformers. transformers also loads timm's. Load it with
    ``resnetkit.load("hf:OWNER/NAME")``.

    ``private``, ``token``, ``revision``, ``commit_message`` and ``create_pr`` are as in
    huggingface_hub: a new repository is public unless ``private``, the token is that of
    ``hf auth login``, and a missing branch is created, except for a pull request. ``license`` is an
    identifier of the Hub such as ``apache-2.0``. All files are in one commit. Another library's
    model and a model card written by hand are only replaced with ``overwrite``.

    Raises ``ValueError`` for an invalid name, a network that ``framework`` does not have, a missing
    login or permission, a repository with another model or visibility, and if the server cannot be
    reached.

    >>> resnetkit.push_to_hub(model, "no name")
    Traceback (most recent call last):
    ...
    resnetkit.errors.InputError: repo_id is 'no name'; give OWNER/NAME, e.g. me/flowers
    """
    hub = require("huggingface_hub", "pushing")
    _check_names(repo_id, framework, revision)
    if is_offline():
        raise InputError(f"{repo_id} cannot be pushed, as {OFFLINE} forbids the network; unset it")
    bundle = bundle if isinstance(bundle, Bundle) else load(bundle)
    with tempfile.TemporaryDirectory(prefix="resnetkit-push-") as temporary:
        folder = Path(temporary)
        named = _write_model(bundle, folder, framework)
        card = model_card(
            bundle, repo_id, framework=named, revision=revision, license=license,
            weights=BUNDLE if (folder / BUNDLE).exists() else MODEL,
        )  # fmt: skip
        write_text(folder / CARD, card)
        api = hub.HfApi(token=token, library_name=LIBRARY)
        with _refusals(repo_id):
            hub.ModelCard(card).validate()
            found = _existing(api, repo_id, revision, private, overwrite)
            if create_pr and found and not found.is_branch:
                raise InputError(
                    f"{repo_id} has no branch {revision!r} for a pull request; leave revision out, "
                    "or name a branch",
                    field="revision",
                )
            if found is None:
                api.create_repo(repo_id, private=private)
            if not (found and found.is_branch) and _is_branch(revision):
                api.create_branch(repo_id, branch=revision, exist_ok=True)
            kept = found is not None and not overwrite and _card_is_edited(api, repo_id, found)
            new = sorted(path.name for path in folder.iterdir() if not (kept and path.name == CARD))
            there = found.files if found else ()
            old = sorted(name for name in {*there} - {*new} if _BY_NAME.fullmatch(name))
            done = api.create_commit(
                repo_id,
                [
                    *(hub.CommitOperationDelete(path_in_repo=name) for name in old),
                    *(hub.CommitOperationAdd(name, folder / name) for name in new),
                ],
                commit_message=commit_message,
                revision=revision,
                create_pr=create_pr,
                parent_commit=found.commit if found and found.is_branch else None,
            )
    return Pushed(
        repo_id=repo_id,
        url=done.pr_url or done.commit_url,
        commit=done.oid,
        files=tuple(new),
        framework=named,
        card_kept=kept,
    )


def _check_names(repo_id: str, framework: str | None, revision: str | None) -> None:
    try:
        require("huggingface_hub.utils", "pushing").validate_repo_id(repo_id)
        valid = repo_id.count("/") == 1 and repo_id.isascii()
    except (ValueError, TypeError):
        valid = False
    if not valid:
        raise InputError(
            f"repo_id is {repo_id!r}; give OWNER/NAME, e.g. me/flowers", field="repo_id"
        )
    if framework not in (None, *get_args(Framework)):
        raise InputError(
            f"framework is {framework!r}; it must be one of {', '.join(get_args(Framework))}",
            field="framework",
        )
    if revision is not None and not _REVISION.fullmatch(revision):
        raise InputError(f"revision is {revision!r}; give the name of a branch", field="revision")


def _is_branch(revision: str | None) -> bool:
    return revision is not None and revision != "main" and not revision.startswith("refs/")


def _write_model(bundle: Bundle, folder: Path, framework: Framework | None) -> Framework:
    """Write the weights and their configuration; the framework that loads them."""
    for name in FOLDERS if framework is None else (framework,):
        if name == "none":
            break
        try:
            write_configuration(bundle, folder, name)
            file = bundle.file_of(folder / MODEL, name)
        except InputError:
            for path in folder.iterdir():
                path.unlink()
            if framework is not None:
                raise
            continue
        if not file.renames:
            bundle.save(folder / MODEL)
            return name
        deliver_weights(bundle, file, folder, name)
        bundle.save(folder / BUNDLE)
        return name
    bundle.save(folder / MODEL)
    return "none"


def _existing(
    api: Any, repo_id: str, revision: str | None, private: bool | None, overwrite: bool
) -> _Existing | None:
    """The repository as it is, or None. Raises ``InputError`` if it must not be changed."""
    errors = require("huggingface_hub.errors", "pushing")
    try:
        info = api.model_info(repo_id)
    except errors.GatedRepoError:
        raise
    except errors.RepositoryNotFoundError:
        return None
    if private is not None and info.private != private:
        kind = "private" if info.private else "public"
        raise InputError(
            f"{repo_id} exists, and its visibility is {kind!r}; change that in its settings, or "
            f"leave private={private} out",
            field="private=",
        )
    is_branch = True
    if revision is not None:
        try:
            info = api.model_info(repo_id, revision=revision)
        except errors.RevisionNotFoundError:
            is_branch = False  # it will start from main
    files = frozenset(file.rfilename for file in info.siblings or ())
    others = sorted(name for name in files if _OF_A_MODEL.fullmatch(name))
    if others and not overwrite and not _is_ours(api, repo_id, info):
        raise InputError(
            f"{repo_id} has another model ({', '.join(others)}); give another repo_id, or "
            "overwrite=True to replace it",
            field=("repo_id", "overwrite="),
        )
    return _Existing(files=files, commit=info.sha, is_branch=is_branch)


def _is_ours(api: Any, repo_id: str, info: Any) -> bool:
    """Whether the model is a bundle, by its card, or by its file if the card is not ours."""
    if (info.card_data or {}).get("library_name") == LIBRARY:
        return True
    errors = require("huggingface_hub.errors", "pushing")
    files = {file.rfilename for file in info.siblings or ()}
    for name in files & {BUNDLE, MODEL}:
        with suppress(errors.SafetensorsParsingError, struct.error):  # is not safetensors
            header = api.parse_safetensors_file_metadata(repo_id, name, revision=info.sha)
            if DOCUMENT in header.metadata:
                return True
    return False


def _card_is_edited(api: Any, repo_id: str, found: _Existing) -> bool:
    """Whether there is a model card without our mark."""
    if CARD not in found.files:
        return False
    path = api.hf_hub_download(repo_id, CARD, revision=found.commit)
    return MARK not in Path(path).read_text(encoding="utf-8", errors="replace")


@contextmanager
def _refusals(repo_id: str) -> Iterator[None]:
    """Turn the errors of huggingface_hub into one line."""
    errors = require("huggingface_hub.errors", "pushing")
    # The errors of the HTTP library, which differs between major versions.
    http = errors.HfHubHTTPError.__mro__[1]
    try:
        yield
    except InputError:
        raise
    except (http, OSError, RuntimeError, ValueError) as error:
        # An upload's error is the cause of a RuntimeError.
        first = error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error
        status = getattr(getattr(first, "response", None), "status_code", None)
        said = getattr(first, "server_message", None) or reason(first)
        if not isinstance(first, http | OSError):
            said = str(first)
        if status == 401 or isinstance(first, errors.LocalTokenNotFoundError):
            text = "the Hub requires a login; run `hf auth login`, or set HF_TOKEN"
        elif status == 403:
            text = f"the token may not write there ({said}); give one with write access"
        elif isinstance(first, errors.RevisionNotFoundError):
            text = "the repository has no such revision; give the name of a branch"
        elif status in (409, 412):
            text = f"the repository has changed meanwhile ({said}); push again"
        elif status is None and isinstance(first, http):
            text = f"the server cannot be reached ({said})"
        else:
            text = said
        raise InputError(f"{repo_id} was not pushed: {' '.join(text.split())}") from None
