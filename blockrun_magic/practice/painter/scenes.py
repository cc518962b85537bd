"""Scenes read from prompts: subjects, place, time of day and colors."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from blockrun_magic.practice.painter.canvas import mix

if TYPE_CHECKING:
    from blockrun_magic.practice.painter.canvas import RGB

__all__ = ["COLORS", "Palette", "Scene", "read_scene", "undrawn_words"]


@dataclass(frozen=True, slots=True)
class Palette:
    """The colors of a time of day: `sky` from the zenith down, `near` is the darkest silhouette."""

    sky: tuple[RGB, ...]
    sun: RGB
    haze: RGB
    near: RGB
    light: RGB
    dark: bool = False


PALETTES: dict[str, Palette] = {
    "sunset": Palette(
        ((38, 34, 92), (122, 58, 128), (232, 92, 96), (255, 164, 88), (255, 214, 140)),
        (255, 242, 200), (248, 152, 116), (30, 20, 48), (255, 206, 128),
    ),
    "dawn": Palette(
        ((82, 112, 176), (150, 166, 208), (228, 186, 200), (255, 216, 188), (255, 236, 212)),
        (255, 246, 226), (232, 206, 212), (44, 58, 88), (255, 226, 180),
    ),
    "day": Palette(
        ((28, 104, 196), (72, 150, 222), (136, 196, 238), (196, 228, 244), (234, 246, 246)),
        (255, 252, 232), (190, 220, 236), (24, 66, 62), (255, 248, 214),
    ),
    "golden": Palette(
        ((74, 112, 158), (146, 164, 172), (230, 198, 150), (252, 214, 140), (255, 230, 170)),
        (255, 248, 214), (240, 204, 150), (66, 42, 36), (255, 226, 150),
    ),
    "night": Palette(
        ((5, 8, 28), (10, 20, 54), (22, 42, 92), (42, 72, 128), (66, 100, 150)),
        (246, 243, 226), (46, 74, 124), (5, 8, 20), (255, 214, 134), dark=True,
    ),
    "aurora": Palette(
        ((3, 7, 22), (6, 18, 40), (10, 38, 62), (18, 66, 82), (30, 92, 98)),
        (230, 246, 238), (24, 72, 86), (3, 8, 16), (150, 255, 206), dark=True,
    ),
    "storm": Palette(
        ((34, 40, 50), (58, 68, 82), (98, 110, 124), (146, 156, 162), (184, 190, 188)),
        (226, 230, 226), (130, 142, 152), (22, 28, 34), (240, 232, 200),
    ),
    "space": Palette(
        ((4, 4, 14), (10, 8, 30), (22, 12, 52), (16, 12, 44), (6, 6, 20)),
        (255, 240, 220), (60, 40, 110), (4, 4, 12), (200, 220, 255), dark=True,
    ),
}  # fmt: skip

COLORS: dict[str, RGB] = {
    "red": (214, 52, 48), "crimson": (170, 24, 52), "scarlet": (226, 44, 30), "orange": (244, 138, 38),
    "yellow": (250, 210, 66), "gold": (230, 178, 62), "golden": (230, 178, 62), "green": (58, 156, 92),
    "emerald": (20, 148, 108), "teal": (24, 140, 144), "turquoise": (52, 194, 190), "cyan": (60, 208, 232),
    "blue": (46, 102, 212), "navy": (22, 38, 96), "indigo": (70, 60, 170), "purple": (130, 70, 190),
    "violet": (146, 92, 214), "lavender": (178, 160, 226), "magenta": (216, 52, 160), "pink": (244, 144, 184),
    "rose": (230, 120, 150), "brown": (128, 84, 56), "white": (244, 244, 240), "black": (28, 26, 30),
    "grey": (132, 134, 140),  # codespell:ignore grey
    "gray": (132, 134, 140), "silver": (188, 194, 202), "ginger": (226, 138, 62),
}  # fmt: skip

_TIMES: dict[str, str] = {
    "sunset": "sunset dusk evening twilight crepuscule sundown",
    "dawn": "dawn sunrise morning pastel mist misty fog foggy",
    "aurora": "aurora northern borealis polarlights",
    "night": "night midnight moon moonlit moonlight stars starry nocturnal dark lantern lanterns neon cyberpunk",
    "storm": "storm stormy rain rainy thunder thunderstorm gloomy overcast lightning",
    "space": "space galaxy galaxies nebula cosmos cosmic universe planet planets saturn astronaut orbit mars",
    "golden": "golden autumn fall desert dune dunes savanna savannah harvest wheat",
    "day": "day noon sunny summer spring beach tropical meadow blue-sky picnic",
}
_FEATURES: dict[str, str] = {
    "city": "city cityscape skyline town metropolis downtown skyscraper skyscrapers street tokyo york paris "
    "london building buildings urban tower towers cyberpunk futuristic",
    "water": "sea ocean harbor harbor lake river bay water coast beach waves shore fjord island port pond lagoon "
    "boat sailboat ship sail sailing lighthouse",
    "mountains": "mountain mountains peak peaks alps alpine himalaya volcano summit fuji cliff cliffs fjord valley",
    "forest": "forest wood woods woodland pine pines jungle tree trees taiga grove cabin",
    "hills": "hill hills meadow field fields countryside farm valley pasture landscape grass tuscany vineyard "
    "house cottage castle savanna savannah",
    "desert": "desert dune dunes sahara mars sand canyon",
    "snow": "snow snowy winter ice icy frozen blizzard arctic antarctica glacier christmas",
    "flowers": "flower flowers rose roses tulip tulips garden blossom blossoms sunflower sunflowers daisy poppy "
    "poppies lavender wildflowers bouquet petals",
    "clouds": "cloud clouds cloudy sky heaven",
    "stars": "star stars starry constellation constellations milky galaxy",
    "rain": "rain rainy storm stormy thunderstorm downpour",
}
_SUBJECTS: dict[str, str] = {
    "cat": "cat cats kitten kittens kitty tabby",
    "dog": "dog dogs puppy puppies corgi labrador",
    "fox": "fox foxes",
    "rabbit": "rabbit rabbits bunny hare",
    "bear": "bear bears teddy panda",
    "sailboat": "boat boats sailboat sailboats ship ships sail yacht sailing",
    "balloon": "balloon balloons",
    "kite": "kite kites",
    "lighthouse": "lighthouse lighthouses",
    "house": "house cabin cottage hut home",
    "castle": "castle palace fortress",
    "rocket": "rocket rockets spaceship starship shuttle",
    "robot": "robot robots android droid",
    "birds": "bird birds gull gulls seagull seagulls crow crows geese swallows",
    "planet": "planet planets saturn jupiter",
}
_PLAIN_WORDS = """
prompt go goes going come comes coming slow fast stopped quick really why did does
the and with from into onto over under above below near next behind between beside along across around through
its his her their your our this that these those there here all some any each every more most many few one two
three four five six seven eight nine ten very quite rather like while where when which who whose what how not
are was were has have had being been will can for but out off down upon without within against toward towards
make makes add put give turn change remove replace keep show picture image photo photograph painting drawing
sketch illustration poster print art style styled watercolor oil ink pencil digital render realistic
cinematic detailed high quality resolution beautiful lovely pretty nice great big small large tiny huge little
old new young fresh soft loose bright deep long short wide tall warm cold calm quiet wild lonely single seen
view shot close wide angle lens light lights shadow shadows color colors colorful style background foreground
front back left right center edge edges grain paper texture visible washes fine lines line label standing
sitting lying running walking looking sleeping flying playing wearing holding just same
"""
"""Words that are not visible in an image, and words that describe a style."""
_DEFAULT_TIMES = ("sunset", "dawn", "golden", "day", "sunset", "night")
_WORD = re.compile(r"[^\W\d_]+")
_TRIGGER = re.compile(r"practice:\S+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Scene:
    """The scene to paint: `features` is the place; `sky_said` is true if the prompt named a time or sky."""

    time: str
    palette: Palette
    features: frozenset[str]
    subjects: tuple[str, ...]
    colors: tuple[RGB, ...]
    sky_said: bool
    land_said: bool
    words: frozenset[str]

    @property
    def abstract(self) -> bool:
        """True if the painter knows no word of the prompt."""
        return not (self.sky_said or self.land_said or self.subjects)


def _found(table: dict[str, str], words: frozenset[str]) -> list[str]:
    return [name for name, listed in table.items() if not words.isdisjoint(listed.split())]


def read_scene(prompt: str, seed: int) -> Scene:
    """Return the scene of `prompt`; `seed` chooses everything that the prompt leaves open."""
    ordered = [word.casefold() for word in _WORD.findall(_TRIGGER.sub(" ", prompt))]
    words = frozenset(ordered)
    chance = random.Random(seed)  # noqa: S311
    times, features, subjects = _found(_TIMES, words), _found(_FEATURES, words), _found(_SUBJECTS, words)
    time = times[0] if times else chance.choice(_DEFAULT_TIMES)
    if {"aurora", "space"} & set(times):
        time = "aurora" if "aurora" in times else "space"
    elif "night" in times and not {"sunset", "dawn"} & set(times):
        time = "night"
    colors = tuple(COLORS[word] for word in dict.fromkeys(ordered) if word in COLORS)
    land = set(features) - {"clouds", "stars", "rain"}
    sky_said = bool(times) or bool({"clouds", "stars"} & set(features))
    return Scene(
        time=time,
        palette=_colored(PALETTES[time], colors, bool(subjects)),
        features=frozenset(features) | _missing_land(land, time, chance),
        subjects=tuple(subjects),
        colors=colors,
        sky_said=sky_said,
        land_said=bool(land),
        words=words,
    )


def undrawn_words(prompt: str) -> list[str]:
    """Return the words of a prompt that practice does not draw, in their order; common and short ones are left out."""
    drawable = {
        word for table in (_TIMES, _FEATURES, _SUBJECTS) for listed in table.values() for word in listed.split()
    }
    drawable |= COLORS.keys() | set(_PLAIN_WORDS.split())
    words = [word.casefold() for word in _WORD.findall(_TRIGGER.sub(" ", prompt))]
    return [word for word in dict.fromkeys(words) if len(word) > 2 and word not in drawable]


def _missing_land(land: set[str], time: str, chance: random.Random) -> frozenset[str]:
    """Return a landscape for a prompt that names none."""
    if land - {"snow"} == {"city"}:
        return frozenset({"water"})
    if land - {"snow"} or time == "space":
        return frozenset()
    return frozenset(chance.choice((("mountains", "water"), ("mountains", "forest"), ("hills", "mountains"))))


def _colored(palette: Palette, colors: tuple[RGB, ...], for_subject: bool) -> Palette:
    """Return the palette tinted with the prompt's colors, more weakly if they describe a subject."""
    if not colors:
        return palette
    share = 0.12 if for_subject else 0.34
    first, last = colors[0], colors[-1]
    count = max(1, len(palette.sky) - 1)
    sky = tuple(mix(stop, mix(first, last, at / count), share) for at, stop in enumerate(palette.sky))
    return replace(palette, sky=sky, haze=mix(palette.haze, last, share), light=mix(palette.light, first, share / 2))
