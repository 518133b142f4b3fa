"""IDM: a diffusion model whose U-Net enlarges with implicit functions.

Gao, Liu, Zeng et al., "Implicit Diffusion Models for Continuous Super-Resolution",
CVPR 2023. Its networks are in `conditioning` (Eq. 4 to 7) and `unet` (Eq. 8 and 9).

    y_t   = sqrt(gamma_t) y_0 + sqrt(1 - gamma_t) eps                      (Eq. 2)
    error = UNet(y_t, sqrt(gamma_t), condition(x, s)) - target             (Eq. 10)

x is the low-resolution picture, y_0 the high-resolution one, s the scale; the target is
eps, y_0 or a mixture of both. Letters: B batch, H W low-resolution grid, h w output.
"""

import math
from dataclasses import asdict, dataclass
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asr_course import diffusion
from asr_course.diffusion import noise_source
from asr_course.encoders import conv, encoder_name
from asr_course.errors import UserError
from asr_course.models.conditioning import Condition, ConditioningNetwork, ScaleMix
from asr_course.models.unet import UNet


@dataclass(frozen=True)
class IDMOptions:
    """Choices of the paper; defaults are its text's, where its code differs."""

    widths: tuple[int, ...] = (64, 128, 256, 512, 512)  # channels at every depth
    blocks: int = 2  # residual blocks at a depth; one more on the way up
    attention: tuple[int, ...] = (3,)  # depths whose blocks have self-attention
    groups: int = 32  # of group normalisation
    hidden: int = 256  # width of the implicit MLPs
    dropout: float = 0.2
    largest: int = 8  # M, the largest scale of training
    condition: Literal["full", "concat-edsr", "concat-bicubic"] = "full"  # Figure 9
    # Where text and released code differ: the second word is the code's.
    activation: bool = True  # ReLU in the implicit MLP; the code has none (False)
    modulation: Literal["absolute", "signed"] = "absolute"  # of a and b, Eq. 6 and 7
    scale_input: Literal["s", "p"] = "s"  # the scale, or p = (s - 1) / (M - 1)
    resize: Literal["bilinear", "nearest"] = "bilinear"  # of the encoder's features
    # What the network is trained to predict, and how noise grows.
    target: Literal["noise", "x0", "v"] = "noise"
    noise: Literal["linear", "cosine"] = "linear"
    steps: int = 2000  # T


RELEASED = {"activation": False, "modulation": "signed"}
RELEASED |= {"scale_input": "p", "resize": "nearest"}
SMALL = {"blocks": 1, "groups": 8, "hidden": 64, "dropout": 0.0, "target": "x0"}
SMALL |= {"noise": "cosine", "steps": 1000}


class IDM(nn.Module):
    """Implicit diffusion model. Pictures are in [0, 1] outside, in [-1, 1] inside."""

    name = "idm"
    Options = IDMOptions
    SIZES = {
        "paper": IDMOptions(),
        "laptop": IDMOptions(widths=(16, 32, 64, 96), attention=(3,), **SMALL),
        "tiny": IDMOptions(widths=(16, 24, 32), attention=(2,), **SMALL),
    }
    ABLATIONS = {  # what Figure 9 compares, the code's choices, what small sizes change
        "full": {},
        "concat-edsr": {"condition": "concat-edsr"},
        "concat-bicubic": {"condition": "concat-bicubic"},
        "as released": RELEASED,
        "noise": {"target": "noise"},
        "v": {"target": "v"},
        "noise, linear": {"target": "noise", "noise": "linear", "steps": 2000},
    }
    is_generative = True  # draws one plausible picture of many
    is_nonlocal = False
    max_pixels = 2**20  # of an output, which is sampled as a whole

    def __init__(self, encoder: nn.Module, options: IDMOptions):
        super().__init__()
        self.options = options
        self.encoder_name = encoder_name(encoder)  # "concat-bicubic" keeps no encoder
        self.unet = UNet(options)
        if options.condition != "concat-bicubic":
            self.encoder = encoder
            self.to_picture = conv(encoder.channels, 3)
        if options.condition == "full":
            self.conditioning = ConditioningNetwork(options.widths)
            self.mix = nn.ModuleList([ScaleMix(n) for n in options.widths[1:]])

    @property
    def config(self) -> dict:
        """What it takes to build the model again, as plain values."""
        options = asdict(self.options)
        return {"name": self.name, "encoder": self.encoder_name, "options": options}

    @property
    def gamma(self) -> Tensor:
        """gamma_0, ..., gamma_T of its noise schedule: (T + 1,) float64."""
        return diffusion.signal(self.options.noise, self.options.steps)

    def condition(self, lr: Tensor, size, scale: float | None = None) -> Condition:
        """What the U-Net knows about `lr` (B, 3, H, W), for an output of `size`.

        scale: another one than the true one, sqrt(h w / (H W)) (the paper's Figure 8).
        """
        options = self.options
        lr = (lr - 0.5) / 0.5
        if options.condition == "concat-bicubic":
            return Condition(F.interpolate(lr, size, mode="bicubic"), (), ())
        latent = F.interpolate(self.encoder(lr), size, mode=options.resize)
        enlarged = self.to_picture(latent)  # (B, 3, h, w)
        if options.condition == "concat-edsr":
            return Condition(enlarged, (), ())
        if scale is None:
            scale = math.sqrt(size[0] * size[1] / (lr.shape[2] * lr.shape[3]))
        if options.scale_input == "p":
            scale = (scale - 1) / (options.largest - 1)
        scale = lr.new_tensor([scale])
        mix = [layer(scale, options.modulation == "absolute") for layer in self.mix]
        return Condition(enlarged, self.conditioning(enlarged), tuple(mix))

    def forward(self, lr: Tensor, y: Tensor, level: Tensor) -> Tensor:
        """The predicted target for y (B, 3, h, w) at a noise level (B,)."""
        return self.predict(y, level, self.condition(lr, y.shape[2:]))

    def predict(self, y: Tensor, level: Tensor, condition: Condition) -> Tensor:
        """`forward` for a condition that is computed already."""
        return self.unet(y, level, condition, self.options.activation)

    def error(self, network, sample) -> Tensor:
        """What training makes small (Eq. 10); `network` is this model, perhaps wrapped.

        sample.when (B,), in [0, 1], says where on the schedule, also between two steps.
        """
        levels, T = self.gamma.sqrt().to(sample.lr), self.options.steps
        t = (sample.when * T).long().clamp(max=T - 1)  # from 0
        level = torch.lerp(levels[t], levels[t + 1], sample.when * T - t)  # (B,)
        y0, wide = sample.target * 2 - 1, level[:, None, None, None]
        y = diffusion.q_sample(y0, wide, sample.noise)
        target = diffusion.to_target(self.options.target, y0, sample.noise, wide)
        return network(sample.lr, y, level) - target

    def estimate(self, y: Tensor, level: Tensor, condition: Condition):
        """The picture and the noise in y, each (B, 3, h, w); level () or (B,)."""
        output = self.predict(y, level.expand(len(y)), condition)
        wide = level.view(-1, 1, 1, 1)
        return diffusion.from_target(self.options.target, output, y, wide)

    @torch.no_grad()
    def chain(self, lr, size, steps=25, seed=0, ancestral=False, scale=None):
        """Yields every `Step` of the sampler; picture b of a batch has seed `seed` + b.

        lr: (B, 3, H, W) in [0, 1]. size: (rows, cols). steps: runs of the network.
        ancestral: DDPM's sampler, not DDIM's. scale: see `condition`. UserError on a
        size above `max_pixels` or a number of steps that cannot be.
        """
        if size[0] * size[1] > self.max_pixels:
            raise UserError(
                f"IDM draws {self.max_pixels} pixels at most: choose a smaller output"
            )
        at = diffusion.times(self.options.steps, steps)
        fresh = noise_source(lr, size, seed)
        estimate = partial(self.estimate, condition=self.condition(lr, size, scale))
        draw = fresh if ancestral else None
        yield from diffusion.denoise(estimate, fresh(), self.gamma, at, draw)

    def sample(self, lr, size, steps=25, seed=0, on_step=None, **options) -> Tensor:
        """Pictures (B, 3, rows, cols) in [0, 1]. on_step: called with each `Step`; the
        other arguments are those of `chain`."""
        for step in self.chain(lr, size, steps, seed, **options):
            if on_step:
                on_step(step)
        return (step.y * 0.5 + 0.5).clamp(0, 1)
