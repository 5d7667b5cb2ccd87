"""Publishing to the Hub and fetching from it.

Whatever goes up, goes up as one commit or not at all; no damaged file stays in the cache.
"""

import contextlib
import dataclasses
import fnmatch
import hashlib
import os
import re
import shutil
import tempfile
import time
from pathlib import Path

from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    get_token,
    snapshot_download,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import validate_repo_id

# Files that go along with a model that is published again.
_COMPANIONS = ("README.md", "LICENSE", "evaluation.json", "*.jpg", "*.png", "*.webp")
# Files of a repository that go when a model is published: with new weights, those under other names
# and ONNX files made of the old ones would be another model's.
_MODEL_FILES = ("unet/*", "scheduler/*", "*.onnx")
_CARD = """---
library_name: diffusers
pipeline_tag: image-to-image
tags: [colorization]
---

# {repo_id}

Gives black-and-white photographs colours. They are believable, and invented.

```python
from pipeline_colorize import ColorizationPipeline

pipe = ColorizationPipeline.from_pretrained("{repo_id}")
pipe(image).images[0].save("colorized.png")
```

The terms of its training pictures apply to a model: state them here.
"""

# What httpx raises when a connection breaks; the client brings httpx under one name or another.
_HTTPError: type[Exception] = HfHubHTTPError.__mro__[1]
_PASSING = (429, 500, 502, 503, 504)
_REASONS = {
    401: "the Hub does not accept the token; set HF_TOKEN or run `hf auth login`",
    403: "the token may not write there",
    404: "the Hub has no such repository that this token may see",
    429: "the Hub asks for a pause (too many requests); try again in some minutes",
}


def _status(error: BaseException) -> int | None:
    """Find the HTTP status behind an error of the client."""
    for one in (error, error.__cause__):
        response = getattr(one, "response", None)
        if response is not None:
            return response.status_code
    return None


def _patiently(call, *args, **options):
    """Call a function up to five times, while its errors are of the kind that passes."""
    for wait in (1, 2, 4, 8, None):
        try:
            return call(*args, **options)
        except (OSError, _HTTPError) as error:
            broken = isinstance(error, _HTTPError) and _status(error) is None
            if wait is None or not (broken or _status(error) in _PASSING):
                raise
        time.sleep(wait)


def _reason(error: BaseException, token: str | None) -> str:
    """Say in one line what is wrong, without the token."""
    status = _status(error)
    if isinstance(error, LocalTokenNotFoundError):
        return "there is no token; set HF_TOKEN or run `hf auth login`"
    if isinstance(error, RepositoryNotFoundError) and status != 401:
        status = 404
    if status is not None and status >= 500:
        return f"the Hub itself has a fault ({status}); try again later"
    if status in _REASONS:
        return _REASONS[status]
    line = " ".join(f"{type(error).__name__}: {error}".split())
    if status is None and isinstance(error, _HTTPError):
        line = f"the connection to the Hub broke ({line}); try again later"
    secret = token or get_token()
    return line.replace(secret, "***") if secret else line


@contextlib.contextmanager
def _clear_errors(what: list[str], token: str | None, keep: tuple[type[Exception], ...] = ()):
    """Turn errors of the client, but for those in `keep`, into an OSError: `what` and a reason."""
    try:
        yield
    except keep:
        raise
    except (_HTTPError, LocalTokenNotFoundError) as error:
        raise OSError(f"{what[-1]}: {_reason(error, token)}.") from None
    except RuntimeError as error:  # of an upload, with what happened behind it
        cause = error.__cause__
        if not isinstance(cause, _HTTPError):
            raise
        line = f"{what[-1]}: {_reason(cause, token)}. {error}"
        raise OSError(line) from None


# --- publishing -----------------------------------------------------------------------------------


def _checksums(path: Path) -> tuple[str, str]:
    """Compute git's name of a file (a SHA-1), and its SHA-256, the Hub's for large ones."""
    git, sha256 = hashlib.sha1(b"blob %d\0" % path.stat().st_size), hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            git.update(chunk)
            sha256.update(chunk)
    return git.hexdigest(), sha256.hexdigest()


def _local_files(folder: Path) -> dict[str, Path]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path for path in files}


def full_name(repo_id: str, token: str | None = None) -> str:
    """Complete "name" to "user/name" by the token, which is checked by this.

    Raises:
        OSError: one line about what is wrong, such as a token that the Hub does not accept, or a
            name that no repository can have.
    """
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise OSError(f"{repo_id} was not published: {error}") from None
    with _clear_errors([f"{repo_id} was not published"], token):
        user = _patiently(HfApi(token=token).whoami)["name"]
    return repo_id if "/" in repo_id else f"{user}/{repo_id}"


def address_card(card: Path, repo_id: str) -> None:
    """Write the name of a repository into the lines of a card that show how to load the model."""
    text = card.read_text("utf-8")
    text = re.sub(r'from_pretrained\("[^"]*"', f'from_pretrained("{repo_id}"', text)
    card.write_text(text, "utf-8")


@dataclasses.dataclass(frozen=True)
class PublishOptions:
    """What becomes of a folder on the Hub.

    Args:
        repo_type: "model", "dataset" or "space".
        space_sdk: of a Space, such as "gradio".
        private: whether a repository that is made for this is private; `None` leaves that to the
            Hub.
        skip: names of files of the folder that do not go up.
        keep: names of files that stay as they are where the repository has them.
        replace: patterns of files of the repository that go where the folder lacks them.
        tag: name of the version.
        create_pr: propose the commit in place of making it.
    """

    repo_type: str = "model"
    space_sdk: str | None = None
    private: bool | None = None
    skip: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    replace: tuple[str, ...] = ()
    tag: str | None = None
    create_pr: bool = False


class _Upload:
    """What `publish` does, step by step."""

    def __init__(self, folder, repo_id: str, options: PublishOptions, token: str | None):
        self.api, self.repo_id, self.options = HfApi(token=token), repo_id, options
        self.kind = {"repo_type": options.repo_type}
        self.files = _local_files(Path(folder))
        for name in options.skip:
            self.files.pop(name, None)
        self.ids = {name: _checksums(path) for name, path in self.files.items()}

    def make_repository(self) -> bool:
        """Make the repository if need be; returns whether that was done."""
        try:
            _patiently(self.api.repo_info, self.repo_id, **self.kind)
            return False
        except RepositoryNotFoundError:
            options = {"space_sdk": self.options.space_sdk, "private": self.options.private}
            _patiently(self.api.create_repo, self.repo_id, exist_ok=True, **options, **self.kind)
            return True

    def delete_repository(self) -> bool:
        """Remove the repository that was just made; returns whether that was possible."""
        try:
            _patiently(self.api.delete_repo, self.repo_id, missing_ok=True, **self.kind)
        except (OSError, _HTTPError):
            return False
        return True

    def missing_in(self, revision: str | None) -> tuple[list[str], list[str]]:
        """List our files that a revision lacks or has otherwise, and its files that should go."""
        tree = _patiently(
            lambda: list(
                self.api.list_repo_tree(
                    self.repo_id,
                    recursive=True,
                    revision=revision,
                    repo_type=self.options.repo_type,
                )
            )
        )
        files = [entry for entry in tree if hasattr(entry, "blob_id")]
        there = {file.path: file.lfs.sha256 if file.lfs else file.blob_id for file in files}
        kept = [name for name in self.options.keep if name in there]
        changed = [
            name
            for name, ids in self.ids.items()
            if name not in kept and there.get(name) not in ids
        ]
        others = [name for name in there if name not in self.files and name != ".gitattributes"]
        return changed, [
            name
            for name in others
            if any(fnmatch.fnmatch(name, one) for one in self.options.replace)
        ]

    def tagged(self, tag: str) -> str | None:
        """Find the commit of a tag, which has to hold just our files; `None` if there is none."""
        refs = _patiently(self.api.list_repo_refs, self.repo_id, **self.kind).tags
        found = [ref.target_commit for ref in refs if ref.name == tag]
        if found and any(self.missing_in(found[0])):
            raise ValueError(
                f"{self.repo_id} has a version {tag} already, with other content. A version stays "
                "what it is: give another name."
            )
        return found[0] if found else None

    def commit(self, message: str) -> tuple[str, bool]:
        """Give the commit that holds our files, and whether it is new.

        A commit whose answer was lost is found by the next try, so that it is not made twice; a
        proposed one would not be.
        """
        if self.options.create_pr:
            return self._commit_once(message)
        return _patiently(self._commit_once, message)

    def _commit_once(self, message: str) -> tuple[str, bool]:
        head = _patiently(self.api.repo_info, self.repo_id, **self.kind).sha
        changed, stale = self.missing_in(None)
        if not changed and not stale:
            return head, False
        operations: list[CommitOperationAdd | CommitOperationDelete] = [
            *(CommitOperationAdd(name, self.files[name]) for name in changed),
            *(CommitOperationDelete(name) for name in stale),
        ]
        commit = self.api.create_commit(
            self.repo_id,
            operations,
            commit_message=message,
            create_pr=self.options.create_pr,
            repo_type=self.options.repo_type,
        )
        if damaged := self.missing_in(commit.oid)[0]:
            raise OSError(f"{self.repo_id}: {', '.join(damaged)} arrived damaged; push again.")
        return commit.oid, True


def publish(
    folder: str | Path,
    repo_id: str,
    message: str,
    options: PublishOptions = PublishOptions(),
    token: str | None = None,
) -> tuple[str, bool]:
    """Bring a folder to the Hub in one commit, or not at all.

    A repository that did not exist before does not exist after a failure either. What arrived is
    compared with what was sent. Files that are there already are not sent again, and where all
    are, nothing is done.

    Args:
        folder: whose files go up.
        repo_id: "user/name", or "name" for the user whom the token belongs to.
        message: one line for the history.
        options: what becomes of the folder there.
        token: in place of the one that HF_TOKEN or `hf auth login` gives.

    Returns:
        "user/name@commit", and whether that commit is new.

    Raises:
        OSError: one line about what went wrong on the way; the token is not in it.
        ValueError: if the tag names other content already, or the card's front matter is wrong.
    """
    repo_id = full_name(repo_id, token)
    upload, tag = _Upload(folder, repo_id, options, token), options.tag
    what = [f"{repo_id} was not published"]
    with _clear_errors(what, token):
        made = upload.make_repository()
        try:
            commit = upload.tagged(tag) if tag and not made else None
            commit, new = (commit, False) if commit else upload.commit(message)
        except BaseException:
            if made and not upload.delete_repository():
                what.append(f"{what[0]}, and an empty repository was left")
            raise
        if tag:
            what.append(f"{repo_id} was published, but not yet named {tag}; push again for that")
            named = {"tag": tag, "revision": commit, "exist_ok": True, **upload.kind}
            _patiently(upload.api.create_tag, upload.repo_id, **named)
    return f"{upload.repo_id}@{commit}", new


# --- a model ------------------------------------------------------------------------------------


def publish_model(
    folder: str | Path,
    repo_id: str,
    message: str,
    generated_card: bool,
    variant: str | None = None,
    private: bool | None = None,
    token: str | None = None,
    create_pr: bool = False,
) -> tuple[str, bool]:
    """Bring a model's folder to the Hub; the pipeline and the trainer both follow this rule.

    Weights, schedulers and ONNX files that the folder lacks go from the repository, since they
    belong to another model. A card that somebody wrote there stays if the folder's card was only
    generated.

    Args:
        folder: as `save_pretrained` makes it.
        repo_id: "user/name".
        message: one line for the history.
        generated_card: whether the README.md of the folder was written by a program.
        variant: replace the weights of this name alone.
        private: whether a repository that is made for this is private.
        token: as of `publish`.
        create_pr: propose the commit in place of making it.

    Returns:
        "user/name@commit", and whether that commit is new.
    """
    replace = (f"unet/*.{variant}*",) if variant else _MODEL_FILES
    keep = ("README.md",) if generated_card else ()
    options = PublishOptions(private=private, keep=keep, replace=replace, create_pr=create_pr)
    return publish(folder, repo_id, message, options, token)


def publish_pipeline(
    pipe,
    repo_id: str,
    commit_message: str | None = None,
    private: bool | None = None,
    token: str | None = None,
    create_pr: bool = False,
    variant: str | None = None,
) -> str:
    """Publish a pipeline, as `ColorizationPipeline.push_to_hub` describes it."""
    repo_id = full_name(repo_id, token)
    with tempfile.TemporaryDirectory() as folder:
        pipe.save_pretrained(folder, variant=variant)
        card = Path(folder, "README.md")
        companions = _companions(pipe, repo_id, token)
        generated = "README.md" not in [file.name for file in companions]
        card.write_text(_CARD.format(repo_id=repo_id), "utf-8")
        for file in companions:
            shutil.copyfile(file, Path(folder, file.name))
        address_card(card, repo_id)
        message = commit_message or "Upload model"
        return publish_model(
            folder, repo_id, message, generated, variant, private, token, create_pr
        )[0]


def _companions(pipe, repo_id: str, token: str | None) -> list[Path]:
    """Find card, pictures and licence in the folder or repository that a pipeline came from."""
    source = str(pipe.config.get("_name_or_path") or "")
    if source and source != repo_id and not os.path.isdir(source):
        weights = Path(pipe.unet.config.get("_name_or_path") or "")
        ours = f"models--{source.replace('/', '--')}" in weights.parts
        commit = weights.parent.name if ours else None  # the network may be another's
        source = fetch(source, list(_COMPANIONS), {"revision": commit, "token": token})
    if not os.path.isdir(source):
        return []
    return [file for pattern in _COMPANIONS for file in sorted(Path(source).glob(pattern))]


# --- fetching -------------------------------------------------------------------------------------


def _is_damaged(path: Path) -> bool:
    """Compare a file of the cache with the checksum in its name: a SHA-256, or git's SHA-1."""
    if not path.is_symlink():  # where there are no links, no checksums are kept
        return False
    # The name of the first link's target; that may be a link again, to a store for all models.
    return os.path.basename(os.readlink(path)) not in _checksums(path)


def _remove_with_target(path: Path) -> None:
    while path.is_symlink():
        target = path.parent / os.readlink(path)
        path.unlink()
        path = target
    path.unlink(missing_ok=True)


def fetch(repo_id: str, patterns: list[str], options: dict) -> str:
    """Fetch the files of a repository that match; each is checked on every call.

    Args:
        repo_id: "user/name".
        patterns: of the files.
        options: of `snapshot_download`: revision, token and so on.

    Returns:
        The folder of the cache that holds them.

    Raises:
        OSError: if files cannot be had or arrived damaged; these do not stay in the cache.
    """
    keep = (RepositoryNotFoundError, RevisionNotFoundError, EntryNotFoundError)
    options = {"allow_patterns": patterns, **options}
    with _clear_errors([f"{repo_id} was not downloaded"], options.get("token"), keep):
        try:
            folder = _patiently(snapshot_download, repo_id, **options)
        except LocalEntryNotFoundError as error:
            if _status(error) is None:
                raise
            reason = _reason(error, options.get("token"))
            line = f"{repo_id} is not in the cache and was not downloaded: {reason}."
            raise LocalEntryNotFoundError(line) from None
        except _HTTPError as error:
            if _status(error) is not None:
                raise
            # The client itself takes the cache where there is no connection, not where it breaks.
            with contextlib.suppress(LocalEntryNotFoundError):
                return snapshot_download(repo_id, **{**options, "local_files_only": True})
            raise
    damaged = []
    for name, path in _local_files(Path(folder)).items():
        if _is_damaged(path):
            _remove_with_target(path)
            damaged.append(name)
    if damaged:
        raise OSError(
            f"{repo_id} arrived damaged ({', '.join(damaged)}). What was damaged has been removed "
            "from the cache: load it again."
        )
    return folder
