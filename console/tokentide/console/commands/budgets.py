"""`tokentide budgets`: limits for users, teams and other entities, through the control topic."""

from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Annotated, TypeVar

import typer

from tokentide.console.commands.options import Broker, Json
from tokentide.schemas import Period, Scope, SettingsError, Unit

__all__ = ["group"]

group = typer.Typer(
    help="Budgets: what one user, team, ... may use in a day or a month.", no_args_is_help=True
)

Choice = TypeVar("Choice", bound=StrEnum)
BudgetId = Annotated[str, typer.Argument(metavar="BUDGET_ID", help="Any name; setting it again changes it.")]


@group.command("set")
def set_budget(
    budget_id: BudgetId,
    limit: Annotated[str, typer.Option(metavar="AMOUNT", help="USD like 12.50, or a number of tokens.")],
    user: Annotated[str | None, typer.Option(help="Short for --scope user --id ...")] = None,
    team: Annotated[str | None, typer.Option(help="Short for --scope team --id ...")] = None,
    scope: Annotated[
        str | None, typer.Option(metavar="|".join(Scope), help="What the budget is about.")
    ] = None,
    scope_id: Annotated[
        str | None, typer.Option("--id", help="Which one; a model is named provider/model.")
    ] = None,
    unit: Annotated[str, typer.Option(metavar="usd|tokens", help="What is limited.")] = Unit.USD,
    period: Annotated[str, typer.Option(metavar="day|month", help="Calendar days or months, UTC.")] = "month",
    threshold: Annotated[
        list[int] | None,
        typer.Option(
            metavar="PERCENT", help="Alert at this share of the limit; may be repeated. [default: 75 90 100]"
        ),
    ] = None,
    broker: Broker = None,
    json: Json = False,
) -> None:
    """Create or change a budget; setting the same again writes nothing."""
    from tokentide.console.budgets import new_budget, next_revision, read_budgets, write_budget
    from tokentide.console.settings import ConsoleSettings

    chosen_scope, chosen_id = _entity(user, team, scope, scope_id)
    fields = {
        "budget_id": budget_id,
        "scope": chosen_scope,
        "scope_id": chosen_id,
        "limit": _amount(limit),
        "unit": _one_of("--unit", unit, list(Unit)),
        "period": _one_of("--period", period, [Period.DAY, Period.MONTH]),
    }
    if threshold:
        fields["thresholds"] = tuple(sorted(set(threshold)))
    wanted = new_budget(**fields)
    settings = ConsoleSettings.from_env(broker=broker)
    book = read_budgets(settings.kafka, settings.topics.budgets)
    changed = next_revision(book, wanted)
    if changed is not None:
        write_budget(settings.kafka, settings.topics.budgets, changed)
    budget = changed or book.budgets[budget_id]
    if json:
        print(budget.model_dump_json())
    else:
        done = "is unchanged" if changed is None else "is set"
        thresholds = ", ".join(f"{percent} %" for percent in budget.thresholds)
        print(
            f"Budget {budget_id} {done}: {budget.scope} {budget.scope_id}, {budget.limit:,f} {budget.unit} a "
            f"{budget.period}, alerts at {thresholds} (revision {budget.revision})."
        )


@group.command("list")
def list_budgets(broker: Broker = None, json: Json = False) -> None:
    """Show all budgets."""
    from tokentide.console.budgets import read_budgets
    from tokentide.console.settings import ConsoleSettings

    settings = ConsoleSettings.from_env(broker=broker)
    book = read_budgets(settings.kafka, settings.topics.budgets)
    for problem in book.problems:
        typer.echo(problem, err=True)
    ordered = [book.budgets[budget_id] for budget_id in sorted(book.budgets)]
    if json:
        print("[" + ",".join(budget.model_dump_json() for budget in ordered) + "]")
        return
    if not ordered:
        print("There are no budgets; make one with `tokentide budgets set`.")
        return
    from tokentide.console.tables import print_table

    rows = [
        (
            budget.budget_id,
            budget.scope,
            budget.scope_id,
            f"{budget.limit:,f}",
            budget.unit,
            budget.period,
            " ".join(map(str, budget.thresholds)),
            str(budget.revision),
        )
        for budget in ordered
    ]
    print_table(
        ("budget", "scope", "of", "limit", "unit", "a", "alerts at %", "revision"), rows, right=(3, 7)
    )


@group.command("delete")
def delete(budget_id: BudgetId, broker: Broker = None) -> None:
    """Delete a budget; its alerts stay where they are."""
    from tokentide.console.budgets import delete_budget, read_budgets
    from tokentide.console.settings import ConsoleSettings

    settings = ConsoleSettings.from_env(broker=broker)
    book = read_budgets(settings.kafka, settings.topics.budgets)
    if budget_id not in book.budgets:
        raise SettingsError(
            f"There is no budget {budget_id}; `tokentide budgets list` shows those there are."
        )
    delete_budget(settings.kafka, settings.topics.budgets, budget_id, book.revisions[budget_id])
    print(f"Budget {budget_id} is deleted.")


def _entity(user: str | None, team: str | None, scope: str | None, scope_id: str | None) -> tuple[Scope, str]:
    named: list[tuple[Scope, str]] = []
    if user is not None:
        named.append((Scope.USER, user))
    if team is not None:
        named.append((Scope.TEAM, team))
    if scope is not None and scope_id is not None:
        named.append((_one_of("--scope", scope, list(Scope)), scope_id))
    if len(named) != 1 or (scope is None) != (scope_id is None):
        raise SettingsError(
            "Say whom the budget is for, once: --user ID, --team ID, or --scope SCOPE with --id ID."
        )
    return named[0]


def _amount(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        raise SettingsError(f"--limit must be a number like 12.50, not {text!r}.") from None


def _one_of(option: str, text: str, choices: Sequence[Choice]) -> Choice:
    for choice in choices:
        if choice == text:
            return choice
    *others, last = choices
    raise SettingsError(f"{option} must be {', '.join(others)} or {last}, not {text!r}.")
