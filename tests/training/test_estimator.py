"""ResNetClassifier with scikit-learn: its estimator checks, pipelines, searches; and what it
trains is what ``train`` trains."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import PIL.Image
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

import resnetkit
from resnetkit import ResNetClassifier
from resnetkit.data.datasets.in_memory import in_memory
from resnetkit.errors import AssumptionWarning, InputError
from resnetkit.training.array_images import to_images
from resnetkit.training.recipe_defaults import make_recipe
from resnetkit.training.run import run_recipe

SMALL = resnetkit.network("resnet20", depths=(1, 1), widths=(8, 16), stem_widths=(8,))
FEW: dict[str, Any] = {
    "network": SMALL,
    "epochs": 2,
    "size": 8,
    "options": {"threads": 1, "precision": "fp32"},
    "random_state": 0,
}
X, Y = load_digits(return_X_y=True)
X, Y = X[:200], Y[:200]
#: All of scikit-learn's checks but one, of estimators that compute on other libraries' arrays: it
#: skips itself unless an environment variable is set.
CHECKS = [
    pytest.param(estimator, check, id=f"{number}-{check.func.__name__}")
    for number, (estimator, check) in enumerate(
        estimator_checks_generator(
            ResNetClassifier(**{**FEW, "epochs": 4, "random_state": None}, lr=0.1)
        )
    )
    if check.func.__name__ != "check_array_api_input"
]


@pytest.mark.filterwarnings("ignore:X has:resnetkit.errors.AssumptionWarning")
@pytest.mark.slow
@pytest.mark.parametrize(("estimator", "check"), CHECKS)
def test_estimator_checks(estimator: ResNetClassifier, check: Callable[[Any], None]) -> None:
    """None is expected to fail."""
    check(estimator)


def test_the_default_learns() -> None:
    digits, labels = load_digits(return_X_y=True)
    classifier = ResNetClassifier(epochs=5, random_state=0, options={"threads": 1})
    classifier.fit(digits[:600], labels[:600])
    assert classifier.score(digits[600:900], labels[600:900]) > 0.9
    assert classifier.bundle_.network.name == "resnet20"
    assert classifier.bundle_.preprocess.size == 16
    assert classifier.image_shape_ == (8, 8)
    assert classifier.value_range_ == (0, 16)
    assert [line["epoch"] for line in classifier.history_] == [1, 2, 3, 4, 5]
    assert classifier.history_[4]["loss"] < classifier.history_[0]["loss"]
    assert not classifier.result_.folder.exists()


def test_it_is_the_training_of_train(tmp_path: Path) -> None:
    """The same recipe gives the same weights."""
    names = np.array(list("abcdefghij"))[Y]
    classifier = ResNetClassifier(**FEW, out=tmp_path / "run", validation=0.2).fit(X, names)
    images = list(np.round(X * 255 / 16).astype(np.uint8).reshape(-1, 8, 8))
    dataset = in_memory(images, Y.tolist(), list("abcdefghij"))
    recipe = make_recipe(
        dataset, SMALL, epochs=2, size=8, batch_size=16, seed=0, validation=0.2, test=0.0,
        threads=1, precision="fp32",
    )  # fmt: skip
    assert recipe == classifier.result_.recipe
    result = run_recipe(recipe, tmp_path / "other", dataset=dataset)
    other = resnetkit.load(tmp_path / "other" / "best.safetensors")
    assert other.digest == classifier.bundle_.digest
    assert result.part == "validation"
    assert resnetkit.load(tmp_path / "run" / "best.safetensors").digest == other.digest
    # The bundle gives the same answers to 8-bit images.
    found = other.predict(images[:9], engine="torch", topk=1)
    assert [one.label for one in found] == classifier.predict(X[:9]).tolist()
    shares = classifier.predict_proba(X[:9]).max(axis=1)
    assert [one.probability for one in found] == pytest.approx(shares.tolist(), abs=1e-6)
    # Its images are gone, and both say so.
    with pytest.raises(InputError, match="cannot be resumed"):
        resnetkit.resume(tmp_path / "run")
    with pytest.raises(InputError, match="already contains a run"):
        classifier.fit(X, names)
    classifier.set_params(overwrite=True).fit(X, names)


def test_seeds() -> None:
    def weights(**changed: Any) -> npt.NDArray[Any]:
        fitted = ResNetClassifier(**{**FEW, **changed}).fit(X, Y)
        return fitted.bundle_.numbers["fc.weight"]

    first = weights()
    assert (first == weights()).all()
    assert not (first == weights(random_state=1)).all()
    np.random.seed(3)
    by_global = weights(random_state=None)
    assert (by_global == weights(random_state=np.random.RandomState(3))).all()


def test_pipelines_searches_and_pickles() -> None:
    pipeline = make_pipeline(MinMaxScaler(), ResNetClassifier(**FEW))
    scores = cross_val_score(pipeline, X, Y, cv=2)
    assert scores.shape == (2,)
    search = GridSearchCV(
        ResNetClassifier(**FEW), {"lr": [1e-6, 0.05], "epochs": [4]}, cv=2, error_score="raise"
    ).fit(X, Y)
    assert search.best_params_["lr"] == 0.05
    best = search.best_estimator_
    copy = pickle.loads(pickle.dumps(best))
    assert (copy.predict_proba(X) == best.predict_proba(X)).all()
    assert copy.bundle_.digest == best.bundle_.digest
    fresh = clone(best)
    assert fresh.get_params() == best.get_params()
    assert not hasattr(fresh, "bundle_")


def test_images_of_any_form(tmp_path: Path) -> None:
    """Rows, grey and colour images: the same pixels, the same network."""
    grey = np.round(X * 255 / 16).astype(np.uint8)
    rows = ResNetClassifier(**FEW).fit(grey, Y)
    assert rows.value_range_ == (0, 255)
    for images in (grey.reshape(-1, 8, 8), grey.reshape(-1, 8, 8, 1)):
        fitted = ResNetClassifier(**FEW).fit(images, Y)
        assert fitted.bundle_.digest == rows.bundle_.digest
        assert (fitted.predict(images) == rows.predict(grey)).all()
        assert fitted.n_features_in_ == 64
        assert (fitted.predict(list(images[:3])) == rows.predict(grey[:3])).all()
    colour = np.stack([grey, 255 - grey, grey], -1)
    fitted = ResNetClassifier(**FEW).fit(colour.reshape(-1, 8, 8, 3), Y)
    assert fitted.bundle_.network.options.in_chans == 3
    same = ResNetClassifier(**FEW, image_shape=(8, 8, 3)).fit(colour.reshape(-1, 192), Y)
    assert same.bundle_.digest == fitted.bundle_.digest
    with pytest.raises(
        InputError, match=r"X has images of \(8, 8\), and in fit they were \(8, 8, 3\)"
    ):
        fitted.predict(grey.reshape(-1, 8, 8))
    with pytest.raises(InputError, match=r"X has images of \(8, 8, 4\); it must be \(H, W\) or"):
        fitted.fit(np.zeros((3, 8, 8, 4)), [0, 1, 1])
    # Nothing of images that are not square is cut off.
    wide = ResNetClassifier(**FEW, image_shape=(4, 16)).fit(X, Y)
    assert wide.bundle_.preprocess.resize == "squash"


def test_files_and_pictures(tmp_path: Path) -> None:
    grey = np.round(X * 255 / 16).astype(np.uint8).reshape(-1, 8, 8)
    pictures = [PIL.Image.fromarray(image).resize((40, 40)) for image in grey]
    paths = []
    for number, picture in enumerate(pictures):
        picture.save(tmp_path / f"{number}.png")
        paths.append(str(tmp_path / f"{number}.png"))
    options = {**FEW, "size": 32, "epochs": 1}
    by_path = ResNetClassifier(**options).fit(paths, Y)
    assert by_path.bundle_.network.options.in_chans == 3
    assert not hasattr(by_path, "n_features_in_")
    encoded = [Path(path).read_bytes() for path in paths]
    for images in (pictures, encoded, np.array(paths), pd.Series(paths, index=Y)):
        fitted = ResNetClassifier(**options).fit(images, Y)
        assert fitted.bundle_.digest == by_path.bundle_.digest
        few = images.iloc[:9] if isinstance(images, pd.Series) else images[:9]
        assert (fitted.predict_proba(few) == by_path.predict_proba(paths[:9])).all()
    with pytest.raises(InputError, match="must be a list of paths"):
        by_path.predict(X)
    (tmp_path / "0.png").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"0\.png"):
        by_path.predict(paths[:2])
    with pytest.warns(UserWarning, match=r"skipped 0, .*0\.png|cannot be read and are skipped"):
        ResNetClassifier(**options).fit(paths, Y)


def test_pretrained_weights_recipes_and_callbacks(tmp_path: Path) -> None:
    first = ResNetClassifier(**FEW).fit(X, Y)
    first.bundle_.save(tmp_path / "first.safetensors")
    options = {**FEW, "network": None, "size": None}
    further = ResNetClassifier(**options, pretrained=tmp_path / "first.safetensors").fit(X, Y)
    assert further.bundle_.network.options == first.bundle_.network.options
    assert further.result_.recipe.optimizer.lr < first.result_.recipe.optimizer.lr
    rows = []

    class Kept(resnetkit.Callback):
        def epoch(self, row: Any) -> None:
            rows.append(row.epoch)

    fitted = ResNetClassifier(**FEW, recipe="a3", augment=False, callbacks=[Kept()]).fit(X, Y)
    assert fitted.result_.recipe.optimizer.name == "lamb"
    assert fitted.result_.recipe.augment == resnetkit.Augment()
    assert rows == [1, 2]
    # A file has network and size.
    (tmp_path / "recipe.toml").write_text(first.result_.recipe.to_toml())
    again = ResNetClassifier(recipe=tmp_path / "recipe.toml", random_state=0).fit(X, Y)
    assert again.bundle_.digest == first.bundle_.digest
    (tmp_path / "part.toml").write_text("epochs = 1\n")
    part = ResNetClassifier(recipe=tmp_path / "part.toml", batch_size=100).fit(X, Y)
    assert part.bundle_.network.name == "resnet20"
    assert len(part.history_) == 1


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"options": {"lr": 1.0}}, "options has lr, which is a parameter"),
        ({"options": {"size": 16}}, "options has size, which is a parameter"),
        ({"options": {"model": "resnet18"}}, "options has model, which is a parameter"),
        ({"options": {"learning": 1.0}}, "a recipe has no field learning"),
        ({"image_shape": (8, 9)}, r"image_shape is \(8, 9\), 72 values, and X has 64 features"),
        ({"image_shape": (64,)}, r"image_shape is \(64,\); it must be \(H, W\) or"),
        ({"value_range": (1, 1)}, r"value_range is \(1, 1\); give the lower value first"),
        ({"value_range": (0,)}, r"value_range is \(0,\); it must be two numbers"),
        ({"value_range": 1}, "value_range is 1; it must be two numbers"),
        ({"batch_size": 1000}, "batch_size is 1000; it must be at most 200"),
        ({"network": "resnet21"}, "resnet21"),
        ({"pretrained": "nothing.safetensors"}, "nothing.safetensors does not exist"),
    ],
)
def test_what_is_not_allowed(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ResNetClassifier(**{**FEW, **changed}).fit(X, Y)


def test_another_scale_is_not_silent() -> None:
    grey = np.round(X * 255 / 16).astype(np.uint8)
    fitted = ResNetClassifier(**FEW).fit(grey, Y)
    with pytest.raises(InputError, match="X has floats, and in fit they were integers"):
        fitted.score(grey / 255.0, Y)
    with pytest.warns(AssumptionWarning, match=r"from 0 to 1, and in fit they were from 0 to 255"):
        fitted.predict(np.minimum(grey, 1))
    assert fitted.predict(grey[:1]).shape == (1,)
    fitted = ResNetClassifier(**FEW).fit(grey / 255.0, Y)
    with pytest.raises(InputError, match="X has integers, and in fit they were floats"):
        fitted.predict(grey)
    with pytest.warns(AssumptionWarning, match=r"from 0 to 255, .* are clipped; scale X as in"):
        fitted.predict(grey.astype(float))
    fitted.predict(grey[:9] / 250.0)  # a few values are just outside
    # A given range is that of all images.
    fitted = ResNetClassifier(**FEW, value_range=(0, 16)).fit(X, Y)
    assert (fitted.predict(X.astype(int)) == fitted.predict(X)).all()
    fitted.predict(X * 9)


def test_rows_of_no_square_are_not_silent() -> None:
    rows = np.tile(X, 3)
    message = r"X has 192 features, .* grey images of 14x14 pixels, the last 4 black; .*\(8, 8, 3\)"
    with pytest.warns(AssumptionWarning, match=message):
        assert ResNetClassifier(**FEW).fit(rows, Y).image_shape_ == (14, 14)
    ResNetClassifier(**FEW, image_shape=(8, 8, 3)).fit(rows, Y)


def test_a_shape_of_other_images_is_not_ignored() -> None:
    images = X.reshape(-1, 8, 8)
    ResNetClassifier(**FEW, image_shape=(8, 8)).fit(images, Y)
    with pytest.raises(InputError, match=r"image_shape is \(4, 16\), and X has images of \(8, 8\)"):
        ResNetClassifier(**FEW, image_shape=(4, 16)).fit(images, Y)


def test_a_fit_that_fails_changes_nothing() -> None:
    classifier = ResNetClassifier(**FEW).fit(X, Y)
    before = dict(vars(classifier))
    for images, classes in ((X[:, :36], Y), (X * 2, np.zeros(len(Y))), (X, Y.astype(str))):
        classifier.set_params(batch_size=1000)
        with pytest.raises(InputError):
            classifier.fit(images, classes)
        classifier.set_params(batch_size=None)
        assert vars(classifier) == before
    assert classifier.classes_[classifier.predict_proba(X[:1]).argmax()] in range(10)


def test_numbers_become_pixels() -> None:
    found = to_images(np.array([[-1.0, 0.0, 0.5, 1.0, 9.0]]), (2, 3), (0.0, 1.0))
    assert found.tolist() == [[[0, 0, 128], [255, 255, 0]]]
    assert found.dtype == np.uint8
    every = np.arange(256, dtype=np.uint8)[None]
    assert (to_images(every, (16, 16), (0.0, 255.0)).ravel() == every).all()
