"""The mathematics of semantic guidance: torch in, torch out, no ComfyUI.

Letters: σ noise level, λ threshold, ψ edit direction, γ guidance term, ν momentum, s_m and β its scale and decay;
B batch, C channels, K concepts. An x0 is a denoised prediction; Δn a difference of noise estimates; d = (x − x0)/σ
the slope of the deterministic sampler.
"""

from .aim import own_size as own_size
from .aim import scale_for as scale_for
from .diffedit import binarise as binarise
from .diffedit import blur_mask as blur_mask
from .diffedit import check_mask_settings as check_mask_settings
from .diffedit import difference_map as difference_map
from .diffedit import grow_mask as grow_mask
from .diffedit import heatmap as heatmap
from .diffedit import masked_decode as masked_decode
from .instruct_pix2pix import add_image_guidance as add_image_guidance
from .inversion import LARGEST_RESIDUAL as LARGEST_RESIDUAL
from .inversion import Level as Level
from .inversion import accelerate as accelerate
from .inversion import ddim_step as ddim_step
from .inversion import fixed_point_step as fixed_point_step
from .inversion import slope as slope
from .measure import EditMeasure as EditMeasure
from .measure import EditSize as EditSize
from .quantile import sample_quantile as sample_quantile
from .refresh import HeldDirections as HeldDirections
from .sega import THRESHOLD_OVER as THRESHOLD_OVER
from .sega import Concept as Concept
from .sega import Momentum as Momentum
from .sega import edit_term as edit_term
from .sega import keep_strongest as keep_strongest
from .sega import needed as needed
from .sega import noise_difference as noise_difference
from .sliders import LowRank as LowRank
from .sliders import concatenate as concatenate
from .sliders import fuse_middle as fuse_middle
from .sliders import low_rank_sum as low_rank_sum
from .text_direction import along_texts as along_texts
from .training import check_guidance as check_guidance
from .training import check_prior_weight as check_prior_weight
from .training import noise_estimate as noise_estimate
from .training import of_size as of_size
from .training import pair_loss as pair_loss
from .training import prior_loss as prior_loss
from .training import slider_loss as slider_loss
from .training import squared_error as squared_error
from .training import text_target as text_target
from .vectors import at_sigma as at_sigma
from .vectors import resized as resized
from .windows import SAME_LEVEL as SAME_LEVEL
from .windows import Phase as Phase
from .windows import SigmaWindow as SigmaWindow
from .windows import Window as Window
from .windows import edges_crossed as edges_crossed
from .windows import step_of as step_of
