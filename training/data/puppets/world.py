"""The knobs of a puppet world, and the presets that figures refer to by name."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class World:
    """The looks of a puppet world, and how often each of its difficulties occurs.

    Lengths are in units of 1/128 of the frame height, so that a preset means the same at every frame size. Shares are
    probabilities in [0, 1].

    width: frame width in pixels.
    height: frame height in pixels.
    object_counts: shares of videos with one, two and three annotated objects.
    distractor_counts: shares of videos with 0, 1, ... visible objects that nobody relates to; those that find no room
        are left out.
    reach: gap between the body and a related object that is not touched.
    distractor_gap: least gap between the body and a distractor.
    near_distractor_share: share of distractors that may come as close as half of `distractor_gap`: the overlap of the
        two distances.
    fetched: share of videos in which a thing is fetched or put away, beside its twin that nobody uses.
    changes: share of videos whose relations change within the first few seconds.
    motion_only: share of acts told by motion whose still cue (pen, cloth, tilt, ...) is left out.
    looks: share of acts in which the person looks at one of the related objects.
    hidden_face: share of acts in which no face is seen, so that attention is `unsure`.
    unusual: weight of a physically possible but uncommon pair of class and contact, where the common ones weigh 0.1 to
        1.
    rarest_share: floor of a contacting predicate's share. Action Genome's rarest has 0.0002, too few to learn or to
        measure.
    thing_scale: range of a thing's size against its usual one.
    colour_coded: true where the main colour tells the class; otherwise hues are random for every class.
    part_dropout: probability that an inessential part of a thing is missing.
    rotation: standard deviation of a hand-held thing's rotation in degrees; furniture gets a third of it.
    shear: standard deviation of the horizontal shear of things.
    blur: largest standard deviation of the camera's blur.
    noise: range of the sensor noise's standard deviation, in grey levels of 255.
    occluder_counts: shares of videos with 0, 1, ... shapes hanging in front of the scene.
    clutter: largest number of furniture-like shapes on the wall and the floor.
    light: strength of brightness, gradient and colour cast, 0 for even white light.
    """

    name: str
    width: int = 160
    height: int = 128

    object_counts: tuple[float, float, float] = (0.22, 0.46, 0.32)
    distractor_counts: tuple[float, ...] = (0.05, 0.2, 0.33, 0.42)
    reach: tuple[float, float] = (2.0, 11.0)
    distractor_gap: float = 13.0
    near_distractor_share: float = 0.2

    fetched: float = 0.0
    changes: float = 0.5
    motion_only: float = 0.35
    looks: float = 0.6
    hidden_face: float = 0.105
    unusual: float = 0.01
    rarest_share: float = 0.004

    thing_scale: tuple[float, float] = (0.7, 1.0)
    colour_coded: bool = False
    part_dropout: float = 0.25
    rotation: float = 15.0
    shear: float = 0.13
    blur: float = 1.1
    noise: tuple[float, float] = (4.0, 14.0)
    occluder_counts: tuple[float, ...] = (0.3, 0.4, 0.3)
    clutter: int = 8
    light: float = 0.38

    def __post_init__(self) -> None:
        if self.width < 64 or self.height < 64 or self.width % 2 or self.height % 2:
            raise ValueError(f"a frame is {self.width}x{self.height} pixels: give even sides of at least 64")
        for knob in (
            "fetched",
            "changes",
            "motion_only",
            "looks",
            "hidden_face",
            "part_dropout",
            "near_distractor_share",
        ):
            value = getattr(self, knob)
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"{knob} is {value}: give a share from 0 to 1")

    @property
    def scale(self) -> float:
        """Pixels per unit of length."""
        return self.height / 128.0

    @property
    def unit_width(self) -> float:
        """Frame width in units of length; the height is 128 by definition."""
        return self.width / self.scale


EASY: Final = World(
    name="easy",
    distractor_counts=(0.6, 0.4),
    distractor_gap=16.0,
    near_distractor_share=0.0,
    thing_scale=(1.0, 1.0),
    changes=0.25,
    motion_only=0.0,
    colour_coded=True,
    part_dropout=0.0,
    rotation=3.0,
    shear=0.0,
    blur=0.0,
    noise=(0.5, 2.0),
    occluder_counts=(1.0,),
    clutter=2,
    light=0.08,
)
"""Colour-coded classes, clean pictures, hardly any distractor; nothing is told by motion alone."""

DEMANDING_1: Final = World(name="demanding-1")
"""The demanding world before things were fetched; the bundled models are trained in it."""

DEMANDING: Final = World(name="demanding", fetched=0.3)
"""Every difficulty at once; the world that figures are reported on."""

WORLDS: Final[dict[str, World]] = {world.name: world for world in (EASY, DEMANDING_1, DEMANDING)}
