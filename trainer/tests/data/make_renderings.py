"""Writes renderings.json: what transformers makes of conversations.json with each template here.

    pip install transformers jinja2 && python make_renderings.py
"""

import json
from pathlib import Path

from transformers.utils.chat_template_utils import render_jinja_template

HERE = Path(__file__).parent
OPTIONS = [{}, {"add_generation_prompt": True}, {"add_generation_prompt": True, "enable_thinking": False}]

conversations = json.loads((HERE / "conversations.json").read_text())
renderings = []
for template in sorted(HERE.glob("*.jinja")):
    for conversation in conversations:
        for options in OPTIONS:
            try:
                texts, spans = render_jinja_template(
                    conversations=[conversation["messages"]],
                    tools=conversation.get("tools"),
                    chat_template=template.read_text(),
                    return_assistant_tokens_mask=template.name == "marked.jinja",
                    bos_token="<s>",
                    **options,
                )
                outcome = {"text": texts[0]}
                if template.name == "marked.jinja":
                    outcome["assistant"] = [texts[0][start:end] for start, end in spans[0]]
            except Exception as error:  # what the template raises
                outcome = {"error": str(error)}
            renderings.append({"template": template.name, "conversation": conversation["name"], **options, **outcome})
(HERE / "renderings.json").write_text(json.dumps(renderings, indent=1) + "\n")
print(len(renderings), "renderings")
