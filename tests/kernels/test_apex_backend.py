"""What goes to apex and what does not, with apex's modules played by plain PyTorch."""

import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from biomeg_lib.kernels import apex_backend, plain, triton_backend


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """Nothing remembered of other tests; plain PyTorch as the rest; tensors pass for CUDA's."""
    cached = (apex_backend._module, apex_backend._rest)
    for function in cached:
        function.cache_clear()
    monkeypatch.setattr(triton_backend, "reason", lambda: "no Triton in this test")
    monkeypatch.setattr(apex_backend, "_on_gpu", lambda x: True)
    yield
    for function in cached:
        function.cache_clear()


class Calls(list):
    """Names of what was called, in order."""

    def noted(self, name, function):
        def call(*arguments, **keywords):
            self.append(name)
            return function(*arguments, **keywords)

        return call


class FusedAdam(torch.optim.AdamW):
    """As apex's: AdamW, with a zero_grad that takes nothing."""

    def zero_grad(self):
        super().zero_grad(set_to_none=True)


def softmax_forward(scores, masked, scale):
    assert masked.shape == (scores.shape[0], 1, *scores.shape[2:])
    assert masked.is_contiguous()
    values = (scores.float() * scale).masked_fill(masked, -10000.0)
    empty = values.amax(-1, keepdim=True) == -10000.0
    return values.softmax(-1).masked_fill(empty, 0).to(scores.dtype)


def softmax_backward(gradient, chances, scale):
    g, p = gradient.float(), chances.float()
    return (scale * p * (g - (g * p).sum(-1, keepdim=True))).to(gradient.dtype)


def same_types(x, weight, bias, shape, eps):
    assert x.dtype == weight.dtype == bias.dtype
    assert not torch.is_autocast_enabled("cpu")
    return F.layer_norm(x, shape, weight, bias, eps)


def any_types(x, weight, bias, eps):
    return F.layer_norm(x.double(), weight.shape, weight.double(), bias.double(), eps).to(x.dtype)


def mixed_types(x, weight, bias, shape, eps):
    assert x.dtype != weight.dtype == bias.dtype == torch.float32
    assert not torch.is_autocast_enabled("cpu")
    return F.layer_norm(x.to(weight.dtype), shape, weight, bias, eps)


@pytest.fixture
def calls(monkeypatch) -> Calls:
    """apex is there; what of it is called."""
    calls = Calls()
    modules = {
        "apex": {},
        "apex.normalization": {},
        "apex.normalization.fused_layer_norm": {
            "fused_layer_norm_affine": calls.noted("norm", same_types),
            "mixed_dtype_fused_layer_norm_affine": calls.noted("mixed norm", mixed_types),
        },
        "fused_layer_norm_cuda": {},
        "scaled_masked_softmax_cuda": {
            "forward": calls.noted("softmax", softmax_forward),
            "backward": calls.noted("softmax backward", softmax_backward),
            "get_batch_per_block": lambda queries, keys, batch, heads: 8 if keys <= 128 else 4,
        },
        "apex.optimizers": {"FusedAdam": FusedAdam},
        "amp_C": {},
    }
    for name, content in modules.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    names = ("bias_gelu", "bias_dropout_add", "masked_softmax", "linear_cross_entropy")
    rest = {name: calls.noted(f"plain {name}", getattr(plain, name)) for name in names}
    rest["layer_norm"] = calls.noted("plain layer_norm", any_types)
    monkeypatch.setattr(apex_backend, "_rest", lambda: SimpleNamespace(**rest))
    return calls


def draw(*shape, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape))).to(dtype).requires_grad_()


def test_reasons_why_it_cannot_run(monkeypatch, calls):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert apex_backend.reason() is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert apex_backend.reason() == "there is no CUDA device"
    apex_backend._module.cache_clear()
    monkeypatch.setitem(sys.modules, "fused_layer_norm_cuda", None)
    assert apex_backend.reason() == "apex was built without its CUDA extensions"


def test_another_package_named_apex_is_not_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "apex", ModuleType("apex"))  # no package: no submodules
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert apex_backend.reason() == "NVIDIA's apex is not installed (PyPI's apex is another project)"
    assert apex_backend.adam([], 1e-3, (0.9, 0.999), 1e-8) is None


@pytest.mark.parametrize(
    ("dtype", "of_weight", "called"),
    [
        (torch.float32, torch.float32, "norm"),
        (torch.bfloat16, torch.bfloat16, "norm"),
        (torch.bfloat16, torch.float32, "mixed norm"),
        (torch.float16, torch.float32, "mixed norm"),
        (torch.float32, torch.bfloat16, "plain layer_norm"),
        (torch.float64, torch.float64, "plain layer_norm"),
    ],
)
def test_layer_norm(calls, dtype, of_weight, called):
    x, weight, bias = draw(3, 4, 20, dtype=dtype), draw(20, dtype=of_weight), draw(20, dtype=of_weight)
    with torch.autocast("cpu", torch.bfloat16):
        out = apex_backend.layer_norm(x, weight, bias, 1e-5)
    assert out.dtype == dtype
    wanted = F.layer_norm(x.double(), (20,), weight.double(), bias.double(), 1e-5)
    tolerance = 4e-6 if dtype == torch.float32 else 3e-2
    torch.testing.assert_close(out.double(), wanted, rtol=0, atol=tolerance)
    out.sum().backward()
    assert weight.grad.dtype == of_weight
    assert calls == [called]


def mask_of(batch, queries, keys):
    mask = torch.rand(batch, 1, queries, keys, generator=torch.Generator().manual_seed(1)) < 0.6
    mask[0, 0, 0] = False
    return mask


@pytest.mark.parametrize("mask", [mask_of(2, 8, 20), mask_of(2, 8, 20)[:, :, :1], mask_of(2, 8, 20)[:1]])
def test_masked_softmax(calls, mask):
    scores = draw(2, 3, 8, 20, dtype=torch.bfloat16)
    out = apex_backend.masked_softmax(scores, mask, 0.125)
    weights = draw(2, 3, 8, 20).detach()
    (gradient,) = torch.autograd.grad((out * weights).sum(), scores)
    assert calls == ["softmax", "softmax backward"]
    wide = scores.detach().double().requires_grad_()
    wanted = plain.masked_softmax(wide, mask, 0.125)
    (expected,) = torch.autograd.grad((wanted * weights).sum(), wide)
    torch.testing.assert_close(out.double(), wanted, rtol=2**-8, atol=2**-9)
    torch.testing.assert_close(gradient.double(), expected, rtol=2**-7, atol=2**-10)


@pytest.mark.parametrize(
    ("shape", "dtype", "scale"),
    [
        ((2, 3, 8, 20), torch.float32, 0.125),
        ((2, 3, 8, 20), torch.bfloat16, 0.3),  # no bf16 number
        ((2, 3, 8, 16), torch.bfloat16, 0.125),  # few keys
        ((2, 3, 8, 22), torch.bfloat16, 0.125),  # not a multiple of 4
        ((1, 1, 4, 2052), torch.bfloat16, 0.125),  # many keys
        ((2, 3, 1, 20), torch.bfloat16, 0.125),  # one query
        ((2, 3, 12, 20), torch.bfloat16, 0.125),  # not a multiple of the rows of a block
    ],
)
def test_softmax_outside_the_limits_goes_to_the_rest(calls, shape, dtype, scale):
    apex_backend.masked_softmax(draw(*shape, dtype=dtype), mask_of(shape[0], *shape[2:]), scale)
    assert calls == ["plain masked_softmax"]


def test_softmax_without_mask_or_extension_or_gpu_goes_to_the_rest(monkeypatch, calls):
    scores, mask = draw(2, 3, 8, 20, dtype=torch.bfloat16), mask_of(2, 8, 20)
    apex_backend.masked_softmax(scores, None, 0.125)
    monkeypatch.setattr(apex_backend, "_on_gpu", lambda x: False)
    apex_backend.masked_softmax(scores, mask, 0.125)
    monkeypatch.setattr(apex_backend, "_on_gpu", lambda x: True)
    apex_backend._module.cache_clear()
    monkeypatch.setitem(sys.modules, "scaled_masked_softmax_cuda", None)
    apex_backend.masked_softmax(scores, mask, 0.125)
    assert calls == ["plain masked_softmax"] * 3


def test_what_apex_lacks_goes_to_the_rest(calls):
    x, bias = draw(3, 4), draw(4)
    labels = torch.tensor([0, 1, 2])
    torch.testing.assert_close(apex_backend.bias_gelu(x, bias, "erf"), F.gelu(x + bias))
    torch.testing.assert_close(apex_backend.bias_dropout_add(x, bias, x, 0.0, 0), x + bias + x)
    loss = apex_backend.linear_cross_entropy(x, draw(5, 4), draw(5), labels)
    wanted = F.cross_entropy(F.linear(x, draw(5, 4), draw(5)), labels, reduction="sum")
    torch.testing.assert_close(loss, wanted)
    assert calls == ["plain bias_gelu", "plain bias_dropout_add", "plain linear_cross_entropy"]


def test_the_rest_is_triton_where_it_can_run(monkeypatch):
    assert apex_backend._rest() is plain
    apex_backend._rest.cache_clear()
    monkeypatch.setattr(triton_backend, "reason", lambda: None)
    assert apex_backend._rest() is triton_backend


def test_adam_is_adamw_and_takes_what_the_training_loop_gives(calls):
    ours, theirs = draw(5, 3), draw(5, 3)
    groups = [{"params": [ours], "weight_decay": 0.1}]
    adam = apex_backend.adam(groups, 0.01, (0.9, 0.99), 1e-6)
    adamw = torch.optim.AdamW([theirs], lr=0.01, betas=(0.9, 0.99), eps=1e-6, weight_decay=0.1)
    for optimizer, parameter in ((adam, ours), (adamw, theirs)):
        for _ in range(3):
            parameter.square().sum().backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        assert parameter.grad is None
    assert torch.equal(ours, theirs)


def test_no_adam_without_its_extension_or_gpu(monkeypatch, calls):
    groups = [{"params": [draw(2)], "weight_decay": 0.0}]
    monkeypatch.setattr(apex_backend, "_on_gpu", lambda x: False)
    assert apex_backend.adam(groups, 0.01, (0.9, 0.99), 1e-6) is None
    monkeypatch.setattr(apex_backend, "_on_gpu", lambda x: True)
    apex_backend._module.cache_clear()
    monkeypatch.setitem(sys.modules, "amp_C", None)
    assert apex_backend.adam(groups, 0.01, (0.9, 0.99), 1e-6) is None
