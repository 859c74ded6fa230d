"""Published files turned into networks of this project."""

from models.networks.published.efficientdet import import_efficientdet
from models.networks.published.oed import import_oed
from models.networks.published.pose import import_pose
from models.networks.published.ssdlite import import_ssdlite
from models.networks.published.sttran import import_sttran
from models.networks.published.torchvision import import_torchvision

__all__ = ["import_efficientdet", "import_oed", "import_pose", "import_ssdlite", "import_sttran", "import_torchvision"]
