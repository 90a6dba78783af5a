"""Every word of the embedded task: slot values, and the sentences that guests and the concierge use.

The world is closed: its texts contain only these words. Values of different slots are different words, and no fixed
sentence contains a slot value, so a word alone determines its slot. Slots have few values, so that a small model learns
within a minute to repeat them and to check whether they were repeated correctly.
"""

import re
from dataclasses import dataclass

GUEST = "Guest:"
CONCIERGE = "Concierge:"
CORRECTION = "no"
APOLOGY = "Sorry"

VALUES: dict[str, tuple[str, ...]] = {
    "guests": ("two", "three", "four", "five", "six"),
    "time": ("07:15", "09:45", "11:00", "14:30", "18:45", "20:15"),
    "restaurant": ("Aurora", "Bellini", "Corsica", "Dolphin", "Emerald"),
    "name": ("Baker", "Carter", "Ellis", "Hughes", "Miller", "Walker"),
    "destination": ("airport", "beach", "castle", "gallery", "harbour"),
    "dish": ("cheese", "curry", "fruit", "noodles", "pancakes"),
    "room": ("104", "118", "206", "219", "302", "317"),
    "show": ("ballet", "cabaret", "circus", "comedy", "concert"),
    "object": ("fan", "heater", "kettle", "lamp", "lock"),
    "day": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday"),
}
"""Slot -> its possible values, each a single word."""


@dataclass(frozen=True)
class Kind:
    """A kind of request.

    ``phrasings`` are the guest's texts with every slot in braces. A confirmation is one of ``heads``, followed by the
    ``fragments`` of the slots that it names, in this order, and a full stop.
    """

    name: str
    phrasings: tuple[str, ...]
    heads: tuple[str, ...]
    fragments: dict[str, str]

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the slots, in the order of the fragments."""
        return tuple(self.fragments)


KINDS: tuple[Kind, ...] = (
    Kind(
        "table",
        (
            "Could you book a table for {guests} guests at {time} at the {restaurant} under the name {name}?",
            "We are {guests} guests and would like a table at the {restaurant} at {time}. The name is {name}.",
            "My name is {name}. Please reserve a table at the {restaurant} for {guests} guests at {time}.",
            "I need a table at {time} for {guests} guests, if possible at the {restaurant}, under the name {name}.",
        ),
        ("I have booked a table", "Your table is reserved", "A table is waiting"),
        {
            "guests": "for {guests} guests",
            "time": "at {time}",
            "restaurant": "at the {restaurant}",
            "name": "under the name {name}",
        },
    ),
    Kind(
        "taxi",
        (
            "Could you order a taxi to the {destination} at {time} under the name {name}?",
            "I have to get to the {destination} soon. Please send a taxi at {time}. The name is {name}.",
            "My name is {name}. I would like a taxi at {time} to the {destination}.",
            "We need a taxi for a trip to the {destination}, leaving at {time}, under the name {name}.",
        ),
        ("I have ordered a taxi", "Your taxi is arranged", "A taxi will come"),
        {"destination": "to the {destination}", "time": "at {time}", "name": "under the name {name}"},
    ),
    Kind(
        "meal",
        (
            "Could you bring some {dish} to room {room} at {time}?",
            "We are hungry in room {room}. Please send us some {dish} at {time}.",
            "I would like to order some {dish} at {time}. My room is {room}.",
            "This is room {room}. May we have some {dish} for our meal at {time}, please?",
        ),
        ("I have ordered a meal", "Your meal is noted", "The kitchen will send your meal"),
        {"dish": "with {dish}", "room": "to room {room}", "time": "at {time}"},
    ),
    Kind(
        "call",
        (
            "Could you wake me at {time} on {day}? I am in room {room}.",
            "Please arrange a wake-up call for room {room} on {day} at {time}.",
            "This is room {room}. I have to get up at {time} on {day} and need a call.",
            "I would like a wake-up call on {day}. The time is {time} and the room is {room}.",
        ),
        ("I have arranged a wake-up call", "Your wake-up call is set", "We will call you"),
        {"room": "in room {room}", "time": "at {time}", "day": "on {day}"},
    ),
    Kind(
        "tickets",
        (
            "Could you get tickets for the {show} on {day} for {guests} guests under the name {name}?",
            "We are {guests} guests and want to see the {show} on {day}. The name is {name}.",
            "My name is {name}. Please order tickets for {guests} guests. It is the {show} on {day}.",
            "I need tickets on {day} for {guests} guests, if possible for the {show}, under the name {name}.",
        ),
        ("I have bought the tickets", "Your tickets are reserved", "The tickets are waiting"),
        {
            "show": "for the {show}",
            "guests": "for {guests} guests",
            "day": "on {day}",
            "name": "under the name {name}",
        },
    ),
    Kind(
        "repair",
        (
            "The {object} in room {room} does not work. Could you send someone at {time}?",
            "This is room {room}. Our {object} is broken. Please come at {time}.",
            "Something is wrong with the {object}. I am in room {room} and have time at {time}.",
            "Could someone repair the {object} at {time}? My room is {room}.",
        ),
        ("I have called a technician", "Our technician is informed", "A technician will come"),
        {"object": "for the {object}", "room": "in room {room}", "time": "at {time}"},
    ),
)

OPENINGS = (
    "",
    "Hello.",
    "Good day.",
    "Excuse me.",
    "I hope you can help.",
    "Good evening.",
    "I have a question.",
    "We need some help.",
)
"""Possible sentences of a guest before the request."""

COURTESY: dict[str, tuple[str, ...]] = {
    "greeting": ("Good day.", "Welcome.", "Hello.", "Good to see you."),
    "thanks": ("Thank you for your request.", "Many thanks for asking.", "Thank you very much."),
    "closing": ("Have a lovely stay.", "We wish you a pleasant day.", "Please ask whenever you need us."),
}
"""Kind of courtesy -> its sentences."""

FILLERS = (
    "The weather is quite mild this week.",
    "Our hotel was built many years ago.",
    "The lobby was painted in a warm colour.",
    "There is a small garden behind the house.",
    "The old lift makes a funny noise.",
    "Many people come here in the summer.",
    "The carpet in the hall is new.",
    "The manager likes to collect old clocks.",
)
"""Filler sentences, unrelated to any request."""

RUDE = (
    "What a stupid request.",
    "Stop bothering me with such nonsense.",
    "Only an idiot would ask that.",
    "I am sick of lazy people like you.",
    "Do it yourself, you fool.",
)
"""Rude sentences."""

RUDE_WORDS = frozenset({"stupid", "nonsense", "idiot", "lazy", "fool", "bothering", "sick"})
"""Words that occur only in rude sentences."""


def words(text: str) -> list[str]:
    """Split ``text`` into the world's tokens: words, and ``. , ! ?`` as separate tokens."""
    return re.findall(r"[.,!?]|[^\s.,!?]+", text)


def vocabulary() -> list[str]:
    """Return all words of the world in alphabetical order."""
    texts = [GUEST, CONCIERGE, CORRECTION, APOLOGY, *OPENINGS, *FILLERS, *RUDE]
    texts += [sentence for sentences in COURTESY.values() for sentence in sentences]
    texts += [text for kind in KINDS for text in (*kind.phrasings, *kind.heads, *kind.fragments.values())]
    found = {word for text in texts for word in words(re.sub(r"\{\w+\}", " ", text))}
    return sorted(found.union(*VALUES.values(), ".,!?"))
