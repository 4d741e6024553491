"""Prompts of each class, written by a language model on a server of your own, kept as files.

    python -m sgid.prompt_writer --base-url http://localhost:8000/v1 --model NAME --output DIR \
        dataset=cars

Any server that speaks OpenAI's chat completions will do, such as vLLM, llama.cpp or Ollama. No key
is sent, and nothing is called unless this command is given. A file `<class>.txt` is written for
each class, and left alone where it is there; `sgid.methods.prompts.from_files` reads them.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

from sgid.config.compose import compose
from sgid.errors import message
from sgid.methods.prompts import file_name
from sgid.runtime.files import write_atomic

ASK = (
    "Write {count} captions of photographs that show a {label}. Each is one short sentence, names "
    "the {label}, and is of another place, light, view or occasion. Answer with the captions "
    "alone, one in a line."
)
TIMEOUT = 120


def main(arguments: Sequence[str] | None = None) -> int:
    """Write what is missing; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base-url", required=True, help="such as http://localhost:8000/v1")
    parser.add_argument("--model", required=True, help="its name on that server")
    parser.add_argument("--output", type=Path, required=True, help="folder of the files")
    parser.add_argument("--count", type=int, default=10, help="prompts of each class")
    parser.add_argument("--attempts", type=int, default=3, help="questions for each class, at most")
    parser.add_argument("--ask", default=ASK, help="question, with {label} and {count}")
    parser.add_argument("options", nargs="*", help="as for run.py: dataset=...")
    given = parser.parse_args(arguments)
    try:
        names = class_phrases(given.options)
        for name in write_prompts(
            names,
            base_url=given.base_url,
            model=given.model,
            output=given.output,
            count=given.count,
            attempts=given.attempts,
            ask=given.ask,
        ):
            print(given.output / file_name(name))
    except Exception as error:
        if (text := message(error)) is None:
            raise
        print(text, file=sys.stderr)
        return 1
    return 0


def class_phrases(options: Sequence[str]) -> dict[str, str]:
    """The classes of the dataset that options of run.py name, with the words of prompts."""
    from sgid.stages.run import prepare

    dataset = prepare(compose([*options, "stage=data"]), {}, []).dataset
    return dict(zip(dataset.class_names, dataset.phrases, strict=True))


def write_prompts(
    classes: Mapping[str, str],
    *,
    base_url: str,
    model: str,
    output: Path,
    count: int,
    attempts: int = 3,
    ask: str = ASK,
) -> list[str]:
    """Ask for `count` prompts of each class that has no file in `output`; the classes asked for.

    Args:
        classes: class names, with the words that prompts say.

    Raises:
        ValueError: if the answers about a class are empty, do not name it, or name another one,
            `attempts` times; or if the server answers otherwise.
        ConnectionError: if there is no server.
    """
    output.mkdir(parents=True, exist_ok=True)
    missing = [name for name in classes if not (output / file_name(name)).is_file()]
    for name in missing:
        others = [one for one in classes if one != name]
        good: dict[str, None] = {}
        refused: list[str] = []
        for _ in range(attempts):
            question = ask.replace("{label}", classes[name]).replace("{count}", str(count))
            answer = complete(question, base_url=base_url, model=model)
            for sentence in sentences(answer):
                if why := wrong(sentence, name, classes[name], others):
                    refused.append(f"{sentence!r} {why}")
                else:
                    good[sentence] = None
            if len(good) >= count:
                break
        if len(good) < count:
            said = "; ".join(refused[:3]) or "the answers were empty"
            raise ValueError(
                f"{model} gave {len(good)} of {count} prompts for {name} in {attempts} answers "
                f"({said}). Take a lower --count, another --ask or --model, or write "
                f"{output / file_name(name)} yourself, a prompt in each line"
            )
        # Braces would be fields of a template.
        lines = [text.replace("{", "{{").replace("}", "}}") for text in list(good)[:count]]
        write_atomic(output / file_name(name), ("\n".join(lines) + "\n").encode())
    return missing


def complete(question: str, *, base_url: str, model: str) -> str:
    """The answer of a server to one question."""
    url = f"{base_url.rstrip('/')}/chat/completions"
    asked = {"model": model, "messages": [{"role": "user", "content": question}]}
    request = urllib.request.Request(
        url, json.dumps(asked).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            answer = json.load(response)
    except urllib.error.HTTPError as error:
        said = error.read().decode(errors="replace")[:200]
        raise ValueError(
            f"{url} answers {error.code} ({said}); is --model {model} there?"
        ) from error
    except json.JSONDecodeError as error:
        raise ValueError(f"{url} answers no JSON: is --base-url that of such a server?") from error
    except OSError as error:  # no server, or none that answers in time
        raise ConnectionError(f"{url}: {error}; start the server, or change --base-url") from error
    try:
        return answer["choices"][0]["message"]["content"] or ""
    except (KeyError, IndexError, TypeError):
        raise ValueError(f"{url} answers without choices: {str(answer)[:200]}") from None


def sentences(answer: str) -> list[str]:
    """The lines of an answer, without numbers, bullets and quotes."""
    lines = (re.sub(r"^\s*(?:[-*•]|\d+[.):])\s*", "", line) for line in answer.splitlines())
    return [text for line in lines if (text := line.strip().strip("\"'“”").strip())]


def wrong(sentence: str, name: str, phrase: str, others: Sequence[str]) -> str | None:
    """Reason why a sentence is no prompt of a class, or `None`."""
    if not (_names(sentence, name) or _names(sentence, phrase)):
        return f"does not name {name}"
    for other in others:
        if not _names(f"{name} {phrase}", other) and _names(sentence, other):
            return f"names {other}"
    return None


def _names(sentence: str, name: str) -> bool:
    return (
        re.search(rf"(?<!\w){re.escape(name)}(?:s|es)?(?!\w)", sentence, re.IGNORECASE) is not None
    )


if __name__ == "__main__":
    sys.exit(main())
