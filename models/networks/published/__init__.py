"""Published files turned into networks of this project."""

from models.networks.published.efficientdet import import_efficientdet
from models.networks.published.pose import import_pose

__all__ = ["import_efficientdet", "import_pose"]
