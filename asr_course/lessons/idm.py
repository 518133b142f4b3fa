"""Exercises of notebook 6."""

import torch
from torch import Tensor

from asr_course.lessons.base import Exercise, close, require
from asr_course.coords import nearest, pixel_centres, to_position
from asr_course.diffusion import q_sample
from asr_course.models.layers import look_up

# idm.1 --------------------------------------------------------------------------------


def noisy(y0: Tensor, level: float, noise: Tensor) -> Tensor:
    """The picture at a noise level between 0, all noise, and 1, none."""
    return q_sample(y0, torch.as_tensor(level), noise)


def noise_case(seed: int = 0):
    """A picture and noise, (3, 40, 50) each, both of variance one."""
    random = torch.Generator().manual_seed(seed)
    y0 = torch.randn(3, 40, 50, generator=random)
    return y0 / y0.std(), torch.randn(3, 40, 50, generator=random)


def noise_has_ends(f) -> None:
    y0, noise = noise_case()
    got = f(y0, 1.0, noise)
    require(
        got.shape == y0.shape,
        f"a picture {tuple(y0.shape)} stays one, yours is {tuple(got.shape)}",
    )
    require(close(got, y0), "at level 1 nothing but the picture is left")
    require(close(f(y0, 0.0, noise), noise), "at level 0 nothing but noise is left")


def noise_keeps_variance(f) -> None:
    y0, noise = noise_case()
    for level in (0.3, 0.6, 0.8):
        variance = f(y0, level, noise).var().item()
        require(
            abs(variance - 1) < 0.05,
            f"picture and noise have variance 1, and so has their mixture: at level "
            f"{level} yours has {variance:.2f}; shares of a variance add up squared",
        )


def noise_share_is_level(f) -> None:
    y0, noise = noise_case()
    share = (f(y0, 0.6, noise) * y0).mean() / y0.square().mean()
    require(
        abs(share - 0.6) < 0.05,
        f"the picture's share is the level itself, 0.6; yours is {share:.2f}: "
        "the level is sqrt(gamma) already",
    )


# idm.2 --------------------------------------------------------------------------------


def ddim_step(y: Tensor, y0: Tensor, now: float, then: float) -> Tensor:
    """From level `now` to level `then`, along the line through y0."""
    noise = (y - now * y0) / (1 - now**2) ** 0.5
    return then * y0 + (1 - then**2) ** 0.5 * noise


def step_stays(f) -> None:
    y0, y = noise_case()
    got = f(y, y0, 0.5, 0.5)
    require(
        got.shape == y.shape,
        f"the result has y's shape, {tuple(y.shape)}, not {tuple(got.shape)}",
    )
    require(close(got, y), "a step from a level to the same level changes nothing")


def step_arrives(f) -> None:
    y0, y = noise_case()
    require(close(f(y, y0, 0.3, 1.0), y0), "a step to level 1 ends at the picture y0")


def step_keeps_noise(f) -> None:
    y0, noise = noise_case()
    for now, then in ((0.2, 0.7), (0.6, 0.9)):
        got = f(noisy(y0, now, noise), y0, now, then)
        require(
            close(got, noisy(y0, then, noise)),
            "where y is a noisy y0, the step must keep that very noise and make it "
            f"weaker: from level {now} to {then} it does not; levels are sqrt(gamma) "
            "already",
        )


# idm.3 --------------------------------------------------------------------------------


def implicit_up(h: Tensor, size: tuple[int, int], mlp) -> Tensor:
    """A feature map (B, C, h, w) at another size: (B, size[0], size[1], D)."""
    index, offset = [], []
    for pixels, cells in zip(size, h.shape[2:], strict=True):
        position = to_position(pixel_centres(pixels), cells)
        index.append(nearest(position, cells))
        offset.append(2 * (position - index[-1]))
    z = look_up(h.movedim(1, -1), index[0][None, :, None], index[1][None, None])
    rows, cols = torch.meshgrid(*offset, indexing="ij")
    offsets = torch.stack([rows, cols], dim=-1).expand(len(h), *size, 2)
    return mlp(torch.cat([z, offsets], dim=-1))


def feature_case(rows: int = 3, cols: int = 5) -> Tensor:
    """A feature map (2, 4, rows, cols)."""
    return torch.randn(2, 4, rows, cols, generator=torch.Generator().manual_seed(0))


def up_has_size(f) -> None:
    for size in ((6, 10), (7, 9), (3, 5), (20, 8)):
        got = f(feature_case(), size, lambda x: x)
        require(
            got.shape == (2, *size, 6),
            f"2 maps with 4 channels, asked for {size[0]} rows and {size[1]} columns, "
            f"give the MLP (2, {size[0]}, {size[1]}, 6): four features and two "
            f"offsets. Yours are {tuple(got.shape)}; rows first?",
        )


def up_takes_nearest(f) -> None:
    h = feature_case()
    got = f(h, (6, 10), lambda x: x[..., :4])
    expected = h.repeat_interleave(2, 2).repeat_interleave(2, 3).movedim(1, -1)
    require(
        close(got, expected),
        "at twice the size each feature serves 2 × 2 pixels, and stands before the "
        "offsets: yours takes others",
    )
    offsets = f(h, (7, 9), lambda x: x[..., 4:])
    require(
        offsets.abs().max() <= 1 + 1e-4,
        "no pixel is further than half a feature from the nearest one, so offsets lie "
        f"in [-1, 1]; from 3 × 5 to 7 × 9 yours reach {offsets.abs().max():.2f}",
    )


def up_knows_offsets(f) -> None:
    got = f(feature_case(2, 2), (6, 4), lambda x: x[..., 4:])
    rows = torch.tensor([-2 / 3, 0, 2 / 3]).repeat(2)
    cols = torch.tensor([-0.5, 0.5]).repeat(2)
    require(
        close(got[0, :, 0, 0], rows),
        "down the rows the offsets at ×3 are -2/3, 0, 2/3, and again; they come before "
        f"those of columns: you have {[round(x, 2) for x in got[0, :, 0, 0].tolist()]}",
    )
    require(
        close(got[0, 0, :, 1], cols),
        "along the columns the offsets at ×2 are -1/2, 1/2, and again: you have "
        f"{[round(x, 2) for x in got[0, 0, :, 1].tolist()]}",
    )


EXERCISES = {
    "idm.1": Exercise(
        noisy,
        lambda f: f(noise_case()[0], 0.5, noise_case()[1]),
        (noise_has_ends, noise_keeps_variance, noise_share_is_level),
    ),
    "idm.2": Exercise(
        ddim_step,
        lambda f: f(*noise_case(), 0.5, 0.8),
        (step_stays, step_arrives, step_keeps_noise),
    ),
    "idm.3": Exercise(
        implicit_up,
        lambda f: f(feature_case(), (6, 10), lambda x: x),
        (up_has_size, up_takes_nearest, up_knows_offsets),
    ),
}
