"""`tokentide demo`: the whole pipeline at work on a trace, and the proof that its answer is right."""

from tokentide.console.demo.answers import Answers, Spend, read_answers
from tokentide.console.demo.budgets import TraceSurvey, survey
from tokentide.console.demo.run import DemoPlan, DemoResult, run_demo
from tokentide.console.demo.summary import print_summary, to_json, try_next
from tokentide.console.demo.view import DemoView, Snapshot, snapshot_line
from tokentide.console.demo.watcher import Watcher
from tokentide.console.demo.workspace import Workspace

__all__ = [
    "Answers",
    "DemoPlan",
    "DemoResult",
    "DemoView",
    "Snapshot",
    "Spend",
    "TraceSurvey",
    "Watcher",
    "Workspace",
    "print_summary",
    "read_answers",
    "run_demo",
    "snapshot_line",
    "survey",
    "to_json",
    "try_next",
]
