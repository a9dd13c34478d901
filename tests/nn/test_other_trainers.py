"""The module in other trainers: skorch and Lightning, on digits."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import numpy.typing as npt
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from skorch import NeuralNetClassifier
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

import resnetkit

#: A small ResNet-20.
SMALL: dict[str, Any] = {
    "depths": (1, 1), "widths": (8, 16), "stem_widths": (8,), "num_classes": 10, "in_chans": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def digits() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    images, labels = load_digits(return_X_y=True)
    return (images / 16 - 0.305).astype(np.float32).reshape(-1, 1, 8, 8), labels


def net(**changed: Any) -> NeuralNetClassifier:
    options = {
        "module": resnetkit.build,
        "module__name": "resnet20",
        **{f"module__{name}": value for name, value in SMALL.items()},
        "criterion": torch.nn.CrossEntropyLoss,
        "optimizer": torch.optim.AdamW,
        "lr": 0.01,
        "max_epochs": 5,
        "batch_size": 32,
        "verbose": 0,
        "train_split": None,
    }
    return NeuralNetClassifier(**{**options, **changed})


def test_skorch_trains_the_module(
    digits: tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]], tmp_path: Path
) -> None:
    images, labels = digits
    torch.manual_seed(0)
    found = net().fit(images[:1000], labels[:1000])
    assert found.score(images[1000:], labels[1000:]) > 0.85
    shares = found.predict_proba(images[1000:1010])
    assert shares.sum(axis=1) == pytest.approx(np.ones(10), abs=1e-5)
    # Weights saved by skorch are those of the network; a bundle can be made of the module.
    found.save_params(f_params=tmp_path / "weights.pt")
    again = net().initialize()
    again.load_params(f_params=tmp_path / "weights.pt")
    assert (again.predict_proba(images[1000:1010]) == shares).all()
    bundle = resnetkit.Bundle.from_module(
        found.module_,
        preprocess=resnetkit.Preprocess(size=8, channels="L", mean=(0.305,), std=(1.0,)),
    )
    pixels = np.round((images[1000:1010, 0] + 0.305) * 255).astype(np.uint8)
    labels_of = [one.label for one in bundle.predict(list(pixels), engine="torch")]
    assert labels_of == [str(number) for number in shares.argmax(axis=1)]


def test_skorch_searches_options_of_the_network(
    digits: tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]],
) -> None:
    images, labels = digits
    torch.manual_seed(0)
    grid = {"module__widths": [(8, 8), (8, 16)], "max_epochs": [1]}
    search = GridSearchCV(net(), grid, cv=2, error_score="raise").fit(images[:300], labels[:300])
    network = search.best_estimator_.module_.network
    assert network.options.widths == search.best_params_["module__widths"]
    # The class itself takes a description.
    described = resnetkit.network("resnet20", **SMALL)
    other = NeuralNetClassifier(
        resnetkit.ResNet, module__network=described, criterion=torch.nn.CrossEntropyLoss,
        max_epochs=1, train_split=None, verbose=0,
    )  # fmt: skip
    other = clone(other).fit(images[:64], labels[:64])
    assert other.module_.network == described


class Classifier(lightning.LightningModule):
    """The module, its loss and its optimizer."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.module = resnetkit.build("resnet20", **options)
        self.losses: list[float] = []

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        images, labels = batch
        loss = torch.nn.functional.cross_entropy(self.module(images), labels)
        self.log("loss", loss)
        self.losses.append(loss.item())
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=0.01)


def test_lightning_trains_the_module(
    digits: tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]], tmp_path: Path
) -> None:
    images, labels = map(torch.from_numpy, digits)
    lightning.seed_everything(0, verbose=False)
    module = Classifier(**SMALL)
    loader = DataLoader(TensorDataset(images[:1440], labels[:1440]), batch_size=32, shuffle=True)
    with warnings.catch_warnings():
        # Its own deprecations, and advice about this machine.
        warnings.filterwarnings("ignore", module=r"lightning\.")
        trainer = lightning.Trainer(
            max_epochs=1, accelerator="cpu", default_root_dir=tmp_path, logger=False,
            enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(module, loader)
        path = trainer.checkpoint_callback.best_model_path
        restored = Classifier.load_from_checkpoint(path, weights_only=True)
    assert len(module.losses) == 45
    assert np.mean(module.losses[-9:]) < 0.5 * np.mean(module.losses[:9])
    # A checkpoint of Lightning is restored by Lightning, and identified and loaded by us.
    assert restored.module.network == module.module.network
    bundle = resnetkit.load(path)
    assert bundle.network.options.depths == (1, 1)
    state = module.module.state_dict()
    assert all(torch.equal(bundle.arrays[name].cpu(), state[name].cpu()) for name in bundle.arrays)
