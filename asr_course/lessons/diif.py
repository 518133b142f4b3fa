"""Exercises of notebook 3."""

import torch
from torch import Tensor
from torch.nn.functional import embedding

from asr_course.lessons.liif import owners
from asr_course.lessons.base import Exercise, close, require
from asr_course.profile import multiplications

# diif.1 -------------------------------------------------------------------------------


def slice_ends(g: int, u: int) -> Tensor:
    """First and last place of every slice of u among g pixels: (K, 2)."""
    first = torch.arange(0, g, u)
    return torch.stack([first, (first + u).clamp(max=g) - 1], dim=-1)


def slices_cover(f) -> None:
    for g, u in ((16, 4), (9, 4), (6, 3), (7, 7), (5, 8), (1, 1)):
        ends = torch.as_tensor(f(g, u))
        count = -(-g // u)
        require(
            ends.shape == (count, 2),
            f"{g} pixels in slices of {u} make {count} slices: a tensor {(count, 2)}, "
            f"yours is {tuple(ends.shape)}",
        )
        covered = [p for a, b in ends.tolist() for p in range(int(a), int(b) + 1)]
        require(
            covered == list(range(g)),
            f"{g} pixels in slices of {u}: places 0 to {g - 1} each belong to one, in "
            f"order; yours cover {covered}",
        )


def slices_are_full(f) -> None:
    for g, u in ((16, 4), (9, 4), (7, 3)):
        lengths = [int(b - a) + 1 for a, b in torch.as_tensor(f(g, u))]
        require(
            all(length == u for length in lengths[:-1]),
            f"only the last slice may be short; {g} pixels in slices of {u}: yours "
            f"hold {lengths}",
        )


# diif.2 -------------------------------------------------------------------------------


def group_of(n_pixels: int, n_cells: int) -> tuple[Tensor, Tensor]:
    """Place in its group, and the group's size, of every pixel: (n_pixels,) twice."""
    owner = owners(n_pixels, n_cells)
    count = torch.bincount(owner, minlength=n_cells)
    start = count.cumsum(0) - count
    return torch.arange(n_pixels) - start[owner], count[owner]


def both(f, pixels: int, cells: int) -> tuple[Tensor, Tensor]:
    """A learner's two answers, after a look at their shapes."""
    answer = f(pixels, cells)
    require(
        isinstance(answer, tuple | list) and len(answer) == 2,
        "return two tensors: the place in the group, and the size of the group",
    )
    place, count = (torch.as_tensor(x) for x in answer)
    require(
        place.shape == count.shape == (pixels,),
        f"{pixels} pixels need {pixels} places and {pixels} sizes, yours have shapes "
        f"{tuple(place.shape)} and {tuple(count.shape)}",
    )
    return place, count


def groups_at_whole_scales(f) -> None:
    for scale in (1, 2, 5):
        place, count = both(f, 4 * scale, 4)
        require(
            (count == scale).all(),
            f"at ×{scale} every group has {scale} pixel(s), yours {count.tolist()}",
        )
        require(
            place.tolist() == 4 * list(range(scale)),
            f"at ×{scale} places run from 0 to {scale - 1} in every group, yours are "
            f"{place.tolist()}",
        )


def groups_between(f) -> None:
    place, count = both(f, 5, 2)
    require(
        (place.tolist(), count.tolist()) == ([0, 1, 0, 1, 2], [2, 2, 3, 3, 3]),
        "5 pixels over 2: the one on the border belongs to the second group, so the "
        f"groups have 2 and 3 pixels; you have places {place.tolist()} and sizes "
        f"{count.tolist()}",
    )
    for pixels, cells in ((33, 10), (83, 10), (1000, 301)):
        got, expected = both(f, pixels, cells), group_of(pixels, cells)
        require(
            all(torch.equal(a.long(), b) for a, b in zip(got, expected, strict=True)),
            f"{pixels} pixels over {cells}: some are wrong; groups differ in size",
        )


# diif.3 -------------------------------------------------------------------------------


def blend_then_map(H: Tensor, share: Tensor, of: Tensor, W: Tensor) -> Tensor:
    """sum_t share_t W H_t[of], with W applied where there are fewer places."""
    early = H.shape[0] * H.shape[1] < len(of)
    if early:
        H = H @ W.T
    blended = sum(a[:, None] * embedding(of, h) for a, h in zip(share, H, strict=True))
    return blended if early else blended @ W.T


def blend_case(slices: int, pixels: int):
    """Vectors (4, S, 6), shares (4, N), the slice of each pixel (N,), a map (5, 6)."""
    random = torch.Generator().manual_seed(slices)
    H = torch.randn(4, slices, 6, generator=random)
    share = torch.rand(4, pixels, generator=random)
    of = torch.arange(pixels) * slices // pixels
    return H, share, of, torch.randn(5, 6, generator=random)


def blend_is_right(f) -> None:
    for case in (blend_case(3, 30), blend_case(10, 12)):
        H, share, of, W = case
        expected = torch.einsum("tn,tnd,ed->ne", share, H[:, of], W)
        got = f(*case)
        require(
            got.shape == expected.shape,
            f"the result has shape {tuple(expected.shape)} here, yours "
            f"{tuple(got.shape)}",
        )
        require(
            close(got, expected, 1e-3),
            "the result must equal W applied to the blended vectors; does every corner "
            "use its own shares?",
        )


def blend_is_cheap(f) -> None:
    for slices, pixels in ((3, 30), (10, 12)):
        most = min(4 * slices, pixels) * 5 * 6
        count = multiplications(lambda s=slices, p=pixels: f(*blend_case(s, p)))
        require(
            count <= most,
            f"{slices} slices and {pixels} pixels: W can be applied with {most} "
            f"multiplications, yours took {count}; which are fewer, the pixels or four "
            "corners of every slice? (Blend with shares elementwise, not by a matrix.)",
        )


EXERCISES = {
    "diif.1": Exercise(slice_ends, lambda f: f(16, 4), (slices_cover, slices_are_full)),
    "diif.2": Exercise(
        group_of, lambda f: f(6, 3), (groups_at_whole_scales, groups_between)
    ),
    "diif.3": Exercise(
        blend_then_map,
        lambda f: f(*blend_case(3, 30)),
        (blend_is_right, blend_is_cheap),
    ),
}
