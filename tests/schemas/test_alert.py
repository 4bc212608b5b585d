"""The id of an alert is the same after any crash, and another one for any other alert."""

from itertools import product

import pytest

from tokentide.schemas import AlertKind, alert_id


def test_the_id_is_pinned() -> None:
    """Subscribers drop repeats by it, also across an upgrade."""
    assert alert_id(AlertKind.THRESHOLD, "team-07@1", 1_793_491_200, 75) == "2b240d41000e1530ef0850676a58793c"
    assert (
        alert_id(AlertKind.UNPRICED_MODEL, "openai/x", 1_793_491_200, None)
        == "5d4f9d45ab89f4ed8f34b3de0851f16b"
    )


def test_alerts_that_differ_in_anything_have_different_ids() -> None:
    ids = {
        alert_id(kind, subject, start, percent)
        for kind, subject, start, percent in product(
            AlertKind, ("a@1", "a@11", "b@1", "a"), (0, 1, 11), (None, 1, 10, 100)
        )
    }

    assert len(ids) == len(AlertKind) * 4 * 3 * 4


@pytest.mark.parametrize("subject", ["", "ü@1", "x" * 500])
def test_an_id_is_32_hex_digits(subject: str) -> None:
    name = alert_id(AlertKind.BUDGET_EXCEEDED, subject, -1, 100)

    assert len(name) == 32
    assert int(name, 16) >= 0
