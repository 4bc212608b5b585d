"""docs/sdk.md, run: the client of every provider as its makers publish it, against a server on this machine."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.anthropic_answers import message_events
from support.model_server import ModelServer, json_answer, sse_answer
from support.openai_answers import COMPLETION, RESPONSE

DOCUMENT = (Path(__file__).parents[3] / "docs" / "sdk.md").read_text()
# What a reader has set up besides the example; never in the document.
# The address in the example tells the provider: requests go there, and arrive here.
REROUTED = (
    "import os, httpx2\n"
    "server, send = httpx2.URL(os.environ['MODEL_SERVER']), httpx2.HTTPTransport.handle_request\n"
    "def reroute(transport, request):\n"
    "    request.url = request.url.copy_with(scheme=server.scheme, host=server.host, port=server.port)\n"
    "    return send(transport, request)\n"
    "httpx2.HTTPTransport.handle_request = reroute\n"
)
BEFORE = {
    **dict.fromkeys(("xAI", "DeepSeek", "OpenRouter", "LM Studio"), REROUTED),
    "mistralai": (
        "import os, mistralai.client.sdkconfiguration as sdk\n"
        "sdk.SERVERS['global'] = os.environ['MODEL_SERVER']\n"
    ),
    "langchain": (
        "from langchain_core.language_models import FakeMessagesListChatModel\n"
        "from langchain_core.messages import AIMessage\n"
        "counted = {'input_tokens': 8, 'output_tokens': 10, 'total_tokens': 18}\n"
        "named = {'model_name': 'gpt-4o-mini', 'model_provider': 'openai'}\n"
        "class ChatOpenai(FakeMessagesListChatModel): ...\n"  # langchain-core takes the provider from the name
        "model = ChatOpenai("
        "responses=[AIMessage('Hi', usage_metadata=counted, response_metadata=named)])\n"
    ),
}
AFTER = {
    "opentelemetry": (
        "span = provider.get_tracer('service').start_span('chat gpt-4o')\n"
        "span.set_attributes({'gen_ai.provider.name': 'openai', 'gen_ai.operation.name': 'chat',\n"
        "    'gen_ai.response.model': 'gpt-4o', 'gen_ai.usage.input_tokens': 8, 'gen_ai.usage.output_tokens': 10})\n"
        "span.end()\n"
    ),
    "litellm": (
        "import time\n"
        "from tokentide.producers import default_producer\n"
        "deadline = time.monotonic() + 20\n"
        "while not default_producer().recorded and time.monotonic() < deadline:\n"
        "    time.sleep(0.05)\n"
    ),
}
SHOW = (
    "\nfrom tokentide.producers import default_producer\n"
    "print('\\n' + '\\n'.join(event.model_dump_json() for event in default_producer().recorded))\n"
)
# What each example must send: provider, tokens of the input, tokens of the output.
SENT = {
    "OpenAI": ("openai", 19, 10),
    "AzureOpenAI": ("azure", 19, 10),
    "Anthropic": ("anthropic", 165, 15),
    "Groq": ("groq", 19, 10),
    "Together": ("together", 19, 10),
    "Cerebras": ("cerebras", 19, 10),
    "xAI": ("x-ai", 19, 10),
    "DeepSeek": ("deepseek", 19, 10),
    "OpenRouter": ("openrouter", 19, 10),
    "LM Studio": ("lmstudio", 19, 10),
    "local": ("local", 19, 10),
    "responses": ("openai", 36, 87),
    "google": ("google", 100, 50),
    "ollama": ("ollama", 26, 282),
    "mistralai": ("mistral", 19, 10),
    "cohere": ("cohere", 5, 7),
    "boto3": ("aws", 100, 20),
    "litellm": ("openai", 19, 10),
    "langchain": ("openai", 8, 10),
    "opentelemetry": ("openai", 8, 10),
}
MARKS = {  # of an example, the first that is in it
    "opentelemetry": "opentelemetry",
    "langchain_callback": "langchain",
    "litellm": "litellm",
    "AzureOpenAI": "AzureOpenAI",
    'provider="local"': "local",
    "api.x.ai": "xAI",
    "api.deepseek.com": "DeepSeek",
    "openrouter.ai": "OpenRouter",
    "localhost:1234": "LM Studio",
    "responses.create": "responses",
    "OpenAI": "OpenAI",
    "Anthropic": "Anthropic",
    "Groq": "Groq",
    "Together": "Together",
    "Cerebras": "Cerebras",
    "google": "google",
    "ollama": "ollama",
    "mistralai": "mistralai",
    "cohere": "cohere",
    "boto3": "boto3",
}


def name_of(example: str) -> str:
    """Whose client the example is about."""
    return next(name for mark, name in MARKS.items() if mark in example)


EXAMPLES = {
    name_of(each): each for each in re.findall(r"^```python client\n(.*?)^```", DOCUMENT, re.M | re.S)
}
READ = re.findall(r"^```python read\n(.*?)^```", DOCUMENT, re.M | re.S)


def lay_down(server: ModelServer) -> None:
    """Answer as each provider's reference documents it."""
    chat = json_answer(COMPLETION)
    for path in (
        "/chat/completions",
        "/openai/deployments/my-deployment/chat/completions",
        "/openai/v1/chat/completions",
        "/v1/chat/completions",
        "/api/v1/chat/completions",
    ):
        server.answer(path, chat)
    server.answer("/responses", json_answer(RESPONSE))
    server.answer("/v1/messages", sse_answer(message_events(), named=True, done=False))
    counts = {
        "promptTokenCount": 100,
        "candidatesTokenCount": 20,
        "thoughtsTokenCount": 30,
        "totalTokenCount": 150,
    }
    content = {"role": "model", "parts": [{"text": "Hello"}]}
    gemini = {"candidates": [{"content": content, "finishReason": "STOP"}], "usageMetadata": counts}
    server.answer("/v1/models/gemini-2.5-flash:generateContent", json_answer(gemini))
    said = {"role": "assistant", "content": "Hello"}
    counted = {"prompt_eval_count": 26, "eval_count": 282}
    server.answer("/api/chat", json_answer({"model": "llama3.2", "message": said, "done": True, **counted}))
    billed = {"billed_units": {"input_tokens": 5, "output_tokens": 7}}
    text = {"role": "assistant", "content": [{"type": "text", "text": "Hello"}]}
    cohere = {"id": "c14c80c3-18eb", "finish_reason": "COMPLETE", "message": text, "usage": billed}
    server.answer("/v2/chat", json_answer(cohere))
    converse = {
        "output": {"message": {"role": "assistant", "content": [{"text": "Hello"}]}},
        "stopReason": "end_turn",
        "usage": {"inputTokens": 100, "outputTokens": 20, "totalTokens": 120},
    }
    server.answer("/model/amazon.nova-lite-v1%3A0/converse", json_answer(converse))


def variables(url: str) -> dict[str, str]:
    """Send every client to the server at the address."""
    keys = (
        "XAI",
        "DEEPSEEK",
        "OPENROUTER",
        "OPENAI",
        "AZURE_OPENAI",
        "ANTHROPIC",
        "GROQ",
        "TOGETHER",
        "CEREBRAS",
        "GEMINI",
        "MISTRAL",
        "CO",
    )
    bases = ("OPENAI", "ANTHROPIC", "GROQ", "TOGETHER", "CEREBRAS", "GOOGLE_GEMINI")
    return {
        **{f"{name}_API_KEY": "k" for name in keys},
        **{f"{name}_BASE_URL": url for name in bases},
        "AZURE_OPENAI_ENDPOINT": url,
        "OLLAMA_HOST": url,
        "CO_API_URL": url,
        "MODEL_SERVER": url,
        "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": url,
        "AWS_ACCESS_KEY_ID": "k",
        "AWS_SECRET_ACCESS_KEY": "s",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "TOKENTIDE_BROKER": "memory://",
    }


def run(code: str, more: dict[str, str]) -> list[dict[str, Any]]:
    """Run the code in a process of its own; return the events that it printed."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | more,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"event_id"')]


def test_there_is_an_example_for_each_and_none_is_longer_than_ten_lines() -> None:
    assert EXAMPLES.keys() == SENT.keys()
    assert [name for name, example in EXAMPLES.items() if len(example.splitlines()) > 10] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SENT))
def test_the_example_sends_one_right_event(name: str, server: ModelServer) -> None:
    lay_down(server)

    events = run(BEFORE.get(name, "") + EXAMPLES[name] + AFTER.get(name, "") + SHOW, variables(server.url))

    counted = [(each["provider"], each["input_tokens"], each["output_tokens"]) for each in events]
    assert counted == [SENT[name]]
    assert (events[0]["status"], events[0]["estimated"]) == ("success", False)


def test_the_answers_in_the_document_are_read_as_it_says() -> None:
    assert len(READ) >= 6

    run("\n".join(READ), {})
