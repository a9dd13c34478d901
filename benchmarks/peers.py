"""Our peers, wired by hand as their own documentation does: each a function of float32 batches.

All get the same weights, of a torchvision network whose statistics are those of photographs, and
float32 pixels ``(N, 3, 224, 224)`` that are normalised already - ours have to do that themselves.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
import torch
import torchvision
from skimage import data
from torch import Tensor, nn
from torchvision.transforms import v2

Array = npt.NDArray[Any]
#: Runs so many batches of the size it was made for.
Runner = Callable[[int], None]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def photographs(count: int, size: int = 224, *, seed: int = 0) -> Array:
    """Pieces of scikit-image's photographs, uint8 ``(count, size, size, 3)``."""
    rng = np.random.default_rng(seed)
    names = ("astronaut", "chelsea", "coffee", "rocket")
    pictures = [PIL.Image.fromarray(getattr(data, name)()) for name in names]
    found = []
    for number in range(count):
        picture = pictures[number % len(pictures)]
        side = int(rng.integers(size, min(picture.size) + 1)) if min(picture.size) > size else size
        left = int(rng.integers(0, max(1, picture.width - side)))
        top = int(rng.integers(0, max(1, picture.height - side)))
        piece = picture.resize((size, size), PIL.Image.Resampling.BILINEAR,
                               box=(left, top, left + side, top + side))  # fmt: skip
        found.append(np.asarray(piece))
    return np.stack(found)


def normalised(pixels: Array) -> Tensor:
    """uint8 ``(N, H, W, 3)`` to float32 ``(N, 3, H, W)``."""
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
    return v2.functional.normalize(x.float().div_(255), list(MEAN), list(STD))


def network(name: str) -> nn.Module:
    """A torchvision network in evaluation mode, its statistics set by photographs."""
    torch.manual_seed(0)
    module = getattr(torchvision.models, name)(weights=None)
    for child in module.modules():
        if isinstance(child, nn.BatchNorm2d):
            child.momentum = None
    with torch.no_grad():
        module.train()(normalised(photographs(32, seed=1)))
    return module.eval()


def prepared(name: str, folder: Path) -> tuple[nn.Module, Any]:
    """torchvision's network and our bundle of the same weights; NAME.pth and NAME.safetensors."""
    from resnetkit import Preprocess, load

    module = network(name)
    torch.save(module.state_dict(), folder / f"{name}.pth")
    facts = {} if module.layer1[0].expansion == 1 else {"stride_on": "3x3"}
    preprocess = Preprocess(size=224, resize_to=256)
    bundle = load(folder / f"{name}.pth", preprocess=preprocess, **facts)
    bundle.save(folder / f"{name}.safetensors")
    return module, bundle


def eager(module: nn.Module, batch: int) -> Runner:
    """As the documentation's first example: ``with torch.inference_mode(): model(x)``."""
    x = normalised(photographs(batch))

    @torch.inference_mode()
    def run(times: int) -> None:
        for _ in range(times):
            module(x)

    return run


def compiled(module: nn.Module, batch: int) -> Runner:
    """``torch.compile`` on channels_last, the faster of its layouts on a CPU."""
    torch.compiler.reset()
    faster = torch.compile(module.to(memory_format=torch.channels_last))
    x = normalised(photographs(batch)).to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def run(times: int) -> None:
        for _ in range(times):
            faster(x)

    return run


def timm(name: str, module: nn.Module) -> nn.Module:
    """timm's network of that name with the same weights."""
    model: nn.Module = importlib.import_module("timm").create_model(name, pretrained=False)
    model.load_state_dict(module.state_dict())
    return model.eval()


def exported(module: nn.Module, path: Path) -> Path:
    """An ONNX file by torch's exporter with a dynamic batch."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (torch.zeros(1, 3, 224, 224),),
            str(path),
            dynamo=False,
            input_names=["x"],
            output_names=["y"],
            dynamic_axes={"x": {0: "n"}, "y": {0: "n"}},
        )
    return path


def onnxruntime(path: Path, batch: int) -> Runner:
    """An inference session with its defaults."""
    code = importlib.import_module("onnxruntime")
    session = code.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    x = normalised(photographs(batch)).numpy()

    def run(times: int) -> None:
        for _ in range(times):
            session.run(None, {"x": x})

    return run


def openvino_model(module: nn.Module, *, int8: bool = False) -> Any:
    """Converted from torch; quantised by NNCF's defaults on 64 photographs."""
    openvino = importlib.import_module("openvino")
    model = openvino.convert_model(module, example_input=torch.zeros(1, 3, 224, 224))
    if not int8:
        return model
    nncf = importlib.import_module("nncf")
    pictures = [normalised(photographs(64, seed=2)[i : i + 1]).numpy() for i in range(64)]
    return nncf.quantize(model, nncf.Dataset(pictures), subset_size=len(pictures))


def openvino(model: Any, batch: int, hint: str, *, fp32: bool = False) -> Runner:
    """A compiled model of a fixed shape and an ``AsyncInferQueue``, by the performance hint.

    Unless told to stay in ``fp32``, OpenVINO computes float32 in bfloat16 where the processor can.
    """
    code = importlib.import_module("openvino")
    model = model.clone()
    model.reshape([batch, 3, 224, 224])
    config = {"PERFORMANCE_HINT": hint, **({"INFERENCE_PRECISION_HINT": "f32"} if fp32 else {})}
    compiled_model = code.Core().compile_model(model, "CPU", config)
    queue = code.AsyncInferQueue(compiled_model)
    x = normalised(photographs(batch)).numpy()

    def run(times: int) -> None:
        for _ in range(times):
            queue.start_async({0: x})
        queue.wait_all()

    return run


def pictures(folder: Path, count: int, width: int, height: int) -> Path:
    """``count`` JPEG files of that size (quality 90), all different, in one class folder."""
    place = folder / f"{width}x{height}" / "class"
    place.mkdir(parents=True, exist_ok=True)
    sources = [PIL.Image.fromarray(getattr(data, name)()) for name in ("astronaut", "coffee")]
    rng = np.random.default_rng(0)
    for number in range(count):
        source = sources[number % 2]
        left, top = (int(v) for v in rng.integers(0, 60, 2))
        box = (left, top, source.width - int(rng.integers(0, 60)), source.height - 20)
        picture = source.resize((width, height), PIL.Image.Resampling.BICUBIC, box=box)
        picture.save(place / f"{number:05}.jpg", quality=90)
    return place.parent


def quantised(bundle: Path, folder: Path) -> Path:
    """Our int8 file of a bundle, calibrated on drawn pieces of photographs.

    The weights are drawn, so that classes lie close together: the agreement is not asked for here.
    """
    export = importlib.import_module("resnetkit.exporters.exporter").export
    images = pictures(folder / "calibration", 64, 256, 256)
    target = folder / f"{bundle.stem}-int8.xml"
    export(bundle, target, to="openvino", precision="int8", calibrate=str(images),
           agree_on=str(images), min_agreement=0, dynamic_batch=True)  # fmt: skip
    return target
