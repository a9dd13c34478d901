"""The torch engine: eager in channels-last, or compiled, on any torch device."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from resnetkit.data.decoding.tensors import normalise
from resnetkit.errors import InputError
from resnetkit.inference.engines.conv_bn_fusion import Folded, check_output
from resnetkit.inference.engines.engine import Engine, EngineOptions, Output, Pixels, Rows
from resnetkit.inference.engines.pipelining import joined, overlapped, parts
from resnetkit.nn.resnet import ResNet
from resnetkit.preprocess import Preprocess

_CPU = EngineOptions(device="cpu")


def device_named(name: str | None) -> str:
    """An available torch device: ``name``, by default ``cuda`` if available, else ``cpu``.

    Raises ``ValueError`` for an unavailable one.
    """
    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=name)
    except torch.OutOfMemoryError:
        raise InputError(
            f"the memory of device {name} is full; end what else runs there, or give another",
            field="device",
        ) from None
    except (RuntimeError, AssertionError, NotImplementedError):
        have = "cpu, cuda" if torch.cuda.is_available() else "cpu"
        raise InputError(
            f"device {name} is not available on this machine; give {have}", field="device"
        ) from None
    return name


def numbered(device: str) -> torch.device:
    """The device; ``cuda`` is this thread's GPU by its number, as a new thread has the first."""
    if device == "cuda":
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device(device)


def is_out_of_memory(error: Exception) -> bool:
    """Whether torch or one of its libraries found too little memory."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    # What CPUs, cuDNN and cuBLAS say.
    said = ("can't allocate memory", "CUDNN_STATUS_ALLOC_FAILED", "CUBLAS_STATUS_ALLOC_FAILED")
    return isinstance(error, RuntimeError) and any(text in str(error) for text in said)


class WithNormalization(torch.nn.Module):
    """A folded network: pixels ``(N, H, W, C)``, 0 to 255, to float32 rows, see ``Folded``."""

    mean: Tensor

    def __init__(self, folded: Folded, output: Output) -> None:
        super().__init__()
        check_output(folded.network, output)
        with torch.device("meta"):
            network = ResNet(folded.network)
        state = {name: torch.from_numpy(values) for name, values in folded.arrays.items()}
        network.load_state_dict(state, assign=True)
        self.network = network
        self.output = output
        # The network's compute dtype; the mean is subtracted in float32.
        self.compute = next(iter(state.values())).dtype
        self.register_buffer("mean", torch.from_numpy(folded.mean).view(1, -1, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        # (N, H, W, C) pixels viewed as (N, C, H, W) are already channels-last.
        x = pixels.permute(0, 3, 1, 2).to(torch.float32) - self.mean
        x = x.to(self.compute)
        if self.output == "embeddings":
            return self.network.forward_features(x).float().mean((2, 3))
        logits: Tensor = self.network(x)
        return logits.float()


class Torch(Engine):
    """An engine from a module, or any function from a tensor to rows, on ``device``.

    ``model`` takes ``pixels`` ``(N, H, W, C)``, or with ``preprocess`` its result, float32 ``(N, C,
    H, W)``. ``threads`` are torch's, for the whole process.
    """

    version = torch.__version__

    def __init__(
        self,
        model: Callable[[Tensor], Tensor],
        preprocess: Preprocess | None = None,
        options: EngineOptions = _CPU,
        *,
        name: str = "torch",
    ) -> None:
        super().__init__(replace(options, device=options.device or "cpu"))
        self.name = name
        self._model = model
        self._preprocess = preprocess
        self._device = numbered(self.options.device or "cpu")
        if options.threads is not None:
            torch.set_num_threads(options.threads)

    def answer(self, pixels: Pixels, *, shared: bool = False) -> Rows:
        """The rows of one batch ``(N, H, W, C)``. Raises ``ValueError`` if it does not fit into the
        memory of a GPU."""
        return self._started(pixels)()

    @torch.inference_mode()
    def _started(self, pixels: Pixels) -> Callable[[], Rows]:
        """Start a batch; the result waits for its rows. A CPU has computed them before."""
        try:
            rows = [
                self._rows(self._placed(torch.from_numpy(part)))
                for part in parts(pixels, self.options.batch, self.options.pixels)
            ]
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise InputError(
                f"{len(pixels)} images at once do not fit into the memory of {self._device}; "
                "give a smaller batch_size",
                field="batch_size",
            ) from None
        gpu = self._device.type == "cuda"
        done = torch.cuda.current_stream(self._device).record_event() if gpu else None

        def finished() -> Rows:
            if done is not None:
                done.synchronize()
            return joined([one.numpy() for one in rows], len(pixels))

        return finished

    def _placed(self, pixels: Tensor) -> Tensor:
        if self._device.type != "cuda":
            return pixels.to(self._device)
        return pixels.pin_memory().to(self._device, non_blocking=True)

    def _rows(self, pixels: Tensor) -> Tensor:
        if self._preprocess is not None:
            pixels = normalise(pixels.movedim(-1, -3), self._preprocess)
        # From a GPU into pinned memory, filled once the GPU gets there.
        return self._model(pixels).float().to("cpu", non_blocking=self._device.type == "cuda")

    def infer_batches(self, batches: Iterable[Pixels]) -> Iterator[Rows]:
        """The rows of each batch, in order, computed in another thread; a GPU has the next batch
        before the rows of the last are read."""
        for finished in overlapped(self._started, batches):
            yield finished()

    def to_dict(self) -> dict[str, Any]:
        """The engine's description as JSON types."""
        return {**super().to_dict(), "threads": torch.get_num_threads()}


#: The types of the engines that compute in fewer bits.
_LOWER = {"bf16": torch.bfloat16, "fp16": torch.float16}


def open_torch(
    folded: Folded, options: EngineOptions, *, compiled: bool = False, lower: str = ""
) -> Torch:
    """The engine of a folded network, computing in ``bf16`` or ``fp16`` if that is ``lower``.

    Raises ``ValueError`` for an unavailable device, and for logits of a network without a
    classifier."""
    options = replace(options, device=device_named(options.device))
    module = WithNormalization(folded, options.output).eval().requires_grad_(False)
    if lower:
        module.compute = _LOWER[lower]
        module.network.to(module.compute)
        options = replace(options, precision=lower)
    module = module.to(options.device).to(memory_format=torch.channels_last)
    if compiled:
        compiled_module = torch.compile(module, options={"freezing": True})
        return Torch(compiled_module, options=options, name="torch-compiled")
    return Torch(module, options=options, name=f"torch-{lower}" if lower else "torch")
