"""What a file is that is not read: by its content, with the way to one that is."""

from __future__ import annotations

import re
from pathlib import Path

#: Bytes of a file's beginning that are looked at.
HEAD = 4096
_ONNX = "export the network to ONNX"
#: By the first bytes, or by a pattern in the beginning; the first that fits is told.
_SIGNS: tuple[tuple[re.Pattern[bytes], str], ...] = tuple(
    (re.compile(pattern, re.DOTALL), what)
    for pattern, what in (
        (rb"$", "is empty; get it again"),
        (rb"version https://git-lfs", "is a pointer of Git LFS; get the file itself with git lfs "
         "pull"),
        (rb"(\xef\xbb\xbf)?<\?xml.*<net\b|<net name=", "is a network of OpenVINO; it runs there, "
         "and is not read: give the file that it was made of, or its ONNX"),
        (rb"(\xef\xbb\xbf)?<\?xml", "is a text in XML"),
        (rb"\s*<", "is a web page, so its download failed; get it again"),
        (rb"\s*[{\[]", "is a JSON text; give the file of weights itself"),
        (rb"....TFL3", f"is a network of TensorFlow Lite (LiteRT), which is not read; {_ONNX} with "
         "tf2onnx"),
        (rb"\x12\x01\0\0\0\0\0\0", f"is a file of MXNet's parameters, which is not read; {_ONNX} "
         "with mxnet.onnx"),
        (rb"\x93NUMPY", "is a single numpy array, and no set of weights by name"),
        (rb"PK\x03\x04.{26}[^/]{1,200}\.npy", "is a .npz of numpy arrays; save them with "
         "safetensors.numpy.save_file"),
        (rb"PK", "is a zip file without weights that are known; unpack it if it holds some"),
        (rb"GGUF", "is a GGUF file of a language model"),
        (rb"\x1f\x8b", "is compressed with gzip; unpack it first"),
        (rb"BZh|\xfd7zXZ|\x28\xb5\x2f\xfd|7z\xbc\xaf|Rar!", "is compressed; unpack it first"),
        (rb".{257}ustar", "is a tar archive; unpack it first"),
        (rb"7767517\n", "is a network of ncnn, which is not read; give what it was made of"),
        (rb"\x0a.*(Convolution|BatchNorm|InnerProduct|\x12\x05Input)", "is a caffemodel of Caffe, "
         f"which is not read; {_ONNX} with caffe2onnx or mmdnn"),
        (rb"\x0a.*(Placeholder|VarHandleOp|Const).*(dtype|shape)", "is a graph of TensorFlow, "
         f"which is not read; {_ONNX} with tf2onnx"),
        (rb"\x08.\x12.*serve", "is a SavedModel of TensorFlow; load it with Keras and save a "
         ".keras file, or convert it with tf2onnx"),
        (rb"[\x80-\x8f\xde\xdf].*(params|kernel|batch_stats)", "is a msgpack file of Flax, which "
         f"is not read; {_ONNX}, or use the PyTorch weights of the same repository"),
    )
)  # fmt: skip
_ENDINGS = {
    ".msgpack": f"is a msgpack file of Flax, which is not read; {_ONNX}",
    ".pdiparams": f"is a file of Paddle's parameters, which is not read; {_ONNX} with paddle2onnx",
    ".pdmodel": f"is a network of Paddle, which is not read; {_ONNX} with paddle2onnx",
    ".caffemodel": f"is a caffemodel of Caffe, which is not read; {_ONNX}",
    ".bin": "is no file of weights that is known; beside an .xml it is OpenVINO's",
    ".engine": "is an engine of TensorRT, made for one GPU; give what it was made of",
    ".mlmodel": "is a model of Core ML, which is not read; give what it was made of",
    ".distcp": "is a part of a distributed checkpoint of torch; make one file of its folder with "
    "torch.distributed.checkpoint.format_utils.dcp_to_torch_save",
}


def other_kind(head: bytes, path: Path) -> str:
    """What a file is that none of the kinds claims, to continue a sentence with its name."""
    for sign, what in _SIGNS:
        if sign.match(head) and (head or sign.pattern == rb"$"):
            return what
    ending = _ENDINGS.get(path.suffix.lower())
    return ending or f"is no file of weights that is known; it begins with {head[:8]!r}"
