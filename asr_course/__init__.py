"""Arbitrary-scale super-resolution: the package that the notebooks share.

    import asr_course as asr

brings the names below; what one notebook alone needs is in asr_course.lessons.
"""

from asr_course import plots
from asr_course.coords import (
    TIE,
    Code,
    Queries,
    cells_to_pixels,
    corners,
    make_cell,
    make_coord,
    make_grid,
    nearest,
    nearest_code,
    neighbours,
    output_size,
    pixel_centres,
    snap,
    split_axes,
    to_position,
)
from asr_course.data import Folder, PairRecipe, Recipe
from asr_course.data import Samples as Patches
from asr_course.devices import set_seed
from asr_course.digits import Characters
from asr_course.encoders import ENCODERS, conv
from asr_course.enlarge import upscale
from asr_course.errors import UserError, choose
from asr_course.images import resize, sample_crops, sample_photo, to_pixels, to_tensor
from asr_course.layers import (
    MLP,
    Features,
    ImplicitModel,
    bilinear,
    look_up,
    on_grid,
    relative_cell,
    start_at_zero,
    unfold,
)
from asr_course.metrics import evaluate, predict, psnr, seam, ssim, to_luma
from asr_course.models import (
    DEFAULT_ENCODER,
    METHODS,
    build,
    count_parameters,
    variant,
)
from asr_course.presets import setup
from asr_course.procedural import Procedural
from asr_course.profile import macs_paper, multiplications
from asr_course.records import load_record, paper_rows, paper_values, save_record
from asr_course.render import render
from asr_course.schedule import Schedule
from asr_course.training import train
from asr_course.weights import load_model, load_pretrained, load_weights, save_weights
from asr_course.widgets import ScaleExplorer
