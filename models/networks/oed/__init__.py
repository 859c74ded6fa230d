"""OED: one-stage dynamic scene graphs of pairs, refined by the pairs of reference frames (Wang et al., 2024)."""

from models.networks.oed.config import OedConfig
from models.networks.oed.network import Oed

__all__ = ["Oed", "OedConfig"]
