"""ARN: one-stage dynamic scene graphs with entity-predicate association reasoning."""

from models.networks.arn.config import ArnConfig, arn_compact, arn_r50
from models.networks.arn.network import Arn, ArnOutput

__all__ = ["Arn", "ArnConfig", "ArnOutput", "arn_compact", "arn_r50"]
