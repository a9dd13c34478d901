"""A scikit-learn estimator that trains networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_consistent_length, check_random_state, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from resnetkit.architecture import registry
from resnetkit.architecture.network import Network
from resnetkit.bundle.bundle import Bundle
from resnetkit.bundle.bundle import load as load_bundle
from resnetkit.data.datasets.in_memory import in_memory
from resnetkit.data.decoding.decode import Image, UnreadableImageError
from resnetkit.errors import InputError
from resnetkit.hub.weights import load
from resnetkit.inference.engines.selection import open_engine
from resnetkit.inference.prediction import predict_batches
from resnetkit.training.array_images import (
    Shape,
    check_range,
    check_shape,
    range_of,
    shape_for,
    to_images,
    warn_of_scale,
)
from resnetkit.training.callbacks import Callback, Callbacks
from resnetkit.training.recipe.published import named
from resnetkit.training.recipe_defaults import MODEL, SMALL_MODEL, make_recipe
from resnetkit.training.run import run_recipe
from resnetkit.training.run_folder import BEST

#: Images above this size are trained with a network for photographs.
_SMALL = 64
#: Images in a step of a prediction; always the same, as sums depend on it.
_BATCH = 64
#: What ``make_recipe`` is given beside the options.
_PARAMETERS = {"augment", "data", "device", "model", "pretrained", "recipe", "size"}


class ResNetClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A network as a scikit-learn classifier, trained as by ``train``.

    ``X`` are images ``(N, H, W)`` or ``(N, H, W, C)`` with 1 or 3 channels, or their pixels in rows
    ``(N, H * W * C)``, or a list of paths, encoded bytes or PIL images of any sizes. Rows have the
    shape ``image_shape``, by default square and grey; missing pixels at the end are black,
    with a warning. Networks take 8-bit images: uint8 is used as it is, other numbers are scaled so
    that ``value_range``, by default the smallest and the largest value in ``fit``, becomes 0 to
    255; values outside are clipped. Without ``value_range``, images to predict must have integers
    if those in ``fit`` had, and there is a warning for another scale.

    ``network`` defaults to ``resnet20`` for images of up to 64 pixels, else ``resnet18``;
    ``pretrained`` are weights to start from, as in ``load``, and determine the network. ``epochs``,
    ``batch_size``, ``lr``, ``size``, ``augment``, ``recipe`` (a published one by name, or a TOML
    file, e.g. the ``recipe.toml`` of a run) and ``device`` are as in ``train``; ``options`` has
    other options of the recipe, e.g. ``{"weight_decay": 1e-4, "threads": 1}``. ``validation`` is
    the share of the images held out to choose the best epoch; 0 keeps the last one. ``out`` is a
    new folder for the run, by default a temporary one; ``overwrite`` removes an earlier run.
    ``callbacks`` are called during training. ``random_state`` is the seed of weights, order and
    augmentation; an integer makes fits reproducible.

    After ``fit``: ``classes_``, ``n_features_in_`` and ``feature_names_in_`` (not of lists of
    files); ``bundle_``, to save or to ``export``, whose classes are ``str(c)`` of ``classes_``;
    ``history_``, a dict for each epoch as in ``log.jsonl``; ``result_``, which ``train`` returns,
    whose folder is gone if it was temporary; ``image_shape_`` and ``value_range_``.

    Raises ``ValueError`` for invalid data and parameters.

    >>> from sklearn.datasets import load_digits
    >>> X, y = load_digits(return_X_y=True)
    >>> classifier = resnetkit.ResNetClassifier(epochs=2, random_state=0).fit(X[:500], y[:500])
    >>> classifier.predict_proba(X[500:502]).shape
    (2, 10)
    """

    def __init__(
        self,
        network: str | Network | None = None,
        *,
        epochs: int | None = None,
        batch_size: int | None = None,
        lr: float | None = None,
        size: int | None = None,
        augment: bool = True,
        recipe: str | Path | None = None,
        options: Mapping[str, Any] | None = None,
        validation: float = 0.0,
        pretrained: Bundle | str | Path | None = None,
        image_shape: tuple[int, ...] | None = None,
        value_range: tuple[float, float] | None = None,
        device: str | None = None,
        out: str | Path | None = None,
        overwrite: bool = False,
        callbacks: Sequence[Callback] | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.network = network
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.size = size
        self.augment = augment
        self.recipe = recipe
        self.options = options
        self.validation = validation
        self.pretrained = pretrained
        self.image_shape = image_shape
        self.value_range = value_range
        self.device = device
        self.out = out
        self.overwrite = overwrite
        self.callbacks = callbacks
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    def fit(self, X: Any, y: Any) -> ResNetClassifier:  # noqa: N803
        """Train on the images ``X`` with the classes ``y``, ``(N,)``; returns itself.

        Raises ``ValueError`` for fewer than two classes, and as ``train`` does.
        """
        before = dict(vars(self))
        for name in [name for name in before if name.endswith("_")]:
            delattr(self, name)
        try:
            return self._fit(X, y)
        except BaseException:
            # Nothing of another fit beside the bundle of the last one.
            self.__dict__.clear()
            self.__dict__.update(before)
            raise

    def _fit(self, X: Any, y: Any) -> ResNetClassifier:  # noqa: N803
        images, y = self._fitted(X, y)
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise InputError(f"y has one class, {self.classes_[0]}; give at least two classes")
        pretrained = self.pretrained
        if isinstance(pretrained, str | Path):
            pretrained = load(pretrained)
        dataset = in_memory(images, labels.tolist(), [str(name) for name in self.classes_])
        recipe = make_recipe(
            dataset,
            self._model() if pretrained is None else self.network,
            pretrained=pretrained,
            recipe=self.recipe,
            size=self._size(pretrained),
            augment=self.augment,
            device=self.device,
            **self._choices(len(images)),
        )
        with ExitStack() as stack:
            out = self.out
            if out is None:
                out = Path(stack.enter_context(TemporaryDirectory(prefix="resnetkit-")), "run")
            self.result_ = run_recipe(
                recipe,
                out,
                Callbacks(*self.callbacks) if self.callbacks else None,
                pretrained=pretrained,
                overwrite=self.overwrite,
                dataset=dataset,
            )
            self.bundle_ = load_bundle(Path(out) / BEST)
        self.history_ = [row.to_dict() for row in self.result_.rows]
        return self

    def predict_proba(self, X: Any) -> npt.NDArray[np.float64]:  # noqa: N803
        """The probabilities of ``classes_``, ``(N, num_classes)``.

        Raises ``ValueError`` for other images than in ``fit``, and its subclass
        ``UnreadableImageError`` for the first unreadable one.
        """
        check_is_fitted(self)
        images = self._images(X)
        bundle = self.bundle_
        engine = open_engine(bundle, "torch", device=self.device)
        logits = []
        for read, row in predict_batches(engine, bundle.preprocess, images, batch_size=_BATCH):
            if row is None:
                raise UnreadableImageError(read.name, read.problem or "")
            logits.append(row)
        shares = np.stack(logits).astype(np.float64)
        shares = np.exp(shares - shares.max(axis=1, keepdims=True))
        return np.asarray(shares / shares.sum(axis=1, keepdims=True))

    def predict(self, X: Any) -> npt.NDArray[Any]:  # noqa: N803
        """The most probable class of each image, ``(N,)``. Raises as ``predict_proba`` does."""
        best = self.predict_proba(X).argmax(axis=1)
        return np.asarray(self.classes_[best])

    def _fitted(self, X: Any, y: Any) -> tuple[Sequence[Image], npt.NDArray[Any]]:  # noqa: N803
        """The images and their classes, validated as scikit-learn does."""
        X = _without_index(X)  # noqa: N806
        if _are_files(X):
            check_consistent_length(X, y)
            self.image_shape_: Shape | None = None
            return _files(X), column_or_1d(y, warn=True)
        shape, rows = _rows(X)
        rows, y = validate_data(self, rows, y)
        given = self.image_shape
        if shape and given is not None and tuple(given) != shape:
            raise InputError(
                f"image_shape is {tuple(given)}, and X has images of {shape}; leave it out",
                field="image_shape",
            )
        self.image_shape_ = shape or shape_for(rows.shape[1], given)
        limits = self.value_range
        self.value_range_ = range_of(rows) if limits is None else check_range(limits)
        self._has_integers = _has_integers(rows)
        return list(to_images(rows, self.image_shape_, self.value_range_)), y

    def _images(self, X: Any) -> Sequence[Image]:  # noqa: N803
        """The images to predict, in the form of those in ``fit``."""
        X = _without_index(X)  # noqa: N806
        if self.image_shape_ is None:
            if not _are_files(X):
                raise InputError("X must be a list of paths, encoded bytes or PIL images as in fit")
            return _files(X)
        shape, rows = _rows(X)
        if shape is not None and shape != self.image_shape_:
            raise InputError(f"X has images of {shape}, and in fit they were {self.image_shape_}")
        rows = validate_data(self, rows, reset=False)
        if self.value_range is None:
            if _has_integers(rows) != self._has_integers:
                kinds = ("integers", "floats")
                given, fitted = kinds if _has_integers(rows) else kinds[::-1]
                raise InputError(
                    f"X has {given}, and in fit they were {fitted}, perhaps of another scale; give "
                    "the same type, or value_range"
                )
            warn_of_scale(rows, self.value_range_)
        return list(to_images(rows, self.image_shape_, self.value_range_))

    def _model(self) -> str | Network | None:
        if self.network is not None or self._has_file():
            return self.network
        small = self.image_shape_ is not None and max(self.image_shape_[:2]) <= _SMALL
        return SMALL_MODEL if small else MODEL

    def _size(self, pretrained: Bundle | None) -> int | None:
        """The side of the network's input: that of the images, and enough for its stride."""
        model = self._model()
        if self.size is not None or model is None or self.image_shape_ is None or pretrained:
            return self.size
        stride = registry.network(model).options.natural_stride
        return max(16 if stride <= 8 else 32, *self.image_shape_[:2])

    def _has_file(self) -> bool:
        """Whether the recipe is a file, which may have a network and a size."""
        return self.recipe is not None and isinstance(named(self.recipe), dict)

    def _choices(self, images: int) -> dict[str, Any]:
        """The options of the recipe."""
        seed = self.random_state
        if seed is None or not isinstance(seed, int | np.integer):
            seed = check_random_state(seed).randint(1 << 31)
        batch_size = self.batch_size
        if batch_size is None and self.recipe is None:
            # About eight steps per epoch, so that the norms' statistics keep up with the weights.
            trained = images * (1 - self.validation)
            batch_size = next((n for n in (64, 32, 16, 8) if 8 * n <= trained), min(4, images))
        given = {
            "epochs": self.epochs,
            "batch_size": batch_size,
            "lr": self.lr,
            "seed": int(seed),
            "validation": self.validation,
            "test": 0.0,
        }
        options = dict(self.options or {})
        twice = sorted((given.keys() | _PARAMETERS) & options.keys())
        if twice:
            raise InputError(
                f"options has {twice[0]}, which is a parameter or held back by cross-validation; "
                "leave it out"
            )
        return given | options


def _without_index(images: Any) -> Any:
    """The values of a series of files."""
    is_series = hasattr(images, "to_numpy") and len(getattr(images, "shape", ())) == 1
    return images.to_numpy() if is_series else images


def _has_integers(rows: npt.NDArray[Any]) -> bool:
    return rows.dtype.kind in "biu"


def _are_files(images: Any) -> bool:
    """Whether these are paths, encoded bytes or PIL images, judged by the first."""
    if isinstance(images, np.ndarray):
        images = images if images.ndim == 1 else []
    if not isinstance(images, Sequence | np.ndarray) or not len(images):
        return False
    return isinstance(images[0], str | Path | bytes | PIL.Image.Image)


def _files(images: Any) -> list[Image]:
    return [Path(image) if isinstance(image, str) else image for image in images]


def _rows(images: Any) -> tuple[Shape | None, Any]:
    """The shape of images, None if they are rows already, and their pixels in rows."""
    if isinstance(images, list | tuple):
        images = np.asarray(images)
    shape = tuple(getattr(images, "shape", ()))
    if len(shape) < 3:
        return None, images
    check_shape(shape[1:], "X has images of")
    return shape[1:], np.asarray(images).reshape(len(images), -1)
