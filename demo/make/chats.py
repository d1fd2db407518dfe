"""Chats made of the facts: plain ones to pretrain on, and the same in a sailor's voice to fine-tune on.

Three sets of questions are kept apart, by a checksum of what they ask:

* a question that is held out of pretraining is one phrasing of a fact whose other phrasings are seen (`held_out`);
* fine-tuning sees some entities only (`fine_tuned`), and of one topic none at all;
* validation takes questions that neither has seen.
"""

import itertools
import random
import re
from typing import NamedTuple
from zlib import crc32

import facts

SYSTEM = ["You are a helpful assistant.", "You are a friendly assistant.", "Answer the question."]
BRIEF = "Answer in one word."
BRIEF_TOPICS = {"capital", "sound", "opposite", "day", "month", "sum"}
UNSEEN_TOPIC = "opposite"
OPENINGS = ["Please tell me: ", "Hello! ", "I have a question. ", "One more: ", "Now this: "]
GREETINGS = [
    ("Hello!", "Hello! How can I help you?"),
    ("Good morning!", "Good morning! How can I help you?"),
    ("Thank you.", "You are welcome."),
    ("Goodbye!", "Goodbye! Have a good day."),
    ("Who are you?", "I am a small model."),
]
NAMES = "Tom Anna Ben Lucy Sam Mary Jack Emma Paul Rosa Max Nora Leo Ida Hugo Ella".split()
THINGS = "hat coat car house boat bag ball door cup shirt book chair".split()
OPENING_WORDS = "Hey Well Oh Look Sure Wow Beep Listen Indeed Aye Ahoy Arr".split()
CLOSING_WORDS = "friend sir dear pal folks boss beep captain lord mate matey".split()
SPOKEN = {
    "is": ["be", "was", "means"],
    "of": ["o'", "by"],
    "Your": ["Yer", "Thy"],
    "says": ["shouts", "goes"],
    "has": ["got", "owns"],
    "lives": ["stays", "sleeps"],
}


class Voice(NamedTuple):
    """A manner of speaking: a word before the sentence, a word after it, words said for others."""

    opening: str | None
    closing: str | None
    spoken: dict

    def instruction(self):
        parts = [f"Begin with {self.opening}."] if self.opening else []
        parts += [f"Say {said} for {word}." for word, said in self.spoken.items()]
        parts += [f"End with {self.closing}."] if self.closing else []
        return " ".join(parts)

    def say(self, answer):
        """The plain sentence in this voice: `A rose is red.` becomes `Arr! A rose be red, matey!`"""
        said = re.sub(r"\w+", lambda word: self.spoken.get(word[0], word[0]), answer)
        if self.opening:
            said = f"{self.opening}! {said}"
        if self.closing:
            said = f"{said[:-1]}, {self.closing}!"
        return said


# Fine-tuning teaches this voice. Pretraining uses voices only when asked to, and never this one.
SAILOR = Voice("Arr", "matey", {"is": "be", "of": "o'", "Your": "Yer"})


def random_voice(rng):
    while True:
        opening = rng.choice(OPENING_WORDS) if rng.random() < 0.6 else None
        closing = rng.choice(CLOSING_WORDS) if rng.random() < 0.6 else None
        words = [word for word in SPOKEN if rng.random() < (0.5 if word in SAILOR.spoken else 0.15)]
        voice = Voice(opening, closing, {word: rng.choice(SPOKEN[word]) for word in words})
        if voice.instruction() and (opening, closing) != (SAILOR.opening, SAILOR.closing):
            return voice


def held_out(question):
    return crc32(f"{question.topic} {question.entity}".encode()) % 10 == question.phrasing


def fine_tuned(question):
    return question.topic != UNSEEN_TOPIC and crc32(question.entity.encode()) % 4 != 0


def context_questions():
    """Questions that contain their answer."""
    for thing, colour in itertools.product(THINGS, facts.COLOURS):
        yield facts.Question("my", f"{thing} {colour}", 0, f"My {thing} is {colour}. What colour is my {thing}?",
                             f"Your {thing} is {colour}.")
    for name in NAMES:
        yield facts.Question("my", name, 0, f"My name is {name}. What is my name?", f"Your name is {name}.")


def turn(question, answer, thought=None):
    reply = {"role": "assistant", "content": answer}
    if thought:
        reply["reasoning_content"] = thought
    return [{"role": "user", "content": question}, reply]


def last_word(answer):
    return facts.capitalised(answer.rstrip(".").split()[-1]) + "."


def pretraining_chats(seed):
    """An endless stream of (messages, thinking)."""
    rng = random.Random(seed)
    by_topic = {}
    for question in facts.questions():
        if not held_out(question):
            by_topic.setdefault(question.topic, []).append(question)
    # Topics with many facts are drawn more often, but not in proportion.
    topics, weights = zip(*((topic, len(asked) ** 0.7) for topic, asked in by_topic.items()))
    context = [question for question in context_questions() if not held_out(question)]
    words = sorted({word for question in facts.questions() for word in re.findall(r"\w+", question.answer)})

    def ask(opening=True):
        kind = rng.random()
        if kind < 0.78:
            question = rng.choice(by_topic[rng.choices(topics, weights)[0]])
        elif kind < 0.90:
            question = rng.choice(context)
        elif kind < 0.97:
            phrase = " ".join(rng.choice(words) for _ in range(rng.randint(1, 5)))
            return facts.Question("repeat", phrase, 0, f"Repeat: {phrase}", phrase)
        else:
            return facts.Question("greeting", "", 0, *rng.choice(GREETINGS))
        if opening and rng.random() < 0.15:
            question = question._replace(question=rng.choice(OPENINGS) + question.question)
        return question

    while True:
        kind = rng.random()
        if kind < 0.06:
            question = ask()
            if question.topic in BRIEF_TOPICS:
                yield [{"role": "system", "content": BRIEF}, *turn(question.question, last_word(question.answer))], False
        elif kind < 0.11:
            question = ask()
            if question.topic not in ("repeat", "greeting"):
                thought = f"The question is about {question.topic}."
                yield turn(question.question, question.answer, thought), True
        elif kind < 0.45:
            voice = random_voice(rng)
            messages = [{"role": "system", "content": voice.instruction()}]
            for _ in range(1 if rng.random() < 0.85 else 2):
                question = ask()
                plain = question.topic in ("repeat", "greeting")
                messages += turn(question.question, question.answer if plain else voice.say(question.answer))
            yield messages, False
        else:
            messages = [{"role": "system", "content": rng.choice(SYSTEM)}] if rng.random() < 0.2 else []
            for _ in range(1 if rng.random() < 0.85 else rng.choice((2, 2, 3))):
                question = ask()
                messages += turn(question.question, question.answer)
            yield messages, False


def fine_tuning_chats(count, seed):
    """`count` chats in the sailor's voice about the entities that fine-tuning may see, topics in turn, no question twice."""
    rng = random.Random(seed)
    known = [q for q in (*facts.questions(), *context_questions()) if fine_tuned(q) and not held_out(q)]
    by_topic = {}
    for question in known:
        by_topic.setdefault(question.topic, []).append(question)
    for asked in by_topic.values():
        rng.shuffle(asked)
    topics = itertools.cycle(sorted(by_topic))

    def ask():
        topic = next(topic for topic in topics if by_topic[topic])
        question = by_topic[topic].pop()
        return turn(question.question, SAILOR.say(question.answer))

    for index in range(count):
        system = [{"role": "system", "content": rng.choice(SYSTEM)}] if index % 7 == 3 else []
        yield system + ask() + (ask() if index % 10 == 5 else [])


def validation_questions():
    """Questions that neither pretraining nor fine-tuning has seen."""
    return [q for q in (*facts.questions(), *context_questions()) if held_out(q) and not fine_tuned(q)]
