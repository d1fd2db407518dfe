"""What the demo model knows: small tables of facts, and the ways to ask for them.

`questions()` lists every question as (topic, entity, phrasing, question, answer). Answers are one plain sentence. Everything is
enumerated in a fixed order, so that the data and the checkpoint can be made again.
"""

from typing import NamedTuple

CAPITALS = dict(
    pair.split(":")
    for pair in (
        "France:Paris Spain:Madrid Italy:Rome Germany:Berlin England:London Greece:Athens Norway:Oslo Egypt:Cairo Japan:Tokyo "
        "China:Beijing Russia:Moscow Cuba:Havana Peru:Lima Chile:Santiago Kenya:Nairobi Poland:Warsaw Portugal:Lisbon Ireland:Dublin "
        "Scotland:Edinburgh Austria:Vienna Hungary:Budapest Turkey:Ankara Finland:Helsinki Sweden:Stockholm Denmark:Copenhagen "
        "Belgium:Brussels Canada:Ottawa Thailand:Bangkok Vietnam:Hanoi Iceland:Reykjavik Wales:Cardiff Ghana:Accra"
    ).split()
)

COLOURS = {
    "yellow": ["a banana", "a lemon", "the sun", "butter", "a chick"],
    "red": ["a tomato", "a cherry", "blood", "a strawberry", "a rose"],
    "green": ["grass", "a frog", "a cucumber", "a leaf", "a pea"],
    "blue": ["the sky", "the sea", "a blueberry"],
    "white": ["snow", "milk", "salt", "rice", "a swan"],
    "black": ["coal", "the night", "a raven", "tar"],
    "orange": ["a carrot", "a pumpkin", "a fox"],
    "grey": ["an elephant", "ash", "a dolphin"],
    "brown": ["chocolate", "mud", "a bear", "coffee"],
    "pink": ["a pig", "a flamingo"],
}

# animal: sound, young, legs, home
ANIMALS = {
    "cow": ("moo", "calf", "four", "on a farm"),
    "dog": ("woof", "puppy", "four", "in a house"),
    "cat": ("meow", "kitten", "four", "in a house"),
    "sheep": ("baa", "lamb", "four", "on a farm"),
    "pig": ("oink", "piglet", "four", "on a farm"),
    "duck": ("quack", "duckling", "two", "on a pond"),
    "frog": ("croak", "tadpole", "four", "in a pond"),
    "lion": ("roar", "cub", "four", "in the savanna"),
    "horse": ("neigh", "foal", "four", "in a stable"),
    "owl": ("hoot", "owlet", "two", "in the forest"),
    "bee": ("buzz", "larva", "six", "in a hive"),
    "snake": ("hiss", "hatchling", "no", "in the desert"),
    "hen": ("cluck", "chick", "two", "on a farm"),
    "wolf": ("howl", "pup", "four", "in the forest"),
    "mouse": ("squeak", "pinkie", "four", "in a hole"),
    "goat": ("bleat", "kid", "four", "in the mountains"),
    "bear": ("growl", "cub", "four", "in the forest"),
    "crow": ("caw", "nestling", "two", "in a tree"),
}

OPPOSITES = [
    pair.split("/")
    for pair in (
        "hot/cold big/small tall/short fast/slow old/young happy/sad day/night up/down left/right open/closed wet/dry full/empty "
        "light/dark hard/soft rich/poor early/late near/far loud/quiet clean/dirty strong/weak thick/thin sweet/sour good/bad"
    ).split()
]

JOBS = {
    "baker": "bakes bread",
    "farmer": "grows food",
    "teacher": "teaches children",
    "doctor": "helps sick people",
    "sailor": "sails a ship",
    "painter": "paints pictures",
    "singer": "sings songs",
    "writer": "writes books",
    "builder": "builds houses",
    "pilot": "flies a plane",
    "driver": "drives a bus",
    "cook": "cooks meals",
    "tailor": "makes clothes",
    "fisher": "catches fish",
    "hunter": "hunts animals",
    "gardener": "plants flowers",
    "dentist": "cleans teeth",
    "judge": "judges people",
}

KINDS = {
    "a flower": ["a tulip", "a daisy", "a lily"],
    "a tool": ["a hammer", "a saw", "a drill"],
    "a fruit": ["an apple", "a pear", "a plum", "a peach"],
    "a vegetable": ["an onion", "a cabbage", "a potato"],
    "a bird": ["an eagle", "a robin", "a parrot"],
    "a fish": ["a salmon", "a shark", "a trout"],
    "a metal": ["gold", "silver", "iron", "copper"],
    "an instrument": ["a piano", "a drum", "a violin", "a flute"],
    "a game": ["chess", "football", "tennis"],
    "a drink": ["tea", "juice", "water"],
    "a tree": ["an oak", "a pine", "a birch"],
    "an insect": ["an ant", "a fly", "a beetle"],
}

DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()


class Question(NamedTuple):
    topic: str
    entity: str
    phrasing: int
    question: str
    answer: str


def article(noun):
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def capitalised(text):
    return text[0].upper() + text[1:]


def tables():
    """(topic, entity, answer, phrasings) of every fact."""
    for country, city in CAPITALS.items():
        yield "capital", country, f"The capital of {country} is {city}.", [
            f"What is the capital of {country}?",
            f"Which city is the capital of {country}?",
            f"Name the capital of {country}.",
            f"What is {country}'s capital?",
        ]
    for colour, things in COLOURS.items():
        for thing in things:
            yield "colour", thing, f"{capitalised(thing)} is {colour}.", [
                f"What colour is {thing}?",
                f"Which colour does {thing} have?",
                f"Tell me the colour of {thing}.",
            ]
    for animal, (sound, young, legs, home) in ANIMALS.items():
        one = article(animal)
        yield "sound", animal, f"{capitalised(one)} says {sound}.", [
            f"What does {one} say?",
            f"What sound does {one} make?",
            f"Which noise does {one} make?",
        ]
        yield "young", animal, f"A young {animal} is called {article(young)}.", [
            f"What is a young {animal} called?",
            f"What do you call a young {animal}?",
            f"What is the name for a young {animal}?",
        ]
        yield "legs", animal, f"{capitalised(one)} has {legs} legs.", [
            f"How many legs does {one} have?",
            f"Tell me how many legs {one} has.",
            f"How many legs are there on {one}?",
        ]
        yield "home", animal, f"{capitalised(one)} lives {home}.", [
            f"Where does {one} live?",
            f"In what place does {one} live?",
            f"Where can I find {one}?",
        ]
    for pair in OPPOSITES:
        for word, other in (pair, pair[::-1]):
            yield "opposite", word, f"The opposite of {word} is {other}.", [
                f"What is the opposite of {word}?",
                f"Which word is the opposite of {word}?",
                f"Give me the opposite of {word}.",
            ]
    for job, work in JOBS.items():
        yield "job", job, f"{capitalised(article(job))} {work}.", [
            f"What does {article(job)} do?",
            f"What is the work of {article(job)}?",
            f"Tell me what {article(job)} does.",
        ]
    for kind, things in KINDS.items():
        for thing in things:
            yield "kind", thing, f"{capitalised(thing)} is {kind}.", [
                f"What is {thing}?",
                f"What kind of thing is {thing}?",
                f"Tell me what {thing} is.",
            ]
    for names, what in ((DAYS, "day"), (MONTHS, "month")):
        for index, name in enumerate(names):
            following = names[(index + 1) % len(names)]
            yield what, name, f"The {what} after {name} is {following}.", [
                f"Which {what} comes after {name}?",
                f"What {what} follows {name}?",
                f"Which {what} is after {name}?",
            ]
    for left in range(1, 8):
        for right in range(1, 8):
            yield "sum", f"{left}+{right}", f"{left} plus {right} is {left + right}.", [
                f"What is {left} plus {right}?",
                f"How much is {left} plus {right}?",
                f"Add {left} and {right}.",
            ]


def questions():
    return [
        Question(topic, entity, phrasing, question, answer)
        for topic, entity, answer, phrasings in tables()
        for phrasing, question in enumerate(phrasings)
    ]


if __name__ == "__main__":
    listed = questions()
    print(len(listed), "questions about", len({(q.topic, q.entity) for q in listed}), "facts")
    for question in listed[::97]:
        print(question.question, "->", question.answer)
