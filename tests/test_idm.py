"""IDM: the official numbers, the mathematics of diffusion, and pictures that repeat."""

import math
import re
from functools import cache, partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import awake, golden, golden_state, golden_tensor, near
from torch import nn

from asr_course import build, count_parameters
from asr_course.data import Pair, PairRecipe, Pairs
from asr_course.diffusion import (
    denoise,
    from_target,
    posterior,
    q_sample,
    signal,
    times,
    to_target,
)
from asr_course.encoders import EDSR
from asr_course.errors import UserError
from asr_course.models import variant
from asr_course.models.idm import (
    ABLATIONS,
    IDM,
    LARGEST,
    RELEASED,
    SIZES,
    Condition,
    EqualisedConv,
    IDMOptions,
    ImplicitUp,
    ScaleMix,
    blur,
    noise_embedding,
    noise_source,
)
from asr_course.official import from_official
from asr_course.states import load_state
from asr_course.weights import load_weights, save_weights

TARGETS = ("noise", "x0", "v")
every_target = pytest.mark.parametrize("target", TARGETS)
either_sampler = pytest.mark.parametrize("ancestral", [False, True])

# What the official code calls our modules; its downs and shifts count one more.
NAMES = {
    r"^encoder\.tail\.0": "to_picture",
    r"^noise_level_mlp\.1": "unet.told.0",
    r"^noise_level_mlp\.3": "unet.told.2",
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
    found = {}
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
            found[key] = value
    return found


@cache
def official() -> IDM:
    """The golden weights."""
    model = IDM(EDSR(2, 16), SMALL)
    encoder = {"encoder." + k: v for k, v in golden_state("idm", "sd/encoder.").items()}
    state = from_official(encoder) | golden_state("idm", "sd/denoise_fn.")
    load_state(model, our_names(state), "golden file")
    return model.eval()


def given(model: IDM, tag: str = "", count: int = 2) -> Condition:
    """What the golden U-Net hears at one of three sizes; its p is (s - 1) / 7."""
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
def test_answers_equal_the_official_ones(tag):
    model = official()
    heard = given(model, tag)
    near(heard.picture, golden_tensor("idm", f"out/x_con{tag}"), 1e-4)
    level = golden_tensor("idm", "in/noise_level")[:, 0]
    answer = model.ask(golden_tensor("idm", f"in/y_t{tag}"), level, heard)
    near(answer, golden_tensor("idm", f"out/eps{tag}"), 1e-4)


@torch.no_grad()
def test_conditioning_equals_the_official_one():
    model = official()
    heard = given(model)
    for depth in (1, 2):
        shift, (a, b) = heard.features[depth - 1], heard.mix[depth - 1]
        near(shift[:1], golden_tensor("idm", f"mid/shift{depth}"), 1e-5)
        own, other = (golden_tensor("idm", f"mid/scale{k}_{depth}") for k in (1, 2))
        norm = (own.square() + other.square()).sqrt()
        near(a.flatten() * norm, other, 1e-5)
        near(b.flatten() * norm, own, 1e-5)
        assert (own < 0).any() or (other < 0).any()  # "signed" matters here


@torch.no_grad()
def test_layers_equal_the_official_ones():
    model, seen = official(), {}
    unet = model.unet
    ours = {"down0": unet.first, "mid0": unet.middle[0], "mid1": unet.middle[1]}
    ours |= {f"down{k}": unet.downs[k - 1] for k in (1, 5)}
    ours |= {f"up{k}": unet.ups[k] for k in (0, 2, 5)}
    hooks = [
        layer.register_forward_hook(
            lambda _, args, out, name=name: seen.update({name: (args[0], out)})
        )
        for name, layer in ours.items()
    ]
    level = golden_tensor("idm", "in/noise_level")[:, 0]
    model.ask(golden_tensor("idm", "in/y_t"), level, given(model))
    for hook in hooks:
        hook.remove()
    for name, (_, out) in seen.items():
        expected = golden_tensor("idm", f"mid/{name}")
        if expected.ndim == 3:  # queries of an implicit layer, (B, h w, C)
            out = out.flatten(2).mT
        near(out[:1], expected, 1e-4)
    for name in ("up2", "up5"):  # what these layers are given is modulated already
        near(seen[name][0][:1], golden_tensor("idm", f"mid/{name}_style"), 1e-4)
    told = unet.told(noise_embedding(level, 8))[:1]
    near(told, golden_tensor("idm", "mid/t_emb")[0], 1e-6)


@pytest.mark.parametrize(
    "steps, index, before",
    [
        (
            2000,
            [0, 1, 2, 500, 1000, 1500, 1998, 1999],
            [0, 1, 2, 500, 1000, 1500, 1999, 2000],
        ),
        (10, range(10), range(11)),
    ],
)
def test_the_linear_schedule_equals_the_official_one(steps, index, before):
    def official(name):
        return golden_tensor("idm", f"sched/T{steps}/{name}").double()

    gamma, zero, one = signal("linear", steps), torch.zeros(1), torch.ones(1)
    near(gamma[list(before)].sqrt(), official("sqrt_alphas_cumprod_prev"), 1e-6)
    for k, t in enumerate(index):
        now, then = gamma[t + 1], gamma[t]
        near(now, official("alphas_cumprod")[k], 1e-6)
        near(1 - now / then, official("betas")[k], 1e-6)
        (y0_share,), variance = posterior(zero, one, now, then)
        (y_share,), _ = posterior(one, zero, now, then)
        near(y0_share, official("posterior_mean_coef1")[k], 1e-6)
        near(y_share, official("posterior_mean_coef2")[k], 1e-6)
        near(variance, official("posterior_variance")[k], 1e-6)


def test_the_cosine_schedule_equals_the_official_one():
    gamma = signal("cosine", 10)
    near(1 - gamma[1:] / gamma[:-1], golden_tensor("idm", "sched/beta_cosine_T10"))


def test_noisy_pictures_equal_the_official_ones():
    level = torch.tensor([0.8, 0.3])[:, None, None, None]
    y0, noise = (golden_tensor("idm", f"in/{name}") for name in ("gt", "noise"))
    near(q_sample(y0, level, noise), golden_tensor("idm", "out/q_sample"), 1e-6)


@torch.no_grad()
def test_the_loss_equals_the_official_one():
    """Its p is 0.6 where s is 2: M is then 8/3."""
    model = variant(official(), largest=8 / 3)
    levels = model.gamma.sqrt()
    when = []
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
    loss = model.residual(model, sample).abs().sum()
    assert loss.item() == pytest.approx(golden("idm")["out/l1_sum_loss"], rel=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("t", [0, 1, 1000, 1999])
def test_steps_equal_the_official_ones(t):
    model, gamma = official(), signal("linear", 2000)
    y, now, then = golden_tensor("idm", "in/y_t"), gamma[t + 1], gamma[t]
    y0, _ = model.estimate(y, now.sqrt().float(), given(model))
    mean, variance = posterior(y, y0.clamp(-1, 1), now, then)
    near(mean[:1], golden_tensor("idm", f"out/p_mean_t{t}"), 1e-4)
    log = math.log(max(variance.item(), 1e-20))
    assert log == pytest.approx(golden("idm")[f"out/p_logvar_t{t}"].item(), abs=1e-4)


def sampled(y, gamma, at, **more):
    """Where the golden model's sampler ends for its first input."""
    model = official()
    heard = given(model, count=1)
    *_, last = denoise(
        lambda y, level: model.estimate(y, level, heard), y, gamma, at, **more
    )
    return last.y


@torch.no_grad()
def test_the_ancestral_sampler_equals_the_official_one():
    noise = iter(golden_tensor("idm", "in/sample_noise").float())
    found = sampled(
        golden_tensor("idm", "in/sample_init").float(),
        signal("linear", 10, 1e-3, 0.5),
        times(10, 10),
        fresh=lambda: next(noise),
    )
    near(found, golden_tensor("idm", "out/sample_T10"), 2e-3)
    assert len(list(noise)) == 1  # none after the last step


@torch.no_grad()
def test_ddim_equals_the_official_one():
    """The official loop stops before its last step."""
    y, at = golden_tensor("idm", "in/ddim_init"), times(200, 200)[:-1]
    found = sampled(y, signal("linear", 200), at, clip=False)
    near(found[0], golden_tensor("idm", "out/ddim_T200"), 2e-3)


def dead(widths: tuple[int, ...]) -> int:
    """How many of the official parameters are never used."""
    first, (before, deepest) = widths[0], widths[-2:]
    level = 4 * first + 9 * first**2 + first  # mix and shift of full resolution
    down = 9 * before * deepest + deepest  # below the deepest depth
    final = 9 * 512 * 512 + 512 + 9 * 512 * 256 + 256  # final_down1 and 2
    final += 1024 * 2048 + 2048 + 9 * 512 * 512 + 512  # final_linear, final_styleconv
    # a modulated convolution, where it gets its style from, and its noise's weight
    style = sum(9 * n**2 + 512 * n + n + 1 for n in widths[1:])
    means = 2 * (3 * 3 + 3)  # EDSR's
    imnet = 66 * 256 + 3 * 256**2 + 4 * 256 + 256 * 3 + 3
    return level + down + final + style + means + imnet


def test_parameters_at_the_paper_s_size():
    shapes = [re.findall(r"\d+", text) for text in golden("idm")["dead_shapes"]]
    stored = sum(math.prod(map(int, shape)) for shape in shapes)
    assert dead(SMALL.widths) == stored
    with torch.device("meta"):
        found = count_parameters(build("idm", "paper"))
    assert found == 99_801_670
    assert found + dead(SIZES["paper"].widths) == 116_590_885


# Parts of the network


def by_hand(up: ImplicitUp, h: torch.Tensor, size, activation) -> torch.Tensor:
    """Eq. 9 one pixel at a time, in whole numbers: of two centres the later one."""
    B, C, rows, cols = h.shape
    found = torch.empty(B, C, *size)
    first, second = up.mlp.layers
    for i in range(size[0]):
        for j in range(size[1]):
            k = (2 * i + 1) * rows // (2 * size[0])
            m = (2 * j + 1) * cols // (2 * size[1])
            down = (2 * i + 1) * rows / size[0] - 1 - 2 * k
            right = (2 * j + 1) * cols / size[1] - 1 - 2 * m
            away = torch.tensor([down, right]).expand(B, 2)
            x = first(torch.cat([h[:, :, k, m], away], dim=1))
            found[:, :, i, j] = second(x.relu() if activation else x)
    return found


@torch.no_grad()
@pytest.mark.parametrize("activation", [True, False])
@pytest.mark.parametrize("size", [(3, 5), (6, 10), (7, 9), (2, 13), (1, 1)])
def test_implicit_up_asks_the_nearest_feature_pixel_by_pixel(size, activation):
    up, h = ImplicitUp(4, 32), torch.randn(2, 4, 3, 5)
    near(up(h, size, activation), by_hand(up, h, size, activation), 1e-5)


def test_a_layer_of_released_code_is_linear_and_ours_is_not():
    x, y = torch.randn(2, 1, 4, 3, 5)
    for activation in (True, False):
        up = partial(ImplicitUp(4, 32), size=(6, 7), activation=activation)
        both = up((x + y) / 2) - (up(x) + up(y)) / 2
        assert (both.abs().max() < 1e-5) != activation


def test_equalised_convolutions_keep_the_size_of_their_input():
    layer, x = EqualisedConv(24, 64), torch.randn(1, 24, 40, 40)
    assert not layer.bias.any()
    assert layer.weight.std().item() == pytest.approx(1, abs=0.05)
    expected = F.conv2d(x, layer.weight / math.sqrt(9 * 24), layer.bias, padding=1)
    near(layer(x), expected, 1e-5)
    assert layer(x)[..., 1:-1, 1:-1].std().item() == pytest.approx(1, abs=0.1)
    assert EqualisedConv(24, 8, stride=2)(x[..., :39, :31]).shape[2:] == (20, 16)


def test_blur_is_the_outer_product_and_sums_to_one():
    spot = torch.zeros(1, 2, 5, 6)
    spot[0, 1, 2, 3] = 25
    expected = torch.outer(*[torch.tensor([1.0, 3, 1])] * 2)
    near(blur(spot)[0, 1, 1:4, 2:5], expected)
    near(blur(spot).sum(), torch.tensor(25))
    assert not blur(spot)[0, 0].any()  # channels do not mix


def test_the_noise_level_is_told_in_sines_and_cosines():
    rate = np.array([1, 0.1, 0.01, 0.001])  # 10000 to the power of -k/4
    expected = [[*np.sin(rate * level), *np.cos(rate * level)] for level in (0.3, 1)]
    near(noise_embedding(torch.tensor([0.3, 1]), 8), torch.tensor(expected), 1e-6)


@torch.no_grad()
def test_shares_add_up_squared():
    mix = ScaleMix(16)
    nn.init.normal_(mix.alpha.weight)
    nn.init.normal_(mix.alpha.bias)
    for scale in (1.0, 3.7, 12.0):
        told = torch.tensor([scale])
        (a, b), (plus_a, plus_b) = (mix(told, absolute) for absolute in (False, True))
        near(a**2 + b**2, torch.ones(16, 1, 1), 1e-5)
        assert (a < 0).any() and (b < 0).any()
        near(plus_a, a.abs(), 0)
        near(plus_b, b.abs(), 0)


def test_at_first_both_features_weigh_alike_at_scale_0():
    a, b = ScaleMix(5)(torch.zeros(1), True)
    near(a, torch.full((5, 1, 1), 0.5**0.5), 1e-6)
    near(b, a, 0)


# Options


@torch.no_grad()
def answer(model: IDM, scale: float | None = None, size=(11, 14)) -> torch.Tensor:
    """What a model's U-Net says about a fixed y and low-resolution picture."""
    rng = torch.Generator().manual_seed(3)
    lr = torch.rand(1, 3, 4, 5, generator=rng)
    y = torch.randn(1, 3, *size, generator=rng)
    return model.ask(y, torch.tensor([0.5]), model.condition(lr, size, scale))


def twin(model: IDM, **options) -> IDM:
    """Another model with the same weights."""
    built = build("idm", "tiny", **options)
    built.load_state_dict(model.state_dict())
    return built.eval()


@pytest.mark.parametrize("key", RELEASED)
def test_every_switch_between_text_and_code_matters(key):
    model = idm()
    for layer in model.mix:  # some shares of either sign
        nn.init.normal_(layer.alpha.bias)
    other = twin(model, **{key: RELEASED[key]})
    assert (answer(model) - answer(other)).abs().max() > 1e-3
    assert torch.equal(answer(model), answer(twin(model)))


def test_signs_matter_only_where_there_are_negative_ones():
    model = idm()
    for layer in model.mix:
        layer.alpha.weight.data.abs_()
    near(answer(model), answer(twin(model, modulation="signed")), 0)


def test_p_is_a_linear_map_of_the_scale():
    """p = (s - 1) / (M - 1): other weights say the same."""
    model = idm(largest=5)
    other = twin(model, scale_input="p", largest=5)
    for layer in other.mix:
        layer.alpha.bias.data += layer.alpha.weight.data[:, 0]
        layer.alpha.weight.data *= 4
    for scale in (None, 1.0, 6.5):
        near(answer(other, scale), answer(model, scale), 1e-5)


def test_interpolation_of_features_does_not_matter_at_their_own_size():
    model = idm()
    size = (4, 5)
    other = twin(model, resize="nearest")
    near(answer(other, size=size), answer(model, size=size), 1e-5)


def test_dropout_is_for_training():
    model = idm(dropout=0.5)
    assert torch.equal(answer(model), answer(model))
    model.train()
    assert not torch.equal(answer(model), answer(model))


# What the U-Net hears


@torch.no_grad()
def test_without_the_conditioning_network_features_pass_alone():
    """a = 0 and b = 1 everywhere leave what the U-Net hears beside y_t."""
    full = idm()
    state = {
        key: value
        for key, value in full.state_dict().items()
        if not key.startswith(("conditioning.", "mix."))
    }
    concat = build("idm", "tiny", condition="concat-edsr").eval()
    load_state(concat, state, "twin")
    lr, y, level = (
        torch.rand(1, 3, 4, 5),
        torch.randn(1, 3, 11, 14),
        torch.tensor([0.5]),
    )
    heard = full.condition(lr, (11, 14))
    mix = [(torch.zeros_like(a), torch.ones_like(b)) for a, b in heard.mix]
    near(full.ask(y, level, heard._replace(mix=tuple(mix))), concat(lr, y, level), 1e-5)
    near(concat.condition(lr, (11, 14)).picture, heard.picture, 0)


def test_concat_bicubic_needs_no_encoder():
    model, lr = idm(condition="concat-bicubic"), torch.rand(1, 3, 4, 5)
    assert not any(key.startswith(("enc", "to_")) for key in model.state_dict())
    heard = model.condition(lr, (9, 10))
    expected = F.interpolate(2 * lr - 1, (9, 10), mode="bicubic")
    near(heard.picture, expected, 1e-6)
    assert heard.features == heard.mix == ()


@torch.no_grad()
@pytest.mark.parametrize("size", [(24, 40), (4, 4), (5, 31), (9, 1)])
def test_the_true_scale_is_that_of_the_area(size):
    model, seen = idm(), []
    for layer in model.mix:
        layer.register_forward_pre_hook(lambda _, args: seen.append(args[0].item()))
    lr = torch.rand(1, 3, 4, 5)
    model.condition(lr, size)
    assert seen == pytest.approx([math.sqrt(math.prod(size) / 20)] * 2)
    model.condition(lr, size, scale=2.5)
    assert seen[2:] == [2.5] * 2


@torch.no_grad()
@pytest.mark.parametrize("size", [(31, 13), (24, 40), (1, 1), (2, 7)])
def test_features_have_the_sizes_of_the_u_net_s(size):
    """Every step down halves and rounds up, on both sides."""
    model = idm()
    heard = model.condition(torch.rand(1, 3, 5, 7), size)
    sizes = [tuple(f.shape[2:]) for f in heard.features]
    halves = [tuple(-(-n // 2**k) for n in size) for k in (1, 2)]
    assert sizes == halves
    assert [f.shape[1] for f in heard.features] == list(model.options.widths[1:])


@torch.no_grad()
def test_pictures_in_a_batch_do_not_hear_of_each_other():
    model, lr, y = idm(), torch.rand(2, 3, 4, 5), torch.randn(2, 3, 11, 14)
    level = torch.tensor([0.3, 0.9])
    both = model(lr, y, level)
    for b in range(2):
        near(model(lr[b, None], y[b, None], level[b, None]), both[b, None], 1e-5)


# Training


def sample_of(lr, y0, noise, when):
    return SimpleNamespace(lr=lr, target=y0, noise=noise, when=torch.tensor(when))


def asked(model: IDM, sample):
    """(y, level) that the network was given, and what was wanted of it."""
    seen = []

    def network(lr, y, level):
        seen.append((y, level))
        return torch.zeros_like(y)

    wanted = -model.residual(network, sample)
    return *seen[0], wanted


@every_target
def test_the_network_is_asked_about_a_picture_at_a_level_between_two_steps(target):
    """At t - 1 = 0, 300, 300 and the last one of 1000, and between them."""
    model = build("idm", "tiny", target=target)
    y0, noise = torch.rand(4, 3, 6, 7), torch.randn(4, 3, 6, 7)
    when = [0.0, 0.3, 0.30025, 0.9995]
    sample = sample_of(torch.rand(4, 3, 2, 2), y0, noise, when)
    y, level, wanted = asked(model, sample)
    step = model.gamma.sqrt().float()
    between = [torch.lerp(step[300], step[301], 0.25), (step[999] + step[1000]) / 2]
    near(level, torch.stack([step[0], step[300], *between]), 1e-6)
    wide = level[:, None, None, None]
    near(y, wide * (2 * y0 - 1) + (1 - wide**2).sqrt() * noise, 1e-6)
    near(wanted, to_target(target, 2 * y0 - 1, noise, wide), 1e-6)


class Late(np.random.Generator):
    """Draws the largest number below 1 that there is."""

    def random(self, size=None, dtype=np.float64, out=None):
        return np.nextafter(dtype(1), dtype(0))


@torch.no_grad()
def test_the_last_moment_of_all_still_has_a_level(monkeypatch):
    """What is below 1 in float64 may be 1 in float32: once in 33 million samples."""
    pictures = [np.zeros((8, 8, 3), np.uint8)]
    sample = Pairs(pictures, PairRecipe(1, 4, 2), 0, 1)
    monkeypatch.setattr(np.random, "default_rng", lambda seed: Late(np.random.PCG64(0)))
    pair = sample[0]
    model = build("idm", "tiny")
    _, level, _ = asked(model, Pair(*(part[None] for part in pair)))
    near(level, model.gamma[-1:].sqrt(), 1e-3)


@pytest.mark.parametrize("options", ABLATIONS.values(), ids=ABLATIONS)
def test_every_weight_learns(options):
    model = build("idm", "tiny", **options)
    y0, noise = torch.rand(2, 3, 12, 12), torch.randn(2, 3, 12, 12)
    sample = sample_of(torch.rand(2, 3, 4, 4), y0, noise, [0.3, 0.7])
    model.residual(model, sample).square().mean().backward()
    idle = [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None or not parameter.grad.any()
    ]
    assert idle == []


# Diffusion


@pytest.mark.parametrize("shape", ["linear", "cosine"])
@pytest.mark.parametrize("steps", [1, 7, 1000])
def test_schedules_fall_from_the_picture(shape, steps):
    gamma = signal(shape, steps)
    assert gamma.shape == (steps + 1,) and gamma.dtype == torch.float64
    assert gamma[0] == 1 and gamma[-1] > 0
    assert (gamma.diff() < 0).all()


def test_the_schedules_by_hand():
    """IDM's ends at 4.39e-5; the cosine's is cos^2 but for its last step."""
    assert signal()[-1].item() == pytest.approx(4.39e-5, rel=0.001)
    t = torch.arange(1000, dtype=torch.float64) / 1000
    curve = ((t + 0.008) / 1.008 * math.pi / 2).cos() ** 2
    near(signal("cosine", 1000)[:-1], curve / curve[0], 1e-10)
    with pytest.raises(UserError, match="Did you mean 'cosine'"):
        signal("cosin")


@every_target
@pytest.mark.parametrize("level", [0.02, 0.5, 0.99])
def test_what_is_asked_can_be_taken_back(target, level):
    y0, noise, level = *torch.randn(2, 3, 8, 9).double(), torch.tensor(level).double()
    y = q_sample(y0, level, noise)
    found = from_target(target, to_target(target, y0, noise, level), y, level)
    near(torch.stack(found), torch.stack([y0, noise]), 1e-10)


def test_v_is_the_direction_of_the_circle():
    """y = cos(a) y0 + sin(a) eps has the derivative v, and both have one length."""
    y0, noise = torch.randn(2, 5).double()
    angle = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)

    def at(angle):
        return angle.cos() * y0 + angle.sin() * noise

    slope = torch.autograd.functional.jacobian(at, angle)
    near(slope, to_target("v", y0, noise, angle.detach().cos()), 1e-10)


def test_posterior_is_that_of_gaussians():
    """q(y_s | y_t, y_0) from the joint Gaussian of y_s and y_t, written out."""
    now, then, y0, y = (torch.tensor(x).double() for x in (0.3, 0.8, 0.7, -0.4))
    alpha = now / then
    covariance = alpha.sqrt() * (1 - then)  # of y_s and y_t, given y_0
    mean, variance = posterior(y, y0, now, then)
    gain = covariance / (1 - now)
    near(mean, then.sqrt() * y0 + gain * (y - now.sqrt() * y0), 1e-10)
    near(variance, (1 - then) - gain * covariance, 1e-10)


@pytest.mark.parametrize("total, steps", [(10, 10), (1000, 25), (7, 3), (9, 8), (5, 1)])
def test_times_fall_evenly_to_zero(total, steps):
    at = times(total, steps)
    assert (at[0], at[-1], len(at)) == (total, 0, steps + 1)
    gaps = -np.diff(at)
    assert gaps.min() >= 1 and np.abs(gaps - total / steps).max() <= 1


@pytest.mark.parametrize("steps", [0, -3, 1001])
def test_senseless_numbers_of_steps(steps):
    with pytest.raises(UserError, match=f"from 1 to 1000, not {steps}"):
        times(1000, steps)


@either_sampler
@pytest.mark.parametrize("shape", ["linear", "cosine"])
@every_target
def test_a_network_that_knows_the_picture_is_led_to_it(target, shape, ancestral):
    """Whatever it is asked, and wherever the noise begins."""
    model = idm(target=target, noise=shape)
    y0 = torch.rand(2, 3, 6, 7)

    def knows(y, level, heard, activation):
        level, truth = level[:, None, None, None], 2 * y0 - 1
        noise = (y - level * truth) / (1 - level**2).sqrt()
        return to_target(target, truth, noise, level)

    model.unet.forward = knows
    lr = torch.rand(2, 3, 3, 3)
    found = model.sample(lr, (6, 7), steps=9, ancestral=ancestral)
    near(found, y0, 1e-4)


@either_sampler
def test_a_perfect_denoiser_ends_at_the_picture_itself(ancestral):
    y0, gamma = torch.rand(1, 3, 5, 5) * 2 - 1, signal("cosine", 50)

    def estimate(y, level):
        return y0, (y - level * y0) / (1 - level**2).sqrt()

    fresh = (lambda: torch.randn(1, 3, 5, 5)) if ancestral else None
    *_, last = denoise(estimate, torch.randn(1, 3, 5, 5), gamma, times(50, 7), fresh)
    near(last.y, y0, 1e-6)


def of_gaussian(mean: float, std: float):
    """The estimate of a network that has learnt white pictures by heart."""

    def estimate(y, level):
        total = level**2 * std**2 + 1 - level**2
        y0 = mean + level * std**2 / total * (y - level * mean)
        return y0, (y - level * y0) / (1 - level**2).sqrt()

    return estimate


@either_sampler
@pytest.mark.parametrize("shape", ["linear", "cosine"])
def test_gaussian_pictures_come_out_with_their_own_variance(shape, ancestral):
    gamma, y = signal(shape, 500, last=0.04), torch.randn(1, 3, 100, 100)
    fresh = (lambda: torch.randn(y.shape)) if ancestral else None
    *_, last = denoise(
        of_gaussian(0.3, 0.4), y, gamma, times(500, 500), fresh, clip=False
    )
    assert last.y.mean().item() == pytest.approx(0.3, abs=0.01)
    assert last.y.std().item() == pytest.approx(0.4, rel=0.03)


def test_few_steps_of_ddim_lose_variance_and_more_lose_less():
    """One step gives the mean of all pictures; variance grows with the steps."""
    gamma, y = signal("cosine", 1000), torch.randn(1, 3, 60, 60)
    found = []
    for steps in (1, 3, 10, 100):
        *_, last = denoise(
            of_gaussian(0.3, 0.4), y, gamma, times(1000, steps), clip=False
        )
        found.append(last.y.std().item())
    assert found[0] < 0.01
    assert found == sorted(found) and found[-1] < 0.42


def test_clipping_keeps_beliefs_within_pictures_and_their_noise_consistent():
    gamma = signal("cosine", 100)
    for step in denoise(
        of_gaussian(0, 5), torch.randn(1, 3, 9, 9), gamma, times(100, 9)
    ):
        assert step.y0.abs().max() <= 1
    assert step.y.abs().max() <= 1
    near(step.y, step.y0, 1e-6)


# Sampling


LR = torch.rand(3, 3, 4, 5, generator=torch.Generator().manual_seed(1))


@either_sampler
@pytest.mark.parametrize("options", ABLATIONS.values(), ids=ABLATIONS)
def test_sampling_repeats_bit_for_bit(options, ancestral):
    model = idm(**options)
    first, again = (
        model.sample(LR, (9, 12), 3, seed=5, ancestral=ancestral) for _ in range(2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, model.sample(LR, (9, 12), 3, seed=6))
    assert 0 <= first.min() < first.max() <= 1
    assert first.std(dim=(1, 2, 3)).min() > 0.01


@either_sampler
def test_a_picture_of_a_batch_is_that_of_its_seed_alone(ancestral):
    model = idm()
    batch = model.sample(LR, (11, 13), 5, seed=7, ancestral=ancestral)
    for b in range(3):
        alone = model.sample(LR[b, None], (11, 13), 5, 7 + b, ancestral)
        near(batch[b, None], alone, 1e-5)


def test_noise_is_white_and_another_one_for_every_seed_and_step():
    fresh = noise_source(LR, (80, 90), seed=2)
    first, second = fresh(), fresh()
    alone = noise_source(LR[:1], (80, 90), seed=3)
    assert torch.equal(first[1], alone()[0]) and torch.equal(second[1], alone()[0])
    for x in (first, second):
        assert x.mean().abs().item() < 0.02
        assert x.std().item() == pytest.approx(1, abs=0.02)
    many = torch.stack([first[0], first[1], second[0]]).flatten(1)
    assert (torch.corrcoef(many) - torch.eye(3)).abs().max() < 0.03


@pytest.mark.parametrize(
    "given, size",
    [
        ((3, 5), (24, 40)),
        ((1, 1), (8, 8)),
        ((1, 1), (1, 1)),
        ((4, 4), (4, 4)),
        ((5, 7), (31, 13)),
        ((4, 4), (3, 2)),
    ],
)
def test_any_size_works(given, size):
    model, lr = idm(), torch.rand(1, 3, *given)
    found = model.sample(lr, size, 2)
    assert found.shape == (1, 3, *size) and found.isfinite().all()
    looks = (found - model.sample(1 - lr, size, 2)).abs().max() > 1e-3
    assert looks == (size != (1, 1))  # there group normalisation leaves signs alone


def test_another_scale_than_the_true_one_gives_another_picture():
    model = idm()
    size = (12, 15)
    pictures = [model.sample(LR, size, 3, scale=s) for s in (None, 3.0, 4.0)]
    near(pictures[0], pictures[1], 1e-6)  # 3 is the true one
    assert (pictures[0] - pictures[2]).abs().max() > 1e-3


def test_fresh_noise_makes_another_picture_but_not_in_one_step():
    model = idm()
    for steps in (1, 4):
        ddim, ancestral = (
            model.sample(LR, (9, 12), steps, ancestral=fresh) for fresh in (0, 1)
        )
        assert torch.allclose(ddim, ancestral, atol=1e-5) == (steps == 1)


def test_steps_are_told_and_the_network_is_asked_once_in_each():
    model, seen, calls = idm(), [], []
    model.unet.register_forward_hook(lambda *_: calls.append("unet"))
    model.encoder.register_forward_hook(lambda *_: calls.append("encoder"))
    found = model.sample(LR, (9, 12), 6, on_step=seen.append)
    assert [step.done for step in seen] == [1, 2, 3, 4, 5, 6]
    assert (calls.count("unet"), calls.count("encoder")) == (6, 1)
    near(found, (seen[-1].y * 0.5 + 0.5).clamp(0, 1), 0)
    near(seen[-1].y, seen[-1].y0, 1e-5)  # at the end, the belief is the picture
    assert all(step.y0.abs().max() <= 1 for step in seen)


def test_chain_is_sample_step_by_step():
    model = idm()
    steps = list(model.chain(LR, (9, 12), 4, seed=2))
    near(steps[-1].y * 0.5 + 0.5, model.sample(LR, (9, 12), 4, seed=2), 1e-6)
    assert not steps[-1].y.requires_grad
    level = model.gamma[times(1000, 4)].sqrt().float()
    y = noise_source(LR, (9, 12), 2)()
    for k, step in enumerate(steps):  # each is on the line through its belief
        noise = (y - level[k] * step.y0) / (1 - level[k] ** 2).sqrt()
        near(step.y, q_sample(step.y0, level[k + 1], noise), 1e-4)
        y = step.y


@pytest.mark.parametrize(
    "size, words",
    [
        ((1024, 1025), f"{LARGEST} pixels at most; 1024x1025 are more"),
        ((2**20, 2), f"{LARGEST} pixels at most"),
        ((0, 5), "above 0"),
        ((5, -1), "above 0"),
    ],
)
def test_sizes_that_cannot_be(size, words):
    with pytest.raises(UserError, match=words):
        idm().sample(LR, size)


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_steps_that_cannot_be(steps):
    with pytest.raises(UserError, match="whole number from 1 to 1000"):
        idm().sample(LR, (8, 8), steps)


@pytest.mark.parametrize("shape", [(3, 4, 4), (1, 1, 4, 4), (1, 4, 4, 3)])
def test_inputs_of_another_shape(shape):
    with pytest.raises(ValueError, match=r"lr must be \(B, 3, H, W\), not"):
        idm().sample(torch.rand(shape), (8, 8))


@pytest.mark.parametrize(
    "options, words",
    [
        ({"widths": (16, 20)}, "multiples of groups, 8"),
        ({"groups": 5}, "multiples of groups, 5"),
        ({"attention": (3,)}, "depths 1 to 2 of a U-Net with 3 widths"),
        ({"target": "nois"}, "Did you mean 'noise'"),
        ({"condition": "bicubic"}, "choose from full, concat-edsr, concat-bicubic"),
        ({"steps": 0}, "steps must be a whole number above 0"),
        ({"dropout": 1}, r"dropout must be a number in \[0, 1\)"),
        ({"activation": 1}, "activation must be True or False"),
    ],
)
def test_options_that_cannot_be(options, words):
    with pytest.raises(UserError, match=words):
        build("idm", "tiny", **options)


def test_weights_remember_all_options(tmp_path):
    model = idm(**RELEASED, target="v", noise="linear", steps=50, largest=4)
    save_weights(model, tmp_path / "idm.safetensors", {})
    loaded = load_weights(tmp_path / "idm.safetensors")
    assert loaded.options == model.options
    assert torch.equal(loaded.sample(LR, (8, 9), 3), model.sample(LR, (8, 9), 3))
