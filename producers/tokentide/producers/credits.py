"""The ledger of what users, teams and organisations were given, written from the environment's settings.

    from tokentide.producers import credits
    credits.purchase(500, user_id="ada", reference="order-17", unit="credits")

What they spent comes from usage, not from here: a balance is the sum of the ledger less the spend since.
"""

import threading
from decimal import Decimal
from typing import Unpack

from tokentide.producers.complaints import Complaints
from tokentide.producers.credit_entry import CreditFields
from tokentide.producers.ledger import CreditLedger
from tokentide.producers.process import Renewed
from tokentide.schemas import SettingsError

__all__ = ["adjust", "grant", "purchase"]


class _Default(Renewed):
    """The ledger of this process, made when it is first written."""

    def __init__(self) -> None:
        self.ledger: CreditLedger | None = None
        super().__init__()

    def after_fork(self) -> None:
        """Take a lock that no thread of the parent holds, and log anew."""
        self._lock = threading.RLock()
        self._complaints = Complaints()

    def get(self) -> CreditLedger | None:
        """Return it; None, and a line in the log once a minute, when the environment is wrong."""
        with self._complaints, self._lock:
            if self.ledger is None:
                try:
                    self.ledger = CreditLedger()
                except SettingsError as error:
                    self._complaints.later("settings", f"credits are not written: {error}")
            return self.ledger


_default = _Default()


def grant(amount: Decimal | int | str, *, timeout: float = 5.0, **entry: Unpack[CreditFields]) -> bool:
    """Give credits for nothing; see `CreditLedger.purchase`."""
    ledger = _default.get()
    return ledger is not None and ledger.grant(amount, timeout=timeout, **entry)


def purchase(amount: Decimal | int | str, *, timeout: float = 5.0, **entry: Unpack[CreditFields]) -> bool:
    """Give what was paid for; see `CreditLedger.purchase`."""
    ledger = _default.get()
    return ledger is not None and ledger.purchase(amount, timeout=timeout, **entry)


def adjust(amount: Decimal | int | str, *, timeout: float = 5.0, **entry: Unpack[CreditFields]) -> bool:
    """Correct the balance by an amount of either sign; see `CreditLedger.purchase`."""
    ledger = _default.get()
    return ledger is not None and ledger.adjust(amount, timeout=timeout, **entry)
