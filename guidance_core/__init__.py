"""The mathematics of semantic guidance: torch in, torch out, no ComfyUI.

Letters: σ noise level, λ threshold, ψ edit direction, γ guidance term, ν momentum, s_m and β its scale and decay;
B batch, C channels, K concepts. An x0 is a denoised prediction; Δn a difference of noise estimates.
"""

from .quantile import sample_quantile as sample_quantile
from .sega import Concept as Concept
from .sega import Momentum as Momentum
from .sega import edit_term as edit_term
from .sega import keep_strongest as keep_strongest
from .sega import needed as needed
from .sega import noise_difference as noise_difference
from .windows import Phase as Phase
from .windows import SigmaWindow as SigmaWindow
from .windows import Window as Window
