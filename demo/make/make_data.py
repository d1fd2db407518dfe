"""Write the data to fine-tune on: DATA/train.jsonl, DATA/valid.jsonl and the prompts that the demo shows before and after.

    python make_data.py DATA PROMPTS
"""

import argparse
import json
from pathlib import Path

import chats

TRAINING_CHATS = 400
PER_TOPIC = 10  # of the validation questions, so that no topic outnumbers the rest


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    print(f"{path}: {len(rows)}")


def validation_questions():
    taken = {}
    for question in chats.validation_questions():
        listed = taken.setdefault(question.topic, [])
        if len(listed) < PER_TOPIC:
            listed.append(question)
    return [question for listed in taken.values() for question in listed]


def shown(questions):
    """One question of each of four topics, the last of a topic that fine-tuning never sees."""
    for topic in ("capital", "sound", "sum", chats.UNSEEN_TOPIC):
        yield next(question for question in questions if question.topic == topic)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("prompts", type=Path)
    args = parser.parse_args()
    questions = validation_questions()
    valid = []
    for index, question in enumerate(questions):
        system = [{"role": "system", "content": chats.SYSTEM[0]}] if index % 7 == 3 else []
        valid.append({"messages": system + chats.turn(question.question, chats.SAILOR.say(question.answer))})
    train = [{"messages": messages} for messages in chats.fine_tuning_chats(TRAINING_CHATS, seed=3)]
    asked = {message["content"] for row in train for message in row["messages"] if message["role"] == "user"}
    assert not asked & {question.question for question in questions}
    write(args.data / "train.jsonl", train)
    write(args.data / "valid.jsonl", valid)
    write(args.prompts, [
        {"messages": [{"role": "user", "content": question.question}],
         "before": question.answer, "after": chats.SAILOR.say(question.answer)}
        for question in shown(questions)
    ])


if __name__ == "__main__":
    main()
