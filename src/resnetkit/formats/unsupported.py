"""Identifies unsupported files by content, and suggests an alternative."""

from __future__ import annotations

import re
from pathlib import Path

#: Number of leading bytes that are inspected.
HEAD = 4096
_ONNX = "export the network to ONNX"
#: By magic bytes, or by a pattern in the leading bytes; the first match is used.
_SIGNS: tuple[tuple[re.Pattern[bytes], str], ...] = tuple(
    (re.compile(pattern, re.DOTALL), what)
    for pattern, what in (
        (rb"$", "is empty; get it again"),
        (rb"version https://git-lfs", "is a pointer of Git LFS; get the file itself with git lfs "
         "pull"),
        (rb"(\xef\xbb\xbf)?<\?xml.*<net\b|<net name=", "is an OpenVINO network; it runs there, "
         "but cannot be read: give its source file, or its ONNX file"),
        (rb"(\xef\xbb\xbf)?<\?xml", "is an XML file"),
        (rb"\s*<", "is a web page, so its download failed; get it again"),
        (rb"\s*[{\[]", "is a JSON file; give the weight file itself"),
        (rb"....TFL3", f"is a TensorFlow Lite (LiteRT) network, which is unsupported; {_ONNX} with "
         "tf2onnx"),
        (rb"\x12\x01\0\0\0\0\0\0", f"is an MXNet parameter file, which is not supported; {_ONNX} "
         "with mxnet.onnx"),
        (rb"\x93NUMPY", "is a single numpy array, not a set of named weights"),
        (rb"PK\x03\x04.{26}[^/]{1,200}\.npy", "is a .npz of numpy arrays; save them with "
         "safetensors.numpy.save_file"),
        (rb"PK", "is a zip file without known weights; unpack it if it contains some"),
        (rb"GGUF", "is a GGUF file of a language model"),
        (rb"\x1f\x8b", "is compressed with gzip; unpack it first"),
        (rb"BZh|\xfd7zXZ|\x28\xb5\x2f\xfd|7z\xbc\xaf|Rar!", "is compressed; unpack it first"),
        (rb".{257}ustar", "is a tar archive; unpack it first"),
        (rb"7767517\n", "is an ncnn network, which is not supported; give its source file"),
        (rb"\x0a.*(Convolution|BatchNorm|InnerProduct|\x12\x05Input)", "is a Caffe caffemodel, "
         f"which is not supported; {_ONNX} with caffe2onnx or mmdnn"),
        (rb"\x0a.*(Placeholder|VarHandleOp|Const).*(dtype|shape)", "is a TensorFlow graph, "
         f"which is not supported; {_ONNX} with tf2onnx"),
        (rb"\x08.\x12.*serve", "is a TensorFlow SavedModel; load it with Keras and save a "
         ".keras file, or convert it with tf2onnx"),
        (rb"[\x80-\x8f\xde\xdf].*(params|kernel|batch_stats)", "is a Flax msgpack file, which "
         f"is not supported; {_ONNX}, or use the repository's PyTorch weights"),
    )
)  # fmt: skip
_ENDINGS = {
    ".msgpack": f"is a Flax msgpack file, which is not supported; {_ONNX}",
    ".pdiparams": f"is a Paddle parameter file, which is not supported; {_ONNX} with paddle2onnx",
    ".pdmodel": f"is a Paddle network, which is not supported; {_ONNX} with paddle2onnx",
    ".caffemodel": f"is a Caffe caffemodel, which is not supported; {_ONNX}",
    ".bin": "is not a known weight file; beside an .xml it is OpenVINO's",
    ".engine": "is a TensorRT engine, made for one GPU; give its source file",
    ".mlmodel": "is a Core ML model, which is not supported; give its source file",
    ".distcp": "is part of a distributed torch checkpoint; merge its folder into one file with "
    "torch.distributed.checkpoint.format_utils.dcp_to_torch_save",
}


def other_kind(head: bytes, path: Path) -> str:
    """Describe an unsupported file, to complete a sentence with its name."""
    for sign, what in _SIGNS:
        if sign.match(head) and (head or sign.pattern == rb"$"):
            return what
    ending = _ENDINGS.get(path.suffix.lower())
    return ending or f"is not a known weight file; it begins with {head[:8]!r}"
