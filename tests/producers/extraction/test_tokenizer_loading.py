"""When tiktoken's encodings are loaded and when they are not: each test in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.encodings import CL100K, FILES, O200K

TEXT = "The quick brown fox jumps over the lazy dog, isn't it?"
QUARTER = -(-len(TEXT) // 4)

# What each script begins with. Whoever asks for an address or a connection is refused, and named at the end.
PRELUDE = f"""
import json, os, sys, threading, time
asked = []
def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        asked.append(event)
        raise OSError("there is no network")
sys.addaudithook(refuse)

def loads():
    return [each for each in threading.enumerate() if each.name == "tokentide-tokenizer"]

def loaded():
    for each in loads():
        each.join(20)

from tokentide.producers import extract

def output_tokens(model="gpt-4o", **usage):
    answer = {{"choices": [{{"message": {{"content": {TEXT!r}}}}}], **usage}}
    return extract(answer, "openai", model=model).output_tokens

def say(**found):
    print(json.dumps({{**found, "asked": asked}}))
"""


def run(script: str, **environment: str) -> dict[str, Any]:
    """What the script said last, with its log."""
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + script],
        env={"PATH": "", "PYTHONPATH": ":".join(sys.path), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return {**json.loads(done.stdout.splitlines()[-1]), "log": done.stderr}


@pytest.fixture(scope="module")
def exact() -> int:
    """The tokens of the text, as tiktoken says without our help."""
    script = f"import tiktoken; print(len(tiktoken.get_encoding('o200k_base').encode({TEXT!r})))"
    environment = {"TIKTOKEN_CACHE_DIR": str(FILES)}
    said = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, check=True)
    return int(said.stdout)


def test_the_first_estimate_is_by_length_and_begins_the_load(exact: int) -> None:
    script = (
        "first = output_tokens(); loaded(); say(counts=[first, output_tokens(), output_tokens('claude-x')])"
    )

    said = run(script, TIKTOKEN_CACHE_DIR=str(FILES))

    assert said == {"counts": [QUARTER, exact, exact], "asked": [], "log": ""}
    assert exact != QUARTER


@pytest.mark.parametrize("variable", ["DATA_GYM_CACHE_DIR", "TMPDIR"])
def test_the_file_is_looked_for_where_tiktoken_keeps_it(variable: str, tmp_path: Path, exact: int) -> None:
    folder = tmp_path / "data-gym-cache"
    folder.mkdir()
    (folder / O200K).symlink_to(FILES / O200K)
    place = {"DATA_GYM_CACHE_DIR": folder, "TMPDIR": tmp_path}[variable]

    said = run("output_tokens(); loaded(); say(count=output_tokens())", **{variable: str(place)})

    assert said == {"count": exact, "asked": [], "log": ""}


def test_nothing_is_loaded_before_an_estimate_is_needed() -> None:
    script = """
for _ in range(3):
    output_tokens(usage={"prompt_tokens": 7, "completion_tokens": 5})
say(tiktoken="tiktoken" in sys.modules, loads=len(loads()))
"""

    assert run(script, TIKTOKEN_CACHE_DIR=str(FILES)) == {
        "tiktoken": False,
        "loads": 0,
        "asked": [],
        "log": "",
    }


def test_what_the_service_loaded_serves_for_all_models() -> None:
    script = f"""
import tiktoken
encoding = tiktoken.get_encoding("cl100k_base")
say(counts=[output_tokens(), output_tokens("claude-x")], loads=len(loads()), own=len(encoding.encode({TEXT!r})))
"""

    said = run(script, TIKTOKEN_CACHE_DIR=str(FILES))

    assert said["counts"] == [said["own"], said["own"]]
    assert (said["loads"], said["asked"]) == (0, [])


def test_without_tiktoken_estimates_are_by_length() -> None:
    script = """
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("tiktoken", "tiktoken_ext"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing())
first = output_tokens(); loaded(); second = output_tokens()
say(counts=[first, second], loads=len(loads()))
"""

    said = run(script, TIKTOKEN_CACHE_DIR=str(FILES))

    assert said == {"counts": [QUARTER, QUARTER], "loads": 0, "asked": [], "log": ""}


@pytest.mark.parametrize("cache", ["", "an empty folder"])
def test_without_a_file_estimates_are_by_length(cache: str, tmp_path: Path) -> None:
    script = "first = output_tokens(); loaded(); say(counts=[first, output_tokens()], loads=len(loads()))"

    said = run(script, TIKTOKEN_CACHE_DIR=cache and str(tmp_path))

    assert said == {"counts": [QUARTER, QUARTER], "loads": 0, "asked": [], "log": ""}
    assert list(tmp_path.iterdir()) == []


def test_a_corrupt_file_stays_as_it_is_and_nothing_is_downloaded(tmp_path: Path) -> None:
    corrupt = (FILES / O200K).read_bytes()[:-100]
    (tmp_path / O200K).write_bytes(corrupt)
    script = """
for _ in range(5):
    count = output_tokens(); loaded()
say(count=count)
"""

    said = run(script, TIKTOKEN_CACHE_DIR=str(tmp_path))

    assert (said["count"], said["asked"]) == (QUARTER, [])
    assert said["log"].count("\n") == 1
    assert "o200k_base was not loaded: its cached file is not the one that tiktoken expects" in said["log"]
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == {O200K: corrupt}


def test_the_hash_that_is_asked_for_is_tiktokens_own() -> None:
    """Or the test above shows nothing: tiktoken takes the file, and would replace the corrupt one."""
    script = """
import tiktoken
try:
    tiktoken.get_encoding("o200k_base")
except Exception: pass
say()
"""

    assert run(script, TIKTOKEN_CACHE_DIR=str(FILES))["asked"] == []
    assert run(script, TIKTOKEN_CACHE_DIR="")["asked"] != []


def test_an_old_tiktoken_whose_time_grows_with_the_square_of_a_text_is_not_used() -> None:
    script = """
import tiktoken
tiktoken.__version__ = "0.12.0"
tiktoken.get_encoding("o200k_base")
first = output_tokens(); loaded()
say(counts=[first, output_tokens()], loads=len(loads()))
"""

    said = run(script, TIKTOKEN_CACHE_DIR=str(FILES))

    assert said == {"counts": [QUARTER, QUARTER], "loads": 0, "asked": [], "log": ""}


def test_a_tiktoken_that_describes_its_encodings_otherwise_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "tiktoken_ext").mkdir()
    (tmp_path / "tiktoken_ext" / "openai_public.py").write_text(
        "import tiktoken.load\n"
        "def o200k_base():\n"
        "    return {'mergeable_ranks': tiktoken.load.load_tiktoken_bpe('https://example.org/x')}\n"
        "ENCODING_CONSTRUCTORS = {'o200k_base': o200k_base, 'cl100k_base': o200k_base}\n"
    )
    script = f"sys.path.insert(0, {str(tmp_path)!r}); output_tokens(); loaded(); say(count=output_tokens())"

    said = run(script, TIKTOKEN_CACHE_DIR=str(FILES))

    assert (said["count"], said["asked"]) == (QUARTER, [])
    assert "reads its files in a way that is not known here" in said["log"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_child_that_is_forked_during_the_load_begins_it_again(exact: int) -> None:
    script = """
first = output_tokens()
children = []
for pause in (0, 0.005, 0.03, 0.1):  # in the import of tiktoken, behind it, in the file
    time.sleep(pause)
    under_way = bool(loads())
    child = os.fork()
    if child == 0:
        import tiktoken  # as the service may: it must not wait for a thread that is not here
        output_tokens(); loaded()
        os._exit(output_tokens() if under_way else 0)
    children.append(child)
loaded()
ends = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
say(first=first, then=output_tokens(), ends=ends)
"""

    said = run(script, TIKTOKEN_CACHE_DIR=str(FILES), PYTHONWARNINGS="ignore")

    assert (said["first"], said["then"], said["asked"]) == (QUARTER, exact, [])
    assert said["ends"][0] == exact
    assert set(said["ends"]) <= {exact, 0}


def test_a_child_that_is_forked_after_the_load_has_the_encoding(exact: int) -> None:
    script = """
output_tokens(); loaded()
child = os.fork()
if child == 0:
    os._exit(output_tokens())
say(end=os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""

    assert run(script, TIKTOKEN_CACHE_DIR=str(FILES))["end"] == exact


@pytest.mark.parametrize("seconds", [0, 0.02, 0.1, 0.25])
def test_a_process_may_end_during_the_load(seconds: float) -> None:
    said = run(f"output_tokens(); time.sleep({seconds}); say()", TIKTOKEN_CACHE_DIR=str(FILES))

    assert said["log"] == ""


def test_a_first_estimate_in_a_finalizer_at_the_end_waits_for_no_thread() -> None:
    """A stream that nobody closed may be freed so late that a thread is started and never runs."""
    script = """
from tokentide.producers import extract
class Left:
    def __del__(self, extract=extract, print=print):
        answer = {"choices": [{"message": {"content": "Hello"}}]}
        print("estimated", extract(answer, "openai", model="gpt-4o").output_tokens, flush=True)
left = Left()
"""

    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"PATH": "", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        timeout=30,
    )

    assert (done.returncode, done.stdout) == (0, "estimated 2\n")


def test_threads_that_estimate_at_once_begin_one_load() -> None:
    script = """
started = []
def count(event, arguments):
    if event == "open" and "tokenizers" in str(arguments[0]) and len(os.path.basename(str(arguments[0]))) == 40:
        started.append(arguments[0])
sys.addaudithook(count)
threads = [threading.Thread(target=output_tokens, args=(model,)) for model in ("gpt-4o", "gpt-4", None) * 10]
[each.start() for each in threads]; [each.join() for each in threads]
loaded(); output_tokens("gpt-4"); loaded()
say(files=sorted(map(os.path.basename, map(str, started))))
"""

    said = run(script, TIKTOKEN_CACHE_DIR=str(FILES))

    assert said["files"] == sorted([CL100K, O200K])


def test_the_encodings_that_are_loaded_are_tiktokens_own() -> None:
    script = """
import tiktoken
from tokentide.producers.extraction import tokenizer
output_tokens("gpt-4o"); loaded(); output_tokens("gpt-4"); loaded()
ours = dict(tokenizer._encodings._loaded)
before = sorted(tiktoken.registry.ENCODINGS)
same = {name: vars(each)["_mergeable_ranks"]
    == vars(tiktoken.get_encoding(name))["_mergeable_ranks"]
    and each._pat_str == tiktoken.get_encoding(name)._pat_str for name, each in ours.items()}
say(same=same, before=before)
"""

    said = run(script, TIKTOKEN_CACHE_DIR=str(FILES))

    assert said["same"] == {"cl100k_base": True, "o200k_base": True}
    assert said["before"] == []
