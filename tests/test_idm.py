"""IDM: the official numbers, its options, its training and pictures that repeat."""

import math
import re
from functools import cache, partial
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from helpers import awake, golden, golden_state, golden_tensor, near
from torch import nn

from asr_course import build, count_parameters, diffusion
from asr_course.encoders import EDSR
from asr_course.errors import UserError
from asr_course.models import variant
from asr_course.models.conditioning import Condition
from asr_course.models.idm import IDM, RELEASED, IDMOptions
from asr_course.official import from_official

every_target = pytest.mark.parametrize("target", ("noise", "x0", "v"))
every_variant = pytest.mark.parametrize(
    "options", IDM.ABLATIONS.values(), ids=IDM.ABLATIONS
)
either_sampler = pytest.mark.parametrize("ancestral", [False, True])

# What the official code calls our modules; its downs and shifts count one more.
NAMES = {
    r"^encoder\.tail\.0": "to_picture",
    r"^noise_level_mlp\.1": "unet.embed.0",
    r"^noise_level_mlp\.3": "unet.embed.2",
    r"^conv_body_first\.\d": "conditioning.first",
    r"^conv_body_down\.(\d)\.\d": r"conditioning.down.\1",
    r"^condition_shift\.(\d)\.0": lambda m: f"conditioning.out.{int(m[1]) - 1}",
    r"^downs\.0": "unet.first",
    r"^downs\.(\d)": lambda m: f"unet.downs.{int(m[1]) - 1}",
    r"^mid": "unet.middle",
    r"^ups": "unet.ups",
    r"^final_conv\.block\.0": "unet.norm",
    r"^final_conv\.block\.3": "unet.last",
    r"res_block\.noise_func\.noise_func\.0": "level",
    r"res_block\.block(\d)\.block\.0": r"norm\1",
    r"res_block\.block(\d)\.block\.3": r"conv\1",
    r"res_block\.res_conv": "shortcut",
    r"\.attn\.": ".attention.",
    r"\.conv\.": ".",
    r"style\.activate\.bias": "bias",
    r"imnet\.": "mlp.layers.",
}
SMALL = IDMOptions(widths=(8, 16, 16), blocks=1, attention=(2,), groups=4, **RELEASED)


def our_names(state: dict) -> dict:
    """The official U-Net's weights: its a1 is for its own features, our b."""
    renamed = {}
    for key, value in state.items():
        if mixed := re.match(r"condition_scale2\.(\d)\.(.*)", key):
            own = state[f"condition_scale1.{mixed[1]}.{mixed[2]}"]
            key = f"mix.{int(mixed[1]) - 1}.alpha.{mixed[2]}"
            value = torch.cat([value, own])
        if key.endswith("activate.bias") and key.startswith("ups"):
            value = value[:, None, None]
        for theirs, ours in NAMES.items():
            key = re.sub(theirs, ours, key)
        if not key.startswith("condition_scale1"):
            renamed[key] = value
    return renamed


@cache
def official() -> IDM:
    """The golden weights."""
    model = IDM(EDSR(2, 16), SMALL)
    encoder = {"encoder." + k: v for k, v in golden_state("idm", "sd/encoder.").items()}
    state = from_official(encoder) | golden_state("idm", "sd/denoise_fn.")
    model.load_state_dict(our_names(state))
    return model.eval()


def golden_condition(model: IDM, tag: str = "", count: int = 2) -> Condition:
    """Of the golden U-Net at one of three sizes; its p is (s - 1) / 7."""
    lr = golden_tensor("idm", "in/lr")[:count] * 0.5 + 0.5
    size = golden_tensor("idm", f"in/y_t{tag}").shape[2:]
    p = golden_tensor("idm", f"in/scaler{tag}").item()
    return model.condition(lr, size, scale=7 * p + 1)


def idm(**options) -> IDM:
    """An IDM of size tiny with random weights, none of them zero."""
    return awake(build("idm", "tiny", **options))


# Official numbers


@torch.no_grad()
@pytest.mark.parametrize("tag", ["", "_24", "_20"])
def test_outputs_equal_the_official_ones(tag):
    model = official()
    condition = golden_condition(model, tag)
    near(condition.enlarged, golden_tensor("idm", f"out/x_con{tag}"), 1e-4)
    level = golden_tensor("idm", "in/noise_level")[:, 0]
    output = model.predict(golden_tensor("idm", f"in/y_t{tag}"), level, condition)
    near(output, golden_tensor("idm", f"out/eps{tag}"), 1e-4)


@torch.no_grad()
def test_conditioning_equals_the_official_one():
    model = official()
    condition = golden_condition(model)
    for depth in (1, 2):
        shift, (a, b) = condition.features[depth - 1], condition.mix[depth - 1]
        near(shift[:1], golden_tensor("idm", f"mid/shift{depth}"), 1e-5)
        own, other = (golden_tensor("idm", f"mid/scale{k}_{depth}") for k in (1, 2))
        norm = (own.square() + other.square()).sqrt()
        near(a.flatten() * norm, other, 1e-5)
        near(b.flatten() * norm, own, 1e-5)
        assert (own < 0).any() or (other < 0).any()  # "signed" matters here


@torch.no_grad()
def test_the_loss_equals_the_official_one():
    """Its p is 0.6 where s is 2: M is then 8/3."""
    model = variant(official(), largest=8 / 3)
    levels, when = model.gamma.sqrt(), []
    for level in (0.8, 0.3):
        t = int((levels >= level).sum()) - 1  # the last one that is not below
        rest = (levels[t] - level) / (levels[t] - levels[t + 1])
        when.append((t + rest.item()) / 2000)
    y0, noise = (golden_tensor("idm", f"in/{name}") for name in ("gt", "noise"))
    sample = SimpleNamespace(
        lr=golden_tensor("idm", "in/lr") * 0.5 + 0.5,
        target=y0 * 0.5 + 0.5,
        noise=noise,
        when=torch.tensor(when),
    )
    loss = model.error(model, sample).abs().sum()
    assert loss.item() == pytest.approx(golden("idm")["out/l1_sum_loss"], rel=1e-5)


def sampled(y, gamma, at, **more):
    """Where the golden model's sampler ends for its first input."""
    model = official()
    condition = golden_condition(model, count=1)
    *_, last = diffusion.denoise(
        lambda y, level: model.estimate(y, level, condition), y, gamma, at, **more
    )
    return last.y


@torch.no_grad()
def test_the_ancestral_sampler_equals_the_official_one():
    noise = iter(golden_tensor("idm", "in/sample_noise").float())
    y = sampled(
        golden_tensor("idm", "in/sample_init").float(),
        diffusion.signal("linear", 10, 1e-3, 0.5),
        diffusion.times(10, 10),
        fresh=lambda: next(noise),
    )
    near(y, golden_tensor("idm", "out/sample_T10"), 2e-3)
    assert len(list(noise)) == 1  # none after the last step


@torch.no_grad()
def test_ddim_equals_the_official_one():
    """The official loop stops before its last step."""
    y, at = golden_tensor("idm", "in/ddim_init"), diffusion.times(200, 200)[:-1]
    y = sampled(y, diffusion.signal("linear", 200), at, clip=False)
    near(y[0], golden_tensor("idm", "out/ddim_T200"), 2e-3)


def test_parameters_at_the_papers_size():
    """The official code has 16,789,215 more, which it never uses."""
    with torch.device("meta"):
        count = count_parameters(build("idm", "paper"))
    assert count == 116_590_885 - 16_789_215


# Options


@torch.no_grad()
def output(model: IDM, size=(11, 14)) -> torch.Tensor:
    """The U-Net's output for a fixed y and low-resolution picture."""
    rng = torch.Generator().manual_seed(3)
    lr = torch.rand(1, 3, 4, 5, generator=rng)
    return model(lr, torch.randn(1, 3, *size, generator=rng), torch.tensor([0.5]))


@pytest.mark.parametrize("key", RELEASED)
def test_every_switch_between_text_and_code_matters(key):
    model = idm()
    for layer in model.mix:  # some weights of either sign
        nn.init.normal_(layer.alpha.bias)
    other = variant(model, **{key: RELEASED[key]})
    assert (output(model) - output(other)).abs().max() > 1e-3


def test_dropout_is_for_training():
    model = idm(dropout=0.5)
    assert torch.equal(output(model), output(model))
    model.train()
    assert not torch.equal(output(model), output(model))


@torch.no_grad()
def test_without_the_conditioning_network_features_pass_alone():
    """As with a = 0 and b = 1 everywhere."""
    full, size = idm(), (11, 14)
    state = {
        key: value
        for key, value in full.state_dict().items()
        if not key.startswith(("conditioning.", "mix."))
    }
    concat = build("idm", "tiny", condition="concat-edsr").eval()
    concat.load_state_dict(state)
    lr, y = torch.rand(1, 3, 4, 5), torch.randn(1, 3, *size)
    level, condition = torch.tensor([0.5]), full.condition(lr, size)
    mix = tuple((torch.zeros_like(a), torch.ones_like(b)) for a, b in condition.mix)
    expected = full.predict(y, level, condition._replace(mix=mix))
    near(concat(lr, y, level), expected)


def test_concat_bicubic_needs_no_encoder_but_remembers_its_name():
    model = build("idm", "tiny", "edsr-laptop", condition="concat-bicubic")
    assert not any(key.startswith(("enc", "to_")) for key in model.state_dict())
    assert model.config["encoder"] == "edsr-laptop"
    lr = torch.rand(1, 3, 4, 5)
    enlarged, features, mix = model.condition(lr, (9, 10))
    near(enlarged, F.interpolate(2 * lr - 1, (9, 10), mode="bicubic"), 1e-6)
    assert features == mix == ()


@torch.no_grad()
@pytest.mark.parametrize("size", [(24, 40), (4, 4), (5, 31), (9, 1)])
def test_the_true_scale_is_that_of_the_area(size):
    model, scales = idm(), []
    for layer in model.mix:
        layer.register_forward_pre_hook(lambda _, args: scales.append(args[0].item()))
    lr = torch.rand(1, 3, 4, 5)
    model.condition(lr, size)
    assert scales == pytest.approx([math.sqrt(math.prod(size) / 20)] * 2)
    model.sample(lr, size, 1, scale=2.5)
    assert scales[2:] == [2.5] * 2


# Training


def sample_of(lr, y0, noise, when):
    return SimpleNamespace(lr=lr, target=y0, noise=noise, when=torch.tensor(when))


@every_target
def test_training_draws_levels_between_two_steps(target):
    """At t - 1 = 0, 300, 300 and the last one of 1000, between them, and at t = 1000:
    a number below 1 in float64 may be 1 in float32."""
    model = build("idm", "tiny", target=target)
    y0, noise = torch.rand(5, 3, 6, 7), torch.randn(5, 3, 6, 7)
    when = [0.0, 0.3, 0.30025, 0.9995, 1.0]
    inputs = []

    def network(lr, y, level):
        inputs.extend((y, level))
        return torch.zeros_like(y)

    error = model.error(network, sample_of(torch.rand(5, 3, 2, 2), y0, noise, when))
    y, level = inputs
    step = model.gamma.sqrt().float()
    between = [torch.lerp(step[300], step[301], 0.25), (step[999] + step[1000]) / 2]
    near(level, torch.stack([step[0], step[300], *between, step[1000]]), 1e-6)
    wide = level[:, None, None, None]
    near(y, wide * (2 * y0 - 1) + (1 - wide**2).sqrt() * noise, 1e-6)
    near(-error, diffusion.to_target(target, 2 * y0 - 1, noise, wide), 1e-6)


@every_variant
def test_every_weight_learns(options):
    model = build("idm", "tiny", **options)
    y0, noise = torch.rand(2, 3, 12, 12), torch.randn(2, 3, 12, 12)
    sample = sample_of(torch.rand(2, 3, 4, 4), y0, noise, [0.3, 0.7])
    model.error(model, sample).square().mean().backward()
    gradients = {key: p.grad for key, p in model.named_parameters()}
    assert [key for key, g in gradients.items() if g is None or not g.any()] == []


# Sampling


LR = torch.rand(3, 3, 4, 5, generator=torch.Generator().manual_seed(1))


@either_sampler
@pytest.mark.parametrize("shape", ["linear", "cosine"])
@every_target
def test_a_perfect_network_leads_to_the_picture(target, shape, ancestral):
    model = idm(target=target, noise=shape)
    y0 = torch.rand(2, 3, 6, 7)

    def perfect(y, level, condition, activation):
        level, truth = level[:, None, None, None], 2 * y0 - 1
        noise = (y - level * truth) / (1 - level**2).sqrt()
        return diffusion.to_target(target, truth, noise, level)

    model.unet.forward = perfect
    lr = torch.rand(2, 3, 3, 3)
    near(model.sample(lr, (6, 7), steps=9, ancestral=ancestral), y0, 1e-4)


@either_sampler
@every_variant
def test_sampling_repeats_bit_for_bit(options, ancestral):
    draw = partial(idm(**options).sample, LR, (9, 12), 3, ancestral=ancestral)
    samples = draw(seed=5)
    assert torch.equal(samples, draw(seed=5))
    assert not torch.equal(samples, draw(seed=6))
    assert 0 <= samples.min() < samples.max() <= 1
    assert samples.std(dim=(1, 2, 3)).min() > 0.01


@either_sampler
def test_a_picture_of_a_batch_is_that_of_its_seed_alone(ancestral):
    model = idm()
    batch = model.sample(LR, (11, 13), 5, seed=7, ancestral=ancestral)
    for b in range(3):
        alone = model.sample(LR[b, None], (11, 13), 5, 7 + b, ancestral=ancestral)
        near(batch[b, None], alone)


@pytest.mark.parametrize(
    "lr_size, size",
    [((3, 5), (24, 40)), ((1, 1), (1, 1)), ((4, 4), (4, 4)), ((5, 7), (31, 13))],
)
def test_any_size_works(lr_size, size):
    model, lr = idm(), torch.rand(1, 3, *lr_size)
    sample = model.sample(lr, size, 2)
    assert sample.shape == (1, 3, *size) and sample.isfinite().all()
    differs = (sample - model.sample(1 - lr, size, 2)).abs().max() > 1e-3
    assert differs == (size != (1, 1))  # group normalisation keeps only signs there


def test_the_network_runs_once_a_step_and_steps_are_those_of_ddim():
    model, steps, calls = idm(), [], []
    model.unet.register_forward_hook(lambda *_: calls.append("unet"))
    model.encoder.register_forward_hook(lambda *_: calls.append("encoder"))
    sample = model.sample(LR, (9, 12), 4, seed=2, on_step=steps.append)
    assert [step.done for step in steps] == [1, 2, 3, 4]
    assert (calls.count("unet"), calls.count("encoder")) == (4, 1)
    near(sample, (steps[-1].y * 0.5 + 0.5).clamp(0, 1), 0)
    near(steps[-1].y, steps[-1].y0)  # at the end, y is the estimated picture
    level = model.gamma[[1000, 750, 500, 250, 0]].sqrt().float()
    y = diffusion.noise_source(LR, (9, 12), 2)()
    for k, step in enumerate(steps):  # each is on the line through its estimate
        assert step.y0.abs().max() <= 1 and not step.y.requires_grad
        noise = (y - level[k] * step.y0) / (1 - level[k] ** 2).sqrt()
        y = step.y
        near(y, diffusion.q_sample(step.y0, level[k + 1], noise), 1e-4)


def test_fresh_noise_makes_another_picture_but_not_in_one_step():
    model = idm()
    for steps in (1, 4):
        draw = partial(model.sample, LR, (9, 12), steps)
        equal = torch.allclose(draw(), draw(ancestral=True), atol=1e-5)
        assert equal == (steps == 1)


@pytest.mark.parametrize(
    "size, steps, words",
    [((1024, 1025), 2, "1048576 pixels"), ((8, 8), 1001, "from 1 to 1000")],
)
def test_samples_that_cannot_be(size, steps, words):
    with pytest.raises(UserError, match=words):
        idm().sample(LR, size, steps)
