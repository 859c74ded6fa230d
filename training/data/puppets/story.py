"""A video's script, continuous in time, and the scene of any moment."""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import cv2
import numpy as np

from training.data.puppets import people
from training.data.puppets.acting import Performance, Placement, perform
from training.data.puppets.casting import Cast, draw_cast
from training.data.puppets.fetching import FETCHED, draw_fetching_cast, place_twins
from training.data.puppets.people import Pose
from training.data.puppets.relations import Body, Box, attention_label, measure, spatial_labels
from training.data.puppets.room import Room, draw_room, fixed_point
from training.data.puppets.scenery import Extra, draw_distractors, draw_occluders
from training.data.puppets.staging import Stage, draw_stage
from training.data.puppets.things import Shape, extent
from training.data.puppets.world import World

_BLEND: Final = 0.4  # seconds from one act's pose to the next one's
_LEAST_VISIBLE: Final = 0.6
_SECONDARY: Final[dict[str, str]] = {
    "drinking_from": "holding",
    "eating": "holding",
    "carrying": "holding",
    "writing_on": "touching",
    "wiping": "touching",
}
PERSON_OWNER: Final = 0
SCENERY_OWNER: Final = 255


@dataclass(frozen=True)
class Layer:
    """Polygons painted one after the other.

    owner: 0 the person, i + 1 the member with identity i, 255 scenery.
    """

    owner: int
    shapes: tuple[Shape, ...]


@dataclass(frozen=True)
class RelatedThing:
    """An annotated thing at one moment.

    identity: the same in the whole video.
    box: (x0, y0, x1, y1) in pixels, clipped to the frame.
    attention, spatial, contacting: its labels; a thing that is hardly visible has none, as in Action Genome.
    """

    identity: int
    name: str
    box: Box
    visible: bool
    visible_share: float
    attention: tuple[str, ...]
    spatial: tuple[str, ...]
    contacting: tuple[str, ...]


@dataclass(frozen=True)
class Scene:
    """Everything that is seen at one moment, in paint order; layers are in units, boxes in pixels."""

    world: World
    room: Room
    layers: tuple[Layer, ...]
    person_box: Box
    things: tuple[RelatedThing, ...]
    distractors: tuple[tuple[str, Box], ...]
    noise_seed: int


@dataclass(frozen=True)
class Story:
    """A video of any length: `scene(t)` is a function of the seed and of time alone.

    distractors: the twin is among them.
    twin: the equal of the thing that is fetched; None in other stories.
    """

    world: World
    seed: int
    cast: Cast
    stage: Stage
    distractors: tuple[Extra, ...]
    occluders: tuple[Extra, ...]
    twin: Extra | None = None

    @cached_property
    def room(self) -> Room:
        """The scenery, drawn when the first frame asks for it."""
        return draw_room(self.world, np.random.default_rng([self.seed, 1]))

    def act_at(self, time: float) -> int:
        """Returns the index of the act that is on at `time`."""
        return max(index for index, act in enumerate(self.cast.acts) if act.start <= max(time, 0.0))

    def scene(self, time: float) -> Scene:
        """Returns the scene at `time` seconds."""
        act = self.act_at(time)
        performance = self._performance(act, time)
        body_shapes, layers = self._layers(act, performance, time)
        person_box = extent(body_shapes)
        body = measure(self.stage.build, performance.pose, person_box)
        shares = visible_shares(layers, len(self.cast.members), self.world.unit_width)
        things = tuple(
            self._describe(index, act, performance, layers, body, shares[index])
            for index in range(len(self.cast.members))
        )
        distractors = tuple((extra.name, self.in_pixels(extent(extra.shapes(time)))) for extra in self.distractors)
        noise_seed = self.seed * 1_000_003 + round(time * 1000.0)
        return Scene(self.world, self.room, layers, self.in_pixels(person_box), things, distractors, noise_seed)

    def told_by_video(self, scene: Scene, time: float) -> tuple[RelatedThing, Box] | None:
        """Returns the fetched thing and its twin's box where the thing rests, so that only the video tells them apart.

        Returns None in other stories, while the thing is used, and where it cannot be seen.
        """
        if self.twin is None or self.cast.members[FETCHED].contacts[self.act_at(time)] != "not_contacting":
            return None
        thing = scene.things[FETCHED]
        return (thing, scene.distractors[0][1]) if thing.visible else None

    def in_pixels(self, box: Box) -> Box:
        """Converts a box from units to pixels, clipped to the frame.

        Each side grows by half a pixel, as painted edges do.
        """
        scale, width, height = self.world.scale, float(self.world.width), float(self.world.height)
        return (
            min(max(box[0] * scale - 0.5, 0.0), width),
            min(max(box[1] * scale - 0.5, 0.0), height),
            min(max(box[2] * scale + 0.5, 0.0), width),
            min(max(box[3] * scale + 0.5, 0.0), height),
        )

    def _performance(self, act: int, time: float) -> Performance:
        """Returns the act's performance with its gaze; within its first moments, a blend from the act before."""
        now = perform(self.cast, self.stage, act, time)
        now.pose = self._with_gaze(act, now)
        past = time - self.cast.acts[act].start
        if act == 0 or past >= _BLEND:
            return now
        before = perform(self.cast, self.stage, act - 1, time)
        before.pose = self._with_gaze(act - 1, before)
        share = past / _BLEND
        share = share * share * (3.0 - 2.0 * share)
        now.pose = _blend_poses(before.pose, now.pose, share)
        now.placements = [
            Placement(
                a.x * (1.0 - share) + b.x * share,
                a.y * (1.0 - share) + b.y * share,
                a.angle * (1.0 - share) + b.angle * share,
                b.layer,
            )
            for a, b in zip(before.placements, now.placements, strict=True)
        ]
        if share < 0.6:
            now.cues, now.mouth_open = [], False
        return now

    def _with_gaze(self, act: int, performance: Performance) -> Pose:
        """Returns the pose, looking at the act's target or away from everything, or with its face hidden."""
        build, pose, script = self.stage.build, performance.pose, self.cast.acts[act]
        eye = pose.head(build)
        places = [(placement.x, placement.y) for placement in performance.placements]
        if self.twin is not None:
            places.append((self.twin.x, self.twin.y))
        ways = [math.atan2(y - float(eye[1]), x - float(eye[0])) for x, y in places]
        angle = ways[script.target] if script.target is not None else self._away(self.stage.gaze_away[act], ways)
        vector = pose.vector.copy()
        vector[11:14] = (math.cos(angle), math.sin(angle), 0.0 if script.hidden else 1.0)
        return Pose(vector)

    @staticmethod
    def _away(wish: float, ways: list[float]) -> float:
        """Returns the direction nearest to the wish that is well apart from every way to a thing."""

        def apart(angle: float) -> float:
            return min(abs(math.remainder(angle - way, 2.0 * math.pi)) for way in ways)

        turns: list[float] = [
            wish + step * sign for step in np.linspace(0.0, math.pi, 19).tolist() for sign in (1.0, -1.0)
        ]
        return next((angle for angle in turns if apart(angle) > 1.25), max(turns, key=apart))

    def _layers(self, act: int, performance: Performance, time: float) -> tuple[list[Shape], tuple[Layer, ...]]:
        """Returns the person's own polygons, and all layers in paint order."""
        build, pose = self.stage.build, performance.pose
        drawn: dict[str, list[Layer]] = {"back": [], "worn": [], "front": [], "garment": [], "hand": []}
        for index, (member, prop, place) in enumerate(
            zip(self.cast.members, self.stage.props, performance.placements, strict=True)
        ):
            shapes = prop.placed(place.x, place.y, place.angle, member.habit.shear)
            drawn[place.layer].append(Layer(index + 1, tuple(shapes)))
        lower = people.legs(build, pose) + people.trunk(build, pose)
        upper = people.head(build, pose, mouth_open=performance.mouth_open)
        arms, hands = people.arms(build, pose), people.hands(build, pose)
        # Larger things lie farther back.
        drawn["back"].sort(key=lambda layer: -self._area(layer.owner - 1))
        layers = [Layer(SCENERY_OWNER, tuple(extra.shapes(time))) for extra in self.distractors]
        layers += drawn["back"]
        layers.append(Layer(PERSON_OWNER, tuple(lower + performance.straps)))
        layers += drawn["worn"]
        # A hand at rest stays behind what stands before the person, so that it does not seem to touch it.
        needed = self.stage.hands[act]
        idle = [side for side in (0, 1) if side not in needed and 2 not in needed]
        busy = [side for side in (0, 1) if side not in idle]
        resting = [shape for side in idle for shape in (*arms[2 * side : 2 * side + 2], hands[side])]
        layers.append(Layer(PERSON_OWNER, tuple(upper + resting)))
        layers += drawn["front"]
        layers.append(Layer(PERSON_OWNER, tuple(shape for side in busy for shape in arms[2 * side : 2 * side + 2])))
        layers += drawn["garment"] + drawn["hand"]
        layers.append(Layer(SCENERY_OWNER, tuple(performance.cues)))
        layers.append(Layer(PERSON_OWNER, tuple(hands[side] for side in busy)))
        layers += [Layer(SCENERY_OWNER, tuple(extra.shapes(time))) for extra in self.occluders]
        return lower + upper + arms + hands, tuple(layers)

    def _area(self, index: int) -> float:
        size = self.stage.props[index].size
        return size[0] * size[1]

    def _describe(
        self, index: int, act: int, performance: Performance, layers: tuple[Layer, ...], body: Body, share: float
    ) -> RelatedThing:
        """Returns box and labels of one member."""
        member, placement = self.cast.members[index], performance.placements[index]
        contact = member.contacts[act]
        shapes = next(layer.shapes for layer in layers if layer.owner == index + 1)
        box = extent(shapes)
        clipped = self.in_pixels(box)
        if share < _LEAST_VISIBLE or min(clipped[2] - clipped[0], clipped[3] - clipped[1]) < 6.0:
            return RelatedThing(index, member.name, clipped, False, share, (), (), ())
        inside = self.stage.homes[index].inside and contact in ("not_contacting", "touching", "wiping")
        spatial = spatial_labels(contact, box, in_front=placement.layer != "back", inside=inside, body=body)
        contacting = (contact, _SECONDARY[contact]) if contact in _SECONDARY else (contact,)
        if contact == "sitting_on" and member.habit.reclined and member.name in ("chair", "sofa/couch"):
            contacting = (contact, "leaning_on")
        attention = attention_label(self.stage.build, performance.pose, box)
        return RelatedThing(index, member.name, clipped, True, share, (attention,), spatial, contacting)


def make_story(world: World, seed: int, *, seconds: float = 8.0) -> Story:
    """Makes the story of a seed. Its last act begins within `seconds`; it goes on for ever."""
    rng = np.random.default_rng([seed, 0])
    # A generator of its own, so that worlds without such stories stay as they are.
    fetching = bool(np.random.default_rng([seed, 2]).random() < world.fetched)
    cast = draw_fetching_cast(world, rng, seconds) if fetching else draw_cast(world, rng, seconds)
    best: Story | None = None
    best_share = -1.0
    for _ in range(6):  # the same cast is laid out anew until every thing can be seen
        stage = draw_stage(world, cast, rng)
        twin = None
        if fetching:
            stage, twin = place_twins(world, cast, stage, rng)
        story = Story(world, seed, cast, stage, (), (), twin)
        share = min(_shares_over_time(story))
        if share > best_share:
            best, best_share = story, share
        if best_share >= 0.68:
            break
    assert best is not None  # the loop ran
    return _dressed(best, rng)


def visible_shares(layers: tuple[Layer, ...], members: int, unit_width: float) -> list[float]:
    """Returns the share of each member's silhouette that nothing covers and that lies inside the frame."""
    margin = 40.0
    width, height = int((unit_width + 2.0 * margin) / 2.0), int((128.0 + 2.0 * margin) / 2.0)
    owners = np.zeros((height, width), dtype=np.uint8)
    full = [0] * members
    for layer in layers:
        polygons = fixed_point(layer.shapes, 0.5, margin / 2.0)
        code = layer.owner or SCENERY_OWNER
        if 1 <= code <= members:
            own = np.zeros_like(owners)
            for polygon in polygons:
                cv2.fillPoly(own, [polygon], 1, cv2.LINE_8, 4)
            full[code - 1] = cv2.countNonZero(own)
            owners[own > 0] = code
        else:
            for polygon in polygons:
                cv2.fillPoly(owners, [polygon], code, cv2.LINE_8, 4)
    low, right, bottom = int(margin / 2), int((margin + unit_width) / 2), int((margin + 128.0) / 2)
    frame = owners[low:bottom, low:right]
    counts = np.bincount(frame.ravel(), minlength=256)
    return [float(counts[index + 1]) / max(full[index], 1) for index in range(members)]


def _shares_over_time(story: Story) -> list[float]:
    """Returns the visible shares of all members in the middle of the first acts."""
    shares: list[float] = []
    for act in story.cast.acts[:3]:
        performance = story._performance(story.act_at(act.start), act.start + 0.5)
        _, layers = story._layers(story.act_at(act.start), performance, act.start + 0.5)
        shares += visible_shares(layers, len(story.cast.members), story.world.unit_width)
    return shares


def _dressed(story: Story, rng: np.random.Generator) -> Story:
    """Adds distractors and occluders where they disturb neither the labels nor a thing's visibility."""
    bodies: list[Box] = []
    taken: list[Box] = []
    heads: list[Box] = []
    for time in sorted({act.start + delay for act in story.cast.acts for delay in (0.5, 1.2)}):
        act = story.act_at(time)
        performance = story._performance(act, time)
        body, layers = story._layers(act, performance, time)
        bodies.append(extent(body))
        taken += [extent(layer.shapes) for layer in layers if 1 <= layer.owner <= len(story.cast.members)]
        x, y = (float(value) for value in performance.pose.head(story.stage.build))
        radius = story.stage.build.head + 2.0
        heads.append((x - radius, y - radius, x + radius, y + radius))
    twin = () if story.twin is None else (story.twin,)
    taken += [extent(extra.shapes(0.0)) for extra in twin]
    distractors = draw_distractors(story.world, rng, bodies, taken)
    occluders = draw_occluders(story.world, rng, heads, taken)
    return replace(story, distractors=(*twin, *distractors), occluders=occluders)


def _blend_poses(before: Pose, after: Pose, share: float) -> Pose:
    """Blends two poses; the gaze turns the short way round, knees and face switch half way."""
    blended = before.blended(after, share)
    start, end = (math.atan2(float(p.gaze[1]), float(p.gaze[0])) for p in (before, after))
    angle = start + math.remainder(end - start, 2.0 * math.pi) * share
    blended.vector[11:13] = (math.cos(angle), math.sin(angle))
    return blended
