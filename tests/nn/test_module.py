"""The module in other people's programs: shapes, names, training, compiling, exporting."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import fx, nn

import resnetkit
from resnetkit.architecture import registry
from resnetkit.architecture.shape_inference import walk
from resnetkit.errors import InputError
from resnetkit.nn.resnet import ResNet, build

VARIANTS = [
    ("resnet18", {}),
    ("resnet26", {"groups": 2}),
    ("resnet26t", {"squeeze_excitation": 16}),
    ("resnet20", {}),
    ("resnet26d", {"rounding": "ceil"}),
    ("resnet20", {"rounding": "ceil"}),
    ("resnet26d", {"output_stride": 8}),
    ("resnet50_deep", {"depths": (1, 1, 1, 1), "head_pool": "global"}),
    ("resnetblur50d", {"depths": (1, 1, 1, 1), "efficient_attention": True, "norm": "group"}),
    ("resnet18", {"norm": "none", "conv_bias": True, "stem_pool": "conv"}),
]
#: Where a network takes seconds, most of them: the slow sweep.
SLOWER = [
    pytest.param(*one, marks=[] if number in (2, 5, 8) else [pytest.mark.slow])
    for number, one in enumerate(VARIANTS)
]
#: Networks of more blocks than this take seconds: the slow sweep.
DEEP = 30


def rounded() -> list:
    """Every network, its sizes rounded down and up; against aliasing only down."""
    found = []
    for entry in registry.catalog():
        options = entry.network().options
        slow = [pytest.mark.slow] if sum(options.depths) > DEEP else []
        for rounding in ("floor", "ceil") if options.anti_alias == "none" else ("floor",):
            found.append(pytest.param(entry.name, rounding, marks=slow))
    return found


def small(name: str, options: dict) -> tuple[ResNet, torch.Tensor]:
    torch.manual_seed(0)
    return build(name, **options).eval(), torch.randn(2, 3, 65, 97)


class Trace:
    """Runs a network on the meta device and notes each leaf's output shape, in order."""

    def __init__(self, name: str, rounding: str) -> None:
        self.network = resnetkit.network(name, rounding=rounding)
        with torch.device("meta"):
            self.module = ResNet(self.network).eval()
        self.seen: list[tuple[str, tuple[int, ...]]] = []
        for leaf in self.module.modules():
            if hasattr(leaf, "path"):
                leaf.register_forward_hook(self._note)

    def _note(self, leaf: nn.Module, _: object, output: torch.Tensor) -> None:
        self.seen.append((leaf.path, tuple(output.shape[1:])))

    def check(self, height: int, width: int) -> None:
        self.seen.clear()
        shape = (self.network.options.in_chans, height, width)
        walked = walk(self.network, shape)
        image = torch.empty(2, *shape, device="meta")
        if walked.problem is None:
            self.module(image)
        else:
            with pytest.raises(RuntimeError):
                self.module(image)
        described = [(s.path, s.output) for s in walked.steps if s.output is not None]
        assert dict(self.seen) == dict(described)
        assert len(self.seen) == len(described)


def fitting(trace: Trace, side: int) -> int:
    """Average pools against aliasing want sides that are multiples of 32."""
    return side - side % 32 if trace.network.options.anti_alias == "average" else side


@pytest.mark.parametrize(("name", "rounding"), rounded())
def test_traced_shapes_are_the_described_ones(name: str, rounding: str) -> None:
    trace = Trace(name, rounding)

    @settings(max_examples=2)
    @given(st.integers(33, 512), st.integers(33, 512))
    def at_any_size(height: int, width: int) -> None:
        trace.check(fitting(trace, height), fitting(trace, width))

    at_any_size()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "rounding"), rounded())
def test_traced_shapes_at_many_sizes(name: str, rounding: str) -> None:
    trace = Trace(name, rounding)

    @settings(max_examples=16)
    @given(st.integers(33, 512), st.integers(33, 512))
    def at_any_size(height: int, width: int) -> None:
        trace.check(fitting(trace, height), fitting(trace, width))

    at_any_size()


@pytest.mark.parametrize("name", ["resnet50_deep", "resnet50_notes", "seresnext26d_32x4d"])
def test_a_real_run_has_the_described_shapes(name: str) -> None:
    described = resnetkit.network(name, head_pool="global")
    walked = walk(described, (3, 224, 224))
    last = {s.located.stage: s.output for s in walked.steps}
    with torch.inference_mode():
        maps = ResNet(described).eval().stages(torch.randn(1, 3, 224, 224))
    assert {k: tuple(v.shape[1:]) for k, v in maps.items()} == {
        k: v for k, v in last.items() if k != "head"
    }


@pytest.mark.parametrize("name", registry.names())
def test_leaves_are_the_layers(name: str) -> None:
    with torch.device("meta"):
        module = ResNet(resnetkit.network(name))
    layers = {located.path for located in module.network.layers()}
    leaves = {n: m for n, m in module.named_modules() if not list(m.children())}
    assert set(leaves) == layers
    assert all(leaf.path == path for path, leaf in leaves.items())


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_forward_gives_layers_the_inputs_of_the_description(name: str, options: dict) -> None:
    class Tracer(fx.Tracer):
        def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
            return hasattr(m, "path")

    with torch.device("meta"):
        module = ResNet(resnetkit.network(name, **options))
    ran = {
        node.target: tuple(taken.target for taken in node.all_input_nodes)
        for node in Tracer().trace(module).nodes
        if node.op == "call_module"
    }
    first = next(iter(module.network.layers()))
    assert ran.pop(first.path) == ("x",)
    assert ran == {found.path: found.inputs for found in module.network.layers() if found != first}


def test_features_stages_and_logits_agree() -> None:
    module, image = small("resnet18", {})
    maps = module.stages(image)
    assert list(maps) == ["stage0", "stage1", "stage2", "stage3", "stage4"]
    assert torch.equal(maps["stage4"], module.forward_features(image))
    logits = module.fc(torch.flatten(module.avgpool(maps["stage4"]), 1))
    assert torch.equal(logits, module(image))


@pytest.mark.parametrize(("name", "options"), SLOWER)
@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The TorchScript type system:UserWarning")  # of torch.fx's own
def test_scripts_exports_and_copies(name: str, options: dict) -> None:
    module, image = small(name, options)
    expected = module(image)
    other = torch.randn(2, 3, 71, 64)
    scripted = torch.jit.script(module)
    assert torch.equal(scripted(image), expected)
    assert torch.equal(scripted(other), module(other)), "the script is fixed to one size"
    exported = torch.export.export(module, (image,)).module()
    assert torch.equal(exported(image), expected)
    assert torch.equal(copy.deepcopy(module)(image), expected)
    assert torch.equal(pickle.loads(pickle.dumps(module))(image), expected)


@pytest.mark.parametrize(("name", "options"), SLOWER)
def test_compiles_as_one_graph(name: str, options: dict) -> None:
    torch._dynamo.reset()
    module, image = small(name, options)
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(image), module(image))


@pytest.mark.slow
def test_compiles_with_the_default_backend() -> None:
    torch._dynamo.reset()
    module, image = small("resnet26d", {"squeeze_excitation": 16, "rounding": "ceil"})
    with torch.no_grad():
        torch.testing.assert_close(
            torch.compile(module)(image), module(image), rtol=1e-4, atol=1e-4
        )


def test_channels_last_keeps_the_answers() -> None:
    module, image = small("seresnet18", {})
    with torch.inference_mode():
        expected = module(image)
        module.to(memory_format=torch.channels_last)
        actual = module(image.to(memory_format=torch.channels_last))
        map_ = module.forward_features(image.to(memory_format=torch.channels_last))
    assert map_.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


def test_initialisation_is_he_fan_out() -> None:
    torch.manual_seed(0)
    module = build("resnet50_keras")
    weight = module.layer4[0].conv2.weight
    assert weight.std().item() == pytest.approx((2 / (512 * 9)) ** 0.5, rel=0.01)
    assert module.layer4[0].conv2.bias.abs().max() == 0
    assert module.bn1.eps == 1.001e-5
    assert (module.layer1[0].bn3.weight == 1).all()


def test_zero_initialisation_makes_each_block_its_shortcut() -> None:
    torch.manual_seed(0)
    for name, last in (("resnet18", "bn2"), ("resnet26", "bn3")):
        module = build(name, zero_init_last=True).eval()
        zeros = [n for n, p in module.named_parameters() if n.endswith(".weight") and not p.any()]
        blocks = [block.name for stage in module.network.stages for block in stage.blocks]
        assert zeros == [f"{block}.{last}.weight" for block in blocks]
        x = torch.rand(1, module.layer1[1].conv1.in_channels, 8, 8)
        assert torch.equal(module.layer1[1](x), x)


def test_gradients_reach_every_parameter() -> None:
    torch.manual_seed(0)
    for name in ("resnet26t", "seresnext26d_32x4d", "resnet20"):
        module = build(name, num_classes=4)
        module(torch.randn(4, 3, 64, 64)).logsumexp(1).sum().backward()
        without = [n for n, p in module.named_parameters() if p.grad is None or not p.grad.any()]
        assert without == []


def test_build_takes_names_and_descriptions() -> None:
    described = resnetkit.network("resnet18", num_classes=3, in_chans=1)
    module = resnetkit.build(described)
    assert module.network is described
    assert resnetkit.build("resnet18", num_classes=3).fc.out_features == 3
    with pytest.raises(InputError, match="unknown network"):
        resnetkit.build("resnet19x")


def test_the_notes_state_dict_loads_as_it_is() -> None:
    """The names that the notes' printed code gives its stem and blocks."""
    names = set(dict(build("resnet50_deep").named_parameters()))
    for wanted in ("conv1", "conv2", "conv3", "bn1", "bn2", "bn3", "fc", "layer1.0.downsample.0"):
        assert f"{wanted}.weight" in names
